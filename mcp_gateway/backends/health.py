"""The health of one backend, as a machine without a clock.

Owns what counts as a failure, when the circuit opens and closes, when a last
good list dies, and how long to pause between attempts. Deliberately does not
wait, log or throw dice: times come in as seconds of the caller's clock, jitter
is the caller's. Invariant: the circuit is open exactly from the ``failures``-th
failure in a row until the next success of a probe or a discovery.
"""

from typing import Final

import attrs

from mcp_gateway.errors import FaultKind
from mcp_gateway.routing.snapshot import Condition, Failure, Health

HEALTHY_AFTER_S: Final = 30.0
"""So long READY, and the next failure starts with the first pause again (docs/architecture.md)."""
EAGER_S: Final = 300.0
"""So long after it was first configured, or lost while READY, a backend that may be starting is asked often."""


@attrs.frozen(kw_only=True)
class Backoff:
    """Pauses between attempts: doubling, with a ceiling."""

    first_s: float = 0.5
    ceiling_s: float = 30.0

    def delay_s(self, tries: int) -> float:
        """The pause after ``tries`` earlier attempts failed in a row, before jitter."""
        return min(self.first_s * 2.0 ** min(tries, 32), self.ceiling_s)  # 2.0**1024 overflows


def _eager_at_first(machine: "HealthMachine") -> float:
    return machine.since_at + EAGER_S


@attrs.define(kw_only=True)
class HealthMachine:
    """What is known of one backend's health; driven by the supervisor and by calls."""

    failures_to_open: int
    grace_when_down_s: float
    since_at: float
    """When ``health`` last became a different one."""
    failures: int = 0
    """In a row."""
    tries: int = 0
    """Attempts to connect that failed or did not last; counts for the pauses only."""
    eager_until: float = attrs.field(init=False, default=attrs.Factory(_eager_at_first, takes_self=True))
    """Until then it may well be about to start."""
    open: bool = False
    listed: bool = False
    """A last good list is held."""
    down_at: float | None = None
    ready_at: float | None = None
    last_failure: Failure | None = None
    _health: Health = Health.CONNECTING

    @property
    def health(self) -> Health:
        """The state as served to the world."""
        return self._health

    @property
    def condition(self) -> Condition:
        """All of it that others may know."""
        return Condition(
            health=self._health,
            since_at=self.since_at,
            failures=self.failures,
            circuit_open=self.open,
            last_failure=self.last_failure,
        )

    @property
    def last_error(self) -> str:
        """What went wrong last; empty: nothing has."""
        return "" if self.last_failure is None else self.last_failure.message

    @property
    def last_error_at(self) -> float | None:
        """When that was."""
        return None if self.last_failure is None else self.last_failure.at

    @property
    def list_expires_at(self) -> float | None:
        """When the last good list dies; None while it is safe or already gone."""
        if self.down_at is None or not self.listed:
            return None
        return self.down_at + self.grace_when_down_s

    def discovered(self, now_at: float) -> None:
        """A complete discovery succeeded: the list is fresh, the circuit closes."""
        self.listed = True
        self._succeed(now_at)

    def probed(self, now_at: float) -> None:
        """A probe was answered in time: the circuit closes."""
        self._succeed(now_at)

    def answered(self, now_at: float) -> None:
        """A call was answered: a row of failures ends, but only a probe closes an open circuit."""
        if not self.open and self.listed:
            self._succeed(now_at)

    def failed(self, now_at: float, why: str, kind: FaultKind = FaultKind.CONNECTION) -> bool:
        """Count a connection error, a process exit, or a failed or late probe.

        Never to be called for a call's deadline, a cancel, an HTTP 4xx or a tool error.

        Returns:
            True if this failure opened the circuit.
        """
        self.failures += 1
        self.last_failure = Failure(kind=kind, message=why, at=now_at)
        opens = not self.open and self.failures >= self.failures_to_open
        if opens:
            self.open = True
            self.down_at = now_at
        self._settle(now_at)
        return opens

    def connection_ended(self, now_at: float) -> int:
        """An attempt or a connection ended; return how many did so before it, for ``Backoff.delay_s``."""
        if self.ready_at is not None and now_at - self.ready_at >= HEALTHY_AFTER_S:
            self.tries, self.eager_until = 0, now_at + EAGER_S
        self.ready_at = None
        tries, self.tries = self.tries, self.tries + 1
        return tries

    def expire(self, now_at: float) -> bool:
        """Let the last good list go if its grace is over; True if it went now."""
        expires_at = self.list_expires_at
        if expires_at is None or now_at < expires_at:
            return False
        self.listed = False
        return True

    def _succeed(self, now_at: float) -> None:
        self.failures = 0
        self.open = False
        self.down_at = None
        if self.ready_at is None:
            self.ready_at = now_at
        self._settle(now_at)

    def _settle(self, now_at: float) -> None:
        health = self._judge()
        if health is not self._health:
            self._health = health
            self.since_at = now_at

    def _judge(self) -> Health:
        if self.open:
            return Health.DOWN
        if not self.listed:
            return Health.CONNECTING
        return Health.DEGRADED if self.failures else Health.READY
