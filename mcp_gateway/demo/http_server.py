"""A small MCP server over Streamable HTTP: adding, echoing, counting down.

Owns its tools, and both eras of the transport as far as tools need them.
Deliberately raw ASGI, without the MCP SDK. Invariant: a cancelled call stops at
its next pause: 2025 by ``notifications/cancelled``, 2026-07-28 by the client leaving.
Run: ``python -m mcp_gateway.demo.http_server --bind 127.0.0.1:9001``
"""

import json
import math
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, TypeAlias, cast

import attrs
import click
import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, HTTPScope, Scope

from mcp_gateway.errors import RemoteFault
from mcp_gateway.protocol.eras import LEGACY_VERSIONS, MODERN_VERSIONS, NEWEST_LEGACY, NEWEST_MODERN
from mcp_gateway.protocol.headers import by_name, check_standard
from mcp_gateway.protocol.sse import encode_event
from mcp_gateway.protocol.wire_errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    UNSUPPORTED_VERSION,
)
from mcp_gateway.values import JsonObject, JsonValue

MAX_BODY_BYTES: Final = 2**20
MAX_SESSIONS: Final = 1000
MAX_COUNT: Final = 1000

_META: Final = "io.modelcontextprotocol/"
_SERVER_INFO: Final[JsonObject] = {"name": "calc", "version": "1.0.0"}

Report: TypeAlias = Callable[[float, float, str], Awaitable[None]]
"""Tell the caller how far a tool is: progress, total, message."""


@attrs.frozen(kw_only=True, eq=False)
class Fault(Exception):
    """A JSON-RPC error, and its HTTP status in the modern era."""

    code: int
    message: str
    status: int = 400
    data: JsonValue = None


# --- tools ---------------------------------------------------------------------------------------------------------

_NUMBER: Final[JsonObject] = {"type": "number"}
TOOLS: Final[tuple[JsonObject, ...]] = (
    {
        "name": "add",
        "title": "Add",
        "description": "Add two numbers.",
        "inputSchema": {"type": "object", "properties": {"a": _NUMBER, "b": _NUMBER}, "required": ["a", "b"]},
        "outputSchema": {"type": "object", "properties": {"sum": _NUMBER}, "required": ["sum"]},
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": "echo",
        "title": "Echo",
        "description": "Say the text again.",
        "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": "countdown",
        "title": "Count down",
        "description": "Count down to zero, with progress; can be cancelled.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "from": {"type": "integer", "minimum": 1, "maximum": MAX_COUNT, "default": 5},
                "interval_ms": {"type": "integer", "minimum": 1, "maximum": 60_000, "default": 1000},
            },
        },
        "annotations": {"readOnlyHint": True},
    },
)


def _said(text: str, *, failed: bool = False) -> JsonObject:
    return {"content": [{"type": "text", "text": text}], "isError": failed}


async def add(arguments: JsonObject, _: Report) -> JsonObject:
    """The sum, as text and as structured content."""
    a, b = arguments.get("a"), arguments.get("b")
    if not isinstance(a, int | float) or not isinstance(b, int | float):
        return _said("a and b must be numbers", failed=True)
    try:
        total = a + b
    except OverflowError:
        total = math.inf
    if not math.isfinite(total):
        return _said("the sum is too large", failed=True)
    return {**_said(f"{total:g}" if isinstance(total, float) else str(total)), "structuredContent": {"sum": total}}


async def echo(arguments: JsonObject, _: Report) -> JsonObject:
    """The same text."""
    text = arguments.get("text")
    return _said(text) if isinstance(text, str) else _said("text must be a string", failed=True)


async def countdown(arguments: JsonObject, report: Report) -> JsonObject:
    """Waits between numbers; each is reported as progress."""
    start, interval_ms = arguments.get("from", 5), arguments.get("interval_ms", 1000)
    if not isinstance(start, int) or not 1 <= start <= MAX_COUNT:
        return _said(f"from must be a whole number from 1 to {MAX_COUNT}", failed=True)
    if not isinstance(interval_ms, int) or not 1 <= interval_ms <= 60_000:
        return _said("interval_ms must be a whole number from 1 to 60000", failed=True)
    for done in range(start):
        await report(done, start, f"{start - done}")
        await trio.sleep(interval_ms / 1000)
    return _said("lift-off")


RUN: Final[Mapping[str, Callable[[JsonObject, Report], Awaitable[JsonObject]]]] = {
    "add": add,
    "echo": echo,
    "countdown": countdown,
}


# --- HTTP ----------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Exchange:
    """One HTTP request and its answer: JSON at once, or a stream from the first report on."""

    scope: HTTPScope
    receive: ASGIReceiveCallable
    send: ASGISendCallable
    streaming: bool = False

    def header(self, name: bytes) -> str:
        """The first value, or an empty text."""
        return next((value.decode("latin-1") for key, value in self.scope["headers"] if key == name), "")

    async def body(self) -> bytes:
        """The whole body."""
        content = bytearray()
        while True:
            event = await self.receive()
            if event["type"] != "http.request":
                return b""
            content += event["body"]
            if len(content) > MAX_BODY_BYTES:
                raise Fault(code=INVALID_REQUEST, message="the body is too large", status=413)
            if not event.get("more_body"):
                return bytes(content)

    async def left(self) -> None:
        """Wait until the client has left (or has its answer)."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def whole(self, status: int, message: JsonObject | None = None, *headers: tuple[bytes, bytes]) -> None:
        """A complete answer; with a stream open, its last event."""
        body = b"" if message is None else json.dumps(message).encode()
        if self.streaming:
            await self._chunk(encode_event(body) if body else b"", more=False)
            return
        await self._head(
            status, (b"content-type", b"application/json") if body else (b"content-length", b"0"), *headers
        )
        await self._chunk(body, more=False)

    async def event(self, message: JsonObject) -> None:
        """One event of a stream, which the first one opens."""
        if not self.streaming:
            self.streaming = True
            await self._head(200, (b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"))
        await self._chunk(encode_event(json.dumps(message).encode()), more=True)

    async def _head(self, status: int, *headers: tuple[bytes, bytes]) -> None:
        start = {"type": "http.response.start", "status": status, "headers": list(headers)}
        await self.send(cast(ASGISendEvent, start))

    async def _chunk(self, body: bytes, *, more: bool) -> None:
        await self.send(cast(ASGISendEvent, {"type": "http.response.body", "body": body, "more_body": more}))


@attrs.define(eq=False)
class Server:
    """The ASGI application: legacy sessions and the calls that run in them."""

    sessions: dict[str, dict[JsonValue, trio.CancelScope]] = attrs.field(factory=dict)
    """Per session, the scope of each running call by request id."""

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one HTTP request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        try:
            if scope["path"] != "/mcp":
                await exchange.whole(404)
            elif scope["method"] == "POST":
                await self.post(exchange)
            elif scope["method"] == "DELETE":
                for call in self.session(exchange).values():
                    call.cancel("session ended")
                del self.sessions[exchange.header(b"mcp-session-id")]
                await exchange.whole(204)
            else:
                await exchange.whole(405, None, (b"allow", b"POST, DELETE"))
        except Fault as fault:
            await exchange.whole(fault.status, _failure(None, fault))

    async def post(self, exchange: Exchange) -> None:
        """One JSON-RPC message."""
        try:
            message = json.loads(await exchange.body())
        except (ValueError, RecursionError) as exc:
            raise Fault(code=PARSE_ERROR, message="not JSON") from exc
        if not isinstance(message, dict):
            raise Fault(code=INVALID_REQUEST, message="not one JSON-RPC message")
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        if _is_modern(exchange, params):
            await self.modern(exchange, message, params)
        else:
            await self.legacy(exchange, message, params)

    async def modern(self, exchange: Exchange, message: JsonObject, params: JsonObject) -> None:
        """2026-07-28: no session; the client's leaving cancels."""
        request_id, method = message.get("id"), str(message.get("method"))
        if request_id is None:
            await exchange.whole(202)
            return
        try:
            _check_modern(exchange, method, params)
        except Fault as fault:
            await exchange.whole(fault.status, _failure(request_id, fault))
            return
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await exchange.left()
                nursery.cancel_scope.cancel("the client left")

            nursery.start_soon(watch, name="demo client")
            try:
                result = await _result(method, params, _reporter(exchange, params))
            except Fault as fault:
                await exchange.whole(fault.status, _failure(request_id, fault))
            else:
                meta: JsonObject = {f"{_META}serverInfo": _SERVER_INFO}
                hints: JsonObject = {} if method == "tools/call" else {"ttlMs": 60_000, "cacheScope": "public"}
                shaped: JsonObject = {**result, "resultType": "complete", **hints, "_meta": meta}
                await exchange.whole(200, {"jsonrpc": "2.0", "id": request_id, "result": shaped})
            nursery.cancel_scope.cancel("answered")

    async def legacy(self, exchange: Exchange, message: JsonObject, params: JsonObject) -> None:
        """2025 and older: sessions; only ``notifications/cancelled`` cancels."""
        request_id, method = message.get("id"), str(message.get("method"))
        if method == "initialize":
            await self.initialize(exchange, request_id, params)
            return
        session = self.session(exchange)
        if request_id is None or "method" not in message:
            call = session.get(params.get("requestId")) if method == "notifications/cancelled" else None
            if call is not None:
                call.cancel("the client gave up")
            await exchange.whole(202)
            return
        with trio.CancelScope() as scope:
            session[request_id] = scope
            try:
                answer: JsonObject = {
                    "jsonrpc": "2.0",
                    "id": request_id,
                    "result": await _result(method, params, _reporter(exchange, params)),
                }
            except Fault as fault:
                answer = _failure(request_id, fault)
            finally:
                session.pop(request_id, None)
            await exchange.whole(200, answer)
        if scope.cancelled_caught:
            await exchange.whole(202)  # "receivers SHOULD NOT send a response" -- but HTTP needs an end

    async def initialize(self, exchange: Exchange, request_id: JsonValue, params: JsonObject) -> None:
        """Open a session; above the bound the oldest one goes."""
        while len(self.sessions) >= MAX_SESSIONS:
            self.sessions.pop(next(iter(self.sessions)))
        session = secrets.token_urlsafe(24)
        self.sessions[session] = {}
        asked = params.get("protocolVersion")
        result: JsonObject = {
            "protocolVersion": asked if asked in LEGACY_VERSIONS else NEWEST_LEGACY.version,
            "capabilities": {"tools": {}},
            "serverInfo": _SERVER_INFO,
        }
        answer: JsonObject = {"jsonrpc": "2.0", "id": request_id, "result": result}
        await exchange.whole(200, answer, (b"mcp-session-id", session.encode()))

    def session(self, exchange: Exchange) -> dict[JsonValue, trio.CancelScope]:
        """The running calls of the request's session. Raises Fault: 400 without an id, 404 for an unknown one."""
        session = exchange.header(b"mcp-session-id")
        if session not in self.sessions:
            known = "session not found" if session else "Mcp-Session-Id is missing"
            raise Fault(code=INVALID_REQUEST, message=known, status=404 if session else 400)
        return self.sessions[session]


async def _lifespan(receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Nothing to set up, nothing to tear down; but Hypercorn waits for the answers."""
    for moment in ("startup", "shutdown"):
        await receive()
        await send(cast(ASGISendEvent, {"type": f"lifespan.{moment}.complete"}))


async def _result(method: str, params: JsonObject, report: Report) -> JsonObject:
    """What both eras have in common. Raises Fault."""
    match method:
        case "server/discover":
            return {"supportedVersions": list(MODERN_VERSIONS), "capabilities": {"tools": {}}}
        case "ping":
            return {}
        case "tools/list":
            return {"tools": list(TOOLS)}
        case "tools/call":
            run, arguments = RUN.get(str(params.get("name"))), params.get("arguments", {})
            if run is None or not isinstance(arguments, dict):
                raise Fault(code=INVALID_PARAMS, message="unknown tool or bad arguments", status=200)
            return await run(arguments, report)
        case _:
            raise Fault(code=METHOD_NOT_FOUND, message="method not found", status=404)


def _reporter(exchange: Exchange, params: JsonObject) -> Report:
    """Progress notifications, if the caller asked for them and takes a stream."""
    meta = params.get("_meta")
    token = meta.get("progressToken") if isinstance(meta, dict) else None

    async def report(progress: float, total: float, message: str) -> None:
        if token is None or "text/event-stream" not in exchange.header(b"accept"):
            return
        detail: JsonObject = {"progressToken": token, "progress": progress, "total": total, "message": message}
        await exchange.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": detail})

    return report


def _is_modern(exchange: Exchange, params: JsonObject) -> bool:
    meta = params.get("_meta")
    named = isinstance(meta, dict) and f"{_META}protocolVersion" in meta
    return named or exchange.header(b"mcp-protocol-version") in MODERN_VERSIONS


def _check_modern(exchange: Exchange, method: str, params: JsonObject) -> None:
    """The order of checks that both SDKs have: metadata, headers, version, method. Raises Fault."""
    meta = params.get("_meta")
    needed = (f"{_META}protocolVersion", f"{_META}clientCapabilities")
    if not isinstance(meta, dict) or not all(key in meta for key in needed):
        raise Fault(code=INVALID_PARAMS, message="a required _meta field is missing")
    version = meta[needed[0]]
    name = str(params.get("name")) if method == "tools/call" else None
    try:
        check_standard(method, name, by_name(list(exchange.scope["headers"])))
    except RemoteFault as fault:
        raise Fault(code=HEADER_MISMATCH, message=str(fault)) from fault
    if exchange.header(b"mcp-protocol-version") != version:
        raise Fault(code=HEADER_MISMATCH, message="MCP-Protocol-Version does not match the body")
    if version != NEWEST_MODERN.version:
        data: JsonObject = {"supported": list(MODERN_VERSIONS), "requested": version}
        raise Fault(code=UNSUPPORTED_VERSION, message="unsupported protocol version", data=data)
    if method == "ping":
        raise Fault(code=METHOD_NOT_FOUND, message="method not found", status=404)


def _failure(request_id: JsonValue, fault: Fault) -> JsonObject:
    error: JsonObject = {"code": fault.code, "message": fault.message}
    if fault.data is not None:
        error["data"] = fault.data
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


async def serve(bind: str, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled; ``started`` gets the URL of the endpoint, with the port that port 0 became.

    Raises:
        OSError: the address cannot be listened on.
    """
    host, _, port = bind.rpartition(":")
    # Bound here, not by Hypercorn: its error would come in a group of groups.
    listener = socket.create_server((host, int(port)))
    host, port = listener.getsockname()[:2]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = config.errorlog = None
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(hypercorn_serve, mode="asgi"), Server(), config)
        task_status.started(f"http://{host}:{port}/mcp")


@click.command()
@click.option("--bind", default="127.0.0.1:9001", show_default=True, help="HOST:PORT; port 0 takes a free one.")
def main(bind: str) -> None:
    """Run the example server until Ctrl-C."""

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            try:
                url = await nursery.start(serve, bind)
            except OSError as error:
                refused.append(f"cannot listen on {bind}: {os.strerror(error.errno or 0)}")
            else:
                click.echo(f"listening on {url}")

    refused: list[str] = []
    try:
        trio.run(run)
    except* KeyboardInterrupt:
        pass
    if refused:
        click.echo(refused[0], err=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
