"""Clients that leave are seen by one task, whichever way the system has."""

import socket
import sys

import pytest
import trio

from mcp_gateway.front.http1.hang_ups import EpollHangUps, HangUps, PolledHangUps, hang_ups

KINDS = [pytest.param(EpollHangUps, id="epoll"), pytest.param(lambda: PolledHangUps(0.01), id="polled")]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> HangUps:
    made: HangUps = request.param()
    return made


async def test_each_client_that_leaves_is_told_of_and_no_other(kind: HangUps, nursery: trio.Nursery) -> None:
    pairs = [socket.socketpair() for _ in range(4)]
    left: list[int] = []
    for number, (ours, _) in enumerate(pairs):
        ours.setblocking(False)
        kind.watch(ours, lambda number=number: left.append(number))  # type: ignore[misc]  # bound now
    nursery.start_soon(kind.run)
    await trio.sleep(0.02)
    assert left == []
    pairs[1][1].close()
    pairs[2][1].shutdown(socket.SHUT_WR)
    kind.forget(pairs[3][0])
    kind.forget(pairs[3][0])
    pairs[3][1].close()
    with trio.fail_after(2):
        while set(left) != {1, 2}:  # noqa: ASYNC110  # told by a callback
            await trio.sleep(0.01)
    for ours, theirs in pairs:
        kind.forget(ours)
        ours.close()
        theirs.close()


async def test_one_that_is_told_may_forget_another_that_has_left_too(kind: HangUps, nursery: trio.Nursery) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    left: list[int] = []

    def told(number: int) -> None:
        left.append(number)
        for ours, _ in pairs:
            kind.forget(ours)

    for number, (ours, theirs) in enumerate(pairs):
        ours.setblocking(False)
        kind.watch(ours, lambda number=number: told(number))  # type: ignore[misc]  # bound now
        theirs.close()
    nursery.start_soon(kind.run)
    await trio.sleep(0.1)
    assert len(left) == 1
    for ours, _ in pairs:
        ours.close()


@pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")
async def test_epoll_sees_behind_what_nobody_has_read(nursery: trio.Nursery) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    kind, gone = EpollHangUps(), trio.Event()
    kind.watch(ours, gone.set)
    nursery.start_soon(kind.run)
    theirs.send(b"x" * 1000)
    theirs.close()
    with trio.fail_after(2):
        await gone.wait()
    assert ours.recv(2000) == b"x" * 1000
    kind.forget(ours)
    ours.close()
    assert isinstance(hang_ups(), EpollHangUps)
