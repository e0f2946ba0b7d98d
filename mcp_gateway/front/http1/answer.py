"""What goes over the wire for one answer: heads, bodies, chunks, refusals.

Owns their bytes, as plain functions. Deliberately sends nothing and knows no MCP beyond the
shape of an error. Invariant: a header that would break the framing never leaves.
Spec: RFC 9112 4 and 7.1; RFC 9110 6.6.1 (Date), 8.6 (Content-Length).
"""

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import orjson

from mcp_gateway.errors import LocalFault
from mcp_gateway.values import Header, JsonObject

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE: Final[Header] = (b"connection", b"close")
CHUNKED: Final[Header] = (b"transfer-encoding", b"chunked")
LAST_CHUNK: Final = b"0\r\n\r\n"
JSON: Final[Header] = (b"content-type", b"application/json")
EVENTS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx and its ingress buffer otherwise
)
EVENT_NAMES: Final = frozenset(name for name, _ in EVENTS)
INVALID_REQUEST: Final = -32600
INTERNAL: Final = -32603
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


def head(status: int, headers: tuple[Header, ...], body_bytes: int | None = None) -> bytes:
    """Status line and header section, with the body's length if it has one.

    "A server MUST NOT send a Content-Length header field in any response with a status code of ... 204" (RFC 9110 8.6).

    Raises:
        LocalFault: a header with a line break or NUL.
    """
    start, date = _start(status, headers), _date(int(time.time()))
    if body_bytes is None or status == HTTPStatus.NO_CONTENT:
        return b"%b%b\r\n" % (start, date)
    return b"%b%bcontent-length: %d\r\n\r\n" % (start, date, body_bytes)


@lru_cache(maxsize=256)
def _start(status: int, headers: tuple[Header, ...]) -> bytes:
    """What is the same in most answers, made once."""
    text = _STATUS_LINES[status] + b"".join([b"%b: %b\r\n" % field for field in headers])
    if text.count(b"\n") != len(headers) + 1 or text.count(b"\r") != len(headers) + 1 or b"\0" in text:
        raise LocalFault(what="a header of an answer with a line break")
    return text


@lru_cache(maxsize=1)
def _date(now_unix_s: int) -> bytes:
    return f"date: {formatdate(now_unix_s, usegmt=True)}\r\n".encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; not for empty data, which would end it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def error(code: int, message: str, request_id: str | int | None = None, data: JsonObject | None = None) -> bytes:
    """A JSON-RPC error of the entrance's own."""
    found: JsonObject = {"code": code, "message": message}
    if data is not None:
        found["data"] = data
    return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "error": found})
