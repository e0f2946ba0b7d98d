"""What a call costs: CPU time of the gateway process per call, beside nginx as a plain proxy of the same backend.

Owns the workloads, the closed loop and the slices, gateway and nginx in turn. Deliberately no bound yet: it tells
numbers. Invariant: every answer is checked for what it must contain, and nothing is counted that was not answered.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

import attrs
import trio

from bench import messages
from bench.client import Client, Wire
from bench.figures import median, percentile, table
from bench.processes import backends, cpu_of_family_s, cpu_s, gateway, nginx, rss_mib

CONNECTIONS: Final = 16
SLICES: Final = 5
SLICE_S: Final = 1.2
LISTING: Final = 10
"""Backends of the list and of the idle process."""
TOOLS: Final = 100
"""Of each of them."""
IDLE_S: Final = 1.0
HEAD: Final = (
    "era",
    "request",
    "connections",
    *("CPU ms", "nginx", "ratio"),
    *("calls/s", "nginx"),
    *("p50 ms", "nginx"),
)


@attrs.frozen(kw_only=True)
class Work:
    """One kind of request."""

    title: str
    tool: str
    """Empty: ``tools/list``."""
    holds: bytes
    """What every answer must contain."""
    connections: int = CONNECTIONS

    def request(self, client: Client) -> bytes:
        """The next one, with an id of its own."""
        if not self.tool:
            return client.request("tools/list", {})
        return client.call(self.tool, {"q": "a question of a usual length, in which nothing is special"})


CALLS: Final = (
    Work(title="tools/call", tool=messages.FAST, holds=b'"result":{'),
    Work(title="tools/call, backend of 20 ms", tool=messages.WAIT, holds=b'"result":{'),
    Work(title="1 MiB result", tool=messages.LARGE, holds=b'"isError":false', connections=4),
    Work(title="20 events", tool=messages.STREAM, holds=b'"isError":false', connections=CONNECTIONS),
)
LIST: Final = Work(title=f"tools/list of {LISTING * TOOLS:,}", tool="", holds=b'tool_0099"', connections=4)


@attrs.define(eq=False, kw_only=True)
class Measured:
    """What slices of one workload on one process gave."""

    cpu_s: float = 0.0
    elapsed_s: float = 0.0
    lags_ms: list[float] = attrs.field(factory=list)
    per_call_ms: list[float] = attrs.field(factory=list)
    """CPU, one value a slice."""

    def row(self) -> tuple[float, float, float, float]:
        """CPU per call in ms (median of the slices), calls per second, p50 and p99 in ms."""
        rate = len(self.lags_ms) / self.elapsed_s if self.elapsed_s else math.nan
        cpu = median(self.per_call_ms) if self.per_call_ms else math.nan
        return cpu, rate, percentile(self.lags_ms, 0.5), percentile(self.lags_ms, 0.99)


async def _slice(work: Work, client: Client, cpu: Callable[[], float], into: Measured) -> None:
    """A closed loop on each connection for ``SLICE_S``."""
    wires = [await Wire.dial(client.host) for _ in range(work.connections)]
    until_at, lags = time.perf_counter() + SLICE_S, list[float]()

    async def loop(wire: Wire) -> None:
        while (began_at := time.perf_counter()) < until_at:
            reply = await wire.ask(work.request(client))
            lags.append((time.perf_counter() - began_at) * 1000)
            if reply.status != 200 or work.holds not in reply.body:
                raise RuntimeError(f"{work.title}: {reply.status} {reply.body[:200]!r}")

    began_at, before = time.perf_counter(), cpu()
    async with trio.open_nursery() as nursery:
        for wire in wires:
            nursery.start_soon(loop, wire)
    spent = cpu() - before
    into.cpu_s += spent
    into.elapsed_s += time.perf_counter() - began_at
    into.lags_ms += lags
    into.per_call_ms.append(spent / len(lags) * 1000)
    for wire in wires:
        wire.close()


async def _compare(era: str) -> list[Sequence[object]]:
    """Every workload of one era through the gateway and through nginx, slice by slice in turn."""
    rows: list[Sequence[object]] = []
    async with AsyncExitStack() as stack:
        behind = await stack.enter_async_context(backends(era))
        protocol = messages.MODERN if era == "2026" else messages.LEGACY
        server = {"name": "bench", "url": behind.urls()[0], "prefix": "", "protocol": protocol}
        served = await stack.enter_async_context(gateway({"servers": [server]}))
        plain = await stack.enter_async_context(nginx(behind.ports[0]))
        ours = await Client(host=served.host, era=era).open()
        theirs = await Client(host=plain.host, era=era).open() if plain is not None else None
        for work in CALLS:
            with_gateway, with_nginx = Measured(), Measured()
            for _ in range(SLICES):
                await _slice(work, ours, lambda: cpu_s(served.pid), with_gateway)
                if plain is not None and theirs is not None:
                    await _slice(work, theirs, lambda pid=plain.pid: cpu_of_family_s(pid), with_nginx)  # type: ignore[misc]  # bound now
            cpu, rate, p50, p99 = with_gateway.row()
            cpu2, rate2, p50_2, p99_2 = with_nginx.row()
            rows.append((era, work.title, work.connections, cpu, cpu2, cpu / cpu2, rate, rate2, p50, p50_2, p99, p99_2))
    return rows


async def _listing() -> tuple[Sequence[object], Sequence[object]]:
    """``tools/list`` of many tools; and what the process costs when nobody calls."""
    async with backends("2025", count=LISTING, tools=TOOLS) as behind:
        servers = [
            {"name": f"b{number}", "url": url, "protocol": messages.LEGACY} for number, url in enumerate(behind.urls())
        ]
        async with gateway({"servers": servers}) as served:
            await trio.sleep(IDLE_S)
            rss, before = rss_mib(served.pid), cpu_s(served.pid)
            await trio.sleep(IDLE_S)
            idle = (cpu_s(served.pid) - before) / IDLE_S * 100
            client, measured = await Client(host=served.host, era="2025").open(), Measured()
            for _ in range(SLICES):
                await _slice(LIST, client, lambda: cpu_s(served.pid), measured)
            return (LIST.title, *measured.row()), (served.ready_s, rss, idle)


async def main() -> int:
    """Measure and print the tables; always 0."""
    rows = [*await _compare("2025"), *await _compare("2026")]
    print(table((*HEAD, "p99 ms", "nginx"), rows))
    listed, idle = await _listing()
    print()
    print(table(("request", "CPU ms", "calls/s", "p50 ms", "p99 ms"), [listed]))
    print()
    print(table(("start to ready s", "idle RSS MiB", "idle CPU %"), [idle]))
    return 0
