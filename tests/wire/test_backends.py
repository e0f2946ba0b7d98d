"""Backends over real transports: each kind is found, discovered, called, watched and left."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import attrs
import orjson
import pytest
import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.fleet import Fleet, open_fleet
from mcp_gateway.backends.transports.base import Inbound, Outgoing
from mcp_gateway.config.spec import (
    GatewaySpec,
    HealthSpec,
    HttpTarget,
    ServerSpec,
    StdioTarget,
    Timeouts,
    TransportKind,
)
from mcp_gateway.errors import BackendSessionLost
from mcp_gateway.protocol.eras import Family
from mcp_gateway.routing.snapshot import Health, Kind
from mcp_gateway.values import BackendKey, JsonObject
from tests.support import peers
from tests.support.first_discovery import first_discovery
from tests.support.raw_http import RawConnection, RawRequest, event, response, result, serve_raw
from tests.support.scripted_link import ASKABLE, caller, deaf, same_pause

pytestmark = pytest.mark.wire

KEY = BackendKey("peer")
SLOW_START = Timeouts(connect_s=15.0, list_s=10.0)
Target: TypeAlias = HttpTarget | StdioTarget


def call(name: str, arguments: JsonObject, *, modern: bool) -> Outgoing:
    meta: JsonObject = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    }
    params: JsonObject = {"name": name, "arguments": arguments}
    if modern:
        params["_meta"] = meta

    def render(upstream_id: int) -> bytes:
        return orjson.dumps({"jsonrpc": "2.0", "id": upstream_id, "method": "tools/call", "params": params})

    headers = ((b"Mcp-Name", name.encode()),) if modern else ()
    return Outgoing(method="tools/call", render=render, headers=headers)


@asynccontextmanager
async def fleet_of(spec: ServerSpec) -> AsyncIterator[tuple[Fleet, Backend]]:
    async with open_fleet(jitter=same_pause) as fleet:
        await fleet.apply(GatewaySpec(servers=(spec,)))
        await first_discovery(fleet)
        backend = fleet.get(spec.key)
        assert backend is not None
        yield fleet, backend


def names(backend: Backend) -> list[str]:
    listings = backend.snapshot.lists(Family.MODERN)
    return [] if listings is None else [item.name for item in listings[Kind.TOOLS].items]


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not true():  # noqa: ASYNC110  # real time, and whatever changes has no event to wait for
            await trio.sleep(0.02)


@asynccontextmanager
async def over_http(*flags: str) -> AsyncIterator[Target]:
    async with peers.mcp2_server(*flags) as peer:
        yield HttpTarget(url=peer.url)


@asynccontextmanager
async def over_stdio() -> AsyncIterator[Target]:
    yield StdioTarget(command=tuple(str(word) for word in peers.mcp2_command("--stdio")))


@pytest.mark.parametrize(
    "open_target, protocol, transport, version",
    [
        pytest.param(over_http, None, "streamable-http", "2026-07-28", id="modern HTTP"),
        pytest.param(over_http, "2025-11-25", "streamable-http", "2025-11-25", id="HTTP, pinned to 2025-11-25"),
        pytest.param(over_http, "2025-03-26", "streamable-http", "2025-03-26", id="HTTP, pinned to 2025-03-26"),
        pytest.param(lambda: over_http("--sse"), None, "sse", "2025-11-25", id="HTTP+SSE, found by itself"),
        pytest.param(over_stdio, None, "stdio", "2026-07-28", id="modern stdio"),
        pytest.param(over_stdio, "2025-11-25", "stdio", "2025-11-25", id="stdio, pinned to 2025-11-25"),
    ],
)
async def test_every_kind_of_backend_is_found_discovered_and_called(
    open_target: Callable[[], AbstractAsyncContextManager[Target]],
    protocol: str | None,
    transport: str,
    version: str,
) -> None:
    async with open_target() as target:
        spec = ServerSpec(key=KEY, target=target, protocol=protocol, timeouts=SLOW_START)
        async with fleet_of(spec) as (fleet, backend):
            shot = backend.snapshot
            assert shot.health is Health.READY, fleet.status(KEY)
            assert (shot.transport, shot.era.version if shot.era else None) == (transport, version)
            assert "echo" in names(backend)
            for who in (caller("a"), caller("b", ASKABLE), caller()):
                era = (await backend.link_for(who)).era
                answer = await backend.exchange(who, call("echo", {"text": "hello"}, modern=era.modern), deaf)
                assert b"hello" in answer.raw
                assert era is backend.era_for(who)
            assert backend.era_for(caller("b", ASKABLE)).version == (protocol or "2025-11-25")
            assert backend.era_for(caller()).version == version
            assert backend.supervisor.machine.last_error == ""


@pytest.mark.parametrize("protocol", ["2026-07-28", "2025-11-25"])
async def test_a_tool_that_grows_is_discovered_at_once(protocol: str) -> None:
    async with over_http() as target:
        spec = ServerSpec(
            key=KEY, target=target, protocol=protocol, timeouts=SLOW_START, health=HealthSpec(interval_s=3600)
        )
        async with fleet_of(spec) as (_, backend):
            assert "grown" not in names(backend)
            backend.set_stream("a", deaf)  # a legacy server tells the caller's session alone
            await backend.exchange(caller("a"), call("grow", {}, modern=protocol == "2026-07-28"), deaf)
            await until(lambda: "grown" in names(backend))


# --- what no honest server does ---


def initialized(request: RawRequest, version: str = "2025-06-18") -> bytes:
    capabilities: JsonObject = {"tools": {"listChanged": True}}
    return result(request.rpc_id, orjson.dumps({"protocolVersion": version, "capabilities": capabilities}))


async def test_a_server_that_takes_no_post_is_asked_for_its_event_stream(nursery: trio.Nursery) -> None:
    """400 without JSON-RPC says nothing of the era; ``initialize`` answered alike means HTTP+SSE."""
    streams: list[RawConnection] = []

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.method == "GET":
                streams.append(connection)
                await connection.begin_events()
                await connection.send_chunk(b"event: endpoint\ndata: /messages\n\n")
            elif request.target == "/mcp":
                await connection.send(response(b"no", status="400 Bad Request", content_type="text/plain"))
            else:
                await connection.send(response(b"", status="202 Accepted"))
                if "id" in request.json:
                    answer = result(request.rpc_id, b'{"tools":[]}')
                    answer = initialized(request) if request.json["method"] == "initialize" else answer
                    await streams[0].send_chunk(b"event: message\n" + event(answer))

    async with serve_raw(script) as server:
        spec = ServerSpec(key=KEY, target=HttpTarget(url=server.url))
        async with fleet_of(spec) as (_, backend):
            await until(lambda: backend.snapshot.health is Health.READY)
            assert backend.snapshot.transport == "sse"


@pytest.mark.parametrize("forwarded", [("x-request-id",), ()])
async def test_headers_that_http_sse_cannot_forward_are_a_problem_that_is_said_once(
    forwarded: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async with over_http("--sse") as target:
        assert isinstance(target, HttpTarget)
        spec = ServerSpec(key=KEY, target=attrs.evolve(target, forward_headers=forwarded), timeouts=SLOW_START)
        async with fleet_of(spec) as (fleet, backend):
            backend.supervisor.builder.judged(await backend.supervisor.connector.detect())  # as after a lost connection
            assert backend.snapshot.transport == "sse"
            problems = fleet.status(KEY)["problems"]
    warned = [record for record in caplog.records if record.getMessage() == "configuration not in force"]
    assert len(warned) == len(forwarded)
    reason = "forwardHeaders are not sent: it speaks HTTP+SSE, whose one connection is shared by clients"
    expected = {"kind": "server", "name": "", "reason": reason, "hidden": False}
    assert problems == [expected] * len(forwarded)


async def test_a_configured_transport_is_the_only_one_that_is_tried() -> None:
    async def script(connection: RawConnection) -> None:
        while (await connection.read_request()) is not None:
            await connection.send(response(b"no", status="404 Not Found", content_type="text/plain"))

    async with serve_raw(script) as server:
        for transport in (TransportKind.STREAMABLE_HTTP, TransportKind.SSE):
            server.requests.clear()
            spec = ServerSpec(key=KEY, target=HttpTarget(url=server.url), transport=transport)
            async with fleet_of(spec) as (_, backend):
                await until(lambda: backend.supervisor.machine.open)  # awaited within the turn
            methods = {request.method for request in server.requests}
            assert methods == ({"GET"} if transport is TransportKind.SSE else {"POST"})


async def test_the_listen_stream_of_a_session_brings_its_messages_and_may_be_missing() -> None:
    heard: list[str] = []
    sessions = 0

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound.method)

    async def script(connection: RawConnection) -> None:
        nonlocal sessions
        while (request := await connection.read_request()) is not None:
            if request.method == "GET":
                if request.headers["mcp-session-id"] == "s1":  # the gateway's own
                    await connection.send(response(b"", status="405 Method Not Allowed"))
                    continue
                await connection.begin_events()
                await connection.send_chunk(event(b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}'))
                await connection.gone()
            elif request.method == "DELETE" or "id" not in request.json:
                await connection.send(response(b"", status="202 Accepted"))
            elif request.json["method"] == "server/discover":
                await connection.send_json(b"{}", status="400 Bad Request")
            elif request.json["method"] == "initialize":
                sessions += 1
                await connection.send_json(initialized(request), extra=b"Mcp-Session-Id: s%d\r\n" % sessions)
            else:
                await connection.send_json(result(request.rpc_id, b'{"tools":[]}'))

    async with serve_raw(script) as server:
        async with fleet_of(ServerSpec(key=KEY, target=HttpTarget(url=server.url))) as (_, backend):
            assert backend.snapshot.health is Health.READY
            backend.set_stream("a", hear)
            await backend.link_for(caller("a"))
            await until(lambda: heard == ["notifications/message"])
            with pytest.raises(BackendSessionLost):
                await backend.respond(caller("b"), b"{}")
        deleted = [request.headers["mcp-session-id"] for request in server.requests if request.method == "DELETE"]
        assert sorted(deleted) == ["s1", "s2", "s3"]  # the gateway's own, that of its survey, the caller's


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(HttpTarget(url="http://127.0.0.1:1/mcp"), id="nobody there"),
        pytest.param(HttpTarget(url="ftp://127.0.0.1/mcp"), id="not HTTP"),
        pytest.param(StdioTarget(command=("/nonexistent/program",)), id="no such program"),
    ],
)
async def test_what_cannot_be_reached_is_down_and_says_why(target: Target) -> None:
    async with fleet_of(ServerSpec(key=KEY, target=target)) as (fleet, backend):
        await until(lambda: backend.supervisor.machine.open)
        error = fleet.status(KEY)["last_error"]
        assert isinstance(error, dict)
        assert error["message"]
