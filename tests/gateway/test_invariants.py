"""Invariants of the whole gateway that need no socket: 2, 5, 9 and 10 (docs/invariants.md)."""

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.backends.upstream_sessions import IDLE_S
from mcp_gateway.config.spec import HealthSpec, Timeouts
from mcp_gateway.errors import BackendProtocol
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28
from mcp_gateway.values import BackendKey, JsonObject
from tests.support.scripted_gateway import MODERN, ScriptedGateway, modern_request, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, tool


async def never(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep_forever()
    raise AssertionError


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def busy_client(where: ScriptedGateway, turn: int) -> None:
    """Everything that can hold a task: calls of both eras, streams, a parked call; left in every way."""
    old = await where.session(elicitation={})
    stream = old.stream()
    call = old.begin("tools/call", {"name": "read"}, request_id="c")
    new = where.modern_soon("tools/call", {"name": "read"}, capabilities={"elicitation": {}})
    listening = where.modern_soon("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="l")
    await trio.sleep(2)
    match turn % 3:
        case 0:
            await old.cancel("c")
        case 1:
            call.leave()
        case _:
            pass
    new.leave()
    listening.leave()
    stream.leave()
    await old.end()


async def test_invariant_2_nothing_of_a_client_outlives_it(autojump_clock: MockClock) -> None:
    backends = [ScriptedBackend(era=era, handlers={"tools/call": never}) for era in (V2025_11_25, V2026_07_28)]
    for backend in backends:
        before_all = tasks()
        async with scripted_gateway(backend) as where:
            await busy_client(where, 2)
            await trio.sleep(IDLE_S + 10)  # upstream sessions of 2026 clients wait so long for the next one
            baseline = tasks()
            async with trio.open_nursery() as nursery:
                for turn in range(20):
                    nursery.start_soon(busy_client, where, turn)
            await trio.sleep(IDLE_S + 10)
            assert tasks() == baseline
            assert len(where.gateway.calls.in_flight) == len(where.gateway.context.sessions) == 0
            assert len(where.gateway.calls.suspended) == 0
            assert sum(link.in_flight for link in backend.links) <= 1  # the gateway's own listen stream
        await wait_all_tasks_blocked()
        assert tasks() == before_all


async def test_invariant_5_a_claim_that_the_body_denies_reaches_no_backend(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(tools=[tool("read"), tool("write")])
    async with scripted_gateway(backend) as where:
        for claim in (
            {"Mcp-Name": "write"},
            {"Mcp-Method": "tools/list"},
            {"MCP-Protocol-Version": "2026-07-29"},
            {"Mcp-Name": ""},
        ):
            headers, body = modern_request("tools/call", {"name": "read"}, headers=dict(claim))
            reply = await where.send("POST", headers=headers, body=body)
            assert reply.status == 400
            assert reply.error["code"] in (-32020, -32022)
        headers, body = modern_request("tools/call", {"name": "read"})
        reply = await where.send("POST", headers={**headers, "MCP-Protocol-Version": "2025-11-25"}, body=body)
        assert reply.status == 400
        assert body.count(MODERN.encode()) == 1
        assert backend.asked("tools/call") == 0


NAMES = st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True)


@settings(max_examples=25, deadline=None)
@given(
    lists=st.lists(NAMES, min_size=2, max_size=4),
    pauses=st.lists(st.integers(0, 4), min_size=4, max_size=4),
    prefixed=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_invariant_9_the_order_of_discovery_changes_no_name_and_no_place(
    lists: list[list[str]], pauses: list[int], prefixed: list[bool]
) -> None:
    """Colliding names too: who answered first must not matter, on any replica or after a restart."""

    async def served(connect_s: list[float]) -> list[bytes | None]:
        backends = [
            ScriptedBackend(key=BackendKey(f"s{number}"), tools=[tool(name) for name in names], connect_s=wait_s)
            for number, (names, wait_s) in enumerate(zip(lists, connect_s, strict=False))
        ]
        prefixes = {f"s{number}": f"s{number}_" for number, has in enumerate(prefixed) if has}
        async with scripted_gateway(*backends, prefixes=prefixes) as where:
            await trio.sleep(20)
            session = await where.session()
            old, new = await session.ask("tools/list", request_id=1), await where.modern("tools/list", id=1)
            return [old.body, new.body]

    async def main() -> None:
        assert await served([0.0] * 4) == await served([float(pause) for pause in pauses])

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_invariant_10_one_broken_backend_changes_nothing_for_another(autojump_clock: MockClock) -> None:
    async def break_down(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        raise BackendProtocol(backend=link.backend.key, why="nonsense")

    good = ScriptedBackend(key=BackendKey("good"))
    bad = ScriptedBackend(key=BackendKey("bad"), handlers={"tools/call": break_down})
    timeouts = Timeouts(connect_s=1, call_s=2, list_s=1)
    async with scripted_gateway(bad, good, prefixes={"bad": "bad_"}, timeouts=timeouts) as where:
        session = await where.session()
        for misery in ("breaks", "silent", "down", "forgets", "back"):
            bad.silent, bad.up = misery == "silent", misery != "down"
            if misery == "forgets":
                bad.forget_sessions()
            began_at = trio.current_time()
            assert (await session.call("read")).result == {"content": []}
            names = (await session.ask("tools/list")).result["tools"]
            assert isinstance(names, list)
            assert "read" in [one["name"] for one in names if isinstance(one, dict)]
            assert (await where.session()).hello
            assert trio.current_time() - began_at < 0.1
            assert "error" in (await session.call("bad_read")).answer
            await trio.sleep(HealthSpec().interval_s + HealthSpec().grace_when_down_s)
