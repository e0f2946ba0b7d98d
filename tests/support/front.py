"""A running front on a real socket, and a client that speaks bytes.

Owns what the wire tests of the front share. Deliberately no HTTP library on the
client's side: the tests decide what is sent when, and what stays unread.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeAlias

import attrs
import trio

from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewayLimits, GatewaySpec
from mcp_gateway.front.admission import Admission
from mcp_gateway.front.http1.hang_ups import HangUps
from mcp_gateway.front.http1.hang_ups import hang_ups as any_hang_ups
from mcp_gateway.front.http1.listener import Http1Listener
from mcp_gateway.front.http1.service import Service, Timings
from mcp_gateway.front.http1.tls import Certificate
from mcp_gateway.front.server import bind, serve
from mcp_gateway.gateway.entrance import Job, Reply, Request
from mcp_gateway.gateway.origin import Refusal, check
from mcp_gateway.telemetry.metrics import Metrics
from mcp_gateway.values import Header, JsonObject


class Watched(Reply, Protocol):
    """A reply that tells whoever writes on it that the client has left."""

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the client has left; at once if it already has."""
        ...


Dispatch: TypeAlias = Callable[[Request, Watched], Awaitable[None]]
"""What a test has its front do with a request."""

JSON = ((b"content-type", b"application/json"),)


@attrs.define(eq=False)
class FixedStatus:
    """A status source whose answers are set by the test."""

    shown: JsonObject = attrs.field(factory=dict)
    is_ready: bool = True
    why: str = ""
    metrics: Metrics = attrs.field(factory=Metrics)

    def status(self) -> JsonObject:
        return self.shown

    def ready(self) -> tuple[bool, str]:
        return self.is_ready, self.why


@attrs.define(eq=False, kw_only=True)
class Front:
    """A front that listens on ``port``; ``trigger`` begins its end, ``ended`` is set when it has ended."""

    port: int
    admission: Admission
    spec: Cell[GatewaySpec]
    source: FixedStatus
    trigger: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    draining: bool = False
    _wires: list["Wire"] = attrs.field(factory=list)

    async def dial(self) -> "Wire":
        """A new connection; closed with the front at the latest."""
        wire = Wire(await trio.open_tcp_stream("127.0.0.1", self.port))
        self._wires.append(wire)
        return wire

    def hang_up(self) -> None:
        for wire in self._wires:
            wire.stream.socket.close()


@attrs.define(eq=False)
class Scripted:
    """The job of one request, a function of the test; also that function's reply, which tells when a client left."""

    dispatch: Dispatch
    request: Request
    reply: Reply
    _gone: bool = False
    _callbacks: list[Callable[[], None]] = attrs.field(factory=list)

    async def run(self, scope: trio.CancelScope) -> None:
        await self.dispatch(self.request, self)

    async def finish(self) -> None:
        """The function has written everything."""

    def left(self) -> None:
        self._gone = True
        for callback in self._callbacks:
            callback()

    def on_gone(self, callback: Callable[[], None]) -> None:
        if self._gone:
            callback()
        else:
            self._callbacks.append(callback)

    async def whole(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        return await self.reply.whole(status, headers, body)

    async def open(self, status: int, headers: Sequence[Header], *, more: bool = False) -> bool:
        return await self.reply.open(status, headers, more=more)

    async def event(
        self,
        data: bytes,
        *,
        event_id: str | None = None,
        retry_ms: int | None = None,
        name: str | None = None,
        more: bool = False,
    ) -> bool:
        return await self.reply.event(data, event_id=event_id, retry_ms=retry_ms, name=name, more=more)

    async def flush(self) -> bool:
        return await self.reply.flush()

    async def comment(self) -> bool:
        return await self.reply.comment()

    async def close(self) -> None:
        await self.reply.close()


@attrs.define(eq=False)
class ScriptedDispatch:
    """The gateway behind a front: the usual look at the head, then a function of the test (or a job of its own)."""

    dispatch: Dispatch
    prepared: Callable[[Request, Reply], Job] | None = None

    def admit(self, request: Request) -> Refusal | None:
        return check(
            request.method,
            request.headers,
            bind_is_loopback=request.loopback,
            allowed_hosts=(),
            allowed_origins=(),
        )

    def prepare(self, request: Request, reply: Reply) -> Job:
        if self.prepared is not None:
            return self.prepared(request, reply)
        return Scripted(self.dispatch, request, reply)


@asynccontextmanager
async def open_front(
    dispatch: Dispatch,
    *,
    prepare: Callable[[Request, Reply], Job] | None = None,
    body_bytes: int = 64 * 1024,
    connections: int = 100,
    timings: Timings = Timings(),  # noqa: B008  # frozen
    graceful_timeout_s: float = 5.0,
    certificate: Certificate | None = None,
    hang_ups: HangUps | None = None,
) -> AsyncIterator[Front]:
    """Serve ``dispatch`` on a free port of the loopback interface for the length of the block."""
    sockets = bind("127.0.0.1:0")
    source = FixedStatus()
    front = Front(
        port=sockets[0].getsockname()[1],
        admission=Admission(bound=connections),
        spec=Cell(GatewaySpec(limits=GatewayLimits(body_bytes=body_bytes))),
        source=source,
    )
    service = Service(
        dispatch=ScriptedDispatch(dispatch, prepare),
        ready=source.ready,
        spec=front.spec,
        metrics=source.metrics,
        draining=lambda: front.draining,
        timings=timings,
    )
    listener = Http1Listener(service=service, certificate=certificate, hang_ups=hang_ups or any_hang_ups())

    async def run(task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        await serve(
            listener,
            sockets=sockets,
            shutdown_trigger=front.trigger.wait,
            graceful_timeout_s=graceful_timeout_s,
            admission=front.admission,
            task_status=task_status,
        )
        front.ended.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        try:
            yield front
        finally:
            front.hang_up()
        front.trigger.set()
        with trio.fail_after(graceful_timeout_s + 3):
            await front.ended.wait()
        nursery.cancel_scope.cancel("the test is over")


@attrs.define(eq=False)
class Wire:
    """One client connection; reads whole answers, or as little as the test wants."""

    stream: trio.SocketStream
    rest: bytes = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def post(self, body: bytes = b"{}", path: str = "/mcp", *headers: str) -> None:
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def until(self, mark: bytes) -> bytes:
        """What comes up to and including ``mark``; EOF before it fails the test."""
        while mark not in self.rest:
            chunk = await self.stream.receive_some(65536)
            assert chunk, f"closed before {mark!r}; got {self.rest!r}"
            self.rest += chunk
        found, mark, self.rest = self.rest.partition(mark)
        return found + mark

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers (names lower case) of the next answer."""
        first, *lines = (await self.until(b"\r\n\r\n")).decode().strip().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, value in pairs}

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer with a Content-Length (or without a body)."""
        status, headers = await self.head()
        size = int(headers.get("content-length", "0"))
        await self.receive(size)
        body, self.rest = self.rest[:size], self.rest[size:]
        return status, headers, body

    async def receive(self, size: int) -> None:
        """Wait until at least ``size`` bytes are in ``rest``."""
        while len(self.rest) < size:
            chunk = await self.stream.receive_some(65536)
            assert chunk, "closed inside a body"
            self.rest += chunk

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        size = int(await self.until(b"\r\n"), 16)
        while len(self.rest) < size + 2:
            self.rest += await self.stream.receive_some(65536)
        body, self.rest = self.rest[:size], self.rest[size + 2 :]
        return body

    async def closed(self) -> bool:
        """Whether the peer closes without another byte."""
        try:
            return self.rest == b"" and await self.stream.receive_some(65536) == b""
        except trio.BrokenResourceError:
            return True

    async def close(self) -> None:
        await self.stream.aclose()


async def echo(request: Request, reply: Watched) -> None:
    """Answer with the body of the request."""
    await reply.whole(200, JSON, request.body)
