"""Places: how many may be inside at once, first come first served.

Owns a counter and a queue. Deliberately no deadline: the caller's scope is the
limit of the wait. Invariant: ``taken`` never exceeds ``limit`` (until it is closed), and who leaves the
queue early leaves no trace.

A counter with a FIFO costs 0.05 us when there is room, ``trio.CapacityLimiter`` 4-7 us.
"""

import attrs
import trio


@attrs.define(eq=False)
class _Waiter:
    event: trio.Event = attrs.field(factory=trio.Event)
    admitted: bool = False


@attrs.define(eq=False)
class Places:
    """A bounded number of places; the queue is bounded by the gateway's calls in flight."""

    limit: int
    taken: int = 0
    _queue: dict[_Waiter, None] = attrs.field(init=False, factory=dict)  # a dict: leaving from the middle is O(1)
    _closed: bool = attrs.field(init=False, default=False)

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._queue)

    def enter_now(self) -> bool:
        """Take a place if one is free and nobody waits."""
        if (self.taken >= self.limit or self._queue) and not self._closed:
            return False
        self.taken += 1
        return True

    def close(self) -> None:
        """Let all in at once from now on, whatever the limit: they find what they wait for closed."""
        self._closed = True
        while self._queue:
            self.taken += 1
            self.leave()

    async def enter(self) -> None:
        """Take a place, waiting for one in order of arrival. Pair with ``leave``."""
        if self.enter_now():
            return
        waiter = _Waiter()
        self._queue[waiter] = None
        entered = False
        try:
            await waiter.event.wait()
            entered = True
        finally:
            if not entered:
                if waiter.admitted:  # the place came in the same moment as the cancellation
                    self.leave()
                else:
                    del self._queue[waiter]

    def leave(self) -> None:
        """Give the place to the first in the queue, or back."""
        if self._queue:
            waiter = next(iter(self._queue))
            del self._queue[waiter]
            waiter.admitted = True
            waiter.event.set()
        else:
            self.taken -= 1
