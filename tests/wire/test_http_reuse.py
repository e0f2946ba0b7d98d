"""Kept connections: whatever the backend did to one while nobody looked, the next request does not pay for it.

The clock (``mock_clock``) stands still unless a test moves it, and backends close on cue.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.http_client import HttpPool
from mcp_gateway.config.spec import TlsSpec
from mcp_gateway.errors import BackendGone, Executed
from tests.support.http_pools import AUTHORITY, KEY, TLS_NAME, at_rest, echo, pool_for, post, tls_pool
from tests.support.http_pools import pools as pools
from tests.support.raw_http import RawConnection, RawRequest, RawServer, response, serve_raw
from tests.support.tally import Tally

pytestmark = pytest.mark.wire

Leave: TypeAlias = Callable[[RawConnection], Awaitable[None]]
"""What the backend does to its first connection after the answer."""
Again: TypeAlias = Callable[[HttpPool], Awaitable[object]]
ANSWER: Final = b"data: answer\n\n"


async def closes(connection: RawConnection) -> None:
    await connection.socket.aclose()


async def resets(connection: RawConnection) -> None:
    connection.reset()


async def half_closes(connection: RawConnection) -> None:
    """No more from here; but it goes on reading, so that nothing is refused."""
    await connection.socket.send_eof()
    await connection.gone()


async def says_more(connection: RawConnection) -> None:
    await connection.send(response(b"stale"))
    await connection.gone()


async def ends_tls(connection: RawConnection) -> None:
    """close_notify, while the TCP connection stays open."""
    assert isinstance(connection.stream, trio.SSLStream)
    await connection.stream.unwrap()


async def keeps(connection: RawConnection) -> None:
    await connection.gone()


def another_call(pool: HttpPool) -> Awaitable[object]:
    return post(pool)


def a_control_message(pool: HttpPool) -> Awaitable[object]:
    return post(pool, control=True)


def a_notice(pool: HttpPool) -> Awaitable[object]:
    return pool.tell(b"", b"{}")


LEAVINGS: Final = [
    pytest.param(closes, False, id="closes"),
    pytest.param(half_closes, False, id="half closes"),
    pytest.param(resets, False, id="resets"),
    pytest.param(says_more, False, id="says more"),
    pytest.param(closes, True, id="closes, TLS"),
    pytest.param(says_more, True, id="says more, TLS"),
    pytest.param(ends_tls, True, id="close_notify"),
]
AGAINS: Final = [another_call, a_control_message, a_notice]


@attrs.define(eq=False)
class Kept:
    """A backend whose first connection is left by cue after its first answer; on others it is as good as any."""

    leave: Leave
    streaming: bool
    cue: trio.Event = attrs.field(factory=trio.Event)

    async def script(self, connection: RawConnection) -> None:
        if connection.number:
            await echo(connection)
            return
        assert await connection.read_request() is not None
        if self.streaming:
            await connection.begin_events()
            await connection.send_chunk(ANSWER)
            await self.cue.wait()
            await connection.end_chunks()
        else:
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nans")
            await self.cue.wait()
            await connection.send(b"wer")
        await self.leave(connection)

    async def left(self) -> None:
        """Let it leave, and wait until all that it does has reached this side."""
        self.cue.set()
        await wait_all_tasks_blocked()

    async def first_call(self, pool: HttpPool) -> None:
        """One call; the backend has left when its answer is complete, or, of a stream, when nobody reads on."""
        async with pool.request(b"POST", b"", b"{}") as response:
            if self.streaming:
                assert await response.receive_some() == ANSWER
                response.ending = True
            else:
                assert await response.receive_some() == b"ans"
                await self.left()
                assert await response.receive_some() == b"wer"
        await self.left()


@asynccontextmanager
async def served(kept: Kept, *, tls: bool, tally: Tally | None = None) -> AsyncIterator[tuple[HttpPool, RawServer]]:
    observer = tally or Tally()
    async with serve_raw(kept.script, AUTHORITY.server_context(TLS_NAME) if tls else None) as server:
        if tls:
            yield tls_pool(server, TlsSpec(ca_pem=AUTHORITY.pem), observer=observer), server
        else:
            yield pool_for(server.url, observer=observer), server


@pytest.mark.parametrize("again", AGAINS)
@pytest.mark.parametrize("streaming", [pytest.param(True, id="after events"), pytest.param(False, id="after JSON")])
@pytest.mark.parametrize("leave, tls", LEAVINGS)
async def test_a_kept_connection_that_the_backend_left_serves_nobody(
    leave: Leave, tls: bool, streaming: bool, again: Again, mock_clock: MockClock
) -> None:
    kept, tally = Kept(leave, streaming), Tally()
    async with served(kept, tls=tls, tally=tally) as (pool, server):
        await kept.first_call(pool)
        await again(pool)
        assert (pool.dials, len(server.requests), server.requests[-1].connection) == (2, 2, 1)
        assert (tally.lost, at_rest(pool)) == ([], True)


@pytest.mark.parametrize("quiet_s", [pytest.param(0.0, id="at once"), 1.0, 5.0])
@pytest.mark.parametrize(
    "leave, tls",
    [
        pytest.param(closes, False, id="closes"),
        pytest.param(closes, True, id="closes, TLS"),
        pytest.param(ends_tls, True, id="close_notify"),
    ],
)
async def test_a_call_after_a_pause_is_answered_however_the_backend_closed(
    leave: Leave, tls: bool, quiet_s: float, mock_clock: MockClock
) -> None:
    kept = Kept(leave, streaming=True)
    async with served(kept, tls=tls) as (pool, server):
        await kept.first_call(pool)
        mock_clock.jump(quiet_s)
        assert await post(pool) == b"{}"
        assert (pool.dials, len(server.requests)) == (2, 2)


@pytest.mark.parametrize("quiet_s, dials", [pytest.param(1.0, 1, id="after 1 s"), pytest.param(5.0, 2, id="after 5 s")])
@pytest.mark.parametrize("tls", [pytest.param(False, id="plain"), pytest.param(True, id="TLS")])
async def test_a_stream_that_has_ended_leaves_a_connection_for_four_seconds(
    quiet_s: float, dials: int, tls: bool, mock_clock: MockClock
) -> None:
    async def answers_again(connection: RawConnection) -> None:
        await echo(connection)

    kept = Kept(answers_again, streaming=True)
    async with served(kept, tls=tls) as (pool, server):
        await kept.first_call(pool)
        mock_clock.jump(quiet_s)
        assert await post(pool) == b"{}"
        assert (pool.dials, server.connections) == (dials, dials)


@pytest.mark.parametrize("tls", [pytest.param(False, id="plain"), pytest.param(True, id="TLS")])
async def test_a_stream_that_ended_only_after_others_had_looked_keeps_its_connection(
    tls: bool, mock_clock: MockClock
) -> None:
    async def answers_again(connection: RawConnection) -> None:
        await echo(connection)

    kept = Kept(answers_again, streaming=True)
    async with served(kept, tls=tls) as (pool, server):
        async with pool.request(b"POST", b"", b"{}") as first:
            assert await first.receive_some() == ANSWER
            first.ending = True
        async with pool.request(b"POST", b"", b"{}") as second:  # the stream has not ended yet
            await second.read(9)
            await kept.left()
            async with pool.request(b"POST", b"", b"{}") as third:
                assert await third.read(9) == b"{}"
        assert [request.connection for request in server.requests] == [0, 1, 0]


async def test_tickets_of_tls_are_no_reason_to_dial_again(mock_clock: MockClock) -> None:
    async with serve_raw(echo, AUTHORITY.server_context(TLS_NAME)) as server:
        pool = tls_pool(server, TlsSpec(ca_pem=AUTHORITY.pem))
        for _ in range(5):
            await wait_all_tasks_blocked()
            assert await post(pool) == b"{}"
        assert pool.dials == 1


# --- what remains: an end that crosses our bytes ---


def closing_at(number: int, how: Leave) -> Callable[[RawConnection], Awaitable[None]]:
    """Answers, but closes when request ``number`` (from 1) of the first connection has come."""

    async def script(connection: RawConnection) -> None:
        seen = 0
        while (request := await connection.read_request()) is not None:
            seen += 1
            if connection.number == 0 and seen == number:
                await how(connection)
                return
            await answer(connection, request)

    return script


async def answer(connection: RawConnection, request: RawRequest) -> None:
    await connection.send_json(request.body)


@pytest.mark.parametrize("how", [closes, resets])
@pytest.mark.parametrize("control", [False, True])
async def test_an_end_that_crosses_a_request_is_told_and_counted_and_nothing_is_repeated(
    how: Leave, control: bool
) -> None:
    tally = Tally()
    async with serve_raw(closing_at(2, how)) as server:
        pool = pool_for(server.url, observer=tally)
        await post(pool, control=control)
        with pytest.raises(BackendGone) as caught:
            await post(pool, control=control)
        assert caught.value.executed is Executed.UNKNOWN
        assert (len(server.requests), server.connections, tally.lost) == (2, 1, [KEY])
        assert at_rest(pool)


async def test_an_end_that_crosses_a_notice_is_counted_and_the_notice_goes_again() -> None:
    tally = Tally()
    async with serve_raw(closing_at(2, closes)) as server:
        pool = pool_for(server.url, observer=tally)
        await post(pool, control=True)
        assert await pool.tell(b"", b"{}") == 200
        assert (len(server.requests), server.connections, tally.lost) == (3, 2, [KEY])


async def test_a_new_connection_that_is_lost_is_no_kept_one() -> None:
    tally = Tally()
    async with serve_raw(closing_at(1, closes)) as server:
        pool = pool_for(server.url, observer=tally)
        with pytest.raises(BackendGone):
            await post(pool)
        assert (server.connections, tally.lost) == (1, [])


async def test_a_closed_pool_takes_no_kept_connection_that_it_looks_at(mock_clock: MockClock) -> None:
    async with serve_raw(echo, AUTHORITY.server_context(TLS_NAME)) as server:
        pool = tls_pool(server, TlsSpec(ca_pem=AUTHORITY.pem))
        await post(pool)

        async def call() -> None:
            with pytest.raises(BackendGone) as caught:
                await post(pool)
            assert caught.value.executed is Executed.NO

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(pool.aclose)
        assert (pool.open, at_rest(pool), len(server.requests)) == (0, True, 1)
