"""Tombstones in this process's memory.

Owns at most ``MAX_TOMBSTONES`` of them, the oldest forgotten first. A restart
forgets all: an id that a client ended then is good again until it is too old.
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
        self._tombstones[key] = until_unix_s
        while len(self._tombstones) > MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)

    async def ended(self, key: str) -> bool:
        return key in self._tombstones
