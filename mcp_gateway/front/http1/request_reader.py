"""Bytes to requests, one at a time.

Owns the framing of HTTP/1.1 requests: what a client sends becomes a ``Head``, then its
body, then the next ``Head``. Deliberately no I/O, no clock and no paths. Invariant: the
parser (llhttp, as strict as it is) is never given a byte behind the message that it is in,
so this framing and its own must agree, or the connection ends; of one request's head, chunk
extensions and trailers together never more than ``HEAD_BYTES`` are taken.

What llhttp refuses by itself: bare LF and CR, folded and malformed fields, both or malformed
lengths, a coding behind ``chunked``. What it lets through and is refused here: a method,
target or version that is not exactly ``METHOD SP /path SP HTTP/1.x``, other codings, several
or no Hosts. Spec: RFC 9112; RFC 9110 10.1.1 (Expect).
"""

import re
from functools import lru_cache
from typing import Final

import attrs
import httptools

from mcp_gateway.gateway.origin import Refusal
from mcp_gateway.values import Header

HEAD_BYTES: Final = 32 * 1024
"""Room for a bearer token (8 KiB), cookies and Mcp-Param headers; above it 431."""
HEAD_FIELDS: Final = 256
_SIZE_BYTES: Final = len(b"ffffffffffffffff\r\n")
"""The line before the largest chunk; what it has beyond the digits of its size is counted."""
_END: Final = b"\r\n\r\n"
_ASKS_UPGRADE: Final = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_NO_UPGRADE: Final = b"\r\n-upgrade:"
"""llhttp takes a body behind it for another protocol. Java's client sends it with its first POST; "A server MAY ignore
a received Upgrade header field" (RFC 9110 7.8), so the parser gets it under a name that nobody reads."""
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]+)(?::[0-9]*)?")
"""RFC 3986 3.2.2, without user information; not empty: every target here has an authority."""
_ONCE: Final = frozenset((b"host", b"transfer-encoding", b"content-length", b"expect"))
"""Two of these are two opinions about where a request goes or ends."""


@attrs.frozen(eq=False)
class Malformed(Exception):
    """What came is no request, or one that could be read in two ways; the connection cannot go on."""

    refusal: Refusal


def _malformed(message: str, status: int = 400) -> Malformed:
    return Malformed(Refusal(status=status, message=message))


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


TOO_LARGE_EXTRAS: Final = "the chunk extensions and trailers are too large"
TOO_LARGE_HEAD: Final = f"the head is larger than {HEAD_BYTES} bytes or has more than {HEAD_FIELDS} fields"


@attrs.define(eq=False)
class Head:
    """The head of one request."""

    method: str
    target: bytes
    """In origin form: begins with a slash."""
    headers: list[Header]
    """Names lower case, in order, duplicates kept."""
    first: dict[bytes, bytes]
    """The first value of each."""
    is_11: bool
    length: int
    """What Content-Length says; 0 without one."""
    chunked: bool
    waits: bool
    """Whether the client waits for ``100 Continue`` before it sends the body."""


class RequestReader:
    """The state of one connection's input. After ``Malformed`` it is of no further use."""

    __slots__ = (
        *(
            "_body",
            "_buffer",
            "_extra_bytes",
            "_head",
            "_headers",
            "_looked",
            "_parser",
            "_rest",
            "_target",
            "_trailing",
        ),
        *("complete", "keep_alive"),
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._buffer: bytes | bytearray = b""
        self._headers: list[Header] = []
        self._target = b""
        self._head: Head | None = None
        self._body: bytes | bytearray = b""
        self._looked = 0
        """So much of what has come holds no whole head."""
        self._rest = 0
        """Bytes still to come of a body, or of a chunk and its line end."""
        self._extra_bytes = 0
        """What head, chunk extensions and trailers of the request have taken so far."""
        self._trailing = False
        """The last chunk has come: what follows are trailers."""
        self.complete = False
        """The request under way has come whole."""
        self.keep_alive = False
        """Whether another may follow it; valid once it is complete."""

    def feed(self, data: bytes | bytearray) -> None:
        """Take in what the socket gave."""
        if not self._buffer:
            self._buffer = data
        elif isinstance(self._buffer, bytearray):
            self._buffer += data
        else:
            self._buffer = bytearray(self._buffer) + data

    @property
    def has_more(self) -> bool:
        """Whether something has come that belongs to no request yet."""
        return bool(self._buffer)

    @property
    def body_bytes(self) -> int:
        """So much of the body has come."""
        return len(self._body)

    # --- the head -------------------------------------------------------------------------------------------------

    def head(self) -> Head | None:
        """The head of the next request; None: it has not come whole.

        Raises:
            Malformed
        """
        buffer = self._buffer
        if buffer[:1] in (b"\r", b"\n"):
            raise _malformed("an empty line instead of a request")
        end = buffer.find(_END, max(0, self._looked - len(_END))) + len(_END)
        if end < len(_END):
            if self._extra_bytes + len(buffer) > HEAD_BYTES:
                raise _malformed(TOO_LARGE_HEAD, 431)
            if _BARE_LF.search(buffer, self._looked):
                raise _malformed("a line does not end with CRLF")
            self._looked = len(buffer)
            return None
        self._looked = 0
        self._extra_bytes += end
        if self._extra_bytes > HEAD_BYTES:
            raise _malformed(TOO_LARGE_HEAD, 431)
        raw = bytes(buffer[:end]) if end < len(buffer) else bytes(buffer)
        self._buffer = buffer[end:]
        asks_upgrade = b"pgrade:" in raw or b"PGRADE:" in raw  # spelled in another way it is refused
        self._feed(_ASKS_UPGRADE.sub(_NO_UPGRADE, raw) if asks_upgrade else raw)
        return self._take_head(raw)

    def _take_head(self, raw: bytes) -> Head:
        method, target = self._parser.get_method(), self._target
        fields = dict(reversed(self._headers))
        is_11 = raw.startswith(b"%b %b HTTP/1.1\r\n" % (method, target))
        if not is_11 and not raw.startswith(b"%b %b HTTP/1.0\r\n" % (method, target)):
            if b" HTTP/1." in raw.partition(b"\r\n")[0]:
                raise _malformed("the request line is malformed")
            raise _malformed("this listener speaks HTTP/1.1", 505)
        if not target.startswith(b"/") or b"#" in target:
            raise _malformed("the request target must be a path")
        self._check_fields(fields, is_11=is_11)
        head = self._head = Head(
            method.decode("ascii"),
            target,
            self._headers,
            fields,
            is_11,
            int(fields.get(b"content-length", b"0")),
            b"transfer-encoding" in fields,
            b"expect" in fields and is_11 and not self.complete,
        )
        self._rest = head.length
        if self.complete != (not head.length and not head.chunked):
            raise _malformed("where the request ends is not clear")
        return head

    def _check_fields(self, fields: dict[bytes, bytes], *, is_11: bool) -> None:
        if len(fields) != len(self._headers):
            if len(self._headers) > HEAD_FIELDS:
                raise _malformed(TOO_LARGE_HEAD, 431)
            names = [name for name, _ in self._headers if name in _ONCE]
            if len(names) != len(set(names)):
                raise _malformed("a header that must come once came twice")
        elif len(fields) > HEAD_FIELDS:
            raise _malformed(TOO_LARGE_HEAD, 431)
        # "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host
        #  header field and to any request message that contains more than one Host header field line or a Host header
        #  field with an invalid field value." -- RFC 9112 3.2
        host = fields.get(b"host")
        if (host is None and is_11) or (host is not None and not _is_host(host)):
            raise _malformed("the Host is missing or malformed")
        coding = fields.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or not is_11):
            raise _malformed("the only transfer coding here is chunked, in HTTP/1.1")
        if fields.get(b"expect", b"100-continue").lower() != b"100-continue":
            raise _malformed("the only expectation here is 100-continue", 417)

    # --- the body -------------------------------------------------------------------------------------------------

    def read_body(self) -> None:
        """Take of the body what has come; ``complete`` tells whether that was all.

        Raises:
            Malformed
        """
        assert self._head is not None
        if self._head.chunked:
            while not self.complete and self._buffer and self._chunk_step():
                pass
        elif not self.complete and self._buffer:
            self._take(self._rest)

    def take_body(self) -> bytes:
        """The whole body; what comes next is the next request."""
        body = bytes(self._body)
        self._head, self._body, self._headers = None, b"", []
        self._extra_bytes, self.complete, self._trailing = 0, False, False
        return body

    def _take(self, size: int) -> None:
        """Give the parser so much of what has come, at most."""
        piece = self._buffer[:size] if size < len(self._buffer) else self._buffer
        self._buffer = self._buffer[len(piece) :]
        self._rest -= len(piece)
        self._feed(bytes(piece))

    def _chunk_step(self) -> bool:
        """One line, or one piece of a chunk; False: more must come first."""
        if self._rest:
            self._take(self._rest)
            return True
        found = self._buffer.find(b"\r\n")
        end = found + 2 if found >= 0 else 0
        line = bytes(self._buffer[:end])
        if self._extra_bytes + (len(line) or len(self._buffer)) > HEAD_BYTES + _SIZE_BYTES:
            raise _malformed(TOO_LARGE_EXTRAS, 431)
        if not line:
            return False
        self._buffer = self._buffer[end:]
        self._feed(line)
        if self._trailing:
            self._extra_bytes += end
        else:
            size = int(line.partition(b";")[0], 16)  # the parser has taken it, so it is one
            self._extra_bytes += end - len(b"%x\r\n" % size)
            self._trailing = not size
            self._rest = size + 2 if size else 0
        if self._extra_bytes > HEAD_BYTES:
            raise _malformed(TOO_LARGE_EXTRAS, 431)
        return True

    # --- what the parser tells ------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            if "overflow" in str(exc):  # of a length, or of a chunk's
                raise _malformed("the body is larger than anything", 413) from exc
            raise _malformed("the request is malformed") from exc

    def on_url(self, url: bytes) -> None:
        """See httptools; in pieces only if what it was fed was cut."""
        self._target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools. A trailer is no header."""
        if self._head is None:
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_body(self, data: bytes) -> None:
        """See httptools."""
        if not self._body:
            self._body = data
        elif isinstance(self._body, bytearray):
            self._body += data
        else:
            self._body = bytearray(self._body) + data

    def on_message_complete(self) -> None:
        """See httptools. Only here it knows whether the connection goes on."""
        self.complete, self.keep_alive = True, self._parser.should_keep_alive()
