"""Long computations that can be taken in steps.

Owns how to take them all at once. Deliberately does not wait: who lets others run
between the steps does so itself. Pure. Invariant: the result is that of the steps
taken one by one.
"""

from collections.abc import Generator
from typing import TypeVar

_T = TypeVar("_T")


def at_once(steps: Generator[None, None, _T]) -> _T:
    """Take every step without a pause, and give the result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: _T = done.value
            return result
