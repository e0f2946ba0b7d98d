"""When a connected backend is asked next: for a sign of life, or for its lists.

Owns the clocks between two probes and two discoveries. Deliberately neither waits nor asks
(``supervisor`` does) and reads no clock: times are seconds of the caller's. Invariant: discoveries
that notices cause are ``REFRESH_GAP_S`` apart, probes that failures cause ``CHECK_GAP_S``.
"""

import math
from typing import Final

import attrs

from mcp_gateway.backends.discovery import Catalogue
from mcp_gateway.backends.health import Backoff
from mcp_gateway.backends.upstream import Jitter

REFRESH_GAP_S: Final = 1.0
"""The least time between two discoveries caused by notices: a storm costs one per second."""
MIN_TTL_S: Final = 1.0
"""A ``ttlMs`` below this polls no faster."""
CHECK_GAP_S: Final = 0.5
"""The least time between two probes that failed calls or lost streams cause."""
UNREAD_FIRST_S: Final = 1.0
"""The first pause before a list that could not be read is asked for again; it doubles up to ``health.interval``."""


@attrs.define(eq=False, kw_only=True)
class Schedule:
    """What one backend is to be asked, and when."""

    interval_s: float
    """Between two probes (``health.interval``)."""
    jitter: Jitter
    lists_wanted: bool = False
    """They may have changed."""
    probe_at: float = math.inf
    _discovered_at: float = -math.inf
    _probed_at: float = -math.inf
    _unread_in_row: int = 0
    """Discoveries one after the other that left a list unread."""
    _unread_pause_s: float = math.inf
    """How long after the last discovery what it left unread is asked for again."""

    def stale_at(self, served: Catalogue | None) -> float:
        """When the lists are to be read again, whatever the backend tells us until then."""
        if served is None:
            return math.inf
        fresh_s = math.inf if served.ttl_s is None else max(served.ttl_s, MIN_TTL_S)
        return self._discovered_at + min(fresh_s, self._unread_pause_s)

    def earliest_at(self, *, periodic: bool) -> float:
        """When what is wanted may be asked at the earliest; ``periodic``: nothing is, but the time has come."""
        if self.lists_wanted:
            return self._discovered_at + REFRESH_GAP_S
        return -math.inf if periodic else self._probed_at + CHECK_GAP_S

    def probing(self, now_at: float) -> None:
        """A probe begins."""
        self._probed_at = now_at

    def asked(self, now_at: float, pause_s: float | None = None) -> None:
        """It was asked: the next probe is due after ``pause_s``, or else ``interval_s``."""
        self.probe_at = now_at + (self.interval_s if pause_s is None else pause_s)

    def discovering(self, now_at: float) -> bool:
        """A discovery begins; whether because the lists were said to have changed."""
        noticed, self.lists_wanted = self.lists_wanted, False
        self._discovered_at = now_at
        return noticed

    def discovered(self, found: Catalogue, now_at: float) -> None:
        """It is over. A list that could not be read is asked for with growing pauses, the longer the more it costs."""
        took_s, self._discovered_at = now_at - self._discovered_at, now_at
        if not found.unread:
            self._unread_in_row, self._unread_pause_s = 0, math.inf
            return
        pauses = Backoff(first_s=max(UNREAD_FIRST_S, 3 * took_s), ceiling_s=self.interval_s)
        pause_s = self.jitter(pauses.delay_s(self._unread_in_row))
        self._unread_in_row += 1
        self._unread_pause_s = max(pause_s, found.retry_after_s, MIN_TTL_S)
