"""Links over Streamable HTTP, in both eras, against scripted backends on loopback."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import orjson
import pytest
import trio
import trio.testing

from mcp_gateway.backends.transports.base import Answer, ClientIdentity, Hello, Inbound, Outgoing
from mcp_gateway.backends.transports.era_probe import EraKind
from mcp_gateway.backends.transports.http_client import HttpPool
from mcp_gateway.backends.transports.streamable_http import (
    LegacyHttpLink,
    ModernHttpLink,
    NoStream,
    discover,
    open_legacy,
    probe_era,
)
from mcp_gateway.config.spec import BackendLimits, HttpTarget
from mcp_gateway.errors import (
    BackendAuth,
    BackendBusy,
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendRefused,
    BackendSessionLost,
    BackendTooLarge,
    Executed,
)
from mcp_gateway.protocol.eras import NEWEST_MODERN
from mcp_gateway.values import BackendKey, JsonObject
from tests.support.raw_http import (
    RawConnection,
    RawRequest,
    RawServer,
    Script,
    event,
    response,
    result,
    serve_raw,
)

pytestmark = pytest.mark.wire

KEY = BackendKey("files")
LIMITS = BackendLimits(response_bytes=4096, event_bytes=2048)
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"

Handler: TypeAlias = Callable[[RawConnection, RawRequest], Awaitable[None]]


def legacy(
    on_call: Handler, *, version: str = "2025-11-25", session: bytes | None = b"s-1", on_get: Handler | None = None
) -> Script:
    """A 2025 server: the handshake, 202 for notifications; ``on_call`` does the rest."""

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.method == "DELETE":
                await connection.send(response(b""))
            elif request.method == "GET":
                await (on_get or no_stream)(connection, request)
            elif request.json.get("method") == "initialize":
                extra = b"" if session is None else b"Mcp-Session-Id: " + session + b"\r\n"
                await connection.send_json(result(request.rpc_id, hello(version)), extra=extra)
            elif "id" not in request.json or "method" not in request.json:
                await connection.send(ACCEPTED)
            else:
                await on_call(connection, request)

    return script


async def no_stream(connection: RawConnection, request: RawRequest) -> None:
    await connection.send_json(b"", status="405 Method Not Allowed")


async def answer_call(connection: RawConnection, request: RawRequest) -> None:
    await connection.send_json(result(request.rpc_id, b'{"ok":true}'))


async def say_nothing(connection: RawConnection, request: RawRequest) -> None:
    """The call runs for ever."""


def hello(version: str) -> bytes:
    return orjson.dumps(
        {
            "protocolVersion": version,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "s", "version": "1"},
            "instructions": "be kind",
        }
    )


def pool_for(server: RawServer, concurrency: int = 4) -> HttpPool:
    return HttpPool(
        key=KEY, target=HttpTarget(url=server.url, credential="Bearer t"), concurrency=concurrency, connect_s=5
    )


def open_session(pool: HttpPool, offer: str = "2025-11-25") -> Awaitable[LegacyHttpLink]:
    return open_legacy(pool, identity=ClientIdentity(), offer=offer, limits=LIMITS)


@asynccontextmanager
async def legacy_link(script: Script, *, concurrency: int = 4) -> AsyncIterator[tuple[LegacyHttpLink, RawServer]]:
    async with serve_raw(script) as server:
        pool = pool_for(server, concurrency)
        link = await open_session(pool)
        yield link, server
        await at_rest(pool)


@asynccontextmanager
async def modern_link(on_call: Handler) -> AsyncIterator[tuple[ModernHttpLink, RawServer]]:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await on_call(connection, request)

    async with serve_raw(script) as server:
        pool = pool_for(server)
        link = ModernHttpLink(pool=pool, hello=Hello(era=NEWEST_MODERN, capabilities={}), limits=LIMITS)
        yield link, server
        await at_rest(pool)


async def at_rest(pool: HttpPool) -> None:
    """No place is taken; nothing stays open after the end."""
    assert (pool.in_flight, pool.control_in_flight, pool.streams_in_flight, pool.waiting) == (0, 0, 0, 0)
    await pool.aclose()
    assert pool.open == 0


def call(
    method: str = "tools/call",
    *,
    cancellable: bool = True,
    control: bool = False,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Outgoing:
    def render(upstream_id: int) -> bytes:
        return b'{"jsonrpc":"2.0","id":%d,"method":"%b","params":{}}' % (upstream_id, method.encode())

    return Outgoing(method=method, render=render, headers=headers, cancellable=cancellable, control=control)


async def nothing(inbound: Inbound) -> None:
    raise AssertionError(inbound)


def events(*parts: Callable[[int], bytes] | bytes, end: bool = True) -> Handler:
    """Answer by an event stream of these chunks; a function is given the request's id."""

    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        for part in parts:
            await connection.send_chunk(part if isinstance(part, bytes) else part(request.rpc_id))
        if end:
            await connection.end_chunks()

    return on_call


def fixed(raw: bytes, status: str = "200 OK", content_type: str = "application/json", extra: bytes = b"") -> Handler:
    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        await connection.send(response(raw, status=status, content_type=content_type, extra=extra))

    return on_call


NOTE = event(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"n":1}}')
PROGRESS = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":2,"progress":1}}'


def answer_event(rpc_id: int) -> bytes:
    return event(result(rpc_id, b'{"ok":true}'))


# --- the handshake ---


@pytest.mark.parametrize(
    "version, header", [("2025-11-25", "2025-11-25"), ("2025-06-18", "2025-06-18"), ("2025-03-26", None)]
)
async def test_a_session_is_initialized_and_ended(version: str, header: str | None) -> None:
    async with legacy_link(legacy(answer_call, version=version)) as (link, server):
        assert (link.era.version, link.shared, link.lost) == (version, False, False)
        assert (link.hello.capabilities, link.hello.instructions) == ({"tools": {}}, "be kind")
        answer = await link.exchange(call(headers=((b"X-Id", b"7"),)), nothing)
        assert answer == Answer(raw=result(2, b'{"ok":true}'))
        await link.aclose()
        await link.aclose()
        assert link.lost
        with pytest.raises(BackendSessionLost):
            await link.exchange(call(), nothing)
        initialize, initialized, request, goodbye = server.requests
    assert initialize.json["params"] == {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "mcp-gateway", "version": "0"},
    }
    assert "mcp-session-id" not in initialize.headers
    assert "mcp-protocol-version" not in initialize.headers
    assert initialized.json == {"jsonrpc": "2.0", "method": "notifications/initialized"}
    for later in (initialized, request, goodbye):
        assert later.headers["mcp-session-id"] == "s-1"
        assert later.headers.get("mcp-protocol-version") == header
    assert request.headers["accept"] == "application/json, text/event-stream"
    assert (request.headers["content-type"], request.headers["x-id"]) == ("application/json", "7")
    assert (goodbye.method, request.headers["authorization"]) == ("DELETE", "Bearer t")
    assert "s-1" not in repr(link)


async def test_a_backend_without_session_ids_is_shared_and_needs_no_goodbye() -> None:
    async with legacy_link(legacy(answer_call, session=None)) as (link, server):
        assert link.shared
        await link.exchange(call(), nothing)
        await link.aclose()
        assert [request.method for request in server.requests] == ["POST"] * 3


async def test_a_handshake_over_an_event_stream_answers_pings() -> None:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.json.get("method") != "initialize":
                await connection.send(ACCEPTED)
                continue
            await connection.begin_events(b"Mcp-Session-Id: s-1\r\n")
            await connection.send_chunk(event(b'{"jsonrpc":"2.0","id":1,"method":"ping"}') + NOTE)
            await connection.send_chunk(event(b'{"jsonrpc":"2.0","id":"r","method":"roots/list"}'))
            await connection.server.until(3)
            await connection.send_chunk(event(result(request.rpc_id, hello("2025-11-25"))))
            await connection.end_chunks()

    async with legacy_link(script) as (_, server):
        pong, refusal = server.requests[1:3]
        assert pong.json == {"jsonrpc": "2.0", "id": 1, "result": {}}
        assert (refusal.json["id"], "error" in refusal.json) == ("r", True)
        assert pong.headers["mcp-session-id"] == "s-1"


def initialize_by(raw: bytes) -> Script:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await connection.send(raw if request.body else response(b""))

    return script


@pytest.mark.parametrize(
    "raw, kind",
    [
        pytest.param(response(result(1, hello("2026-07-28"))), BackendProtocol, id="a modern revision"),
        pytest.param(response(result(1, b'{"capabilities":{}}')), BackendProtocol, id="no revision"),
        pytest.param(response(result(1, b"[]")), BackendProtocol, id="no object"),
        pytest.param(response(result(2, hello("2025-11-25"))), BackendProtocol, id="another id"),
        pytest.param(response(b"<html>", content_type="text/html"), BackendProtocol, id="a web page"),
        pytest.param(response(b"", status="404 Not Found", content_type=""), BackendProtocol, id="404"),
        pytest.param(response(b"", status="401 Unauthorized"), BackendAuth, id="401"),
        pytest.param(response(b"", status="503 Busy"), BackendBusy, id="503"),
        pytest.param(
            response(result(1, hello("2025-11-25")), extra=b"Mcp-Session-Id: a b\r\n"),
            BackendProtocol,
            id="bad session id",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n",
            BackendProtocol,
            id="stream without answer",
        ),
    ],
)
async def test_a_handshake_that_fails_says_how(raw: bytes, kind: type[BackendError]) -> None:
    async with serve_raw(initialize_by(raw)) as server:
        pool = pool_for(server)
        with pytest.raises(kind):
            await open_session(pool)
        await at_rest(pool)


async def test_the_status_of_a_failed_handshake_is_kept() -> None:
    async with serve_raw(
        initialize_by(response(b"no", status="405 Method Not Allowed", content_type="text/plain"))
    ) as server:
        pool = pool_for(server)
        with pytest.raises(BackendProtocol) as caught:
            await open_session(pool)
        assert caught.value.status == 405
        await at_rest(pool)


async def test_a_handshake_answered_by_an_error_is_refused_with_its_data() -> None:
    raw = b'{"jsonrpc":"2.0","id":"x","error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}}'
    async with serve_raw(initialize_by(response(raw, status="400 Bad Request"))) as server:
        pool = pool_for(server)
        with pytest.raises(BackendRefused) as caught:
            await open_session(pool)
        assert (caught.value.code, caught.value.status, caught.value.message) == (-32022, 400, "no")
        assert caught.value.data == {"supported": ["2026-07-28"]}
        await at_rest(pool)


async def test_a_session_with_a_revision_that_is_not_ours_is_ended() -> None:
    raw = response(result(1, hello("1999-01-01")), extra=b"Mcp-Session-Id: s-9\r\n")
    async with serve_raw(initialize_by(raw)) as server:
        pool = pool_for(server)
        with pytest.raises(BackendProtocol):
            await open_session(pool)
        assert (server.requests[-1].method, server.requests[-1].headers["mcp-session-id"]) == ("DELETE", "s-9")
        await at_rest(pool)


async def test_a_goodbye_that_fails_is_counted() -> None:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.method == "DELETE":
                return
            await connection.send_json(result(1, hello("2025-11-25")), extra=b"Mcp-Session-Id: s-1\r\n")

    async with legacy_link(script) as (link, _):
        await link.aclose()
        assert link.goodbyes_failed == 1


# --- answers ---


async def test_an_event_stream_gives_its_messages_in_order_and_then_the_answer() -> None:
    heard: list[Inbound] = []

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound)

    ask = event(b'{"jsonrpc":"2.0","id":2,"method":"elicitation/create","params":{"m":1}}')
    stream = events(b": hi\n\n" + NOTE[:20], NOTE[20:] + ask, b"event: other\ndata: x\n\n", answer_event)
    async with legacy_link(legacy(stream)) as (link, server):
        answer = await link.exchange(call(), hear)
        assert answer.raw == result(2, b'{"ok":true}')
        assert [(item.method, item.id_raw, item.params) for item in heard] == [
            ("notifications/message", None, {"n": 1}),
            ("elicitation/create", b"2", {"m": 1}),
        ]
        assert orjson.loads(heard[0].raw)["method"] == "notifications/message"
        await link.exchange(call(), hear)
        assert server.connections <= 2  # the stream's connection was used again, or its end came too late


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"jsonrpc":"2.0","id":2,"result":{"method":"x"}}', id="a method in the result"),
        pytest.param(b'{"result":{"method":"x"},"jsonrpc":"2.0","id":2}', id="result first"),
        pytest.param(b'{"id":2,"jsonrpc":"2.0","result":{"method":"x"}}', id="id first"),
        pytest.param(b'{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":"x"}}', id="error"),
        pytest.param(b'{"jsonrpc":"2.0","id":2,"result":{"n":1e400,"z":1.10}}', id="numbers no parser keeps"),
    ],
)
@pytest.mark.parametrize("as_events", [True, False])
async def test_an_answer_is_passed_on_as_it_came(raw: bytes, as_events: bool) -> None:
    async with legacy_link(legacy(events(event(raw)) if as_events else fixed(raw))) as (link, _):
        assert (await link.exchange(call(), nothing)).raw == raw


@pytest.mark.parametrize(
    "on_call",
    [
        pytest.param(fixed(result(3)), id="another id"),
        pytest.param(fixed(b'{"jsonrpc":"2.0","id":"2","result":{}}'), id="an id of another type"),
        pytest.param(fixed(b'{"jsonrpc":"2.0","result":{}}'), id="no id"),
        pytest.param(fixed(b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}'), id="a null id"),
        pytest.param(fixed(b'{"jsonrpc":"2.0","id":2,"id":2,"result":{}}'), id="two ids"),
        pytest.param(fixed(b'{"jsonrpc":"2.0","id":2,"result":{}'), id="broken JSON"),
        pytest.param(fixed(b'[{"jsonrpc":"2.0","id":2,"result":{}}]'), id="a batch"),
        pytest.param(fixed(b""), id="empty"),
        pytest.param(fixed(b"<html>", content_type="text/html"), id="a web page"),
        pytest.param(fixed(b"", status="202 Accepted"), id="accepted without an answer"),
        pytest.param(fixed(b"", status="500 Internal Server Error"), id="500"),
        pytest.param(fixed(b"nope", status="400 Bad Request", content_type="text/plain"), id="400 in words"),
        pytest.param(fixed(b"{}", status="400 Bad Request"), id="400 in other JSON"),
        pytest.param(fixed(b"x" * 5000, status="400 Bad Request"), id="400 with a long body"),
        pytest.param(events(NOTE[:-1]), id="stream without the answer"),
        pytest.param(events(lambda rpc_id: event(result(rpc_id + 1))), id="stream with another id"),
        pytest.param(events(event(b'{"jsonrpc":"2.0","id":9,"result":{"method":1}}')), id="another id, parsed"),
        pytest.param(events(event(b'{"method":')), id="stream with broken JSON"),
        pytest.param(events(event(b"{")), id="stream with rubbish"),
    ],
)
async def test_such_answers_break_the_protocol(on_call: Handler) -> None:
    async with legacy_link(legacy(on_call)) as (link, _):
        with pytest.raises(BackendProtocol):
            await link.exchange(call(), nothing)
        assert not link.lost


@pytest.mark.parametrize(
    "on_call, limit",
    [
        pytest.param(fixed(result(2, b'"%b"' % (b"x" * 5000))), "limits.responseBytes", id="JSON"),
        pytest.param(events(event(b"x" * 3000)), "limits.eventBytes", id="event"),
        pytest.param(events(b"data: " + b"x" * 3000, end=False), "limits.eventBytes", id="event without an end"),
    ],
)
async def test_answers_above_their_bound_are_too_large(on_call: Handler, limit: str) -> None:
    async with legacy_link(legacy(on_call)) as (link, _):
        with pytest.raises(BackendTooLarge) as caught:
            await link.exchange(call(), nothing)
        assert caught.value.limit == limit


@pytest.mark.parametrize(
    "status, extra, retry_after_ms",
    [
        ("429 Too Many Requests", b"Retry-After: 3\r\n", 3000),
        ("503 Service Unavailable", b"", None),
        ("503 Service Unavailable", b"Retry-After: soon\r\n", None),
        (
            "503 Service Unavailable",
            b"Date: Sun, 22 Nov 2026 10:00:00 GMT\r\nRetry-After: Sun, 22 Nov 2026 10:00:30 GMT\r\n",
            30_000,
        ),
        ("503 Service Unavailable", b"Retry-After: Sun, 22 Nov 2026 10:00:30 GMT\r\n", None),
    ],
)
async def test_a_busy_backend_says_when_to_come_back(status: str, extra: bytes, retry_after_ms: int | None) -> None:
    async with legacy_link(legacy(fixed(b"", status=status, extra=extra))) as (link, _):
        with pytest.raises(BackendBusy) as caught:
            await link.exchange(call(), nothing)
        assert (caught.value.retry_after_ms, caught.value.executed) == (retry_after_ms, Executed.NO)


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_a_refused_credential_is_named(status: str) -> None:
    async with legacy_link(legacy(fixed(b'{"jsonrpc":"2.0"}', status=status))) as (link, _):
        with pytest.raises(BackendAuth):
            await link.exchange(call(), nothing)


@pytest.mark.parametrize("id_raw", [b'"server-error"', b"null", b"2"])
@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable", "500 Internal Server Error"])
async def test_an_error_body_answers_us_whatever_id_it_has(id_raw: bytes, status: str) -> None:
    raw = b'{"jsonrpc":"2.0","id":%b,"error":{"code":-1,"message":"m","vendor":1.0}}' % id_raw
    async with legacy_link(legacy(fixed(raw, status=status))) as (link, _):
        answer = await link.exchange(call(), nothing)
        assert answer.raw == b'{"jsonrpc":"2.0","id":2,"error":{"code":-1,"message":"m","vendor":1.0}}'
        assert answer.status == int(status[:3])


# --- lost sessions ---


@pytest.mark.parametrize(
    "raw, content_type",
    [
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}', "application/json"),
        (b"session not found", "text/plain"),
    ],
)
async def test_a_404_with_a_session_is_a_lost_session(raw: bytes, content_type: str) -> None:
    async with legacy_link(legacy(fixed(raw, "404 Not Found", content_type))) as (link, server):
        with pytest.raises(BackendSessionLost) as caught:
            await link.exchange(call(), nothing)
        assert (caught.value.executed, link.lost) == (Executed.NO, True)
        before = len(server.requests)
        await link.aclose()
        assert len(server.requests) == before  # nothing to say goodbye to


async def test_a_404_that_names_our_request_is_an_answer() -> None:
    raw = b'{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"no such method"}}'
    async with legacy_link(legacy(fixed(raw, "404 Not Found"))) as (link, _):
        assert await link.exchange(call(), nothing) == Answer(raw=raw, status=404)
        assert not link.lost


async def test_a_404_without_a_session_breaks_the_protocol() -> None:
    async with legacy_link(legacy(fixed(b"", "404 Not Found"), session=None)) as (link, _):
        with pytest.raises(BackendProtocol) as caught:
            await link.exchange(call(), nothing)
        assert caught.value.status == 404


async def test_a_notification_is_taken_by_whatever_answer_but_a_lost_session() -> None:
    statuses = iter(("200 OK", "202 Accepted", "400 Bad Request", "404 Not Found"))

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.json.get("method") == "initialize":
                await connection.send_json(result(1, hello("2025-11-25")), extra=b"Mcp-Session-Id: s-1\r\n")
            else:
                await connection.send_json(b"", status=next(statuses))

    async with legacy_link(script) as (link, _):
        for _number in range(2):
            await link.notify(PROGRESS)
        with pytest.raises(BackendSessionLost):
            await link.notify(PROGRESS)
        assert link.lost


# --- cancellation, 2025 ---


async def cancel_when(link: LegacyHttpLink | ModernHttpLink, server: RawServer, requests: int, reason: str) -> None:
    """Cancel a call once the server has seen so many requests."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await server.until(requests)
                scope.cancel(reason)

            nursery.start_soon(watch)
            await link.exchange(call(), nothing)
    assert scope.cancelled_caught


async def test_a_cancelled_call_is_named_to_the_backend_with_the_reason() -> None:
    async with legacy_link(legacy(say_nothing), concurrency=1) as (link, server):
        await cancel_when(link, server, 3, "client gave up")
        notice = server.requests[-1]
        assert notice.json == {
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": 2, "reason": "client gave up"},
        }
        assert (notice.headers["mcp-session-id"], notice.connection) == ("s-1", 1)
        assert (link.notices_failed, link.pool.open) == (0, 1)


async def test_a_deadline_is_said_to_be_one() -> None:
    async with legacy_link(legacy(say_nothing)) as (link, server):
        with trio.move_on_after(0.05):
            await link.exchange(call(), nothing)
        params = server.requests[-1].json["params"]
        assert params == {"requestId": 2, "reason": "deadline reached"}


async def test_the_notice_does_not_wait_for_concurrency() -> None:
    async with legacy_link(legacy(say_nothing), concurrency=1) as (link, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when, link, server, 3, "first")
            await server.until(3)
            nursery.start_soon(cancel_when, link, server, 5, "second")  # queued, takes the place at once
        assert [request.json.get("method") for request in server.requests[2:]].count("notifications/cancelled") == 2


async def test_a_queued_call_is_dropped_silently() -> None:
    async with legacy_link(legacy(say_nothing), concurrency=1) as (link, server), trio.open_nursery() as nursery:
        nursery.start_soon(link.exchange, call(), nothing)
        await server.until(3)
        with trio.move_on_after(0.02):
            await link.exchange(call(), nothing)
        assert len(server.requests) == 3
        nursery.cancel_scope.cancel()


async def test_initialize_like_requests_are_left_without_a_notice() -> None:
    async with legacy_link(legacy(say_nothing)) as (link, server):
        with trio.move_on_after(0.05):
            await link.exchange(call(cancellable=False), nothing)
        assert len(server.requests) == 3


async def test_a_listener_that_fails_ends_the_call_with_a_notice() -> None:
    class Bug(Exception):
        pass

    async def hear(inbound: Inbound) -> None:
        raise Bug

    async with legacy_link(legacy(events(NOTE, end=False))) as (link, server):
        with pytest.raises(Bug):
            await link.exchange(call(), hear)
        await server.until(4)
        assert server.requests[-1].json["method"] == "notifications/cancelled"


async def test_a_notice_that_nobody_takes_is_bounded_and_counted(mock_clock: trio.testing.MockClock) -> None:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            match request.json.get("method"):
                case "initialize":
                    await connection.send_json(result(1, hello("2025-11-25")), extra=b"Mcp-Session-Id: s-1\r\n")
                case "notifications/initialized":
                    await connection.send(ACCEPTED)
                case _:
                    pass

    async with legacy_link(script) as (link, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when, link, server, 3, "x")
            await server.until(4)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(2.1)
        assert link.notices_failed == 1


async def test_a_notice_to_a_backend_that_left_is_counted() -> None:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            match request.json.get("method"):
                case "initialize":
                    await connection.send_json(result(1, hello("2025-11-25")), extra=b"Mcp-Session-Id: s-1\r\n")
                case "notifications/initialized":
                    await connection.send(ACCEPTED)
                case "notifications/cancelled":
                    return
                case _:
                    pass

    async with legacy_link(script) as (link, server):
        await cancel_when(link, server, 3, "x")
        assert link.notices_failed == 1


# --- resumption ---


def polling(rounds: list[list[bytes | Callable[[int], bytes]]], first: list[bytes]) -> tuple[Handler, Handler]:
    """A 2025-11-25 server that closes its stream and lets the client poll."""
    ids: list[int] = []
    left = iter(rounds)

    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        ids.append(request.rpc_id)
        await events(*first)(connection, request)

    async def on_get(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        for part in next(left, []):
            await connection.send_chunk(part if isinstance(part, bytes) else part(ids[0]))
        await connection.end_chunks()

    return on_call, on_get


PRIMING = event(b"", event_id="e-0", retry=10)


async def test_a_stream_with_event_ids_is_resumed_until_the_answer_comes() -> None:
    heard: list[str] = []

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound.method)

    more = event(PROGRESS, event_id="e-1")
    on_call, on_get = polling([[more], [b": nothing\n\n"], [answer_event]], [PRIMING])
    async with legacy_link(legacy(on_call, on_get=on_get)) as (link, server):
        answer = await link.exchange(call(headers=((b"X-Id", b"7"),)), hear)
        assert answer.raw == result(2, b'{"ok":true}')
        polls = [request for request in server.requests if request.method == "GET"]
        assert [poll.headers["last-event-id"] for poll in polls] == ["e-0", "e-1", "e-1"]
        assert {poll.headers["mcp-session-id"] for poll in polls} == {"s-1"}
        assert polls[0].headers["accept"] == "text/event-stream"
        assert polls[0].headers["x-id"] == "7"
        assert heard == ["notifications/progress"]


async def test_a_broken_stream_with_event_ids_is_resumed_too() -> None:
    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        await connection.send_chunk(PRIMING)
        await connection.stream.aclose()

    async def on_get(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        await connection.send_chunk(answer_event(2))

    async with legacy_link(legacy(on_call, on_get=on_get)) as (link, _):
        assert (await link.exchange(call(), nothing)).raw == result(2, b'{"ok":true}')


async def test_the_retry_pause_of_the_backend_is_respected(mock_clock: trio.testing.MockClock) -> None:
    on_call, on_get = polling([[answer_event]], [event(b"", event_id="e-0", retry=60_000)])
    async with legacy_link(legacy(on_call, on_get=on_get)) as (link, server), trio.open_nursery() as nursery:
        nursery.start_soon(link.exchange, call(), nothing)
        await server.until(3)
        await trio.testing.wait_all_tasks_blocked(0.0)
        mock_clock.jump(59.9)
        await trio.testing.wait_all_tasks_blocked(0.0)
        assert len(server.requests) == 3
        mock_clock.jump(0.2)
        await server.until(4)


async def test_resumptions_without_progress_are_bounded() -> None:
    on_call, on_get = polling([], [PRIMING])
    async with legacy_link(legacy(on_call, on_get=on_get)) as (link, server):
        with pytest.raises(BackendGone) as caught:
            await link.exchange(call(), nothing)
        assert caught.value.executed is Executed.UNKNOWN
        assert [request.method for request in server.requests].count("GET") == 5


@pytest.mark.parametrize(
    "status, kind",
    [("405 Method Not Allowed", BackendProtocol), ("404 Not Found", BackendSessionLost)],
)
async def test_a_refused_resumption_ends_the_call(status: str, kind: type[BackendError]) -> None:
    async with legacy_link(legacy(events(PRIMING), on_get=fixed(b"", status))) as (link, _):
        with pytest.raises(kind) as caught:
            await link.exchange(call(), nothing)
        assert isinstance(caught.value, BackendError)
        assert caught.value.executed is Executed.UNKNOWN


async def test_a_failing_resumption_is_tried_again() -> None:
    async def on_get(connection: RawConnection, request: RawRequest) -> None:
        connection.reset()

    async with legacy_link(legacy(events(PRIMING), on_get=on_get)) as (link, server):
        with pytest.raises(BackendGone):
            await link.exchange(call(), nothing)
        assert [request.method for request in server.requests].count("GET") == 5


async def test_a_call_cancelled_between_polls_is_named_to_the_backend() -> None:
    stream = events(event(b"", event_id="e-0", retry=60_000))
    async with legacy_link(legacy(stream)) as (link, server):
        await cancel_when(link, server, 3, "enough")
        await server.until(4)
        assert server.requests[-1].json["params"] == {"requestId": 2, "reason": "enough"}


async def test_an_event_id_of_endless_length_is_not_remembered() -> None:
    limits = BackendLimits(event_bytes=2**20)
    stream = events(event(b"", event_id="e" * 5000))
    async with serve_raw(legacy(stream)) as server:
        pool = pool_for(server)
        link = await open_legacy(pool, identity=ClientIdentity(), offer="2025-11-25", limits=limits)
        with pytest.raises(BackendProtocol):
            await link.exchange(call(), nothing)
        await at_rest(pool)


# --- the listen stream ---


async def test_the_listen_stream_gives_messages_and_goes_on_where_it_was() -> None:
    heard: list[Inbound] = []

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound)

    changed = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
    stream = events(
        event(changed, event_id="g-1", retry=5), event(result(99)), event(b'{"jsonrpc":"2.0","id":"p","method":"ping"}')
    )
    async with legacy_link(legacy(answer_call, on_get=stream)) as (link, server):
        opened = trio.Event()
        await link.listen(hear, opened)
        assert opened.is_set()
        await link.listen(hear)
        first, second = (request for request in server.requests if request.method == "GET")
        assert "last-event-id" not in first.headers
        assert second.headers["last-event-id"] == "g-1"
        assert [(item.method, item.id_raw) for item in heard[:2]] == [
            ("notifications/tools/list_changed", None),
            ("ping", b'"p"'),
        ]
        assert link.unasked == 2


async def test_the_listen_stream_takes_no_place_of_calls_or_control() -> None:
    async def on_get(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        await connection.gone()

    async with (
        legacy_link(legacy(answer_call, on_get=on_get), concurrency=1) as (link, _),
        trio.open_nursery() as nursery,
    ):
        opened = trio.Event()
        nursery.start_soon(link.listen, nothing, opened)
        await opened.wait()
        assert (link.pool.streams_in_flight, link.pool.in_flight, link.pool.control_in_flight) == (1, 0, 0)
        await link.exchange(call(), nothing)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "on_get, kind",
    [
        pytest.param(no_stream, NoStream, id="405"),
        pytest.param(fixed(b"no route", "404 Not Found", "text/html"), NoStream, id="404 of a framework"),
        pytest.param(
            fixed(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":""}}', "404 Not Found"),
            BackendSessionLost,
            id="404 of MCP",
        ),
        pytest.param(fixed(b"", "401 Unauthorized"), BackendAuth, id="401"),
        pytest.param(
            fixed(b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}', "400 No"), BackendProtocol, id="400"
        ),
        pytest.param(fixed(b"{}"), BackendProtocol, id="JSON"),
        pytest.param(events(event(b"{")), BackendProtocol, id="rubbish"),
        pytest.param(events(event(b"x" * 3000)), BackendTooLarge, id="too large"),
    ],
)
async def test_a_listen_stream_that_fails_says_how(on_get: Handler, kind: type[Exception]) -> None:
    async with legacy_link(legacy(answer_call, on_get=on_get)) as (link, _):
        opened = trio.Event()
        with pytest.raises(kind) as caught:
            await link.listen(nothing, opened)
        assert KEY in str(caught.value)


async def test_a_refused_resumption_of_the_listen_stream_begins_anew() -> None:
    seen: list[str | None] = []

    async def on_get(connection: RawConnection, request: RawRequest) -> None:
        seen.append(request.headers.get("last-event-id"))
        if seen[-1] is not None:
            await fixed(b"", "400 Bad Request")(connection, request)
        else:
            await events(event(PROGRESS, event_id="g-1"))(connection, request)

    async def hear(inbound: Inbound) -> None:
        pass

    async with legacy_link(legacy(answer_call, on_get=on_get)) as (link, _):
        await link.listen(hear)
        with pytest.raises(BackendProtocol):
            await link.listen(hear)
        await link.listen(hear)
        assert seen == [None, "g-1", None]


# --- 2026-07-28 ---


async def test_a_modern_call_carries_its_headers_and_no_session() -> None:
    async with modern_link(answer_call) as (link, server):
        outgoing = call(headers=((b"Mcp-Name", b"add"), (b"Mcp-Param-X", b"1")))
        assert (await link.exchange(outgoing, nothing)).raw == result(1, b'{"ok":true}')
        head = server.requests[0].headers
        assert (head["mcp-method"], head["mcp-name"], head["mcp-param-x"]) == ("tools/call", "add", "1")
        assert (head["mcp-protocol-version"], "mcp-session-id" in head) == ("2026-07-28", False)
        assert (link.shared, link.lost, link.era) == (True, False, NEWEST_MODERN)
        await link.aclose()
        with pytest.raises(BackendGone) as caught:
            await link.exchange(call(), nothing)
        assert caught.value.executed is Executed.NO


async def test_leaving_a_modern_call_closes_its_connection_and_says_nothing_else() -> None:
    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        await connection.send_chunk(b": working\n\n")
        await connection.gone()

    async with modern_link(on_call) as (link, server):
        await cancel_when(link, server, 1, "x")
        await server.all_closed()
        assert len(server.requests) == 1


async def test_a_modern_error_status_is_an_answer() -> None:
    raw = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}'
    async with modern_link(fixed(raw, "404 Not Found")) as (link, _):
        assert await link.exchange(call(), nothing) == Answer(raw=raw, status=404)


@pytest.mark.parametrize(
    "on_call",
    [
        pytest.param(events(event(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')), id="a request of the server"),
        pytest.param(events(event(b"", event_id="e-1")), id="no answer, and no resumption"),
        pytest.param(fixed(b"", "404 Not Found"), id="404"),
    ],
)
async def test_such_modern_answers_break_the_protocol(on_call: Handler) -> None:
    async with modern_link(on_call) as (link, _):
        with pytest.raises(BackendProtocol):
            await link.exchange(call(), nothing)


async def test_a_broken_modern_stream_loses_the_call() -> None:
    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        await connection.send_chunk(event(b"", event_id="e-1"))
        await connection.stream.aclose()

    async with modern_link(on_call) as (link, server):
        with pytest.raises(BackendGone) as caught:
            await link.exchange(call(), nothing)
        assert caught.value.executed is Executed.UNKNOWN
        assert len(server.requests) == 1


async def test_a_modern_subscription_holds_a_stream_place() -> None:
    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        if request.json["method"] != "subscriptions/listen":
            await answer_call(connection, request)
            return
        await connection.begin_events()
        await connection.send_chunk(NOTE)
        await connection.gone()

    heard = trio.Event()

    async def hear(inbound: Inbound) -> None:
        heard.set()

    async with modern_link(on_call) as (link, _), trio.open_nursery() as nursery:
        nursery.start_soon(link.exchange, call("subscriptions/listen", control=True), hear)
        await heard.wait()
        assert (link.pool.streams_in_flight, link.pool.control_in_flight) == (1, 0)
        await link.exchange(call(control=True), nothing)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", ["202 Accepted", "400 Bad Request"])
async def test_a_modern_notification_is_sent(status: str) -> None:
    async with modern_link(fixed(b"", status)) as (link, server):
        await link.notify(PROGRESS)
        assert server.requests[0].headers["mcp-protocol-version"] == "2026-07-28"


# --- probing ---

DISCOVERED = b'{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}'


async def probed(on_call: Handler, pinned: str | None = None) -> tuple[EraKind, str | None, list[JsonObject]]:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await on_call(connection, request)

    failure: BackendError | None = None
    verdict = None
    async with serve_raw(script) as server:
        pool = pool_for(server)
        try:
            verdict = await probe_era(pool, LIMITS, pinned)
        except BackendError as error:
            failure = error  # raised outside of the server's nursery, which would wrap it
        await at_rest(pool)
    if verdict is None:
        assert failure is not None
        raise failure
    return verdict.kind, verdict.era.version if verdict.era else None, list(server.bodies)


@pytest.mark.parametrize("on_call", [fixed(result(1, DISCOVERED)), events(NOTE, event(result(1, DISCOVERED)))])
async def test_a_modern_backend_is_found(on_call: Handler) -> None:
    kind, version, bodies = await probed(on_call)
    assert (kind, version) == (EraKind.MODERN, "2026-07-28")
    assert bodies[0]["method"] == "server/discover"


@pytest.mark.parametrize(
    "on_call, expected",
    [
        pytest.param(fixed(b"", "405 Method Not Allowed", "text/plain"), EraKind.SSE, id="SSE"),
        pytest.param(events(NOTE), EraKind.LEGACY, id="a stream without an answer"),
        pytest.param(
            fixed(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":""}}', "400 Bad"),
            EraKind.LEGACY,
            id="400",
        ),
    ],
)
async def test_other_backends_are_found_too(on_call: Handler, expected: EraKind) -> None:
    assert (await probed(on_call))[0] is expected


@pytest.mark.parametrize(
    "on_call, kind",
    [
        pytest.param(fixed(b"", "401 Unauthorized"), BackendAuth, id="401"),
        pytest.param(fixed(b"", "503 Busy"), BackendBusy, id="503"),
        pytest.param(fixed(b"", "502 Bad Gateway"), BackendProtocol, id="502"),
        pytest.param(fixed(b"x" * 5000), BackendTooLarge, id="too large"),
    ],
)
async def test_what_says_nothing_of_the_era_is_an_error(on_call: Handler, kind: type[BackendError]) -> None:
    with pytest.raises(kind):
        await probed(on_call)


async def test_a_pinned_revision_is_believed_or_checked() -> None:
    assert await probed(answer_call, "2025-06-18") == (EraKind.LEGACY, "2025-06-18", [])
    assert (await probed(fixed(result(1, DISCOVERED)), "2026-07-28"))[0] is EraKind.MODERN
    with pytest.raises(BackendProtocol):
        await probed(fixed(result(1, b"{}")), "2026-07-28")


@pytest.mark.parametrize("good", [True, False])
async def test_discovery_gives_the_hello_or_says_why_not(good: bool) -> None:
    async def script(connection: RawConnection) -> None:
        while await connection.read_request() is not None:
            await connection.send_json(result(1, DISCOVERED if good else b"{}"))

    async with serve_raw(script) as server:
        pool = pool_for(server)
        if good:
            assert (await discover(pool, LIMITS)).capabilities == {"tools": {}}
        else:
            with pytest.raises(BackendProtocol):
                await discover(pool, LIMITS)
        await at_rest(pool)
