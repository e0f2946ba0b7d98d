"""A backend on loopback that does exactly what a test's script says, however nasty.

Owns a listener and, per connection, the reading of whole requests and the writing
of raw bytes. Deliberately knows nothing of correct answers: the script does.
Invariant: everything it started has ended when the block ends.
"""

import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs
import orjson
import trio

from mcp_gateway.values import JsonObject


@attrs.frozen
class RawRequest:
    """One whole request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """Which connection it came on, from 0."""

    @property
    def json(self) -> JsonObject:
        value = orjson.loads(self.body)
        assert isinstance(value, dict)
        return value

    @property
    def rpc_id(self) -> int:
        value = self.json["id"]
        assert isinstance(value, int)
        return value


@attrs.define(eq=False)
class RawConnection:
    """The server's side of one connection."""

    stream: trio.abc.Stream
    socket: trio.SocketStream
    number: int
    server: "RawServer"
    _buffer: bytes = b""

    @property
    def unread(self) -> bool:
        """Whether more has come than was asked for."""
        return bool(self._buffer)

    def forget(self) -> None:
        """Lose what has come and was not asked for."""
        self._buffer = b""

    async def read_head(self) -> RawRequest | None:
        """The next request's head, its body unread; None when the client has closed."""
        while b"\r\n\r\n" not in self._buffer:
            if not await self._more():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.split(": ", 1) for line in lines)
        return RawRequest(method, target, {name.lower(): value for name, value in pairs}, b"", self.number)

    async def read_request(self) -> RawRequest | None:
        """The next whole request; None when the client has closed."""
        head = await self.read_head()
        if head is None:
            return None
        length = int(head.headers.get("content-length", "0"))
        while len(self._buffer) < length:
            if not await self._more():
                return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        request = attrs.evolve(head, body=body)
        self.server.requests.append(request)
        self.server.heard.set()
        self.server.heard = trio.Event()
        return request

    async def _more(self) -> bool:
        data = await self.stream.receive_some(65536)
        self._buffer += bytes(data)
        return bool(data)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def send_json(self, body: bytes, status: str = "200 OK", extra: bytes = b"") -> None:
        await self.send(response(body, status=status, extra=extra))

    async def begin_events(self, extra: bytes = b"") -> None:
        """The head of an event stream, chunked."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n" + extra + b"\r\n"
        await self.send(head)

    async def send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_chunks(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def gone(self) -> None:
        """Wait until the client has closed."""
        while await self._more():
            pass

    def reset(self) -> None:
        """Close with RST."""
        self.socket.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.socket.close()


Script: TypeAlias = Callable[[RawConnection], Awaitable[None]]


@attrs.define(eq=False)
class RawServer:
    """What the listener has seen."""

    port: int = 0
    secure: bool = False
    connections: int = 0
    open: int = 0
    requests: list[RawRequest] = attrs.field(factory=list)
    heard: trio.Event = attrs.field(factory=trio.Event)
    left: trio.Event = attrs.field(factory=trio.Event)

    @property
    def url(self) -> str:
        return f"http{'s' if self.secure else ''}://127.0.0.1:{self.port}/mcp"

    async def until(self, requests: int) -> None:
        """Wait until so many requests have come."""
        while len(self.requests) < requests:
            await self.heard.wait()

    async def all_closed(self) -> None:
        """Wait until no connection is open on this side."""
        while self.open:
            await self.left.wait()

    @property
    def bodies(self) -> Sequence[JsonObject]:
        return [request.json for request in self.requests if request.body]


def response(
    body: bytes, *, status: str = "200 OK", content_type: str = "application/json", extra: bytes = b""
) -> bytes:
    """A response with a length."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + extra + b"\r\n" + body


def event(data: bytes, *, event_id: str | None = None, retry: int | None = None) -> bytes:
    """A server-sent event."""
    lines = b"" if event_id is None else b"id: %b\n" % event_id.encode()
    lines += b"" if retry is None else b"retry: %d\n" % retry
    return lines + b"data: %b\n\n" % data


def result(rpc_id: int, value: bytes = b"{}") -> bytes:
    """A JSON-RPC response."""
    return b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (rpc_id, value)


@asynccontextmanager
async def serve_raw(
    script: Script, context: ssl.SSLContext | None = None, *, port: int = 0
) -> AsyncIterator[RawServer]:
    """Run ``script`` for each connection, until the block ends. A client that leaves ends its script silently."""
    server = RawServer(secure=context is not None)

    async def handle(socket: trio.SocketStream) -> None:
        number = server.connections
        server.connections += 1
        server.open += 1
        stream: trio.abc.Stream = socket
        try:
            if context is not None:
                stream = trio.SSLStream(socket, context, server_side=True, https_compatible=True)
            await script(RawConnection(stream, socket, number, server))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            server.open -= 1
            server.left.set()
            server.left = trio.Event()
            socket.socket.close()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        server.port = listeners[0].socket.getsockname()[1]
        await nursery.start(trio.serve_listeners, handle, listeners)
        try:
            yield server
        finally:
            nursery.cancel_scope.cancel("test over")
