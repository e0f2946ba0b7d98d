"""Kubernetes at scale: hundreds of registrations created at once, and what happens to the data plane under them.

Owns the phases and their bounds. Deliberately one real API server, one real MCP server behind twenty routes, and both
programs under their own ServiceAccounts, all on this machine. Invariant: writes are counted by the API server's watch,
memory by the kernel.
"""

import time
from typing import Final

import trio

from bench.figures import table
from tests.support.kube.assets import missing
from tests.support.kube.crowd import Crowd, peak_mib
from tests.support.kube.small_cluster import until

BOUND: Final = 500
"""So many have to be Ready in time, and the controller has to stay small with them."""
COUNTS: Final = (BOUND, 2000)
CONVERGED_S: Final = 30.0
CONTROLLER_MIB: Final = 150.0
WRITES: Final = 2
PATIENCE_S: Final = 300.0
HEAD: Final = (
    *("registrations", "created in s", "Ready after s", "refused", "roll-out s", "conditions changed", "writes each"),
    *("well after a kill s", "writes each", "429", "controller MiB", "data plane MiB"),
)


async def main() -> int:
    """Print the table; 1: a bound was missed."""
    if (why := missing()) is not None:
        print(f"kube-scale: {why}")
        return 1
    rows = [await trio.to_thread.run_sync(_measure, count) for count in COUNTS]
    print(table(HEAD, [row for row, _ in rows]))
    missed = [one for _, found in rows for one in found]
    print("\n".join(missed) or "every bound holds")
    return int(bool(missed))


def _measure(count: int) -> tuple[list[object], list[str]]:
    """One row, and the bounds that it misses."""
    with Crowd() as crowd, crowd.running():
        began = time.monotonic()
        crowd.create(count)
        created_s = time.monotonic() - began
        ready_s = until(lambda: crowd.writes.ready + crowd.writes.refused == count, PATIENCE_S)
        refused = crowd.writes.refused
        rolled_s, changed, rolled = _rolled_out(crowd)
        killed_s, killed = _killed(crowd, count - refused)
        controller, data = peak_mib(crowd.controlling), peak_mib(crowd.data)
        busy = crowd.too_many()
        row: list[object] = [
            count,
            created_s,
            ready_s,
            refused,
            rolled_s,
            changed,
            rolled,
            killed_s,
            killed,
            busy,
            controller,
            data,
        ]
        bounds = {
            f"Ready within {CONVERGED_S:g} s": ready_s < CONVERGED_S or count > BOUND,
            f"controller below {CONTROLLER_MIB:g} MiB": controller < CONTROLLER_MIB or count > BOUND,
            "no condition changed by a roll-out": changed == 0,
            f"at most {WRITES} writes of each status": max(rolled, killed) <= WRITES,
            "no 429": busy == 0,
        }
        return row, [f"{count}: not {name}" for name, holds in bounds.items() if not holds]


def _rolled_out(crowd: Crowd) -> tuple[float, int, int]:
    """How long it took, how many registrations had another condition, and the most writes of one."""
    crowd.settled()
    crowd.writes.forget()
    began = time.monotonic()
    crowd.replaced("data-plane-2", PATIENCE_S)
    took_s = time.monotonic() - began
    crowd.settled()
    return took_s, len(crowd.writes.changed), crowd.writes.most


def _killed(crowd: Crowd, served: int) -> tuple[float, int]:
    """The same container again: until all is well, and the most writes of one."""
    crowd.settled()
    crowd.writes.forget()
    began = time.monotonic()
    crowd.data.process.kill()
    crowd.data.process.wait()
    crowd.data.again()
    crowd.all_ready(served, PATIENCE_S)
    took_s = time.monotonic() - began
    crowd.settled()
    return took_s, crowd.writes.most
