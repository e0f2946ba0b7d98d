"""2025 servers that are restarted under a client's calls and answer the old sessions in their own way, on real sockets.

Whatever they say, the same client's calls work again without anybody's help, no call is executed twice, and nothing
is left behind.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import orjson
import pytest
import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.transports.base import Outgoing
from mcp_gateway.config.spec import BackendLimits, HttpTarget, ServerSpec
from mcp_gateway.errors import BackendError, BackendSessionLost, Executed
from mcp_gateway.routing.snapshot import Health
from mcp_gateway.values import BackendKey
from tests.support.http_links import ACCEPTED, Handler, events, fixed, no_stream
from tests.support.raw_http import RawConnection, RawRequest, event, response, result, serve_raw
from tests.support.scripted_link import caller, deaf
from tests.wire.test_backends import fleet_of, initialized, until

pytestmark = pytest.mark.wire

KEY = BackendKey("peer")
A, B = caller("a"), caller("b")


def words(status: str, text: bytes = b"") -> Handler:
    return fixed(text, status, "text/plain")


def rpc(message: str, id: object = None) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": message}})


async def with_our_id(connection: RawConnection, request: RawRequest) -> None:
    """An error in a 200 that carries the request's id."""
    if "id" in request.json:
        await connection.send_json(rpc("Session not found", request.rpc_id))
    else:
        await connection.send(ACCEPTED)


async def with_our_id_over_sse(connection: RawConnection, request: RawRequest) -> None:
    if "id" in request.json:
        await events(event(rpc("Session not found", request.rpc_id)))(connection, request)
    else:
        await connection.send(ACCEPTED)


async def drop(connection: RawConnection, request: RawRequest) -> None:
    connection.reset()


SAYS_SO = [
    pytest.param(fixed(rpc("Session not found"), "404 Not Found"), id="404"),
    pytest.param(words("404 Not Found"), id="404 without a word"),
    pytest.param(fixed(rpc("Bad Request: No valid session ID provided"), "400 Bad Request"), id="400"),
    pytest.param(words("400 Bad Request", b"Invalid session ID"), id="400 in words"),
    pytest.param(fixed(rpc("no session", "server-error"), "400 Bad Request"), id="400, id of nobody"),
    pytest.param(words("410 Gone", b"session ended"), id="410"),
    pytest.param(words("422 Unprocessable", b"expect initialize request"), id="422"),
    pytest.param(fixed(rpc("Session not found")), id="in a 200, without an id"),
    pytest.param(events(event(rpc("Session not found"))), id="over SSE, without an id"),
]
DOES_NOT_SAY = [
    pytest.param(words("401 Unauthorized", b"No transport found for sessionId"), id="401"),
    pytest.param(words("403 Forbidden"), id="403"),
    pytest.param(words("500 Oops", b"session"), id="500"),
    pytest.param(words("503 Busy"), id="503"),
    pytest.param(fixed(rpc("Session not found"), "502 Bad Gateway"), id="502 as JSON-RPC"),
    pytest.param(with_our_id, id="our id, in a 200"),
    pytest.param(with_our_id_over_sse, id="our id, over SSE"),
    pytest.param(words("400 Bad Request", b"no"), id="400 without the word"),
    pytest.param(fixed(b"<html>", content_type="text/html"), id="a page"),
]


@attrs.define(eq=False)
class Server:
    """A server with sessions that can be restarted."""

    unknown: Handler
    """What a session is answered that it does not know."""
    sessions: set[str] = attrs.field(factory=set)
    opened: int = 0
    executed: Counter[str] = attrs.field(factory=Counter)
    """Calls by what they said."""
    tool: Handler | None = None

    async def __call__(self, connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            session = request.headers.get("mcp-session-id")
            if request.method == "POST" and request.json.get("method") == "server/discover":
                await connection.send_json(rpc("Bad Request: Server not initialized"), status="400 Bad Request")
            elif request.method == "POST" and request.json.get("method") == "initialize":
                self.opened += 1
                self.sessions.add(f"s-{self.opened}")
                await connection.send_json(initialized(request), extra=b"Mcp-Session-Id: s-%d\r\n" % self.opened)
            elif session not in self.sessions:
                await self.unknown(connection, request) if request.body else await connection.send(
                    response(b"no session", status="400 Bad Request", content_type="text/plain")
                )
            else:
                await self._serve(connection, request, session)

    async def _serve(self, connection: RawConnection, request: RawRequest, session: str) -> None:
        if request.method == "DELETE":
            self.sessions.discard(session)
            await connection.send(response(b""))
        elif request.method == "GET":
            await no_stream(connection, request)
        elif "id" not in request.json:
            await connection.send(ACCEPTED)
        elif request.json["method"] == "tools/call":
            self.executed[str(request.json["params"])] += 1
            await (self.tool or answer)(connection, request)
        else:
            await connection.send_json(result(request.rpc_id, b'{"tools":[]}'))

    def restart(self) -> None:
        """Know no session any more."""
        self.sessions.clear()


async def answer(connection: RawConnection, request: RawRequest) -> None:
    await connection.send_json(result(request.rpc_id, b'{"content":[]}'))


@asynccontextmanager
async def backend_of(server: Server) -> AsyncIterator[Backend]:
    async with serve_raw(server) as raw:
        limits = BackendLimits(concurrency=64)
        async with fleet_of(ServerSpec(key=KEY, target=HttpTarget(url=raw.url), limits=limits)) as (_, backend):
            assert backend.snapshot.health is Health.READY
            yield backend
    assert server.sessions == set()


def call(word: str) -> Outgoing:
    def render(upstream_id: int) -> bytes:
        params = {"name": "t", "arguments": {"word": word}}
        return orjson.dumps({"jsonrpc": "2.0", "id": upstream_id, "method": "tools/call", "params": params})

    return Outgoing(method="tools/call", render=render)


async def works(backend: Backend, who: object, word: str) -> bool:
    """Whether a call is answered by a result."""
    try:
        return b'"result"' in (await backend.exchange(who, call(word), deaf)).raw  # type: ignore[arg-type]  # A or B
    except BackendError:
        return False


@pytest.mark.parametrize("unknown", SAYS_SO)
async def test_a_restart_that_the_server_tells_of_costs_no_call(unknown: Handler) -> None:
    server = Server(unknown)
    async with backend_of(server) as backend:
        for who, word in ((A, "a1"), (B, "b1")):
            assert await works(backend, who, word)
        server.restart()
        for who, word in ((A, "a2"), (A, "a3"), (B, "b2"), (caller("c"), "c1"), (caller(), "m1")):
            assert await works(backend, who, word)
        await until(lambda: backend.snapshot.health is Health.READY)
    assert set(server.executed.values()) == {1}


@pytest.mark.parametrize("unknown", DOES_NOT_SAY)
async def test_a_restart_that_the_server_hides_costs_three_calls_at_most(unknown: Handler) -> None:
    server = Server(unknown)
    async with backend_of(server) as backend:
        for who, word in ((A, "a1"), (B, "b1"), (caller(), "m1")):
            assert await works(backend, who, word)
        server.restart()
        failed = [word for word in ("a2", "a3", "a4", "a5", "a6") if not await works(backend, A, word)]
        assert len(failed) <= 3
        for who, word in ((B, "b2"), (caller("c"), "c1"), (caller(), "m2")):  # spared by what A found out
            assert await works(backend, who, word)
        await until(lambda: backend.snapshot.health is Health.READY)
    assert max(server.executed.values()) == 1


async def test_a_restarted_server_that_drops_connections_of_old_sessions_is_found_again() -> None:
    """At first it looks as if it were down, and its circuit opens."""
    server = Server(drop)
    async with backend_of(server) as backend:
        assert await works(backend, A, "before")
        server.restart()
        word = 0
        with trio.fail_after(10):
            while not await works(backend, A, f"{word}"):
                word += 1
                await trio.sleep(0.1)
        await until(lambda: backend.snapshot.health is Health.READY)
    assert set(server.executed.values()) == {1}


@pytest.mark.parametrize("unknown", [*SAYS_SO[:3], *DOES_NOT_SAY[:3]])
async def test_a_storm_of_calls_on_a_lost_session_opens_one(unknown: Handler) -> None:
    server = Server(unknown)
    async with backend_of(server) as backend:
        assert await works(backend, A, "first")
        await until(lambda: backend.links == 1)
        server.restart()
        before, worked = server.opened, list[bool]()

        async def one(number: int) -> None:
            worked.append(await works(backend, A, f"storm {number}"))

        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(one, number)
        assert await works(backend, A, "last")
        if unknown in [case.values[0] for case in SAYS_SO]:
            assert worked.count(True) == 64
        own = backend.supervisor.restarts  # the gateway's own session may be another one, too
        assert server.opened - before <= 2 + own
    assert set(server.executed.values()) == {1}


@pytest.mark.parametrize(
    "body, status",
    [
        (b'"error":{"code":-32000,"message":"session expired"}', "200 OK"),
        (b'"error":{"code":-32001,"message":"Session not found"}', "400 Bad Request"),
        (b'"error":{"code":-32001,"message":"Session not found"}', "404 Not Found"),
        (b'"error":{"code":-32603,"message":"session"}', "500 Oops"),
        (b'"result":{"isError":true,"content":[{"type":"text","text":"session expired"}]}', "200 OK"),
    ],
)
async def test_a_tool_that_says_session_expired_is_executed_once_and_keeps_its_session(
    body: bytes, status: str
) -> None:
    async def expired(connection: RawConnection, request: RawRequest) -> None:
        await connection.send_json(b'{"jsonrpc":"2.0","id":%d,%b}' % (request.rpc_id, body), status=status)

    server = Server(words("404 Not Found"), tool=expired)
    async with backend_of(server) as backend:
        for number in range(5):
            raw = (await backend.exchange(A, call(f"{number}"), deaf)).raw
            assert b"ession" in raw
        before = server.opened
        await trio.sleep(1.2)  # whatever is asked after it, is answered
        await backend.exchange(A, call("last"), deaf)
        assert server.opened == before
    assert set(server.executed.values()) == {1}


async def test_calls_under_way_end_in_the_old_session() -> None:
    """It is refused for new requests, while the answers of earlier ones still come."""
    release = trio.Event()

    async def slow(connection: RawConnection, request: RawRequest) -> None:
        server.tool = None
        await release.wait()
        await answer(connection, request)

    server = Server(words("401 Unauthorized"), tool=slow)
    async with backend_of(server) as backend, trio.open_nursery() as nursery:
        done: list[bool] = []

        async def one() -> None:
            done.append(await works(backend, A, "slow"))

        nursery.start_soon(one)
        await until(lambda: server.executed.total() == 1)
        server.restart()
        assert not await works(backend, A, "refused")
        assert await works(backend, A, "new")
        release.set()
        await until(lambda: done == [True])
    assert set(server.executed.values()) == {1}


async def test_a_server_that_always_says_so_is_asked_twice_per_call() -> None:
    server = Server(words("404 Not Found"))

    async def lose(connection: RawConnection, request: RawRequest) -> None:
        await words("400 Bad Request", b"Invalid session ID")(connection, request)

    server.tool = lose
    async with backend_of(server) as backend:
        began_at, before = trio.current_time(), server.opened
        for number in range(1, 3):
            with pytest.raises(BackendSessionLost) as caught:
                await backend.exchange(A, call("always"), deaf)
            assert (caught.value.executed, server.executed.total()) == (Executed.NO, 2 * number)
        spent_s = trio.current_time() - began_at
        assert server.opened - before == 4
        assert spent_s > 3.0  # each of them waits longer for its turn


async def test_a_goodbye_to_a_session_that_is_not_known_disturbs_nobody() -> None:
    server = Server(words("400 Bad Request", b"no session"))
    async with backend_of(server) as backend:
        assert await works(backend, A, "1")
        server.restart()
        backend.end_session("a")
        await until(lambda: backend.links == 0)
        assert await works(backend, A, "2")
