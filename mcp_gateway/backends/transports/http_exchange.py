"""One exchange over HTTP: how far it has got, and from a response to the answer or to the one error it means.

Owns the reading of JSON and event-stream answers and the table of HTTP statuses.
Deliberately sends nothing and knows no session; both eras use it.
Invariant: what comes back is the answer to *our* id, or a ``BackendError``.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Final

import attrs
import trio

from mcp_gateway.backends.observer import SILENT, Observer
from mcp_gateway.backends.transports.base import Answer, Hear, Inbound, Outgoing
from mcp_gateway.backends.transports.event_bounds import above_response_bytes, decoder_for, too_large
from mcp_gateway.backends.transports.http_client import HttpPool, HttpRequest
from mcp_gateway.backends.transports.http_connection import HttpConnection
from mcp_gateway.backends.transports.origin import Origin, render_headers
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import (
    BackendAuth,
    BackendBusy,
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendTooLarge,
    RemoteFault,
)
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.headers import encode_value
from mcp_gateway.protocol.jsonrpc import RpcMessage, RpcNotification, RpcRequest, RpcResponse
from mcp_gateway.protocol.sse import SseDecoder
from mcp_gateway.values import BackendKey, Header

logger = logging.getLogger(__name__)

JSON: Final = b"application/json"
EVENT_STREAM: Final = b"text/event-stream"
POST_HEADERS: Final[tuple[Header, ...]] = (
    (b"Content-Type", b"application/json"),
    (b"Accept", b"application/json, text/event-stream"),
)
ERROR_BYTES: Final = 1 << 20
"""Bound of an error body that is read."""
WORDS_BYTES: Final = 1 << 14
"""The same where it is no JSON, and only its words could tell something."""
WORDS_S: Final = 1.0
"""How long such a body may take to come."""
REASON_CHARS: Final = 200
SKIPPED_LOGGED: Final = 5
"""Of each exchange, or stream; the rest is only counted."""
HEADS_KEPT: Final = 32
"""Of each link; then all are rendered anew, as where every call has other headers."""
EVENT_ID_CHARS: Final = 4096
"""A longer event id fits no request head; such a stream is not resumed."""


@attrs.define(kw_only=True, eq=False)
class HttpExchange(HttpRequest):
    """The request of one exchange and how far it has got; what leaving it early must know."""

    upstream_id: int
    outgoing: Outgoing | None = None
    written: bool = False
    """The request may have left."""
    over: bool = False
    """The backend is done with it, or cannot be told."""
    heard: bool = False
    """The backend has said something before its answer: it had begun."""
    broken: bool = False
    """Its stream ended without the backend's doing."""
    last_event_id: str | None = None
    retry_ms: int | None = None
    skipped: int = 0
    """What came on its event stream as a message and was none."""
    skipped_why: str = ""
    """Of the last."""

    def body(self) -> bytes:
        """See ``HttpRequest.body``: it is rendered in the moment the request may leave."""
        assert self.outgoing is not None
        raw = self.outgoing.render(self.upstream_id)
        self.written = True
        return raw


@attrs.define(kw_only=True, eq=False)
class PostHeads:
    """The heads of one link's POSTs, each rendered once for a set of extra headers."""

    pool: HttpPool
    lines: bytes = attrs.field(repr=False)
    """What all of them have."""
    names_method: bool = False
    """With Mcp-Method (2026-07-28)."""
    _made: dict[tuple[str, tuple[Header, ...]], bytes] = attrs.field(init=False, factory=dict, repr=False)
    _origin: Origin | None = None

    def of(self, outgoing: Outgoing) -> bytes:
        """See ``HttpPool.head``."""
        if self._origin is not self.pool.origin or len(self._made) > HEADS_KEPT:
            self._made.clear()
            self._origin = self.pool.origin
        key = (outgoing.method, outgoing.headers)
        head = self._made.get(key)
        if head is None:
            method = ((b"Mcp-Method", encode_value(outgoing.method)),) if self.names_method else ()
            lines = self.lines + render_headers((*method, *outgoing.headers))
            head = self._made[key] = self.pool.head(b"POST", lines)
        return head


@attrs.frozen(kw_only=True, eq=False)
class StrayAnswer(BackendProtocol):
    """A response came as the answer that does not carry the request's id."""

    raw: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class AnswerReader:
    """Reads what comes after a request's head."""

    key: BackendKey
    limits: BackendLimits
    requests_allowed: bool
    """Legacy servers send requests on a stream; "the server MUST NOT" in 2026-07-28."""
    observer: Observer = SILENT
    batches: bool = False
    """Messages may come in arrays: implementations "MUST support receiving JSON-RPC batches" in 2025-03-26 only."""

    def read_now(self, response: HttpConnection, exchange: HttpExchange) -> Answer | None:
        """The answer, where it has come as usual: all of it in one piece of JSON. None: it has to be ``read``."""
        if response.content_type != JSON or response.status >= 300 or b"content-encoding" in response.headers:
            return None
        raw = response.whole(self.limits.response_bytes)
        parts = None if raw is None else jsonrpc.usual_answer(raw, exchange.upstream_id)
        if raw is None or parts is None:
            return None
        exchange.over = True
        return Answer(raw=raw, status=response.status, known=parts)

    async def read(self, response: HttpConnection, exchange: HttpExchange, hear: Hear) -> Answer | None:
        """The answer in a 2xx response; None when its event stream ended without one.

        Raises:
            BackendProtocol, BackendTooLarge, BackendGone; what ``hear`` raises.
        """
        if response.content_type == EVENT_STREAM:
            return await self.read_events(response, exchange, hear)
        if response.content_type != JSON:
            exchange.over = True
            said = response.content_type[:64].decode("ascii", "replace") or "no content type"
            raise self._protocol(f"a request was answered by HTTP {response.status} with {said}")
        return await self._read_json(response, exchange, hear)

    async def _read_json(self, response: HttpConnection, exchange: HttpExchange, hear: Hear) -> Answer:
        try:
            raw = jsonrpc.unpadded(await response.read(self.limits.response_bytes))
        except BackendError:
            exchange.over = True
            raise
        exchange.over = True
        with self._strict():
            *before, last = self._messages(raw)
        for one in before:
            with self._strict():
                found = self._read(one, response.status, exchange)
            if isinstance(found, Answer):
                return found
            exchange.heard = True
            await hear(found)
        with self._strict():
            return self._answer(last, response.status, exchange)

    async def read_events(self, response: HttpConnection, exchange: HttpExchange, hear: Hear) -> Answer | None:
        """Give every message of the stream to ``hear`` until the answer comes; None when the stream ends first."""
        decoder = decoder_for(self.limits)
        while chunk := await response.receive_some():
            batch = self.events(decoder, chunk, exchange)
            for raw in batch:
                for found in self._found_in(raw, response.status, exchange, more=len(batch) > 1):
                    if isinstance(found, Answer):
                        exchange.over = True
                        response.ending = True  # nothing follows the answer but the end of the stream
                        return found
                    exchange.heard = True
                    await hear(found)
            if len(batch) > 1 and exchange.outgoing is not None:
                await exchange.outgoing.caught_up()
        return None

    def _found_in(self, raw: bytes, status: int, exchange: HttpExchange, *, more: bool) -> Iterator[Answer | Inbound]:
        """The messages of one event of a call's stream. What is none is skipped, unless it must be the answer."""
        for one in self.said(raw, exchange):
            try:
                found = self._read(one, status, exchange, more=more)
            except RemoteFault as fault:
                if jsonrpc.claimed_id(one) == exchange.upstream_id:
                    raise self._protocol(f"an answer that is not JSON-RPC: {fault.what}") from fault
                self.skip(fault.what, exchange)
            else:
                yield found

    def said(self, raw: bytes, exchange: HttpExchange) -> list[bytes]:
        """The raw messages of one event; none, and counted, where a batch is none."""
        try:
            return self._messages(raw)
        except RemoteFault as fault:
            self.skip(fault.what, exchange)
            return []

    def skip(self, why: str, exchange: HttpExchange) -> None:
        """Count what came as a message and is none."""
        exchange.skipped += 1
        exchange.skipped_why = why
        self.observer.message_skipped(self.key)
        if exchange.skipped <= SKIPPED_LOGGED:
            logger.debug("not a message", extra={"backend": self.key, "why": why, "count": exchange.skipped})

    def _messages(self, raw: bytes) -> list[bytes]:
        """The messages in one body or event: itself, or the elements of an array where there are batches.

        Raises:
            RemoteFault: an array that is no batch.
        """
        if not self.batches or not jsonrpc.looks_like_batch(raw):
            return [raw]
        return jsonrpc.split_batch(raw)

    def events(self, decoder: SseDecoder, chunk: bytes, exchange: HttpExchange) -> list[bytes]:
        """The data of the message events that a piece of a stream completes; ``exchange`` learns ids and pauses.

        Raises:
            BackendTooLarge: an event above the bound.
        """
        try:
            found = decoder.feed(chunk)
        except RemoteFault as exc:
            raise too_large(self.key, decoder) from exc
        event_id = decoder.last_event_id
        if event_id is not None and len(event_id) <= EVENT_ID_CHARS:
            exchange.last_event_id = event_id
        exchange.retry_ms = decoder.retry_ms if decoder.retry_ms is not None else exchange.retry_ms
        return [event.data for event in found if event.data and event.event == "message"]

    def inbound(self, message: RpcRequest | RpcNotification, *, more: bool = False) -> Inbound:
        """A message of the backend, for ``hear``; ``more``: see ``Inbound``.

        Raises:
            BackendProtocol: a request where there must be none.
        """
        if isinstance(message, RpcNotification):
            return Inbound(method=message.method, params=message.params, raw=message.raw, more=more)
        if not self.requests_allowed:
            raise self._protocol("a request from the server, which its protocol version forbids")
        return Inbound(method=message.method, params=message.params, raw=message.raw, id_raw=message.id_raw, more=more)

    def read_call(self, raw: bytes, exchange: HttpExchange) -> RpcMessage | None:
        """A message of a listen stream; None, and counted, for what is none."""
        try:
            return jsonrpc.read(raw)
        except RemoteFault as fault:
            self.skip(fault.what, exchange)
            return None

    def _read(self, raw: bytes, status: int, exchange: HttpExchange, *, more: bool = False) -> Answer | Inbound:
        """One message.

        Raises:
            RemoteFault: it is none. BackendProtocol, BackendTooLarge: one that must not come.
        """
        parts = jsonrpc.usual_answer(raw, exchange.upstream_id)
        if parts is None and b'"method"' in raw and not jsonrpc.begins_answer(raw):
            message = jsonrpc.read(raw)
            if not isinstance(message, RpcResponse):
                return self.inbound(message, more=more)
        return self._answer(raw, status, exchange, parts)

    def _answer(
        self, raw: bytes, status: int, exchange: HttpExchange, known: jsonrpc.AnswerParts | None = None
    ) -> Answer:
        answer = Answer(raw=raw, status=status, known=known)
        parts = answer.parts
        # An id of another type is another id: "3" is not 3.
        if type(parts.id) is not int or parts.id != exchange.upstream_id:
            why = "an answer without an id" if parts.id is None else "an answer with another id"
            raise StrayAnswer(backend=self.key, why=why, raw=answer.raw)
        excess = above_response_bytes(self.key, self.limits, raw)
        if excess is not None:
            raise excess
        return answer

    @contextmanager
    def _strict(self) -> Iterator[None]:
        """Inside, what is no message is the end of the exchange."""
        try:
            yield
        except RemoteFault as fault:
            raise self._protocol(f"an answer that is not JSON-RPC: {fault.what}") from fault

    async def refused(self, response: HttpConnection, exchange: HttpExchange, body: bytes | None = None) -> Answer:
        """What a status of 400 or more means: the backend's own JSON-RPC error with our id, or a typed error.

        Args:
            body: what ``error_body`` gave, if it was asked.
        Raises:
            BackendAuth: 401, 403. BackendBusy: 429, 503. BackendProtocol: any other without a JSON-RPC error.
        """
        exchange.over = True
        if response.status in (401, 403):
            raise BackendAuth(backend=self.key, status=response.status)
        if response.status in (429, 503):
            raise BackendBusy(backend=self.key, status=response.status, retry_after_ms=retry_after_ms(response))
        error = await self.error_of(response, body)
        if error is None:
            raise self._protocol(f"HTTP {response.status} without a JSON-RPC answer", response.status)
        return self.own_error(error, response, exchange)

    def own_error(self, error: jsonrpc.AnswerParts, response: HttpConnection, exchange: HttpExchange) -> Answer:
        """The error as the answer to our request, its bytes untouched."""
        exchange.over = True
        # Ids in error bodies are unreliable ("server-error", null), and only one request is answered here.
        raw = b'{"jsonrpc":"2.0","id":%d,"error":%b}' % (exchange.upstream_id, error.result)
        return Answer(raw=raw, status=response.status)

    async def error_of(self, response: HttpConnection, body: bytes | None = None) -> jsonrpc.AnswerParts | None:
        """The JSON-RPC error that a response carries, if it does; ``body`` as for ``refused``."""
        if response.content_type != JSON:
            return None
        try:
            parts = jsonrpc.answer_parts(await self.error_body(response) if body is None else body)
        except RemoteFault:
            return None
        return parts if parts.is_error else None

    async def error_body(self, response: HttpConnection) -> bytes:
        """The body of a refusal; empty if it is too large, or is no JSON and does not come at once."""
        if response.content_type == JSON:
            try:
                return jsonrpc.unpadded(await response.read(min(ERROR_BYTES, self.limits.response_bytes)))
            except BackendTooLarge:
                return b""
        with trio.move_on_after(WORDS_S):
            try:
                return await response.read(WORDS_BYTES)
            except (BackendTooLarge, BackendGone):
                pass
        return b""

    def _protocol(self, why: str, status: int | None = None) -> BackendProtocol:
        return BackendProtocol(backend=self.key, why=why, status=status)

    def ended_without_answer(self, exchange: HttpExchange) -> BackendProtocol:
        """What to raise for an event stream that said nothing of the request."""
        why = "its event stream ended without the answer"
        if exchange.skipped:
            why += f"; of its events {exchange.skipped} were not JSON-RPC: {exchange.skipped_why}"
        return self._protocol(why)


def leaving_reason() -> str:
    """Why the current task is being cancelled, in the words given to ``CancelScope.cancel``. For ``finally`` blocks."""
    leaving = sys.exc_info()[1]
    if isinstance(leaving, trio.Cancelled):
        if leaving.reason:
            return leaving.reason[:REASON_CHARS]
        if leaving.source == "deadline":
            return "deadline reached"
    return "cancelled"


def retry_after_ms(response: HttpConnection) -> int | None:
    """``Retry-After`` in milliseconds: seconds, or a date compared with the response's own ``Date``."""
    value = response.headers.get(b"retry-after", b"").decode("ascii", "replace").strip()
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value) * 1000
    try:
        until = parsedate_to_datetime(value)
        now = parsedate_to_datetime(response.headers.get(b"date", b"").decode("ascii", "replace"))
        return max(0, int((until - now).total_seconds() * 1000))
    except (ValueError, TypeError, OverflowError):  # unreadable, without a time zone, or from no time at all
        return None
