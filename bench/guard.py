"""The guard of continuous integration: what a call costs beside nginx, so that noise cannot trip it.

Owns one bound. Deliberately the ratio to nginx in the same slices of time: other programs on the machine, and how fast
it is, fall on both. Invariant: it ends within a minute; without nginx it says so and passes.
"""

from contextlib import AsyncExitStack
from typing import Final

from bench.calls import CALL
from bench.client import Client
from bench.figures import median, quartiles
from bench.interleave import Side, interleaved
from bench.page import Run
from bench.processes import backends
from bench.rivals import present

BOUND: Final = 20.0
"""Of the ratio's median: twice what was measured (9.9 to 10.2) when the bound was chosen."""
ROUNDS: Final = 24
SLICE_S: Final = 0.25


async def main(run: Run) -> int:
    """The guard: CPU of a call at 16 connections in the 2025 pair, at most so many times nginx's."""
    them = {rival.name: rival for rival in present()}
    if "nginx" not in them:
        print("guard: nginx is not installed; nothing is compared")
        return 0
    async with AsyncExitStack() as stack:
        urls = (await stack.enter_async_context(backends("2025"))).urls()
        sides: list[Side] = []
        for name in ("nginx", "mcp-gateway"):
            served = await stack.enter_async_context(them[name].start(urls, "2025"))
            client = await Client(host=served.host, era="2025").open()
            base = sides[0] if sides else None
            sides.append(Side(name=name, served=served, asks=(CALL.ask(client),), base=base, ours=base is not None))
        await interleaved(sides, rounds=ROUNDS, seconds=SLICE_S, connections=16)
    plain, ours = sides
    ratios = ours.ratios()
    low, high = quartiles(ratios)
    found = (ours.cells()[0], plain.cells()[0], median(ratios), f"{low:.1f}-{high:.1f}", BOUND)
    run.show("Guard", ("CPU ms", "nginx", "ratio", "quartiles", "bound"), [found], f"{len(ratios)} slices each.")
    return 0 if median(ratios) <= BOUND else 1
