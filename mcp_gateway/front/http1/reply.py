"""The one answer to one HTTP/1.1 request.

Owns its state and what it adds to every answer. Deliberately does not read, and knows the
connection only as ``Outgoing``. Invariants: a second answer is a ``LocalFault`` and sends
nothing; after ``left`` nothing is sent; a whole answer of usual size is one send.
See ``gateway.entrance.Reply``.
"""

from collections.abc import Sequence
from typing import Final

import attrs
import trio

from mcp_gateway.errors import LocalFault
from mcp_gateway.front.http1 import answer
from mcp_gateway.front.http1.outgoing import Outgoing
from mcp_gateway.front.http1.service import Service
from mcp_gateway.protocol.sse import COMMENT, encode_event
from mcp_gateway.values import Header

_HELD_BYTES: Final = 64 * 1024
"""As much as is held back of events that came at once."""
_APART_BYTES: Final = 64 * 1024
"""A larger body is not copied behind its head."""


@attrs.define(eq=False)
class Http1Reply:
    """A ``Reply`` on a connection."""

    _service: Service
    _outgoing: Outgoing
    closing: bool = True
    """The connection ends with this answer, and says so; decided when the head is written."""
    is_head: bool = False
    """The request was HEAD: no body."""
    chunks: bool = True
    """The client knows chunks (HTTP/1.1)."""
    extra: tuple[Header, ...] = ()
    """Headers of every answer (CORS)."""
    begun: bool = attrs.field(default=False, init=False)
    done: bool = attrs.field(default=False, init=False)
    gone: bool = attrs.field(default=False, init=False)
    _held: bytes = attrs.field(default=b"", init=False, repr=False)
    """Goes out with what is written next."""

    async def whole(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        """Send a complete answer; Content-Length is ours."""
        head = self._begin(status, headers, len(body))
        self.done = True
        if self.is_head or not body:
            return await self._send(head)
        self._service.metrics.sent(len(body))
        if len(body) > _APART_BYTES:
            return await self._send(head) and await self._send(body)
        return await self._send(head + body)

    async def open(self, status: int, headers: Sequence[Header], *, more: bool = False) -> bool:
        """Send the head of an event stream; its fixed headers are ours."""
        own = (each for each in headers if each[0].lower() not in answer.EVENT_NAMES)
        fields = (*answer.EVENTS, *own, *((answer.CHUNKED,) if self.chunks else ()))
        self.closing |= not self.chunks  # only the end of the connection is then the end of the stream
        head = self._begin(status, fields)
        if not more:
            return await self._send(head)
        self._held += head
        return not self.gone

    async def event(
        self,
        data: bytes,
        *,
        event_id: str | None = None,
        retry_ms: int | None = None,
        name: str | None = None,
        more: bool = False,
    ) -> bool:
        """Send one server-sent event: nothing of it when the task is cancelled already, else all of it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return await self._part(encode_event(data, event_id=event_id, retry_ms=retry_ms, event=name), more=more)

    async def flush(self) -> bool:
        """Send what was held back."""
        return await self._send(b"") if self._held else not self.gone

    async def comment(self) -> bool:
        """Send a comment line, if the client is not busy with something else already."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return not self.gone if self._outgoing.busy else await self._part(COMMENT)

    async def close(self) -> None:
        """End the stream; more than once is once."""
        if not self.done:
            self.done = True
            if self.chunks:
                await self._send(answer.LAST_CHUNK)

    def left(self) -> None:
        """The client has left: nothing is sent any more."""
        self.gone = True

    def _begin(self, status: int, headers: Sequence[Header], body_bytes: int | None = None) -> bytes:
        if self.begun:
            raise LocalFault(what="a second answer to one request")
        self.begun = True
        self.closing = self.closing or self._service.draining()
        if self.closing:
            return answer.head(status, (*headers, *self.extra, answer.CLOSE), body_bytes)
        return answer.head(status, (*headers, *self.extra), body_bytes)

    async def _part(self, data: bytes, *, more: bool = False) -> bool:
        if self.done or not self.begun:
            raise LocalFault(what="a piece of an answer that is not open")
        self._service.metrics.sent(len(data))
        piece = answer.chunk(data) if self.chunks else data
        if more and len(self._held) + len(piece) <= _HELD_BYTES:
            self._held += piece
            return not self.gone
        return await self._send(piece)

    async def _send(self, data: bytes) -> bool:
        if self._held:
            data, self._held = self._held + data, b""
        if self.gone:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return False
        return await self._outgoing.send(data)
