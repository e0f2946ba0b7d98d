"""One HTTP request: which face serves it.

Owns paths, verbs, the body's shape (one message, a batch, neither) and sessions by
their id. Deliberately decides nothing inside a message. In a drain whatever begins
something is refused (here: sessions and streams), and what belongs to a call goes on.
Invariant: every job it gives writes exactly one answer, and the same code serves every
entrance.

Spec: MCP basic/transports in all versions; docs/architecture.md, "The road of a call".
"""

from collections.abc import Callable
from typing import Final

import attrs
import trio

from mcp_gateway.errors import MalformedMessage, Overload
from mcp_gateway.gateway.call.deadline import Cause
from mcp_gateway.gateway.call.response import Accepts
from mcp_gateway.gateway.context import Context
from mcp_gateway.gateway.entrance import Job, Reply, Request
from mcp_gateway.gateway.faces import batch
from mcp_gateway.gateway.faces.get_stream import GetStreams
from mcp_gateway.gateway.faces.http_answers import (
    RETRY_SOON,
    SESSION_HEADER,
    VERSION_HEADER,
    Whole,
    WholeAfter,
    accepted,
    is_json,
    refusal,
    refuse,
    turn_away,
    whole_json,
)
from mcp_gateway.gateway.faces.http_sse import HttpSse
from mcp_gateway.gateway.faces.initialize import read_initialize
from mcp_gateway.gateway.faces.legacy import LegacyFace
from mcp_gateway.gateway.faces.modern import ModernFace
from mcp_gateway.gateway.faces.own_answers import Invalid
from mcp_gateway.gateway.origin import Refusal, check
from mcp_gateway.gateway.place import Place
from mcp_gateway.gateway.session import Session
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.envelope import Rejection, is_modern, meta_of
from mcp_gateway.protocol.eras import ERAS, LEGACY_VERSIONS, MODERN_VERSIONS
from mcp_gateway.protocol.wire_errors import METHOD_NOT_FOUND
from mcp_gateway.sessions.signed import SessionId
from mcp_gateway.telemetry.trace import note_gateway, note_trace

PATH: Final = "/mcp"
VIRTUAL: Final = "/mcp/vs/"
VIRTUAL_HEADER: Final = b"x-mcp-virtualserver"
"""Narrows one request to a virtual server, as the path does for a whole session."""
NO_SESSION: Final = refusal(400, "missing Mcp-Session-Id: send initialize first")
UNKNOWN_SESSION: Final = refusal(404, "unknown session: initialize again")
NOT_JSON: Final = refusal(415, "Content-Type must be application/json")
NOT_ACCEPTED: Final = refusal(406, "Accept must allow application/json or text/event-stream")
NO_BATCHES: Final = refusal(400, "JSON-RPC batches are not part of this protocol version")
_NO_STREAM: Final = jsonrpc.render_error(
    None, METHOD_NOT_FOUND, "GET and DELETE need the Mcp-Session-Id of a 2025 session"
)


@attrs.define(eq=False, kw_only=True)
class Dispatch:
    """What every entrance asks for jobs."""

    context: Context
    legacy: LegacyFace
    streams: GetStreams
    modern: ModernFace
    sse: HttpSse

    def admit(self, request: Request) -> Refusal | None:
        """Why a request is not served, as far as its head shows; its body has not been read.

        Authentication has its place here, and will add the one thing that may be waited for before a body.
        """
        http = self.context.spec.value.http
        return check(
            request.method,
            request.headers,
            bind_is_loopback=request.loopback,
            allowed_hosts=http.allowed_hosts,
            allowed_origins=http.allowed_origins,
        )

    def prepare(self, request: Request, reply: Reply) -> Job:
        """The job of one request; plain, and it raises nothing but for bugs."""
        place = self._place(request)
        if isinstance(place, Rejection):
            return refuse(reply, place)
        if place is None:
            return whole_json(reply, 404, b'{"error":"no such virtual server"}')
        note_gateway(place.gateway)
        if request.path in ("/sse", "/messages"):
            return self.sse.prepare(request, reply, place)
        if request.method == "POST":
            return self._post(request, reply, place)
        if request.method in ("GET", "DELETE"):
            return self._of_session(request, reply, place)
        return whole_json(reply, 405, b'{"error":"method not allowed"}', (b"allow", b"GET, POST, DELETE, OPTIONS"))

    def _place(self, request: Request) -> Place | Rejection | None:
        """Where a request wants to be served; None: there is no such place."""
        path = request.path[len(VIRTUAL) :] if request.path.startswith(VIRTUAL) else None
        host = (request.header(b"host") or b"").decode("latin-1")
        narrowed = ""
        if request.header(VIRTUAL_HEADER) is not None:
            narrowed = request.only(VIRTUAL_HEADER) or ""
            if not narrowed:
                return refusal(400, "X-MCP-Virtualserver must be sent once, with the name of a virtual server")
            if path is not None and path != narrowed:
                return refusal(400, f"X-MCP-Virtualserver and the path /mcp/vs/{path[:64]} must name the same one")
        return None if path == "" else self.context.place(host, path or "", narrowed)

    def _post(self, request: Request, reply: Reply, place: Place) -> Job:
        if not is_json(request):
            return refuse(reply, NOT_JSON)
        accepts = accepted(request)
        if not (accepts.json or accepts.sse):
            return refuse(reply, NOT_ACCEPTED)
        version = request.only(VERSION_HEADER)
        if jsonrpc.looks_like_batch(request.body):
            return self._batch(request, reply, place, version)
        try:
            message = jsonrpc.read(request.body)
        except MalformedMessage as fault:
            id_raw = jsonrpc.readable_id(request.body)
            return refuse(reply, Rejection(status=400, code=fault.code, message=fault.what, id_raw=id_raw))
        if is_modern(version, message):
            return self.modern.prepare(request, message, place, reply, accepts)
        if isinstance(message, jsonrpc.RpcRequest) and message.method == "initialize":
            return self._initialize(request, reply, place, message)
        return self._in_session(request, reply, place, message, accepts)

    def _initialize(self, request: Request, reply: Reply, place: Place, message: jsonrpc.RpcRequest) -> Job:
        """Begin a session. Spec: MCP 2025-11-25 basic/lifecycle."""
        began_at, log = trio.current_time(), self.context.calls.log
        if self.context.draining:
            return turn_away(reply, message.id_raw)
        hello = read_initialize(message)
        if isinstance(hello, Invalid):
            return whole_json(reply, 200, jsonrpc.render_error(message.id_raw, hello.code, hello.message))
        try:
            session_id, session = self.context.sessions.mint(
                era=hello.era,
                realm=place.realm,
                gateway=place.gateway,
                view=place.virtual,
                principal=request.principal,
                identity=hello.identity,
                capabilities=hello.capabilities,
            )
        except Overload as full:
            log.answered("initialize", "overload", began_at, era=hello.era)
            return refuse(reply, refusal(503, str(full)), RETRY_SOON)
        log.answered("initialize", "ok", began_at, era=hello.era, session=session.tag)
        body = jsonrpc.render_result(message.id_raw, self.context.own.initialized(session.era, place.view))
        return whole_json(reply, 200, body, (b"mcp-session-id", session_id.encode()))

    def _with_session(self, request: Request, reply: Reply, place: Place, then: Callable[[Session], Job]) -> Job:
        """``then`` of the session that a request names, or its refusal."""
        text = request.only(SESSION_HEADER)
        if text is None:
            return refuse(reply, NO_SESSION)
        session = self.context.sessions.find(text, realm=place.realm, principal=request.principal)
        if session is None:
            return refuse(reply, UNKNOWN_SESSION)
        # "If the server receives a request with an invalid or unsupported MCP-Protocol-Version,
        #  it MUST respond with 400 Bad Request." -- 2025-06-18 basic/transports
        if request.header(VERSION_HEADER) is not None and request.only(VERSION_HEADER) not in LEGACY_VERSIONS:
            shown = b", ".join(request.all(VERSION_HEADER))[:64].decode("latin-1")
            return refuse(reply, refusal(400, f"unsupported MCP-Protocol-Version {shown!r}"))
        if isinstance(session, Session):
            return then(session)
        return Revived(context=self.context, request=request, reply=reply, place=place, session_id=session, then=then)

    def _in_session(
        self, request: Request, reply: Reply, place: Place, message: jsonrpc.RpcMessage, accepts: Accepts
    ) -> Job:
        if not isinstance(message, jsonrpc.RpcResponse) and "_meta" in message.params:
            note_trace(meta_of(message))
        job = self._with_session(
            request,
            reply,
            place,
            lambda session: self.legacy.prepare(session, message, place, reply, accepts, request.headers),
        )
        if isinstance(job, Whole) and job.status >= 400 and isinstance(message, jsonrpc.RpcRequest):
            self.context.calls.log.answered(message.method, "refused", trio.current_time())
        return job

    def _batch(self, request: Request, reply: Reply, place: Place, version: str | None) -> Job:
        """JSON-RPC arrays exist in 2025-03-26 only."""
        if version is not None and not (version in ERAS and ERAS[version].batches):
            return refuse(reply, NO_BATCHES)

        def then(session: Session) -> Job:
            if not session.era.batches:
                return refuse(reply, NO_BATCHES)
            return batch.prepare(self.legacy, place, session, request, reply)

        return self._with_session(request, reply, place, then)

    def _of_session(self, request: Request, reply: Reply, place: Place) -> Job:
        """GET and DELETE belong to 2025 sessions; a 2026 client has neither."""
        modern = request.only(VERSION_HEADER) in MODERN_VERSIONS
        if modern or (request.only(SESSION_HEADER) is None and request.method == "GET"):
            return whole_json(reply, 405, _NO_STREAM, (b"allow", b"POST"))

        def then(session: Session) -> Job:
            if request.method == "DELETE":
                return WholeAfter(reply, 204, work=lambda: self.context.sessions.end(session, Cause.SESSION))
            if not accepted(request).sse:
                return refuse(reply, refusal(406, "Accept must allow text/event-stream"))
            return self.streams.prepare(request, reply, session)

        return self._with_session(request, reply, place, then)


@attrs.define(eq=False, kw_only=True)
class Revived:
    """The job of a request whose session is not in memory, and may come back from its id."""

    context: Context
    request: Request
    reply: Reply
    place: Place
    session_id: SessionId
    then: Callable[[Session], Job]
    _job: Job | None = attrs.field(default=None, init=False)
    _left: bool = attrs.field(default=False, init=False)

    async def run(self, scope: trio.CancelScope) -> None:
        """See ``entrance.Job``."""
        place = self.place
        try:
            session = await self.context.sessions.revive(
                self.session_id, gateway=place.gateway, view=place.virtual, principal=self.request.principal
            )
        except Overload as full:
            self._job = refuse(self.reply, refusal(503, str(full)), RETRY_SOON)
            return
        self._job = self.then(session) if session is not None else refuse(self.reply, UNKNOWN_SESSION)
        if self._left:
            self._job.left()
        await self._job.run(scope)

    async def finish(self) -> None:
        """See ``entrance.Job``."""
        if self._job is not None:
            await self._job.finish()

    def left(self) -> None:
        """See ``entrance.Job``."""
        self._left = True
        if self._job is not None:
            self._job.left()
