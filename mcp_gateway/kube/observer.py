"""A running gateway as its report sees it.

Owns which cells a report is made of. Deliberately says nothing itself (``report``).
Invariant: whoever waits for a change misses none.
"""

from collections.abc import Awaitable, Callable

import attrs
import trio

from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.cell import Cell
from mcp_gateway.config.compiled import Compiled
from mcp_gateway.kube.report import Observed
from mcp_gateway.routing.table import RouteTable


@attrs.define(eq=False, kw_only=True)
class GatewayObserver:
    """A ``reporter.Observer``."""

    compiled: Cell[Compiled | None]
    fleet: Fleet
    table: Cell[RouteTable]
    _seen: tuple[int, int, int] = attrs.field(init=False, default=(-1, -1, -1))

    def observe(self) -> Observed | None:
        """See ``Observer.observe``."""
        self._seen = self._versions
        compiled = self.compiled.value
        if compiled is None:
            return None
        return Observed(
            compiled=compiled,
            snapshots=self.fleet.snapshots.value,
            table=self.table.value,
            complete=self.fleet.first_discovery_done(),
        )

    @property
    def _versions(self) -> tuple[int, int, int]:
        return self.compiled.version, self.fleet.snapshots.version, self.table.version

    async def changed(self) -> None:
        """See ``Observer.changed``."""
        compiled, snapshots, table = self._seen
        async with trio.open_nursery() as nursery:

            async def wait(changed: Callable[[int], Awaitable[object]], since: int) -> None:
                await changed(since)
                nursery.cancel_scope.cancel("something changed")

            nursery.start_soon(wait, self.compiled.changed, compiled)
            nursery.start_soon(wait, self.fleet.snapshots.changed, snapshots)
            nursery.start_soon(wait, self.table.changed, table)
