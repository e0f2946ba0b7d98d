"""``python -m bench NAME... [--quick]``: run benchmarks one after the other; without names, say which there are.

Exit status: 0, or 1 when one of them missed its bound or was answered wrongly, or 2 for a wrong name.
"""

import argparse
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from bench import (
    calls,
    cancel,
    codec,
    exchange,
    fan_out,
    guard,
    isolation,
    kube_converge,
    kube_scale,
    life,
    sessions,
    storm,
)
from bench.page import OUT, Run
from bench.rivals import rivals, versions
from tests.support import guardian

BENCHES: Final[dict[str, Callable[[Run], Awaitable[int]]]] = {
    "guard": guard.main,
    "calls": calls.calls,
    "rate": calls.rate,
    "payloads": calls.payloads,
    "lists": calls.lists,
    "sessions": sessions.setting_up,
    "idle": sessions.idle,
    "fan-out": fan_out.main,
    "storm": storm.main,
    "cancel": cancel.main,
    "isolation": isolation.main,
    "start": life.start,
    "reload": life.reload,
    "drain": life.drain,
    "soak": life.soak,
    "codec": codec.main,
    "exchange": exchange.main,
    "kube-converge": kube_converge.main,
    "kube-scale": kube_scale.main,
}
OF_ALL: Final = [name for name in BENCHES if not name.startswith("kube-")]
"""The others need an API server and ten minutes."""


def main(words: list[str]) -> int:
    """Run the named benchmarks; the worst of their exit statuses."""
    parser = argparse.ArgumentParser(prog="bench", usage="bench NAME... [--quick] [--soak-s S] [--out FOLDER]")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="few and short slices: to see that everything works")
    parser.add_argument("--soak-s", type=float, default=300.0, help="length of the soak test (default 300)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of benchmarks.md and benchmarks.json")
    options = parser.parse_args(words)
    if not options.names:
        for name, bench in BENCHES.items():
            print(f"{name:14} {_first_line(bench)}")
        print(f"{'all':14} all of these but kube-*; --quick: in a few minutes")
        return 0
    names = OF_ALL if options.names == ["all"] else options.names
    if unknown := [name for name in names if name not in BENCHES]:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    guardian.begin()  # whoever kills a benchmark kills what it has started
    run = Run(quick=options.quick, soak_s=20.0 if options.quick else options.soak_s)
    return trio.run(_run, run, names, options.out)


async def _run(run: Run, names: list[str], out: Path) -> int:
    run.versions = await versions()
    for rival in rivals():
        if rival.missing:
            print(f"without {rival.name}: {rival.missing}")
    worst = 0
    for name in names:
        try:
            worst = max(worst, await BENCHES[name](run))
        finally:
            run.write(out)
    return worst


def _first_line(bench: Callable[[Run], Awaitable[int]]) -> str:
    return (bench.__doc__ or "").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
