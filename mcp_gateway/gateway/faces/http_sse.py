"""The server face for clients that speak HTTP+SSE, the transport of 2024-11-05.

The transport is the oldest, the revision spoken over it need not be: the SDKs negotiate any.

Owns ``/sse`` (the one stream everything comes back on) and ``/messages`` (where
messages are posted). Deliberately serves messages like any 2025 session.
Invariant: an answer goes to the stream of the session it was posted for; when
that stream ends, so does the session.

Spec: MCP 2024-11-05 basic/transports, HTTP with SSE.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from urllib.parse import parse_qs

import attrs
import trio

from mcp_gateway.backends.transports.base import ClientIdentity
from mcp_gateway.errors import MalformedMessage, Overload
from mcp_gateway.gateway.call.deadline import Cause
from mcp_gateway.gateway.call.response import Accepts
from mcp_gateway.gateway.context import Context
from mcp_gateway.gateway.entrance import Job, Reply, Request, serve
from mcp_gateway.gateway.faces.event_stream import EventStream, Messages, pump
from mcp_gateway.gateway.faces.http_answers import RETRY_SOON, Whole, is_json, refusal, refuse, turn_away, whole_json
from mcp_gateway.gateway.faces.initialize import read_initialize
from mcp_gateway.gateway.faces.legacy import LegacyFace
from mcp_gateway.gateway.faces.own_answers import Invalid
from mcp_gateway.gateway.place import Place
from mcp_gateway.gateway.session import Session
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.envelope import ANONYMOUS_INFO
from mcp_gateway.protocol.eras import V2024_11_05, Era
from mcp_gateway.protocol.wire_errors import INVALID_REQUEST
from mcp_gateway.sessions.signed import SessionId
from mcp_gateway.values import Header

MAX_PENDING: Final = 64
"""Requests of one client that are being served at once."""
UNKNOWN: Final = refusal(404, "unknown session: open /sse again")


@attrs.define(eq=False)
class StreamReply:
    """A reply whose answer goes to the session's stream instead of to the POST."""

    stream: Reply
    lock: trio.Lock = attrs.field(factory=trio.Lock)

    async def whole(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        """An answer is an event of the session's stream; an empty one is nothing."""
        return await self.event(body) if body else True

    async def open(self, status: int, headers: Sequence[Header], *, more: bool = False) -> bool:
        """The session's stream is open already."""
        return True

    async def event(
        self,
        data: bytes,
        *,
        event_id: str | None = None,
        retry_ms: int | None = None,
        name: str | None = None,
        more: bool = False,
    ) -> bool:
        """Send one event on the session's stream."""
        if not data:
            return True
        async with self.lock:
            return await self.stream.event(data, name="message")

    async def flush(self) -> bool:
        """Nothing is held back on a stream that several answers share."""
        return True

    async def comment(self) -> bool:
        """Send a comment on the session's stream."""
        async with self.lock:
            return await self.stream.comment()

    async def close(self) -> None:
        """The stream belongs to the session, not to one answer."""


@attrs.define(eq=False, kw_only=True)
class SseStream(EventStream):
    """One open HTTP+SSE connection: its stream, and the requests that are being served for it."""

    face: "HttpSse"
    session: Session
    session_id: str
    pending: int = attrs.field(default=0, init=False)
    answers: StreamReply = attrs.field(init=False)
    nursery: trio.Nursery | None = attrs.field(default=None, init=False)
    """While messages are taken."""
    _quiet: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self.answers = StreamReply(self.reply)

    async def hold(self, scope: trio.CancelScope) -> None:
        """Say where to post, then serve what is posted and send what there is to say, until the session ends."""
        self.session.streams.append(scope)
        self.session.listeners = 1
        async with trio.open_nursery() as nursery:
            self.nursery, self.face.streams[self.session_id] = nursery, self
            try:
                await self.reply.open(200, ())
                await self.reply.event(f"/messages?sessionId={self.session_id}".encode(), name="endpoint")
                keep_alive_s = self.face.context.spec.value.http.keep_alive_s
                await pump(self.answers, Messages(self.session.mailbox), keep_alive_s)
                while self.pending:  # in a drain running calls may finish, and their answers have no other way
                    await self._quiet.wait()
            finally:
                del self.face.streams[self.session_id]
                nursery.cancel_scope.cancel("the client's stream ended")

    async def finish(self) -> None:
        """See ``entrance.Job``."""
        context = self.face.context
        try:
            await super().finish()
        finally:
            with trio.move_on_after(context.spec.value.http.keep_alive_s):
                await context.sessions.end(self.session, Cause.SESSION)  # noqa: ASYNC102  # cut short, it still ends

    def begin(self, prepare: Callable[[], Job]) -> None:
        """Serve one request beside the others."""
        assert self.nursery is not None  # or it would not have been found
        self.pending += 1
        self.nursery.start_soon(self._serve, prepare, name="sse:message")

    async def _serve(self, prepare: Callable[[], Job]) -> None:
        try:
            await serve(prepare())
        finally:
            self.pending -= 1
            if not self.pending:
                self._quiet.set()
                self._quiet = trio.Event()


@attrs.define(eq=False, kw_only=True)
class HttpSse:
    """Serves ``/sse`` and ``/messages``."""

    context: Context
    face: LegacyFace
    streams: dict[str, SseStream] = attrs.field(factory=dict, repr=False)
    """By session id."""

    def prepare(self, request: Request, reply: Reply, place: Place) -> Job:
        """The job of one request to either path."""
        if request.path == "/sse" and request.method == "GET":
            return self._open(request, reply, place)
        if request.path == "/messages" and request.method == "POST":
            return self._post(request, reply, place)
        allow = b"GET" if request.path == "/sse" else b"POST"
        return whole_json(reply, 405, b'{"error":"method not allowed"}', (b"allow", allow))

    def _open(self, request: Request, reply: Reply, place: Place) -> Job:
        if self.context.draining:
            return turn_away(reply)
        try:
            session_id, session = self.context.sessions.mint(
                era=V2024_11_05,
                realm=place.realm,
                gateway=place.gateway,
                view=place.virtual,
                principal=request.principal,
                identity=ClientIdentity(info=ANONYMOUS_INFO, version=V2024_11_05.version),
                capabilities={},
            )
        except Overload as full:
            return refuse(reply, refusal(503, str(full)), RETRY_SOON)
        session.era = over_sse(session.era)
        return SseStream(reply=reply, face=self, session=session, session_id=session_id)

    def _post(self, request: Request, reply: Reply, place: Place) -> Job:
        text = parse_qs(request.query).get("sessionId", [""])[0]
        stream = self.streams.get(text)  # an id that only /mcp knows must not come back to memory for this
        if stream is None or stream.nursery is None or self._session(text, request, place) is not stream.session:
            return refuse(reply, UNKNOWN)
        if not is_json(request):
            return refuse(reply, refusal(415, "Content-Type must be application/json"))
        try:
            message = jsonrpc.read(request.body)
        except MalformedMessage as fault:
            return refuse(reply, refusal(400, fault.what, fault.code))
        if not isinstance(message, jsonrpc.RpcRequest):  # what running requests wait for must never wait for them
            return self.face.prepare(stream.session, message, place, reply, Accepts(), request.headers)
        if stream.pending >= MAX_PENDING:
            return refuse(reply, refusal(503, f"more than {MAX_PENDING} requests at once"), RETRY_SOON)
        if message.method == "initialize" and not self.context.draining:
            stream.begin(partial(self._initialize, stream, place, message))
        else:
            session, answers, headers = stream.session, stream.answers, request.headers
            stream.begin(partial(self.face.prepare, session, message, place, answers, Accepts(), headers))
        return Whole(reply, 202)

    def _session(self, text: str, request: Request, place: Place) -> Session | SessionId | None:
        return self.context.sessions.find(text, realm=place.realm, principal=request.principal)

    def _initialize(self, stream: SseStream, place: Place, message: jsonrpc.RpcRequest) -> Job:
        """The session exists already; the client now says who it is and what it can do."""
        session, answers = stream.session, stream.answers
        if session.backends:
            text = "initialize must come first"
            return Whole(answers, 200, body=jsonrpc.render_error(message.id_raw, INVALID_REQUEST, text))
        hello = read_initialize(message)
        if isinstance(hello, Invalid):
            return Whole(answers, 200, body=jsonrpc.render_error(message.id_raw, hello.code, hello.message))
        session.introduce(over_sse(hello.era), hello.identity, hello.capabilities)
        session.knows(session.sees(place.view))
        result = self.context.own.initialized(session.era, place.view)
        self.context.calls.log.answered("initialize", "ok", trio.current_time(), era=session.era, session=session.tag)
        return Whole(answers, 200, body=jsonrpc.render_result(message.id_raw, result))


def over_sse(era: Era) -> Era:
    """A revision without what belongs to Streamable HTTP: its one stream cannot be resumed, and no POST is a batch."""
    return attrs.evolve(era, resumable=False, priming_event=False, batches=False, version_header=False, one_stream=True)
