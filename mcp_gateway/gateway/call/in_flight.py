"""The requests that wait for a backend now, at most ``limits.inFlight``.

Owns who is among them, and the task that keeps their quiet answers alive. Deliberately
carries nothing. Invariants: a request that has ended is not among them; a slow client
delays nobody else's comment (each tick runs in a task of its own, at most one per request).
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs
import trio

from mcp_gateway.gateway.call.deadline import Cause

if TYPE_CHECKING:
    from mcp_gateway.gateway.call.request import ClientRequest

PERIOD_S: Final = 0.25
"""How often the quiet ones are looked for."""


@attrs.define(eq=False)
class InFlight:
    """Every request in flight."""

    limit: int
    requests: "set[ClientRequest]" = attrs.field(factory=set)
    _some: trio.Event | None = None
    """Somebody waits for a request."""
    _idle: trio.Event | None = None
    """Somebody waits for the end of them all."""

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def full(self) -> bool:
        """Whether no further one may begin."""
        return len(self.requests) >= self.limit

    def enter(self, request: "ClientRequest") -> None:
        """It begins to wait. Pair with ``leave``."""
        self.requests.add(request)
        if self._some is not None:
            self._some.set()
            self._some = None

    def leave(self, request: "ClientRequest") -> None:
        """It waits no longer."""
        self.requests.discard(request)
        if self._idle is not None and not self.requests:
            self._idle.set()
            self._idle = None

    def by_server(self) -> Mapping[str, int]:
        """How many wait for each server."""
        return Counter(target.backend for target in (one.destination() for one in self.requests) if target is not None)

    def cut_all(self, cause: Cause) -> int:
        """Cut whatever runs; return how many that were."""
        running = tuple(self.requests)
        for request in running:
            request.cut(cause)
        return len(running)

    async def idle(self) -> None:
        """Wait until no request is in flight."""
        while self.requests:
            self._idle = trio.Event() if self._idle is None else self._idle
            await self._idle.wait()

    async def keep_alive(self) -> None:
        """Show clients that wait that somebody is there, until cancelled; asleep while nobody waits."""
        ticking: set[ClientRequest] = set()
        async with trio.open_nursery() as nursery:
            while True:
                while not self.requests:
                    self._some = trio.Event() if self._some is None else self._some
                    await self._some.wait()
                await trio.sleep(PERIOD_S)
                now = trio.current_time()
                for request in self.requests - ticking:
                    if request.due_at <= now:
                        ticking.add(request)
                        nursery.start_soon(_tick, request, now, ticking, name="keep-alive")


async def _tick(request: "ClientRequest", now: float, ticking: "set[ClientRequest]") -> None:
    try:
        await request.stream.tick(now)
    finally:
        ticking.discard(request)
