"""What is noted of requests: each metric is fed by what it is named for, and each request has one access line."""

import logging

import attrs
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import BackendLimits, GatewayLimits, Timeouts
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.telemetry import trace
from mcp_gateway.values import JsonObject
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def hang(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep(80_000)
    return {}


def hanging(era: Era = V2025_11_25) -> ScriptedBackend:
    return ScriptedBackend(era=era, handlers={"tools/call": hang})


def series(where: ScriptedGateway, name: str) -> dict[str, float]:
    """The values of one metric by its labels, zeros left out."""
    lines = where.metrics.render().decode().splitlines()
    found = (line.removeprefix(f"mcp_gateway_{name}").rsplit(" ", 1) for line in lines if f"mcp_gateway_{name}" in line)
    return {labels: float(value) for labels, value in found if labels[:1] in ("{", "") and float(value)}


async def reached(backend: ScriptedBackend, calls: int = 1) -> None:
    while backend.asked("tools/call") < calls:  # noqa: ASYNC110  # the clock is virtual
        await trio.sleep(0.001)


async def ended(reply: RecordedReply) -> None:
    await reply.until(lambda: reply.closed)


async def test_every_request_counts_by_method_server_and_outcome(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        await session.ask("ping")
        await session.ask("tools/list")
        await session.ask("no/such/method")
        await session.call("read")
        await session.call("unknown")
        await where.modern("tools/list")
        await where.modern("server/discover", headers={"Mcp-Method": "another"})
        await where.send("POST", headers={"Mcp-Session-Id": "forged"}, body=b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
        assert series(where, "requests_total") == {
            '{method="initialize",outcome="ok",server=""}': 1,
            '{method="ping",outcome="ok",server=""}': 1,
            '{method="ping",outcome="refused",server=""}': 1,
            '{method="tools/list",outcome="ok",server=""}': 2,
            '{method="other",outcome="refused",server=""}': 1,
            '{method="tools/call",outcome="ok",server="files"}': 1,
            '{method="tools/call",outcome="refused",server=""}': 1,
            '{method="server/discover",outcome="refused",server=""}': 1,
        }
        assert series(where, "request_duration_seconds_count")['{method="tools/call",server="files"}'] == 1


async def test_the_wait_for_a_place_is_measured(autojump_clock: MockClock) -> None:
    async def work(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(3)
        return {"content": []}

    backend = ScriptedBackend(handlers={"tools/call": work})
    async with scripted_gateway(backend, backend_limits=BackendLimits(concurrency=1)) as where:
        session = await where.session()
        replies = [session.begin("tools/call", {"name": "read"}) for _ in range(2)]
        await reached(backend)
        assert series(where, "in_flight") == {'{server="files"}': 2}
        for reply in replies:
            await ended(reply)
        assert series(where, "in_flight") == {}
        assert series(where, "queue_seconds_count") == {'{server="files"}': 2}
        assert series(where, "queue_seconds_sum")['{server="files"}'] == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize(
    "era, delivery",
    [pytest.param(V2025_11_25, "notice", id="2025"), pytest.param(V2026_07_28, "stream_closed", id="2026")],
)
async def test_cancellations_count_by_source_and_delivery(autojump_clock: MockClock, era: Era, delivery: str) -> None:
    backend = hanging(era)
    async with scripted_gateway(
        backend, backend_limits=BackendLimits(concurrency=1), timeouts=Timeouts(call_s=20)
    ) as where:
        session = await where.session()
        sent = session.begin("tools/call", {"name": "read"}, request_id="sent")
        await reached(backend)
        queued = session.begin("tools/call", {"name": "read"}, request_id="queued")
        await trio.sleep(1)
        await session.cancel("queued")
        await session.cancel("sent")
        for reply in (sent, queued):
            await ended(reply)
        leaving = where.modern_soon("tools/call", {"name": "read"})
        await reached(backend, 2)
        leaving.leave()
        await trio.sleep(1)
        await session.call("read")
        assert series(where, "cancellations_total") == {
            '{delivery="queued",source="message"}': 1,
            f'{{delivery="{delivery}",source="message"}}': 1,
            f'{{delivery="{delivery}",source="disconnect"}}': 1,
            f'{{delivery="{delivery}",source="deadline"}}': 1,
        }
        assert series(where, "deadlines_total") == {'{limit="call",server="files"}': 1}


async def test_each_limit_is_counted_also_of_a_parked_call(autojump_clock: MockClock) -> None:
    slow, busy = hanging(), Timeouts(connect_s=2, call_s=5)
    async with scripted_gateway(slow, timeouts=busy) as where:
        session = await where.session()
        slow.connect_s = 60  # the session's own link cannot be opened
        reply = await session.call("read")
        assert reply.error["data"] == {
            "server": "files", "reason": "backend_timeout", "executed": "no", "limit": "connect",
        }  # fmt: skip
        slow.connect_s = 0
        await where.modern("tools/call", {"name": "read"}, capabilities={"elicitation": {}})
        assert series(where, "deadlines_total") == {
            '{limit="connect",server="files"}': 1,
            '{limit="call",server="files"}': 1,
        }
        assert series(where, "cancellations_total") == {'{delivery="notice",source="deadline"}': 1}
        assert series(where, "queue_seconds_count") == {'{server="files"}': 1}


async def test_a_call_that_finds_no_place_in_the_gateway_is_counted_too(autojump_clock: MockClock) -> None:
    backend = hanging()
    async with scripted_gateway(backend, limits=GatewayLimits(in_flight=1)) as where:
        session = await where.session()
        session.begin("tools/call", {"name": "read"})
        await reached(backend)
        await session.call("read")
        assert series(where, "requests_total")['{method="tools/call",outcome="overload",server="files"}'] == 1


async def test_servers_have_a_state_and_discoveries_from_the_beginning(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend()
    async with scripted_gateway(backend) as where:
        assert series(where, "server_state") == {'{server="files",state="ready"}': 1}
        assert series(where, "discoveries_total") == {'{result="ok",server="files"}': 1}
        assert series(where, "discovery_duration_seconds_count") == {'{server="files"}': 1}
        assert series(where, "server_items") == {'{kind="tools",server="files"}': 1}
        server = where.spec.value.servers[0]
        await where.fleet.apply(attrs.evolve(where.spec.value, servers=(attrs.evolve(server, enabled=False),)))
        assert series(where, "server_state") == {'{server="files",state="disabled"}': 1}
        backend.up = False
        await where.fleet.apply(where.spec.value)
        assert series(where, "server_state") == {'{server="files",state="connecting"}': 1}


async def test_one_access_line_per_request_names_session_and_target_and_nothing_secret(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Invariant 3: arguments, URIs and session ids are in no line."""
    caplog.set_level(logging.DEBUG)
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        await session.call("read", password="hunter2")
        await session.ask("resources/read", {"uri": "file:///hunter2"})
        lines = [record for record in caplog.records if record.getMessage() == "call"]
        assert [vars(line)["method"] for line in lines] == ["initialize", "tools/call", "resources/read"]
        called = vars(lines[1])
        assert (called["server"], called["target"], called["era"], called["outcome"]) == (
            "files", "read", "2025-11-25", "ok",
        )  # fmt: skip
        assert len({vars(line)["session"] for line in lines}) == 1
        live = next(iter(where.gateway.context.sessions))
        everything = " ".join(str(vars(record)) for record in caplog.records)
        assert "hunter2" not in everything
        assert session.id not in everything
        assert live.key[:8] not in everything


async def test_the_trace_of_the_body_counts_where_headers_have_none(autojump_clock: MockClock) -> None:
    seen: list[str] = []

    async def look(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        seen.append(trace.trace_id.get())
        await trio.lowlevel.checkpoint()
        return {"content": []}

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": look})) as where:
        session = await where.session()
        params: JsonObject = {"name": "read", "_meta": {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}}
        await session.begin("tools/call", params).until(lambda: seen)
        params = {"name": "read", "_meta": {"traceparent": "junk"}}
        await session.begin("tools/call", params).until(lambda: len(seen) > 1)
        assert seen == [TRACE, ""]
