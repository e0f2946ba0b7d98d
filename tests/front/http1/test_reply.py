"""One answer on a socket: whole though its task is cancelled, bounded by a client that reads nothing."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.wire import Wire
from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.errors import LocalFault
from mcp_gateway.front.http1 import answer
from mcp_gateway.front.http1.outgoing import Outgoing
from mcp_gateway.front.http1.reply import Http1Reply
from mcp_gateway.front.http1.service import Service
from tests.support.front import FixedStatus, ScriptedDispatch, echo


@attrs.define(eq=False)
class Pair:
    """A reply, and the client's end of its connection."""

    reply: Http1Reply
    wire: Wire
    client: Wire
    gone: list[bool]

    async def read(self, until: bytes) -> bytes:
        got = b""
        while not got.endswith(until):
            got += await self.client.receive_some(1 << 20)
        return got


@contextmanager
def pair(*, stall_s: float = 30.0, chunks: bool = True, draining: Callable[[], bool] = lambda: False) -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    wire, client, gone = Wire(ours), Wire(theirs), list[bool]()
    outgoing = Outgoing(wire, None, stall_s, lambda: gone.append(True))
    source = FixedStatus()
    service = Service(
        dispatch=ScriptedDispatch(echo),
        ready=source.ready,
        spec=Cell(GatewaySpec()),
        metrics=source.metrics,
        draining=draining,
    )
    reply = Http1Reply(service, outgoing, closing=False, chunks=chunks)
    yield Pair(reply, wire, client, gone)
    wire.close()
    client.close()


async def test_an_event_is_sent_whole_though_its_call_is_cancelled(autojump_clock: MockClock) -> None:
    with pair() as there:
        got = bytearray()

        async def slow_client() -> None:
            await trio.sleep(2)
            got.extend(await there.read(b"data: {}\n\n\r\n"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow_client)
            assert await there.reply.open(200, ())
            with trio.move_on_after(1.5) as call:
                await there.reply.event(b"x" * 2_000_000)
                await trio.sleep_forever()
            assert call.cancelled_caught
            assert await there.reply.event(b"{}")
        assert bytes(got).count(b"x") > 2_000_000
        assert b"data: " + b"x" * 2_000_000 + b"\n\n" in got


async def test_a_client_that_reads_nothing_is_given_up_though_the_call_is_cancelled(autojump_clock: MockClock) -> None:
    with pair(stall_s=5) as there:
        began_at = trio.current_time()
        with trio.move_on_after(1):
            assert await there.reply.open(200, ())
            assert not await there.reply.event(b"x" * 2_000_000)
        assert trio.current_time() - began_at == 5
        assert there.gone == [True]


async def test_writers_take_turns_and_a_comment_does_not_wait_for_one(autojump_clock: MockClock) -> None:
    with pair() as there:
        async with trio.open_nursery() as nursery:
            await there.reply.open(200, ())
            nursery.start_soon(there.reply.event, b"x" * 2_000_000)
            nursery.start_soon(there.reply.event, b"y" * 2_000_000)
            await trio.testing.wait_all_tasks_blocked()
            assert await there.reply.comment()
            await trio.sleep(1)
            nursery.start_soon(there.reply.event, b"last")
            got = await there.read(b"data: last\n\n\r\n")
        assert b"x" * 2_000_000 in got
        assert b"y" * 2_000_000 in got
        assert b":\n\n" not in got


async def test_an_answer_is_given_once_and_a_stream_has_an_order() -> None:
    with pair() as there:
        with pytest.raises(LocalFault, match="not open"):
            await there.reply.event(b"{}")
        assert await there.reply.whole(200, (answer.JSON,), b"{}")
        with pytest.raises(LocalFault, match="a second answer"):
            await there.reply.open(200, ())
        with pytest.raises(LocalFault, match="not open"):
            await there.reply.event(b"{}")
        assert (await there.read(b"{}")).startswith(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ndate: ")


async def test_a_header_that_would_break_the_framing_never_leaves() -> None:
    for value in (b"a\r\nx: y", b"a\nb", b"a\rb", b"a\0b"):
        with pair() as there, pytest.raises(LocalFault, match="line break"):
            await there.reply.whole(200, ((b"mcp-session-id", value),), b"{}")


async def test_nothing_is_sent_to_a_client_that_has_left() -> None:
    with pair() as there:
        there.reply.left()
        assert not await there.reply.whole(200, (), b"{}")
        assert there.reply.done
        with pytest.raises(BlockingIOError):
            there.client.sock.recv(1)


async def test_a_send_that_fails_tells_so_once_and_lets_others_run() -> None:
    with pair() as there:
        there.client.close()
        while await there.reply.open(200, ()) if not there.reply.begun else await there.reply.comment():
            pass
        assert there.gone == [True]


async def test_an_old_client_gets_a_stream_that_ends_with_the_connection() -> None:
    with pair(chunks=False) as there:
        await there.reply.open(200, ((b"cache-control", b"private"),))
        await there.reply.event(b"1")
        await there.reply.close()
        assert there.reply.closing
        got = await there.read(b"data: 1\n\n")
        assert b"connection: close\r\n" in got
        assert b"transfer-encoding" not in got
        assert b"private" not in got


async def test_a_drain_that_begins_while_a_call_runs_is_in_its_answer() -> None:
    with pair(draining=lambda: True) as there:
        await there.reply.whole(204, (), b"")
        got = await there.read(b"\r\n\r\n")
        assert b"connection: close\r\n" in got
        assert b"content-length" not in got


async def test_each_answer_and_each_event_is_one_send() -> None:
    """A socket that keeps sends apart shows them."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    source = FixedStatus()
    service = Service(
        dispatch=ScriptedDispatch(echo), ready=source.ready, spec=Cell(GatewaySpec()), metrics=source.metrics
    )
    outgoing = Outgoing(Wire(ours), None, 30.0, lambda: None)
    await Http1Reply(service, outgoing, closing=False).whole(200, (answer.JSON,), b"x" * 60_000)
    assert theirs.recv(1 << 20).endswith(b"\r\n\r\n" + b"x" * 60_000)
    stream = Http1Reply(service, outgoing, closing=False)
    await stream.open(200, ())
    assert theirs.recv(1 << 20).endswith(b"\r\n\r\n")
    await stream.event(b"{}")
    assert theirs.recv(1 << 20) == b"a\r\ndata: {}\n\n\r\n"
    await stream.close()
    assert theirs.recv(1 << 20) == b"0\r\n\r\n"
    ours.close()
    theirs.close()
