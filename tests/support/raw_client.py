"""Two tiny MCP clients, one for each era, that show every message as it came.

Owns the writing of requests and the reading of answers, JSON or event stream, on connections of their own. Deliberately
checks nothing and repairs nothing: the tests judge. Invariant: one request has one connection, so that leaving it is
closing a socket.
"""

import base64
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import attrs
import orjson
import trio

from tests.support.front import Wire

Message: TypeAlias = dict[str, Any]

BOTH: Final = "application/json, text/event-stream"
MODERN: Final = "2026-07-28"
NAMED: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""Which parameter the header Mcp-Name repeats."""
_META: Final = "io.modelcontextprotocol/"


@attrs.define(eq=False, kw_only=True)
class Exchange:
    """One HTTP request whose head has been answered."""

    status: int
    headers: dict[str, str]
    raw: bytes = b""
    """The whole body, of an answer with a length."""
    events: list[dict[str, str]] = attrs.field(factory=list)
    """The server-sent events that have been read, with their fields."""
    wire: Wire
    _rest: bytes = b""

    @property
    def streams(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def json(self) -> Message:
        """The one message of an answer with a length."""
        message: Message = orjson.loads(self.raw)
        return message

    async def next_event(self) -> dict[str, str] | None:
        """The next event with data or an id; comments are passed over; None at the stream's end."""
        while True:
            while b"\n\n" not in self._rest:
                chunk = await self.wire.chunk()
                if not chunk:
                    return None
                self._rest += chunk.replace(b"\r\n", b"\n")
            block, _, self._rest = self._rest.partition(b"\n\n")
            lines = (line.partition(":") for line in block.decode().split("\n") if not line.startswith(":"))
            event = {name: value.removeprefix(" ") for name, _, value in lines if name}
            if event:
                self.events.append(event)
                return event

    async def next(self) -> Message | None:
        """The next message of the stream, or the only one of the answer; None when there is no more."""
        if not self.streams:
            raw, self.raw = self.raw, b""
            return orjson.loads(raw) if raw else None
        while True:
            event = await self.next_event()
            if event is None:
                return None
            if event.get("data"):
                message: Message = orjson.loads(event["data"])
                return message

    async def all(self) -> list[Message]:
        """Every message up to the end of the answer; the response of a request is the last one."""
        found = []
        while (message := await self.next()) is not None:
            found.append(message)
        return found

    async def response(self) -> Message:
        """Read on until the response; earlier messages are passed over."""
        while (message := await self.next()) is not None:
            if "method" not in message:
                return message
        raise AssertionError("the answer ended without a response")

    async def hang_up(self) -> None:
        """Close the connection, as a client does that leaves."""
        await self.wire.close()


@attrs.define(eq=False, kw_only=True)
class RawClient:
    """What both eras share: sending, and counting ids. Made by ``connect``."""

    url: str
    headers: dict[str, str] = attrs.field(factory=dict)
    """With every request."""
    ids: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))
    _wires: list[Wire] = attrs.field(factory=list)

    async def http(self, method: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Exchange:
        """Send one HTTP request and wait for the head of its answer, or for all of an answer with a length."""
        where = urlsplit(self.url)
        wire = Wire(await trio.open_tcp_stream(where.hostname or "", where.port or 80))
        self._wires.append(wire)
        target = where.path + (f"?{where.query}" if where.query else "")
        fields = {"Host": where.netloc, **self.headers, **(headers or {})}
        if body:
            fields = {"Content-Type": "application/json", **fields, "Content-Length": str(len(body))}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        await wire.send("\r\n".join([*lines, "", ""]).encode() + body)
        status, answered = await wire.head()
        exchange = Exchange(status=status, headers=answered, wire=wire)
        if "content-length" in answered:
            await wire.receive(int(answered["content-length"]))
            exchange.raw = wire.rest
        return exchange

    async def post(self, message: object, headers: Mapping[str, str] | None = None) -> Exchange:
        """POST one message (or whatever JSON) as it is."""
        return await self.http("POST", orjson.dumps(message), {"Accept": BOTH, **(headers or {})})

    def hang_up(self) -> None:
        """Close every connection."""
        for wire in self._wires:
            wire.stream.socket.close()


@attrs.define(eq=False, kw_only=True)
class Client2025(RawClient):
    """A client with a session."""

    version: str = "2025-11-25"
    session_id: str = ""

    async def initialize(self, **capabilities: object) -> Message:
        """Open a session; the server's result."""
        info = {"name": "raw-client", "version": "1"}
        params = {"protocolVersion": self.version, "capabilities": capabilities, "clientInfo": info}
        request = {"jsonrpc": "2.0", "id": next(self.ids), "method": "initialize", "params": params}
        exchange = await self.post(request)
        answer = await exchange.response()
        assert "result" in answer, answer
        self.session_id = exchange.headers["mcp-session-id"]
        self.headers |= {"Mcp-Session-Id": self.session_id, "MCP-Protocol-Version": answer["result"]["protocolVersion"]}
        await self.notify("notifications/initialized")
        result: Message = answer["result"]
        return result

    async def start(self, method: str, id: int | str | None = None, **params: object) -> Exchange:
        """Send a request; returns when the head of its answer is there."""
        chosen = next(self.ids) if id is None else id
        return await self.post({"jsonrpc": "2.0", "id": chosen, "method": method, "params": params})

    async def ask(self, method: str, id: int | str | None = None, **params: object) -> Message:
        """Send a request; its whole response."""
        return await (await self.start(method, id, **params)).response()

    async def call(self, tool: str, arguments: object = None, id: int | str | None = None) -> Message:
        """Call a tool; the whole response, ``result`` or ``error``."""
        return await self.ask("tools/call", id, name=tool, arguments=arguments or {})

    async def list(self, kind: str = "tools") -> "list[str]":
        """The names of a list (the URIs of resources)."""
        return await names(self, kind)

    async def notify(self, method: str, **params: object) -> Exchange:
        return await self.post({"jsonrpc": "2.0", "method": method, "params": params})

    async def cancel(self, id: int | str, reason: str = "test") -> Exchange:
        """Tell that a request is given up."""
        return await self.notify("notifications/cancelled", requestId=id, reason=reason)

    async def respond(self, id: int | str, result: object) -> Exchange:
        """Answer a request of the server."""
        return await self.post({"jsonrpc": "2.0", "id": id, "result": result})

    async def stream(self, last_event_id: str | None = None) -> Exchange:
        """Open the GET stream, or resume one."""
        resume = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        return await self.http("GET", headers={"Accept": "text/event-stream", **resume})

    async def delete(self) -> Exchange:
        return await self.http("DELETE")


@attrs.define(eq=False, kw_only=True)
class Client2026(RawClient):
    """A client without a session: each request says everything."""

    capabilities: Message = attrs.field(factory=dict)
    meta: Message = attrs.field(factory=dict)
    """More members of each request's ``_meta``, e.g. a progress token or a log level."""

    async def start(
        self, method: str, id: int | str | None = None, headers: Mapping[str, str] | None = None, **params: object
    ) -> Exchange:
        """Send a request with what the era wants; returns when the head of its answer is there.

        Args:
            headers: besides the mirrored ones, or instead of them.
        """
        own = {
            _META + "protocolVersion": MODERN,
            _META + "clientInfo": {"name": "raw-client", "version": "1"},
            _META + "clientCapabilities": self.capabilities,
        }
        given = params.get("_meta", {})
        assert isinstance(given, dict)
        mirrored = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        if method in NAMED:
            mirrored["Mcp-Name"] = as_header(str(params[NAMED[method]]))
        body = {**params, "_meta": {**own, **self.meta, **given}}
        chosen = next(self.ids) if id is None else id
        message = {"jsonrpc": "2.0", "id": chosen, "method": method, "params": body}
        return await self.post(message, {**mirrored, **(headers or {})})

    async def ask(self, method: str, id: int | str | None = None, **params: object) -> Message:
        """Send a request; its whole response."""
        return await (await self.start(method, id, None, **params)).response()

    async def call(self, tool: str, arguments: object = None, **params: object) -> Message:
        """Call a tool; the whole response, ``result`` or ``error``. ``params``: e.g. inputResponses, requestState."""
        return await self.ask("tools/call", None, name=tool, arguments=arguments or {}, **params)

    async def list(self, kind: str = "tools") -> "list[str]":
        """The names of a list (the URIs of resources)."""
        return await names(self, kind)

    async def listen(self, **notifications: object) -> Exchange:
        """Open a stream of notifications, e.g. ``toolsListChanged=True``."""
        return await self.start("subscriptions/listen", notifications=notifications)


async def names(client: Client2025 | Client2026, kind: str) -> list[str]:
    """All pages of a list: names of ``tools`` and ``prompts``, URIs of ``resources``, ``resources/templates``."""
    member = {"resources/templates": "resourceTemplates"}.get(kind, kind)
    label = {"resources": "uri", "resources/templates": "uriTemplate"}.get(kind, "name")
    found: list[str] = []
    cursor: Message = {}
    while True:
        answer = await client.ask(f"{kind}/list", **cursor)
        found += [item[label] for item in answer["result"][member]]
        if "nextCursor" not in answer["result"]:
            return found
        cursor = {"cursor": answer["result"]["nextCursor"]}


def as_header(value: str) -> str:
    """A value as the mirrored headers carry it: as it is, or in the base64 form."""
    plain = value.isascii() and value.isprintable() and value == value.strip() and not value.startswith("=?")
    return value if plain else f"=?base64?{base64.b64encode(value.encode()).decode()}?="


@asynccontextmanager
async def connect2025(url: str, version: str = "2025-11-25") -> AsyncIterator[Client2025]:
    """A client without a session yet; its connections close with the block."""
    client = Client2025(url=url, version=version)
    try:
        yield client
    finally:
        client.hang_up()


@asynccontextmanager
async def connect2026(url: str, **capabilities: object) -> AsyncIterator[Client2026]:
    """A modern client with these capabilities; its connections close with the block."""
    client = Client2026(url=url, capabilities=dict(capabilities))
    try:
        yield client
    finally:
        client.hang_up()
