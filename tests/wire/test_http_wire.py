"""The socket under a connection."""

import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from mcp_gateway.backends.transports.wire import Wire

pytestmark = pytest.mark.wire


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield Wire(ours), theirs
    ours.close()
    theirs.close()


async def test_a_wire_counts_what_the_kernel_took(ends: tuple[Wire, socket.socket]) -> None:
    wire, theirs = ends
    assert wire.send_now(b"abc") == 3
    await wire.send_all(b"de")
    assert (wire.sent, theirs.recv(10)) == (5, b"abcde")


async def test_a_full_socket_takes_nothing_more(ends: tuple[Wire, socket.socket]) -> None:
    wire, theirs = ends
    while wire.send_now(b"x" * 65536):
        pass
    with trio.move_on_after(0) as scope:
        await wire.wait_send_all_might_not_block()
    assert scope.cancelled_caught
    theirs.setblocking(False)
    while True:
        try:
            theirs.recv(1 << 20)
        except BlockingIOError:
            break
    await wire.wait_send_all_might_not_block()


async def test_a_wire_sees_what_waits_to_be_read(ends: tuple[Wire, socket.socket]) -> None:
    wire, theirs = ends
    with wire.without_waiting(), pytest.raises(trio.WouldBlock):
        await wire.receive_some()
    theirs.send(b"abc")
    assert await wire.receive_some(2) == b"ab"
    with wire.without_waiting():
        assert await wire.receive_some() == b"c"
    theirs.close()
    assert await wire.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        wire.send_now(b"x")


async def test_closing_wakes_who_waits_and_may_be_repeated(ends: tuple[Wire, socket.socket]) -> None:
    wire, _ = ends

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await wire.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await wire.aclose()
        wire.close()
    await read()
    with pytest.raises(trio.ClosedResourceError):
        wire.send_now(b"x")
