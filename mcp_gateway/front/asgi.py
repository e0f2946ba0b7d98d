"""The raw ASGI app: MCP paths go to dispatch, everything else to the pages.

Owns reading the body under its bounds, and noticing that the client has left.
Deliberately knows no MCP: dispatch decides what a request is and what leaving means.
Invariant: dispatch runs to its own end though the client has left, and every
request whose client stays gets exactly one answer.

``/mcp`` never goes through Quart: its RESPONSE_TIMEOUT cuts streams silently.
Once the body is read, a task keeps awaiting ``receive()``: without it Hypercorn's
bounded queue blocks its reader, and a disconnect is never seen.
"""

import logging
import secrets
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs
import orjson
import trio
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, HTTPScope, Scope

from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.errors import LocalFault
from mcp_gateway.front.origin import Refusal, check, cors_headers, preflight
from mcp_gateway.front.reply import SEND_STALL_S, AsgiReply
from mcp_gateway.gateway.entrance import Job, Reply, Request
from mcp_gateway.telemetry.metrics import Metrics
from mcp_gateway.telemetry.trace import note_request
from mcp_gateway.values import Header, JsonObject

logger = logging.getLogger(__name__)

Prepare: TypeAlias = Callable[[Request, Reply], Job]

BODY_S: Final = 60.0
"""The longest that a client may take to send its body."""
TWO_LENGTHS: Final = Refusal(status=400, message="both Content-Length and Transfer-Encoding")
"""Where this body ends is a matter of opinion, and a proxy in front may have another (RFC 9112 6.1, smuggling)."""
_LINGER_S: Final = 2.0
_JSON: Final[Header] = (b"content-type", b"application/json")
_CLOSE: Final[Header] = (b"connection", b"close")
_INVALID_REQUEST: Final = -32600
_INTERNAL: Final = -32603


@attrs.define(eq=False, kw_only=True)
class FrontApp:
    """The ASGI app of the public listener."""

    prepare: Prepare
    pages: ASGIFramework
    spec: Cell[GatewaySpec]
    """``http`` and ``limits.body_bytes`` are read once per request."""
    metrics: Metrics
    bind_is_loopback: bool = True
    draining: Callable[[], bool] = lambda: False
    """While True, HTTP/1 answers say ``Connection: close``, so that clients go elsewhere (design 3.4)."""
    body_s: float = BODY_S
    send_stall_s: float = SEND_STALL_S

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one ``http`` scope; a WebSocket is refused (403 by ASGI's rules), a lifespan is not supported."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": None})
            return
        if scope["type"] != "http":
            raise LocalFault(what=f"ASGI scope {scope['type']!r} is not supported")
        if scope["http_version"].startswith("1"):
            send = self._closing_while_draining(send)
        path = mcp_path(scope["path"])
        if path is None:
            await self.pages(scope, receive, send)
        else:
            await self._serve(scope, path, receive, send)

    def _closing_while_draining(self, send: ASGISendCallable) -> ASGISendCallable:
        async def send_or_close(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.start" and self.draining():
                rest = [header for header in message["headers"] if header[0].lower() != b"connection"]
                message["headers"] = [*rest, _CLOSE]
            await send(message)

        return send_or_close

    async def _serve(self, scope: HTTPScope, path: str, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        headers = tuple(scope["headers"])
        note_request(headers)
        http = self.spec.value.http
        refusal = check(
            scope["method"],
            headers,
            bind_is_loopback=self.bind_is_loopback,
            allowed_hosts=http.allowed_hosts,
            allowed_origins=http.allowed_origins,
        )
        preflighted = scope["method"] == "OPTIONS" and refusal is None
        extra = () if preflighted else cors_headers(headers, allowed_origins=http.allowed_origins)
        reply = AsgiReply(send=send, metrics=self.metrics, extra=extra, stall_s=self.send_stall_s)
        if preflighted:
            await reply.whole(204, preflight(headers, allowed_origins=http.allowed_origins), b"")
            return
        body = refusal if refusal is not None else await self._body(headers, receive)
        if isinstance(body, Refusal):
            logger.info("request refused", extra={"why": body.message, "status": body.status, "path": path})
            await _refuse(body, reply, receive, scope)
        elif body is not None:
            await self._answer(_request(scope, path, headers, body), reply, receive)

    async def _body(self, headers: tuple[Header, ...], receive: ASGIReceiveCallable) -> bytes | Refusal | None:
        """The whole body, or why it is refused, or None when its client has left."""
        bound = self.spec.value.limits.body_bytes
        too_large = Refusal(status=413, message=f"the body is larger than limits.bodyBytes = {bound}")
        fields = dict(headers)
        announced = fields.get(b"content-length", b"0")
        if b"transfer-encoding" in fields and b"content-length" in fields:
            return TWO_LENGTHS
        if announced.isdigit() and int(announced) > bound:
            return too_large
        body = bytearray()
        with trio.move_on_after(self.body_s):
            while len(body) <= bound:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                body += message["body"]
                if not message["more_body"] and len(body) <= bound:
                    self.metrics.received(len(body))
                    return bytes(body)
            return too_large
        return Refusal(status=408, message=f"the body took longer than {self.body_s:g} s")

    async def _answer(self, request: Request, reply: AsgiReply, receive: ASGIReceiveCallable) -> None:
        """Run dispatch to its end beside the task that sees the client leave."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, reply, receive, name="watch client")
            try:
                job = self.prepare(request, reply)
                reply.on_gone(job.left)
                with trio.CancelScope() as scope:
                    await job.run(scope)
                await job.finish()
                if not reply.begun and not reply.gone:
                    raise LocalFault(what="dispatch ended without an answer")
            except* Exception as failed:  # noqa: BLE001  # the supervised border of one request
                await _internal_error(failed, request, reply)
            if reply.begun:
                await reply.close()
            nursery.cancel_scope.cancel("answered")


def mcp_path(path: str) -> str | None:
    """The path as dispatch wants it (no slash behind ``/mcp``); None if it is none of ours."""
    if path in ("/mcp", "/mcp/"):
        return "/mcp"
    return path if path in ("/sse", "/messages") or path.startswith("/mcp/vs/") else None


def _request(scope: HTTPScope, path: str, headers: tuple[Header, ...], body: bytes) -> Request:
    client = scope["client"]
    return Request(
        method=scope["method"],
        path=path,
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=body,
        peer=client[0] if client else "",
        scheme=scope["scheme"],
    )


async def _watch(reply: AsgiReply, receive: ASGIReceiveCallable) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reply.left()


async def _refuse(refusal: Refusal, reply: AsgiReply, receive: ASGIReceiveCallable, scope: HTTPScope) -> None:
    """Answer without having used the body; the client gets a moment to finish sending it (not if it was too slow).

    Closing with unread input resets the connection, and the client would never see the answer.
    """
    headers = (_JSON, _CLOSE) if scope["http_version"].startswith("1") else (_JSON,)
    body = _error_body(_INVALID_REQUEST, refusal.message, None)
    if await reply.begin_whole(refusal.status, headers, body) and refusal.status != 408:
        with trio.move_on_after(_LINGER_S):
            while True:
                event = await receive()
                if event["type"] != "http.request" or not event["more_body"]:
                    break
    await reply.close()


async def _internal_error(failed: BaseExceptionGroup[Exception], request: Request, reply: AsgiReply) -> None:
    """Our bug: the traceback goes to the log, an error id to the client."""
    error_id = secrets.token_hex(6)
    cause = failed.exceptions[0] if len(failed.exceptions) == 1 else failed
    logger.error("request failed", exc_info=cause, extra={"error_id": error_id, "path": request.path})
    message = f"internal error (error id {error_id})"
    data: JsonObject = {"reason": "internal", "errorId": error_id}
    body = _error_body(_INTERNAL, message, _id_of(request.body), data)
    if not reply.begun:
        await reply.whole(500, [_JSON], body)
    elif not reply.done:
        await reply.event(body)


def _error_body(code: int, message: str, request_id: str | int | None, data: JsonObject | None = None) -> bytes:
    error: JsonObject = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "error": error})


def _id_of(body: bytes) -> str | int | None:
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    found = message.get("id") if isinstance(message, dict) else None
    return found if isinstance(found, str | int) and not isinstance(found, bool) else None
