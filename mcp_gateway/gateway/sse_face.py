"""The server face for clients that speak HTTP+SSE, the transport of 2024-11-05.

The transport is the oldest, the revision spoken over it need not be: the SDKs negotiate any.

Owns ``/sse`` (the one stream everything comes back on) and ``/messages`` (where
messages are posted). Deliberately serves messages like any 2025 session.
Invariant: an answer goes to the stream of the session it was posted for; when
that stream ends, so does the session.

Spec: MCP 2024-11-05 basic/transports, HTTP with SSE.
"""

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import parse_qs

import attrs
import trio

from mcp_gateway.backends.transports.base import ClientIdentity
from mcp_gateway.errors import MalformedMessage, Overload
from mcp_gateway.gateway.calls import Call, Cause
from mcp_gateway.gateway.core import Core, Place
from mcp_gateway.gateway.entrance import Request, Watched
from mcp_gateway.gateway.greeting import read_greeting
from mcp_gateway.gateway.http_answers import is_json, refusal, refuse, turn_away
from mcp_gateway.gateway.legacy_face import LegacyFace
from mcp_gateway.gateway.legacy_stream import LegacyStream
from mcp_gateway.gateway.outlet import JSON_HEAD
from mcp_gateway.gateway.own_answers import Invalid
from mcp_gateway.gateway.session import Session
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.envelope import ANONYMOUS_INFO
from mcp_gateway.protocol.eras import V2024_11_05, Era
from mcp_gateway.protocol.wire_errors import INVALID_REQUEST
from mcp_gateway.values import Header

MAX_PENDING: Final = 64
"""Requests of one client that are being served at once."""


@attrs.define(eq=False)
class StreamReply:
    """A reply whose answer goes to the session's stream instead of to the POST."""

    stream: Watched
    lock: trio.Lock

    async def whole(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        """An answer is an event of the session's stream; an empty one is nothing."""
        return await self.event(body) if body else True

    async def open(self, status: int, headers: Sequence[Header]) -> bool:
        """The session's stream is open already."""
        return True

    async def event(
        self, data: bytes, *, event_id: str | None = None, retry_ms: int | None = None, name: str | None = None
    ) -> bool:
        """Send one event on the session's stream."""
        if not data:
            return True
        async with self.lock:
            return await self.stream.event(data, name="message")

    async def comment(self) -> bool:
        """Send a comment on the session's stream."""
        async with self.lock:
            return await self.stream.comment()

    async def close(self) -> None:
        """The stream belongs to the session, not to one answer."""

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Nobody is told: when the stream ends, so does whatever is served on it."""


@attrs.define(eq=False, kw_only=True)
class OldClient:
    """One open HTTP+SSE connection."""

    session: Session
    reply: StreamReply
    nursery: trio.Nursery
    pending: int = 0
    _quiet: trio.Event = attrs.field(factory=trio.Event)

    def finished(self) -> None:
        """One request less is being served."""
        self.pending -= 1
        if not self.pending:
            self._quiet.set()
            self._quiet = trio.Event()

    async def quiet(self) -> None:
        """Wait until nothing is being served."""
        while self.pending:
            await self._quiet.wait()


@attrs.define(eq=False, kw_only=True)
class SseFace:
    """Serves ``/sse`` and ``/messages``."""

    core: Core
    face: LegacyFace
    streams: LegacyStream
    _clients: dict[str, OldClient] = attrs.field(factory=dict, repr=False)
    """By session id."""

    async def serve(self, request: Request, reply: Watched, place: Place) -> None:
        """Serve one request to either path."""
        if request.path == "/sse" and request.method == "GET":
            await self._open(request, reply, place)
        elif request.path == "/messages" and request.method == "POST":
            await self._post(request, reply, place)
        else:
            allow = b"GET" if request.path == "/sse" else b"POST"
            await reply.whole(405, (*JSON_HEAD, (b"allow", allow)), b'{"error":"method not allowed"}')

    async def _open(self, request: Request, reply: Watched, place: Place) -> None:
        if self.core.draining():
            await turn_away(reply)
            return
        try:
            session_id, session = self.core.sessions.mint(
                era=V2024_11_05,
                realm=place.realm,
                gateway=place.gateway,
                view=place.virtual,
                principal=request.principal,
                identity=ClientIdentity(info=ANONYMOUS_INFO, version=V2024_11_05.version),
                capabilities={},
            )
        except Overload as full:
            await refuse(reply, refusal(503, str(full)), ((b"retry-after", b"1"),))
            return
        session.era = over_sse(session.era)
        try:
            with trio.CancelScope() as scope:
                session.streams.append(scope)
                session.listeners = 1
                reply.on_gone(lambda: scope.cancel(reason="client left"))
                await self._hold(reply, session, session_id)
                await reply.close()
        finally:
            with trio.move_on_after(self.core.spec.value.http.keep_alive_s):
                await self.core.sessions.end(session, Cause.SESSION)  # noqa: ASYNC102  # cut short, it still ends here

    async def _hold(self, reply: Watched, session: Session, session_id: str) -> None:
        """Say where to post, then serve what is posted and send what there is to say, until the session ends."""
        async with trio.open_nursery() as nursery:
            client = OldClient(session=session, reply=StreamReply(reply, trio.Lock()), nursery=nursery)
            self._clients[session_id] = client
            try:
                await reply.open(200, ())
                await reply.event(f"/messages?sessionId={session_id}".encode(), name="endpoint")
                await self.streams.pump(client.reply, session, None)
                await client.quiet()  # in a drain running calls may finish, and their answers have no other way
            finally:
                del self._clients[session_id]
                nursery.cancel_scope.cancel("the client's stream ended")

    async def _post(self, request: Request, reply: Watched, place: Place) -> None:
        client = await self._client_of(request, place)
        if client is None:
            await refuse(reply, refusal(404, "unknown session: open /sse again"))
            return
        if not is_json(request):
            await refuse(reply, refusal(415, "Content-Type must be application/json"))
            return
        try:
            message = jsonrpc.read(request.body)
        except MalformedMessage as fault:
            await refuse(reply, refusal(400, fault.what, fault.code))
            return
        if not isinstance(message, jsonrpc.RpcRequest):  # what running requests wait for must never wait for them
            await self.face.take(request, reply, place, client.session, message)
            return
        if client.pending >= MAX_PENDING:
            await refuse(reply, refusal(503, f"more than {MAX_PENDING} requests at once"), ((b"retry-after", b"1"),))
            return
        client.pending += 1
        client.nursery.start_soon(self._serve, request, client, place, message, name="sse:message")
        await reply.whole(202, (), b"")

    async def _client_of(self, request: Request, place: Place) -> OldClient | None:
        text = parse_qs(request.query).get("sessionId", [""])[0]
        client = self._clients.get(text)
        if client is None:  # an id that only /mcp knows must not come back to memory for this
            return None
        session = await self.core.sessions.find(
            text, realm=place.realm, gateway=place.gateway, view=place.virtual, principal=request.principal
        )
        return client if session is client.session else None

    async def _serve(self, request: Request, client: OldClient, place: Place, message: jsonrpc.RpcRequest) -> None:
        try:
            if message.method == "initialize" and not self.core.draining():
                await self._initialize(client, place, message)
            else:
                own = attrs.evolve(request, scope=trio.CancelScope())
                await self.face.take(own, client.reply, place, client.session, message)
        finally:
            client.finished()

    async def _initialize(self, client: OldClient, place: Place, message: jsonrpc.RpcRequest) -> None:
        """The session exists already; the client now says who it is and what it can do."""
        session = client.session
        if session.backends:
            text = "initialize must come first"
            await client.reply.event(jsonrpc.render_error(message.id_raw, INVALID_REQUEST, text))
            return
        greeting = read_greeting(message)
        if isinstance(greeting, Invalid):
            await client.reply.event(jsonrpc.render_error(message.id_raw, greeting.code, greeting.message))
            return
        session.introduce(over_sse(greeting.era), greeting.identity, greeting.capabilities)
        session.knows(session.sees(place.view))
        result = self.core.own.initialized(session.era, place.view)
        call = Call(method="initialize", scope=trio.CancelScope())
        self.core.runner.ledger.answered(call, "ok", era=session.era, session=session.tag)
        await client.reply.event(jsonrpc.render_result(message.id_raw, result))


def over_sse(era: Era) -> Era:
    """A revision without what belongs to Streamable HTTP: its one stream cannot be resumed, and no POST is a batch."""
    return attrs.evolve(era, resumable=False, priming_event=False, batches=False, version_header=False, one_stream=True)
