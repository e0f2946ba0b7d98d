"""What one request's client hears: notifications, then exactly one answer.

Owns the choice between a JSON answer and an SSE stream, the order of what is
sent and the keep-alive of a quiet stream. Deliberately decides nothing about the
call. Invariant: ``finish`` or ``abandon`` takes effect once; nothing follows it
(docs/invariants.md, 1).

Spec: docs/architecture.md, "What a client hears"; MCP 2025-11-25 and 2026-07-28 basic/transports.
"""

import math
from collections.abc import Sequence
from enum import Enum
from typing import Final

import attrs
import trio

from mcp_gateway.gateway.entrance import Reply
from mcp_gateway.gateway.replay import Replay, StreamLog
from mcp_gateway.protocol.eras import Era
from mcp_gateway.values import Header

PRIMING_AFTER_S: Final = 1.0
"""A 2025-11-25 client gets a resumable stream after this long without an answer."""
HEADERS_AFTER_S: Final = 10.0
"""Everyone else gets headers and a comment, before the usual idle timeouts of proxies."""
RETRY_MS: Final = 1000
"""The ``retry`` hint of a priming event: how long a client waits before it resumes."""
MAX_RETRY_MS: Final = 30_000
"""The longest pause of a backend that is passed on: its answer is here as soon as the gateway has asked for it."""

JSON_HEAD: Final[tuple[Header, ...]] = ((b"content-type", b"application/json"),)


class Phase(Enum):
    """How far an answer has come."""

    SILENT = "silent"
    STREAMING = "streaming"
    FINISHED = "finished"


@attrs.frozen(kw_only=True)
class Accepts:
    """Which answer forms the client takes (``*/*`` and a missing Accept mean both)."""

    json: bool = True
    sse: bool = True


@attrs.define(eq=False, kw_only=True)
class ResponseStream:
    """The way back to the client of one request. Nearly always one JSON body: a stream is made when it is needed."""

    reply: Reply
    era: Era
    accepts: Accepts = Accepts()
    replay: Replay | None = None
    """Keeps the events of a stream for a resume; None when the era or the client cannot resume."""
    keep_alive_s: float = 15.0
    began_at: float = attrs.field(factory=trio.current_time)
    gone: bool = False
    phase: Phase = Phase.SILENT
    due_at: float = attrs.field(init=False)
    """When the client, if it hears nothing until then, is to be shown that somebody is there."""
    _log: StreamLog | None = attrs.field(default=None, init=False)
    """Of this stream; a call that is answered at once never has one."""
    _lock: trio.Lock = attrs.field(factory=trio.Lock, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        wait_s = PRIMING_AFTER_S if self._primes else HEADERS_AFTER_S
        self.due_at = self.began_at + min(wait_s, self.keep_alive_s) if self.accepts.sse else math.inf

    @property
    def _primes(self) -> bool:
        return self.era.priming_event and self.replay is not None

    def leave(self) -> None:
        """The client went away, or resumed elsewhere; what comes is kept for a resume or dropped."""
        self.gone = True

    async def send(self, message: bytes, *, more: bool = False) -> bool:
        """Send one notification or request as an event; False when it could not reach this client here.

        ``more``: see ``entrance.Reply.event``.
        """
        if self.phase is Phase.FINISHED or not self.accepts.sse:
            return False
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()
        try:
            await self._open()
            return await self._event(message, more=more)
        finally:
            self._lock.release()

    async def flush(self) -> None:
        """Send what was held back for ``more``."""
        async with self._lock:
            if self.phase is Phase.STREAMING and not self.gone:
                await self.reply.flush()

    async def finish(self, status: int, body: bytes, headers: Sequence[Header] = ()) -> None:
        """Send the one answer: as JSON when nothing was streamed, else as the last event.

        A stream cannot say that it failed, so an error with a status of its own is JSON whatever the client takes.
        """
        if self.phase is Phase.FINISHED:
            return
        if self.phase is Phase.SILENT and (self.accepts.json or status != 200):
            self.phase = Phase.FINISHED
            if not self.gone:
                await self.reply.whole(status, (*JSON_HEAD, *headers), body)
            return
        async with self._lock:
            await self._open()
            if self.phase is not Phase.STREAMING:
                return
            await self._event(body, more=True)
            await self._close()

    async def abandon(self, status: int, body: bytes) -> None:
        """The client cancelled: an open stream just ends; without one HTTP needs an answer, ``body``."""
        if self.phase is not Phase.STREAMING:
            await self.finish(status, body)
            return
        async with self._lock:
            await self._close()

    async def rest(self, retry_ms: int | None) -> None:
        """The backend has ended its stream and will be polled for the answer; so has this client, if it can.

        It comes back with the event's id, as it would to the backend itself, and need not hold a connection until then.
        "the server MAY close the connection (without terminating the SSE stream) ... The client SHOULD then 'poll' the
        SSE stream by attempting to reconnect." -- MCP 2025-11-25 basic/transports
        """
        if not self._primes or not self.accepts.sse or self.gone or self.phase is Phase.FINISHED:
            return
        pause_ms = RETRY_MS if retry_ms is None else min(retry_ms, MAX_RETRY_MS)
        async with self._lock:
            fresh = self.phase is Phase.SILENT
            await self._open(pause_ms)
            if self.phase is not Phase.STREAMING or self._log is None or self.gone:
                return
            if not fresh:
                await self.reply.event(b"", event_id=self._log.append(b""), retry_ms=pause_ms)
            self.leave()
            await self.reply.close()

    async def tick(self, now: float) -> None:
        """Show a client that waits that somebody is there: open the stream, or send a comment."""
        self.due_at = now + self.keep_alive_s
        if self._lock.locked() or self.phase is Phase.FINISHED or not self.accepts.sse:
            return
        async with self._lock:
            fresh = self.phase is Phase.SILENT
            await self._open()
            if self.phase is Phase.STREAMING and not self.gone and not (fresh and self._primes):
                await self.reply.comment()

    async def _open(self, retry_ms: int = RETRY_MS) -> None:
        """Something is sent behind the head, or ``flush`` called."""
        if self.phase is not Phase.SILENT:
            return
        self.phase = Phase.STREAMING
        if self.replay is not None:
            self._log = self.replay.open()
            self._log.taken_by(self.leave)
        if not self.gone:
            await self.reply.open(200, (), more=True)
        if self._primes and self._log is not None:
            event_id = self._log.append(b"")
            if not self.gone:
                await self.reply.event(b"", event_id=event_id, retry_ms=retry_ms)

    async def _event(self, message: bytes, *, more: bool = False) -> bool:
        if self.phase is not Phase.STREAMING:
            return False
        self.due_at = trio.current_time() + self.keep_alive_s
        event_id = self._log.append(message) if self._log is not None else None
        if self.gone:
            return event_id is not None
        sent = await self.reply.event(message, event_id=event_id, more=more)
        return sent or event_id is not None

    async def _close(self) -> None:
        if self.phase is not Phase.STREAMING:
            return
        self.phase = Phase.FINISHED
        if self._log is not None:
            self._log.end()
        await self.reply.close()
