"""A whole gateway without sockets: scripted backends below, recorded replies above.

Owns the wiring and a client that speaks in requests and recorded answers.
Deliberately uses the product's own assembly; only the two seams (connector,
reply) are replaced. Runs on a virtual clock.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import attrs
import orjson
import trio

from mcp_gateway.auth.principal import ANONYMOUS, Principal
from mcp_gateway.backends.fleet import Fleet, open_fleet
from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import BackendLimits, GatewayLimits, GatewaySpec, SessionsSpec, Timeouts
from mcp_gateway.gateway.assembly import Gateway, open_gateway
from mcp_gateway.gateway.entrance import Job, Request, serve
from mcp_gateway.telemetry.metrics import Metrics
from mcp_gateway.values import Header, JsonObject, JsonValue
from tests.support.first_discovery import first_discovery
from tests.support.scripted_link import ScriptedBackend, same_pause, server

STREAM_HEAD: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
"""What every entrance puts before an event stream (``tests/front`` and ``tests/wire`` look at the real ones)."""
EPOCH_UNIX_S = 1_800_000_000.0
MODERN = "2026-07-28"


@attrs.frozen(kw_only=True)
class Event:
    """One recorded server-sent event."""

    data: bytes
    event_id: str | None = None
    retry_ms: int | None = None
    name: str | None = None

    @property
    def json(self) -> JsonObject:
        value: JsonObject = orjson.loads(self.data)
        return value


@attrs.define(eq=False)
class RecordedReply:
    """A ``Reply`` that keeps what is written, and refuses what no entrance could send."""

    status: int = 0
    headers: tuple[Header, ...] = ()
    body: bytes | None = None
    events: list[Event] = attrs.field(factory=list)
    comments: int = 0
    opened: bool = False
    closed: bool = False
    gone: bool = False
    stall: trio.Event | None = None
    """While set, an event waits for it: a client that does not read."""
    _callbacks: list[Callable[[], None]] = attrs.field(factory=list)
    _news: trio.Event = attrs.field(factory=trio.Event)

    async def whole(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        assert not self.status, "a second answer"
        self.status, self.headers, self.body, self.closed = status, tuple(headers), body, True
        return await self._sent()

    async def open(self, status: int, headers: Sequence[Header], *, more: bool = False) -> bool:
        assert not self.status, "a second answer"
        self.status, self.headers, self.opened = status, (*STREAM_HEAD, *headers), True
        return await self._sent()

    async def event(
        self,
        data: bytes,
        *,
        event_id: str | None = None,
        retry_ms: int | None = None,
        name: str | None = None,
        more: bool = False,
    ) -> bool:
        assert self.opened, "an event before the head"
        assert not self.closed, "an event after the end"
        if self.stall is not None:
            await self.stall.wait()
        if not self.gone:
            self.events.append(Event(data=data, event_id=event_id, retry_ms=retry_ms, name=name))
        return await self._sent()

    async def flush(self) -> bool:
        return await self._sent()

    async def comment(self) -> bool:
        assert self.opened
        assert not self.closed
        self.comments += 1
        return await self._sent()

    async def close(self) -> None:
        self.closed = True
        await self._sent()

    def on_gone(self, callback: Callable[[], None]) -> None:
        if self.gone:
            callback()
        else:
            self._callbacks.append(callback)

    def leave(self) -> None:
        """The client goes away."""
        self.gone = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    async def _sent(self) -> bool:
        news, self._news = self._news, trio.Event()
        news.set()
        await trio.lowlevel.checkpoint()
        return not self.gone

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something written makes ``condition`` true."""
        while not condition():
            await self._news.wait()

    @property
    def messages(self) -> list[JsonObject]:
        """Every JSON message that was sent, in order."""
        found = [event.json for event in self.events if event.data and event.name in (None, "message")]
        return [*found, orjson.loads(self.body)] if self.body else found

    @property
    def answer(self) -> JsonObject:
        """The one response."""
        answers = [one for one in self.messages if "method" not in one]
        assert len(answers) == 1, answers
        return answers[0]

    @property
    def result(self) -> JsonObject:
        result = self.answer["result"]
        assert isinstance(result, dict)
        return result

    @property
    def error(self) -> JsonObject:
        error = self.answer["error"]
        assert isinstance(error, dict)
        return error

    def header(self, name: bytes) -> str | None:
        return next((value.decode() for key, value in self.headers if key == name), None)


@attrs.define(eq=False, kw_only=True)
class ScriptedGateway:
    """A running gateway and the ways to talk to it."""

    gateway: Gateway
    fleet: Fleet
    spec: Cell[GatewaySpec]
    metrics: Metrics
    nursery: trio.Nursery
    principal: Principal = ANONYMOUS

    async def send(
        self,
        method: str,
        *,
        headers: dict[str, str] | None = None,
        again: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        path: str = "/mcp",
        query: str = "",
        reply: RecordedReply | None = None,
    ) -> RecordedReply:
        """One HTTP request; returns when dispatch has ended. ``again``: headers beside those of the same name."""
        reply = reply or RecordedReply()
        job = self.job(method, headers=headers, again=again, body=body, path=path, query=query, reply=reply)
        reply.on_gone(job.left)
        await serve(job)
        assert reply.closed or reply.gone, "the job ended without an answer"
        return reply

    def job(
        self,
        method: str,
        *,
        headers: dict[str, str] | None = None,
        again: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        path: str = "/mcp",
        query: str = "",
        reply: RecordedReply,
    ) -> Job:
        """What the gateway makes of one HTTP request."""
        given = {"host": "127.0.0.1", "content-type": "application/json"} | {
            key.lower(): value for key, value in (headers or {}).items()
        }
        request = Request(
            method=method,
            path=path,
            query=query,
            headers=tuple((key.encode(), value.encode()) for key, value in (*given.items(), *again)),
            body=body,
            principal=self.principal,
        )
        return self.gateway.dispatch.prepare(request, reply)

    def begin(
        self,
        method: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        path: str = "/mcp",
        query: str = "",
    ) -> RecordedReply:
        """The same in the background."""
        reply = RecordedReply()

        async def run() -> None:
            await self.send(method, headers=headers, body=body, path=path, query=query, reply=reply)

        self.nursery.start_soon(run)
        return reply

    async def session(self, version: str = "2025-11-25", *, path: str = "/mcp", **capabilities: JsonValue) -> "Session":
        """Initialize a 2025 client."""
        params: JsonObject = {
            "protocolVersion": version,
            "capabilities": dict(capabilities),
            "clientInfo": {"name": "test", "version": "1"},
        }
        reply = await self.send("POST", body=message("initialize", params, 0), path=path)
        session_id = reply.header(b"mcp-session-id")
        assert session_id is not None, reply.body
        return Session(where=self, id=session_id, hello=reply.result, path=path)

    async def modern(self, method: str, params: JsonObject | None = None, **more: JsonValue) -> RecordedReply:
        """One 2026 request to its end. ``more``: capabilities, level, id, headers."""
        headers, body = modern_request(method, params, **more)
        return await self.send("POST", headers=headers, body=body)

    def modern_soon(self, method: str, params: JsonObject | None = None, **more: JsonValue) -> RecordedReply:
        headers, body = modern_request(method, params, **more)
        return self.begin("POST", headers=headers, body=body)


def message(method: str, params: JsonObject | None = None, request_id: JsonValue = None) -> bytes:
    """A JSON-RPC request, or a notification without an id."""
    value: JsonObject = {"jsonrpc": "2.0"}
    if request_id is not None:
        value["id"] = request_id
    value["method"] = method
    if params is not None:
        value["params"] = params
    return orjson.dumps(value)


def modern_request(method: str, params: JsonObject | None = None, **more: JsonValue) -> tuple[dict[str, str], bytes]:
    """Headers and body of a valid 2026 request."""
    capabilities, level = more.get("capabilities", {}), more.get("level")
    meta: JsonObject = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
        "io.modelcontextprotocol/clientInfo": {"name": "modern", "version": "1"},
    }
    if level is not None:
        meta["io.modelcontextprotocol/logLevel"] = level
    if "token" in more:
        meta["progressToken"] = more["token"]
    whole: JsonObject = {**(params or {}), "_meta": meta}
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method, "Accept": "application/json, text/event-stream"}
    name = whole.get({"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}.get(method, ""))
    if isinstance(name, str):
        headers["Mcp-Name"] = name
    extra = more.get("headers")
    if isinstance(extra, dict):
        headers |= {key: str(value) for key, value in extra.items()}
    return headers, message(method, whole, more.get("id", 1))


@attrs.define(eq=False, kw_only=True)
class Session:
    """One 2025 client."""

    where: ScriptedGateway
    id: str
    hello: JsonObject
    path: str = "/mcp"
    _next: int = 0

    def headers(self, **more: str) -> dict[str, str]:
        return {"Mcp-Session-Id": self.id, "Accept": "application/json, text/event-stream"} | {
            key.replace("_", "-"): value for key, value in more.items()
        }

    def _body(self, method: str, params: JsonObject | None, request_id: JsonValue) -> bytes:
        self._next += 1
        return message(method, params, self._next if request_id is None else request_id)

    async def ask(
        self, method: str, params: JsonObject | None = None, *, request_id: JsonValue = None, **headers: str
    ) -> RecordedReply:
        """One request to its end."""
        body = self._body(method, params, request_id)
        return await self.where.send("POST", headers=self.headers(**headers), body=body, path=self.path)

    def begin(
        self, method: str, params: JsonObject | None = None, *, request_id: JsonValue = None, **headers: str
    ) -> RecordedReply:
        """One request in the background."""
        body = self._body(method, params, request_id)
        return self.where.begin("POST", headers=self.headers(**headers), body=body, path=self.path)

    async def call(self, name: str, **arguments: JsonValue) -> RecordedReply:
        return await self.ask("tools/call", {"name": name, "arguments": dict(arguments)})

    async def tell(self, method: str, params: JsonObject | None = None) -> RecordedReply:
        """One notification."""
        return await self.where.send("POST", headers=self.headers(), body=message(method, params), path=self.path)

    async def respond(self, request_id: JsonValue, **outcome: JsonValue) -> RecordedReply:
        """The answer to a question of the server."""
        body = orjson.dumps({"jsonrpc": "2.0", "id": request_id, **outcome})
        return await self.where.send("POST", headers=self.headers(), body=body, path=self.path)

    def stream(self, **headers: str) -> RecordedReply:
        """Open a GET stream."""
        return self.where.begin("GET", headers=self.headers(Accept="text/event-stream", **headers), path=self.path)

    async def cancel(self, request_id: JsonValue) -> RecordedReply:
        return await self.tell("notifications/cancelled", {"requestId": request_id})

    async def end(self) -> RecordedReply:
        return await self.where.send("DELETE", headers=self.headers(), path=self.path)


@asynccontextmanager
async def scripted_gateway(
    *backends: ScriptedBackend,
    timeouts: Timeouts = Timeouts(),  # noqa: B008  # frozen
    backend_limits: BackendLimits = BackendLimits(),  # noqa: B008  # frozen
    limits: GatewayLimits = GatewayLimits(),  # noqa: B008  # frozen
    sessions: SessionsSpec = SessionsSpec(signing_keys=(b"0123456789abcdef",)),  # noqa: B008  # frozen
    prefixes: dict[str, str] | None = None,
    spec: GatewaySpec | None = None,
    survey: bool | None = None,
) -> AsyncIterator[ScriptedGateway]:
    """A gateway in front of scripted backends, discovered, for the length of the block."""
    by_key = {backend.key: backend for backend in backends}
    servers = tuple(
        attrs.evolve(
            server(backend, timeouts=timeouts, limits=backend_limits, survey=survey),
            prefix=(prefixes or {}).get(backend.key, ""),
        )
        for backend in backends
    )
    base = spec or GatewaySpec(limits=limits, sessions=sessions)
    cell = Cell(attrs.evolve(base, servers=servers))
    metrics = Metrics()
    metrics.configure([one.key for one in servers])
    async with (
        trio.open_nursery() as nursery,
        open_fleet(metrics, connectors=lambda one: by_key[one.key], jitter=same_pause, wall_clock=wall_clock) as fleet,
    ):
        await fleet.apply(cell.value)
        async with open_gateway(spec=cell, fleet=fleet, metrics=metrics, wall_clock=wall_clock) as gateway:
            with trio.move_on_after(10):
                await first_discovery(fleet)
            await trio.sleep(0.1)  # the table follows
            yield ScriptedGateway(gateway=gateway, fleet=fleet, spec=cell, metrics=metrics, nursery=nursery)
            nursery.cancel_scope.cancel("test over")


def wall_clock() -> float:
    """Unix seconds that follow the virtual clock."""
    return EPOCH_UNIX_S + trio.current_time()
