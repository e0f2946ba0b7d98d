"""``python -m bench [NAME...]``: run benchmarks one after the other; without names, all.

Exit status: 0, or 1 when one of them missed its bound, or 2 for a wrong name.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from bench import calls, cancel, codec, exchange, isolation, kube_converge, kube_scale
from tests.support import guardian

BENCHES: Final[dict[str, Callable[[], Awaitable[int]]]] = {
    "cancel": cancel.main,
    "isolation": isolation.main,
    "calls": calls.main,
    "codec": codec.main,
    "exchange": exchange.main,
    "kube-converge": kube_converge.main,
    "kube-scale": kube_scale.main,
}


def main(names: list[str]) -> int:
    """Run the named benchmarks; the worst of their exit statuses."""
    if unknown := [name for name in names if name not in BENCHES]:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    guardian.begin()  # whoever kills a benchmark kills what it has started
    return max(trio.run(BENCHES[name]) for name in names or BENCHES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
