"""A pool of keep-alive HTTP/1.1 connections to one backend.

Owns the connections and the places for calls, control messages and streams.
Deliberately knows no MCP, no retry of requests and no deadline but the dial's:
the caller owns the scope.
Invariant: whatever way a request ends, its place is free and its connection is
either kept (answer complete, or an event stream about to end) or closed, without
waiting; a kept one is used again only as ``take`` has looked at its socket.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, TypeAlias

import attrs
import trio

from mcp_gateway.backends.observer import SILENT, Observer
from mcp_gateway.backends.transports.dial import Dialler
from mcp_gateway.backends.transports.http_connection import HttpConnection
from mcp_gateway.backends.transports.http_response import HttpResponse, refuse_redirect
from mcp_gateway.backends.transports.origin import Origin, read_origin, render_headers
from mcp_gateway.backends.transports.pipelining import Pipelining
from mcp_gateway.backends.transports.places import Places
from mcp_gateway.config.spec import HttpTarget
from mcp_gateway.errors import BackendGone, Executed
from mcp_gateway.values import BackendKey, Header

logger = logging.getLogger(__name__)

CONTROL_PLACES: Final = 4
"""Connections for control messages, outside ``concurrency`` (design section 8)."""
STREAM_PLACES: Final = 1000
"""Listen streams, one per upstream session at most (``limits.upstreamSessions``)."""
IDLE_S: Final = 4.0
"""Node and uvicorn close an idle connection after 5 s (design section 7)."""
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
class HttpPool:
    """All HTTP of one backend.

    Counters: ``open`` connections, of them ``idle``; ``dials`` so far; ``waiting``
    for a place; ``in_flight`` calls, ``control_in_flight``, ``streams_in_flight``.
    """

    key: BackendKey
    target: HttpTarget
    concurrency: int
    connect_s: float
    streams: int = STREAM_PLACES
    observer: Observer = SILENT
    dials: int = attrs.field(init=False, default=0)
    _origin: Origin = attrs.field(init=False, repr=False)
    _dialler: Dialler = attrs.field(init=False, repr=False)
    _starts: dict[bytes, bytes] = attrs.field(init=False, factory=dict, repr=False)
    _calls: Places = attrs.field(init=False)
    _control: Places = attrs.field(init=False)
    _streams: Places = attrs.field(init=False)
    _pipelining: Pipelining = attrs.field(init=False, repr=False)
    _open: set[HttpConnection] = attrs.field(init=False, factory=set, repr=False)
    _idle: deque[HttpConnection] = attrs.field(init=False, factory=deque, repr=False)
    _ending: deque[HttpConnection] = attrs.field(init=False, factory=deque, repr=False)
    _closed: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._origin = read_origin(self.target)
        self._dialler = Dialler(
            key=self.key,
            origin=self._origin,
            tls=self.target.tls,
            connect_s=self.connect_s,
            routable_only=self.target.routable_only,
        )
        self._calls = Places(limit=self.concurrency)
        self._control = Places(limit=CONTROL_PLACES)
        self._streams = Places(limit=self.streams)
        self._pipelining = Pipelining(
            places=self._control,
            take=lambda fresh: self.take(fresh=fresh),
            put=lambda connection: self.put(connection, ending=False),
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
        return self._calls.waiting + self._control.waiting + self._streams.waiting

    @property
    def in_flight(self) -> int:
        """Calls that have a place."""
        return self._calls.taken

    @property
    def control_in_flight(self) -> int:
        """Requests of the gateway's own that have a place."""
        return self._control.taken

    @property
    def streams_in_flight(self) -> int:
        """Event streams that have a place."""
        return self._streams.taken

    def request(
        self,
        method: bytes,
        headers: Headers,
        body: Body = b"",
        *,
        control: bool = False,
        stream: bool = False,
        path: bytes | None = None,
        parting: list[HttpConnection] | None = None,
        follow: bool = False,
    ) -> "HttpRequest":
        """One request, as a context: ``async with pool.request(...) as response``.

        Args:
            headers: those of this request; Host, length and the configured ones are added.
            control: use one of the four control places.
            stream: a listen stream, or the wait for a task, which hold their places for long: outside both bounds.
            path: the request target; None: that of the url.
            parting: where a connection goes that is left before its answer is complete, still open, for whoever
                has something to say first and then calls ``part``; None: it is closed at once.
            follow: go along with a redirect (307, 308) that changes nothing but the slash at the end of the url's path,
                once, and use that url from now on; of any other, tell where it leads. For discovery: what clients are
                told of a failed call names no hosts.
        Raises (on entering):
            BackendTimeout: the dial took ``connect_s``.
            BackendGone: not connected (executed NO), or lost before the response's head (UNKNOWN).
            BackendProtocol: a redirect, a content coding, bytes that are not HTTP.
        """
        places = self._streams if stream else self._control if control else self._calls
        return HttpRequest(self, places, method, headers, body, path, parting, follow)

    async def tell(self, headers: bytes, body: bytes, *, path: bytes | None = None) -> int:
        """POST a notice, which may come twice, on a control connection, with others if many wait; return the status.

        Raises:
            BackendTimeout, BackendGone, BackendProtocol: as ``request``.
        """
        status = await self._pipelining.tell(self.render(b"POST", path, headers, body))
        refuse_redirect(self.key, status)
        return status

    @property
    def origin(self) -> Origin:
        """Where requests go that name no path."""
        return self._origin

    def follow(self, response: HttpResponse) -> bool:
        """Move to where a redirect leads, if that is the same url but for its last slash; whether it was."""
        path = self._origin.slash_twin(response.location) if response.status in (307, 308) else None
        if path is None:
            return False
        self._origin = attrs.evolve(self._origin, path=path)
        self._starts.clear()
        logger.info("redirect followed: the url's last slash", extra={"backend": self.key, "status": response.status})
        return True

    def part(self, parting: list[HttpConnection]) -> None:
        """Close connections whose requests were left early."""
        while parting:
            self._drop(parting.pop())

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
        for places in (self._calls, self._control, self._streams):
            places.close()
        await trio.lowlevel.checkpoint()

    def render(self, method: bytes, path: bytes | None, headers: bytes, body: bytes) -> bytes:
        """The bytes of a request."""
        start = self._head(method, path)
        if not body and method != b"POST":
            return b"%b%b\r\n" % (start, headers)
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (start, headers, len(body), body)

    def _head(self, method: bytes, path: bytes | None) -> bytes:
        """The part of a request's head that is the same for all requests; rendered once per method."""
        if path is not None:
            return self._origin.request_start(method, path)
        start = self._starts.get(method)
        if start is None:
            start = self._starts[method] = self._origin.request_start(method, None)
        return start

    async def take(self, *, fresh: bool) -> HttpConnection:
        """The newest kept connection that is fit, or a new one. The caller holds a place, and gives both back."""
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

    def put(self, connection: HttpConnection, *, ending: bool) -> None:
        """Take a connection back: keep it if it can be used again, else close it. Never waits."""
        now = trio.current_time()
        # The peer's time begins when its answer has ended, which is now or later.
        connection.idle_until = now + _idle_s(connection.parser.headers.get(b"keep-alive"))
        if self._closed or connection.closed:
            self._drop(connection)
        elif connection.reusable:
            self._idle.append(connection)
        elif ending and connection.parser.may_be_reused:
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


class HttpRequest:
    """One request on its way: takes a place and a connection on entry, gives both back on exit."""

    __slots__ = ("_body", "_follow", "_headers", "_method", "_parting", "_path", "_places", "_pool", "_response")

    def __init__(
        self,
        pool: HttpPool,
        places: Places,
        method: bytes,
        headers: Headers,
        body: Body,
        path: bytes | None,
        parting: list[HttpConnection] | None,
        follow: bool,
    ) -> None:
        self._pool = pool
        self._places = places
        self._method = method
        self._headers = headers
        self._body = body
        self._path = path
        self._parting = parting
        self._follow = follow
        self._response: HttpResponse | None = None

    async def __aenter__(self) -> HttpResponse:
        await self._places.enter()
        try:
            self._response = await self._converse()
            return self._response
        finally:
            if self._response is None:
                self._places.leave()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        response = self._response
        if response is not None:
            if kind is trio.Cancelled and self._parting is not None:
                self._parting.append(response.connection)
            else:
                self._pool.put(response.connection, ending=response.ending and kind is None)
            self._places.leave()

    async def _converse(self) -> HttpResponse:
        """Send, once more if a kept connection turned out dead before the first byte was written, or to follow."""
        request: bytes | None = None
        fresh = followed = False
        while True:
            connection = await self._pool.take(fresh=fresh)
            asked = failed = False
            try:
                if request is None:
                    request = self._render()
                await connection.ask(request)
                response = HttpResponse(self._pool.key, connection)
                if self._follow and not followed and self._pool.follow(response):
                    followed, request = True, None
                    continue
                response.check(self._pool.origin if self._follow else None)
                asked = True
                return response
            except BackendGone:
                failed = True
                if not (connection.reused and connection.nothing_left):
                    raise
                fresh = True
            finally:
                if not asked and not failed and self._parting is not None:
                    self._parting.append(connection)
                elif not asked:
                    connection.close()
                    self._pool.put(connection, ending=False)

    def _render(self) -> bytes:
        body = self._body if isinstance(self._body, bytes) else self._body()
        headers = self._headers if isinstance(self._headers, bytes) else render_headers(self._headers)
        return self._pool.render(self._method, self._path, headers, body)


def _idle_s(keep_alive: bytes | None) -> float:
    """How long a connection may lie idle, by the peer's ``Keep-Alive: timeout=5, max=100``."""
    if keep_alive is None:
        return IDLE_S
    for part in keep_alive.lower().split(b","):
        name, _, value = part.strip().partition(b"=")
        if name.strip() == b"timeout" and value.strip().isdigit() and len(value) < 10:
            return min(IDLE_S, int(value) - KEEP_ALIVE_MARGIN_S)
    return IDLE_S
