"""A small MCP server that lets in only those who show a token that is good at the moment.

Owns its listener and what it has seen. Deliberately the least that the handshake of 2025 and one tool need. Invariant:
each request is judged by the tokens that are good when it comes.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self

TOOL: Final = {
    "name": "add",
    "inputSchema": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
}


class TokenServer(ThreadingHTTPServer):
    """Use as a context."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], *tokens: str) -> None:
        super().__init__(address, _Handler)
        self.accepted = set(tokens)
        self.last = ""
        """The token of the newest request."""
        self.refused = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _tokens(self) -> TokenServer:
        assert isinstance(self.server, TokenServer)
        return self.server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Says nothing."""

    def do_GET(self) -> None:
        self._answer(405)

    def do_DELETE(self) -> None:
        self._answer(405)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        self._tokens.last = token
        if token not in self._tokens.accepted:
            self._tokens.refused += 1
            self._answer(401)
        elif "id" not in asked:
            self._answer(202)
        else:
            self._answer(200, {"jsonrpc": "2.0", "id": asked["id"], **_result(asked)})

    def _answer(self, status: int, value: object = None) -> None:
        content = b"" if value is None else json.dumps(value).encode()
        self.send_response_only(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _result(asked: dict[str, object]) -> dict[str, object]:
    params = asked.get("params")
    match asked["method"], params:
        case "initialize", _:
            info = {"name": "tokens", "version": "1"}
            return {"result": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}}
        case "tools/list", _:
            return {"result": {"tools": [TOOL]}}
        case "tools/call", {"arguments": {"a": a, "b": b}}:
            return {"result": {"content": [{"type": "text", "text": str(a + b)}]}}
        case "ping", _:
            return {"result": {}}
        case _:
            return {"error": {"code": -32601, "message": "no such method"}}
