"""One HTTP request: which face serves it.

Owns paths, verbs, the body's shape (one message, a batch, neither) and sessions by
their id. Deliberately decides nothing inside a message. In a drain whatever begins
something is refused (here: sessions and streams), and what belongs to a call goes on.
Invariant: every path through ``dispatch`` writes exactly one answer, and the same
code serves every entrance (design 3.6).

Spec: reference 1.2 and 1.4; design section 5.
"""

from collections.abc import Callable, Sequence
from typing import Final

import attrs
import trio

from mcp_gateway.errors import MalformedMessage, Overload
from mcp_gateway.gateway.batch import Batch
from mcp_gateway.gateway.calls import Call, Cause
from mcp_gateway.gateway.core import Core, Place
from mcp_gateway.gateway.entrance import Job, Reply, Request, Watched
from mcp_gateway.gateway.greeting import read_greeting
from mcp_gateway.gateway.http_answers import (
    SESSION_HEADER,
    VERSION_HEADER,
    accepted,
    is_json,
    refusal,
    refuse,
    turn_away,
)
from mcp_gateway.gateway.legacy_face import LegacyFace
from mcp_gateway.gateway.legacy_stream import LegacyStream
from mcp_gateway.gateway.modern_face import ModernFace
from mcp_gateway.gateway.outlet import JSON_HEAD
from mcp_gateway.gateway.own_answers import Invalid
from mcp_gateway.gateway.session import Session
from mcp_gateway.gateway.sse_face import SseFace
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.envelope import Rejection, is_modern, only_value
from mcp_gateway.protocol.eras import ERAS, LEGACY_VERSIONS, MODERN_VERSIONS
from mcp_gateway.protocol.wire_errors import METHOD_NOT_FOUND
from mcp_gateway.values import Header

PATH: Final = "/mcp"
VIRTUAL: Final = "/mcp/vs/"
VIRTUAL_HEADER: Final = b"x-mcp-virtualserver"
"""Narrows one request to a virtual server, as the path does for a whole session."""
NO_SESSION: Final = refusal(400, "missing Mcp-Session-Id: send initialize first")
UNKNOWN_SESSION: Final = refusal(404, "unknown session: initialize again")


@attrs.define(eq=False, kw_only=True)
class Dispatch:
    """The function every entrance calls."""

    core: Core
    legacy: LegacyFace
    streams: LegacyStream
    modern: ModernFace
    sse: SseFace

    def prepare(self, request: Request, reply: Reply) -> Job:
        """The job of one request; nothing has waited yet."""
        return _Serving(dispatch=self, request=request, reply=_Leaving(reply))

    async def serve(self, request: Request, reply: Watched) -> None:
        """Answer one request; never raises but for bugs."""
        place = self._place(request)
        if isinstance(place, Rejection):
            await refuse(reply, place)
        elif place is None:
            await reply.whole(404, JSON_HEAD, b'{"error":"no such virtual server"}')
        elif request.path in ("/sse", "/messages"):
            await self.sse.serve(request, reply, place)
        elif request.method == "POST":
            await self._post(request, reply, place)
        elif request.method in ("GET", "DELETE"):
            await self._of_session(request, reply, place)
        else:
            allow = (b"allow", b"GET, POST, DELETE, OPTIONS")
            await reply.whole(405, (*JSON_HEAD, allow), b'{"error":"method not allowed"}')

    def _place(self, request: Request) -> Place | Rejection | None:
        """Where a request wants to be served; None: there is no such place."""
        path = request.path[len(VIRTUAL) :] if request.path.startswith(VIRTUAL) else None
        host = (request.header(b"host") or b"").decode("latin-1")
        narrowed = ""
        if request.all(VIRTUAL_HEADER):
            narrowed = only_value(request.headers, VIRTUAL_HEADER) or ""
            if not narrowed:
                return refusal(400, "X-MCP-Virtualserver must be sent once, with the name of a virtual server")
            if path is not None and path != narrowed:
                return refusal(400, f"X-MCP-Virtualserver and the path /mcp/vs/{path[:64]} must name the same one")
        return None if path == "" else self.core.place(host, path or "", narrowed)

    async def _post(self, request: Request, reply: Watched, place: Place) -> None:
        if not is_json(request):
            await refuse(reply, refusal(415, "Content-Type must be application/json"))
            return
        accepts = accepted(request)
        if not (accepts.json or accepts.sse):
            await refuse(reply, refusal(406, "Accept must allow application/json or text/event-stream"))
            return
        version = only_value(request.headers, VERSION_HEADER)
        if jsonrpc.looks_like_batch(request.body):
            await self._batch(request, reply, place, version)
            return
        try:
            message = jsonrpc.read(request.body)
        except MalformedMessage as fault:
            id_raw = jsonrpc.readable_id(request.body)
            await refuse(reply, Rejection(status=400, code=fault.code, message=fault.what, id_raw=id_raw))
            return
        if is_modern(version, message):
            await self.modern.take(request, reply, place, message)
        elif isinstance(message, jsonrpc.RpcRequest) and message.method == "initialize":
            await self._initialize(request, reply, place, message)
        else:
            await self._in_session(request, reply, place, message)

    async def _initialize(self, request: Request, reply: Watched, place: Place, message: jsonrpc.RpcRequest) -> None:
        """Begin a session. Spec: MCP 2025-11-25 basic/lifecycle."""
        if self.core.draining():
            await turn_away(reply, message.id_raw)
            return
        greeting = read_greeting(message)
        if isinstance(greeting, Invalid):
            await reply.whole(200, JSON_HEAD, jsonrpc.render_error(message.id_raw, greeting.code, greeting.message))
            return
        call, ledger = Call(method="initialize", scope=request.scope), self.core.runner.ledger
        try:
            session_id, session = self.core.sessions.mint(
                era=greeting.era,
                realm=place.realm,
                gateway=place.gateway,
                view=place.virtual,
                principal=request.principal,
                identity=greeting.identity,
                capabilities=greeting.capabilities,
            )
        except Overload as full:
            ledger.answered(call, "overload", era=greeting.era)
            await refuse(reply, refusal(503, str(full)), ((b"retry-after", b"1"),))
            return
        ledger.answered(call, "ok", era=greeting.era, session=session.tag)
        body = jsonrpc.render_result(message.id_raw, self.core.own.initialized(session.era, place.view))
        await reply.whole(200, (*JSON_HEAD, (b"mcp-session-id", session_id.encode())), body)

    async def session_of(self, request: Request, reply: Watched, place: Place) -> Session | None:
        """The session a request names; None when it was refused (the answer is written)."""
        text = only_value(request.headers, SESSION_HEADER)
        if text is None:
            await refuse(reply, NO_SESSION)
            return None
        try:
            session = await self.core.sessions.find(
                text, realm=place.realm, gateway=place.gateway, view=place.virtual, principal=request.principal
            )
        except Overload as full:
            await refuse(reply, refusal(503, str(full)), ((b"retry-after", b"1"),))
            return None
        if session is None:
            await refuse(reply, UNKNOWN_SESSION)
            return None
        # "If the server receives a request with an invalid or unsupported MCP-Protocol-Version,
        #  it MUST respond with 400 Bad Request." -- 2025-06-18 basic/transports
        said, version = request.all(VERSION_HEADER), only_value(request.headers, VERSION_HEADER)
        if said and version not in LEGACY_VERSIONS:
            shown = b", ".join(said)[:64].decode("latin-1")
            await refuse(reply, refusal(400, f"unsupported MCP-Protocol-Version {shown!r}"))
            return None
        return session

    async def _in_session(self, request: Request, reply: Watched, place: Place, message: jsonrpc.RpcMessage) -> None:
        session = await self.session_of(request, reply, place)
        if session is not None:
            await self.legacy.take(request, reply, place, session, message)
        elif isinstance(message, jsonrpc.RpcRequest):
            self.core.runner.ledger.answered(Call(method=message.method, scope=request.scope), "refused")

    async def _batch(self, request: Request, reply: Watched, place: Place, version: str | None) -> None:
        """JSON-RPC arrays exist in 2025-03-26 only."""
        no_batches = refusal(400, "JSON-RPC batches are not part of this protocol version")
        if version is not None and not (version in ERAS and ERAS[version].batches):
            await refuse(reply, no_batches)
            return
        session = await self.session_of(request, reply, place)
        if session is None:
            return
        if not session.era.batches:
            await refuse(reply, no_batches)
            return
        await Batch(face=self.legacy, place=place, session=session).serve(request, reply)

    async def _of_session(self, request: Request, reply: Watched, place: Place) -> None:
        """GET and DELETE belong to 2025 sessions; a 2026 client has neither (T2)."""
        modern = only_value(request.headers, VERSION_HEADER) in MODERN_VERSIONS
        if modern or (only_value(request.headers, SESSION_HEADER) is None and request.method == "GET"):
            await reply.whole(405, (*JSON_HEAD, (b"allow", b"POST")), _no_stream_body())
            return
        session = await self.session_of(request, reply, place)
        if session is None:
            return
        if request.method == "DELETE":
            await self.core.sessions.end(session, Cause.SESSION)
            await reply.whole(204, (), b"")
        elif not accepted(request).sse:
            await refuse(reply, refusal(406, "Accept must allow text/event-stream"))
        else:
            await self.streams.serve(request, reply, session)


def _no_stream_body() -> bytes:
    return jsonrpc.render_error(None, METHOD_NOT_FOUND, "GET and DELETE need the Mcp-Session-Id of a 2025 session")


@attrs.define(eq=False)
class _Leaving:
    """A reply whose writers can be told that its client has left."""

    _reply: Reply
    _gone: bool = attrs.field(default=False, init=False)
    _callbacks: list[Callable[[], None]] = attrs.field(factory=list, init=False)

    async def whole(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        return await self._reply.whole(status, headers, body)

    async def open(self, status: int, headers: Sequence[Header]) -> bool:
        return await self._reply.open(status, headers)

    async def event(
        self, data: bytes, *, event_id: str | None = None, retry_ms: int | None = None, name: str | None = None
    ) -> bool:
        return await self._reply.event(data, event_id=event_id, retry_ms=retry_ms, name=name)

    async def comment(self) -> bool:
        return await self._reply.comment()

    async def close(self) -> None:
        await self._reply.close()

    def on_gone(self, callback: Callable[[], None]) -> None:
        if self._gone:
            callback()
        else:
            self._callbacks.append(callback)

    def left(self) -> None:
        self._gone = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


@attrs.define(eq=False, kw_only=True)
class _Serving:
    """The job of one request."""

    dispatch: Dispatch
    request: Request
    reply: _Leaving

    async def run(self, scope: trio.CancelScope) -> None:
        await self.dispatch.serve(self.request, self.reply)

    async def finish(self) -> None:
        """Everything is written already."""

    def left(self) -> None:
        self.reply.left()
