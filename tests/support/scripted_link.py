"""An honest fake of one backend behind the connector seam.

It keeps sessions, answers JSON-RPC, can be down, slow, silent or forgetful, and
logs what it was asked. No sockets and no real time: waits are Trio's.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs
import orjson
import trio

from mcp_gateway.auth.principal import Principal
from mcp_gateway.backends.backend import Backend, Caller
from mcp_gateway.backends.connector import Connection, Verdict
from mcp_gateway.backends.observer import Silent
from mcp_gateway.backends.own_requests import GATEWAY
from mcp_gateway.backends.transports.base import Answer, ClientIdentity, Hear, Hello, Inbound, Outgoing
from mcp_gateway.backends.transports.child import unheard
from mcp_gateway.backends.transports.doubts import Doubts
from mcp_gateway.backends.transports.session_sign import Sign, judge
from mcp_gateway.config.spec import BackendLimits, HealthSpec, HttpTarget, ServerSpec, StdioTarget, Timeouts
from mcp_gateway.errors import (
    BackendAuth,
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendSessionLost,
    Executed,
    GatewayError,
)
from mcp_gateway.protocol.capabilities import granted
from mcp_gateway.protocol.eras import V2025_11_25, Era, Family
from mcp_gateway.routing.snapshot import Health, Kind, Snapshot
from mcp_gateway.values import BackendKey, JsonObject, JsonValue

Handler: TypeAlias = Callable[["ScriptedLink", JsonObject, Hear], Awaitable[JsonObject]]


class Refusal(Exception):
    """Raised by a handler: answer with this JSON-RPC error."""

    def __init__(self, code: int, message: str = "no", data: JsonObject | None = None) -> None:
        super().__init__(message)
        self.error: JsonObject = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data


def is_survey(identity: ClientIdentity) -> bool:
    """Whether it is the gateway that speaks, with capabilities that are not its own."""
    return identity.info == GATEWAY.info and identity.capabilities != GATEWAY.capabilities


def tool(name: str, description: str = "") -> JsonObject:
    return {"name": name, "description": description, "inputSchema": {"type": "object"}}


def notice(method: str, **params: JsonValue) -> Inbound:
    raw = orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params})
    return Inbound(method=method, params=dict(params), raw=raw)


def question(method: str, id_raw: bytes = b'"q1"', params: JsonObject | None = None) -> Inbound:
    tail = b"" if params is None else b',"params":%b' % orjson.dumps(params)
    raw = b'{"jsonrpc":"2.0","id":%b,"method":"%b"%b}' % (id_raw, method.encode(), tail)
    return Inbound(method=method, params=params or {}, raw=raw, id_raw=id_raw)


@attrs.define(eq=False, kw_only=True)
class ScriptedBackend:
    """What the backend is; a ``Connector`` to it."""

    key: BackendKey = BackendKey("files")
    transport: str = "streamable-http"
    era: Era = V2025_11_25
    """The newest that it speaks."""
    legacy: Era | None = None
    """The 2025 revision that it speaks as well, if ``era`` is 2026."""
    legacy_capabilities: JsonObject | None = None
    """What it declares there; None: ``capabilities``."""
    legacy_tools: list[JsonObject] | None = None
    """What it lists there; None: ``tools``."""
    looks: list["ScriptedLink"] = attrs.field(factory=list)
    """The sessions on which the gateway only looked whether and how it speaks 2025; they are in no other list."""
    on_look: GatewayError | None = None
    """Why none can be opened."""
    looked: list[tuple[float, str]] = attrs.field(factory=list)
    """(time, method) of every exchange on them."""
    capabilities: JsonObject = attrs.field(factory=lambda: {"tools": {"listChanged": True}})
    instructions: str = ""
    tools: list[JsonObject] = attrs.field(factory=lambda: [tool("read")])
    up: bool = True
    """False: connections are refused."""
    connect_s: float = 0.0
    silent: bool = False
    """Requests are taken and never answered."""
    sessionless: bool = False
    streams: bool = True
    """A standalone stream exists."""
    ttl_ms: int = 0
    page: int = 1000
    handlers: dict[str, Handler] = attrs.field(factory=dict)
    shown: Callable[[frozenset[str]], list[JsonObject]] | None = None
    """The tools of a session, by what it can do; None: ``tools``, whoever asks."""
    links: list["ScriptedLink"] = attrs.field(factory=list)
    """Every link ever opened, but those of surveys, which ``log`` and ``attempts`` leave out too."""
    surveys: list["ScriptedLink"] = attrs.field(factory=list)
    """The sessions on which the gateway declared what it cannot do."""
    surveyed: list[tuple[float, str]] = attrs.field(factory=list)
    """(time, method) of every exchange on them."""
    on_survey: Callable[["ScriptedLink"], Awaitable[None]] | None = None
    """Awaited when one of them is opened; may fail or hang."""
    log: list[tuple[float, str]] = attrs.field(factory=list)
    """(time, method) of every exchange that reached the backend."""
    attempts: list[float] = attrs.field(factory=list)
    """When somebody tried to connect."""
    detections: int = 0
    reconsiderations: int = 0
    tells: bool = True
    """Whether its answer to the probe tells its era."""
    unknown: "Callable[[], GatewayError | Refusal] | None" = None
    """How a session is answered that was forgotten; None: as the specification says."""
    on_initialize: Callable[[], GatewayError | None] = lambda: None
    """Refuses new sessions."""
    closed: bool = False
    goodbye_s: float = 0.0
    stderr: Callable[[bytes], None] = unheard
    """Hears what the process writes to standard error (the one that was started last)."""

    @property
    def pipe(self) -> bool:
        return self.transport != "streamable-http"

    @property
    def open_links(self) -> list["ScriptedLink"]:
        return [link for link in self.links if not link.closed]

    def asked(self, method: str) -> int:
        return sum(1 for _, asked in self.log if asked == method)

    def times(self, method: str) -> list[float]:
        return [at for at, asked in self.log if asked == method]

    # --- Connector ---

    async def detect(self) -> Verdict:
        self.detections += 1
        if self.pipe:
            await trio.lowlevel.checkpoint()
            return Verdict(transport=self.transport)
        await self._reach()
        return self._verdict()

    def _verdict(self) -> Verdict:
        if not self.tells:
            return Verdict(transport=self.transport, modern=False, provisional=True)
        if self.era.modern:
            return Verdict(transport=self.transport, modern=True, hello=self.hello())
        return Verdict(transport=self.transport, modern=False)

    async def reconsider(self, verdict: Verdict) -> Verdict:
        self.reconsiderations += 1
        await trio.lowlevel.checkpoint()
        return self._verdict() if self.tells else verdict

    @asynccontextmanager
    async def link(
        self, verdict: Verdict, identity: ClientIdentity, unattributed: Hear, stderr: Callable[[bytes], None]
    ) -> AsyncIterator[Connection]:
        surveying, looking = is_survey(identity), self.is_look(verdict, identity)
        if self.pipe or not verdict.modern:
            if not surveying and not looking:
                self.stderr = stderr
                await self._reach()
            if not self.up:
                raise BackendGone(backend=self.key, executed=Executed.NO, why="connection refused")
            refusal = self.on_initialize()
            if refusal is not None and not surveying:
                raise refusal
        if looking and self.on_look is not None:
            raise self.on_look
        in_legacy = self.era.modern and verdict.modern is False
        if in_legacy and self.legacy is None:
            raise BackendProtocol(backend=self.key, why="initialize is unknown here", status=400)
        era = self.legacy if in_legacy and self.legacy is not None else self.era
        links, log = (self.surveys, self.surveyed) if surveying else (self.links, self.log)
        links, log = (self.looks, self.looked) if looking else (links, log)
        link = ScriptedLink(backend=self, era=era, identity=identity, unattributed=unattributed, log=log)
        links.append(link)
        try:
            if surveying and self.on_survey is not None:
                await self.on_survey(link)
            yield Connection(
                link=link,
                hello=self.hello(era),
                listen=None if self.pipe or era.modern else link.listen,
                doubts=link.doubts,
                gone=link.gone if self.pipe else trio.sleep_forever,
            )
        finally:
            await link.aclose()

    def tidy(self) -> None:
        """Nothing to free."""

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()

    def is_look(self, verdict: Verdict, identity: ClientIdentity) -> bool:
        """Whether the gateway itself begins a 2025 session although 2026 is spoken here."""
        return self.era.modern and verdict.modern is False and identity == GATEWAY

    def hello(self, era: Era | None = None) -> Hello:
        special = self.legacy_capabilities if era is self.legacy else None
        return Hello(
            era=era or self.era,
            capabilities=self.capabilities if special is None else special,
            server_info={"name": "scripted", "version": "1"},
            instructions=self.instructions,
        )

    async def _reach(self) -> None:
        self.attempts.append(trio.current_time())
        await trio.sleep(self.connect_s)
        if not self.up:
            raise BackendGone(backend=self.key, executed=Executed.NO, why="connection refused")

    # --- what happens to it ---

    def forget_sessions(self) -> None:
        """Like a restart behind a load balancer: every session id is unknown from now on."""
        for link in self.links:
            link.forgotten = True

    def break_streams(self) -> None:
        for link in self.open_links:
            if link.stream is not None:
                link.stream.close()

    def crash(self) -> None:
        """Refuse connections from now on, and end the streams that are open."""
        self.up = False
        self.break_streams()

    async def shout(self, inbound: Inbound) -> None:
        """Say something unasked on every link that can hear it."""
        for link in self.open_links:
            await link.say(inbound)

    async def answer(self, link: "ScriptedLink", method: str, params: JsonObject, hear: Hear) -> JsonObject:
        handler = self.handlers.get(method)
        if handler is not None:
            return await handler(link, params, hear)
        await trio.lowlevel.checkpoint()
        match method:
            case "ping" | "resources/subscribe" | "resources/unsubscribe":
                return {}
            case "server/discover":
                if not self.era.modern:
                    raise Refusal(-32601)
                meta: JsonObject = {"io.modelcontextprotocol/serverInfo": {"name": "scripted", "version": "1"}}
                versions: list[JsonValue] = [self.era.version]
                said: JsonObject = {"instructions": self.instructions} if self.instructions else {}
                return {"supportedVersions": versions, "capabilities": self.capabilities, "_meta": meta, **said}
            case "tools/list":
                return self._list(link, params)
            case "subscriptions/listen":
                return await link.listen_modern(params, hear)
            case "tools/call":
                return {"content": []}
            case _:
                raise Refusal(-32601)

    def _list(self, link: "ScriptedLink", params: JsonObject) -> JsonObject:
        cursor = params.get("cursor")
        start = int(cursor) if isinstance(cursor, str) else 0
        tools = self.tools if self.shown is None else self.shown(granted(orjson.loads(link.identity.capabilities)))
        if self.legacy_tools is not None and link.era is self.legacy:
            tools = self.legacy_tools
        some: list[JsonValue] = list(tools[start : start + self.page])
        result: JsonObject = {"tools": some}
        if start + self.page < len(tools):
            result["nextCursor"] = str(start + self.page)
        if link.era.modern:
            result |= {"resultType": "complete", "ttlMs": self.ttl_ms, "cacheScope": "public"}
        return result


@attrs.define(eq=False, kw_only=True)
class ScriptedLink:
    """One conversation; a ``Link``."""

    backend: ScriptedBackend
    era: Era
    identity: ClientIdentity
    unattributed: Hear
    log: list[tuple[float, str]]
    forgotten: bool = False
    closed: bool = False
    dead: str = ""
    asked: list[tuple[str, JsonObject]] = attrs.field(factory=list)
    headers: list[dict[bytes, bytes]] = attrs.field(factory=list)
    """What each exchange says beside its body, over HTTP."""
    said: list[bytes] = attrs.field(factory=list)
    """Notifications and responses of the gateway."""
    cancelled: int = 0
    in_flight: int = 0
    stream: trio.MemorySendChannel[Inbound] | None = None
    doubts: Doubts | None = None
    _ids: int = 0
    _died: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        if not (self.backend.pipe or self.backend.sessionless or self.era.modern):
            self.doubts = Doubts()

    @property
    def shared(self) -> bool:
        if self.backend.pipe:
            return self.identity.capabilities == b"{}"
        return self.era.modern or self.backend.sessionless

    @property
    def lost(self) -> bool:
        return bool(self.dead) or self.closed

    def methods(self) -> list[str]:
        return [method for method, _ in self.asked]

    async def exchange(self, outgoing: Outgoing, hear: Hear) -> Answer:
        self._check()
        self._ids += 1
        upstream_id = self._ids
        message = json.loads(outgoing.render(upstream_id))  # a client may send what orjson refuses
        self.log.append((trio.current_time(), outgoing.method))
        self.asked.append((outgoing.method, message.get("params", {})))
        self.headers.append(dict(outgoing.headers))
        self.in_flight += 1
        done = False
        try:
            answer = await self._answer(outgoing.method, message.get("params", {}), hear)
            done = True
        except BackendError as error:
            done = True
            if not isinstance(error, BackendSessionLost):
                self._note(Sign.SUSPICIOUS if isinstance(error, BackendAuth) else Sign.FAILED)
            raise
        finally:
            self.in_flight -= 1
            self.cancelled += not done
        raw = orjson.dumps({"jsonrpc": "2.0", "id": upstream_id, **answer})
        self._note(judge(200, b"application/json", raw, upstream_id))
        return Answer(raw=raw)

    def _note(self, sign: Sign) -> None:
        if self.doubts is not None:
            self.doubts.note(sign)

    async def _answer(self, method: str, params: JsonObject, hear: Hear) -> JsonObject:
        answer: JsonObject | None = None
        failure: GatewayError | None = None

        async def work() -> None:
            nonlocal answer, failure
            try:
                if self.backend.silent:
                    await trio.sleep_forever()
                if self.forgotten and self.backend.unknown is not None:
                    raise self.backend.unknown()
                answer = {"result": await self.backend.answer(self, method, params, hear)}
            except Refusal as refusal:
                answer = {"error": refusal.error}
            except GatewayError as error:
                failure = error
            nursery.cancel_scope.cancel("answered")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await self._died.wait()
            nursery.cancel_scope.cancel("link died")
        if failure is not None:
            raise failure
        if answer is None:
            raise BackendGone(backend=self.backend.key, why=self.dead or "closed")
        return answer

    async def notify(self, message: bytes) -> None:
        self._check()
        await trio.lowlevel.checkpoint()
        self.said.append(message)

    async def aclose(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._died.set()
        with trio.move_on_after(2.0, shield=True):
            await trio.sleep(self.backend.goodbye_s)

    def _check(self) -> None:
        if self.dead or self.closed:
            raise BackendGone(backend=self.backend.key, executed=Executed.NO, why=self.dead or "closed")
        if not self.backend.up:
            raise BackendGone(backend=self.backend.key, executed=Executed.NO, why="connection refused")
        if self.forgotten and self.backend.unknown is None:
            raise BackendSessionLost(backend=self.backend.key)

    def die(self, why: str) -> None:
        """The process exits."""
        self.dead = why
        self._died.set()

    async def gone(self) -> str:
        while not self.dead:
            await self._died.wait()
            if self.closed:
                await trio.sleep_forever()
        return self.dead

    async def say(self, inbound: Inbound) -> None:
        """Say something outside any exchange, where there is a way to."""
        if self.backend.pipe:
            await self.unattributed(inbound)
        elif self.stream is not None:
            await self.stream.send(inbound)

    async def listen(self, hear: Hear, opened: Callable[[], None]) -> bool:
        self._check()
        if not self.backend.streams:
            await trio.lowlevel.checkpoint()
            return False
        self.log.append((trio.current_time(), "GET"))
        self.stream, receive = trio.open_memory_channel[Inbound](0)
        opened()
        try:
            async for inbound in receive:
                await hear(inbound)
        finally:
            self.stream = None
            receive.close()
        return True

    async def listen_modern(self, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(notice("notifications/subscriptions/acknowledged", notifications=params["notifications"]))
        self.stream, receive = trio.open_memory_channel[Inbound](0)
        mine = self.stream
        try:
            async for inbound in receive:
                await hear(inbound)
        finally:
            receive.close()
            if self.stream is mine:
                self.stream = None
        return {"resultType": "complete"}


CALL = Outgoing(
    method="tools/call",
    render=lambda upstream_id: orjson.dumps(
        {"jsonrpc": "2.0", "id": upstream_id, "method": "tools/call", "params": {"name": "read"}}
    ),
)
ASKABLE = ClientIdentity(capabilities=b'{"sampling":{}}')
"""A client that a backend may ask something."""


HEALTH = HealthSpec()
TIMEOUTS = Timeouts()
LIMITS = BackendLimits()


def server(
    backend: ScriptedBackend,
    *,
    health: HealthSpec = HEALTH,
    timeouts: Timeouts = TIMEOUTS,
    limits: BackendLimits = LIMITS,
    survey: bool | None = None,
) -> ServerSpec:
    """A spec for a scripted backend; HTTP or stdio as it is."""
    target = StdioTarget(command=("serve",)) if backend.pipe else HttpTarget(url="http://127.0.0.1:9/mcp")
    return ServerSpec(key=backend.key, target=target, health=health, timeouts=timeouts, limits=limits, survey=survey)


def same_pause(delay_s: float) -> float:
    """No jitter."""
    return delay_s


def caller(session: str | None = None, identity: ClientIdentity | None = None, subject: str = "anonymous") -> Caller:
    principal = Principal(subject=subject, digest=subject.encode()[:8].ljust(8, b"\0"))
    return Caller(session=session, principal=principal, identity=identity or ClientIdentity())


async def deaf(inbound: Inbound) -> None:
    """Hear nothing."""


@attrs.define(eq=False)
class Published:
    """What a Backend made known, in order."""

    shots: list[Snapshot] = attrs.field(factory=list)

    def __call__(self, backend: Backend, snapshot: Snapshot) -> None:
        self.shots.append(snapshot)

    def healths(self) -> list[Health]:
        """Each change of health."""
        healths: list[Health] = []
        for shot in self.shots:
            if not healths or healths[-1] is not shot.health:
                healths.append(shot.health)
        return healths

    def lists(self) -> list[tuple[str, ...] | None]:
        """Each change of what is served."""
        lists: list[tuple[str, ...] | None] = []
        for shot in self.shots:
            shown = shot.lists(Family.MODERN)
            names = None if shown is None else tuple(item.name for item in shown[Kind.TOOLS].items)
            if not lists or lists[-1] != names:
                lists.append(names)
        return lists


@asynccontextmanager
async def running(
    scripted: ScriptedBackend,
    published: Published | None = None,
    *,
    health: HealthSpec = HEALTH,
    timeouts: Timeouts = TIMEOUTS,
    limits: BackendLimits = LIMITS,
    survey: bool | None = None,
    spec: ServerSpec | None = None,
) -> AsyncIterator[Backend]:
    """A Backend in front of a scripted one, closed at the end."""
    backend = Backend(
        spec=spec or server(scripted, health=health, timeouts=timeouts, limits=limits, survey=survey),
        connector=scripted,
        publish=published or Published(),
        observer=Silent(),
        jitter=same_pause,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(backend.run)
        try:
            yield backend
        finally:
            backend.close("test over")
            with trio.move_on_after(10, shield=True):
                await backend.gone.wait()
            assert scripted.open_links == []
            assert all(link.closed for link in scripted.surveys)
            assert scripted.closed


async def ready(backend: Backend) -> None:
    """Wait for the first discovery."""
    while backend.snapshot.health is not Health.READY:  # noqa: ASYNC110  # the clock is virtual, and events are many
        await trio.sleep(0.01)


@asynccontextmanager
async def discovered(
    scripted: ScriptedBackend,
    published: Published | None = None,
    *,
    health: HealthSpec = HEALTH,
    timeouts: Timeouts = TIMEOUTS,
) -> AsyncIterator[Backend]:
    """The same, with the first discovery behind it."""
    async with running(scripted, published, health=health, timeouts=timeouts) as backend:
        await ready(backend)
        yield backend
