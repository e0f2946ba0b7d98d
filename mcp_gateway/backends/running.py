"""What runs on one backend: its calls, and the exchanges of others.

Owns the one book in which a call stands as far as its backend is concerned. Deliberately
ends nobody: a call is told that its backend is removed, and ends itself. Invariant:
``idle`` returns only when nothing runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import attrs
import trio

REMOVED: Final = "backend removed"
"""The reason with which the calls of a removed backend are cancelled, and new ones refused."""


class RunningCall(Protocol):
    """A call that may have to end with its backend."""

    def removed(self) -> None:
        """Its time is over."""


@attrs.define(eq=False)
class _Scoped:
    """A call of which nothing is known but its scope."""

    scope: trio.CancelScope

    def removed(self) -> None:
        self.scope.cancel(REMOVED)


@attrs.define(eq=False)
class Running:
    """The calls and exchanges of one backend."""

    calls: set[RunningCall] = attrs.field(factory=set)
    exchanges: int = 0
    """Under way or queued."""
    awaited: trio.Event | None = None
    """Somebody waits until nothing runs: whoever ends tells ``ended``."""

    def ended(self) -> None:
        """Something has ended."""
        if self.awaited is not None and not self.calls and not self.exchanges:
            self.awaited.set()

    async def idle(self) -> None:
        """Wait until nothing runs. One waiter only."""
        while self.calls or self.exchanges:
            self.awaited = trio.Event()
            await self.awaited.wait()

    def tell_removed(self) -> None:
        """Tell every call that its time is over."""
        for call in tuple(self.calls):
            call.removed()

    @contextmanager
    def scope(self, scope: trio.CancelScope | None = None) -> Iterator[trio.CancelScope]:
        """A scope for one call, entered here, which removal cancels with ``REMOVED``; None: a new one."""
        call = _Scoped(scope or trio.CancelScope())
        self.calls.add(call)
        try:
            with call.scope:
                yield call.scope
        finally:
            self.calls.discard(call)
            self.ended()
