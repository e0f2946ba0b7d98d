"""The load generator of the benchmarks counts nothing as answered that was not answered rightly."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import pytest

from bench import messages
from bench.load import Ask, Loaded, loaded
from tests.support.raw_http import RawConnection, RawRequest, event, response, result, serve_raw

pytestmark = pytest.mark.wire

Answer: TypeAlias = Callable[[RawConnection, RawRequest], Awaitable[None]]
SAID: Final = b'{"said":"hello"}'
SECONDS: Final = 0.05


def render(rpc_id: int) -> bytes:
    body = b'{"jsonrpc":"2.0","id":%d,"method":"say","params":{"token":%d}}' % (rpc_id, rpc_id)
    return b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def check(found: messages.Json, notes: int) -> str:
    return "" if found == {"said": "hello"} else f"said {found.get('said')}"


async def asked(answer: Answer, *, wants: int = 0, rate: float = 0.0) -> Loaded:
    """Two connections for a moment, in front of a server that answers so."""

    async def serve(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await answer(connection, request)

    def both(found: messages.Json, notes: int) -> str:
        return check(found, notes) or ("" if notes == wants else f"{notes} of {wants} notifications")

    async with serve_raw(serve) as server:
        host = f"127.0.0.1:{server.port}"
        found = await loaded(host, [Ask.of(render, both)], SECONDS, connections=2, rate=rate)
        assert [request.json["params"] for request in server.requests] == [
            {"token": request.rpc_id} for request in server.requests
        ]
        return found


async def right(connection: RawConnection, request: RawRequest) -> None:
    await connection.send_json(result(request.rpc_id, SAID))


async def another_id(connection: RawConnection, request: RawRequest) -> None:
    await connection.send_json(result(request.rpc_id + 1, SAID))


async def another_content(connection: RawConnection, request: RawRequest) -> None:
    await connection.send_json(result(request.rpc_id, b'{"said":"goodbye"}'))


async def an_error(connection: RawConnection, request: RawRequest) -> None:
    await connection.send_json(b'{"jsonrpc":"2.0","id":%d,"error":{"code":-1,"message":"no"}}' % request.rpc_id)


async def a_status(connection: RawConnection, request: RawRequest) -> None:
    await connection.send_json(result(request.rpc_id, SAID), status="503 Service Unavailable")


async def no_json(connection: RawConnection, request: RawRequest) -> None:
    await connection.send(response(b"<html>"))


async def hangs_up(connection: RawConnection, request: RawRequest) -> None:
    await connection.socket.aclose()


async def events(connection: RawConnection, request: RawRequest) -> None:
    """One notification of this call and one of another, then the answer, in pieces."""
    await connection.begin_events()
    for token in (request.rpc_id, 5):
        note = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%d}}' % token
        await connection.send_chunk(event(note))
    answer = event(result(request.rpc_id, SAID))
    await connection.send_chunk(answer[:20])
    await connection.send_chunk(answer[20:])
    await connection.end_chunks()


async def test_right_answers_are_counted() -> None:
    found = await asked(right)
    assert found.lags_ms
    assert (found.wrong, found.refused) == ([], 0)


async def test_a_rate_is_kept() -> None:
    found = await asked(right, rate=200)
    assert len(found.lags_ms) == 200 * SECONDS
    assert not found.wrong


@pytest.mark.parametrize(
    "answer,why",
    [
        pytest.param(another_id, "the answer to", id="another id"),
        pytest.param(another_content, "said goodbye", id="another content"),
        pytest.param(an_error, "an error", id="an error"),
        pytest.param(a_status, "status 503", id="a status"),
        pytest.param(no_json, "no JSON", id="no JSON"),
        pytest.param(hangs_up, "closed without an answer", id="hangs up"),
    ],
)
async def test_what_is_wrong_is_not_counted_but_told(answer: Answer, why: str) -> None:
    found = await asked(answer)
    assert not found.lags_ms
    assert found.wrong
    assert all(each.startswith(why) for each in found.wrong), found.wrong


async def test_notifications_of_the_call_itself_are_counted() -> None:
    assert (await asked(events, wants=1)).wrong == []
    assert set((await asked(events, wants=2)).wrong) == {"1 of 2 notifications"}
