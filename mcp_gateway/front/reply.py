"""The ASGI form of one answer.

Owns ``AsgiReply``: heads, events and their bounds in ASGI messages. Deliberately
does not read: the app tells it with ``left`` that the client is gone.
Invariant: a write after the client left returns False and never raises; a write
waits at most ``stall_s`` for each 64 KiB, and is whole though its task is cancelled;
callbacks run once.
"""

from collections.abc import Callable, Sequence
from typing import Final

import attrs
import trio
from hypercorn.typing import ASGISendCallable, ASGISendEvent

from mcp_gateway.errors import LocalFault
from mcp_gateway.protocol.sse import COMMENT, encode_event
from mcp_gateway.telemetry.metrics import Metrics
from mcp_gateway.values import Header

SEND_STALL_S: Final = 30.0
"""The longest that one piece of an answer may wait for a client that does not read."""
_PIECE_BYTES: Final = 64 * 1024
_SSE_HEAD: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx and its ingress buffer otherwise
)
_SSE_NAMES: Final = frozenset(name for name, _ in _SSE_HEAD)


@attrs.define(eq=False, kw_only=True)
class AsgiReply:
    """The one answer to one ASGI request; see ``gateway.entrance.Reply``."""

    _send: ASGISendCallable = attrs.field(alias="send")
    _metrics: Metrics = attrs.field(alias="metrics")
    _extra: tuple[Header, ...] = attrs.field(default=(), alias="extra")
    """Headers of every answer (CORS)."""
    _stall_s: float = attrs.field(default=SEND_STALL_S, alias="stall_s")
    begun: bool = attrs.field(default=False, init=False)
    done: bool = attrs.field(default=False, init=False)
    gone: bool = attrs.field(default=False, init=False)
    _callbacks: list[Callable[[], None]] = attrs.field(factory=list, init=False)

    async def whole(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        """Send a complete answer; Content-Length is ours."""
        return await self.begin_whole(status, headers, body) and await self.finish()

    async def begin_whole(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        """Send a complete answer, but keep the exchange open until ``finish``."""
        if status != 204:  # RFC 9110 8.6: no Content-Length there
            headers = (*headers, (b"content-length", b"%d" % len(body)))
        return await self._begin(status, headers) and (not body or await self._part(body))

    async def open(self, status: int, headers: Sequence[Header]) -> bool:
        """Send the head of an event stream; its three fixed headers are ours."""
        return await self._begin(status, [*_SSE_HEAD, *(each for each in headers if each[0].lower() not in _SSE_NAMES)])

    async def event(
        self, data: bytes, *, event_id: str | None = None, retry_ms: int | None = None, name: str | None = None
    ) -> bool:
        """Send one server-sent event: nothing of it when the task is cancelled already, else all of it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return await self._part(encode_event(data, event_id=event_id, retry_ms=retry_ms, event=name))

    async def comment(self) -> bool:
        """Send a comment line."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return await self._part(COMMENT)

    async def close(self) -> None:
        """End the stream; more than once is once."""
        if not self.done:
            await self.finish()

    async def finish(self) -> bool:
        """Send the end of the answer."""
        self.done = True  # first: Hypercorn reports a disconnect as soon as the last byte is out
        return await self._write({"type": "http.response.body", "body": b"", "more_body": False})

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call back once when the client leaves before the answer is complete; at once if it has."""
        if self.gone:
            callback()
        else:
            self._callbacks.append(callback)

    def left(self) -> None:
        """The client has left. After a complete answer this says nothing: everybody leaves some time."""
        if self.done or self.gone:
            return
        self.gone = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    async def _begin(self, status: int, headers: Sequence[Header]) -> bool:
        if self.begun:
            raise LocalFault(what="a second answer to one request")
        self.begun = True
        return await self._write({"type": "http.response.start", "status": status, "headers": [*headers, *self._extra]})

    async def _part(self, data: bytes) -> bool:
        if self.done or not self.begun:
            raise LocalFault(what="a piece of an answer that is not open")
        self._metrics.sent(len(data))
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            if not await self._write({"type": "http.response.body", "body": piece, "more_body": True}):
                return False
        return True

    async def _write(self, message: ASGISendEvent) -> bool:
        if not self.gone:
            # A call that is cancelled while it speaks still has to answer: half an event would spoil that.
            with trio.move_on_after(self._stall_s, shield=True) as patience:
                await self._send(message)
            if patience.cancelled_caught:
                self.left()
                return False
        return not self.gone
