"""One client's connection: request after request, each answered before the next.

Owns the reading, the time limits, the scope that jobs run in, and the end of the connection.
Deliberately knows no MCP: ``Service`` says what a head leads to. Invariants: requests are
answered in order; a scope is used again only while it was not cancelled, so a cut never
reaches another job; a request outlives its client, but never its client's socket.
"""

import logging
import math
import secrets
from http import HTTPStatus
from typing import Final

import attrs
import orjson
import trio

from mcp_gateway.backends.transports.wire import RECEIVE_BYTES, Wire
from mcp_gateway.errors import LocalFault
from mcp_gateway.front.http1 import answer
from mcp_gateway.front.http1.hang_ups import HangUps
from mcp_gateway.front.http1.outgoing import Outgoing
from mcp_gateway.front.http1.reply import Http1Reply
from mcp_gateway.front.http1.request_reader import Head, Malformed, RequestReader
from mcp_gateway.front.http1.service import Service, Timings
from mcp_gateway.gateway.entrance import Job, Request
from mcp_gateway.gateway.origin import Refusal
from mcp_gateway.telemetry.trace import note_request
from mcp_gateway.values import JsonObject

logger = logging.getLogger(__name__)

_LINGER_S: Final = 2.0
"""For a client to finish sending what nobody reads: closing with unread input resets the connection, and the client
would never see its answer."""


@attrs.define(eq=False, kw_only=True)
class Connection:
    """One accepted socket; ``await run()`` until it is closed."""

    service: Service
    hang_ups: HangUps
    wire: Wire
    tls: trio.SSLStream[Wire] | None
    peer: str
    waiting_since: float | None = attrs.field(init=False, factory=trio.current_time)
    """When the wait for a head began (Trio's clock); None while a request is under way."""
    patience_s: float = attrs.field(init=False)
    """How long that wait may be; who watches all connections cuts this one after it."""
    _timings: Timings = attrs.field(init=False)
    _stream: Wire | trio.SSLStream[Wire] = attrs.field(init=False)
    _reader: RequestReader = attrs.field(init=False, factory=RequestReader)
    _outgoing: Outgoing = attrs.field(init=False)
    _served: bool = attrs.field(init=False, default=False)
    """A head has come whole before."""
    _left: bool = attrs.field(init=False, default=False)
    """The client has left."""
    _over: bool = attrs.field(init=False, default=False)
    """No further request is served."""
    _request: Request | None = attrs.field(init=False, default=None)
    _reply: Http1Reply | None = attrs.field(init=False, default=None)
    _job: Job | None = attrs.field(init=False, default=None)
    """What runs, or still owes its answer."""

    def __attrs_post_init__(self) -> None:
        self._timings = self.service.timings
        self.patience_s = self._timings.head_s
        self._stream = self.wire if self.tls is None else self.tls
        self._outgoing = Outgoing(self.wire, self.tls, self._timings.send_stall_s, self.left)
        self.hang_ups.watch(self.wire.sock, self.left)

    async def run(self) -> None:
        """Serve until the connection is over, then close it."""
        try:
            if self.tls is not None and not await self._shake_hands(self.tls):
                return
            while not self._over:
                await self._serve_in_a_scope()
        finally:
            self.cut()

    def drain(self) -> None:
        """End after the answer that is under way; at once if there is none."""
        self._over = True
        if self._reply is not None:
            self._reply.closing = True
        if self.waiting_since is not None:
            self.cut()

    def cut(self) -> None:
        """Close the socket at once; idempotent. Who waits for it learns that the client is gone."""
        self.hang_ups.forget(self.wire.sock)
        self.wire.close()

    def left(self) -> None:
        """The client has left. After a complete answer this says nothing: everybody leaves some time."""
        self._left = True
        if self._job is not None and self._reply is not None and not self._reply.done and not self._reply.gone:
            self._reply.left()
            self.cut()  # a request that outlives its client must not hold the socket
            self._job.left()

    # --- requests -------------------------------------------------------------------------------------------------

    async def _serve_in_a_scope(self) -> None:
        """Serve until a job was cut or the connection is over; then, outside the scope, give the answer still owed."""
        refusal: Refusal | None = None
        try:
            with trio.CancelScope() as scope:
                refusal = await self._serve(scope)
            if self._job is not None and self._reply is not None:
                await self._finish(self._job, self._reply)
            elif scope.cancelled_caught:
                refusal = Refusal(status=408, message=f"the body took longer than {self._timings.body_s:g} s")
            if refusal is not None:
                await self._refuse(refusal)
        except* Exception as failed:  # noqa: BLE001  # the supervised border of one request
            await self._internal_error(failed)

    async def _serve(self, scope: trio.CancelScope) -> Refusal | None:
        """Serve request after request; the refusal that ends the connection, or None."""
        try:
            while not self._over:
                head = await self._next_head()
                if head is None:
                    self._over = True
                    return None
                request, reply = self._begin(head)
                refusal = self.service.admit(request)
                if refusal is None and not self._has_body():
                    refusal = await self._read_body(head, scope)
                if refusal is not None or not self._reader.complete:
                    self._over = True
                    return refusal
                request.body = self._reader.take_body()
                self.service.metrics.received(len(request.body))
                reply.closing = not self._goes_on(head)
                own = self.service.own_answer(request, head)
                if own is not None:
                    await reply.whole(own.status, own.headers, own.body)
                    self._end(reply)
                elif not await self._run(request, reply, scope):
                    return None
        except Malformed as malformed:
            return malformed.refusal
        return None

    def _goes_on(self, head: Head) -> bool:
        """Whether another request may follow: as the client says, and the drain, which may have begun meanwhile."""
        return self._reader.keep_alive and head.is_11 and not self._over

    def _begin(self, head: Head) -> tuple[Request, Http1Reply]:
        request = self.service.request(head, peer=self.peer, scheme="http" if self.tls is None else "https")
        if request.path:
            note_request(head.first)
        reply = Http1Reply(
            self.service,
            self._outgoing,
            chunks=head.is_11,
            is_head=head.method == "HEAD",
            extra=self.service.cors(request),
        )
        self._request, self._reply = request, reply
        return request, reply

    async def _run(self, request: Request, reply: Http1Reply, scope: trio.CancelScope) -> bool:
        """Run a request's job; False: its scope was cancelled, and it is finished outside."""
        job = self._job = self.service.dispatch.prepare(request, reply)
        if self._left:
            self.left()
        await job.run(scope)
        if scope.cancel_called:
            return False
        if scope.deadline != math.inf:
            scope.deadline = math.inf
        await self._finish(
            job, reply
        )  # nobody can cancel the scope any more, so this is as good as outside, and cheaper
        return True

    async def _finish(self, job: Job, reply: Http1Reply) -> None:
        await job.finish()
        if not reply.done:
            if not reply.begun and not reply.gone:
                raise LocalFault(what="a job ended without an answer")
            if reply.begun:
                await reply.close()
        self._end(reply)

    def _end(self, reply: Http1Reply) -> None:
        """A request is over; whether the connection is depends on its answer."""
        self._over = self._over or reply.closing or self._left
        self._job = self._request = self._reply = None

    # --- reading --------------------------------------------------------------------------------------------------

    async def _next_head(self) -> Head | None:
        """The next request's head; None: the client has left, or was silent for too long."""
        reader = self._reader
        if reader.has_more and (head := reader.head()) is not None:
            await trio.lowlevel.checkpoint()  # a client that sends many at once must not have every turn
            return head
        self.patience_s = self._timings.keep_alive_s if self._served else self._timings.head_s
        self.waiting_since = trio.current_time()
        head = None
        while head is None:
            data = await self._receive()
            if not data:
                return None
            if self.patience_s != self._timings.head_s:
                self.patience_s, self.waiting_since = self._timings.head_s, trio.current_time()
            reader.feed(data)
            head = reader.head()
        self._served, self.waiting_since = True, None
        return head

    def _has_body(self) -> bool:
        """Whether the whole body, of a size that is allowed, has come already; nearly always so."""
        reader = self._reader
        if not reader.complete:
            reader.read_body()
        return reader.complete and reader.body_bytes <= self.service.spec.value.limits.body_bytes

    async def _read_body(self, head: Head, scope: trio.CancelScope) -> Refusal | None:
        """Read the rest of the body, or say why not. It stays incomplete when the client leaves meanwhile."""
        reader, bound = self._reader, self.service.spec.value.limits.body_bytes
        scope.deadline = trio.current_time() + self._timings.body_s
        waits = head.waits and not reader.body_bytes and not reader.has_more
        while max(head.length, reader.body_bytes) <= bound:
            if reader.complete:
                scope.deadline = math.inf
                return None
            if waits:  # only now: nothing of the body may come before its size was looked at
                waits = not await self._outgoing.send(answer.CONTINUE)
            data = await self._receive()
            if not data:
                return None
            reader.feed(data)
            reader.read_body()
        scope.deadline = math.inf
        return Refusal(status=413, message=f"the body is larger than limits.bodyBytes = {bound}")

    async def _receive(self) -> bytes | bytearray:
        try:
            return await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _shake_hands(self, tls: trio.SSLStream[Wire]) -> bool:
        try:
            await tls.do_handshake()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True

    # --- endings --------------------------------------------------------------------------------------------------

    async def _refuse(self, refusal: Refusal) -> None:
        """Answer without having used the rest of the input, and let the client read that."""
        reply = self._reply or Http1Reply(self.service, self._outgoing)
        reply.closing = self._over = True
        logger.info("request refused", extra={"why": refusal.message, "status": refusal.status})
        body = answer.error(answer.INVALID_REQUEST, refusal.message)
        if await reply.whole(refusal.status, (answer.JSON,), body) and refusal.status != HTTPStatus.REQUEST_TIMEOUT:
            with trio.move_on_after(_LINGER_S):
                self.wire.end()
                while await self._receive():
                    pass

    async def _internal_error(self, failed: BaseExceptionGroup[Exception]) -> None:
        request, reply = self._request, self._reply
        if request is None or reply is None:
            raise failed
        cause = failed.exceptions[0] if len(failed.exceptions) == 1 else failed
        error_id = secrets.token_hex(4)
        logger.error("request failed", exc_info=cause, extra={"error_id": error_id, "path": request.path})
        data: JsonObject = {"reason": "internal", "errorId": error_id}
        message = f"internal error (error id {error_id})"
        body = answer.error(answer.INTERNAL, message, _id_of(request.body), data)
        if not reply.begun:
            await reply.whole(500, (answer.JSON,), body)
        elif not reply.done:
            await reply.event(body)
            await reply.close()
        self._end(reply)


def _id_of(body: bytes) -> str | int | None:
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    found = message.get("id") if isinstance(message, dict) else None
    return found if isinstance(found, str | int) and not isinstance(found, bool) else None
