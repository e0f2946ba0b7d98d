"""A small MCP server behind a Service, on threads of its own, that a test changes while it runs.

Owns what acceptance cases ask of a server: greeting, showing the headers that came, growing a tool and telling of it,
a prompt, a credential, TLS, another path, another revision. Deliberately on ``http.server``: nothing of the gateway is
in it, and it lives across tests, each with its own loop. Invariant: stopped, it has left no connection open, as a pod
that was killed.
"""

import http
import http.server
import json
import queue
import secrets
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self, cast

from tests.support.kube.objects import Document

LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
_META: Final = "io.modelcontextprotocol/"


def tool(name: str, schema: Document | None = None) -> Document:
    return {"name": name, "inputSchema": schema or {"type": "object"}}


class McpServer(http.server.ThreadingHTTPServer):
    """Listens on ``address`` until it is stopped.

    Args:
        name: says who answered.
        version: the one revision that it speaks.
        authorization: the whole header that it wants; empty: none.
        prompts: their names; none: it has no prompts at all.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        *,
        name: str = "server",
        version: str = LEGACY,
        path: str = "/mcp",
        authorization: str = "",
        tools: Sequence[Document] = (),
        prompts: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(address, _Answer)
        self.name, self.version, self.path, self.authorization = name, version, path, authorization
        self.tools = [tool("greet"), tool("headers"), tool("add_tool"), tool("echo"), *tools]
        self.prompts = list(prompts)
        self.seen: list[bytes] = []
        """The bodies of all requests."""
        self.streams: list[queue.SimpleQueue[Document | None]] = []
        self._open: set[socket.socket] = set()
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End, with every connection."""
        self.shutdown()
        self.server_close()
        for stream in self.streams:
            stream.put(None)
        for link in list(self._open):
            self.shutdown_request(link)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # as in the base class
        self._open.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:  # noqa: ANN401  # as in the base class
        self._open.discard(request)
        super().close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left is no matter for the output of the tests."""

    def grow(self, name: str) -> None:
        """Have a tool more, and tell every open stream."""
        self.tools = [*self.tools, tool(name)]
        for stream in self.streams:
            stream.put({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def mcp(self) -> McpServer:
        return cast(McpServer, self.server)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != self.mcp.path:
            self._say(http.HTTPStatus.NOT_FOUND)
        elif self.mcp.authorization not in ("", self.headers.get("Authorization")):
            self._say(http.HTTPStatus.UNAUTHORIZED)
        else:
            self.mcp.seen.append(body)
            message = json.loads(body)
            if "id" not in message:
                self._say(http.HTTPStatus.ACCEPTED)
            else:
                self._answer(message)

    def do_GET(self) -> None:
        if self.path != self.mcp.path or self.mcp.version == MODERN:
            self._say(http.HTTPStatus.METHOD_NOT_ALLOWED)
            return
        stream: queue.SimpleQueue[Document | None] = queue.SimpleQueue()
        self.mcp.streams.append(stream)
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        while (event := stream.get()) is not None:
            self.wfile.write(b"data: %b\n\n" % json.dumps(event).encode())

    def do_DELETE(self) -> None:
        self._say(http.HTTPStatus.OK)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name in the base class
        """Say nothing."""

    def _say(self, status: int, value: Document | None = None, **headers: str) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, message: Document) -> None:
        method, params = message["method"], message.get("params", {})
        result = _result(self.mcp, method, params, dict(self.headers))
        if result is None:
            error = {"code": -32601 if "/" in method else -32602, "message": "not here"}
            self._say(http.HTTPStatus.OK, {"jsonrpc": "2.0", "id": message["id"], "error": error})
            return
        if self.mcp.version == MODERN:
            result = {"resultType": "complete", "ttlMs": 60_000, "cacheScope": "public", **result}
        more = {"Mcp_Session_Id": secrets.token_hex(8)} if method == "initialize" else {}
        self._say(http.HTTPStatus.OK, {"jsonrpc": "2.0", "id": message["id"], "result": result}, **more)


def _result(server: McpServer, method: str, params: Document, headers: Mapping[str, str]) -> Document | None:
    abilities: Document = {"tools": {"listChanged": True}} | ({"prompts": {}} if server.prompts else {})
    info = {"name": server.name, "version": "1"}
    match method:
        case "initialize" if server.version != MODERN:
            return {"protocolVersion": server.version, "capabilities": abilities, "serverInfo": info}
        case "server/discover" if server.version == MODERN:
            meta = {f"{_META}serverInfo": info}
            return {"supportedVersions": [MODERN], "capabilities": abilities, "_meta": meta}
        case "ping":
            return {}
        case "tools/list":
            return {"tools": server.tools}
        case "prompts/list" if server.prompts:
            return {"prompts": [{"name": name, "arguments": [{"name": "name"}]} for name in server.prompts]}
        case "tools/call":
            return _call(server, params["name"], params.get("arguments", {}), headers)
        case "prompts/get":
            text = f"Say hi to {params.get('arguments', {}).get('name')}"
            return {"messages": [{"role": "user", "content": {"type": "text", "text": text}}]}
        case _:
            return None


def _call(server: McpServer, name: str, arguments: Document, headers: Mapping[str, str]) -> Document:
    match name:
        case "greet":
            text = f"Hi {arguments.get('name')}, this is {server.name}"
        case "headers":
            text = json.dumps({key.lower(): value for key, value in headers.items()})
        case "add_tool":
            server.grow(arguments["name"])
            text = "added"
        case "echo":
            text = json.dumps(arguments)
        case _:
            text = f"{name} of {server.name}"
    return {"content": [{"type": "text", "text": text}]}
