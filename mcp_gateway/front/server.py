"""The HTTP server: sockets, the accept loop, and how it ends.

Owns binding, accepting, the bound on connections and the two steps of the end:
stop accepting at once, then wait for what runs. Deliberately no paths and no
protocol: ``Connection`` and the ASGI app have them; and no decision when to
drain: the caller's ``shutdown_trigger`` has it (design 3.4, phase 2).
Invariant: one connection's failure is never another's, and ``serve_asgi`` ends
at most ``graceful_timeout_s`` after the trigger, whatever the clients do.

Hypercorn's own ``worker_serve`` is not used: there one failing connection ends the
server, connections have no bound, and a client that does not read stops the exit.
"""

import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import attrs
import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework
from hypercorn.utils import wrap_app

from mcp_gateway.front.admission import Admission
from mcp_gateway.front.connection import DEFAULT_TIMINGS, Connection, Timings
from mcp_gateway.front.origin import is_loopback

logger = logging.getLogger(__name__)

HEAD_BYTES: Final = 32 * 1024
"""The largest request head; above it 431. Room for a bearer token (8 KiB), cookies and Mcp-Param headers."""
_BACKLOG: Final = 1024
_KEEP_ALIVE_REQUESTS: Final = 100_000
_APP_QUEUE: Final = 10
_REFUSERS: Final = 64
_REFUSE_S: Final = 1.0
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 38\r\n\r\nthe gateway has too many connections.\n"
)

ServeStream: TypeAlias = Callable[["Connections", trio.SocketStream], Awaitable[None]]
"""Serves one accepted stream until it is closed; raises nothing that is expected."""


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
    Blocks for a name's look-up; for use before the event loop has work.

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
        for family, kind, proto, _, where in dict.fromkeys(found):
            target = (where[0], sockets[0].getsockname()[1] if sockets else port, *where[2:])
            sockets.append(_listen(socket.socket(family, kind, proto), target, host, reuse_port=reuse_port))
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
class Connections:
    """The open connections of one server; ``context.terminated`` tells them to end after their request."""

    config: Config
    timings: Timings
    context: WorkerContext = attrs.field(factory=lambda: WorkerContext(None))
    _open: set[trio.SocketStream] = attrs.field(factory=set)
    _empty: trio.Event = attrs.field(factory=trio.Event)
    refusing: int = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, stream: trio.SocketStream) -> None:
        """One more."""
        self._open.add(stream)

    def discard(self, stream: trio.SocketStream) -> None:
        """One less; wakes whoever waits for none."""
        self._open.discard(stream)
        if not self._open:
            self._empty.set()
            self._empty = trio.Event()

    async def wait_empty(self) -> None:
        """Wait until no connection is open."""
        while self._open:
            await self._empty.wait()

    def cut(self) -> None:
        """Close every socket at once; a send that waits in a shield ends too."""
        for stream in self._open:
            stream.socket.close()


def _config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")  # into our queue, not to stderr from the event loop
    config.include_server_header = False
    config.h11_max_incomplete_size = HEAD_BYTES
    config.h2_max_header_list_size = HEAD_BYTES
    config.keep_alive_max_requests = _KEEP_ALIVE_REQUESTS
    config.max_app_queue_size = _APP_QUEUE
    return config


def hypercorn_stream(app: ASGIFramework) -> ServeStream:
    """Serve a stream with Hypercorn's HTTP/1.1 and HTTP/2 and ``app``."""
    wrapped = wrap_app(app, 0, "asgi")

    async def serve(connections: Connections, stream: trio.SocketStream) -> None:
        await Connection(wrapped, connections.config, connections.context, stream, connections.timings).run()

    return serve


async def serve_asgi(
    app: ASGIFramework,
    *,
    sockets: Sequence[socket.socket],
    shutdown_trigger: Callable[[], Awaitable[object]],
    graceful_timeout_s: float,
    admission: Admission | None = None,
    timings: Timings = DEFAULT_TIMINGS,
    serve_stream: ServeStream | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``shutdown_trigger`` returns and the last connection is closed.

    When the trigger returns: the listeners close at once, idle connections too, running requests go on and their
    connections close after the answer. After ``graceful_timeout_s`` the rest is cut and cancelled. Cancelling this
    function cuts everything at once.

    Args:
        app: the ASGI app for everything that ``serve_stream`` does not serve itself; gets no lifespan events.
        sockets: from ``bind``; closed by this function.
        admission: bounds the open connections; a connection too many gets a 503 with Retry-After.
        serve_stream: how to serve one stream; by default Hypercorn with ``app``.
        task_status: gives the addresses once connections are accepted.
    """
    connections = Connections(config=_config(), timings=timings)
    serve = partial(
        _serve_one,
        connections,
        admission or Admission(bound=2**31),
        serve_stream or hypercorn_stream(app),
    )
    listeners = [trio.SocketListener(_bounded(sock, timings)) for sock in sockets]
    where = addresses(sockets)
    async with trio.open_nursery() as nursery:
        try:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(
                    partial(trio.serve_listeners, serve, listeners, handler_nursery=nursery), name=f"accept:{where}"
                )
                task_status.started(where)
                await shutdown_trigger()
                accepting.cancel_scope.cancel("the listeners close")
            await connections.context.terminated.set()
            with trio.move_on_after(graceful_timeout_s):
                await connections.wait_empty()
        finally:
            connections.cut()
            nursery.cancel_scope.cancel("the server has ended")


def _bounded(sock: socket.socket, timings: Timings) -> trio.socket.SocketType:
    """A Trio socket whose connections the kernel drops when the peer acknowledges nothing (inherited on Linux)."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timings.send_stall_s * 1000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return trio.socket.from_stdlib_socket(sock)


async def _serve_one(
    connections: Connections, admission: Admission, serve: ServeStream, stream: trio.SocketStream
) -> None:
    if not admission.enter():
        await _refuse(connections, stream)
        return
    connections.add(stream)
    try:
        await serve(connections, stream)
    except* Exception:
        # The supervised border of one connection: a peer that trips the HTTP library must not end the server.
        logger.exception("connection failed")
    finally:
        connections.discard(stream)
        admission.leave()


async def _refuse(connections: Connections, stream: trio.SocketStream) -> None:
    """Say 503 and let the client read it, if not too many are being told already."""
    if connections.refusing >= _REFUSERS:
        return
    connections.refusing += 1
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
        connections.refusing -= 1
