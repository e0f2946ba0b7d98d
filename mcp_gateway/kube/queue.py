"""Which objects have to be looked at, when, and how often after failures.

Owns the order of work. Deliberately waits for nothing and knows no objects. Pure.
Invariants: an item is worked on by one worker at a time; what is asked for while it is
worked on is done once more afterwards, however often it was asked; failures of one item
delay no other.
"""

import math
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

import attrs

T = TypeVar("T", bound=Hashable)

FIRST_S: Final = 0.2
CEILING_S: Final = 60.0


@attrs.frozen(order=True)
class _Due:
    at: float
    priority: int


@attrs.define
class WorkQueue(Generic[T]):
    """Items with a time and a priority; smaller priorities come first among those that are due."""

    _due: dict[T, _Due] = attrs.field(factory=dict)
    _running: set[T] = attrs.field(factory=set)
    _again: dict[T, _Due] = attrs.field(factory=dict)
    _failures: dict[T, int] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._due) + len(self._running)

    def add(self, item: T, at: float, priority: int = 0) -> None:
        """Have it worked on at ``at`` or earlier; of several wishes the earliest counts, and the best priority.

        One that has failed waits for its time.
        """
        waiting = self._again if item in self._running else self._due
        known = waiting.get(item)
        if known is not None and item in self._failures:
            at = max(at, known.at)
        elif known is not None:
            at, priority = min(at, known.at), min(priority, known.priority)
        waiting[item] = _Due(at, priority)

    def take(self, now_at: float) -> T | None:
        """The next item that is due, now worked on by the caller, who calls ``done``; None: there is none."""
        due = [(one.priority, one.at, place) for place, one in enumerate(self._due.values()) if one.at <= now_at]
        if not due:
            return None
        *_, place = min(due)
        item = list(self._due)[place]
        del self._due[item]
        self._running.add(item)
        return item

    def done(self, item: T, now_at: float) -> None:
        """It was worked on with success."""
        self._failures.pop(item, None)
        self._end(item)

    def failed(self, item: T, now_at: float, at_least_s: float = 0.0) -> float:
        """It was not: again after a pause that grows with each failure in a row. Returns the pause."""
        failures = self._failures[item] = self._failures.get(item, 0) + 1
        pause_s = max(min(FIRST_S * 2.0 ** min(failures - 1, 32), CEILING_S), at_least_s)
        self._end(item)
        priority = self._due[item].priority if item in self._due else 0
        self._due[item] = _Due(now_at + pause_s, priority)
        return pause_s

    def next_at(self) -> float:
        """When the next item is due; infinite: none."""
        return min((one.at for one in self._due.values()), default=math.inf)

    def clear(self) -> None:
        """Forget everything that waits."""
        self._due.clear()
        self._again.clear()
        self._failures.clear()

    def _end(self, item: T) -> None:
        self._running.discard(item)
        again = self._again.pop(item, None)
        if again is not None:
            self._due[item] = again


@attrs.define(kw_only=True)
class Bucket:
    """At most ``burst`` at once, and ``per_s`` a second on average."""

    burst: float
    per_s: float
    _tokens: float = attrs.field(init=False)
    _at: float = attrs.field(init=False, default=-math.inf)

    def __attrs_post_init__(self) -> None:
        self._tokens = self.burst

    def take(self, now_at: float) -> float:
        """Take one; returns how long to wait before it may be used. Whoever waits has it for certain."""
        if now_at > self._at:
            gained = self.burst if self._at == -math.inf else (now_at - self._at) * self.per_s
            self._tokens = min(self.burst, self._tokens + gained)
            self._at = now_at
        self._tokens -= 1.0
        return max(-self._tokens / self.per_s, 0.0)

    def take_now(self, now_at: float) -> bool:
        """Take one if there is one."""
        if self.take(now_at) <= 0.0:
            return True
        self.give_back()
        return False

    def give_back(self) -> None:
        """One that was taken was not needed."""
        self._tokens += 1.0
