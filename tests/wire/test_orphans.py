"""Nothing outlives its reason (invariant 2): clients that vanish by the thousand, and calls that are given up.

The gateway of the vanishing clients is a process of its own, so that what is measured is its own; the other one is in
this process, where tasks and pools can be counted to the last one.
"""

import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import attrs
import orjson
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.support import leftovers, load
from tests.support.front import Wire
from tests.support.gateway import Process, Running, gateway_process, running_gateway
from tests.support.raw_client import MODERN, connect2025
from tests.support.recorder import NAMES, Recorder, recorder

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.brisk]

CLIENTS: Final = 4000
"""As many as ``limits.connections`` allows by default."""
FEWEST: Final = 1000
SPARE_FDS: Final = 600
AT_ONCE: Final = 64
"""Clients that open their sessions at the same time."""
CALLS: Final = 1000
KEPT: Final = 8
"""Connections to servers that may lie idle for a few seconds."""
META: Final = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "many", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def many(fds_each: float, wanted: int) -> int:
    """How many clients the limit of open files allows; skips the test when it is too few to mean anything."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found = min(wanted, int((hard - SPARE_FDS) / fds_each))
    if found < FEWEST:
        pytest.skip(f"open files: {hard} are allowed here, {int(FEWEST * fds_each) + SPARE_FDS} are needed")
    return found


@attrs.define(eq=False, kw_only=True)
class Client:
    """One connection that is kept, with a session."""

    wire: Wire
    session: tuple[str, ...] = ()

    async def post(self, message: dict[str, object], *headers: str) -> None:
        body = orjson.dumps({"jsonrpc": "2.0", **message})
        await self.wire.post(body, "/mcp", "Content-Type: application/json", *self.session, *headers)

    async def initialize(self) -> None:
        info = {"name": "many", "version": "1"}
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}
        await self.post({"id": 0, "method": "initialize", "params": params})
        status, headers, _ = await self.wire.answer()
        assert status == 200
        self.session = (f"Mcp-Session-Id: {headers['mcp-session-id']}",)

    async def call(self, tool: str) -> None:
        """Send a call, number 1, and do not wait for its answer."""
        await self.post({"id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}})

    async def call_modern(self, tool: str) -> None:
        """The same as a client of the modern era, without the session."""
        mirrored = (f"MCP-Protocol-Version: {MODERN}", "Mcp-Method: tools/call", f"Mcp-Name: {tool}")
        params = {"name": tool, "arguments": {}, "_meta": META}
        without = attrs.evolve(self, session=())
        await without.post({"id": 1, "method": "tools/call", "params": params}, *mirrored)

    async def echo(self) -> None:
        await self.call("old_echo")
        assert (await self.wire.answer())[0] == 200

    async def code(self) -> int:
        """The code of the error that the call was answered with."""
        _, _, body = await self.wire.answer()
        code: int = orjson.loads(body)["error"]["code"]
        return code

    def vanish(self) -> None:
        self.wire.stream.socket.close()


async def each(crowd: Sequence[Client], do: Callable[[Client], Awaitable[None]]) -> None:
    """Let each do something, not all at the same time."""
    turns = trio.CapacityLimiter(AT_ONCE)

    async def one(client: Client) -> None:
        async with turns:
            await do(client)

    async with trio.open_nursery() as nursery:
        for client in crowd:
            nursery.start_soon(one, client)


async def dial(url: str) -> Client:
    where = urlsplit(url)
    return Client(wire=Wire(await trio.open_tcp_stream(where.hostname or "", where.port or 0)))


@asynccontextmanager
async def clients(url: str, count: int) -> AsyncIterator[list[Client]]:
    """So many connected clients with sessions; all have left after the block."""
    found: list[Client] = []
    try:
        for _ in range(count):
            found.append(await dial(url))  # noqa: PERF401  # those that are connected must be closed whatever happens
        await each(found, Client.initialize)
        yield found
    finally:
        for client in found:
            client.vanish()


# --- clients that vanish ---------------------------------------------------------------------------------------------


@attrs.frozen
class Held:
    """What a gateway process holds."""

    connections: float
    in_flight: float
    tasks: float
    sockets: int
    children: int

    def within(self, baseline: "Held", spare_sockets: int = 0) -> bool:
        return (
            self.connections <= baseline.connections
            and self.in_flight <= baseline.in_flight
            and self.tasks <= baseline.tasks
            and self.sockets <= baseline.sockets + spare_sockets
            and self.children <= baseline.children
        )


async def held(process: Process) -> Held:
    """Ask the gateway, and the kernel."""
    async with connect2025(f"{process.admin_url}/metrics") as client:
        text = (await client.http("GET")).raw.decode()
    numbers = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels
    }
    in_flight = sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "mcp_gateway_in_flight"
    )
    pid = process.process.pid
    return Held(
        connections=numbers["mcp_gateway_connections"],
        in_flight=in_flight,
        tasks=numbers["mcp_gateway_tasks"],
        sockets=len(leftovers.sockets(pid)),
        children=len(leftovers.children(pid)),
    )


@pytest.mark.timeout(180)  # two processes share what this machine has; alone it takes 15 s
async def test_invariant_2_thousands_of_clients_that_vanish_leave_nothing() -> None:
    count = many(1.5, CLIENTS)
    half, quarter = count // 2, count // 4
    async with recorder() as backend:
        limits = {"concurrency": count, "upstreamSessions": count}
        config = {
            "servers": backend.entries(timeouts={"call": "2s"}, limits=limits),
            "limits": {"inFlight": count, "connections": count},
        }
        async with gateway_process(config) as process:
            await trio.sleep(0.5)  # the sampler of tasks has looked
            baseline = await held(process)
            async with clients(process.url, count) as crowd:
                await each(crowd[:quarter], Client.echo)  # opens their sessions at the server
                async with trio.open_nursery() as nursery:
                    for number, client in enumerate(crowd[:half]):
                        nursery.start_soon(client.call, "old_hang" if number < quarter else "new_hang")
                with trio.move_on_after(1.2):  # their deadline is near
                    await backend.until_arrived(half)
                full = await held(process)
                assert full.connections == count
                assert full.in_flight > count / 20  # on a busy machine many have reached their deadline
            gone_at = trio.current_time()

            # Idle ones are gone; a connection counts as long as its call, which in 2025 goes on until its deadline.
            await until(
                process, lambda now: now.connections <= now.in_flight + count / 50, by=gone_at + load.stretched(1.0)
            )
            # What belongs to sessions that have not ended stays: two tasks for each session at the old server. The rest
            # is what asking takes.
            kept = attrs.evolve(baseline, tasks=baseline.tasks + 2 * quarter + KEPT)
            await until(process, lambda now: now.within(kept, spare_sockets=KEPT), by=gone_at + load.stretched(3.0))


async def until(process: Process, holds: Callable[[Held], bool], *, by: float) -> None:
    """Ask the gateway again and again; fails the test when it is too late."""
    while True:
        asked_at = trio.current_time()
        now = await held(process)
        if holds(now):
            return
        assert asked_at < by, now
        await trio.sleep(0.05)


# --- calls that are given up -----------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Own:
    """What a gateway in this process, and the test itself, hold."""

    tasks: int
    children: int
    calls: int
    sessions: int
    """Of clients."""
    links: int
    """Sessions at servers, those that are closing too."""
    exchanges: int
    """With servers, running or queued."""

    @classmethod
    def now(cls, running: Running) -> "Own":
        backends = [backend for key in running.fleet.keys if (backend := running.fleet.get(key)) is not None]
        return cls(
            tasks=trio.lowlevel.current_statistics().tasks_living,
            children=len(leftovers.children()),
            calls=len(running.gateway.calls.in_flight),
            sessions=len(running.gateway.context.sessions),
            links=sum(backend.links for backend in backends),
            exchanges=sum(backend.in_flight + backend.queued for backend in backends),
        )

    def within(self, baseline: "Own") -> bool:
        return all(mine <= theirs for mine, theirs in zip(attrs.astuple(self), attrs.astuple(baseline), strict=True))


@pytest.mark.timeout(120)  # alone it takes 8 s
async def test_invariant_2_a_thousand_cancelled_calls_leave_nothing_and_an_idle_process() -> None:
    many(4, CALLS)
    async with recorder() as backend:
        servers = backend.entries(limits={"concurrency": CALLS, "upstreamSessions": CALLS})
        quick = [{**entry, "name": f"quick-{entry['name']}", "timeouts": {"call": "2s"}} for entry in servers]
        async with running_gateway([*servers, *quick], limits={"inFlight": CALLS}) as running:
            async with running.client2026() as warm:  # connections that are kept are part of what is usual
                for entry in (*servers, *quick):
                    assert "result" in await warm.call(f"{entry['name']}_echo")
            before, sockets_before = Own.now(running), len(leftovers.sockets())
            sessions_before = set(backend.sessions)
            async with clients(running.url, CALLS) as crowd:
                await give_up(running, backend, crowd)
                control = await dial(running.url)
                await end_sessions(control, crowd)
                control.vanish()
            ended_at = trio.current_time()

            while not Own.now(running).within(before) or len(leftovers.sockets()) > sockets_before + 2 * KEPT:
                assert trio.current_time() < ended_at + 1.0, (before, Own.now(running), leftovers.sockets())
                await trio.sleep(0.02)
            used_s = leftovers.cpu_s()
            await trio.sleep(1.0)
            assert leftovers.cpu_s() - used_s < 0.05
            assert backend.running == set()
            assert len(backend.told) == CALLS
            assert backend.sessions <= sessions_before


async def give_up(running: Running, backend: Recorder, crowd: Sequence[Client]) -> None:
    """A quarter of the calls each is cancelled by a message, a disconnect, its deadline and its session's end."""
    told, left, ended, late = (crowd[start::4] for start in range(4))
    async with trio.open_nursery() as nursery:
        for number, client in enumerate([*told, *ended]):
            nursery.start_soon(client.call, f"{NAMES[number % 2]}_hang")
        for number, client in enumerate(left):
            nursery.start_soon(client.call_modern, f"{NAMES[number % 2]}_hang")
    with trio.fail_after(load.stretched(20)):
        await backend.until_arrived(len(crowd) - len(late))
    await each(late, lambda client: client.call("quick-new_hang"))
    control = await dial(running.url)
    for client in told:
        speaking = attrs.evolve(control, session=client.session)
        await speaking.post({"method": "notifications/cancelled", "params": {"requestId": 1}})
        assert (await control.wire.answer())[0] == 202
    for client in left:
        client.vanish()
    await end_sessions(control, ended)
    control.vanish()
    assert {await client.code() for client in [*told, *ended]} == {-33499}
    assert {await client.code() for client in late} == {-33504}


async def end_sessions(control: Client, crowd: Sequence[Client]) -> None:
    """DELETE the session of each; those that have ended already are not known any more."""
    for client in crowd:
        await control.wire.send("\r\n".join(["DELETE /mcp HTTP/1.1", "Host: x", *client.session, "", ""]).encode())
        assert (await control.wire.answer())[0] in (204, 404)
