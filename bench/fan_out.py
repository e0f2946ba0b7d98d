"""Fan-out: what new clients of 20 backends see when one is slow and one hangs.

Owns the conversations and the table. Deliberately after everything was well once: servers do not fail at start only.
Invariant: both states are measured with the same conversations, and a step that takes too long is counted as that.
"""

import math
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import attrs
import trio

from bench import messages
from bench.calls import CALL, OURS
from bench.client import Client, Reply, Wire
from bench.figures import percentile
from bench.page import Run
from bench.processes import Served, backends, end_of
from bench.rivals import present
from bench.sessions import result_of

WELL: Final = 18
SLOW_S: Final = 1.0
STEP_S: Final = 10.0
HEAD: Final = (
    "who",
    "backends",
    "in time",
    "set-up p50 ms",
    "max ms",
    "tools",
    "list p50 ms",
    "max ms",
    "call p50 ms",
    "max ms",
)


@attrs.define(eq=False)
class Seen:
    """What some clients saw, in ms."""

    set_up: list[float] = attrs.field(factory=list)
    listed: list[float] = attrs.field(factory=list)
    called: list[float] = attrs.field(factory=list)
    tools: int = 0
    tried: int = 0

    def cells(self) -> tuple[object, ...]:
        def two(lags: list[float]) -> tuple[float, float]:
            return percentile(lags, 0.5), percentile(lags, 1.0)

        done = f"{len(self.called)} of {self.tried}"
        return (done, *two(self.set_up), self.tools, *two(self.listed), *two(self.called))


async def _visit(host: str, seen: Seen) -> None:
    """One client: handshake, list, a call of a backend that is well."""
    seen.tried += 1
    with trio.move_on_after(STEP_S):
        began_at = trio.current_time()
        client = await Client(host=host, era="2025").open()
        shaken_at = trio.current_time()
        tools = result_of(await _asked(client, client.request("tools/list", {})))["tools"]
        listed_at = trio.current_time()
        assert isinstance(tools, list)
        names = [tool["name"] for tool in tools]
        name = next(name for name in names if "b3" in name and name.endswith(messages.FAST))
        before_at = trio.current_time()
        wrong = CALL.check(result_of(await _asked(client, client.call(name, {"q": "hello"}))), 0)
        if wrong:
            raise RuntimeError(wrong)
        seen.called.append((trio.current_time() - before_at) * 1000)
        seen.set_up.append((shaken_at - began_at) * 1000)
        seen.listed.append((listed_at - shaken_at) * 1000)
        seen.tools = len(names)


async def _asked(client: Client, request: bytes) -> Reply:
    """On a connection of its own: some close theirs after a list."""
    wire = await Wire.dial(client.host)
    try:
        return await wire.ask(request)
    finally:
        wire.close()


async def _both(served: Served, hanging: int, count: int) -> tuple[Seen, Seen]:
    """While all answer (one slowly), and while one hangs."""
    await _visit(served.host, Seen())
    well, sick = Seen(), Seen()
    for _ in range(count):
        await _visit(served.host, well)
    os.kill(hanging, signal.SIGSTOP)
    try:
        for _ in range(count):
            await _visit(served.host, sick)
    finally:
        os.kill(hanging, signal.SIGCONT)
    return well, sick


async def main(run: Run) -> int:
    """20 backends, one slow by a second and one that begins to hang: set-up, list and a call of a well one."""
    rows, notes = list[Sequence[object]](), list[str]()
    for rival in present():
        if not rival.merges:
            continue
        async with AsyncExitStack() as stack:
            well = await stack.enter_async_context(backends("2025", count=WELL))
            slow = await stack.enter_async_context(backends("2025", delay_s=SLOW_S))
            sick = await stack.enter_async_context(backends("2025"))
            served: Served | None = None
            try:
                served = await stack.enter_async_context(
                    rival.start([*well.urls(), *slow.urls(), *sick.urls()], "2025")
                )
                both = await _both(served, sick.pid, run.times(20, 3) if rival.name == OURS else 3)
            except (RuntimeError, OSError, KeyError, StopIteration, trio.TooSlowError) as error:
                if rival.name == OURS:
                    raise
                notes.append(f"{rival.name}: {error!r}{await end_of(served)}")
                rows.append((rival.name, "-", "-", *(math.nan,) * 7))
                continue
        for state, seen in zip(("one slow", "one slow, one hangs"), both, strict=True):
            rows.append((rival.name, state, *seen.cells()))
    run.show("Fan-out over 20 backends", HEAD, rows, f"A client gives up after {STEP_S:g} s.", *notes)
    return 0
