"""Bytes of an HTTP/1.x connection to one response after the other.

Owns the httptools parser and what it has told about the current response.
Deliberately no I/O and no policy: which status means what is the caller's.
Invariant: ``reusable`` is True only if every response is complete, the peer keeps
the connection and nothing came after the end.
"""

from typing import Final

import attrs
import httptools

from mcp_gateway.errors import RemoteFault

HEAD_BYTES: Final = 64 * 2**10
"""Bound of a response head, 1xx heads before it included, and of what frames a body (chunk extensions, trailers)."""


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
        if self._parser is None or self.complete:
            self._surplus = True
            return
        had = len(self._body), len(self.statuses)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise RemoteFault(what="it switched protocols unasked") from None
        except httptools.HttpParserError as exc:
            self._surplus = True
            self._check(exc)
        self._overhead = 0 if (len(self._body), len(self.statuses)) != had else self._overhead + len(data)
        self._check(None)

    def _check(self, exc: Exception | None) -> None:
        fault = self._fault
        if not fault and not self.complete:
            if exc is not None:
                fault = "its answer is not HTTP/1.1"
            elif self._overhead > HEAD_BYTES:
                fault = f"more than {HEAD_BYTES} bytes of HTTP framing"
        if fault:
            raise RemoteFault(what=fault) from exc

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
        """Called by httptools; as a second answer it is a surplus."""
        if self.complete:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools."""
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
        """Called by httptools."""
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
        """Called by httptools."""
        if not self.complete:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """Called by httptools."""
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
