"""Streamable HTTP to a 2025 backend: one initialized session.

Owns the session id, the listen stream's place and the notices of cancellation.
Deliberately keeps no connection (``http_client``) and shakes no hands (``streamable_http``).
What an answer says of the session is judged by ``session_sign`` and kept in ``doubts``.
Invariant: the session id goes into request heads and nowhere else; a call that is
left early is cancelled by name.
Spec: MCP 2025-11-25, basic/transports and basic/lifecycle.
"""

import itertools
import logging
from collections.abc import Iterator
from typing import Final

import attrs
import trio

from mcp_gateway.backends.transports.base import GOODBYE_S, Answer, Hear, Hello, Outgoing
from mcp_gateway.backends.transports.doubts import Doubts
from mcp_gateway.backends.transports.event_bounds import decoder_for
from mcp_gateway.backends.transports.http_client import HttpPool
from mcp_gateway.backends.transports.http_connection import HttpConnection
from mcp_gateway.backends.transports.http_exchange import (
    EVENT_STREAM,
    JSON,
    POST_HEADERS,
    AnswerReader,
    HttpExchange,
    PostHeads,
    StrayAnswer,
    leaving_reason,
)
from mcp_gateway.backends.transports.origin import render_headers
from mcp_gateway.backends.transports.session_sign import REFUSING, Sign, judge
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import (
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendSessionLost,
    Executed,
    GatewayError,
)
from mcp_gateway.protocol import json_text, jsonrpc
from mcp_gateway.protocol.eras import Era
from mcp_gateway.protocol.jsonrpc import RpcResponse
from mcp_gateway.values import BackendKey, Header, JsonObject

logger = logging.getLogger(__name__)

RESUME_TRIES: Final = 5
"""Resumptions in a row that bring no new event; a backend that polls (2025-11-25) brings one each time."""
RESUME_PAUSE_S: Final = 1.0
"""Before a resumption, unless the backend said how long (``retry``)."""
_UNREAD: Final = (401, 403, 429, 503)
"""Refusals whose bodies say nothing that matters."""
_GET: Final = ((b"Accept", b"text/event-stream"),)


@attrs.frozen(kw_only=True, eq=False)
class NoStream(GatewayError):
    """The backend has no standalone stream, which is normal (HTTP 405)."""

    backend: BackendKey

    def __str__(self) -> str:
        return f"server {self.backend!r} has no stream of its own"


@attrs.define(kw_only=True, eq=False)
class LegacyHttpLink:
    """One initialized session; see ``base.Link``. Made by ``streamable_http.open_legacy``."""

    pool: HttpPool
    hello: Hello
    limits: BackendLimits
    session_id: bytes | None = attrs.field(default=None, repr=False)
    forward: tuple[Header, ...] = attrs.field(default=(), repr=False)
    """Sent with what is no exchange: notices, the listen stream, the goodbye."""
    notices_failed: int = 0
    """Cancellation notices that the backend did not take."""
    goodbyes_failed: int = 0
    unasked: int = 0
    """Responses on the listen stream that nobody waits for."""
    doubts: Doubts | None = attrs.field(init=False, default=None)
    """Whether the session stands; None where there is none."""
    _ids: Iterator[int] = attrs.field(factory=lambda: itertools.count(2), repr=False)  # 1 was initialize
    _lost_by: int | None = None
    """The HTTP status that said so."""
    _closed: bool = False
    _listened: HttpExchange = attrs.field(factory=lambda: HttpExchange(upstream_id=0), repr=False)
    _listen_at: float = 0.0
    _reader: AnswerReader = attrs.field(init=False, repr=False)
    _session: bytes = attrs.field(init=False, repr=False)
    _heads: PostHeads = attrs.field(init=False, repr=False)
    _notify: bytes = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._reader = AnswerReader(
            key=self.pool.key,
            limits=self.limits,
            requests_allowed=True,
            observer=self.pool.observer,
            batches=self.era.batches,
        )
        lines: list[Header] = []
        if self.era.version_header:
            lines.append((b"MCP-Protocol-Version", self.era.version.encode("ascii")))
        if self.session_id is not None:
            lines.append((b"Mcp-Session-Id", self.session_id))
            self.doubts = Doubts()
        self._session = render_headers(lines)
        self._heads = PostHeads(pool=self.pool, lines=render_headers(POST_HEADERS) + self._session)
        self._notify = self._heads.lines + render_headers(self.forward)

    @property
    def era(self) -> Era:
        """See ``base.Link``."""
        return self.hello.era

    @property
    def shared(self) -> bool:
        """See ``base.Link``: without a session id nobody owns it."""
        return self.session_id is None

    @property
    def lost(self) -> bool:
        """See ``base.Link``."""
        return self._lost_by is not None or self._closed

    async def exchange(self, outgoing: Outgoing, hear: Hear) -> Answer:
        """See ``base.Link.exchange``. A broken event stream is resumed where the backend gave event ids."""
        if self._lost_by is not None or self._closed:
            raise BackendSessionLost(backend=self.pool.key)
        exchange = HttpExchange(
            upstream_id=next(self._ids),
            outgoing=outgoing,
            head=self._heads.of(outgoing),
            places=self.pool.places(control=outgoing.control, stream=outgoing.task is not None),
        )
        try:
            response = await self.pool.ask(exchange)
            answer = self._reader.read_now(response, exchange)
            if answer is None:
                answer = await self._read(response, outgoing, hear, exchange)
            self._note_answer(answer, exchange)
            return answer
        except (BackendGone, BackendSessionLost) as error:
            exchange.over = True  # nobody there to tell
            if isinstance(error, BackendGone) and error.executed is not Executed.NO:
                self._note(Sign.FAILED)
            raise
        except BackendProtocol as fault:
            if fault.status is None:  # else noted where it was refused
                self._note(Sign.FAILED)
            raise
        finally:
            try:
                if exchange.written and not exchange.over and outgoing.cancellable:
                    reason = leaving_reason()
                    self.pool.leave(exchange)  # the notice needs a place, too
                    with trio.move_on_after(GOODBYE_S, shield=True):
                        await self._say_cancelled(exchange, reason)
                    self.notices_failed += not exchange.over
            finally:
                self.pool.release(exchange)  # an unfinished answer's connection is closed after the notice

    async def notify(self, message: bytes) -> None:
        """See ``base.Link.notify``. Any answer but a lost session counts as taken: there is no way to do better."""
        self._refuse_if_lost()
        async with self.pool.request(b"POST", self._notify, message, control=True) as response:
            body = await self._reader.error_body(response) if response.status in REFUSING else b""
            self._check_taken(response.status, response.content_type, body)

    def _check_taken(self, status: int, media_type: bytes = b"", body: bytes = b"") -> None:
        """What the answer to a notification says."""
        sign = judge(status, media_type, body, None)
        if sign is Sign.LOST and self.session_id is not None:
            raise self._session_lost(Executed.NO, status)
        if sign is Sign.SUSPICIOUS:
            self._note(sign)
        if status != 202:
            logger.debug("notification answered unexpectedly", extra={"backend": self.pool.key, "status": status})

    async def listen(self, hear: Hear, opened: trio.Event | None = None) -> None:
        """Hold the standalone stream; return when the backend ends it. Called again, it goes on where it was.

        A ``retry`` that the backend gave is waited for first.

        Args:
            opened: set once the backend has accepted.
        Raises:
            NoStream: it has none. BackendSessionLost, BackendGone and the others of ``exchange``.
        """
        self._refuse_if_lost()
        await trio.sleep_until(self._listen_at)
        exchange = self._listened
        try:
            async with self.pool.request(b"GET", self._get_headers(exchange), stream=True) as response:
                await self._check_stream(response, exchange)
                if opened is not None:
                    opened.set()
                await self._hear_stream(response, exchange, hear)
        finally:
            if exchange.retry_ms is not None:
                self._listen_at = trio.current_time() + exchange.retry_ms / 1000

    async def aclose(self) -> None:
        """End the session (DELETE) within ``GOODBYE_S``. Errors are counted; idempotent."""
        if self._closed:
            return
        self._closed = True
        if self.session_id is None or self._lost_by == 404:  # who said it in words only may have meant something else
            return
        ended = False
        with trio.move_on_after(GOODBYE_S, shield=True):
            ended = await end_session(self.pool, self._session + render_headers(self.forward))
        self.goodbyes_failed += not ended

    async def _read(self, response: HttpConnection, outgoing: Outgoing, hear: Hear, exchange: HttpExchange) -> Answer:
        """The answer that has not come whole and as usual."""
        answer: Answer | None = None
        try:
            self.pool.check(response)
            if response.status >= 400:
                return await self._refused(response, exchange)
            answer = await self._reader.read(response, exchange, hear)
        except StrayAnswer as stray:
            sign = judge(200, JSON, stray.raw, exchange.upstream_id)
            if sign is Sign.LOST and not exchange.heard and self.session_id is not None:
                raise self._session_lost(Executed.NO, 200) from stray
            raise
        except BackendGone:
            if exchange.last_event_id is None:
                raise
            exchange.broken = True  # but the backend can go on from the last event
        return answer if answer is not None else await self._resume(outgoing, hear, exchange)

    async def _resume(self, outgoing: Outgoing, hear: Hear, exchange: HttpExchange) -> Answer:
        """Ask for the rest of the stream until the answer comes (2025-11-25, Resumability and Redelivery)."""
        if exchange.last_event_id is None or not self.era.resumable:
            exchange.over = True
            raise self._reader.ended_without_answer(exchange)
        self.pool.release(exchange)
        fruitless = 0
        while fruitless < RESUME_TRIES:
            if not exchange.broken:
                await outgoing.polled(exchange.retry_ms)
            # "the client MUST respect the retry field, waiting the given number of milliseconds"
            await trio.sleep(RESUME_PAUSE_S if exchange.retry_ms is None else exchange.retry_ms / 1000)
            before, exchange.broken = exchange.last_event_id, False
            try:
                headers = self._get_headers(exchange, outgoing.headers)
                stream = outgoing.task is not None
                async with self.pool.request(b"GET", headers, control=outgoing.control, stream=stream) as response:
                    if response.status != 200 or response.content_type != EVENT_STREAM:
                        raise self._resume_refused(response)
                    answer = await self._reader.read_events(response, exchange, hear)
                if answer is not None:
                    return answer
            except BackendGone as gone:
                exchange.broken = True
                logger.debug("resumption failed", extra={"backend": self.pool.key, "why": str(gone)})
            fruitless = 0 if exchange.last_event_id != before else fruitless + 1
        raise BackendGone(backend=self.pool.key, why="its event stream ended and could not be resumed")

    def _resume_refused(self, response: HttpConnection) -> BackendError:
        if response.status == 404 and self.session_id is not None:
            return self._session_lost(Executed.UNKNOWN, 404)
        return BackendProtocol(
            backend=self.pool.key,
            why=f"its event stream ended without the answer and was not resumed (HTTP {response.status})",
            status=response.status,
        )

    async def _refused(self, response: HttpConnection, exchange: HttpExchange) -> Answer:
        if self.session_id is None:
            return await self._reader.refused(response, exchange)
        body = b"" if response.status in _UNREAD else await self._reader.error_body(response)
        sign = judge(response.status, response.content_type, body, exchange.upstream_id)
        if sign is Sign.LOST:
            raise self._session_lost(Executed.NO, response.status)
        self._note(sign)
        return await self._reader.refused(response, exchange, body)

    def _note_answer(self, answer: Answer, exchange: HttpExchange) -> None:
        """What an answer by our id says of the session; one with a status of 400 or more was judged with its head."""
        doubts = self.doubts
        if doubts is None or answer.status >= 400:
            return
        parts = answer.known or answer.parts
        if parts.is_error:
            doubts.note(judge(answer.status, JSON, answer.raw, exchange.upstream_id))
        elif doubts.failed or not doubts.answered:
            doubts.note(Sign.ANSWERED)
        else:
            doubts.proven_at = trio.current_time()

    def _note(self, sign: Sign) -> None:
        if self.doubts is not None:
            self.doubts.note(sign)

    async def _say_cancelled(self, exchange: HttpExchange, reason: str) -> None:
        """Tell the backend to stop, on a control connection, so that a full ``concurrency`` does not matter."""
        params: JsonObject = {"requestId": exchange.upstream_id, "reason": reason}
        message = jsonrpc.render_notification("notifications/cancelled", json_text.dumps(params))
        try:
            self._refuse_if_lost()
            self._check_taken(await self.pool.tell(self._notify, message))
            exchange.over = True
        except BackendError as error:
            logger.debug("cancellation notice failed", extra={"backend": self.pool.key, "why": str(error)})

    async def _check_stream(self, response: HttpConnection, exchange: HttpExchange) -> None:
        if response.status == 200 and response.content_type == EVENT_STREAM:
            return
        if exchange.last_event_id is not None:
            exchange.last_event_id = None  # it may have refused the resumption only: the next stream begins anew
        if response.status >= 400:
            await self._refuse_stream(response, exchange)
        raise BackendProtocol(
            backend=self.pool.key, why=f"a GET was answered by HTTP {response.status} without an event stream"
        )

    async def _refuse_stream(self, response: HttpConnection, exchange: HttpExchange) -> None:
        body = b"" if response.status in _UNREAD else await self._reader.error_body(response)
        if judge(response.status, response.content_type, body, None) in (Sign.LOST, Sign.SUSPICIOUS):
            if response.status == 404 and self.session_id is not None and await self._reader.error_of(response, body):
                raise self._session_lost(Executed.NO, 404)
            self._note(Sign.SUSPICIOUS)  # 404 may be a route for POST alone, and a refusal that of the GET
        if response.status in (404, 405, 501):
            raise NoStream(backend=self.pool.key)
        await self._reader.refused(response, exchange, body)

    async def _hear_stream(self, response: HttpConnection, exchange: HttpExchange, hear: Hear) -> None:
        decoder = decoder_for(self.limits)
        while chunk := await response.receive_some():
            batch = self._reader.events(decoder, chunk, exchange)
            for raw in itertools.chain.from_iterable(self._reader.said(event, exchange) for event in batch):
                match self._reader.read_call(raw, exchange):
                    case None:
                        pass
                    case RpcResponse():
                        self.unasked += 1
                    case message:
                        await hear(self._reader.inbound(message))

    def _get_headers(self, exchange: HttpExchange, forward: tuple[Header, ...] | None = None) -> bytes:
        lines = [*_GET, *(self.forward if forward is None else forward)]
        if exchange.last_event_id is not None:
            lines.append((b"Last-Event-ID", exchange.last_event_id.encode()))
        return render_headers(lines) + self._session

    def _refuse_if_lost(self) -> None:
        if self.lost:
            raise BackendSessionLost(backend=self.pool.key)

    def _session_lost(self, executed: Executed, status: int) -> BackendSessionLost:
        self._lost_by = status
        return BackendSessionLost(backend=self.pool.key, executed=executed, status=status)


async def end_session(pool: HttpPool, headers: bytes) -> bool:
    """Ask the backend to forget a session; whether it has heard. The caller holds the deadline."""
    try:
        async with pool.request(b"DELETE", headers, control=True):
            return True  # 405: "the server does not allow clients to terminate sessions"; also fine
    except BackendError as error:
        logger.debug("goodbye failed", extra={"backend": pool.key, "why": str(error)})
        return False
