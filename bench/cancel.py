"""The cancel matrix: how long after its cause a backend knows that a call was cancelled.

Owns the cells (client era x backend x source x how full the backend is) and the verdict. Deliberately measures from
outside: the cause is what a client or an operator did, the effect is what the backend journalled, on one clock.
Invariant: the bench ends by itself; it fails (1) when a p99 reaches ``BOUND_MS`` or a call was not told.
"""

import itertools
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

from bench import journal, messages
from bench.client import Client, Wire
from bench.figures import percentile
from bench.page import Run
from bench.processes import ROOT, Served, backends, gateway

BOUND_MS: Final = 50.0
PACE_S: Final = 0.008
"""Between two openings or causes: 125/s, so that the queueing of the bench itself is not measured."""
SESSIONS: Final = 8
NOTIFIERS: Final = 8
CALL_S: Final = 3.0
SETTLE_S: Final = 1.5
REST_S: Final = 0.4
"""After a cell, for the gateway to be done with the clients that leave; the next cell is measured without them."""
BEGIN_S: Final = 10.0
POLL_S: Final = 0.02
HEAD: Final = ("client", "backend", "source", "in flight", "told", "not told", "p50 ms", "p99 ms", "max ms", "it saw")


@attrs.frozen(kw_only=True)
class Fill:
    """How many calls hang, of how many that the backend may have."""

    calls: int
    concurrency: int


FILLS: Final = (Fill(calls=200, concurrency=256), Fill(calls=64, concurrency=64))
STORM: Final = ", all at once"
"""Not bounded by the 50 ms: the last of 200 clients that leave in one instant waits for 199 others to be served."""
BACKENDS: Final = ("2025 HTTP", "2026 HTTP", "2025 stdio")


@attrs.frozen(kw_only=True)
class Row:
    """One cell of the matrix."""

    client: str
    backend: str
    source: str
    fill: Fill
    lags_ms: tuple[float, ...]
    untold: int
    saw: str

    @property
    def ok(self) -> bool:
        return not self.untold and (self.source.endswith(STORM) or percentile(self.lags_ms, 0.99) < BOUND_MS)

    def cells(self) -> tuple[object, ...]:
        where = f"{self.fill.calls} of {self.fill.concurrency}"
        lags = (percentile(self.lags_ms, share) for share in (0.5, 0.99, 1.0))
        return (self.client, self.backend, self.source, where, len(self.lags_ms), self.untold, *lags, self.saw)


@attrs.frozen(kw_only=True)
class Hanging:
    """One call in flight."""

    number: int
    client: Client
    rpc_id: int
    wire: Wire
    sent_ns: int


@attrs.define(eq=False, kw_only=True)
class Bench:
    """One gateway in front of one backend, which is there twice: as ``free`` and, with a deadline, as ``due``."""

    backend: str
    fill: Fill
    served: Served
    book: Path
    numbers: Iterator[int]
    rows: list[Row] = attrs.field(factory=list)

    async def run(self, *, drain: str) -> list[Row]:
        """Every cell of this gateway; the last one, the drain with a client of that era, ends it."""
        if drain == "2025":
            for era, cause in (("2025", self.by_message), ("2026", self.by_disconnect)):
                for source, pace_s in (("", PACE_S), (STORM, 0.0)):
                    calls = await self.open(era, "free")
                    causes = await cause(calls, pace_s)
                    await self.note(era, cause.__name__.removeprefix("by_") + source, calls, causes)
            for era in ("2025", "2026"):
                calls = await self.open(era, "due")
                causes = {call.number: call.sent_ns + int(CALL_S * 1e9) for call in calls}
                await trio.sleep(CALL_S)
                await self.note(era, "deadline", calls, causes)
        calls = await self.open(drain, "free")
        await self.note(drain, "drain", calls, await self.by_drain(calls))
        return self.rows

    async def open(self, era: str, server: str) -> list[Hanging]:
        """Start the calls, and wait until the backend has seen each of them."""
        clients = [await Client(host=self.served.host, era=era).open() for _ in range(SESSIONS)]
        calls: list[Hanging] = []
        for place in range(self.fill.calls):
            client, number, wire = clients[place % SESSIONS], next(self.numbers), await Wire.dial(self.served.host)
            rpc_id = next(client.ids)
            sent_ns = time.monotonic_ns()
            await wire.send(client.call(f"{server}_{messages.HANG}", {"n": number}, rpc_id))
            calls.append(Hanging(number=number, client=client, rpc_id=rpc_id, wire=wire, sent_ns=sent_ns))
            await trio.sleep(PACE_S)
        with trio.move_on_after(BEGIN_S):
            while not all(call.number in journal.read(self.book) for call in calls):  # noqa: ASYNC110  # a file
                await trio.sleep(POLL_S)
            return calls
        missing = [call for call in calls if call.number not in journal.read(self.book)]
        raise RuntimeError(f"{len(missing)} of {len(calls)} calls did not reach the {self.backend} backend")

    async def by_message(self, calls: Sequence[Hanging], pace_s: float) -> dict[int, int]:
        """``notifications/cancelled`` from the call's own session, on connections that are open already."""
        causes: dict[int, int] = {}
        wires = NOTIFIERS if pace_s else len(calls)
        give, take = trio.open_memory_channel[Wire](wires)
        for _ in range(wires):
            give.send_nowait(await Wire.dial(self.served.host))

        async def cancel(call: Hanging, wire: Wire) -> None:
            said = call.client.notification("notifications/cancelled", {"requestId": call.rpc_id, "reason": "bench"})
            causes[call.number] = time.monotonic_ns()
            await wire.ask(said)
            give.send_nowait(wire)

        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(cancel, call, await take.receive())
                if pace_s:
                    await trio.sleep(pace_s)
        for _ in range(wires):
            take.receive_nowait().close()
        return causes

    async def by_disconnect(self, calls: Sequence[Hanging], pace_s: float) -> dict[int, int]:
        """The client closes the call's connection."""
        causes: dict[int, int] = {}
        for call in calls:
            causes[call.number] = time.monotonic_ns()
            call.wire.close()
            if pace_s:
                await trio.sleep(pace_s)
        return causes

    async def by_drain(self, calls: Sequence[Hanging]) -> dict[int, int]:
        """SIGTERM begins the drain; the second one, which is the cause, ends the calls' grace."""
        os.kill(self.served.pid, signal.SIGTERM)
        await trio.sleep(0.3)
        at_ns = time.monotonic_ns()
        os.kill(self.served.pid, signal.SIGTERM)
        return {call.number: at_ns for call in calls}

    async def note(self, era: str, source: str, calls: Sequence[Hanging], causes: dict[int, int]) -> None:
        """Wait until the backend knows of every call, at most ``SETTLE_S``, and write the row."""
        modern = self.backend.startswith("2026")
        told = journal.CLOSED if modern else journal.NOTICE
        with trio.move_on_after(SETTLE_S):
            while not all(told in journal.read(self.book)[call.number] for call in calls):  # noqa: ASYNC110  # a file
                await trio.sleep(POLL_S)
        seen = journal.read(self.book)
        for call in calls:
            call.wire.close()
        await trio.sleep(REST_S)
        lags = {number: (seen[number][told] - at) / 1e6 for number, at in causes.items() if told in seen[number]}
        row = Row(
            client=era,
            backend=self.backend,
            source=source,
            fill=self.fill,
            lags_ms=tuple(lags.values()),
            untold=len(calls) - len(lags),
            saw=_mostly(seen[call.number] for call in calls),
        )
        self.rows.append(row)


def _mostly(seen: Iterable[Mapping[str, int]]) -> str:
    """What most of the calls' backends saw after the beginning, in order."""
    orders = Counter(" then ".join(sorted(set(one) - {journal.BEGAN}, key=one.__getitem__)) for one in seen)
    return orders.most_common(1)[0][0]


def _server(backend: str, name: str, url: str, fill: Fill, book: Path) -> dict[str, object]:
    where: dict[str, object] = {"url": url}
    if backend == "2025 stdio":
        command = [sys.executable, "-S", "-m", "bench.stdio_backend", "--journal", str(book)]
        where = {"command": command, "cwd": str(ROOT)}
    protocol = messages.MODERN if backend == "2026 HTTP" else messages.LEGACY
    limit_s = CALL_S if name == "due" else 600
    timeouts, limits = {"call": f"{limit_s}s"}, {"concurrency": fill.concurrency}
    return {"name": name, **where, "protocol": protocol, "timeouts": timeouts, "limits": limits}


async def _measure(backend: str, fill: Fill, drain: str, numbers: Iterator[int]) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        book = Path(folder) / "journal"
        async with backends(backend[:4], book=book) as behind:
            servers = [_server(backend, name, behind.urls()[0], fill, book) for name in ("free", "due")]
            async with gateway({"servers": servers}) as served:
                bench = Bench(backend=backend, fill=fill, served=served, book=book, numbers=numbers)
                return await bench.run(drain=drain)


async def main(run: Run) -> int:
    """From the cause of a cancellation until the backend knows: p99 below 50 ms, every backend told."""
    numbers, rows = itertools.count(1), list[Row]()
    backed, fills = (BACKENDS[:1], FILLS[-1:]) if run.quick else (BACKENDS, FILLS)
    for backend, fill, drain in itertools.product(backed, fills, ("2025", "2026")):
        rows += await _measure(backend, fill, drain, numbers)
    storms = [row for row in rows if row.source.endswith(STORM)]
    matrix = [row for row in rows if row not in storms]
    held = sum(row.ok for row in matrix)
    said = f"{held} of {len(matrix)} cells hold: p99 below {BOUND_MS:g} ms and every backend told."
    run.show("Cancel matrix", HEAD, [row.cells() for row in matrix], said)
    run.show("Cancellations all at once", HEAD, [row.cells() for row in storms])
    return 0 if all(not row.untold if run.quick else row.ok for row in rows) else 1
