"""Methods and notifications that are not core, end to end."""

import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.scripted_gateway import modern_request, scripted_gateway
from tests.support.scripted_link import Handler, ScriptedBackend, ScriptedLink, notice, tool

JOBS = "com.acme/jobs"
SHARED: JsonObject = {JOBS: {}}
DECLARED: JsonObject = {"extensions": SHARED}
ERAS = [pytest.param(V2025_11_25, id="2025"), pytest.param(V2026_07_28, id="2026")]


async def run(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    ends: JsonObject = {"resultType": "complete"} if link.era.modern else {}
    await trio.lowlevel.checkpoint()
    return {"ran": params.get("name"), "task": params.get("task"), **ends}


async def hang(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep(1000)
    return {}


def backend_of(
    era: Era = V2025_11_25, key: str = "files", handlers: dict[str, Handler] | None = None
) -> ScriptedBackend:
    capabilities: JsonObject = {"tools": {}, "extensions": SHARED}
    made: dict[str, Handler] = {"acme/run": run, **(handlers or {})}
    return ScriptedBackend(key=BackendKey(key), era=era, capabilities=capabilities, handlers=made)


@pytest.mark.parametrize("era", ERAS)
async def test_a_custom_method_reaches_the_owner_of_what_it_names(era: Era, autojump_clock: MockClock) -> None:
    backend, other = backend_of(era), ScriptedBackend(key=BackendKey("other"), tools=[tool("write")])
    async with scripted_gateway(backend, other, prefixes={"files": "f_", "other": "o_"}) as where:
        params: JsonObject = {"name": "f_read", "task": {"mine": 1}}
        old = await (await where.session()).ask("acme/run", params)
        assert (old.status, old.result) == (200, {"ran": "read", "task": {"mine": 1}})
        new = await where.modern("acme/run", params)
        assert (new.status, new.result["ran"], new.result["resultType"]) == (200, "read", "complete")
        assert new.result["task"] == {"mine": 1}
        assert backend.asked("acme/run") == 2
        assert other.asked("acme/run") == 0


@pytest.mark.parametrize("era", ERAS)
async def test_else_the_only_server_with_an_extension_of_the_clients(era: Era, autojump_clock: MockClock) -> None:
    async with scripted_gateway(backend_of(era), ScriptedBackend(key=BackendKey("other"), tools=[])) as where:
        assert (await (await where.session(extensions=SHARED)).ask("acme/run")).result == {"ran": None, "task": None}
        assert (await where.modern("acme/run", capabilities=DECLARED)).result["ran"] is None
        old = await (await where.session()).ask("acme/run")
        assert (old.status, old.error["code"]) == (200, -32601)
        new = await where.modern("acme/run")
        assert (new.status, new.error["code"]) == (404, -32601)
        assert old.error["message"] == new.error["message"]


async def test_mcp_name_is_checked_and_says_upstream_what_the_body_says(autojump_clock: MockClock) -> None:
    backend = backend_of(V2026_07_28)
    async with scripted_gateway(backend, prefixes={"files": "f_"}) as where:
        lie = await where.modern("acme/run", {"name": "f_read"}, headers={"Mcp-Name": "f_write"})
        assert (lie.status, lie.error["code"]) == (400, -32020)
        await where.modern("acme/run", {"name": "f_read"}, headers={"Mcp-Name": "f_read"})
        await where.modern("acme/run", {"name": "f_read"})
        await (await where.session()).ask("acme/run", {"name": "f_read"})
        await (await where.session(extensions=SHARED)).ask("acme/run", {"name": "plan"})
        sent = [
            given.get(b"Mcp-Name")
            for link in backend.links
            for (method, _), given in zip(link.asked, link.headers, strict=True)
            if method == "acme/run"
        ]
        assert sent == [b"read", None, b"read", b"plan"]


@pytest.mark.parametrize("era", ERAS)
async def test_it_has_the_deadline_of_a_call_and_can_be_cancelled(era: Era, autojump_clock: MockClock) -> None:
    backend = backend_of(era, handlers={"acme/run": hang})
    async with scripted_gateway(backend, timeouts=Timeouts(call_s=3)) as where:
        session = await where.session()
        began_at = trio.current_time()
        late = await session.ask("acme/run", {"name": "read"})
        assert trio.current_time() - began_at == pytest.approx(3)
        assert (late.status, late.error["code"]) == (200, -33504)
        call = session.begin("acme/run", {"name": "read"}, request_id="mine")
        await trio.sleep(1)
        await session.cancel("mine")
        await call.until(lambda: call.closed)
        assert sum(link.cancelled for link in backend.links) == 2
        left = where.modern_soon("acme/run", {"name": "read"})
        await trio.sleep(1)
        left.leave()
        await trio.sleep(1)
        assert sum(link.cancelled for link in backend.links) == 3


async def test_result_types_of_an_agreed_extension_reach_its_client_alone(autojump_clock: MockClock) -> None:
    async def odd(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {"resultType": "acme", "x": 1}

    async with scripted_gateway(backend_of(V2026_07_28, handlers={"tools/call": odd})) as where:
        call: JsonObject = {"name": "read"}
        assert (await where.modern("tools/call", call, capabilities=DECLARED)).result["resultType"] == "acme"
        assert (await where.modern("tools/call", call)).error["code"] == -33520
        assert (await (await where.session(extensions=SHARED)).call("read")).error["code"] == -33520


@pytest.mark.parametrize("shared, heard", [(SHARED, ["acme/step"]), ({}, [])], ids=["agreed", "not agreed"])
async def test_notifications_of_an_agreed_extension_come_along(
    shared: JsonObject, heard: list[str], autojump_clock: MockClock
) -> None:
    async def tells(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(notice("acme/step", n=1))
        await hear(notice("notifications/tasks/status", taskId="x"))
        return {"content": []}

    async with scripted_gateway(backend_of(handlers={"tools/call": tells})) as where:
        session = await where.session(extensions=shared)
        reply = await session.call("read")
        assert [one["method"] for one in reply.messages if "method" in one] == heard
        new = await where.modern("tools/call", {"name": "read"}, capabilities={"extensions": shared})
        assert [one["method"] for one in new.messages if "method" in one] == heard


async def test_they_are_heard_outside_calls_too(autojump_clock: MockClock) -> None:
    backend = backend_of()
    async with scripted_gateway(backend) as where:
        session, other = await where.session(extensions=SHARED), await where.session()
        streams = session.stream(), other.stream()
        await trio.sleep(1)
        await session.call("read")
        await other.call("read")
        await backend.shout(notice("notifications/acme/step", n=1))
        await trio.sleep(1)
        assert [[one.get("method") for one in stream.messages] for stream in streams] == [
            ["notifications/acme/step"],
            [],
        ]


async def test_notifications_of_clients_go_to_the_owner_that_they_have_a_session_with(
    autojump_clock: MockClock,
) -> None:
    backend, other = backend_of(), backend_of(V2026_07_28, key="other")
    async with scripted_gateway(backend, other, prefixes={"files": "f_", "other": "o_"}) as where:
        session = await where.session()
        named: JsonObject = {"name": "f_read", "n": 1.0}
        assert (await session.tell("acme/step", named)).status == 202
        assert backend.links[-1].said == []  # nothing is opened for it
        await session.call("f_read")
        await session.call("o_read")
        for method, params in (
            ("acme/step", named),
            ("notifications/acme", {"name": "f_read"}),
            ("acme/step", {"name": "nobody"}),
            ("acme/step", {"name": "o_read"}),
            ("notifications/message", {"name": "f_read"}),
        ):
            given: dict[str, JsonValue] = dict(params)
            assert (await session.tell(method, given)).status == 202
        said = [orjson.loads(one) for link in (*backend.links, *other.links) for one in link.said]
        assert [(one["method"], one["params"]) for one in said] == [
            ("acme/step", {"name": "read", "n": 1.0}),
            ("notifications/acme", {"name": "read"}),
        ]
        headers, body = modern_request("acme/step", {"name": "f_read"})
        note = orjson.loads(body)
        del note["id"]
        assert (await where.send("POST", headers=headers, body=orjson.dumps(note))).status == 202


async def test_a_session_with_an_own_extension_asks_for_nothing_more(autojump_clock: MockClock) -> None:
    """A custom method is not asked of a 2026 client's user: it has no interim results."""

    async def asks(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {"resultType": "input_required", "requestState": "s"}

    async with scripted_gateway(backend_of(V2026_07_28, handlers={"acme/run": asks})) as where:
        refused = await where.modern("acme/run", {"name": "read"}, capabilities={"elicitation": {}, **DECLARED})
        assert refused.error["code"] == -33520
