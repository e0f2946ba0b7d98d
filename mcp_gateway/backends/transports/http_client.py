"""A pool of keep-alive HTTP/1.1 connections to one backend.

Owns the connections and the places for control messages and streams. Deliberately
knows no MCP, no retry of requests, no deadline but the dial's (the caller owns the
scope), and no bound for calls: ``backend`` has it.
Invariant: who has released a request has left its place, and its connection is
either kept (answer complete, or an event stream about to end) or closed, without
waiting; a kept one is used again only after a look at its socket.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import attrs
import trio

from mcp_gateway.backends.observer import SILENT, Observer
from mcp_gateway.backends.transports.dial import Dialler
from mcp_gateway.backends.transports.http_connection import HttpConnection
from mcp_gateway.backends.transports.limiter import Limiter
from mcp_gateway.backends.transports.origin import Origin, name_url, read_origin, render_headers
from mcp_gateway.backends.transports.pipelining import Pipelining
from mcp_gateway.config.spec import HttpTarget
from mcp_gateway.errors import BackendGone, BackendProtocol, Executed
from mcp_gateway.values import BackendKey, Header

logger = logging.getLogger(__name__)

CONTROL_PLACES: Final = 4
"""Connections for control messages, outside ``concurrency`` (docs/architecture.md)."""
STREAM_PLACES: Final = 1000
"""Listen streams, one per upstream session at most (``limits.upstreamSessions``)."""
IDLE_S: Final = 4.0
"""Node and uvicorn close an idle connection after 5 s (docs/architecture.md)."""
KEEP_ALIVE_MARGIN_S: Final = 1.0
ENDING_MAX: Final = 8
"""Connections kept whose event stream's answer was read, but not yet its end."""
SWEEP_MAX: Final = 2
"""Expired connections closed per request; ``sweep`` closes all."""

Headers: TypeAlias = Sequence[Header] | bytes
"""A list, or lines rendered before by ``render_headers``."""
Body: TypeAlias = bytes | Callable[[], bytes]
"""The bytes, or a function that makes them: called once, when a connection is in hand."""


@attrs.define(kw_only=True, eq=False)
class HttpRequest:
    """One request on its way: what is sent, and the place and the connection that it holds until it is released."""

    head: bytes = attrs.field(default=b"", repr=False)
    """As ``HttpPool.head`` makes it."""
    content: Body = attrs.field(default=b"", repr=False)
    places: Limiter | None = None
    """Where it takes a place."""
    placed: bool = False
    connection: HttpConnection | None = None

    def body(self) -> bytes:
        """The body; called once, when a connection is in hand."""
        return self.content if isinstance(self.content, bytes) else self.content()


@attrs.define(kw_only=True, eq=False)
class HttpPool:
    """All HTTP of one backend.

    Counters: ``open`` connections, of them ``idle``; ``dials`` so far; ``waiting``
    for a place; ``control_in_flight``, ``streams_in_flight``.
    """

    key: BackendKey
    target: HttpTarget
    connect_s: float
    streams: int = STREAM_PLACES
    observer: Observer = SILENT
    dials: int = attrs.field(init=False, default=0)
    origin: Origin = attrs.field(init=False, repr=False)
    """Where requests go that name no path; replaced when a redirect was followed."""
    _dialler: Dialler = attrs.field(init=False, repr=False)
    _starts: dict[bytes, bytes] = attrs.field(init=False, factory=dict, repr=False)
    _control: Limiter = attrs.field(init=False)
    _streams: Limiter = attrs.field(init=False)
    _pipelining: Pipelining = attrs.field(init=False, repr=False)
    _open: set[HttpConnection] = attrs.field(init=False, factory=set, repr=False)
    _idle: deque[HttpConnection] = attrs.field(init=False, factory=deque, repr=False)
    _ending: deque[HttpConnection] = attrs.field(init=False, factory=deque, repr=False)
    _closed: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.origin = read_origin(self.target)
        self._dialler = Dialler(
            key=self.key,
            origin=self.origin,
            tls=self.target.tls,
            connect_s=self.connect_s,
            routable_only=self.target.routable_only,
        )
        self._control = Limiter(limit=CONTROL_PLACES)
        self._streams = Limiter(limit=self.streams)
        self._pipelining = Pipelining(
            places=self._control,
            take=lambda fresh: self.take(fresh=fresh),
            put=self.put,
        )

    @property
    def open(self) -> int:
        """Connections, busy and idle."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """Connections that wait for their next request, or for the end."""
        return len(self._idle) + len(self._ending)

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return self._control.waiting + self._streams.waiting

    @property
    def control_in_flight(self) -> int:
        """Requests of the gateway's own that have a place."""
        return self._control.taken

    @property
    def streams_in_flight(self) -> int:
        """Event streams that have a place."""
        return self._streams.taken

    @asynccontextmanager
    async def request(
        self,
        method: bytes,
        headers: Headers,
        body: Body = b"",
        *,
        control: bool = False,
        stream: bool = False,
        path: bytes | None = None,
        follow: bool = False,
    ) -> AsyncIterator[HttpConnection]:
        """One request, as a context which gives the connection with the response's head.

        Args:
            headers: those of this request; Host, length and the configured ones are added.
            control: use one of the four control places.
            stream: a listen stream, which holds its place for long.
            path: the request target; None: that of the url.
            follow: go along with a redirect (307, 308) that changes nothing but the slash at the end of the url's path,
                once, and use that url from now on; of any other, tell where it leads. For discovery: what clients are
                told of a failed call names no hosts.
        Raises (on entering):
            BackendTimeout: the dial took ``connect_s``.
            BackendGone: not connected (executed NO), or lost before the response's head (UNKNOWN).
            BackendProtocol: a redirect, a content coding, bytes that are not HTTP.
        """
        lines = headers if isinstance(headers, bytes) else render_headers(headers)
        places = self.places(control=control, stream=stream)
        request = HttpRequest(head=self.head(method, lines, path), content=body, places=places)
        try:
            connection = await self.ask(request)
            if follow and self._follow(connection):
                self.release(request)
                request.head = self.head(method, lines, path)
                connection = await self.ask(request)
            self.check(connection, self.origin if follow else None)
            yield connection
        finally:
            self.release(request)

    def places(self, *, control: bool, stream: bool) -> Limiter | None:
        """Where a request takes a place that is no call."""
        return self._streams if stream else self._control if control else None

    async def ask(self, request: HttpRequest) -> HttpConnection:
        """Send a request, and give the connection with the response's head; to be followed by ``release``, always.

        It goes once more if a kept connection turned out dead before the first byte was written. Errors as ``request``,
        but what the head says is not looked at (``check``).
        """
        if request.places is not None:
            await request.places.enter()
            request.placed = True
        connection = self._take_now() or await self.take(fresh=False)
        request.connection = connection
        message = _whole(request.head, request.body())
        try:
            await connection.ask(message)
        except BackendGone:
            if not (connection.reused and connection.nothing_left):
                raise
            self._drop(connection)
            connection = request.connection = await self.take(fresh=True)
            await connection.ask(message)
        return connection

    def leave(self, request: HttpRequest) -> None:
        """Give the place of a request back."""
        if request.placed and request.places is not None:
            request.placed = False
            request.places.leave()

    def release(self, request: HttpRequest) -> None:
        """Give back what a request holds: idempotent, never waits."""
        self.leave(request)
        connection, request.connection = request.connection, None
        if connection is not None:
            self.put(connection)

    def check(self, connection: HttpConnection, origin: Origin | None = None) -> None:
        """Refuse what no backend may answer.

        Args:
            origin: of the request, to tell where a redirect leads; None: that is not told.
        Raises:
            BackendProtocol: a redirect or a content coding.
        """
        if 300 <= connection.status < 400:
            url = origin.joined(connection.headers.get(b"location", b"")) if origin is not None else None
            fault = self._redirected(connection.status, f" to {name_url(url)}" if url is not None else "")
        elif connection.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            fault = BackendProtocol(backend=self.key, why="a content coding that was not asked for")
        else:
            return
        connection.close()
        raise fault

    def _redirected(self, status: int, to: str = "") -> BackendProtocol:
        why = f"a redirect{to} (HTTP {status}), which is not followed"
        return BackendProtocol(backend=self.key, why=why, status=status)

    async def tell(self, headers: bytes, body: bytes, *, path: bytes | None = None) -> int:
        """POST a notice, which may come twice, on a control connection, with others if many wait; return the status.

        Raises:
            BackendTimeout, BackendGone, BackendProtocol: as ``request``.
        """
        status = await self._pipelining.tell(_whole(self.head(b"POST", headers, path), body))
        if 300 <= status < 400:
            raise self._redirected(status)
        return status

    def _follow(self, response: HttpConnection) -> bool:
        """Move to where a redirect leads, if that is the same url but for its last slash; whether it was."""
        status, location = response.status, response.headers.get(b"location", b"")
        path = self.origin.slash_twin(location) if status in (307, 308) else None
        if path is None:
            return False
        self.origin = attrs.evolve(self.origin, path=path)
        self._starts.clear()
        logger.info("redirect followed: the url's last slash", extra={"backend": self.key, "status": status})
        return True

    def sweep(self) -> None:
        """Close idle connections whose time is over or whose peer has closed. Plain, bounded by the pool's size.

        Called from time to time by whoever owns the pool, so that a quiet backend keeps no dead sockets.
        """
        now = trio.current_time()
        for kept in (self._idle, self._ending):
            for connection in tuple(kept):
                if connection.idle_until <= now or (kept is self._idle and not connection.quiet()):
                    kept.remove(connection)
                    self._drop(connection)

    async def aclose(self) -> None:
        """Close every connection, those in use too; requests that wait or come later get BackendGone. Idempotent."""
        self._closed = True
        self._idle.clear()
        self._ending.clear()
        for connection in tuple(self._open):
            self._drop(connection)
        for places in (self._control, self._streams):
            places.close()
        await trio.lowlevel.checkpoint()

    def head(self, method: bytes, headers: bytes, path: bytes | None = None) -> bytes:
        """The head of a request with these header lines, without the length of the body, which ends it."""
        if path is not None:
            return self.origin.request_start(method, path) + headers
        start = self._starts.get(method)
        if start is None:
            start = self._starts[method] = self.origin.request_start(method, None)
        return start + headers

    def _take_now(self) -> HttpConnection | None:
        """The newest kept connection, if it is idle and fit by a mere look."""
        if self._idle:
            connection = self._idle.pop()
            if connection.idle_until > trio.current_time() and connection.fit_now():
                connection.reused = True
                return connection
            self._idle.append(connection)  # ``take`` looks closer
        return None

    async def take(self, *, fresh: bool) -> HttpConnection:
        """The newest kept connection that is fit, or a new one. Whoever takes it gives it back with ``put``."""
        self._refuse_if_closed()
        if not fresh:
            connection = await self._take_kept()
            if connection is not None:
                connection.reused = True
                return connection
        self.dials += 1
        dialled = await self._dialler.dial()
        connection = HttpConnection(key=self.key, dialled=dialled, lost_in_reuse=self._lost_in_reuse)
        self._open.add(connection)
        self._refuse_if_closed(connection)
        return connection

    def put(self, connection: HttpConnection) -> None:
        """Take a connection back: keep it if it can be used again, else close it. Never waits."""
        now = trio.current_time()
        # The peer's time begins when its answer has ended, which is now or later.
        connection.idle_until = now + _idle_s(connection.headers.get(b"keep-alive"))
        if self._closed or connection.closed:
            self._drop(connection)
        elif connection.reusable:
            self._idle.append(connection)
        elif connection.ending and connection.parser.may_be_reused:
            self._ending.append(connection)
            if len(self._ending) > ENDING_MAX:
                self._drop(self._ending.popleft())
        else:
            self._drop(connection)
        self._sweep_some(now)

    def _refuse_if_closed(self, dialled: HttpConnection | None = None) -> None:
        if self._closed:
            if dialled is not None:
                self._drop(dialled)
            raise BackendGone(backend=self.key, executed=Executed.NO, why="the gateway has closed its connections")

    async def _take_kept(self) -> HttpConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if await self._fit(connection):
                return connection
        for _ in range(len(self._ending)):
            if not self._ending:  # another task was quicker, or the pool was closed
                break
            connection = self._ending.pop()
            fit = await self._fit(connection)
            if fit:
                return connection
            if fit is None:
                self._ending.appendleft(connection)
        return None

    async def _fit(self, connection: HttpConnection) -> bool | None:
        """The one gate before a connection is used again: as ``HttpConnection.fit``, and closed if it never will be."""
        fit: bool | None = False
        try:
            if connection.idle_until > trio.current_time():
                fit = await connection.fit()
        finally:
            if fit is False:
                self._drop(connection)
        return fit

    def _lost_in_reuse(self) -> None:
        self.observer.kept_connection_lost(self.key)

    def _sweep_some(self, now: float) -> None:
        for kept in (self._idle, self._ending):
            for _ in range(SWEEP_MAX):
                if not kept or kept[0].idle_until > now:
                    break
                self._drop(kept.popleft())

    def _drop(self, connection: HttpConnection) -> None:
        connection.close()
        self._open.discard(connection)


def _whole(head: bytes, body: bytes) -> bytes:
    """A request's bytes."""
    if not body and not head.startswith(b"POST"):
        return head + b"\r\n"
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


def _idle_s(keep_alive: bytes | None) -> float:
    """How long a connection may lie idle, by the peer's ``Keep-Alive: timeout=5, max=100``."""
    if keep_alive is None:
        return IDLE_S
    for part in keep_alive.lower().split(b","):
        name, _, value = part.strip().partition(b"=")
        if name.strip() == b"timeout" and value.strip().isdigit() and len(value) < 10:
            return min(IDLE_S, int(value) - KEEP_ALIVE_MARGIN_S)
    return IDLE_S
