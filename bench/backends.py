"""Scripted MCP backends over Streamable HTTP, cheap enough to stand beside what is measured.

Owns an HTTP/1.1 server (httptools on plain Trio sockets), one per port, all of one era. Deliberately checks nothing:
who calls it is the gateway or a benchmark. Invariant: what a hanging call's connection or a notice says is journalled
in the same step in which its bytes were read.
Run: ``python -m bench.backends --era 2025 --count 10 --journal FILE``; it prints its ports on one line.
"""

import argparse
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import attrs
import httptools
import orjson
import trio

from bench import journal, messages

RECEIVE_BYTES: Final = 64 * 1024
BACKLOG: Final = 1024


@attrs.frozen(kw_only=True)
class Script:
    """What is answered, rendered once."""

    modern: bool
    book: journal.Journal
    results: Mapping[str, bytes]
    """By method, or for calls by the tool's name."""
    delay_s: float = 0.0
    """Before every answer."""


def script(*, modern: bool, tools: int, book: journal.Journal, delay_s: float = 0.0) -> Script:
    """Render the answers of one era."""
    listed: messages.Json = {"tools": messages.tools(tools)}
    text, large = messages.text_result(400), messages.text_result(2**20)
    results: dict[str, messages.Json] = {
        "initialize": messages.initialize_result(),
        "server/discover": messages.discover_result(),
        "ping": {},
        "tools/list": messages.modern(listed, cacheable=True) if modern else listed,
        messages.FAST: messages.modern(text) if modern else text,
        messages.LARGE: messages.modern(large) if modern else large,
    }
    for name in (messages.WAIT, messages.STREAM):
        results[name] = results[messages.FAST]
    rendered = {name: orjson.dumps(value) for name, value in results.items()}
    return Script(modern=modern, book=book, results=rendered, delay_s=delay_s)


@attrs.define(eq=False)
class Port:
    """One backend: what its connections share."""

    script: Script
    hanging: dict[tuple[bytes, int], int] = attrs.field(factory=dict)
    """Calls by session and request id, with their number in the journal."""
    sessions: int = 0


@attrs.frozen
class Request:
    """One request that was read."""

    verb: bytes
    session: bytes
    body: bytes


@attrs.define(eq=False)
class Connection:
    """One client connection; also the callbacks of its parser."""

    port: Port
    sock: trio.socket.SocketType
    headers: dict[bytes, bytes] = attrs.field(factory=dict)
    body: bytearray = attrs.field(factory=bytearray)
    unanswered: deque[Request] = attrs.field(factory=deque)
    """More than one when the client does not wait for the answers in between."""
    hangs: int | None = None
    parser: httptools.HttpRequestParser = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.headers, self.body = {}, bytearray()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        request = Request(self.parser.get_method(), self.headers.get(b"mcp-session-id", b""), bytes(self.body))
        self.unanswered.append(request)
        if b'"notifications/cancelled"' in request.body:
            self.note_notice(request)

    async def run(self) -> None:
        """Serve until the peer closes."""
        try:
            while data := await self.sock.recv(RECEIVE_BYTES):
                self.parser.feed_data(data)
                while self.unanswered:
                    await self.answer(self.unanswered.popleft())
        except OSError:
            pass  # a reset is a way to close
        finally:
            if self.hangs is not None:
                self.port.script.book.note(self.hangs, journal.CLOSED)
            self.sock.close()

    def note_notice(self, request: Request) -> None:
        """A call is cancelled, of which the client has told; written before anybody waits for anything."""
        params = orjson.loads(request.body)["params"]
        number = self.port.hanging.pop((request.session, params["requestId"]), None)
        if number is not None:
            self.port.script.book.note(number, journal.NOTICE)

    async def answer(self, request: Request) -> None:
        """Answer one request, or remember that it hangs."""
        if request.verb != b"POST":
            await self.send(b"405 Method Not Allowed" if request.verb == b"GET" else b"200 OK", b"")
            return
        message = orjson.loads(request.body)
        method, params, rpc_id = message["method"], message.get("params") or {}, message.get("id")
        if rpc_id is None:
            await self.send(b"202 Accepted", b"")
        elif method == "tools/call" and params["name"] == messages.HANG:
            self.hangs = number = int(params["arguments"]["n"])
            self.port.hanging[request.session, rpc_id] = number
            self.port.script.book.note(number, journal.BEGAN)
        else:
            await self.respond(method, params, rpc_id)

    async def respond(self, method: str, params: dict[str, Any], rpc_id: int) -> None:
        """Send the scripted response to one request."""
        wanted = params["name"] if method == "tools/call" else method
        if self.port.script.delay_s:
            await trio.sleep(self.port.script.delay_s)
        if method == "initialize" and self.port.script.modern:
            wanted = ""
        result = self.port.script.results.get(wanted)
        if result is None:
            body = b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32601,"message":"Method not found"}}' % rpc_id
            await self.send(b"404 Not Found", body)
            return
        body = b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (rpc_id, result)
        if wanted == messages.STREAM:
            await self.stream(params.get("_meta", {}).get("progressToken"), body)
            return
        if wanted == messages.WAIT:
            await trio.sleep(messages.WAIT_S)
        extra = b""
        if wanted == "initialize":
            self.port.sessions += 1
            extra = b"Mcp-Session-Id: session-%d\r\n" % self.port.sessions
        await self.send(b"200 OK", body, extra)

    async def send(self, status: bytes, body: bytes, extra: bytes = b"") -> None:
        """A whole answer with a length."""
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
        await self.send_all(head % (status, extra, len(body)) + body)

    async def stream(self, token: object, answer: bytes) -> None:
        """Notifications one by one, each in a chunk of its own, then the answer."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        await self.send_all(head)
        for step in range(1, messages.EVENTS):
            await self.send_all(_chunk(b"data: %b\n\n" % orjson.dumps(messages.progress(token, step))))
        await self.send_all(_chunk(b"data: %b\n\n" % answer) + b"0\r\n\r\n")

    async def send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[await self.sock.send(view) :]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(port: Port, listener: trio.socket.SocketType) -> None:
    """Accept for ever."""
    async with trio.open_nursery() as nursery:
        while True:
            sock, _ = await listener.accept()
            sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
            nursery.start_soon(Connection(port, sock).run)


async def main() -> None:
    """Serve ``--count`` backends until stdin ends, which is when the benchmark has gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--era", choices=["2025", "2026"], required=True)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--tools", type=int, default=5)
    parser.add_argument("--journal", default="/dev/null")
    parser.add_argument("--delay-s", type=float, default=0.0)
    options = parser.parse_args()
    shared = script(
        modern=options.era == "2026",
        tools=options.tools,
        book=journal.Journal(options.journal),
        delay_s=options.delay_s,
    )
    ports: list[int] = []
    async with trio.open_nursery() as nursery:
        for _ in range(options.count):
            listener = trio.socket.socket()
            await listener.bind(("127.0.0.1", 0))
            listener.listen(BACKLOG)
            ports.append(listener.getsockname()[1])
            nursery.start_soon(serve, Port(shared), listener)
        print(*ports, flush=True)
        async with trio.lowlevel.FdStream(sys.stdin.fileno()) as stdin:
            while await stdin.receive_some():
                pass
        nursery.cancel_scope.cancel("the benchmark has gone")


if __name__ == "__main__":
    trio.run(main)
