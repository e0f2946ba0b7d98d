"""What the benchmarks of one run have found, as Markdown on the screen and as Markdown and JSON in files.

Owns the tables in their order and what is said of the machine. Deliberately no measuring. Invariant: both files hold
the same cells; the JSON ones are not rounded.
"""

import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
import orjson

from bench.figures import table

OUT: Final = Path(__file__).parents[1] / ".out" / "bench"


@attrs.frozen(kw_only=True)
class Table:
    """One table with what is to be said of it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    notes: Sequence[str] = ()
    load_average: float = 0.0

    def markdown(self) -> str:
        said = "".join(f"\n{note}\n" for note in (*self.notes, f"Load average {self.load_average:.1f}."))
        return f"## {self.title}\n\n{table(self.head, self.rows)}\n{said}"


@attrs.define(eq=False, kw_only=True)
class Run:
    """One run of some benchmarks."""

    quick: bool = False
    """Few and short slices: to see that everything works, not to quote."""
    soak_s: float = 300.0
    versions: Mapping[str, str] = attrs.field(factory=dict)
    tables: list[Table] = attrs.field(factory=list)

    def pick(self, usual: float, quick: float) -> float:
        """A length in seconds or a number of times."""
        return quick if self.quick else usual

    def times(self, usual: int, quick: int) -> int:
        return quick if self.quick else usual

    def show(self, title: str, head: Sequence[str], rows: Sequence[Sequence[object]], *notes: str) -> None:
        """Print a table and remember it."""
        load_average = os.getloadavg()[0]
        self.tables.append(Table(title=title, head=head, rows=rows, notes=notes, load_average=load_average))
        print(self.tables[-1].markdown(), flush=True)

    def write(self, folder: Path = OUT) -> None:
        """Write all that was shown."""
        machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
        found = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "quick": self.quick,
            "machine": machine,
            "versions": dict(self.versions),
            "tables": [_plain(each) for each in self.tables],
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "benchmarks.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
        said = "\n".join(f"- {name}: {version}" for name, version in self.versions.items())
        pages = "\n\n".join(each.markdown() for each in self.tables)
        (folder / "benchmarks.md").write_text(f"{said}\n\n{pages}\n")


def _plain(shown: Table) -> dict[str, object]:
    """As JSON, in which there is no NaN."""
    rows = [[None if isinstance(cell, float) and math.isnan(cell) else cell for cell in row] for row in shown.rows]
    return {
        "title": shown.title,
        "load average": shown.load_average,
        "notes": list(shown.notes),
        "rows": [dict(_unlike(shown.head, row)) for row in rows],
    }


def _unlike(head: Sequence[str], row: Sequence[object]) -> list[tuple[str, object]]:
    """Cells with their names; those of one name are numbered."""
    names = [name if head.index(name) == place else f"{name} {place}" for place, name in enumerate(head)]
    return list(zip(names, row, strict=True))
