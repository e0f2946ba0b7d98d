"""Several sides measured in turn, slice by slice, so that what else the machine does falls on all of them alike.

Owns the order of the slices and what is made of them: medians, and ratios to nginx of the same round. Deliberately
knows no protocol. Invariant: a side that answers wrongly has no figures, only the reason; ours raises it.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

import attrs
import trio

from bench.figures import median, percentile, quartiles
from bench.load import Ask, Load, Loaded
from bench.processes import Served

BASE: Final = "nginx"
HEAD: Final = ("CPU ms", "x nginx", "quartiles", "calls/s", "p50 ms", "p99 ms")


@attrs.frozen(kw_only=True)
class Slice:
    """One slice of one side."""

    cpu_ms: float
    """Per call, of all processes of the side."""
    rate: float
    p50_ms: float
    p99_ms: float


@attrs.define(eq=False, kw_only=True)
class Side:
    """One that is measured: who, where, and with which requests."""

    name: str
    served: Served
    asks: Sequence[Ask]
    base: "Side | None" = None
    """nginx with the same client's era."""
    ours: bool = False
    slices: list[Slice] = attrs.field(factory=list)
    wrong: str = ""

    def cells(self) -> tuple[object, ...]:
        """The figures of all rounds, as ``HEAD`` names them."""
        if self.wrong or not self.slices:
            return (math.nan, math.nan, "-", math.nan, math.nan, math.nan)
        ratios = self.ratios()
        low, high = quartiles(ratios) if ratios else (math.nan, math.nan)
        return (
            median([each.cpu_ms for each in self.slices]) if self.served.pid else math.nan,
            median(ratios) if ratios else math.nan,
            f"{low:.1f}-{high:.1f}" if ratios else "-",
            median([each.rate for each in self.slices]),
            median([each.p50_ms for each in self.slices]),
            median([each.p99_ms for each in self.slices]),
        )

    def ratios(self) -> list[float]:
        """CPU per call over nginx's of the same round."""
        if self.base is None or not self.served.pid or self.wrong or self.base.wrong:
            return []
        return [mine.cpu_ms / its.cpu_ms for mine, its in zip(self.slices, self.base.slices, strict=True)]


async def interleaved(
    sides: Sequence[Side], *, rounds: int, seconds: float, connections: int, rate: float = 0.0
) -> None:
    """Measure every side once per round, in an order that turns round each time; the first round only warms up."""
    loads = [Load.of(side.served.host, side.asks, connections) for side in sides]
    try:
        for number in range(rounds + 1):
            pairs = list(zip(sides, loads, strict=True))
            for side, load in pairs if number % 2 else reversed(pairs):
                if side.wrong:
                    continue
                before_s = side.served.cpu_s()
                found = await trio.to_thread.run_sync(partial(load.run, seconds, rate=rate))
                if found.wrong or not found.lags_ms:
                    side.wrong = next(iter(found.wrong), "no answer")
                    if side.ours:
                        raise RuntimeError(f"{len(found.wrong)} wrong answers, the first: {side.wrong}")
                elif number:
                    side.slices.append(_slice(found, side.served.cpu_s() - before_s))
    finally:
        for load in loads:
            load.close()


def _slice(found: Loaded, cpu_s: float) -> Slice:
    return Slice(
        cpu_ms=cpu_s / len(found.lags_ms) * 1000,
        rate=found.rate,
        p50_ms=percentile(found.lags_ms, 0.5),
        p99_ms=percentile(found.lags_ms, 0.99),
    )


def complaints(sides: Sequence[Side]) -> list[str]:
    """Why some have no figures."""
    return [f"{side.name}: {side.wrong}" for side in sides if side.wrong]
