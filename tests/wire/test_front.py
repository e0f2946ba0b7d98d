"""The front on real sockets: bodies, streams, clients that leave, stall or flood, and the end of the server."""

import orjson
import pytest
import trio

from mcp_gateway.front.http1.service import Timings
from mcp_gateway.gateway.entrance import Request
from tests.support.front import JSON, Front, Watched, echo, open_front

pytestmark = pytest.mark.wire


async def test_a_body_comes_back_and_the_connection_is_used_again() -> None:
    async with open_front(echo) as front:
        wire = await front.dial()
        for body in (b'{"a":1}', b'{"b":2}', b""):
            await wire.post(body)
            status, headers, got = await wire.answer()
            assert (status, got, headers["content-type"]) == (200, body, "application/json")
            assert "server" not in headers
        assert front.admission.open == 1
        await wire.close()


async def test_dispatch_gets_the_request_as_it_came() -> None:
    seen: list[Request] = []

    async def keep(request: Request, reply: Watched) -> None:
        seen.append(request)
        await reply.whole(202, (), b"")

    async with open_front(keep) as front:
        wire = await front.dial()
        await wire.post(b"{}", "/mcp/vs/a%20b?x=1&y=2", "X-Two: 1", "x-two: 2")
        assert (await wire.answer())[0] == 202
        await wire.send(b"DELETE /mcp/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await wire.answer())[0] == 202
        await wire.close()
    post, delete = seen
    assert (post.method, post.path, post.query, post.body) == ("POST", "/mcp/vs/a b", "x=1&y=2", b"{}")
    assert post.all(b"x-two") == [b"1", b"2"]
    assert (post.peer, post.scheme) == ("127.0.0.1", "http")
    assert (delete.method, delete.path) == ("DELETE", "/mcp")


async def test_a_slow_client_is_waited_for_but_not_for_ever() -> None:
    async with open_front(echo, timings=Timings(body_s=0.3)) as front:
        wire = await front.dial()
        head = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
        for piece in (head[:10], head[10:-2], head[-2:], b"{", b"}"):
            await wire.send(piece)
            await trio.sleep(0.02)
        assert (await wire.answer())[2] == b"{}"
        await wire.send(head + b"{")
        status, _, body = await wire.answer()
        assert (status, b"took longer" in body) == (408, True)
        assert await wire.closed()


async def test_a_client_that_never_finishes_its_head_is_closed() -> None:
    async with open_front(echo, timings=Timings(head_s=0.1)) as front:
        wire = await front.dial()
        await wire.send(b"POST /mcp HTTP/1.1\r\n")
        with trio.fail_after(2):
            assert await wire.closed()


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    async with open_front(echo, timings=Timings(keep_alive_s=0.1)) as front:
        wire = await front.dial()
        await wire.post()
        assert (await wire.answer())[0] == 200
        with trio.fail_after(2):
            assert await wire.closed()


@pytest.mark.parametrize("served", [True, False])
async def test_a_client_that_leaves_while_idle_gives_its_place_back_at_once(served: bool) -> None:
    async with open_front(echo) as front:
        wire = await front.dial()
        if served:
            await wire.post()
            assert (await wire.answer())[0] == 200
        assert await counted(front, 1)
        await wire.close()
        assert await counted(front, 0)


async def counted(front: Front, connections: int) -> bool:
    """Whether so many connections are open before long."""
    with trio.move_on_after(1):
        while front.admission.open != connections:  # noqa: ASYNC110  # a counter has no event
            await trio.sleep(0.01)
    return front.admission.open == connections


@pytest.mark.parametrize("chunked", [pytest.param(False, id="announced"), pytest.param(True, id="chunked")])
async def test_a_huge_body_gets_413_and_the_client_can_read_it(chunked: bool) -> None:
    body = b"x" * (8 * 2**20)
    async with open_front(echo, body_bytes=1000) as front:
        wire = await front.dial()

        async def flood() -> None:
            if chunked:
                head = b"POST /mcp HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                await wire.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
            else:
                await wire.post(body)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            status, headers, got = await wire.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert "limits.bodyBytes = 1000" in orjson.loads(got)["error"]["message"]
        assert await wire.closed()


async def test_a_head_above_the_bound_gets_431() -> None:
    async with open_front(echo) as front:
        wire = await front.dial()
        await wire.send(b"POST /mcp HTTP/1.1\r\nHost: x\r\nX-Long: " + b"y" * 40_000)
        assert (await wire.head())[0] == 431


async def test_events_arrive_one_by_one() -> None:
    go = trio.Event()

    async def stream(request: Request, reply: Watched) -> None:
        await reply.open(200, [(b"mcp-session-id", b"s"), (b"cache-control", b"private")])
        await reply.event(b"", event_id="7", retry_ms=500)
        await go.wait()
        await reply.event(b'{"a":\n1}', name="message")
        await reply.comment()
        await reply.close()
        await reply.close()

    async with open_front(stream) as front:
        wire = await front.dial()
        await wire.post()
        status, headers = await wire.head()
        assert (status, headers["content-type"], headers["cache-control"]) == (200, "text/event-stream", "no-store")
        assert (headers["x-accel-buffering"], headers["mcp-session-id"]) == ("no", "s")
        assert await wire.chunk() == b"id: 7\nretry: 500\ndata: \n\n"
        go.set()
        assert await wire.chunk() == b'event: message\ndata: {"a":\ndata: 1}\n\n'
        assert await wire.chunk() == b":\n\n"
        assert await wire.chunk() == b""
        await wire.close()


@pytest.mark.parametrize("opened", [pytest.param(False, id="before the answer"), pytest.param(True, id="in a stream")])
async def test_a_client_that_leaves_is_noticed_and_the_request_goes_on(opened: bool) -> None:
    started, gone, over = trio.Event(), trio.Event(), trio.Event()
    left_at: list[float] = []
    wrote: list[bool] = []

    async def outlive(request: Request, reply: Watched) -> None:
        if opened:
            await reply.open(200, [])
        reply.on_gone(lambda: left_at.append(trio.current_time()))
        reply.on_gone(gone.set)
        started.set()
        await gone.wait()
        await trio.sleep(0.2)  # a cancelled task would end here
        late = trio.Event()
        reply.on_gone(late.set)
        assert late.is_set()
        if opened:
            wrote.append(await reply.event(b"{}"))
            wrote.append(await reply.comment())
            await reply.close()
        else:
            wrote.append(await reply.whole(200, JSON, b"{}"))
        over.set()

    async with open_front(outlive) as front:
        wire = await front.dial()
        await wire.post()
        await started.wait()
        closed_at = trio.current_time()
        await wire.close()
        with trio.fail_after(2):
            await gone.wait()
        assert left_at[0] - closed_at < 0.1
        await trio.sleep(0.05)
        assert not over.is_set()
        with trio.fail_after(2):
            await over.wait()
        assert len(left_at) == 1
        assert not any(wrote)


async def test_the_socket_of_a_client_that_left_is_closed_though_its_request_goes_on() -> None:
    started, go = trio.Event(), trio.Event()

    async def outlive(request: Request, reply: Watched) -> None:
        started.set()
        await go.wait()

    async with open_front(outlive) as front:
        wire = await front.dial()
        await wire.post()
        await started.wait()
        await wire.stream.send_eof()
        with trio.fail_after(2):
            assert await wire.closed()
        assert front.admission.open == 1
        go.set()
        await wire.close()


async def test_a_second_answer_and_an_answer_never_given_are_our_faults(caplog: pytest.LogCaptureFixture) -> None:
    async def twice(request: Request, reply: Watched) -> None:
        await reply.whole(200, JSON, b"{}")
        await reply.whole(200, JSON, b"{}")

    async def never(request: Request, reply: Watched) -> None:
        return

    async with open_front(twice) as front:
        wire = await front.dial()
        await wire.post()
        assert (await wire.answer())[2] == b"{}"
        await wire.close()
    async with open_front(never) as front:
        wire = await front.dial()
        await wire.post(b'{"jsonrpc":"2.0","id":"a1","method":"m"}')
        status, _, body = await wire.answer()
        error = orjson.loads(body)
        assert (status, error["id"], error["error"]["code"]) == (500, "a1", -32603)
        await wire.close()
    assert [record.message for record in caplog.records] == ["request failed"] * 2


async def test_a_bug_gives_an_error_id_that_is_also_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def buggy(request: Request, reply: Watched) -> None:
        if request.query:
            await reply.open(200, [])
        raise TypeError("the secret of the house")

    async with open_front(buggy) as front:
        wire = await front.dial()
        await wire.post(b"[]")
        status, _, body = await wire.answer()
        assert (status, orjson.loads(body)["id"]) == (500, None)
        await wire.post(b'{"id":5}', "/mcp?stream")
        await wire.head()
        event = await wire.chunk()
        assert event.startswith(b"data: {")
        assert orjson.loads(event[6:])["id"] == 5
        assert await wire.chunk() == b""
        await wire.close()
    ids = [record.__dict__["error_id"] for record in caplog.records]
    assert orjson.loads(body)["error"]["data"]["errorId"] == ids[0]
    assert b"secret" not in body + event
    assert all(record.exc_info for record in caplog.records)


async def test_origins_are_checked_and_preflights_answered() -> None:
    async with open_front(echo) as front:
        wire = await front.dial()
        await wire.post(b"{}", "/mcp", "Origin: http://evil.example")
        status, headers, _ = await wire.answer()
        assert (status, "access-control-allow-origin" in headers) == (403, False)
        wire = await front.dial()
        await wire.post(b"{}", "/mcp", "Origin: http://localhost:6274")
        assert (await wire.answer())[0] == 403  # Host: x, from a browser
        wire = await front.dial()
        ask = "Origin: http://localhost:6274\r\nAccess-Control-Request-Method: POST\r\n"
        await wire.send(f"OPTIONS /mcp HTTP/1.1\r\nHost: 127.0.0.1:1\r\n{ask}\r\n".encode())
        status, headers, _ = await wire.answer()
        assert (status, headers["access-control-allow-origin"]) == (204, "http://localhost:6274")
        assert "content-length" not in headers
        await wire.close()


async def test_everything_else_goes_to_the_pages() -> None:
    async with open_front(echo) as front:
        wire = await front.dial()
        for request, expected in (
            ("GET /healthz", 200),
            ("GET /readyz", 200),
            ("GET /metrics", 404),
            ("GET /", 404),
            ("GET /mcpx", 404),
            ("POST /healthz", 405),
        ):
            await wire.send(f"{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            status, headers, _ = await wire.answer()
            assert (request, status) == (request, expected)
            assert status != 405 or "GET" in headers["allow"]
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        await wire.send(f"GET /mcp HTTP/1.1\r\nHost: x\r\n{upgrade}{key}\r\n".encode())
        assert (await wire.head())[0] == 403  # Host: x, from what could be a browser


async def test_a_connection_too_many_gets_503_and_the_others_go_on() -> None:
    async with open_front(echo, connections=1) as front:
        first = await front.dial()
        await first.post()
        assert (await first.answer())[0] == 200
        second = await front.dial()
        await second.post()
        status, headers, _ = await second.answer()
        assert (status, headers["retry-after"]) == (503, "1")
        assert await second.closed()
        assert (front.admission.open, front.admission.refused) == (1, 1)
        await first.post()
        assert (await first.answer())[0] == 200
        await first.close()
