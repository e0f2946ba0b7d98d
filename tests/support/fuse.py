"""The fuse of each test: it scales with load, and a test that it ends takes its processes along.

Owns the alarm that pytest-timeout sets. ``timeout`` (20 s, or a test's own mark) is what an idle machine needs at most;
when it is over, the machine is looked at, and a busy one is given so many times more (``load.factor``). Then every
process that the test has started is killed, with its children, before the test fails: an exception out of a signal
handler may leave Trio before any ``finally`` has run. Invariant: what ran before the test is left alone.
"""

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from types import FrameType
from typing import Final

import attrs
import pytest
import pytest_timeout  # type: ignore[import-untyped]  # it has no annotations

from tests.support import load
from tests.support.leftovers import Process, processes

LOOK_AGAIN_S: Final = 1.0
"""The shortest time until the machine is looked at again."""
GRAIN_S: Final = 0.02
"""The kernel notes when processes began in steps of 10 ms."""


@attrs.define(kw_only=True)
class Fuse:
    """The alarm of one test."""

    item: pytest.Item
    settings: pytest_timeout.Settings
    began: float = attrs.field(factory=lambda: time.clock_gettime(time.CLOCK_BOOTTIME))

    def ring(self, signum: int, frame: FrameType | None) -> None:
        """The time of an idle machine is over."""
        __tracebackhide__ = True
        lasted = time.clock_gettime(time.CLOCK_BOOTTIME) - self.began
        left = load.stretched(self.settings.timeout) - lasted
        if left > 0:
            signal.setitimer(signal.ITIMER_REAL, max(left, LOOK_AGAIN_S))
            return
        end_what_began_since(self.began)
        pytest_timeout.timeout_sigalrm(self.item, self.settings._replace(timeout=round(lasted, 1)))


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> bool | None:
    """Instead of pytest-timeout's own alarm, where that is a signal."""
    if settings.method != "signal":
        return None
    signal.signal(signal.SIGALRM, Fuse(item=item, settings=settings).ring)

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    item.cancel_timeout = cancel  # type: ignore[attr-defined]  # where pytest-timeout looks for it
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    return True


def end_what_began_since(when_s: float) -> None:
    """Kill every process that descends from this one and began later."""
    known = {process.pid: process for process in processes()}
    for process in known.values():
        if process.started_s >= when_s - GRAIN_S and descends(process.parent, known):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def descends(parent: int, known: Mapping[int, Process]) -> bool:
    """Whether a process with this parent comes from this one."""
    while parent != os.getpid():
        if parent not in known:
            return False
        parent = known[parent].parent
    return True
