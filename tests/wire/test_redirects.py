"""Servers that redirect their endpoint: to itself with a slash, as Starlette does with a mounted app, or elsewhere."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.config.spec import HttpTarget, ServerSpec, TransportKind
from mcp_gateway.protocol.eras import MODERN_VERSIONS
from mcp_gateway.routing.snapshot import Health
from mcp_gateway.values import BackendKey
from tests.support.http_links import ACCEPTED, no_stream
from tests.support.raw_http import RawConnection, RawRequest, RawServer, Script, event, response, result, serve_raw
from tests.support.scripted_link import CALL, caller, deaf
from tests.wire.test_backends import fleet_of, initialized, until

pytestmark = pytest.mark.wire

KEY = BackendKey("peer")
DISCOVERED = (
    b'{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},'
    b'"ttlMs":60000,"cacheScope":"public"}'
)


@attrs.define(eq=False)
class Mounted:
    """Serves under one path, with or without a slash, and redirects the other there."""

    path: str
    modern: bool = False
    status: str = "307 Temporary Redirect"
    location: str = "{path}{query}"
    sse: bool = False
    stream: RawConnection | None = None

    async def __call__(self, connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            path, mark, query = request.target.partition("?")
            if path.rstrip("/") == self.path.rstrip("/") and path != self.path:
                where = self.location.format(path=self.path, query=mark + query, port=connection.server.port)
                await connection.send(
                    response(b"Moved", status=self.status, content_type="text/plain", extra=location(where))
                )
            else:
                await self._answer(connection, request)

    async def _answer(self, connection: RawConnection, request: RawRequest) -> None:
        if request.method == "DELETE":
            await connection.send(response(b""))
        elif request.method == "GET" and self.sse:
            await self._open(connection)
        elif request.method == "GET":
            await no_stream(connection, request)
        elif "id" not in request.json:
            await connection.send(ACCEPTED)
        else:
            await self._answer_rpc(connection, request)

    async def _answer_rpc(self, connection: RawConnection, request: RawRequest) -> None:
        match request.json["method"]:
            case "server/discover" if self.modern:
                answer = result(request.rpc_id, DISCOVERED)
            case "initialize":
                answer = initialized(request)
            case _:
                answer = result(request.rpc_id, b'{"resultType":"complete","tools":[],"content":[]}')
        if self.stream is None:
            await connection.send_json(answer)
        else:
            await connection.send(ACCEPTED)
            await self.stream.send_chunk(event(answer))

    async def _open(self, connection: RawConnection) -> None:
        """An HTTP+SSE stream, whose endpoint is relative to the url that was really asked."""
        await connection.begin_events()
        await connection.send_chunk(b"event: endpoint\ndata: messages?s=1\n\n")
        self.stream = connection
        await connection.gone()


def location(where: str) -> bytes:
    return b"Location: %b\r\n" % where.encode()


@asynccontextmanager
async def backend_of(
    script: Script, path: str, *, protocol: str | None = None, transport: TransportKind = TransportKind.STREAMABLE_HTTP
) -> AsyncIterator[tuple[Fleet, Backend, RawServer]]:
    async with serve_raw(script) as server:
        target = HttpTarget(url=f"http://127.0.0.1:{server.port}{path}")
        spec = ServerSpec(key=KEY, target=target, protocol=protocol, transport=transport)
        async with fleet_of(spec) as (fleet, backend):
            yield fleet, backend, server


def last_error(fleet: Fleet) -> str:
    error = fleet.status(KEY)["last_error"]
    assert isinstance(error, dict)
    return str(error["message"])


def targets(server: RawServer) -> list[str]:
    """The request targets in order, repetitions left out."""
    return [target for target, _ in itertools.groupby(request.target for request in server.requests)]


@pytest.mark.parametrize("status", ["307 Temporary Redirect", "308 Permanent Redirect"])
@pytest.mark.parametrize("where", ["{path}{query}", "http://127.0.0.1:{port}{path}{query}"])
@pytest.mark.parametrize(
    "configured, real",
    [("/mcp", "/mcp/"), ("/mcp/", "/mcp"), ("/a/mcp?key=k", "/a/mcp/?key=k")],
)
@pytest.mark.parametrize("protocol", [None, "2025-06-18", "2026-07-28"])
async def test_the_last_slash_of_a_url_is_corrected_once(
    configured: str, real: str, where: str, status: str, protocol: str | None
) -> None:
    mounted = Mounted(real.partition("?")[0], protocol in MODERN_VERSIONS, status, where)
    async with backend_of(mounted, configured, protocol=protocol) as (fleet, backend, server):
        assert backend.snapshot.health is Health.READY, last_error(fleet)
        await backend.exchange(caller("one"), CALL, deaf)
        assert targets(server) == [configured, real]
        assert [request.target for request in server.requests].count(configured) == 1
        assert server.requests[0].body == server.requests[1].body


async def test_the_stream_of_http_sse_is_redirected_too_and_its_endpoint_is_relative_to_that() -> None:
    mounted = Mounted("/sse/", sse=True)
    async with backend_of(mounted, "/sse", transport=TransportKind.SSE) as (fleet, backend, server):
        assert backend.snapshot.health is Health.READY, last_error(fleet)
        await backend.exchange(caller("one"), CALL, deaf)
        assert targets(server) == ["/sse", "/sse/", "/sse/messages?s=1"]


async def test_a_server_that_moves_back_is_followed_at_the_next_discovery() -> None:
    mounted = Mounted("/mcp/", modern=True)
    async with backend_of(mounted, "/mcp", protocol="2026-07-28") as (fleet, backend, server):
        assert backend.snapshot.health is Health.READY, last_error(fleet)
        mounted.path = "/mcp"
        backend.supervisor.surprised()
        await until(lambda: targets(server)[-1] == "/mcp")
        await backend.exchange(caller("one"), CALL, deaf)
        assert backend.snapshot.health is Health.READY


async def test_two_urls_that_send_to_each_other_are_followed_once() -> None:
    async def back_and_forth(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            other = "/mcp" if request.target == "/mcp/" else "/mcp/"
            await connection.send(response(b"", status="307 No", extra=location(other)))

    async with backend_of(back_and_forth, "/mcp", protocol="2025-06-18") as (fleet, _, server):
        assert [request.target for request in server.requests] == ["/mcp", "/mcp/"]
        assert f"a redirect to http://127.0.0.1:{server.port}/mcp (HTTP 307), which is not followed" in last_error(
            fleet
        )


@pytest.mark.parametrize(
    "status, where, told",
    [
        pytest.param("307 No", "/elsewhere/?token=s3cret", "http://127.0.0.1:{port}/elsewhere/", id="another path"),
        pytest.param("302 No", "/mcp/", "http://127.0.0.1:{port}/mcp/", id="302, which makes GET of POST"),
        pytest.param("301 No", "/mcp/", "http://127.0.0.1:{port}/mcp/", id="301"),
        pytest.param("308 No", "https://127.0.0.1:{port}/mcp/", "https://127.0.0.1:{port}/mcp/", id="TLS"),
        pytest.param("307 No", "http://u:s3cret@other.example/mcp/", "http://other.example/mcp/", id="another host"),
    ],
)
@pytest.mark.parametrize("protocol", [None, "2025-06-18", "2026-07-28"])
async def test_any_other_redirect_is_refused_and_told_without_its_query(
    status: str, where: str, told: str, protocol: str | None
) -> None:
    async def redirects(connection: RawConnection) -> None:
        while await connection.read_request() is not None:
            there = where.format(port=connection.server.port)
            await connection.send(response(b"", status=status, extra=location(there)))

    async with backend_of(redirects, "/mcp", protocol=protocol) as (fleet, backend, server):
        assert backend.snapshot.health is not Health.READY
        reason = f"a redirect to {told.format(port=server.port)} (HTTP {status[:3]}), which is not followed"
        assert reason in last_error(fleet)
        assert "s3cret" not in last_error(fleet)
        assert set(targets(server)) == {"/mcp"}


async def test_a_redirect_without_a_location_is_refused() -> None:
    async def redirects(connection: RawConnection) -> None:
        while await connection.read_request() is not None:
            await connection.send(response(b"", status="307 No"))

    async with backend_of(redirects, "/mcp", protocol="2025-06-18") as (fleet, _, _):
        assert last_error(fleet).endswith("a redirect (HTTP 307), which is not followed")
