"""Numbers and tables.

Owns percentiles and Markdown. Deliberately pure. Invariant: a percentile is one of the measured values.
"""

import math
import statistics
from collections.abc import Sequence

median = statistics.median


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0..1) of all do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third."""
    return percentile(values, 0.25), percentile(values, 0.75)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers are right-aligned, floats get three digits that count."""
    cells = [[_shown(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(head), *cells]) for column in range(len(head))]
    rule = ["-" * (width - 1) + ":" if _numeric(rows, column) else "-" * width for column, width in enumerate(widths)]
    lines = [list(head), rule, *cells]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def _numeric(rows: Sequence[Sequence[object]], column: int) -> bool:
    return all(isinstance(row[column], int | float) for row in rows)


def _shown(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "-"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}" if abs(value) >= 0.001 else "0"
