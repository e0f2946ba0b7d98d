"""Server-sent events, both ways.

Owns the incremental decoder and the encoder. Deliberately no I/O, no reconnect
and no JSON: an event's data are bytes. Invariant: the decoder gives the same
events wherever the chunks are cut, and never holds more than its bound.
Spec: WHATWG HTML 9.2.6 "Interpreting an event stream"; MCP 2025-11-25 and
2026-07-28, basic/transports.
"""

import re
from collections.abc import Callable
from typing import Final

import attrs

from mcp_gateway.errors import LocalFault, RemoteFault

COMMENT: Final = b":\n\n"
"""A comment: keeps the stream alive and is ignored by every reader."""

HEAD_BYTES: Final = 512
"""So much of an event's data tells whether it may be larger than others."""

_DATA: Final = b"data: "
_BOM: Final = b"\xef\xbb\xbf"
_RETRY: Final = re.compile(rb"[0-9]{1,10}")
_BREAK: Final = re.compile(rb"\r\n|\r|\n")


@attrs.frozen(kw_only=True)
class SseEvent:
    """One event. ``data`` is empty for a priming event; ``event_id`` is this event's own, None when it has none."""

    data: bytes = attrs.field(repr=False)
    event: str = "message"
    event_id: str | None = None
    retry_ms: int | None = None


@attrs.frozen(kw_only=True)
class Larger:
    """Events that may be larger than others."""

    begins: Callable[[bytes], bool]
    """Told by the first ``HEAD_BYTES`` of their data."""
    max_bytes: int


@attrs.define(eq=False)
class SseDecoder:
    """Turns network chunks, cut anywhere, into events.

    ``max_event_bytes`` bounds each line, and the sum of the lines of one event
    (field names included, line ends and comments not); ``larger`` has another
    bound for some, which counts if it is higher.
    """

    max_event_bytes: int
    larger: Larger | None = None
    bound: int = attrs.field(init=False)
    """That of the event under way, as far as it is known."""
    last_event_id: str | None = None
    """The id of the last complete event that had one; what a resume asks for."""
    retry_ms: int | None = None
    """The last reconnection time the peer gave."""
    _line: bytearray = attrs.field(init=False, factory=bytearray, repr=False)
    _at_start: bool = attrs.field(init=False, default=True)
    _after_cr: bool = attrs.field(init=False, default=False)
    _broken: bool = attrs.field(init=False, default=False)
    _size: int = attrs.field(init=False, default=0)
    _data: bytes | None = attrs.field(init=False, default=None, repr=False)
    """The first data line of the event; nearly always the only one."""
    _more_data: bytearray = attrs.field(init=False, factory=bytearray, repr=False)
    """The others, each after a newline: a list of short ones would be several times the bound."""
    _event: str = attrs.field(init=False, default="")
    _event_id: str | None = attrs.field(init=False, default=None)
    _event_retry_ms: int | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.bound = self.max_event_bytes

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that ``chunk`` completes, in order. An unfinished event stays inside; at the end of the
        stream it is worth nothing (WHATWG: "discard").

        Raises:
            RemoteFault: a line or an event above the bound; the decoder is then of no further use.
        """
        if self._broken:
            raise self._too_large()
        events: list[SseEvent] = []
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == 0x0A:  # the LF of a CRLF that was cut in two
                chunk = chunk[1:]
        for piece in chunk.splitlines(keepends=True):  # of bytes: at CR, LF and CRLF only
            text = piece.rstrip(b"\r\n")
            if len(self._line) + len(text) > self.bound:
                self._widen(len(self._line) + len(text), bytes(self._line[:HEAD_BYTES]) + text[:HEAD_BYTES])
            if len(text) == len(piece):  # the last piece, not yet a line
                self._line += text
                break
            if self._line:
                self._line += text
                text = bytes(self._line)
                self._line.clear()
            self._take(text, events)
        # A CR inside the chunk is whole: splitlines has seen what follows it.
        self._after_cr = chunk.endswith(b"\r") or (self._after_cr and not chunk)
        return events

    def _too_large(self) -> RemoteFault:
        self._broken = True
        self._line.clear()
        self._more_data.clear()
        self._data = None
        return RemoteFault(what=f"a server-sent event of more than {self.bound} bytes")

    def _widen(self, size: int, line: bytes) -> None:
        """Let the event under way be so large, if it is one that may.

        Args:
            line: the beginning of its line under way.
        Raises:
            RemoteFault: it may not.
        """
        if self._data is not None:
            head = self._data[:HEAD_BYTES] + self._more_data[:HEAD_BYTES]
        else:
            name, _, value = line.partition(b":")
            head = value if name == b"data" else b""
        if self.larger is not None and self.larger.begins(head):
            self.bound = max(self.bound, self.larger.max_bytes)
        if size > self.bound:
            raise self._too_large()

    def _take(self, line: bytes, events: list[SseEvent]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            self._finish(events)
            return
        if line.startswith(_DATA):  # nearly always, and one copy only of a line that may be large
            name, value = b"data", line[6:]
        else:
            name, _, value = line.partition(b":")
            if not name:
                return  # a comment
            value = value.removeprefix(b" ")
        self._size += len(line)
        if self._size > self.bound:
            self._widen(self._size, line[: HEAD_BYTES + 6])
        if name == b"data":
            if self._data is None:
                self._data = value
            else:
                self._more_data += b"\n"
                self._more_data += value
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id":
            if b"\0" not in value:
                self._event_id = value.decode(errors="replace")
        elif name == b"retry" and _RETRY.fullmatch(value):
            self._event_retry_ms = self.retry_ms = int(value)

    def _finish(self, events: list[SseEvent]) -> None:
        if self._event_id is not None:
            self.last_event_id = self._event_id or None  # an empty id resets it (WHATWG)
        if self._data is not None or self._event_id is not None:
            events.append(
                SseEvent(
                    data=(self._data or b"") + self._more_data if self._more_data else self._data or b"",
                    event=self._event or "message",
                    event_id=self._event_id,
                    retry_ms=self._event_retry_ms,
                )
            )
        self._size = 0
        self.bound = self.max_event_bytes
        self._data = None
        self._more_data.clear()
        self._event = ""
        self._event_id = self._event_retry_ms = None


def encode_event(
    data: bytes, *, event_id: str | None = None, retry_ms: int | None = None, event: str | None = None
) -> bytes:
    """One event as bytes, its blank line included. Newlines in ``data`` make several data lines.

    Raises:
        LocalFault: a line end or NUL in ``event_id`` or ``event``: it would forge fields.
    """
    head = b""
    if event is not None:
        head += b"event: %b\n" % _field(event)
    if event_id is not None:
        head += b"id: %b\n" % _field(event_id)
    if retry_ms is not None:
        head += b"retry: %d\n" % retry_ms
    if b"\n" in data or b"\r" in data:
        data = _BREAK.sub(b"\ndata: ", data)
    return b"%bdata: %b\n\n" % (head, data)


def _field(text: str) -> bytes:
    if "\n" in text or "\r" in text or "\0" in text:
        raise LocalFault(what="a line end in a field of a server-sent event")
    return text.encode()
