"""Isolation: what one hanging backend of 20 does to the calls of the other 19.

Owns the rounds, each a slice with the sick backend well and one with it stopped (SIGSTOP: connections are accepted by
the kernel and nothing is ever answered), and the verdict. Deliberately an open loop at a fixed, moderate rate, so that
the machine is never saturated; a latency counts from the moment the call was due. Invariant: both slices of a round
make the same calls, those to the sick backend included.
"""

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import trio

from bench import messages
from bench.client import Client, Wire
from bench.figures import median, percentile
from bench.page import Run
from bench.processes import Served, backends, gateway, waited_s

WELL: Final = 19
ROUNDS: Final = 9
SLICE_S: Final = 5.0
PAUSE_S: Final = 0.5
PERIOD_S: Final = 1 / 160
CALL_S: Final = 2.0
CONCURRENCY: Final = 8
"""Of each backend; the sick one gets 8 calls/s, so all its places are taken after a second and the rest queue."""
HEAD: Final = (
    *("round", "p50 ms", "p50 ms, one hangs", "p99 ms", "p99 ms, one hangs"),
    *("stolen ms", "stolen ms, one hangs", "failed"),
)
P50_BOUND: Final = 1.10
P99_BOUND: Final = 1.50


@attrs.define(eq=False, kw_only=True)
class Load:
    """An open loop of calls to all backends in turn, by one client."""

    client: Client
    idle: list[Wire] = attrs.field(factory=list)
    lags_ms: list[float] = attrs.field(factory=list)
    """Of calls to the 19."""
    failed: int = 0
    """Calls to the 19 that were not answered with a result."""

    async def run(self, names: Iterator[str]) -> None:
        """One slice; returns when its last call to a well backend is answered."""
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(round(SLICE_S / PERIOD_S)):
                due_at = began_at + number * PERIOD_S
                await trio.sleep_until(due_at)
                nursery.start_soon(self._call, next(names), due_at)

    async def _call(self, name: str, due_at: float) -> None:
        wire = self.idle.pop() if self.idle else await Wire.dial(self.client.host)
        reply = await wire.ask(self.client.call(f"{name}_{messages.FAST}", {"q": "hello"}))
        self.idle.append(wire)
        if name != "sick":
            self.lags_ms.append((trio.current_time() - due_at) * 1000)
            self.failed += b'"result"' not in reply.body


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """Freeze one process for the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@attrs.frozen(kw_only=True)
class Slice:
    """What one slice measured."""

    p50_ms: float
    p99_ms: float
    stolen_ms: float
    """How long gateway and bench waited for a CPU that others had: what the machine added."""
    failed: int


async def _slice(served: Served, client: Client, names: Iterator[str], sick: int | None) -> Slice:
    load, before_s = Load(client=client), waited_s(served.pid) + waited_s(os.getpid())
    if sick is None:
        await load.run(names)
    else:
        with _stopped(sick):
            await load.run(names)
    stolen_ms = (waited_s(served.pid) + waited_s(os.getpid()) - before_s) * 1000
    for wire in load.idle:
        wire.close()
    await trio.sleep(PAUSE_S)
    return Slice(
        p50_ms=percentile(load.lags_ms, 0.5),
        p99_ms=percentile(load.lags_ms, 0.99),
        stolen_ms=stolen_ms,
        failed=load.failed,
    )


async def _rounds(served: Served, sick: int, count: int) -> list[tuple[Slice, Slice]]:
    client = await Client(host=served.host, era="2025").open()
    names = itertools.cycle(["sick", *(f"well{number}" for number in range(WELL))])
    await _slice(served, client, names, None)  # warms up: dials, upstream sessions
    found = []
    for number in range(count):
        order = (None, sick) if number % 2 == 0 else (sick, None)
        pair = {each is None: await _slice(served, client, names, each) for each in order}
        found.append((pair[True], pair[False]))
    return found


async def main(run: Run) -> int:
    """Calls to 19 backends while the 20th hangs: p50 within 10 %, p99 within 1.5x, no call failed."""
    async with backends("2025", count=WELL) as well, backends("2025") as sick:
        urls = {"sick": sick.urls()[0], **{f"well{number}": url for number, url in enumerate(well.urls())}}
        rest = {"protocol": messages.LEGACY, "timeouts": {"call": f"{CALL_S}s"}, "limits": {"concurrency": CONCURRENCY}}
        async with gateway({"servers": [{"name": name, "url": url, **rest} for name, url in urls.items()]}) as served:
            rounds = await _rounds(served, sick.pid, run.times(ROUNDS, 1))
    rows = [
        (n, a.p50_ms, b.p50_ms, a.p99_ms, b.p99_ms, a.stolen_ms, b.stolen_ms, a.failed + b.failed)
        for n, (a, b) in enumerate(rounds, 1)
    ]
    medians = [median([row[column] for row in rows]) for column in range(1, 5)]
    p50, p99 = medians[1] / medians[0], medians[3] / medians[2]
    failed = sum(row[7] for row in rows)
    said = f"Medians: p50 {medians[0]:.2f} -> {medians[1]:.2f} ms, x{p50:.3f} (bound x{P50_BOUND}); "
    said += f"p99 {medians[2]:.2f} -> {medians[3]:.2f} ms, x{p99:.3f} (bound x{P99_BOUND}); {failed} failed."
    run.show("Isolation", HEAD, rows, said)
    held = run.quick or (p50 <= P50_BOUND and p99 <= P99_BOUND)
    return 0 if held and not failed else 1
