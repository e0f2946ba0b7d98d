"""A backend on a socket that answers by method and keeps every request, headers included.

Owns what a minimal server of each era says when nothing else is asked for. Deliberately checks nothing: the tests look
at what it got. Invariant: what a test gives as a reply is sent as it is.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeAlias

import attrs
import orjson

from mcp_gateway.values import JsonObject, JsonValue
from tests.support.gateway import Running, running_gateway
from tests.support.raw_client import Message
from tests.support.raw_http import RawConnection, RawRequest, RawServer, response, serve_raw

MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"

Reply: TypeAlias = Callable[[RawRequest], "JsonObject | bytes | Awaitable[bytes]"]
"""A result, or a whole HTTP response."""


def tool(name: str, **properties: JsonValue) -> JsonObject:
    return {"name": name, "inputSchema": {"type": "object", "properties": dict(properties)}}


def page(kind: str, *items: JsonValue, **more: JsonValue) -> JsonObject:
    """A modern list result."""
    return {"resultType": "complete", "ttlMs": 1000, "cacheScope": "public", kind: list(items), **more}


def error(request: RawRequest, code: int, status: str = "400 Bad Request", **data: JsonValue) -> bytes:
    """A whole HTTP response with a JSON-RPC error."""
    body: JsonObject = {"code": code, "message": "no"}
    if data:
        body["data"] = dict(data)
    return response(orjson.dumps({"jsonrpc": "2.0", "id": request.json["id"], "error": body}), status=status)


def discovered(capabilities: JsonObject) -> Reply:
    return lambda request: {
        "resultType": "complete",
        "supportedVersions": [MODERN],
        "capabilities": capabilities,
        "ttlMs": 0,
        "cacheScope": "public",
    }


def initialized(version: str, capabilities: JsonObject) -> Reply:
    return lambda request: {
        "protocolVersion": version,
        "capabilities": capabilities,
        "serverInfo": {"name": "wire", "version": "1"},
    }


def params(request: RawRequest) -> Message:
    """The params that a backend got."""
    found: Message = orjson.loads(request.body)["params"]
    return found


def called(text: str = "done", **more: JsonValue) -> Reply:
    return lambda request: {"resultType": "complete", "content": [{"type": "text", "text": text}], **more}


@attrs.define(eq=False)
class WireBackend:
    """Its address, and what it has been asked."""

    server: RawServer

    @property
    def url(self) -> str:
        return self.server.url

    def asked(self, method: str) -> list[RawRequest]:
        """The requests (and notifications) of one JSON-RPC method, in order."""
        posts = [one for one in self.server.requests if one.method == "POST"]
        return [one for one in posts if one.json.get("method") == method]

    def verbs(self, verb: str) -> list[RawRequest]:
        return [one for one in self.server.requests if one.method == verb]


@asynccontextmanager
async def wire_backend(replies: Mapping[str, Reply], *, session: str = "") -> AsyncIterator[WireBackend]:
    """Serve; a method without a reply is "method not found", a notification 202, every other verb 405.

    Args:
        session: the id that the handshake gives, empty for none.
    """

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await connection.send(await _answer(request))

    async def _answer(request: RawRequest) -> bytes:
        if request.method != "POST":
            return response(b"", status="405 Method Not Allowed")
        method = request.json.get("method")
        if "id" not in request.json or method is None:
            return response(b"", status="202 Accepted")
        reply = replies.get(str(method))
        if reply is None:
            return error(request, -32601, "404 Not Found")
        said = reply(request)
        if isinstance(said, Awaitable):
            said = await said
        if isinstance(said, bytes):
            return said
        extra = f"Mcp-Session-Id: {session}\r\n".encode() if session and method == "initialize" else b""
        body = orjson.dumps({"jsonrpc": "2.0", "id": request.json["id"], "result": said})
        return response(body, extra=extra)

    async with serve_raw(script) as server:
        yield WireBackend(server)


def modern_backend(*tools: JsonObject, **replies: Reply) -> dict[str, Reply]:
    """The replies of a modern server with tools; more by method, "/" written as "__"."""
    own: dict[str, Reply] = {
        "server/discover": discovered({"tools": {}}),
        "tools/list": lambda request: page("tools", *tools),
        "tools/call": called(),
    }
    return own | {name.replace("__", "/"): reply for name, reply in replies.items()}


def legacy_backend(*tools: JsonObject, version: str = LEGACY, **replies: Reply) -> dict[str, Reply]:
    """The same of a legacy server."""
    own: dict[str, Reply] = {
        "initialize": initialized(version, {"tools": {}}),
        "ping": lambda request: {},
        "tools/list": lambda request: {"tools": list(tools)},
        "tools/call": lambda request: {"content": [{"type": "text", "text": "done"}]},
    }
    return own | {name.replace("__", "/"): reply for name, reply in replies.items()}


def before(backend: WireBackend, prefix: str = "f_", **more: object) -> AbstractAsyncContextManager[Running]:
    """A gateway in front of this backend alone."""
    return running_gateway([{"name": "files", "url": backend.url, "prefix": prefix, **more}])
