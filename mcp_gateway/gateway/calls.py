"""Calls in flight: one scope, one clock and at most one cause of death each.

Owns ``Call`` (what can be cancelled), ``CallClock`` (which deadline applies) and
``Calls`` (all of them, bounded). Deliberately sends nothing to anybody: leaving
the scope does (``Link.exchange``). Invariant: the first cause wins; a call that
has ended is in no registry.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import assert_never

import attrs
import trio

from mcp_gateway.config.spec import Timeouts
from mcp_gateway.errors import (
    BackendRemoved,
    BackendTimeout,
    CallCancelled,
    Draining,
    Executed,
    GatewayError,
    Limit,
    Overload,
)
from mcp_gateway.values import BackendKey


class Cause(Enum):
    """Why a call was cancelled; the value is what backends are told."""

    MESSAGE = "cancelled by the client"
    DISCONNECT = "client disconnected"
    DEADLINE = "deadline exceeded"
    DRAIN = "gateway is shutting down"
    REMOVED = "backend removed"
    SESSION = "session ended"


@attrs.define(eq=False)
class CallClock:
    """The one absolute deadline of a call (design section 8).

    ``call`` runs while the backend works and starts anew with each progress
    notification; it stands still while the call waits for its own client, when
    ``input`` runs instead; ``max`` is absolute.
    """

    scope: trio.CancelScope
    timeouts: Timeouts
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

    def start(self) -> None:
        """Begin to count."""
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
        self.scope.deadline = min(self._input_at if self._waiting else self._call_at, self._max_at)

    def fired(self) -> tuple[Limit, float]:
        """Which limit the deadline in force stands for, and its length in seconds."""
        soonest = self._input_at if self._waiting else self._call_at
        if self._max_at <= soonest:
            return Limit.MAX, self.timeouts.max_s
        if self._waiting:
            return Limit.INPUT, self.timeouts.input_s
        return self.stage, self.timeouts.call_s


@attrs.define(eq=False)
class Call:
    """One request of a client, from its beginning to its answer."""

    method: str
    scope: trio.CancelScope
    cause: Cause | None = None
    server: str = ""
    """Who serves it; "" for the gateway itself."""
    target: str = ""
    """Its federated name."""
    began_at: float = attrs.field(factory=trio.current_time)

    def cancel(self, cause: Cause) -> None:
        """Cancel for ``cause``; later causes change nothing."""
        if self.cause is None:
            self.cause = cause
            self.scope.cancel(reason=cause.value)


def why_ended(call: Call, clock: CallClock, backend: BackendKey) -> GatewayError:
    """What a call whose scope was cancelled died of; no cause means that its deadline passed."""
    executed = Executed.UNKNOWN if clock.sent else Executed.NO
    match call.cause:
        case None | Cause.DEADLINE:
            limit, after_s = clock.fired()
            return BackendTimeout(backend=backend, executed=executed, limit=limit, after_s=after_s)
        case Cause.REMOVED:
            return BackendRemoved(backend=backend, executed=executed)
        case Cause.DRAIN:
            return Draining(executed=executed)
        case Cause.MESSAGE | Cause.DISCONNECT | Cause.SESSION:
            return CallCancelled(executed=executed, why=call.cause.value)
        case _:
            assert_never(call.cause)


@attrs.define(eq=False)
class Calls:
    """Every call in flight, at most ``limit``."""

    limit: int
    _running: set[Call] = attrs.field(factory=set)
    _idle: trio.Event = attrs.field(factory=trio.Event)

    def __len__(self) -> int:
        return len(self._running)

    @contextmanager
    def running(self, call: Call) -> Iterator[None]:
        """Hold a place for ``call``.

        Raises:
            Overload: ``limits.inFlight`` calls run already.
        """
        if len(self._running) >= self.limit:
            raise Overload(bound="limits.inFlight", limit=self.limit)
        self._running.add(call)
        try:
            yield
        finally:
            self._running.discard(call)
            if not self._running:
                self._idle.set()
                self._idle = trio.Event()

    def cancel_all(self, cause: Cause) -> int:
        """Cancel whatever runs; return how many that were."""
        running = list(self._running)
        for call in running:
            call.cancel(cause)
        return len(running)

    async def idle(self) -> None:
        """Wait until no call runs."""
        while self._running:
            await self._idle.wait()
