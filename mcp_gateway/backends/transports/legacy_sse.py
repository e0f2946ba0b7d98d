"""Backends of 2024-11-05: HTTP+SSE, one stream down and a POST for each message up.

Owns the stream, the ``endpoint`` it names, and the meaning of the statuses that
POSTs get. Deliberately no sockets (``http_client``) and no re-opening: a stream
cannot be resumed, so the owner opens a new link. Invariant: messages are posted
to the origin that was configured and nowhere else, whatever the backend says.
Spec: MCP 2024-11-05 basic/transports, HTTP with SSE.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import attrs
import trio

from mcp_gateway.backends.observer import SILENT, Observer
from mcp_gateway.backends.transports.asking import asking
from mcp_gateway.backends.transports.base import ClientIdentity, Hear
from mcp_gateway.backends.transports.event_bounds import decoder_for, too_large
from mcp_gateway.backends.transports.http_client import HttpPool
from mcp_gateway.backends.transports.http_connection import HttpConnection
from mcp_gateway.backends.transports.origin import Origin, name_url, render_headers, request_target
from mcp_gateway.backends.transports.pipe import PipeLink, TooLong, nobody_cares, open_pipe
from mcp_gateway.backends.transports.pipe_greeting import NOBODY, greet
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import (
    BackendAuth,
    BackendBusy,
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendSessionLost,
    Executed,
    RemoteFault,
)
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.sse import HEAD_BYTES, SseDecoder, SseEvent
from mcp_gateway.values import BackendKey, Header

POST_S: Final = 10.0
"""How long a POST may take to be accepted: it is only queued there, the answer comes on the stream."""
ENDPOINT_BYTES: Final = 8192
SKIPPED_MAX: Final = 100
"""Events before the ``endpoint``; a stream with more is none of this transport."""

_POST_HEADERS: Final = render_headers(((b"Content-Type", b"application/json"), (b"Accept", b"*/*")))
_GET_HEADERS: Final[tuple[Header, ...]] = ((b"Accept", b"text/event-stream"), (b"Cache-Control", b"no-store"))


@attrs.define(eq=False, kw_only=True)
class SsePipe:
    """Frames over one event stream and many POSTs (``pipe.Pipe``)."""

    pool: HttpPool
    path: bytes
    """Where to POST: path and query of the endpoint."""
    _limits: BackendLimits = attrs.field(alias="limits", repr=False)
    _decoder: SseDecoder = attrs.field(alias="decoder", repr=False)
    _response: HttpConnection = attrs.field(alias="response", repr=False)
    _ready: deque[SseEvent] = attrs.field(alias="ready", repr=False)

    async def send(self, frame: bytes, handed: Callable[[], None], *, control: bool = False) -> None:
        """POST one message and wait until it is accepted; see ``pipe.Pipe``."""

        def body() -> bytes:
            handed()
            return frame

        with trio.move_on_after(POST_S):
            async with self.pool.request(b"POST", _POST_HEADERS, body, control=control, path=self.path) as response:
                self._check_accepted(response.status)
            return
        raise BackendGone(backend=self.pool.key, why=f"a POST was not accepted within {POST_S:g} s")

    async def tell(self, frame: bytes) -> None:
        """POST a notice, with others if many are due; see ``pipe.Pipe``."""
        self._check_accepted(await self.pool.tell(_POST_HEADERS, frame, path=self.path))

    def _check_accepted(self, status: int) -> None:
        if status in (404, 410):
            self._response.close()  # its end of this session is gone, so the link is lost
        if status >= 300:
            raise _refusal(self.pool.key, status)

    async def receive(self) -> bytes | TooLong:
        """The data of the next ``message`` event; see ``pipe.Pipe``."""
        if self._ready:
            await trio.lowlevel.checkpoint()
        while True:
            while self._ready:
                event = self._ready.popleft()
                if event.event == "message" and event.data:
                    return self._bounded(event.data)
            self._ready.extend(await _more(self.pool.key, self._response, self._decoder))

    def _bounded(self, data: bytes) -> bytes | TooLong:
        bound = self._limits.response_bytes
        if len(data) > bound and jsonrpc.begins_answer(data):  # it may be lower than that of events
            return TooLong(head=data[:HEAD_BYTES], bound=bound)
        return data

    async def aclose(self) -> None:
        """Close the stream's connection; see ``pipe.Pipe``."""
        self._response.close()
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_legacy_sse(
    pool: HttpPool,
    *,
    limits: BackendLimits,
    unattributed: Hear,
    identity: ClientIdentity = NOBODY,
    on_exit: Callable[[str], None] = nobody_cares,
    observer: Observer = SILENT,
    pinned: str | None = None,
    shared: bool = True,
) -> AsyncIterator[PipeLink]:
    """Open the stream, learn the endpoint, initialize, and keep the link for as long as the block lives.

    The caller's scope bounds the opening (``timeouts.connect``). There is no probe: the transport itself is legacy.

    Args:
        pool: of the backend; its url is the SSE endpoint. Not closed here.
        pinned: the revision to offer; None: the newest legacy one. Others as ``open_stdio``.
    Raises (on entering):
        BackendGone, BackendAuth, BackendBusy, BackendTooLarge, BackendTimeout (dial).
        BackendProtocol: no event stream, no endpoint, or one of another origin.
        BackendRefused: the handshake was refused. Later the block's errors leave as a group.
    """
    key = pool.key
    async with AsyncExitStack() as stack:
        with asking("GET"):
            response = await stack.enter_async_context(pool.request(b"GET", _GET_HEADERS, stream=True, follow=True))
            _check_stream(key, response)
            decoder = decoder_for(limits)
            endpoint, rest = await _await_endpoint(key, response, decoder)
            path = read_endpoint(key, pool.origin, endpoint.data)
        pipe = SsePipe(pool=pool, path=path, limits=limits, decoder=decoder, response=response, ready=deque(rest))
        failure: BackendError
        async with open_pipe(
            pipe, key=key, limits=limits, shared=shared, unattributed=unattributed, on_lost=on_exit, observer=observer
        ) as link:
            try:
                link.greeted(await greet(link, identity, pinned=pinned))
            except BackendError as error:
                failure = error
            else:
                yield link
                return
        raise failure


def read_endpoint(key: BackendKey, origin: Origin, reference: bytes) -> bytes:
    """The request target that the ``endpoint`` event names.

    "When a client connects, the server MUST send an endpoint event containing a URI for the client to use for
    sending messages." -- MCP 2024-11-05, basic/transports

    Raises:
        BackendProtocol: it is no URI, or it leads to another origin, where the configured credential must not go.
    """
    reference = reference.strip()
    url = origin.joined(reference) if len(reference) <= ENDPOINT_BYTES else None
    if url is None:
        raise BackendProtocol(backend=key, why="its endpoint is not a URI")
    if not origin.holds(url):
        # Its path is not told: session ids stand there.
        raise BackendProtocol(backend=key, why=f"its endpoint is on another origin, {name_url(url, path=False)}")
    return request_target(url)


def _check_stream(key: BackendKey, response: HttpConnection) -> None:
    if response.status in (401, 403, 429, 503):
        raise _refusal(key, response.status)
    if response.status != 200 or response.content_type != b"text/event-stream":
        why = f"HTTP {response.status} without an event stream"
        raise BackendProtocol(backend=key, executed=Executed.NO, why=why, status=response.status)


async def _await_endpoint(
    key: BackendKey, response: HttpConnection, decoder: SseDecoder
) -> tuple[SseEvent, list[SseEvent]]:
    """The ``endpoint`` event, and what came with it but later. What comes before it is skipped: nobody waits for it."""
    skipped = 0
    while True:
        events = await _more(key, response, decoder)
        for number, event in enumerate(events, 1):
            if event.event == "endpoint":
                return event, events[number:]
            skipped += 1
            if skipped > SKIPPED_MAX:
                why = f"its stream has begun with {skipped} events, none of them the endpoint"
                raise BackendProtocol(backend=key, why=why)


async def _more(key: BackendKey, response: HttpConnection, decoder: SseDecoder) -> list[SseEvent]:
    """The events of the next chunk, perhaps none."""
    chunk = await response.receive_some()
    if not chunk:
        raise _ended(key)
    try:
        return decoder.feed(chunk)
    except RemoteFault as exc:
        raise too_large(key, decoder) from exc


def _ended(key: BackendKey) -> BackendGone:
    return BackendGone(backend=key, why="its event stream ended")


def _refusal(key: BackendKey, status: int) -> BackendError:
    """What a status that is no success means; nothing was executed."""
    match status:
        case 401 | 403:
            return BackendAuth(backend=key, status=status)
        case 429 | 503:
            return BackendBusy(backend=key, status=status)
        case 404 | 410:
            return BackendSessionLost(backend=key)
        case _:
            return BackendProtocol(backend=key, executed=Executed.NO, why=f"HTTP {status}", status=status)
