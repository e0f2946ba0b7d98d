"""MCP clients that cost little: requests as bytes, answers read by httptools.

Owns the writing of requests of both eras and one keep-alive connection. Deliberately checks no protocol beyond what the
benchmark asks for. Invariant: one request at a time on a connection.
"""

import itertools
from collections.abc import Iterator
from typing import Final

import attrs
import httptools
import orjson
import trio

from bench import messages

RECEIVE_BYTES: Final = 256 * 1024
_INFO: Final[messages.Json] = {"name": "bench", "version": "1"}
_META: Final[messages.Json] = {
    messages.META + "protocolVersion": messages.MODERN,
    messages.META + "clientInfo": _INFO,
    messages.META + "clientCapabilities": {},
}


@attrs.frozen(kw_only=True)
class Reply:
    """One complete answer."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes = attrs.field(repr=False)


@attrs.define(eq=False)
class Wire:
    """One connection; also the callbacks of its parser."""

    sock: trio.socket.SocketType
    _parser: httptools.HttpResponseParser | None = None
    _headers: dict[bytes, bytes] = attrs.field(factory=dict)
    _body: list[bytes] = attrs.field(factory=list)
    _complete: bool = False

    @classmethod
    async def dial(cls, host: str) -> "Wire":
        """Connect to HOST:PORT."""
        name, _, port = host.rpartition(":")
        sock = trio.socket.socket()
        await sock.connect((name, int(port)))
        sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        return cls(sock)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._complete = True

    async def send(self, data: bytes) -> None:
        """Send a request."""
        view = memoryview(data)
        while view:
            view = view[await self.sock.send(view) :]

    async def receive(self) -> Reply:
        """Wait for the whole answer. Raises OSError when the connection ends first."""
        parser = httptools.HttpResponseParser(self)
        self._headers, self._body, self._complete = {}, [], False
        while not self._complete:
            data = await self.sock.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError("closed before the end of the answer")
            parser.feed_data(data)
        return Reply(status=parser.get_status_code(), headers=self._headers, body=b"".join(self._body))

    async def status(self) -> int:
        """Wait for the head of an answer, whose body may never end. Raises OSError when the connection ends first."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = await self.sock.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError("closed before the end of the head")
            head += data
        return int(head.split(b" ", 2)[1])

    async def ask(self, data: bytes) -> Reply:
        """Send a request and wait for its whole answer."""
        await self.send(data)
        return await self.receive()

    def close(self) -> None:
        """Hang up."""
        self.sock.close()


@attrs.define(eq=False, kw_only=True)
class Client:
    """Writes the requests of one era to one host; 2025 has a session."""

    host: str
    era: str
    path: str = "/mcp"
    session: bytes = b""
    shaken: bool = False
    """Whether the handshake of a 2025 client is over."""
    ids: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    async def open(self, on: Wire | None = None) -> "Client":
        """Shake hands where the era wants it, on this connection or one of its own."""
        if self.era == "2025":
            wire = on or await Wire.dial(self.host)
            params: messages.Json = {"protocolVersion": messages.LEGACY, "capabilities": {}, "clientInfo": _INFO}
            reply = await wire.ask(self.request("initialize", params))
            if reply.status != 200:
                raise RuntimeError(f"initialize was answered with {reply.status}: {reply.body[:200]!r}")
            self.session, self.shaken = reply.headers.get(b"mcp-session-id", b""), True
            await wire.ask(self.notification("notifications/initialized", {}))
            if on is None:
                wire.close()
        return self

    def call(self, tool: str, arguments: messages.Json, rpc_id: int | None = None) -> bytes:
        """A ``tools/call``."""
        return self.request("tools/call", {"name": tool, "arguments": arguments}, rpc_id)

    def request(self, method: str, params: messages.Json, rpc_id: int | None = None) -> bytes:
        """A request with the next id, or this one."""
        chosen = next(self.ids) if rpc_id is None else rpc_id
        meta = {"progressToken": chosen} if params.get("name") == messages.STREAM else {}
        if self.era == "2026":
            params = {**params, "_meta": {**_META, **meta}}
        elif meta:
            params = {**params, "_meta": meta}
        return self._post({"jsonrpc": "2.0", "id": chosen, "method": method, "params": params}, method, params)

    def notification(self, method: str, params: messages.Json) -> bytes:
        """A notification."""
        return self._post({"jsonrpc": "2.0", "method": method, "params": params}, method, params)

    def listen(self) -> bytes:
        """The GET of the session's stream."""
        lines = [f"GET {self.path} HTTP/1.1", f"Host: {self.host}", "Accept: text/event-stream"]
        return "\r\n".join([*lines, *self._session_lines(), "", ""]).encode()

    def _session_lines(self) -> list[str]:
        """Of a 2025 client after its handshake."""
        named = [f"Mcp-Session-Id: {self.session.decode()}"] if self.session else []
        return [f"MCP-Protocol-Version: {messages.LEGACY}", *named] if self.shaken else []

    def _post(self, message: messages.Json, method: str, params: messages.Json) -> bytes:
        body = orjson.dumps(message)
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: {self.host}",
            "Accept: application/json, text/event-stream",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        if self.era == "2026":
            lines += [f"MCP-Protocol-Version: {messages.MODERN}", f"Mcp-Method: {method}"]
            lines += [f"Mcp-Name: {params['name']}"] if "name" in params else []
        lines += self._session_lines()
        return "\r\n".join([*lines, "", ""]).encode() + body
