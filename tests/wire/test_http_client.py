"""The pool against servers that behave, and servers that do not, on loopback sockets."""

from functools import partial

import pytest
import trio
import trio.testing

from mcp_gateway.backends.transports.http_client import CONTROL_PLACES, HttpPool
from mcp_gateway.errors import (
    BackendGone,
    Executed,
)
from tests.support.http_pools import answering, at_rest, echo, pool_for, post, read_one_event, streaming
from tests.support.http_pools import pools as pools
from tests.support.raw_http import RawConnection, response, serve_raw

pytestmark = pytest.mark.wire


# --- the good path ---


async def test_one_connection_serves_one_call_after_the_other() -> None:
    async with serve_raw(echo) as server:
        pool = pool_for(server.url, headers=(("X-Team", "red"),), credential="Bearer t")
        for number in range(5):
            assert await post(pool, b'{"n":%d}' % number) == b'{"n":%d}' % number
        assert (pool.dials, server.connections, pool.open, pool.idle) == (1, 1, 1, 1)
        head = server.requests[-1].headers
        assert head["host"] == f"127.0.0.1:{server.port}"
        assert (head["x-team"], head["authorization"], head["x-a"]) == ("red", "Bearer t", "b")
        assert (head["accept-encoding"], head["content-length"]) == ("identity", "7")
        await pool.aclose()
        await server.all_closed()
        assert (pool.open, pool.idle) == (0, 0)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", id="length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: x\r\n\r\n", id="chunks"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nhello", id="until close"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nhello", id="HTTP/1.0"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", id="1xx"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", id="identity"),
    ],
)
async def test_every_framing_of_http_1_is_read(raw: bytes) -> None:
    async with serve_raw(answering(raw)) as server:
        pool = pool_for(server.url)
        assert await post(pool) == b"hello"
        assert at_rest(pool)


async def test_a_large_body_goes_both_ways() -> None:
    big = b"x" * (5 * 2**20)
    async with serve_raw(echo) as server:
        pool = pool_for(server.url)
        async with pool.request(b"POST", b"", big) as response:
            assert await response.read(len(big)) == big
        assert await post(pool) == b"{}"
        assert pool.dials == 1


async def test_a_body_made_late_is_made_once_a_connection_is_there() -> None:
    async with serve_raw(echo) as server:
        pool = pool_for(server.url)
        made: list[int] = []

        def make() -> bytes:
            made.append(pool.open)
            return b"late"

        async with pool.request(b"POST", b"", make) as response:
            assert await response.read(10) == b"late"
        assert made == [1]


# --- places ---


async def hold(pool: HttpPool, held: trio.Event, *, control: bool = False, stream: bool = False) -> None:
    async with pool.request(b"POST", b"", b"{}", control=control, stream=stream):
        held.set()
        await trio.sleep_forever()


async def test_control_places_are_four_and_streams_take_none_of_them() -> None:
    async with serve_raw(echo) as server, trio.open_nursery() as nursery:
        pool = pool_for(server.url)
        for _ in range(CONTROL_PLACES):
            held = trio.Event()
            nursery.start_soon(partial(hold, pool, held, control=True))
            await held.wait()
        streaming = trio.Event()
        nursery.start_soon(partial(hold, pool, streaming, stream=True))
        await streaming.wait()
        assert (pool.control_in_flight, pool.streams_in_flight, pool.open) == (4, 1, 5)
        with trio.move_on_after(0.02) as scope:
            await post(pool, control=True)
        assert scope.cancelled_caught
        assert await post(pool) == b"{}"
        nursery.cancel_scope.cancel()
    assert at_rest(pool)


async def test_a_closed_pool_fails_who_waits_and_who_comes() -> None:
    async with serve_raw(echo) as server, trio.open_nursery() as nursery:
        pool = pool_for(server.url)
        seen: list[Executed] = []

        async def try_it() -> None:
            with pytest.raises(BackendGone) as caught:
                await post(pool, control=True)
            seen.append(caught.value.executed)

        for _ in range(CONTROL_PLACES):
            held = trio.Event()
            nursery.start_soon(partial(hold, pool, held, control=True))
            await held.wait()
        nursery.start_soon(try_it)
        while not pool.waiting:
            await trio.lowlevel.checkpoint()
        await pool.aclose()
        await pool.aclose()
        await try_it()
        nursery.cancel_scope.cancel()
    assert seen == [Executed.NO, Executed.NO]
    assert (pool.open, at_rest(pool)) == (0, True)


async def test_closing_the_pool_ends_a_running_call() -> None:
    async with serve_raw(silent) as server, trio.open_nursery() as nursery:
        pool = pool_for(server.url)

        async def call() -> None:
            with pytest.raises(BackendGone) as caught:
                await post(pool)
            assert caught.value.executed is Executed.UNKNOWN

        nursery.start_soon(call)
        await server.until(1)
        await pool.aclose()
    assert at_rest(pool)


async def silent(connection: RawConnection) -> None:
    while await connection.read_request() is not None:
        pass


# --- idle connections ---


async def test_the_newest_idle_connection_is_used_first() -> None:
    async with serve_raw(echo) as server:
        pool = pool_for(server.url)
        async with pool.request(b"POST", b"", b"1") as one:
            await one.read(9)
            async with pool.request(b"POST", b"", b"2") as two:
                await two.read(9)
        assert pool.idle == 2
        await post(pool)
        assert server.requests[-1].connection == 0  # given back last


@pytest.mark.parametrize(
    "keep_alive, usable_s, dead_s",
    [
        pytest.param(b"", 3.9, 4.1, id="no hint: 4 s"),
        pytest.param(b"Keep-Alive: timeout=3, max=100\r\n", 1.9, 2.1, id="hint minus 1 s"),
        pytest.param(b"Keep-Alive: timeout=75\r\n", 3.9, 4.1, id="never more than 4 s"),
        pytest.param(b"Keep-Alive: max=5\r\n", 3.9, 4.1, id="no timeout in the hint"),
    ],
)
@pytest.mark.parametrize("by_sweep", [True, False])
async def test_idle_connections_are_closed_in_time(
    keep_alive: bytes, usable_s: float, dead_s: float, by_sweep: bool, mock_clock: trio.testing.MockClock
) -> None:
    async with serve_raw(answering(response(b"{}", extra=keep_alive), close=False)) as server:
        pool = pool_for(server.url)
        await post(pool)
        mock_clock.jump(usable_s)
        pool.sweep()
        await post(pool)
        assert pool.dials == 1
        mock_clock.jump(dead_s)
        if by_sweep:
            pool.sweep()
            assert pool.open == 0
        await post(pool)
        assert (pool.dials, pool.open) == (2, 1)


async def test_an_idle_connection_that_the_backend_closed_is_not_used() -> None:
    async with serve_raw(answering(response(b"{}"))) as server:
        pool = pool_for(server.url)
        await post(pool)
        await server.all_closed()
        await post(pool)
        assert (pool.dials, len(server.requests)) == (2, 2)
        await server.all_closed()
        pool.sweep()
        assert pool.open == 0


async def test_an_idle_connection_that_spoke_unasked_is_not_used() -> None:
    go = trio.Event()
    said = trio.Event()

    async def script(connection: RawConnection) -> None:
        while await connection.read_request() is not None:
            await connection.send_json(b"{}")
            if connection.number == 0:
                await go.wait()
                await connection.send(response(b"stale"))
                said.set()

    async with serve_raw(script) as server:
        pool = pool_for(server.url)
        await post(pool)
        go.set()
        await said.wait()
        assert await post(pool) == b"{}"
        assert pool.dials == 2


async def test_a_connection_with_bytes_after_the_answer_is_not_used_again() -> None:
    async with serve_raw(answering(response(b"{}") + response(b"more"), close=False)) as server:
        pool = pool_for(server.url)
        assert await post(pool) == b"{}"
        assert pool.open == 0
        await server.all_closed()


async def test_a_body_left_unread_closes_the_connection() -> None:
    async with serve_raw(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", close=False)) as server:
        pool = pool_for(server.url)
        async with pool.request(b"POST", b"", b"{}") as response:
            assert await response.receive_some() == b"hello"
        assert pool.open == 0
        await server.all_closed()


# --- streams that end soon ---


async def test_a_stream_that_ends_after_its_answer_keeps_its_connection() -> None:
    left, ended = trio.Event(), trio.Event()

    async def after(connection: RawConnection) -> None:
        await left.wait()
        await connection.end_chunks()
        ended.set()

    async with serve_raw(streaming(after)) as server:
        pool = pool_for(server.url)
        await read_one_event(pool)
        assert (pool.idle, at_rest(pool)) == (1, True)
        left.set()
        await ended.wait()
        await read_one_event(pool)
        assert (pool.dials, len(server.requests)) == (1, 2)


async def test_a_stream_that_does_not_end_is_left_alone_and_closed_in_time(mock_clock: trio.testing.MockClock) -> None:
    async with serve_raw(streaming(RawConnection.gone)) as server:
        pool = pool_for(server.url)
        for _ in range(3):
            await read_one_event(pool)
        assert (pool.dials, pool.idle) == (3, 3)
        mock_clock.jump(4.1)
        pool.sweep()
        assert pool.open == 0
        await server.all_closed()


async def test_streams_that_do_not_end_are_bounded() -> None:
    async with serve_raw(streaming(RawConnection.gone)) as server:
        pool = pool_for(server.url)
        for _ in range(12):
            await read_one_event(pool)
        assert pool.open == 8
        await pool.aclose()
        await server.all_closed()


@pytest.mark.parametrize(
    "tail",
    [pytest.param(b"e\r\ndata: answer\n\n\r\n", id="more events"), pytest.param(b"zz\r\n", id="bad framing")],
)
async def test_a_stream_that_goes_on_after_its_answer_loses_its_connection(tail: bytes) -> None:
    left, said = trio.Event(), trio.Event()

    async def after(connection: RawConnection) -> None:
        await left.wait()
        await connection.send(tail)
        said.set()
        await connection.gone()

    async with serve_raw(streaming(after)) as server:
        pool = pool_for(server.url)
        await read_one_event(pool)
        left.set()
        await said.wait()
        await read_one_event(pool)
        assert pool.dials == 2


async def test_a_stream_whose_connection_ends_is_not_used() -> None:
    async def after(connection: RawConnection) -> None:
        connection.reset()

    async with serve_raw(streaming(after)) as server:
        pool = pool_for(server.url)
        for number in range(1, 3):
            async with pool.request(b"POST", b"", b"{}") as response:
                response.ending = True
                await server.all_closed()
            assert pool.dials == number
