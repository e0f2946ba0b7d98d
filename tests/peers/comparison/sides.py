"""The two ends that a step is sent to: a server itself, or a gateway in front of it.

Owns the sending of steps and the keeping of what comes back, over Streamable HTTP, HTTP+SSE or a pipe. Deliberately
compares nothing. Invariant: the bytes of every message are kept as they came.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from subprocess import DEVNULL, PIPE
from typing import Final, Protocol
from urllib.parse import urljoin

import attrs
import trio

from tests.peers.comparison.steps import BOTH, CAPABILITIES, LEGACY, Json, Step, hello
from tests.support import peers
from tests.support.raw_client import Exchange, RawClient

STEP_S: Final = 10.0
QUIET_S: Final = 0.3
"""How long a stream that has nothing to say is listened to."""
COMPARED: Final[tuple[str, ...]] = (
    "content-type",
    "allow",
    "mcp-session-id",
    "www-authenticate",
    "retry-after",
    "location",
)
"""Headers that matter: what a client of the protocol looks at."""


@attrs.frozen(kw_only=True)
class Seen:
    """What came back."""

    status: int | None = None
    """None where there is no HTTP."""
    headers: Mapping[str, str] = {}
    messages: tuple[bytes, ...] = ()
    """In their order, the answer last."""


class Side(Protocol):
    """Where steps are sent."""

    async def send(self, step: Step) -> Seen: ...


@attrs.frozen(kw_only=True)
class HttpSide:
    """An MCP endpoint; with a session or without."""

    client: RawClient
    usual: Mapping[str, str] = {}
    """Headers of each request: those of the session."""

    async def send(self, step: Step) -> Seen:
        headers: dict[str, str | None] = {
            "Accept": BOTH,
            "Content-Type": "application/json",
            **self.usual,
            **step.headers,
        }
        given = {name: value for name, value in headers.items() if value is not None}
        if not step.raw:
            given.pop("Content-Type", None)
            if step.verb not in ("GET", "DELETE"):
                given["Content-Length"] = "0"
        with trio.fail_after(STEP_S):
            exchange = await self.client.http(step.verb, step.raw, given)
        found = {name: exchange.headers[name] for name in COMPARED if name in exchange.headers}
        return Seen(status=exchange.status, headers=found, messages=await read(exchange, step))

    async def opened(self, capabilities: Json = CAPABILITIES) -> "HttpSide":
        """The same with a session of 2025-11-25."""
        body = json.dumps(hello(capabilities=capabilities)).encode()
        exchange = await self.client.http("POST", body, {"Accept": BOTH, "Content-Type": "application/json"})
        await read(exchange, Step(label="initialize"))
        session = {"MCP-Protocol-Version": LEGACY}
        if "mcp-session-id" in exchange.headers:
            session["Mcp-Session-Id"] = exchange.headers["mcp-session-id"]
        side = attrs.evolve(self, usual=session)
        await side.send(Step(label="initialized", message={"jsonrpc": "2.0", "method": "notifications/initialized"}))
        return side


async def read(exchange: Exchange, step: Step) -> tuple[bytes, ...]:
    """The messages of one answer; a stream that only listens is left after a while."""
    if not exchange.streams:
        whole = await rest_of(exchange)
        return (whole,) if whole.strip() else ()
    if "content-length" in exchange.headers:  # an event stream that was over before its head was written
        lines = exchange.raw.split(b"\n")
        return tuple(line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: "))
    found = []
    with trio.move_on_after(QUIET_S if step.verb == "GET" else STEP_S) as patience:
        while (event := await exchange.next_event()) is not None:
            if event.get("data"):
                found.append(event["data"].encode())
    assert step.verb == "GET" or not patience.cancelled_caught, f"{step.label}: the stream did not end"
    return tuple(found)


async def rest_of(exchange: Exchange) -> bytes:
    """A body that is no event stream."""
    if "transfer-encoding" not in exchange.headers:
        return exchange.raw
    whole = b""
    with trio.fail_after(STEP_S):
        while chunk := await exchange.wire.chunk():
            whole += chunk
    return whole


@attrs.define(eq=False, kw_only=True)
class LineSide:
    """A program that speaks over its standard input and output."""

    process: trio.Process
    _rest: bytes = b""

    async def send(self, step: Step) -> Seen:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(step.raw + b"\n")
        found = []
        with trio.fail_after(STEP_S):
            while True:
                line = await self._line()
                found += [line] if belongs(line) else []
                if answers(line, step):
                    return Seen(messages=tuple(found))

    async def _line(self) -> bytes:
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            chunk = await self.process.stdout.receive_some()
            assert chunk, "the server has ended"
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line


@attrs.define(eq=False, kw_only=True)
class SseSide:
    """An endpoint of HTTP+SSE, the oldest transport: answers come on one stream."""

    client: RawClient
    stream: Exchange
    endpoint: str

    async def send(self, step: Step) -> Seen:
        poster = attrs.evolve(self.client, url=self.endpoint)
        posted = await poster.http("POST", step.raw, {"Content-Type": "application/json"})
        assert posted.status == 202, posted.status
        found = []
        with trio.fail_after(STEP_S):
            while (event := await self.stream.next_event()) is not None:
                raw = event["data"].encode()
                found += [raw] if belongs(raw) else []
                if answers(raw, step):
                    return Seen(messages=tuple(found))
        raise AssertionError("the stream has ended")


def belongs(raw: bytes) -> bool:
    """Whether a message of a stream that carries everything is about a request; others come when they come."""
    return json.loads(raw).get("method") in (None, "notifications/progress")


def answers(raw: bytes, step: Step) -> bool:
    message, asked = json.loads(raw), step.message
    return "method" not in message and isinstance(asked, dict) and message.get("id") == asked["id"]


@asynccontextmanager
async def http_side(url: str) -> AsyncIterator[HttpSide]:
    client = RawClient(url=url)
    try:
        yield HttpSide(client=client)
    finally:
        client.hang_up()


@asynccontextmanager
async def line_side(command: peers.Command) -> AsyncIterator[LineSide]:
    """A process whose session is open."""
    words = [str(word) for word in command]
    process = await trio.lowlevel.open_process(words, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True)
    try:
        side = LineSide(process=process)
        await side.send(Step(label="initialize", message=hello()))
        assert process.stdin is not None
        await process.stdin.send_all(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        yield side
    finally:
        with trio.move_on_after(2 * peers.STOP_S, shield=True):
            await peers.stop(process)


@asynccontextmanager
async def sse_side(url: str) -> AsyncIterator[SseSide]:
    """A stream whose session is open."""
    client = RawClient(url=url)
    try:
        stream = await client.http("GET", headers={"Accept": "text/event-stream"})
        event = await stream.next_event()
        assert event is not None
        assert event["event"] == "endpoint"
        side = SseSide(client=client, stream=stream, endpoint=urljoin(url, event["data"]))
        await side.send(Step(label="initialize", message=hello()))
        poster = attrs.evolve(client, url=side.endpoint)
        await poster.http(
            "POST", b'{"jsonrpc":"2.0","method":"notifications/initialized"}', {"Content-Type": "application/json"}
        )
        yield side
    finally:
        client.hang_up()
