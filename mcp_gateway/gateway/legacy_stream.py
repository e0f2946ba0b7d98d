"""The streams that a 2025 client opens with GET: standalone, and resumed.

Owns what is sent on them and how they end. Deliberately makes no messages
(mailbox and replay log do). Invariants: a message goes to exactly one stream; a
resume gives only later events of the stream its id names, or nothing at all.

Spec: MCP 2025-11-25 basic/transports, Listening for Messages and Resumability.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import attrs
import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.gateway.core import Core
from mcp_gateway.gateway.entrance import Request, Watched
from mcp_gateway.gateway.http_answers import refusal, refuse, turn_away
from mcp_gateway.gateway.legacy_face import LegacyFace
from mcp_gateway.gateway.mailbox import Mailbox
from mcp_gateway.gateway.outlet import RETRY_MS
from mcp_gateway.gateway.replay import StreamLog
from mcp_gateway.gateway.session import Session
from mcp_gateway.values import BackendKey

OVER: Final = refusal(405, "this stream has ended: nothing follows the event")


@attrs.define(eq=False, kw_only=True)
class LegacyStream:
    """Serves GET for sessions."""

    core: Core
    face: LegacyFace

    async def serve(self, request: Request, reply: Watched, session: Session) -> None:
        """Hold one stream open until the client leaves, a newer one replaces it, or the gateway drains."""
        last = b", ".join(request.all(b"last-event-id"))  # several name no event
        if last and session.era.resumable:
            await self._resume(reply, session, last.decode("latin-1"))
            return
        if self.core.draining():  # but a client that lost its connection may still fetch what its call says
            await turn_away(reply)
            return
        log = session.replay.open(standalone=True) if session.era.resumable else None
        await self._hold(reply, session, log, partial(self._standalone, reply, session, log))

    async def _standalone(self, reply: Watched, session: Session, log: StreamLog | None) -> None:
        if log is not None and session.era.priming_event:
            await reply.event(b"", event_id=log.append(b""), retry_ms=RETRY_MS)
        await self.pump(reply, session, log)

    async def _hold(
        self, reply: Watched, session: Session, log: StreamLog | None, say: Callable[[], Awaitable[None]]
    ) -> None:
        """The life of one stream: bounded, replaced by newer ones, ended when its client leaves."""
        bound = self.core.spec.value.limits.streams_per_session
        while len(session.streams) >= bound:
            session.streams.pop(0).cancel(reason="a newer stream took its place")
        with trio.CancelScope() as scope:

            def let_go() -> None:
                scope.cancel(reason="its client has resumed it")

            session.streams.append(scope)
            if log is not None:
                log.taken_by(let_go)
            reply.on_gone(lambda: scope.cancel(reason="client left"))
            # A resumed call's stream is for that call alone.
            listens = log is None or (log.standalone and not log.ended)
            if listens:
                session.listeners += 1
                if session.listeners == 1:
                    self._connect(session, opened=True)
            try:
                await reply.open(200, ())
                await say()
            finally:
                if scope in session.streams:
                    session.streams.remove(scope)
                if log is not None and log.holder is let_go:
                    log.holder = None
                session.touch()
                if listens:
                    session.listeners -= 1
                    if not session.listeners and not session.ended:
                        self._connect(session, opened=False)
        if scope.cancelled_caught:
            await reply.close()

    async def pump(self, reply: Watched, session: Session, log: StreamLog | None) -> None:
        """Send what the mailbox holds, and a comment when it is quiet."""
        mailbox = session.mailbox
        keep_alive_s = self.core.spec.value.http.keep_alive_s
        while True:
            message = mailbox.take()
            if message is not None:
                if not await self._say(reply, mailbox, message, log):
                    return
                continue
            if mailbox.closed:
                break
            with trio.move_on_after(keep_alive_s) as quiet:
                await mailbox.wait()
            if quiet.cancelled_caught and not await reply.comment():
                return
        if log is not None:
            if session.era.priming_event:  # older clients would take an event without data for a broken message
                # A client that resumes soon finds the next replica, or this session's end.
                await reply.event(b"", event_id=log.append(b""), retry_ms=RETRY_MS)
            log.end()
        await reply.close()

    async def _say(self, reply: Watched, mailbox: Mailbox, message: bytes, log: StreamLog | None) -> bool:
        """Send one message. What did not go out waits for this stream's resume, or else for the next stream."""
        event_id = log.append(message) if log is not None else None
        sent = False
        try:
            sent = await reply.event(message, event_id=event_id)
        finally:
            if not sent and log is None:
                mailbox.put_back(message)
        return sent

    async def _resume(self, reply: Watched, session: Session, event_id: str) -> None:
        found = session.replay.find(event_id)
        if found is None or found[0].after(found[1]) is None:
            text = "this stream cannot be resumed completely: some of its events are no longer kept"
            await refuse(reply, refusal(400, text))
            return
        log, seq = found
        if log.ended and not log.after(seq):
            # A cancelled call's stream ends without a response. To be given another empty stream makes the SDKs ask
            # again, for ever (mcp 1.30: each second; TypeScript: by one more standalone stream); a 405 is an end.
            await refuse(reply, OVER, ((b"allow", b"POST, DELETE"),))
            return
        await self._hold(reply, session, log, partial(self._replay, reply, session, log, seq))

    async def _replay(self, reply: Watched, session: Session, log: StreamLog, seq: int) -> None:
        """Send what the client missed, then what still comes, until that stream ends."""
        keep_alive_s = self.core.spec.value.http.keep_alive_s
        while True:
            missed = log.after(seq)
            if missed is None:  # overtaken by the bound while this client read slowly
                break
            for number, data in missed:
                if not await reply.event(data, event_id=f"{log.name}-{number}"):
                    return
                seq = number
            if log.next_seq - 1 > seq:
                continue
            if log.standalone and not log.ended:
                await self.pump(reply, session, log)
                return
            if log.ended:
                break
            with trio.move_on_after(keep_alive_s) as quiet:
                await log.grown()
            if quiet.cancelled_caught and not await reply.comment():
                return
        await reply.close()

    def seated(self, backend: Backend) -> None:
        """A server is there: new, again, or as another generation. It may speak on the streams of who has used it."""
        for session in self.core.sessions:
            if session.listeners and backend.key in session.backends:
                self.face.hear_unasked(session, backend)

    def _connect(self, session: Session, *, opened: bool) -> None:
        """The session got its first listener or lost its last: backends' own streams follow."""
        for key in tuple(session.backends):
            backend = self.core.runner.fleet.get(BackendKey(key))
            if backend is not None and opened:
                self.face.hear_unasked(session, backend)
            elif backend is not None:
                backend.set_stream(session.key, None)
