"""A running gateway as its report sees it.

Owns which cells a report is made of, and when the first round is over. Deliberately says nothing
itself (``report``). Invariants: whoever waits for a change misses none; a process whose first round
is over has no other one.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import attrs
import trio

from mcp_gateway.cell import Cell
from mcp_gateway.config.compiled import Compiled
from mcp_gateway.kube.report import Observed
from mcp_gateway.routing.snapshot import Health, Snapshot
from mcp_gateway.routing.table import RouteTable
from mcp_gateway.values import BackendKey

FIRST_ROUND_S: Final = 10.0
"""So long a server that failed at first is given, before its failure is news: a pod that begins dials all at once."""


class Servers(Protocol):
    """What is known of the servers (``backends.fleet.Fleet``)."""

    @property
    def snapshots(self) -> Cell[Mapping[BackendKey, Snapshot]]:
        """Of each."""
        ...

    def first_discovery_done(self) -> bool:
        """Whether each has answered or failed once."""
        ...


@attrs.define(eq=False, kw_only=True)
class GatewayObserver:
    """A ``reporter.Observer``."""

    compiled: Cell[Compiled | None]
    fleet: Servers
    table: Cell[RouteTable]
    _seen: tuple[int, int, int] = attrs.field(init=False, default=(-1, -1, -1))
    _began_at: float = attrs.field(init=False, factory=trio.current_time)
    _complete: bool = attrs.field(init=False, default=False)

    def observe(self) -> Observed | None:
        """See ``Observer.observe``."""
        self._seen = self._versions
        compiled = self.compiled.value
        if compiled is None:
            return None
        self._complete = self._complete or self._first_round_over(compiled)
        return Observed(
            compiled=compiled,
            snapshots=self.fleet.snapshots.value,
            table=self.table.value,
            complete=self._complete,
        )

    def _first_round_over(self, compiled: Compiled) -> bool:
        """Every server is connected, or has failed and had the time to be tried again."""
        if not self.fleet.first_discovery_done():
            return False
        snapshots = self.fleet.snapshots.value
        servers = (snapshots.get(server.key) for server in compiled.spec.servers if server.enabled)
        connected = all(one is not None and one.health is Health.READY for one in servers)
        return connected or trio.current_time() >= self._patient_until

    @property
    def _patient_until(self) -> float:
        return self._began_at + FIRST_ROUND_S

    @property
    def _versions(self) -> tuple[int, int, int]:
        return self.compiled.version, self.fleet.snapshots.version, self.table.version

    async def changed(self) -> None:
        """See ``Observer.changed``."""
        compiled, snapshots, table = self._seen
        patient = not self._complete and trio.current_time() < self._patient_until
        async with trio.open_nursery() as nursery:
            if patient:
                nursery.cancel_scope.deadline = self._patient_until

            async def wait(changed: Callable[[int], Awaitable[object]], since: int) -> None:
                await changed(since)
                nursery.cancel_scope.cancel("something changed")

            nursery.start_soon(wait, self.compiled.changed, compiled)
            nursery.start_soon(wait, self.fleet.snapshots.changed, snapshots)
            nursery.start_soon(wait, self.table.changed, table)
