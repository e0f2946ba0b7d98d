"""Keeps quiet streams alive.

Owns one task that looks at every waiting outlet a few times a second. Deliberately
knows nothing of calls. Invariant: a slow client delays nobody else's comment
(each tick runs in a task of its own, at most one per outlet).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import trio

from mcp_gateway.gateway.outlet import Outlet

PERIOD_S: Final = 0.25


@attrs.define(eq=False)
class Pacer:
    """The outlets that may need a sign of life."""

    _waiting: set[Outlet] = attrs.field(factory=set)
    _ticking: set[Outlet] = attrs.field(factory=set)
    _some: trio.Event = attrs.field(factory=trio.Event)

    @contextmanager
    def pacing(self, outlet: Outlet) -> Iterator[None]:
        """Look after ``outlet`` for as long as the block lives."""
        self._waiting.add(outlet)
        self._some.set()
        try:
            yield
        finally:
            self._waiting.discard(outlet)

    async def run(self) -> None:
        """Tick until cancelled; asleep while nobody waits."""
        async with trio.open_nursery() as nursery:
            while True:
                if not self._waiting:
                    self._some = trio.Event()
                    await self._some.wait()
                await trio.sleep(PERIOD_S)
                now = trio.current_time()
                for outlet in self._waiting - self._ticking:
                    if outlet.due_at <= now:
                        self._ticking.add(outlet)
                        nursery.start_soon(self._tick, outlet, now, name="pacer:tick")

    async def _tick(self, outlet: Outlet, now: float) -> None:
        try:
            await outlet.tick(now)
        finally:
            self._ticking.discard(outlet)
