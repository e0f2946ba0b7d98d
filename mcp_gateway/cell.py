"""A cell: the latest value of something, and a way to wait for the next one.

Owns one value and its version. Deliberately keeps no history and calls nobody
back: whoever is late sees the last value only ("latest wins").
Invariant: ``version`` grows by one exactly when the value becomes a different one.
"""

from typing import Generic, TypeVar

import attrs
import trio

T = TypeVar("T")


@attrs.define(eq=False)
class Cell(Generic[T]):
    """The latest ``T``; many readers, any number of writers in one Trio run."""

    value: T
    version: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event, repr=False)

    def set(self, value: T) -> None:
        """Replace the value; an equal value is no change and wakes nobody."""
        if value == self.value:
            return
        self.value = value
        self.version += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def changed(self, since: int) -> tuple[int, T]:
        """Wait until the version differs from ``since``; return the version and value then in force."""
        while self.version == since:
            await self._changed.wait()
        return self.version, self.value
