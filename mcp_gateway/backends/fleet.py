"""All backends, as the spec wants them.

Owns which generations of which server live, and the latest Snapshot of each.
Deliberately routes no call and judges no health. Invariant: a key has one current
Backend, which everything new uses; every other generation is on its way in or out.
"""

import logging
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from mcp_gateway.backends.backend import REMOVAL_GRACE_S, Backend
from mcp_gateway.backends.connector import ConnectorFactory
from mcp_gateway.backends.observer import SILENT, Observer
from mcp_gateway.backends.spec_connector import SpecConnector
from mcp_gateway.backends.status import disabled_status, status_of
from mcp_gateway.backends.upstream import Jitter
from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewaySpec, ServerSpec, StdioTarget
from mcp_gateway.routing.snapshot import Health, Lists, Problem, Snapshot
from mcp_gateway.values import BackendKey, JsonObject

logger = logging.getLogger(__name__)

GOODBYE_S: Final = 2.0
"""All goodbyes together, when the gateway leaves."""


def full_jitter(delay_s: float) -> float:
    """Anything between no pause and the whole one, so that many gateways do not come back at once."""
    return random.uniform(0.0, delay_s)


def _ignore(backend: Backend) -> None:
    """Until the hub is there nobody wants to know."""


def same_backend(one: ServerSpec, other: ServerSpec) -> bool:
    """Whether two specs differ at most in how the server is shown, so that its Backend can stay."""
    shown = attrs.evolve(
        one,
        revision=other.revision,
        prefix=other.prefix,
        tools=other.tools,
        tags=other.tags,
        category=other.category,
        hint=other.hint,
    )
    return shown == other


@attrs.frozen(kw_only=True, eq=False)
class SessionShown:
    """What one generation of a server lists to one client session besides."""

    backend: Backend
    lists: Lists


@attrs.define(eq=False, kw_only=True)
class _Seat:
    """The generations of one key."""

    current: Backend
    coming: Backend | None = None
    going: list[Backend] = attrs.field(factory=list)
    wanted: ServerSpec
    change: trio.CancelScope | None = None

    @property
    def all(self) -> list[Backend]:
        coming = [] if self.coming is None else [self.coming]
        return [self.current, *coming, *self.going]


@attrs.define(eq=False, kw_only=True)
class Fleet:
    """Every backend of the gateway; made by ``open_fleet``."""

    snapshots: Cell[Mapping[BackendKey, Snapshot]] = attrs.field(factory=lambda: Cell({}))
    served: Cell[Mapping[BackendKey, Snapshot]] = attrs.field(factory=lambda: Cell({}))
    """The same without times and failures (``Snapshot.served``): what clients could notice a change of."""
    session_lists: Cell[Mapping[tuple[BackendKey, str], SessionShown]] = attrs.field(factory=lambda: Cell({}))
    """What servers list to one client session besides, by server and session."""
    seated: Callable[[Backend], None] = _ignore
    """Told of each backend that becomes the one that new calls use; set by the hub."""
    _nursery: trio.Nursery = attrs.field(alias="nursery")
    _connectors: ConnectorFactory = attrs.field(alias="connectors")
    _observer: Observer = attrs.field(alias="observer")
    _jitter: Jitter = attrs.field(alias="jitter")
    _wall_clock: Callable[[], float] = attrs.field(alias="wall_clock")
    _hurry: trio.Event = attrs.field(alias="hurry")
    _seats: dict[BackendKey, _Seat] = attrs.field(factory=dict)
    _leaving: set[Backend] = attrs.field(factory=set)
    _disabled: dict[BackendKey, ServerSpec] = attrs.field(factory=dict)
    _applied: bool = False

    def get(self, key: BackendKey) -> Backend | None:
        """The generation that new calls use; None: not configured, or disabled."""
        seat = self._seats.get(key)
        return None if seat is None else seat.current

    @property
    def keys(self) -> tuple[BackendKey, ...]:
        """Every configured server, disabled ones last."""
        return (*self._seats, *self._disabled)

    async def apply(self, spec: GatewaySpec) -> None:
        """Make the fleet what the spec wants; returns once every new backend has started (not discovered).

        Added: starts. Changed: the new generation starts beside the old one and takes
        its place at its first success, or when it is clear that there will be none;
        the old one retires. Changed in presentation only: stays. Removed or disabled:
        at most ``REMOVAL_GRACE_S``.
        """
        enabled = {server.key: server for server in spec.servers if server.enabled}
        self._disabled = {server.key: server for server in spec.servers if not server.enabled}
        for key in [key for key in self._seats if key not in enabled]:
            self._remove(key)
        for key in self._disabled:
            self._observer.server_state(key, "disabled")
        for key, server in enabled.items():
            seat = self._seats.get(key)
            if seat is None:
                self._observer.server_state(key, Health.CONNECTING.value)
                backend = await self._start(server)
                self._seats[key] = _Seat(current=backend, wanted=server)
                self.seated(backend)
                self._published(backend, backend.snapshot)
            else:
                self._change(seat, server)
        self._applied = True

    def first_discovery_done(self) -> bool:
        """Whether a spec was applied and each of its backends has answered or failed once."""
        return self._applied and all(
            seat.current.supervisor.builder.first_answer.is_set() for seat in self._seats.values()
        )

    def status(self, key: BackendKey, routed: Sequence[Problem] = ()) -> JsonObject:
        """What there is to know about one server, for ``/status``.

        Args:
            routed: the problems that the route table has with it (``RouteTable.problems``).
        Raises:
            KeyError: no such server.
        """
        seat = self._seats.get(key)
        if seat is None:
            return disabled_status(self._disabled[key])
        now_at, now_unix_s = trio.current_time(), self._wall_clock()
        report = status_of(seat.current, lambda at: round(now_unix_s - (now_at - at), 3), routed)
        report["generations"] = len(seat.all)
        return report

    async def goodbye(self) -> None:
        """Close every backend at once, within ``GOODBYE_S`` in total; the fleet is of no use after it."""
        self._hurry.set()
        backends = [*self._leaving, *(backend for seat in self._seats.values() for backend in seat.all)]
        for seat in self._seats.values():
            if seat.change is not None:
                seat.change.cancel("the gateway is shutting down")
        for backend in backends:
            backend.close("the gateway is shutting down")
        with trio.move_on_after(GOODBYE_S, shield=True):
            for backend in backends:
                await backend.gone.wait()

    # --- generations ---

    async def _start(self, server: ServerSpec) -> Backend:
        backend = Backend(
            spec=server,
            connector=self._connectors(server),
            publish=self._published,
            relisted=self._relisted,
            observer=self._observer,
            jitter=self._jitter,
        )
        await self._nursery.start(backend.run, name=f"backend:{server.key}")
        return backend

    def _change(self, seat: _Seat, server: ServerSpec) -> None:
        if server == seat.wanted:
            return
        stays = same_backend(seat.wanted, server)
        seat.wanted = server
        newest = seat.coming or seat.current
        if stays and (seat.change is None or seat.coming is not None):
            newest.show_as(server)
            return
        if seat.change is not None:
            seat.change.cancel("changed again")
            seat.change = None
        if seat.coming is not None:
            self._let_go(seat, seat.coming, 0.0)
            seat.coming = None
        if same_backend(seat.current.spec, server):
            seat.current.show_as(server)  # changed back before the change was made
            return
        seat.change = trio.CancelScope()
        self._nursery.start_soon(self._replace, seat, server, seat.change, name=f"replace:{server.key}")

    async def _replace(self, seat: _Seat, server: ServerSpec, change: trio.CancelScope) -> None:
        """Bring in the next generation; the current one serves until it is settled how the next one does."""
        with change:
            if isinstance(server.target, StdioTarget):
                # At most two generations of a process live: the calls of the one before last may finish first.
                while seat.going:
                    await seat.going[0].gone.wait()
                    await trio.lowlevel.checkpoint()
            seat.coming = await self._start(server)
            await seat.coming.supervisor.builder.settled.wait()
            old, seat.current, seat.coming, seat.change = seat.current, seat.coming, None, None
            self.seated(seat.current)
            self._let_go(seat, old, math.inf)
            self._published(seat.current, seat.current.snapshot)

    def _remove(self, key: BackendKey) -> None:
        seat = self._seats.pop(key)
        if seat.change is not None:
            seat.change.cancel("removed")
        for backend in seat.all:
            self._let_go(seat, backend, 0.0 if backend is seat.coming else REMOVAL_GRACE_S)
        for cell in (self.snapshots, self.served):
            cell.set({other: shot for other, shot in cell.value.items() if other != key})
        logger.info("backend removed", extra={"backend": key})

    def _let_go(self, seat: _Seat, backend: Backend, within_s: float) -> None:
        # No call outlives timeouts.max, so this bound never cuts one short.
        backend.retire(min(within_s, backend.spec.timeouts.max_s + GOODBYE_S))
        if backend not in self._leaving:
            self._leaving.add(backend)
            seat.going.append(backend)
            self._nursery.start_soon(self._see_off, seat, backend, name=f"retire:{backend.key}")

    async def _see_off(self, seat: _Seat, backend: Backend) -> None:
        await backend.gone.wait()
        self._leaving.discard(backend)
        seat.going.remove(backend)

    def _relisted(self, backend: Backend, session: str, lists: Lists) -> None:
        shown, place = self.session_lists.value, (backend.key, session)
        if lists:
            self.session_lists.set({**shown, place: SessionShown(backend=backend, lists=lists)})
        elif place in shown and shown[place].backend is backend:
            self.session_lists.set({other: one for other, one in shown.items() if other != place})

    def _published(self, backend: Backend, snapshot: Snapshot) -> None:
        seat = self._seats.get(backend.key)
        if seat is not None and seat.current is backend:
            self.snapshots.set({**self.snapshots.value, backend.key: snapshot})
            self.served.set({**self.served.value, backend.key: snapshot.served})


@asynccontextmanager
async def open_fleet(
    observer: Observer | None = None,
    *,
    connectors: ConnectorFactory | None = None,
    jitter: Jitter = full_jitter,
    wall_clock: Callable[[], float] = time.time,
) -> AsyncIterator[Fleet]:
    """Run backends for as long as the block lives. The body's errors leave as a group.

    Args:
        observer: the metrics.
        connectors: how each backend is reached; None: as its spec says.
        jitter: makes a pause of a pause.
        wall_clock: Unix seconds, for ``status``.
    """
    watching, hurry = observer or SILENT, trio.Event()

    def connector(spec: ServerSpec) -> SpecConnector:
        return SpecConnector(spec=spec, observer=watching, hurry=hurry)

    async with trio.open_nursery() as nursery:
        fleet = Fleet(
            nursery=nursery,
            connectors=connectors or connector,
            observer=watching,
            jitter=jitter,
            wall_clock=wall_clock,
            hurry=hurry,
        )
        try:
            yield fleet
        finally:
            await fleet.goodbye()  # noqa: ASYNC102  # has a bounded shield of its own
            nursery.cancel_scope.cancel("fleet closed")
