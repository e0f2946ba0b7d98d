"""How soon a lost upstream session may be opened anew.

Owns the memory of sessions that were lost before they answered anything. Deliberately
opens nothing. Invariants: the first loss of a session that worked costs no pause; a
server that forgets each session at once is initialized every ``PAUSES.ceiling_s`` at most,
per session of a caller; the memory is bounded.
"""

import math
from typing import Final

import attrs
import trio

from mcp_gateway.backends.caller import SessionKey
from mcp_gateway.backends.health import Backoff
from mcp_gateway.backends.upstream import Jitter

PAUSES: Final = Backoff(first_s=0.5, ceiling_s=5.0)
MAX_KEYS: Final = 1000
"""Of more, the oldest are forgotten, and then opened without a pause once."""


@attrs.frozen
class _Loss:
    at: float
    in_row: int


@attrs.define(eq=False)
class Losses:
    """The losses of one backend's sessions, by whose they were."""

    _of: dict[SessionKey, _Loss] = attrs.field(factory=dict)

    def note(self, key: SessionKey, *, fruitful: bool) -> None:
        """A session is lost; ``fruitful``: it had answered something."""
        before = self._of.pop(key, None)
        if fruitful:
            return
        self._of[key] = _Loss(trio.current_time(), 1 + (before.in_row if before is not None else 0))
        if len(self._of) > MAX_KEYS:
            self.forget(next(iter(self._of)))

    def next_at(self, key: SessionKey, jitter: Jitter) -> float:
        """The earliest time for the next session."""
        loss = self._of.get(key)
        return -math.inf if loss is None else loss.at + jitter(PAUSES.delay_s(loss.in_row - 1))

    def forget(self, key: SessionKey) -> None:
        """The caller is gone."""
        self._of.pop(key, None)
