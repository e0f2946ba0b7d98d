"""Tombstones in this process's memory.

Owns at most ``MAX_TOMBSTONES`` of them, the oldest forgotten first. Deliberately
survives no restart: an id that a client ended then is good again until it is too
old. Invariant: the memory it takes is bounded.
"""

from collections import OrderedDict
from typing import Final

import attrs

MAX_TOMBSTONES: Final = 10_000


@attrs.define(eq=False)
class MemoryStore:
    """A ``SessionStore`` for one process."""

    _tombstones: OrderedDict[str, float] = attrs.field(factory=OrderedDict)

    async def end(self, key: str, until_unix_s: float) -> None:
        """See ``base.SessionStore``."""
        self._tombstones[key] = until_unix_s
        while len(self._tombstones) > MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)

    async def ended(self, key: str) -> bool:
        """See ``base.SessionStore``."""
        return key in self._tombstones
