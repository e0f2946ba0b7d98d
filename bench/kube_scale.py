"""Kubernetes at scale: hundreds of registrations created at once, and what happens to the data plane under them.

Owns the phases and their bounds. Deliberately one real API server, one real MCP server behind twenty routes, and both
programs under their own ServiceAccounts, all on this machine. Invariant: writes are counted by the API server's watch,
memory by the kernel.
"""

import math
import time
from typing import Final

import trio

from bench.page import Run
from tests.support.kube.assets import missing
from tests.support.kube.crowd import Crowd, peak_mib
from tests.support.kube.small_cluster import until

MANY: Final = 500
"""With so many, everything is shown."""
MOST: Final = 2000
"""So many fit, or are refused by name."""
CONVERGED_S: Final = 30.0
CONTROLLER_MIB: Final = 150.0
WRITES: Final = 2
PATIENCE_S: Final = 300.0
HEAD: Final = (
    *("registrations", "created in s", "loaded after s", "Ready after s", "refused", "429"),
    *("controller MiB", "data plane MiB", "config KiB"),
)
RESTARTS: Final = ("under 500", "took s", "conditions changed", "writes each, at most")


async def main(run: Run) -> int:
    """500 and 2,000 registrations created at once, a roll-out and a killed data plane under them (an API server)."""
    if (why := missing()) is not None:
        print(f"kube-scale: {why}")
        return 1
    many, restarts, missed = await trio.to_thread.run_sync(_many)
    most, more = await trio.to_thread.run_sync(_most)
    run.show("Kubernetes at scale", HEAD, [many, most])
    run.show("Restarts under 500 registrations", RESTARTS, restarts, *(missed + more or ["Every bound holds."]))
    return int(bool(missed or more))


def _many() -> tuple[list[object], list[list[object]], list[str]]:
    """The row of 500, those of what happens to the data plane under them, and the bounds that were missed."""
    with Crowd() as crowd, crowd.running():
        row, ready_s = _created(crowd, MANY, ready=True)
        rolled_s, changed, rolled = _rolled_out(crowd)
        killed_s, by_kill, killed = _killed(crowd)
        small, busy = peak_mib(crowd.controlling), crowd.too_many()
    restarts: list[list[object]] = [["a roll-out", rolled_s, changed, rolled], ["a kill", killed_s, by_kill, killed]]
    bounds = {
        f"Ready within {CONVERGED_S:g} s": ready_s < CONVERGED_S,
        f"controller below {CONTROLLER_MIB:g} MiB": small < CONTROLLER_MIB,
        "no condition changed by a roll-out": changed == 0,
        f"at most {WRITES} writes of each status": max(rolled, killed) <= WRITES,
        "no 429": busy == 0,
    }
    return row, restarts, [f"missed: {name}" for name, holds in bounds.items() if not holds]


def _most() -> tuple[list[object], list[str]]:
    """The row of 2,000, whose one server is no match for them: what is ours ends when they are loaded."""
    with Crowd() as crowd, crowd.running():
        row, _ = _created(crowd, MOST, ready=False)
        busy = crowd.too_many()
    return row, ["missed: no 429"] if busy else []


def _created(crowd: Crowd, count: int, *, ready: bool) -> tuple[list[object], float]:
    """A row, and how long it took until all were Ready, or until all were loaded or refused."""
    began = time.monotonic()
    crowd.create(count)
    created_s = time.monotonic() - began
    loaded_s = until(lambda: crowd.writes.loaded + crowd.writes.refused == count, PATIENCE_S)
    ready_s = loaded_s + crowd.all_ready(count, PATIENCE_S) if ready else math.nan
    sizes = peak_mib(crowd.controlling), peak_mib(crowd.data), crowd.config_bytes() / 1024
    return [count, created_s, loaded_s, ready_s, crowd.writes.refused, crowd.too_many(), *sizes], ready_s


def _rolled_out(crowd: Crowd) -> tuple[float, int, int]:
    """How long it took, how many registrations had another condition, and the most writes of one of them."""
    crowd.settled()
    crowd.writes.forget()
    began = time.monotonic()
    crowd.replaced("data-plane-2", PATIENCE_S)
    took_s = time.monotonic() - began
    crowd.settled()
    return took_s, len(crowd.writes.changed), crowd.writes.most


def _killed(crowd: Crowd) -> tuple[float, int, int]:
    """The same of a container that is killed and begins again."""
    crowd.settled()
    crowd.writes.forget()
    began, before = time.monotonic(), crowd.started("data-plane-2")
    crowd.data.process.kill()
    crowd.data.process.wait()
    crowd.data.again()
    until(lambda: crowd.started("data-plane-2") != before and crowd.complete("data-plane-2"), PATIENCE_S)
    took_s = time.monotonic() - began
    crowd.settled()
    return took_s, len(crowd.writes.changed), crowd.writes.most
