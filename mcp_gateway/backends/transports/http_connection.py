"""One keep-alive HTTP/1.1 connection to a backend, and the answer that is under way on it.

Owns a socket and the parser of what comes: one request, one answer, again; or several at
once. Deliberately knows no pool, no MCP, and not which status means what. Invariant: at most one ``ask`` is
under way; ``reusable`` is True only if every answer is complete, the peer keeps the connection and nothing
came after the end; no more of a body is held than its reader's limit.

The usual exchange over plain TCP is one ``send``, one wait and one ``recv`` on the socket itself: half of what a
``SocketStream`` costs. TLS, and what cannot be sent at once, go through the stream over it.
"""

import select
import socket
from collections.abc import Callable
from typing import Final

import attrs
import httptools
import trio

from mcp_gateway.backends.transports.dial import Dialled
from mcp_gateway.backends.transports.wire import RECEIVE_BYTES, Wire
from mcp_gateway.errors import BackendGone, BackendProtocol, BackendTooLarge, Executed, RemoteFault
from mcp_gateway.values import BackendKey

HEAD_BYTES: Final = 64 * 2**10
"""Bound of a response head, 1xx heads before it included, and of what frames a body (chunk extensions, trailers)."""
EARLY_BYTES: Final = 64 * 2**10
"""How much of an answer is read while our body is still on its way; so much for each of several."""
TLS_RECORD_BYTES: Final = 16 * 2**10
"""RFC 8446, 5.1. A request of this size fits every send buffer."""


@attrs.define(eq=False)
class ResponseParser:
    """The state of one connection's answers; ``begin`` before each request.

    Several requests may be sent at once (pipelining, RFC 9112 9.3.2): then all but ``statuses`` is of the last answer.
    """

    status: int = 0
    statuses: list[int] = attrs.field(factory=list)
    """Of every answer whose head was read since ``begin``, in order."""
    headers: dict[bytes, bytes] = attrs.field(factory=dict)
    """Names in lower case; of a repeated one the values joined by ", " (RFC 9110, 5.3)."""
    head_complete: bool = False
    complete: bool = False
    """All answers were read to the end, or one said that none follows it."""
    expected: int = 1
    _keep_alive: bool = False
    _surplus: bool = False
    _until_close: bool = False
    _fault: str = ""
    _overhead: int = 0
    _head_bytes: int = 0
    _body: list[bytes] = attrs.field(factory=list)
    _parser: httptools.HttpResponseParser | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    def begin(self, answers: int = 1) -> None:
        """Forget what was; the next byte belongs to a new response, the first of so many."""
        self.statuses = []
        self.complete = False
        self.expected = answers
        self._keep_alive = self._surplus = False
        self._begin_next()

    def _begin_next(self) -> None:
        self.status = 0
        self.headers = {}
        self.head_complete = False
        self._until_close = False
        self._overhead = self._head_bytes = 0
        self._body.clear()

    def feed(self, data: bytes) -> None:
        """Take the next 1..n bytes of the connection, cut anywhere.

        Raises:
            RemoteFault: not HTTP/1.x, contradictory framing, a head above ``HEAD_BYTES``.
        """
        parser = None if self.complete else self._parser
        if parser is None:
            self._surplus = True
            return
        had = len(self._body), len(self.statuses)
        broken: httptools.HttpParserError | None = None
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise RemoteFault(what="it switched protocols unasked") from None
        except httptools.HttpParserError as exc:
            self._surplus, broken = True, exc
        if self.complete and not self._fault:
            return
        self._overhead = 0 if (len(self._body), len(self.statuses)) != had else self._overhead + len(data)
        if broken is not None:
            self._fault = self._fault or "its answer is not HTTP/1.1"
        elif self._overhead > HEAD_BYTES:
            self._fault = self._fault or f"more than {HEAD_BYTES} bytes of HTTP framing"
        if self._fault:
            raise RemoteFault(what=self._fault) from broken

    def finish(self) -> bool:
        """The peer closed its side. True: the response ends there by design, or had ended before."""
        if self.head_complete and self._until_close:
            self.complete = True
        self._keep_alive = False
        return self.complete

    def take(self) -> bytes:
        """The body bytes that arrived since the last call."""
        body = self._body
        if not body:
            return b""
        taken = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        return taken

    def only_piece(self, limit: int) -> bytes | None:
        """What ``take`` would give, if it is in one piece of at most so many bytes."""
        return self._body[0] if len(self._body) == 1 and len(self._body[0]) <= limit else None

    @property
    def reusable(self) -> bool:
        """The answer is complete, nothing came after it, and the connection stays open."""
        return self.complete and self._keep_alive and not self._surplus

    @property
    def may_be_reused(self) -> bool:
        """True while an answer under way could still leave a connection that can be used again."""
        closing = b"close" in self.headers.get(b"connection", b"").lower()
        return self.head_complete and not (self.complete or self._until_close or self._surplus or closing)

    def free(self) -> None:
        """Break the circle of parser and callbacks, so that no garbage collection is needed."""
        self._parser = None

    # What httptools calls, in the order of the message.

    def on_message_begin(self) -> None:
        if self.complete:
            self._surplus = True  # a second answer

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head_complete:  # a trailer, or the head of something nobody asked for
            return
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > HEAD_BYTES:
            self._fault = f"a response head above {HEAD_BYTES} bytes"
            return
        name = name.lower()
        known = self.headers.get(name)
        self.headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        if self.complete or self._parser is None:
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:
            return
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._fault = f"its answer is HTTP/{version}"
        coding = self.headers.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            self._fault = "a transfer coding that was not asked for"
        # RFC 9112, 6.3: without length and chunks the body ends with the connection.
        self._until_close = coding is None and b"content-length" not in self.headers and self.status not in (204, 304)
        self.head_complete = True
        self.statuses.append(self.status)

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self.complete or self._parser is None:
            return
        if self.status < 200:  # 1xx: "A client MUST be able to parse one or more 1xx responses" -- RFC 9110, 15.2
            self.headers = {}
            return
        # Only here does llhttp know: after this callback it has begun the next message and says no.
        self._keep_alive = self._parser.should_keep_alive()
        if self._keep_alive and len(self.statuses) < self.expected:
            self._begin_next()
        else:
            self.complete = True


@attrs.define(kw_only=True, eq=False)
class HttpConnection:
    """A connection and the response that is under way on it."""

    key: BackendKey
    dialled: Dialled
    lost_in_reuse: Callable[[], None]
    """Told when the peer has closed after a request was sent on the connection that it had kept, and before it said
    anything to that."""
    idle_until: float = 0.0
    reused: bool = False
    ending: bool = False
    """Set by a reader that has all it wants and expects the end: the connection may be kept if that comes soon."""
    parser: ResponseParser = attrs.field(init=False, factory=ResponseParser)
    closed: bool = False
    _wire: Wire = attrs.field(init=False)
    _stream: Wire | trio.SSLStream[Wire] = attrs.field(init=False)
    _plain: socket.socket | None = attrs.field(init=False)
    """Without TLS: what bytes go through."""
    _look: select.poll = attrs.field(init=False)
    _base: int = 0
    _cut: bool = False
    _ended: bool = False

    def __attrs_post_init__(self) -> None:
        self._wire, self._stream = self.dialled.wire, self.dialled.stream
        self._plain = self._wire.sock if self._stream is self._wire else None
        self._look = select.poll()
        self._look.register(self._wire.sock, select.POLLIN)

    # --- the response ---

    @property
    def status(self) -> int:
        """Of the response."""
        return self.parser.status

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Of the response, names in lower case."""
        return self.parser.headers

    @property
    def content_type(self) -> bytes:
        """The media type alone, in lower case; empty without one."""
        return self.parser.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()

    def whole(self, limit: int) -> bytes | None:
        """The whole body, if it is there in one piece and no longer than that; ``read`` gives it again."""
        return self.parser.only_piece(limit) if self.parser.complete else None

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            BackendTooLarge: above ``limit`` bytes, announced or real.
            BackendGone: it ended too early.
        """
        announced = self.headers.get(b"content-length")
        body = bytearray()  # a list of tiny pieces would be many times the limit
        while (announced is None or int(announced) <= limit) and len(body) <= limit:
            piece = await self.receive_some()
            if not piece:
                return bytes(body)
            if not body and self.parser.complete and len(piece) <= limit:
                return piece  # uncopied
            body += piece
        raise BackendTooLarge(backend=self.key, limit="limits.responseBytes", bound=limit)

    async def receive_some(self) -> bytes:
        """The next bytes of the body; ``b""`` once it is complete.

        Raises:
            BackendGone: the connection ended inside the body.
            BackendProtocol: broken framing.
        """
        while True:
            body = self.parser.take()
            if body or self.parser.complete:
                return body
            await self._read_more()

    async def skim(self) -> None:
        """Read on, and forget the bodies; ``parser`` shows how far it is. Errors as ``ask``."""
        self.parser.take()
        await self._read_more()

    # --- the connection ---

    @property
    def reusable(self) -> bool:
        """The answer is complete, and another request may follow."""
        return self.parser.reusable and not self._cut and not self._ended and not self.closed

    @property
    def nothing_left(self) -> bool:
        """True as long as no byte of the current request was handed to the kernel."""
        return self._wire.sent == self._base

    def quiet(self) -> bool:
        """Whether nothing waits to be read on an idle connection's socket: neither bytes nor the end nor an error."""
        return not self.closed and not self._look.poll(0)

    def close(self) -> None:
        """Close at once; idempotent."""
        if not self.closed:
            self.closed = True
            self._wire.close()
            self.parser.free()

    def fit_now(self) -> bool:
        """Whether another request may follow now; False: it may not, or ``fit`` has to tell.

        Half the price of a receive that finds nothing. Under TLS what waits may be a ticket, or lie decrypted.
        """
        return self._plain is not None and self.reusable and not self._look.poll(0)

    async def fit(self) -> bool | None:
        """See, without waiting for the peer, whether another request may follow now: reads all that has come.

        Returns: True: the answer is complete, and neither bytes nor an end are behind it. None: the answer may still
            end. False: never.
        """
        try:
            while (data := await self._receive_now()) is not None:
                self._take_in(data)
                if self.parser.take() or (self.parser.complete and not self.reusable):
                    return False
        except (BackendGone, BackendProtocol, trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return self.reusable if self.parser.complete else None

    async def _receive_now(self) -> bytes | bytearray | None:
        """What has come, ``b""`` at the end (TLS: the peer's close_notify too), None when nothing has."""
        with self._wire.without_waiting():
            try:
                return await self._stream.receive_some(RECEIVE_BYTES)
            except trio.WouldBlock:
                return None

    async def ask(self, request: bytes, answers: int = 1) -> None:
        """Send head and body, and read to the end of the (first) response's head.

        Args:
            answers: how many requests ``request`` holds, one behind the other.
        Raises:
            BackendGone: closed or reset; executed NO when nothing was sent.
            BackendProtocol: the answer is not HTTP.
        """
        parser, sock = self.parser, self._plain
        parser.begin(answers)
        self.ending = False
        self._base = self._wire.sent
        try:
            rest = await self._send_tls(request) if sock is None else self._send_now(sock, request)
            if rest:
                await self._send_watching(rest)
            while not parser.statuses:
                if sock is None:
                    await self._read_more()
                else:
                    await trio.lowlevel.wait_readable(sock)
                    self._receive(sock)
        except trio.ClosedResourceError as exc:
            raise self._gone("the connection was reset") from exc
        except BackendGone:
            if self.reused and not self.nothing_left:
                self.lost_in_reuse()
            raise

    def _send_now(self, sock: socket.socket, request: bytes) -> bytes | memoryview:
        """Send what goes out at once, which is nearly always all; return the rest."""
        try:
            done = sock.send(request)
        except BlockingIOError:
            done = 0
        except OSError as exc:
            raise self._gone("the connection was closed before the request") from exc
        self._wire.sent += done
        return b"" if done == len(request) else memoryview(request)[done:]

    async def _send_tls(self, request: bytes) -> bytes:
        """The same through TLS."""
        if len(request) > TLS_RECORD_BYTES:
            return request
        try:
            await self._stream.send_all(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise self._gone("the connection was closed before the request") from exc
        return b""

    def _receive(self, sock: socket.socket) -> None:
        """Take in what has come, if it has."""
        try:
            data = sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as exc:
            self._ended = True
            raise self._gone("the connection was reset") from exc
        self._take_in(data)

    async def _read_more(self) -> None:
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._ended = True
            raise self._gone("the connection was reset") from exc
        self._take_in(data)

    def _take_in(self, data: bytes | bytearray) -> None:
        if not data:
            self._ended = True
            if not self.parser.finish():
                where = "inside the answer" if self.parser.head_complete else "before the answer"
                raise self._gone(f"the connection was closed {where}")
            return
        try:
            self.parser.feed(bytes(data))
        except RemoteFault as exc:
            raise BackendProtocol(backend=self.key, why=exc.what) from exc

    async def _send_watching(self, rest: bytes | memoryview) -> None:
        """Send what does not fit at once, and listen: a backend may answer (413) without reading it all."""
        trouble: list[Exception] = []
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                try:
                    received, bound = 0, EARLY_BYTES * self.parser.expected
                    while not self.parser.complete and received < bound:
                        data = await self._stream.receive_some(RECEIVE_BYTES)
                        received += len(data)
                        self._take_in(data)
                except (BackendGone, BackendProtocol, trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                    trouble.append(exc)
                self._cut = True
                nursery.cancel_scope.cancel("the answer came before the request was sent")

            nursery.start_soon(watch, name="early answer")
            try:
                await self._stream.send_all(rest)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # The peer stopped reading: what it said before that is worth reading. The watcher sees the end.
                self._cut = True
                with trio.move_on_after(1.0):
                    await trio.sleep_forever()
            nursery.cancel_scope.cancel("sent")
        if trouble and not self.parser.head_complete:
            if isinstance(trouble[0], (BackendGone, BackendProtocol)):
                raise trouble[0]
            raise self._gone("the connection was reset") from trouble[0]

    def _gone(self, why: str) -> BackendGone:
        executed = Executed.NO if self.nothing_left else Executed.UNKNOWN
        return BackendGone(backend=self.key, executed=executed, why=why)
