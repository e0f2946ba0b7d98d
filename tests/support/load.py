"""How busy the machine is, and clocks that allow for it.

Owns one number, how many times longer than alone a task takes that wants a processor, and the clock of tests on real
time. Deliberately read anew all the time: load comes and goes while tests run. Invariant: on an idle machine nothing is
stretched.
"""

import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import trio

T = TypeVar("T")

LOADAVG: Final = Path("/proc/loadavg")
MOST: Final = 10.0
"""Beyond it a test takes too long to tell anything."""
LOOK_S: Final = 0.25
"""Between two looks at the machine."""


def factor() -> float:
    """Tasks that want a processor, for each processor there is; at least 1.

    The kernel's average of the last minute comes late, so what is runnable now counts as well.
    """
    wanted = os.getloadavg()[0]
    with contextlib.suppress(OSError, ValueError, IndexError):  # not Linux
        wanted = max(wanted, float(LOADAVG.read_text().split()[3].partition("/")[0]))
    return min(max(wanted / (os.cpu_count() or 1), 1.0), MOST)


def stretched(seconds: float) -> float:
    """A bound for something that takes processor time, as it is fair on this machine now."""
    return seconds * factor()


@attrs.define(eq=False)
class StretchedClock(trio.abc.Clock):
    """Trio's usual clock, but slower by as much as the machine is busy.

    What runs in the test's own process keeps its proportions, its deadlines included: if everything takes eight times
    as long, two seconds are sixteen. Other processes do not know of it: see ``keep_real_time``.
    """

    real: bool = False
    """From now on it goes as every other."""
    _time: float = 0.0
    _at: float = 0.0
    _rate: float = 1.0

    def start_clock(self) -> None:
        """See ``trio.abc.Clock``."""
        self._time = self._at = time.perf_counter()
        self._rate = 1.0 / factor()

    def current_time(self) -> float:
        """See ``trio.abc.Clock``."""
        now = time.perf_counter()
        found = self._time + (now - self._at) * self._rate
        if now - self._at > LOOK_S:
            self._time, self._at, self._rate = found, now, 1.0 if self.real else 1.0 / factor()
        return found

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """See ``trio.abc.Clock``. Shorter than it may be, where the machine may be less busy before long."""
        left = deadline - self.current_time()
        if left <= 0:
            return 0
        return left if self._rate == 1.0 or left == float("inf") else min(left / self._rate, LOOK_S)


def keep_real_time() -> None:
    """Another process and this test now keep time with each other (a gateway's deadlines, a proxy's), which is real.

    What is bounded from here on is bounded by ``stretched`` where it takes processor time.
    """
    clock = trio.lowlevel.current_clock()
    if isinstance(clock, StretchedClock):
        clock.real = True


def run(main: Callable[..., Awaitable[T]], *args: object, clock: trio.abc.Clock | None = None, **more: Any) -> T:  # noqa: ANN401  # trio.run's own
    """``trio.run`` with the stretched clock, unless the test has chosen one."""
    return trio.run(main, *args, clock=StretchedClock() if clock is None else clock, **more)
