"""Whether one upstream session still stands, as far as its answers tell.

Owns the counting of signs (``session_sign``), the moment at which the session has to be
asked, and the pause between two askings. Deliberately asks nothing (``upstream_sessions``).
Invariant: who waits for the outcome is let go when it is known, or nobody asks any more.
"""

import math
from typing import Final

import attrs
import trio

from mcp_gateway.backends.transports.session_sign import Sign

ROW: Final = 3
"""So many requests in a row that failed at the HTTP level are as suspicious as one that says so."""


@attrs.define(eq=False)
class Doubts:
    """The doubts about one session."""

    answered: bool = False
    """It has answered something since it was initialized."""
    proven_at: float = attrs.field(factory=trio.current_time)
    """When it last answered, or was initialized."""
    failed: int = 0
    """Requests, in a row."""
    open: bool = False
    """Whether the session should not be used before ``settled``."""
    _next_use: bool = False
    _quiet_until: float = -math.inf
    _raised: trio.Event = attrs.field(factory=trio.Event)
    _outcome: trio.Event | None = None
    """Of the asking that begins now or has begun; None: nothing is about to be found out."""

    def note(self, sign: Sign) -> None:
        """One more answer has come."""
        if sign is Sign.ANSWERED:
            self.answered, self.failed, self.proven_at = True, 0, trio.current_time()
            return
        self.failed += sign is Sign.FAILED
        if sign is Sign.SUSPICIOUS or self.failed >= ROW:
            self._raise()

    def suspect(self, since: float, *, at_once: bool) -> None:
        """Another session of the server was lost: ask this one, too, unless it has answered ``since``.

        ``at_once``: else before its next use.
        """
        if self.proven_at < since:
            self._next_use = self.open = True
            if at_once:
                self._raise()

    async def settled(self) -> None:
        """Wait while it is being found out whether the session stands."""
        if self._next_use:
            self._raise()
        while self._outcome is not None:
            await self._outcome.wait()

    async def due(self) -> None:
        """Wait until the session has to be asked. To be followed by ``settle``."""
        await self._raised.wait()
        await trio.sleep_until(self._quiet_until)

    def settle(self, pause_s: float) -> None:
        """It stands or was replaced, or nobody asks any more; it is asked again after ``pause_s`` at the earliest."""
        self.failed, self._next_use = 0, False
        self._quiet_until = trio.current_time() + pause_s
        self._raised = trio.Event()
        self.open, outcome, self._outcome = False, self._outcome, None
        if outcome is not None:
            outcome.set()

    def _raise(self) -> None:
        self._next_use = False
        self._raised.set()
        if self._outcome is None and trio.current_time() >= self._quiet_until:
            self._outcome = trio.Event()
        self.open = self._outcome is not None
