"""Cancelling a piece of code at each of its awaits, one after the other."""

import types
from collections.abc import Callable, Coroutine, Generator

import trio


@types.coroutine
def _stepwise(
    code: Coroutine[object, object, None], step: int, act: Callable[[], object]
) -> Generator[object, object, None]:
    """Run ``code``; call ``act`` when it is about to sleep for the ``step``-th time."""
    slept = 0
    outcome: object = None
    while True:
        try:
            trap = code.send(outcome)
        except StopIteration:
            return
        slept += 1
        if slept == step:
            act()
        outcome = yield trap


async def cancelled_at(step: int, run: Callable[[], Coroutine[object, object, None]]) -> bool:
    """Run ``run`` in this task and cancel it when this task goes to sleep for the ``step``-th time (from 1).

    Returns: False when ``run`` was through before that.
    """
    with trio.CancelScope() as scope:
        await _stepwise(run(), step, lambda: scope.cancel("test"))
    return scope.cancel_called


async def done_at(step: int, run: Callable[[], Coroutine[object, object, None]], act: Callable[[], object]) -> bool:
    """Run ``run`` in this task to its end, and call ``act`` when it goes to sleep for the ``step``-th time.

    Returns: False when ``run`` was through before that.
    """
    acted = False

    def note() -> None:
        nonlocal acted
        acted = True
        act()

    await _stepwise(run(), step, note)
    return acted
