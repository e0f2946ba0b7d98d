"""The one absolute deadline of a call, and what a call can die of.

Owns which limit applies when, and the causes. Deliberately sends nothing to anybody:
leaving the call's scope does (``Link.exchange``). Invariant: it changes nothing of a
scope but its deadline, and that only between ``start`` and the end of the call.

Spec: docs/architecture.md, "Deadlines".
"""

from enum import Enum
from typing import Final

import attrs
import trio

from mcp_gateway.config.spec import Timeouts
from mcp_gateway.errors import BackendRemoved, BackendTimeout, CallCancelled, Draining, Executed, GatewayError, Limit
from mcp_gateway.values import BackendKey

SOON_S: Final = 0.05
"""Progress that follows other progress so closely moves no deadline: a call's end may come that much early."""


class Cause(Enum):
    """Why a call was cancelled; the value is what backends are told."""

    MESSAGE = "cancelled by the client"
    DISCONNECT = "client disconnected"
    DRAIN = "gateway is shutting down"
    REMOVED = "backend removed"
    SESSION = "session ended"


@attrs.define(eq=False)
class Deadline:
    """``call`` runs while the backend works and starts anew with each progress notification; it stands still while
    the call waits for its own client, when ``input`` runs instead; ``max`` is absolute.
    """

    timeouts: Timeouts
    scope: trio.CancelScope | None = None
    """Whose deadline it moves; None before ``start``, and once nothing is to be moved any more."""
    started_at: float = attrs.field(factory=trio.current_time)
    stage: Limit = Limit.CONNECT
    """How far the call has got: its link is being opened, it waits for a place, or it is on its way."""
    queued_s: float | None = None
    """How long it waited for its place; None while it has none."""
    _queued_at: float | None = None
    _waiting: int = 0
    _call_left_s: float = 0.0
    _call_at: float = 0.0
    _input_at: float = 0.0

    def start(self, scope: trio.CancelScope) -> None:
        """Begin to count, in a scope that was entered."""
        self.scope = scope
        self._call_at = self.started_at + self.timeouts.call_s
        self._apply()

    def queue(self) -> None:
        """The link is there, but no place is free."""
        self.stage = Limit.QUEUE
        self._queued_at = trio.current_time()

    def begin(self) -> None:
        """The call has its place and goes out now."""
        self.stage = Limit.CALL
        if self.queued_s is None:
            self.queued_s = 0.0 if self._queued_at is None else trio.current_time() - self._queued_at

    @property
    def sent(self) -> bool:
        """Whether the backend may have seen the call."""
        return self.stage is Limit.CALL

    def progress(self) -> None:
        """The backend showed that it works: the call deadline starts anew."""
        if not self._waiting:
            self._call_at = trio.current_time() + self.timeouts.call_s
            if self.scope is not None and self._call_at - self.scope.deadline > SOON_S:
                self._apply()

    def pause(self) -> None:
        """The call now waits for its client; counts, so several may be asked at once."""
        now = trio.current_time()
        if not self._waiting:
            self._call_left_s = self._call_at - now
        self._waiting += 1
        self._input_at = now + self.timeouts.input_s
        self._apply()

    def resume(self) -> None:
        """One question to the client is answered (or given up)."""
        if not self._waiting:
            return
        self._waiting -= 1
        if not self._waiting:
            self._call_at = trio.current_time() + self._call_left_s
        self._apply()

    @property
    def _max_at(self) -> float:
        return self.started_at + self.timeouts.max_s

    def _apply(self) -> None:
        if self.scope is not None:
            self.scope.deadline = min(self._input_at if self._waiting else self._call_at, self._max_at)

    def fired(self) -> tuple[Limit, float]:
        """Which limit the deadline in force stands for, and its length in seconds."""
        soonest = self._input_at if self._waiting else self._call_at
        if self._max_at <= soonest:
            return Limit.MAX, self.timeouts.max_s
        if self._waiting:
            return Limit.INPUT, self.timeouts.input_s
        return self.stage, self.timeouts.call_s


def why_ended(cause: Cause | None, deadline: Deadline, backend: BackendKey) -> GatewayError:
    """What a call whose scope was cancelled died of; no cause means that its deadline passed."""
    executed = Executed.UNKNOWN if deadline.sent else Executed.NO
    if cause is None:
        limit, after_s = deadline.fired()
        return BackendTimeout(backend=backend, executed=executed, limit=limit, after_s=after_s)
    if cause is Cause.REMOVED:
        return BackendRemoved(backend=backend, executed=executed)
    if cause is Cause.DRAIN:
        return Draining(executed=executed)
    return CallCancelled(executed=executed, why=cause.value)
