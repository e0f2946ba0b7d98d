"""Links over Streamable HTTP, in both eras, against scripted backends on loopback."""

import orjson
import pytest

from mcp_gateway.backends.transports.base import Answer, Inbound
from mcp_gateway.errors import (
    BackendAuth,
    BackendBusy,
    BackendError,
    BackendProtocol,
    BackendRefused,
    BackendSessionLost,
    BackendTooLarge,
    Executed,
)
from tests.support.http_links import (
    ACCEPTED,
    NOTE,
    PROGRESS,
    Handler,
    answer_call,
    answer_event,
    at_rest,
    call,
    events,
    fixed,
    hello,
    legacy,
    legacy_link,
    nothing,
    open_session,
    pool_for,
)
from tests.support.raw_http import (
    RawConnection,
    Script,
    event,
    response,
    result,
    serve_raw,
)

pytestmark = pytest.mark.wire


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
