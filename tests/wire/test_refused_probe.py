"""Servers that would initialize a session but refuse, break or ignore ``server/discover``, on real sockets.

Whoever would serve ``initialize`` is served: whatever else the probe is answered says nothing, is asked again with
each health probe, and never shows as a failure. What is shown names the request that was refused.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import orjson
import pytest
import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.config.spec import HealthSpec, HttpTarget, ServerSpec, Timeouts
from mcp_gateway.routing.snapshot import Health
from mcp_gateway.values import BackendKey, JsonObject
from tests.support.http_links import ACCEPTED, Handler, events, fixed, no_stream
from tests.support.raw_http import RawConnection, RawRequest, event, response, result, serve_raw
from tests.support.scripted_link import CALL, caller, deaf
from tests.wire.test_backends import fleet_of, initialized, until

pytestmark = pytest.mark.wire

KEY = BackendKey("peer")
NOT_FOUND = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}'
INTERNAL = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error"}}'
DISCOVERED = (
    b'{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},'
    b'"ttlMs":60000,"cacheScope":"public"}'
)


def words(status: str, text: bytes) -> Handler:
    return fixed(text, status, "text/plain; charset=utf-8")


async def drop(connection: RawConnection, request: RawRequest) -> None:
    connection.reset()


async def say_nothing(connection: RawConnection, request: RawRequest) -> None:
    await connection.gone()


@attrs.define(eq=False)
class Server:
    """A 2025 server with sessions, but for what it does with the probe, with ``initialize`` and with a GET."""

    on_probe: Handler
    on_initialize: Handler | None = None
    on_get: Handler = no_stream
    open: set[str] = attrs.field(factory=set)
    """Sessions that were initialized and not ended."""
    probes: int = 0

    async def __call__(self, connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await self._answer(connection, request)

    async def _answer(self, connection: RawConnection, request: RawRequest) -> None:
        if request.method == "GET":
            await self.on_get(connection, request)
        elif request.method == "DELETE":
            self.open.discard(request.headers["mcp-session-id"])
            await connection.send(response(b""))
        elif request.json["method"] == "server/discover":
            self.probes += 1
            await self.on_probe(connection, request)
        elif request.json["method"] == "initialize":
            if self.on_initialize is not None:
                await self.on_initialize(connection, request)
                return
            session = f"s-{len(connection.server.requests)}"
            self.open.add(session)
            await connection.send_json(initialized(request), extra=b"Mcp-Session-Id: %b\r\n" % session.encode())
        elif "id" not in request.json:
            await connection.send(ACCEPTED)
        else:
            await connection.send_json(result(request.rpc_id, b'{"tools":[],"content":[]}'))


@asynccontextmanager
async def backend_of(
    server: Server, *, interval_s: float = 30.0, connect_s: float = 5.0
) -> AsyncIterator[tuple[Fleet, Backend]]:
    async with serve_raw(server) as raw:
        timeouts, health = Timeouts(connect_s=connect_s), HealthSpec(interval_s=interval_s)
        spec = ServerSpec(key=KEY, target=HttpTarget(url=raw.url), timeouts=timeouts, health=health)
        async with fleet_of(spec) as (fleet, backend):
            yield fleet, backend


def last_error(fleet: Fleet) -> str:
    error = fleet.status(KEY)["last_error"]
    assert isinstance(error, dict)
    return str(error["message"])


@pytest.mark.parametrize("on_get", [fixed(b"", "405 No"), words("404 Not Found", b"Not found"), events(end=False)])
@pytest.mark.parametrize(
    "on_probe",
    [
        pytest.param(words("400 Bad Request", b"Invalid session ID"), id="400 in words"),
        pytest.param(words("404 Not Found", b"Invalid session ID"), id="404 in words"),
        pytest.param(fixed(NOT_FOUND, "404 Not Found"), id="404 as JSON-RPC"),
        pytest.param(words("401 Unauthorized", b"No transport found for sessionId"), id="401"),
        pytest.param(
            fixed(b'{"error":1}', "401 Unauthorized", extra=b'WWW-Authenticate: Bearer error="invalid_token"\r\n'),
            id="401 with a challenge",
        ),
        pytest.param(words("403 Forbidden", b"method not allowed by policy"), id="403"),
        pytest.param(words("405 Method Not Allowed", b"no"), id="405"),
        pytest.param(words("422 Unprocessable", b"expect initialize request"), id="422"),
        pytest.param(fixed(b"", "429 Too Many Requests"), id="429"),
        pytest.param(fixed(b"<html>", "500 Oops", "text/html"), id="500 as a page"),
        pytest.param(fixed(INTERNAL, "500 Oops"), id="500 as JSON-RPC"),
        pytest.param(words("501 Not Implemented", b"no"), id="501"),
        pytest.param(fixed(b"", "503 Service Unavailable"), id="503"),
        pytest.param(fixed(b"", "302 Found", extra=b"Location: /login\r\n"), id="a redirect"),
        pytest.param(fixed(b"<html>", content_type="text/html"), id="200 as a page"),
        pytest.param(fixed(b"", "202 Accepted"), id="202"),
        pytest.param(fixed(b'"' + b"x" * 2**10, extra=b""), id="half of a JSON text"),
        pytest.param(events(event(INTERNAL)), id="an error over SSE"),
        pytest.param(events(event(b"oops")), id="an event that is no JSON"),
        pytest.param(events(), id="an event stream that ends"),
        pytest.param(drop, id="the connection is dropped"),
    ],
)
async def test_a_server_is_served_whatever_it_answers_to_the_probe(on_probe: Handler, on_get: Handler) -> None:
    server = Server(on_probe, on_get=on_get)
    async with backend_of(server) as (fleet, backend):
        assert backend.snapshot.health is Health.READY, last_error(fleet)
        assert (fleet.status(KEY)["last_error"], fleet.status(KEY)["transport"]) == (None, "streamable-http")
        await backend.exchange(caller("a"), CALL, deaf)
    assert server.open == set()


@pytest.mark.parametrize("on_probe", [say_nothing, events(end=False)], ids=["silence", "a silent stream"])
async def test_a_probe_has_two_seconds_of_its_own(on_probe: Handler) -> None:
    began_at = trio.current_time()
    async with backend_of(Server(on_probe), connect_s=30.0) as (fleet, _):
        assert 2.0 <= trio.current_time() - began_at < 8.0
        assert fleet.status(KEY)["last_error"] is None


async def test_a_server_that_says_when_to_come_back_is_given_that_time_before_it_is_initialized() -> None:
    server = Server(fixed(b"", "429 Too Many Requests", extra=b"Retry-After: 1\r\n"))
    asked_at: list[float] = []

    async def note(connection: RawConnection, request: RawRequest) -> None:
        asked_at.append(trio.current_time())
        server.on_initialize = None
        await server._answer(connection, request)

    server.on_initialize = note
    began_at = trio.current_time()
    async with backend_of(server) as (fleet, backend):
        await until(lambda: backend.snapshot.health is Health.READY)
        assert asked_at[0] - began_at >= 1.0
        assert last_error(fleet) == "server/discover: server 'peer' is busy (HTTP 429)"
        assert server.probes == 1


async def test_a_provisional_era_is_asked_for_again_until_there_is_a_verdict() -> None:
    server = Server(words("401 Unauthorized", b"not now"))
    async with backend_of(server, interval_s=0.05) as (fleet, backend):
        await until(lambda: server.probes > 2)
        assert backend.snapshot.health is Health.READY
        server.on_probe = fixed(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}')
        seen = server.probes
        await until(lambda: server.probes > seen)
        await trio.sleep(0.3)
        assert server.probes == seen + 1
        assert fleet.status(KEY)["last_error"] is None


async def test_a_server_whose_modern_side_answers_later_is_spoken_to_in_2026_without_a_failure() -> None:
    server = Server(words("502 Bad Gateway", b"starting"))
    async with backend_of(server, interval_s=0.05) as (fleet, backend):
        await backend.exchange(caller("a"), CALL, deaf)
        server.on_probe = fixed(result(1, DISCOVERED))
        await until(lambda: backend.snapshot.era is not None and backend.snapshot.era.modern)
        await backend.exchange(caller("a"), CALL, deaf)  # stays where it was
        assert fleet.status(KEY)["last_error"] is None


@pytest.mark.parametrize(
    "on_initialize, reason",
    [
        (words("401 Unauthorized", b"no"), "initialize: server 'peer' refused the gateway's credential (HTTP 401)"),
        (fixed(b"", "503 Busy"), "initialize: server 'peer' is busy (HTTP 503)"),
        (words("500 Oops", b"no"), "initialize: server 'peer' broke the protocol: HTTP 500 without a JSON-RPC answer"),
        (
            fixed(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"m"}}', "400 Bad Request"),
            "initialize: server 'peer' answered error -32602 (HTTP 400): m",
        ),
        (drop, "initialize: server 'peer' is not reachable: "),
        (say_nothing, "initialize: server 'peer' did not answer: connect limit of 0.5 s reached"),
    ],
)
@pytest.mark.parametrize("on_probe", [words("401 Unauthorized", b"no"), words("405 Method Not Allowed", b"no")])
async def test_only_a_refused_initialize_is_a_refusal_and_is_named(
    on_probe: Handler, on_initialize: Handler, reason: str
) -> None:
    async with backend_of(Server(on_probe, on_initialize), connect_s=0.5) as (fleet, backend):
        assert backend.snapshot.health is not Health.READY
        assert last_error(fleet).startswith(reason)


async def test_what_neither_a_post_nor_a_get_finds_is_named_with_both_statuses() -> None:
    no = words("404 Not Found", b"no")
    async with backend_of(Server(no, words("405 Method Not Allowed", b"no"), no)) as (fleet, _):
        why = "HTTP 404 without an event stream, and HTTP 405 for initialize"
        assert last_error(fleet) == f"GET: server 'peer' broke the protocol: {why}"


async def test_an_event_stream_that_never_names_its_endpoint_is_doubted() -> None:
    """The server refused ``initialize`` for a moment only: it is no HTTP+SSE after all."""
    server = Server(words("405 No", b"no"), words("405 No", b"no"), events(end=False))
    async with backend_of(server, connect_s=0.5) as (fleet, backend):
        assert last_error(fleet) == "GET: server 'peer' did not answer: connect limit of 0.5 s reached"
        server.on_initialize = None
        await until(lambda: backend.snapshot.health is Health.READY)
        assert backend.snapshot.transport == "streamable-http"


async def test_a_server_that_refuses_the_configured_revision_is_not_taken_for_a_legacy_one() -> None:
    server = Server(words("401 Unauthorized", b"no"))
    async with serve_raw(server) as raw:
        spec = ServerSpec(key=KEY, target=HttpTarget(url=raw.url), protocol="2026-07-28")
        async with fleet_of(spec) as (fleet, _):
            assert last_error(fleet) == "server/discover: server 'peer' refused the gateway's credential (HTTP 401)"
    bodies: list[JsonObject] = [orjson.loads(request.body) for request in raw.requests]
    assert all(body["method"] == "server/discover" for body in bodies)
