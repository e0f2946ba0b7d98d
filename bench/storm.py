"""A cancel storm: a thousand calls hang, and all their clients leave in one instant.

Owns the storm and the look at what is left of it. Deliberately only 2026-07-28 clients: there a disconnect cancels.
Invariant: it fails (1) when a backend was not told, or descriptors and answers are not as before within ``REST_S``.
"""

import contextlib
import itertools
import math
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from bench import journal, messages
from bench.calls import CALL, OURS
from bench.client import Client, Wire
from bench.figures import percentile
from bench.load import loaded
from bench.page import Run
from bench.processes import Served, backends, descriptors, gateway, nginx
from bench.rivals import servers_of

CALLS: Final = 1000
DIALING: Final = 50
"""Clients that connect at the same time."""
BEGIN_S: Final = 60.0
SETTLE_S: Final = 20.0
REST_S: Final = 5.0
POLL_S: Final = 0.02
HEAD: Final = (
    "who",
    "eras",
    "calls",
    "told",
    "p50 ms",
    "p99 ms",
    "max ms",
    "CPU ms a call",
    "descriptors over",
    "answers after",
)


@asynccontextmanager
async def _before(name: str, era: str, calls: int, urls: Sequence[str]) -> AsyncIterator[Served | None]:
    if name == OURS:
        servers = servers_of(urls, era, limits={"concurrency": calls}, timeouts={"call": "600s"})
        async with gateway({"servers": servers, "limits": {"inFlight": calls}}) as served:
            yield served
    else:
        async with nginx(int(urls[0].removesuffix("/mcp").rpartition(":")[2])) as plain:
            yield plain


async def _hang(served: Served, client: Client, numbers: Iterator[int], calls: int) -> dict[int, Wire]:
    """Begin so many calls, each on a connection of its own."""
    wires: dict[int, Wire] = {}
    places = trio.CapacityLimiter(DIALING)

    async def begin(number: int) -> None:
        async with places:
            wires[number] = await Wire.dial(served.host)
            await wires[number].send(client.call(messages.HANG, {"n": number}))

    async with trio.open_nursery() as nursery:
        for number in itertools.islice(numbers, calls):
            nursery.start_soon(begin, number)
    return wires


async def _until(book: Path, what: str, numbers: set[int], within_s: float) -> journal.Seen:
    """What the backend has seen, when it has seen this of each call or time is up."""
    seen: journal.Seen = {}
    with trio.move_on_after(within_s):
        while True:
            seen = journal.read(book)
            if all(what in seen.get(number, ()) for number in numbers):
                break
            await trio.sleep(POLL_S)
    return seen


async def _storm(name: str, era: str, calls: int) -> tuple[bool, Sequence[object]] | None:
    """One row, and whether it is as it must be; None without nginx."""
    told = journal.CLOSED if era == "2026" else journal.NOTICE
    async with AsyncExitStack() as stack:
        book = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "journal"
        urls = (await stack.enter_async_context(backends(era, book=book))).urls()
        served = await stack.enter_async_context(_before(name, era, calls, urls))
        if served is None:
            return None
        client = await Client(host=served.host, era="2026").open()
        right = await loaded(served.host, [CALL.ask(client)], 0.3, connections=16)  # warms up
        await trio.sleep(0.3)
        baseline = descriptors(served.pid)
        wires = await _hang(served, client, itertools.count(1), calls)
        await _until(book, journal.BEGAN, set(wires), BEGIN_S)
        before_s, left_ns = served.cpu_s(), time.monotonic_ns()
        for wire in wires.values():
            wire.close()
        seen = await _until(book, told, set(wires), SETTLE_S)
        lags = [(seen[number][told] - left_ns) / 1e6 for number in wires if told in seen.get(number, ())]
        with contextlib.suppress(trio.TooSlowError), trio.fail_after(REST_S):
            while descriptors(served.pid) > baseline:  # noqa: ASYNC110  # another process
                await trio.sleep(POLL_S)
        cpu_ms = (served.cpu_s() - before_s) / calls * 1000
        over = descriptors(served.pid) - baseline
        right = await loaded(served.host, [CALL.ask(client)], 0.3, connections=16)
    fine = len(lags) == calls and not right.wrong and (over <= 0 or name != OURS)
    shares = [percentile(lags, share) for share in (0.5, 0.99, 1.0)] if lags else [math.nan] * 3
    after = f"{len(right.lags_ms)} right, {len(right.wrong)} wrong"
    return fine, (name, f"2026 → {era}", calls, len(lags), *shares, cpu_ms, max(0, over), after)


async def main(run: Run) -> int:
    """A thousand clients leave in one instant: every backend is told, and nothing is left of their calls."""
    calls = run.times(CALLS, 200)
    found = [await _storm(name, era, calls) for name, era in ((OURS, "2026"), (OURS, "2025"), ("nginx", "2026"))]
    rows = [row for each in found if each is not None for row in [each[1]]]
    run.show("Cancel storm", HEAD, rows)
    return 0 if all(each is None or each[0] for each in found[:2]) else 1
