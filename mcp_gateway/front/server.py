"""A server: sockets, the accept loop, and how it ends.

Owns binding, accepting, the bound on connections and the two steps of the end:
stop accepting at once, then wait for what runs. Deliberately no paths and no
protocol: a ``Listener`` has them; and no decision when to drain: the caller's
``shutdown_trigger`` has it (docs/operations.md).
Invariant: one connection's failure is never another's, and ``serve`` ends
at most ``graceful_timeout_s`` after the trigger, whatever the clients do.
"""

import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import attrs
import trio

from mcp_gateway.front.admission import Admission
from mcp_gateway.gateway.origin import is_loopback

logger = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_REFUSERS: Final = 64
_REFUSE_S: Final = 1.0
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 38\r\n\r\nthe gateway has too many connections.\n"
)

SEND_STALL_S: Final = 30.0
"""The longest that a client may take nothing while there is something to send; it is then treated as gone."""


class Connection(Protocol):
    """One accepted connection."""

    async def run(self) -> None:
        """Serve it until it is closed; raises nothing that is expected."""
        ...

    def drain(self) -> None:
        """End after the answer that is under way; at once if there is none."""
        ...

    def cut(self) -> None:
        """Close the socket at once; a send that waits in a shield ends too."""
        ...


ConnectionT = TypeVar("ConnectionT", bound=Connection)


class Listener(Protocol[ConnectionT]):
    """What is spoken on the connections of one server."""

    def accept(self, stream: trio.SocketStream) -> ConnectionT:
        """Take over an accepted stream."""
        ...

    async def watch(self, connections: Collection[ConnectionT]) -> None:
        """Look after the open connections, until cancelled."""
        ...


@attrs.frozen(kw_only=True, eq=False)
class BindError(Exception):
    """An address that cannot be listened on; ``str()`` is one line for people."""

    address: str
    why: str

    def __str__(self) -> str:
        return f"cannot listen on {self.address}: {self.why}"


def bind(address: str, *, reuse_port: bool = False) -> list[socket.socket]:
    """Listening sockets for ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT`` (every address).

    A name is bound on each of its addresses. Port 0 takes a free one, the same for all. ``[::]`` takes IPv4 too.
    ``:PORT`` leaves out a family that this machine does not have. Blocks for a name's look-up; for use before the event
    loop has work.

    Args:
        reuse_port: let other processes listen on the same port (``--workers``).
    Raises:
        BindError: not an address, unknown name, in use, not permitted.
    """
    host, port = _split(address)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as exc:
        raise BindError(address=address, why=exc.strerror or str(exc)) from exc
    sockets: list[socket.socket] = []
    try:
        missing: OSError | None = None
        for family, kind, proto, _, where in dict.fromkeys(found):
            target = (where[0], sockets[0].getsockname()[1] if sockets else port, *where[2:])
            try:
                sockets.append(_listen(socket.socket(family, kind, proto), target, host, reuse_port=reuse_port))
            except OSError as exc:
                if host or exc.errno != errno.EAFNOSUPPORT:  # a kernel without IPv6 still gives its addresses
                    raise
                missing = exc
        if missing is not None and not sockets:
            raise missing
    except OSError as exc:
        for each in sockets:
            each.close()
        why = "the address is in use" if exc.errno == errno.EADDRINUSE else os.strerror(exc.errno or 0)
        raise BindError(address=address, why=why) from exc
    return sockets


def _split(address: str) -> tuple[str, int]:
    host, colon, digits = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    usable = colon and digits.isascii() and digits.isdigit() and int(digits) <= 65535
    if not usable or (":" in host and not bracketed):
        raise BindError(address=address, why="expected HOST:PORT, [IPV6]:PORT or :PORT")
    return host[1:-1] if bracketed else host, int(digits)


def _listen(sock: socket.socket, target: tuple[object, ...], host: str, *, reuse_port: bool) -> socket.socket:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        sock.setblocking(False)
        sock.bind(target)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def addresses(sockets: Sequence[socket.socket]) -> list[str]:
    """``HOST:PORT`` of each socket, as it can be dialled."""
    names = [sock.getsockname() for sock in sockets]
    return [f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}" for name in names]


def is_loopback_bind(sockets: Sequence[socket.socket]) -> bool:
    """Whether only this machine can reach the sockets."""
    return all(is_loopback(sock.getsockname()[0]) for sock in sockets)


@attrs.define(eq=False)
class _Open(Generic[ConnectionT]):
    """The open connections of one server."""

    connections: set[ConnectionT] = attrs.field(factory=set)
    refusing: int = 0
    draining: bool = False
    _empty: trio.Event = attrs.field(factory=trio.Event)

    def discard(self, connection: ConnectionT) -> None:
        """One less; wakes whoever waits for none."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()
            self._empty = trio.Event()

    async def wait_empty(self) -> None:
        """Wait until no connection is open."""
        while self.connections:
            await self._empty.wait()


async def serve(
    listener: Listener[ConnectionT],
    *,
    sockets: Sequence[socket.socket],
    shutdown_trigger: Callable[[], Awaitable[object]],
    graceful_timeout_s: float,
    admission: Admission | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``shutdown_trigger`` returns and the last connection is closed.

    When the trigger returns: the listeners close at once, idle connections too, running requests go on and their
    connections close after the answer. After ``graceful_timeout_s`` the rest is cut and cancelled. Cancelling this
    function cuts everything at once.

    Args:
        listener: what is spoken.
        sockets: from ``bind``; closed by this function.
        admission: bounds the open connections; a connection too many gets a 503 with Retry-After.
        task_status: gives the addresses once connections are accepted.
    """
    there: _Open[ConnectionT] = _Open()
    handle = partial(_serve_one, there, admission or Admission(bound=2**31), listener)
    listeners = [trio.SocketListener(_bounded(sock)) for sock in sockets]
    where = addresses(sockets)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.watch, there.connections, name=f"watch:{where}")
        try:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(
                    partial(trio.serve_listeners, handle, listeners, handler_nursery=nursery), name=f"accept:{where}"
                )
                task_status.started(where)
                await shutdown_trigger()
                accepting.cancel_scope.cancel("the listeners close")
            there.draining = True
            for connection in list(there.connections):
                connection.drain()
            with trio.move_on_after(graceful_timeout_s):
                await there.wait_empty()
        finally:
            for connection in list(there.connections):
                connection.cut()
            nursery.cancel_scope.cancel("the server has ended")


def _bounded(sock: socket.socket) -> trio.socket.SocketType:
    """A Trio socket whose connections the kernel drops when the peer acknowledges nothing (inherited on Linux)."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SEND_STALL_S * 1000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return trio.socket.from_stdlib_socket(sock)


async def _serve_one(
    there: _Open[ConnectionT], admission: Admission, listener: Listener[ConnectionT], stream: trio.SocketStream
) -> None:
    if not admission.enter():
        await _refuse(there, stream)
        return
    try:
        connection = listener.accept(stream)
        there.connections.add(connection)
        try:
            if there.draining:  # accepted in the same moment
                connection.drain()
            await connection.run()
        finally:
            there.discard(connection)
    except* Exception:
        # The supervised border of one connection: a peer that trips a library must not end the server.
        logger.exception("connection failed")
    finally:
        admission.leave()


async def _refuse(there: _Open[ConnectionT], stream: trio.SocketStream) -> None:
    """Say 503 and let the client read it, if not too many are being told already."""
    if there.refusing >= _REFUSERS:
        return
    there.refusing += 1
    try:
        with trio.move_on_after(_REFUSE_S):
            await stream.send_all(_FULL)
            await stream.send_eof()
            # Closing with unread input resets the connection, and the answer would be lost.
            while await stream.receive_some():
                pass
    except trio.BrokenResourceError:
        pass
    finally:
        there.refusing -= 1
