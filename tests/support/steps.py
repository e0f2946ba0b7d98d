"""How long the loop was held by one step of one task, in processor time, so that a busy machine changes nothing.

Owns an instrument of Trio. Deliberately judges nothing. Invariant: what is measured is this thread's alone.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio


@attrs.define(eq=False)
class Steps(trio.abc.Instrument):
    """The longest step so far and whose it was."""

    longest_s: float = 0.0
    whose: str = ""
    _began_s: float = attrs.field(factory=time.thread_time)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began_s = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took_s = time.thread_time() - self._began_s
        if took_s > self.longest_s:
            self.longest_s, self.whose = took_s, task.name


@contextmanager
def measured() -> Iterator[Steps]:
    """Measure every step of every task while the block runs."""
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        yield steps
    finally:
        trio.lowlevel.remove_instrument(steps)
