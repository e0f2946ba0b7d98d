"""A small MCP server over Streamable HTTP: adding, echoing, counting down.

Owns its tools, and both eras of the transport as far as tools need them. Deliberately raw
ASGI, without the MCP SDK. Invariant: each call has one cancel scope, and a cancelled one stops at
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

from mcp_gateway.backends.connector import leading
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
_INFO: Final[JsonObject] = {"name": "calc", "version": "1.0.0"}

Report: TypeAlias = Callable[[float, float, str], Awaitable[None]]
"""Tell the caller how far a tool is: progress, total, message."""


@attrs.frozen(eq=False)
class Fault(Exception):
    """A JSON-RPC error, and its HTTP status (within a session of 2025: always 200)."""

    code: int
    message: str
    status: int = 400
    data: JsonValue = None


# --- tools ---------------------------------------------------------------------------------------------------------


async def add(arguments: JsonObject, _: Report) -> JsonObject:
    """Add two numbers."""
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
    """Say the text again."""
    text = arguments.get("text")
    return _said(text) if isinstance(text, str) else _said("text must be a string", failed=True)


async def countdown(arguments: JsonObject, report: Report) -> JsonObject:
    """Count down to zero, with progress; can be cancelled."""
    start, interval_ms = arguments.get("from", 5), arguments.get("interval_ms", 1000)
    if not isinstance(start, int) or not 1 <= start <= MAX_COUNT:
        return _said(f"from must be a whole number from 1 to {MAX_COUNT}", failed=True)
    if not isinstance(interval_ms, int) or not 1 <= interval_ms <= 60_000:
        return _said("interval_ms must be a whole number from 1 to 60000", failed=True)
    for done in range(start):
        await report(done, start, f"{start - done}")
        await trio.sleep(interval_ms / 1000)
    return _said("lift-off")


def _said(text: str, *, failed: bool = False) -> JsonObject:
    return {"content": [{"type": "text", "text": text}], "isError": failed}


def _object(*required: str, **properties: JsonValue) -> JsonObject:
    return {"type": "object", "properties": properties, "required": [*required]}


def _whole(most: int, default: int) -> JsonObject:
    return {"type": "integer", "minimum": 1, "maximum": most, "default": default}


_NUMBER: Final[JsonObject] = {"type": "number"}
_COUNTING: Final = _object(**{"from": _whole(MAX_COUNT, 5), "interval_ms": _whole(60_000, 1000)})
RUN: Final[Mapping[str, Callable[[JsonObject, Report], Awaitable[JsonObject]]]] = {
    "add": add,
    "echo": echo,
    "countdown": countdown,
}
_SHOWN: Final[Mapping[str, JsonObject]] = {
    "add": {
        "title": "Add",
        "inputSchema": _object("a", "b", a=_NUMBER, b=_NUMBER),
        "outputSchema": _object("sum", sum=_NUMBER),
    },
    "echo": {"title": "Echo", "inputSchema": _object("text", text={"type": "string"})},
    "countdown": {"title": "Count down", "inputSchema": _COUNTING},
}
TOOLS: Final[list[JsonValue]] = [
    {"name": name, "description": run.__doc__, **_SHOWN[name], "annotations": {"readOnlyHint": True}}
    for name, run in RUN.items()
]


# --- HTTP ----------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Exchange:
    """One HTTP request and its answer: JSON at once, or a stream from the first report on."""

    scope: HTTPScope
    receive: ASGIReceiveCallable
    _send: ASGISendCallable
    message: JsonObject = attrs.field(factory=dict)
    streaming: bool = False

    def header(self, name: bytes) -> str:
        """The first value, or an empty text."""
        return next((value.decode("latin-1") for key, value in self.scope["headers"] if key == name), "")

    @property
    def params(self) -> JsonObject:
        """Of the message; empty if they are no object."""
        params = self.message.get("params")
        return params if isinstance(params, dict) else {}

    @property
    def meta(self) -> JsonObject:
        """Of the params, likewise."""
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}

    async def read(self) -> None:
        """Read the message. Raises Fault."""
        content, more = b"", True
        while more:
            event = await self.receive()
            content += event["body"] if event["type"] == "http.request" else b""
            more = event["type"] == "http.request" and event["more_body"]
            if len(content) > MAX_BODY_BYTES:
                raise Fault(INVALID_REQUEST, "the body is too large", 413)
        try:
            message = json.loads(content)
        except (ValueError, RecursionError) as exc:
            raise Fault(PARSE_ERROR, "not JSON") from exc
        if not isinstance(message, dict):
            raise Fault(INVALID_REQUEST, "not one JSON-RPC message")
        self.message = message

    async def left(self, cancel: Callable[[str], None]) -> None:
        """Cancel once the client has left."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        cancel("the client left")

    async def end(self, status: int, member: str = "", value: JsonValue = None, **headers: str) -> None:
        """The response with its one ``member``, or none; with a stream open, its last event."""
        message: JsonObject = {"jsonrpc": "2.0", "id": self.message.get("id"), member: value}
        body = json.dumps(message).encode() if member else b""
        if self.streaming:
            await self._chunk(encode_event(body) if body else b"", more=False)
            return
        await self._head(
            status, **({"content-type": "application/json"} if body else {"content-length": "0"}), **headers
        )
        await self._chunk(body, more=False)

    async def refuse(self, fault: Fault, status: int) -> None:
        """The error as the response."""
        data: JsonObject = {} if fault.data is None else {"data": fault.data}
        await self.end(status, "error", {"code": fault.code, "message": fault.message, **data})

    async def report(self, progress: float, total: float, message: str) -> None:
        """A ``Report``, if the caller asked for such and takes a stream, which the first one opens."""
        token = self.meta.get("progressToken")
        if token is None or "text/event-stream" not in self.header(b"accept"):
            return
        if not self.streaming:
            self.streaming = True
            await self._head(200, **{"content-type": "text/event-stream", "cache-control": "no-store"})
        detail: JsonObject = {"progressToken": token, "progress": progress, "total": total, "message": message}
        notice: JsonObject = {"jsonrpc": "2.0", "method": "notifications/progress", "params": detail}
        await self._chunk(encode_event(json.dumps(notice).encode()), more=True)

    async def _head(self, status: int, **headers: str) -> None:
        lines = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send(cast(ASGISendEvent, {"type": "http.response.start", "status": status, "headers": lines}))

    async def _chunk(self, body: bytes, *, more: bool) -> None:
        await self._send(cast(ASGISendEvent, {"type": "http.response.body", "body": body, "more_body": more}))


@attrs.define(eq=False)
class Server:
    """The ASGI application: sessions of 2025, and the calls that run in them."""

    sessions: dict[str, dict[JsonValue, trio.CancelScope]] = attrs.field(factory=dict)
    """Per session, the scope of each running call by request id."""

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one HTTP request."""
        if scope["type"] == "lifespan":  # nothing to set up or tear down, but Hypercorn waits for the answers
            for moment in ("startup", "shutdown"):
                await receive()
                await send(cast(ASGISendEvent, {"type": f"lifespan.{moment}.complete"}))
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        try:
            match scope["path"], scope["method"]:
                case "/mcp", "POST":
                    await exchange.read()
                    await (self.modern if _is_modern(exchange) else self.legacy)(exchange)
                case "/mcp", "DELETE":
                    for call in self.session(exchange).values():
                        call.cancel("session ended")
                    del self.sessions[exchange.header(b"mcp-session-id")]
                    await exchange.end(204)
                case "/mcp", _:
                    await exchange.end(405, allow="POST, DELETE")
                case _:
                    await exchange.end(404)
        except Fault as fault:
            await exchange.refuse(fault, fault.status)

    async def modern(self, exchange: Exchange) -> None:
        """2026-07-28: no session; the client's leaving cancels."""
        method = exchange.message.get("method")
        if "id" not in exchange.message:
            await exchange.end(202)
            return
        _check_modern(exchange, str(method))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange.left, nursery.cancel_scope.cancel, name="demo client")
            try:
                result = await _result(exchange)
            except Fault as fault:
                await exchange.refuse(fault, fault.status)
            else:
                hints: JsonObject = {} if method == "tools/call" else {"ttlMs": 60_000, "cacheScope": "public"}
                meta: JsonObject = {f"{_META}serverInfo": _INFO}
                await exchange.end(200, "result", {**result, "resultType": "complete", **hints, "_meta": meta})
            nursery.cancel_scope.cancel("answered")

    async def legacy(self, exchange: Exchange) -> None:
        """2025 and older: sessions; only ``notifications/cancelled`` cancels."""
        message, params = exchange.message, exchange.params
        if message.get("method") == "initialize":
            await self.initialize(exchange)
            return
        calls = self.session(exchange)
        if "id" not in message or "method" not in message:
            call = calls.get(params.get("requestId")) if message.get("method") == "notifications/cancelled" else None
            if call is not None:
                call.cancel("the client gave up")
            await exchange.end(202)
            return
        with trio.CancelScope() as scope:
            calls[message["id"]] = scope
            try:
                await exchange.end(200, "result", await _result(exchange))
            except Fault as fault:
                await exchange.refuse(fault, 200)
            finally:
                calls.pop(message["id"], None)
        if scope.cancelled_caught:
            await exchange.end(202)  # "receivers SHOULD NOT send a response" -- but HTTP needs an end

    async def initialize(self, exchange: Exchange) -> None:
        """Open a session; above the bound the oldest one goes."""
        while len(self.sessions) >= MAX_SESSIONS:
            self.sessions.pop(next(iter(self.sessions)))
        session = secrets.token_urlsafe(24)
        self.sessions[session] = {}
        asked = exchange.params.get("protocolVersion")
        version = asked if asked in LEGACY_VERSIONS else NEWEST_LEGACY.version
        result: JsonObject = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": _INFO}
        await exchange.end(200, "result", result, **{"mcp-session-id": session})

    def session(self, exchange: Exchange) -> dict[JsonValue, trio.CancelScope]:
        """The running calls of the request's session. Raises Fault: 400 without an id, 404 for an unknown one."""
        session = exchange.header(b"mcp-session-id")
        if not session:
            raise Fault(INVALID_REQUEST, "Mcp-Session-Id is missing")
        if session not in self.sessions:
            raise Fault(INVALID_REQUEST, "session not found", 404)
        return self.sessions[session]


async def _result(exchange: Exchange) -> JsonObject:
    """What both eras have in common. Raises Fault."""
    params = exchange.params
    match exchange.message.get("method"):
        case "server/discover":
            return {"supportedVersions": list(MODERN_VERSIONS), "capabilities": {"tools": {}}}
        case "ping" if not _is_modern(exchange):
            return {}
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            run, arguments = RUN.get(str(params.get("name"))), params.get("arguments", {})
            if run is None or not isinstance(arguments, dict):
                raise Fault(INVALID_PARAMS, "unknown tool or bad arguments", 200)
            return await run(arguments, exchange.report)
        case _:
            raise Fault(METHOD_NOT_FOUND, "method not found", 404)


def _is_modern(exchange: Exchange) -> bool:
    named = f"{_META}protocolVersion" in exchange.meta
    return named or exchange.header(b"mcp-protocol-version") in MODERN_VERSIONS


def _check_modern(exchange: Exchange, method: str) -> None:
    """The order of checks that both SDKs have: metadata, headers, version. Raises Fault."""
    meta = exchange.meta
    if not {f"{_META}protocolVersion", f"{_META}clientCapabilities"} <= meta.keys():
        raise Fault(INVALID_PARAMS, "a required _meta field is missing")
    name = str(exchange.params.get("name")) if method == "tools/call" else None
    try:
        check_standard(method, name, by_name(list(exchange.scope["headers"])))
    except RemoteFault as fault:
        raise Fault(HEADER_MISMATCH, str(fault)) from fault
    version = meta[f"{_META}protocolVersion"]
    if exchange.header(b"mcp-protocol-version") != version:
        raise Fault(HEADER_MISMATCH, "MCP-Protocol-Version does not match the body")
    if version != NEWEST_MODERN.version:
        data: JsonObject = {"supported": list(MODERN_VERSIONS), "requested": version}
        raise Fault(UNSUPPORTED_VERSION, "unsupported protocol version", data=data)


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
            click.echo(f"listening on {await nursery.start(serve, bind)}")

    try:
        trio.run(run)
    except* KeyboardInterrupt:
        pass
    except* OSError as group:
        click.echo(f"cannot listen on {bind}: {os.strerror(getattr(leading(group), 'errno', 0))}", err=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
