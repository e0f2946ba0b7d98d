"""Long computations that let others run.

Owns how the steps of one are taken on the event loop. Deliberately computes
nothing, and knows no deadline: the caller's scope is one. Invariant: every step
has a checkpoint before it.
"""

from collections.abc import Generator
from typing import TypeVar

import trio

_T = TypeVar("_T")


async def in_turns(steps: Generator[None, None, _T]) -> _T:
    """Take every step, others running between them, and give the result (``routing.steps.at_once`` does not wait)."""
    while True:
        await trio.lowlevel.checkpoint()
        try:
            next(steps)
        except StopIteration as done:
            result: _T = done.value
            return result
