"""The streams that a 2025 client opens with GET: standalone, and resumed.

Owns what is sent on them and how they end. Deliberately makes no messages
(mailbox and replay log do). Invariants: a message goes to exactly one stream; a
resume gives only later events of the stream its id names, or nothing at all.

Spec: MCP 2025-11-25 basic/transports, Listening for Messages and Resumability.
"""

from typing import Final

import attrs
import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.gateway.call.response import RETRY_MS
from mcp_gateway.gateway.context import Context
from mcp_gateway.gateway.entrance import Job, Reply, Request
from mcp_gateway.gateway.faces.event_stream import EventStream, Messages, pump
from mcp_gateway.gateway.faces.http_answers import refusal, refuse, turn_away
from mcp_gateway.gateway.faces.session_requests import hear_unasked
from mcp_gateway.gateway.replay import StreamLog
from mcp_gateway.gateway.session import Session
from mcp_gateway.values import BackendKey

OVER: Final = refusal(405, "this stream has ended: nothing follows the event")
INCOMPLETE: Final = refusal(400, "this stream cannot be resumed completely: some of its events are no longer kept")


@attrs.define(eq=False, kw_only=True)
class GetStreams:
    """Serves GET for sessions."""

    context: Context

    def prepare(self, request: Request, reply: Reply, session: Session) -> Job:
        """The job of one GET: a stream that its client leaves, a newer one replaces, or the drain ends."""
        last = b", ".join(request.all(b"last-event-id"))  # several name no event
        if last and session.era.resumable:
            return self._resumed(reply, session, last.decode("latin-1"))
        if self.context.draining:  # but a client that lost its connection may still fetch what its call says
            return turn_away(reply)
        log = session.replay.open(standalone=True) if session.era.resumable else None
        return GetStream(context=self.context, reply=reply, session=session, log=log)

    def _resumed(self, reply: Reply, session: Session, event_id: str) -> Job:
        found = session.replay.find(event_id)
        if found is None or found[0].after(found[1]) is None:
            return refuse(reply, INCOMPLETE)
        log, seq = found
        if log.ended and not log.after(seq):
            # A cancelled call's stream ends without a response. To be given another empty stream makes the SDKs ask
            # again, for ever (mcp 1.30: each second; TypeScript: by one more standalone stream); a 405 is an end.
            return refuse(reply, OVER, (b"allow", b"POST, DELETE"))
        return GetStream(context=self.context, reply=reply, session=session, log=log, after=seq)

    def seated(self, backend: Backend) -> None:
        """A server is there: new, again, or as another generation. It may speak on the streams of who has used it."""
        for session in self.context.sessions:
            if session.listeners and backend.key in session.backends:
                hear_unasked(self.context, session, backend)


@attrs.define(eq=False, kw_only=True)
class GetStream(EventStream):
    """One open stream: bounded, replaced by newer ones."""

    context: Context
    session: Session
    log: StreamLog | None
    after: int | None = None
    """The event after which it is resumed; None: it is new."""

    async def hold(self, scope: trio.CancelScope) -> None:
        """See ``EventStream``."""
        session, log = self.session, self.log
        while len(session.streams) >= self.context.spec.value.limits.streams_per_session:
            session.streams.pop(0).cancel(reason="a newer stream took its place")

        def let_go() -> None:
            scope.cancel(reason="its client has resumed it")

        session.streams.append(scope)
        if log is not None:
            log.taken_by(let_go)
        # A resumed call's stream is for that call alone.
        listens = log is None or (log.standalone and not log.ended)
        if listens:
            self._listen(1)
        try:
            await self.reply.open(200, ())
            await self._say()
        finally:
            if scope in session.streams:
                session.streams.remove(scope)
            if log is not None and log.holder is let_go:
                log.holder = None
            session.touch()
            if listens:
                self._listen(-1)

    async def _say(self) -> None:
        log, keep_alive_s = self.log, self.context.spec.value.http.keep_alive_s
        if log is not None and self.after is not None:
            missed = Missed(log, self.after)
            goes_on = await pump(self.reply, missed, keep_alive_s) and log.standalone and not log.ended
            if not goes_on or log.after(missed.seq) is None:
                return
        elif log is not None and self.session.era.priming_event:
            await self.reply.event(b"", event_id=log.append(b""), retry_ms=RETRY_MS)
        if await pump(self.reply, Messages(self.session.mailbox, log), keep_alive_s) and log is not None:
            if self.session.era.priming_event:  # older clients would take an event without data for a broken message
                # A client that resumes soon finds the next replica, or this session's end.
                await self.reply.event(b"", event_id=log.append(b""), retry_ms=RETRY_MS)
            log.end()

    def _listen(self, more: int) -> None:
        """The session has one listener more or less; with its first and its last, backends' own streams follow."""
        session = self.session
        session.listeners += more
        if session.listeners != max(more, 0) or session.ended:
            return
        for key in tuple(session.backends):
            backend = self.context.calls.fleet.get(BackendKey(key))
            if backend is not None and more > 0:
                hear_unasked(self.context, session, backend)
            elif backend is not None:
                backend.set_stream(session.key, None)


@attrs.define(eq=False)
class Missed:
    """What a client has missed of a stream, and then what still comes, until it ends or was read up to now."""

    log: StreamLog
    seq: int
    _missed: list[tuple[int, bytes]] = attrs.field(factory=list)

    def take(self) -> tuple[bytes, str | None] | None:
        """See ``event_stream.Source``."""
        if not self._missed:
            self._missed = (self.log.after(self.seq) or [])[::-1]
        if not self._missed:
            return None
        self.seq, data = self._missed.pop()
        return data, f"{self.log.name}-{self.seq}"

    def unsent(self, data: bytes) -> None:
        """It stays in the log."""

    @property
    def over(self) -> bool:
        """Also when overtaken by the bound while this client read slowly; what follows live is for ``Messages``."""
        return self.log.ended or self.log.standalone or self.log.after(self.seq) is None

    async def wait(self) -> None:
        """See ``event_stream.Source``."""
        await self.log.grown()
