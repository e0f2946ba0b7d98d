"""The attempts to connect to one backend: the pauses between them, and those who wait for one.

Owns when the next attempt begins and how callers learn of its outcome. Deliberately connects
nothing (``supervisor`` does). Invariant: who waits hears of each attempt's end, and waits for no
attempt that is further off than its own ``timeouts.connect``.
"""

from typing import Final

import attrs
import trio

from mcp_gateway.backends.health import Backoff, HealthMachine
from mcp_gateway.backends.upstream import Jitter
from mcp_gateway.config.spec import ServerSpec, StdioTarget
from mcp_gateway.errors import BackendDown, BackendGone, Executed

EAGER: Final = Backoff(ceiling_s=2.0)
"""Between attempts at a server over HTTP that may be starting, or starting again (``HealthMachine.eager_until``)."""
HASTE_S: Final = 0.5
"""The least pause between two attempts, however many calls there are."""


@attrs.define(eq=False, kw_only=True)
class Attempts:
    """One after the other, for as long as the backend lives."""

    spec: ServerSpec
    machine: HealthMachine
    jitter: Jitter
    over: bool = False
    """There will be no other."""
    failed: int = 0
    retry_at: float | None = None
    """When the next attempt begins; None while one is running or the connection is up."""
    busy_s: float = 0.0
    """What the backend asked us to wait."""
    _pausing: trio.CancelScope | None = None
    """The pause between two attempts, where it may be shortened."""
    _hastened_to: float = 0.0
    """When it ends at the earliest."""
    _turn: trio.Event = attrs.field(factory=trio.Event)

    def turned(self) -> None:
        """Something is another now: let those who wait look."""
        turn, self._turn = self._turn, trio.Event()
        turn.set()

    def check_circuit(self) -> None:
        """Refuse what has no chance, and hasten the next attempt.

        Raises:
            BackendDown: the circuit is open.
        """
        if self.machine.open:
            self._hasten()
            hint_ms = None if self.retry_at is None else int(self._pause_left_s * 1000)
            raise BackendDown(backend=self.spec.key, why=self.machine.last_error, retry_after_ms=hint_ms)

    async def wait(self, failed_before: int) -> None:
        """Wait until something is another.

        Args:
            failed_before: ``failed`` when the waiting began.
        Raises:
            BackendGone: an attempt has failed meanwhile, or the next one is too far off.
        """
        pause_s = self._pause_left_s
        if self.over or self.failed > failed_before or pause_s > self.spec.timeouts.connect_s:
            raise BackendGone(
                backend=self.spec.key,
                executed=Executed.NO,
                retry_after_ms=int(pause_s * 1000) or None,
                why=self.machine.last_error or "not connected",
            )
        await self._turn.wait()

    async def pause(self) -> None:
        """An attempt or a connection has ended: sleep until the next one is due."""
        now_at, over_network = trio.current_time(), not isinstance(self.spec.target, StdioTarget)
        tries = self.machine.connection_ended(now_at)
        eager = over_network and now_at < self.machine.eager_until
        delay_s = self.jitter((EAGER if eager else Backoff()).delay_s(tries))
        self.retry_at = now_at + max(delay_s, self.busy_s)
        self.turned()
        if not self.over:
            with trio.CancelScope(deadline=self.retry_at) as pause:
                if over_network and not self.busy_s:  # neither a process nor who said when is hastened
                    self._pausing, self._hastened_to = pause, now_at + HASTE_S
                await trio.sleep_forever()
        self.busy_s, self._pausing, self.retry_at = 0.0, None, None

    @property
    def _pause_left_s(self) -> float:
        return 0.0 if self.retry_at is None else max(self.retry_at - trio.current_time(), 0.0)

    def _hasten(self) -> None:
        """A call met the open circuit: try again sooner than without callers."""
        if self._pausing is not None and self.retry_at is not None:
            self.retry_at = self._pausing.deadline = min(self.retry_at, self._hastened_to)
