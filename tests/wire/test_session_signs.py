"""What the answers of a 2025 server do to one session over real sockets: lost, doubted, or nothing."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from mcp_gateway.backends.transports.base import Inbound
from mcp_gateway.backends.transports.legacy_http import LegacyHttpLink, NoStream
from mcp_gateway.errors import BackendError, BackendProtocol, BackendSessionLost, Executed
from tests.support.http_links import (
    ACCEPTED,
    NOTE,
    PROGRESS,
    Handler,
    call,
    events,
    fixed,
    legacy,
    legacy_link,
    nothing,
)
from tests.support.raw_http import RawConnection, RawRequest, event, result

pytestmark = pytest.mark.wire

NO_SESSION = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"No valid session ID provided"}}'
OURS = b'{"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"session expired"}}'
REFUSED = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request"}}'


async def drop(connection: RawConnection, request: RawRequest) -> None:
    connection.reset()


async def cut_short(connection: RawConnection, request: RawRequest) -> None:
    """A refusal whose words never come to their end."""
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n"
    await connection.send(head + b"No valid session")
    await connection.gone()


async def deaf(inbound: Inbound) -> None:
    """Hear nothing."""


def doubted(link: LegacyHttpLink) -> bool:
    """Whether the session would be asked now."""
    assert link.doubts is not None
    return link.doubts._raised.is_set()


@pytest.mark.parametrize(
    "on_call",
    [
        pytest.param(fixed(NO_SESSION, "400 Bad Request"), id="400"),
        pytest.param(fixed(b"Invalid session ID", "400 Bad Request", "text/plain"), id="400 in words"),
        pytest.param(fixed(b"", "404 Not Found"), id="404"),
        pytest.param(fixed(b"session gone", "410 Gone", "text/plain"), id="410"),
        pytest.param(fixed(b"expect initialize request", "422 Unprocessable", "text/plain"), id="422"),
        pytest.param(fixed(NO_SESSION), id="in a 200"),
        pytest.param(events(event(NO_SESSION)), id="over SSE"),
    ],
)
async def test_a_server_that_says_so_has_lost_the_session_and_executed_nothing(on_call: Handler) -> None:
    async with legacy_link(legacy(on_call)) as (link, server):
        with pytest.raises(BackendSessionLost) as caught:
            await link.exchange(call(), nothing)
        assert (caught.value.executed, link.lost) == (Executed.NO, True)
        assert str(caught.value.status) in str(caught.value)
        await link.aclose()
        goodbyes = [request for request in server.requests if request.method == "DELETE"]
        assert len(goodbyes) == (caught.value.status != 404)  # a server that said it in words may know it still


@pytest.mark.parametrize(
    "on_call, answered",
    [
        pytest.param(fixed(OURS), True, id="our error in a 200"),
        pytest.param(fixed(OURS, "400 Bad Request"), True, id="our error with 400"),
        pytest.param(fixed(OURS, "404 Not Found"), True, id="our error with 404"),
        pytest.param(events(event(OURS)), True, id="our error over SSE"),
        pytest.param(fixed(b"session?", "401 Unauthorized", "text/plain"), False, id="401"),
        pytest.param(fixed(b"session?", "500 Oops", "text/plain"), False, id="500"),
        pytest.param(fixed(REFUSED, "502 Bad Gateway"), True, id="an error with 502"),
    ],
)
async def test_what_may_be_a_tool_is_passed_on_and_raises_doubts(on_call: Handler, answered: bool) -> None:
    async with legacy_link(legacy(on_call)) as (link, _):
        if answered:
            assert b'"id":2,' in (await link.exchange(call(), nothing)).raw
        else:
            with pytest.raises(BackendError):
                await link.exchange(call(), nothing)
        assert (link.lost, doubted(link)) == (False, True)


@pytest.mark.parametrize(
    "on_call",
    [
        pytest.param(fixed(b"no", "400 Bad Request", "text/plain"), id="400"),
        pytest.param(cut_short, id="words that do not come"),
        pytest.param(fixed(b"session" * 4000, "400 Bad Request", "text/plain"), id="very many words"),
        pytest.param(fixed(b'"' + b"session" * 400_000 + b'"', "400 Bad Request"), id="very much JSON"),
        pytest.param(fixed(b"<html>"), id="a page"),
        pytest.param(events(NOTE), id="a stream without an answer"),
        pytest.param(events(NOTE, event(NO_SESSION)), id="an error after the server had begun"),
        pytest.param(drop, id="a broken connection"),
    ],
)
async def test_three_failures_in_a_row_raise_doubts(on_call: Handler) -> None:
    async with legacy_link(legacy(on_call)) as (link, _):
        for number in range(3):
            assert not doubted(link), number
            with pytest.raises(BackendError):
                await link.exchange(call(), deaf)
        assert (link.lost, doubted(link)) == (False, True)


async def test_an_answer_ends_the_row() -> None:
    handlers = iter([fixed(b"", "400 Bad"), fixed(b"", "400 Bad"), None, fixed(b"", "400 Bad"), fixed(b"", "400 Bad")])

    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        handler = next(handlers)
        await (handler(connection, request) if handler else connection.send_json(result(request.rpc_id)))

    async with legacy_link(legacy(on_call)) as (link, _):
        for _number in range(5):
            try:
                await link.exchange(call(), nothing)
            except BackendProtocol:
                continue
        assert not doubted(link)


async def test_a_server_without_sessions_can_lose_none() -> None:
    async with legacy_link(legacy(fixed(NO_SESSION, "400 Bad Request"), session=None)) as (link, _):
        for _number in range(3):
            assert (await link.exchange(call(), nothing)).status == 400
        assert (link.lost, link.doubts) == (False, None)


# --- what is no request ---


def notices_get(handler: Handler) -> Callable[[RawConnection], Awaitable[None]]:
    """A server that answers notifications so, once the session is initialized."""

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.json.get("method") == "notifications/progress":
                await handler(connection, request)
            elif "id" in request.json:
                hello = b'{"protocolVersion":"2025-11-25","capabilities":{}}'
                await connection.send_json(result(request.rpc_id, hello), extra=b"Mcp-Session-Id: s\r\n")
            else:
                await connection.send(ACCEPTED)

    return script


@pytest.mark.parametrize(
    "answer, lost, doubts",
    [
        pytest.param(fixed(b"", "404 Not Found"), True, False, id="404"),
        pytest.param(fixed(NO_SESSION, "400 Bad Request"), True, False, id="400 about the session"),
        pytest.param(fixed(b"", "400 Bad Request"), False, False, id="400"),
        pytest.param(fixed(b"", "401 Unauthorized"), False, True, id="401"),
        pytest.param(fixed(b"", "500 Oops"), False, True, id="500"),
    ],
)
async def test_the_answer_to_a_notification_tells_too(answer: Handler, lost: bool, doubts: bool) -> None:
    async with legacy_link(notices_get(answer)) as (link, _):
        if lost:
            with pytest.raises(BackendSessionLost):
                await link.notify(PROGRESS)
        else:
            await link.notify(PROGRESS)
        assert (link.lost, doubted(link)) == (lost, doubts)


@pytest.mark.parametrize(
    "on_get, error, doubts",
    [
        pytest.param(fixed(NO_SESSION, "404 Not Found"), BackendSessionLost, False, id="404 as JSON-RPC"),
        pytest.param(fixed(b"no", "404 Not Found", "text/plain"), NoStream, True, id="404, perhaps no route"),
        pytest.param(fixed(b"", "405 Not Allowed"), NoStream, False, id="405"),
        pytest.param(fixed(NO_SESSION, "400 Bad Request"), BackendProtocol, True, id="400 about the session"),
        pytest.param(fixed(b"", "400 Bad Request"), BackendProtocol, False, id="400"),
        pytest.param(fixed(b"", "401 Unauthorized"), BackendError, True, id="401"),
        pytest.param(fixed(b"", "204 No Content"), BackendProtocol, False, id="204"),
    ],
)
async def test_a_refused_stream_tells_that_the_session_must_be_asked(
    on_get: Handler, error: type[Exception], doubts: bool
) -> None:
    async with legacy_link(legacy(fixed(b""), on_get=on_get)) as (link, _):
        with trio.fail_after(5), pytest.raises(error):
            await link.listen(nothing)
        assert (link.lost, doubted(link)) == (error is BackendSessionLost, doubts)
