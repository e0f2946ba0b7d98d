"""A gateway's life under load: it starts, its configuration changes, it drains; and five minutes of all that.

Owns the changes and the verdict on the calls meanwhile. Deliberately the load of one 2025 client at a fixed rate.
Invariant: a call that was sent and not answered rightly counts as failed, whatever the reason.
"""

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

import trio

from bench import messages
from bench.calls import text_of
from bench.client import Client
from bench.figures import median, percentile
from bench.load import Ask, Loaded, loaded
from bench.page import Run
from bench.processes import Served, backends, gateway
from bench.rivals import present, servers_of

BACKENDS: Final = 10
RATE: Final = 400
CONNECTIONS: Final = 16
RELOAD_S: Final = 1.0
SOAK_RELOAD_S: Final = 5.0
FLAP_S: Final = 2.0
IDLE_S: Final = 1.0
DRAIN_S: Final = 30.0
_QUICK_TO_FAIL: Final = {"health": {"interval": "1s", "failures": 2}, "timeouts": {"call": "2s", "connect": "1s"}}


async def start(run: Run) -> int:
    """From starting the program to its being ready in front of ten backends, and what it costs when nobody calls."""
    rows: list[Sequence[object]] = []
    async with backends("2025", count=BACKENDS) as behind:
        for rival in present():
            if rival.name in ("direct", "mcp-proxy"):
                continue
            times, sizes, idle = list[float](), list[float](), list[float]()
            for _ in range(run.times(5, 1)):
                async with rival.start(behind.urls(), "2025") as served:
                    times.append(served.ready_s)
                    await trio.sleep(IDLE_S)
                    before_s = served.cpu_s()
                    await trio.sleep(IDLE_S)
                    idle.append((served.cpu_s() - before_s) / IDLE_S * 100)
                    sizes.append(served.rss_mib())
            rows.append((rival.name, median(times), median(sizes), median(idle)))
    run.show("Start in front of ten backends", ("who", "ready after s", "idle MiB", "idle CPU %"), rows)
    return 0


def _asks(client: Client, names: Iterable[str], tool: str = messages.FAST) -> list[Ask]:
    """Calls of one tool of each of these servers."""

    def ask(name: str) -> Ask:
        return Ask.of(lambda rpc_id: client.call(f"{name}_{tool}", {"q": "hello"}, rpc_id), text_of(400))

    return [ask(name) for name in names]


async def reload(run: Run) -> int:
    """400 calls/s to nine backends while, every second, the file changes: a tenth comes and goes, another changes."""
    async with backends("2025", count=BACKENDS) as behind:
        *kept, last = servers_of(behind.urls(), "2025")
        changed = [*kept[:-1], {**kept[-1], "timeouts": {"call": "41s"}}]
        async with gateway({"servers": [*kept, last]}) as served:
            client = await Client(host=served.host, era="2025").open()
            asks = _asks(client, (str(server["name"]) for server in kept))
            seconds, rows = run.pick(10.0, 3.0), list[Sequence[object]]()
            changes: Iterator[Mapping[str, object]] = itertools.cycle(
                [{"servers": changed}, {"servers": [*kept, last]}]
            )
            for number, reloads in itertools.product(range(run.times(3, 1)), (False, True)):
                async with trio.open_nursery() as nursery:
                    if reloads:
                        nursery.start_soon(_change, served, changes, RELOAD_S)
                    found = await loaded(served.host, asks, seconds, connections=CONNECTIONS, rate=RATE)
                    nursery.cancel_scope.cancel("measured")
                rows.append((number + 1, "yes" if reloads else "no", *_cells(found)))
    run.show("Reload under load", ("round", "reloads", "answered", "failed", "p50 ms", "p99 ms", "max ms"), rows)
    return 1 if any(row[3] for row in rows) else 0


async def _change(served: Served, configs: Iterable[Mapping[str, object]], every_s: float) -> None:
    for config in configs:
        served.reload(config)
        await trio.sleep(every_s)


def _cells(found: Loaded) -> tuple[object, ...]:
    return len(found.lags_ms), len(found.wrong), *(percentile(found.lags_ms, share) for share in (0.5, 0.99, 1.0))


async def drain(run: Run) -> int:
    """SIGTERM under 400 calls/s to a backend of 20 ms: calls that were accepted are answered, and how soon it ends."""
    rows, failed = list[Sequence[object]](), list[str]()
    async with backends("2025") as behind:
        for number in range(run.times(5, 1)):
            found, ended_s = await _drained(behind.urls())
            refused = [why for why in found.wrong if '"reason":"draining","executed":"no"' in why]
            failed += (lost := [why for why in found.wrong if why not in refused])
            lags = (percentile(found.lags_ms, share) for share in (0.5, 0.99, 1.0))
            rows.append((number + 1, len(found.lags_ms), len(refused), len(lost), *lags, ended_s))
    head = ("round", "answered", "refused", "failed", "p50 ms", "p99 ms", "max ms", "ended after s")
    note = "Refused: came after SIGTERM on a kept connection, and was told that it has not been executed."
    run.show("Drain under load", head, rows, note, *sorted(set(failed)))
    return 1 if failed else 0


async def _drained(urls: Sequence[str]) -> tuple[Loaded, float]:
    """What the calls gave, and how long after SIGTERM the process ended."""
    found: list[Loaded] = []
    over = threading.Event()
    async with gateway({"servers": servers_of(urls, "2025")}) as served:
        assert served.process is not None
        client = await Client(host=served.host, era="2025").open()
        asks = [Ask.of(lambda rpc_id: client.call(messages.WAIT, {"q": "x"}, rpc_id), text_of(400))]

        async def calls() -> None:
            found.append(await loaded(served.host, asks, DRAIN_S, connections=16, rate=RATE, stop=over.is_set))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(calls)
            await trio.sleep(1.0)
            began_at = time.perf_counter()
            os.kill(served.pid, signal.SIGTERM)
            try:
                with trio.fail_after(DRAIN_S):
                    await served.process.wait()
                ended_s = time.perf_counter() - began_at
            finally:
                over.set()
    return found[0], ended_s


async def soak(run: Run) -> int:
    """Half of what it can, a reload every 5 s and a flapping backend: not one call to the others may fail."""
    async with AsyncExitStack() as stack:
        well = await stack.enter_async_context(backends("2025", count=BACKENDS - 1))
        sick = await stack.enter_async_context(backends("2025"))
        *kept, flapping = servers_of([*well.urls(), *sick.urls()], "2025", **_QUICK_TO_FAIL)
        changed = [*kept[:-1], {**kept[-1], "limits": {"concurrency": 77}}]
        changes: Iterator[Mapping[str, object]] = itertools.cycle(
            [{"servers": [*changed, flapping]}, {"servers": [*kept, flapping]}]
        )
        served = await stack.enter_async_context(gateway({"servers": [*kept, flapping]}))
        client = await Client(host=served.host, era="2025").open()
        asks = _asks(client, (str(server["name"]) for server in kept))
        most = await loaded(served.host, asks, 2.0, connections=CONNECTIONS)
        rate, before_mib = most.rate / 2, served.rss_mib()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_change, served, changes, SOAK_RELOAD_S)
            nursery.start_soon(_flap, sick.pid)
            nursery.start_soon(_call_the_sick, served, client, str(flapping["name"]))
            found = await loaded(served.host, asks, run.soak_s, connections=CONNECTIONS, rate=rate)
            nursery.cancel_scope.cancel("measured")
        after_mib = served.rss_mib()
    head = ("s", "calls/s", "answered", "failed", "p50 ms", "p99 ms", "max ms", "MiB before", "MiB after")
    row = (run.soak_s, rate, *_cells(found), before_mib, after_mib)
    run.show("Soak", head, [row], *sorted(set(found.wrong)))
    return 1 if found.wrong or found.refused else 0


async def _flap(pid: int) -> None:
    """Stop and go on, for ever; at the end it goes on."""
    try:
        while True:
            os.kill(pid, signal.SIGSTOP)
            await trio.sleep(FLAP_S)
            os.kill(pid, signal.SIGCONT)
            await trio.sleep(FLAP_S)
    finally:
        os.kill(pid, signal.SIGCONT)


async def _call_the_sick(served: Served, client: Client, name: str) -> None:
    """Its calls fail and are answered, in turn; what matters is that others do not feel it."""
    asks = _asks(client, [name])
    while True:
        await loaded(served.host, asks, FLAP_S, connections=4, rate=20)
