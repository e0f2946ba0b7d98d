"""What sessions cost: to set one up, to keep a thousand, and to keep a stream open for each.

Owns the conversation of a new client, and the looks at memory. Deliberately the 2025 era only: 2026-07-28 has no
sessions. Invariant: a session counts when its first call was answered rightly.
"""

import math
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import orjson
import trio

from bench import messages
from bench.calls import CALL, OURS
from bench.client import Client, Reply, Wire
from bench.figures import median, percentile
from bench.page import Run
from bench.processes import Served, backends, end_of
from bench.rivals import Rival, present

TOGETHER: Final = 4
"""Clients that come at once."""
SETTLE_S: Final = 1.0
STEP_S: Final = 30.0


def result_of(reply: Reply) -> messages.Json:
    """The result in an answer, which may be an event stream. Raises RuntimeError when there is none."""
    raw = reply.body
    if reply.headers.get(b"content-type", b"").startswith(b"text/event-stream"):
        events = [line[5:] for line in raw.splitlines() if line.startswith(b"data:") and len(line) > 6]
        raw = events[-1] if events else b""
    try:
        found = orjson.loads(raw)["result"]
    except (ValueError, KeyError) as error:
        raise RuntimeError(f"{reply.status}: {reply.body[:200]!r}") from error
    assert isinstance(found, dict)
    return found


async def come(host: str, wire: Wire) -> Client:
    """A new client's conversation: handshake and a first call. Raises RuntimeError for a wrong answer."""
    client = await Client(host=host, era="2025").open(wire)
    reply = await wire.ask(client.call(messages.FAST, {"q": "hello"}))
    if wrong := CALL.check(result_of(reply), 0):
        raise RuntimeError(wrong)
    return client


async def _coming(served: Served, count: int) -> tuple[float, list[float]]:
    """CPU in ms per session, and how long each took in ms."""
    lags, before_s = list[float](), served.cpu_s()

    async def loop() -> None:
        wire = await Wire.dial(served.host)
        for _ in range(count // TOGETHER):
            began_at = trio.current_time()
            await come(served.host, wire)
            lags.append((trio.current_time() - began_at) * 1000)
        wire.close()

    with trio.fail_after(STEP_S):
        async with trio.open_nursery() as nursery:
            for _ in range(TOGETHER):
                nursery.start_soon(loop)
    return (served.cpu_s() - before_s) / len(lags) * 1000, lags


async def setting_up(run: Run) -> int:
    """Handshake and first call of new 2025 clients, four at a time: CPU and time of each."""
    count, rounds = run.times(200, 40), run.times(9, 2)
    async with AsyncExitStack() as stack:
        urls = (await stack.enter_async_context(backends("2025"))).urls()
        them = [(rival, await stack.enter_async_context(rival.start(urls, "2025"))) for rival in present()]
        taken: dict[str, list[tuple[float, float, float]]] = {rival.name: [] for rival, _ in them}
        failed: dict[str, str] = {}
        for number in range(rounds):
            for rival, served in them if number % 2 else reversed(them):
                if rival.name in failed:
                    continue
                try:
                    cpu_ms, lags = await _coming(served, TOGETHER if rival.slow else count)
                except* (OSError, RuntimeError, trio.TooSlowError) as group:
                    if rival.name == OURS:
                        raise
                    failed[rival.name] = f"{rival.name}: {group.exceptions[0]!r}{await end_of(served)}"
                else:
                    taken[rival.name].append((cpu_ms, percentile(lags, 0.5), percentile(lags, 0.99)))
    rows: list[Sequence[object]] = []
    for rival, served in them:
        mine, its = taken[rival.name], taken.get("nginx", [])
        if rival.name in failed:
            rows.append((rival.name, *(math.nan,) * 4))
            continue
        ratio = median([a[0] / b[0] for a, b in zip(mine, its, strict=True)]) if its and served.pid else math.nan
        cpu = median([each[0] for each in mine]) if served.pid else math.nan
        rows.append((rival.name, cpu, ratio, median([each[1] for each in mine]), median([each[2] for each in mine])))
    head = ("who", "CPU ms", "x nginx", "p50 ms", "p99 ms")
    run.show("Session set-up: initialize, initialized, first call", head, rows, *failed.values())
    return 0


async def idle(run: Run) -> int:
    """A thousand idle sessions: memory of each, and of a GET stream open in each."""
    count = run.times(1000, 100)
    rows, notes = list[Sequence[object]](), list[str]()
    async with backends("2025") as behind:
        for rival in present():
            if rival.name in ("direct", "nginx", "mcp-proxy"):
                continue
            each = count // 10 if rival.slow else count
            try:
                figures, refused = await _memory(rival, behind.urls(), each)
            except (RuntimeError, OSError, trio.TooSlowError) as error:
                if rival.name == OURS:
                    raise
                notes.append(f"{rival.name}: {error!r}")
                continue
            rows.append((rival.name, each, *figures))
            notes += [f"{rival.name}: {refused}"] if refused else []
    head = ("who", "sessions", "idle MiB", "KiB a session", "KiB a stream", "idle CPU %, with them")
    run.show("Idle sessions with GET streams", head, rows, *notes)
    return 0


async def _memory(rival: Rival, urls: Sequence[str], count: int) -> tuple[tuple[float, ...], str]:
    """What ``idle`` shows of one, and why there are no streams, if it refuses them."""
    async with rival.start(urls, "2025") as served:
        wire, streams, refused = await Wire.dial(served.host), list[Wire](), ""
        for _ in range(20):
            await come(served.host, wire)  # whatever is allocated once is there now
        await trio.sleep(SETTLE_S)
        empty = served.rss_mib()
        with trio.fail_after(STEP_S * 2):
            clients = [await come(served.host, wire) for _ in range(count)]
        await trio.sleep(SETTLE_S)
        kept = served.rss_mib()
        try:
            with trio.fail_after(STEP_S * 2):
                for client in clients:
                    streams.append(await Wire.dial(served.host))
                    await streams[-1].send(client.listen())
                    if (status := await streams[-1].status()) != 200:
                        refused = f"GET is answered with {status}"
                        break
            await trio.sleep(SETTLE_S)
            open_mib, before_s = served.rss_mib(), served.cpu_s()
            await trio.sleep(SETTLE_S)
            idle_percent = (served.cpu_s() - before_s) / SETTLE_S * 100
        finally:
            for each in (wire, *streams):
                each.close()
    stream_kib = math.nan if refused else (open_mib - kept) * 1024 / count
    return (empty, (kept - empty) * 1024 / count, stream_kib, idle_percent), refused
