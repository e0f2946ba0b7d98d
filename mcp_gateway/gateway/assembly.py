"""The gateway put together: from a spec and a fleet to one dispatch function.

Owns the wiring and the tasks that belong to it (table builder, hub, keep-alive,
reaper). Deliberately opens no listener and reads no file. Invariant: everything
it starts ends with the ``async with`` block.
"""

import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from mcp_gateway import __version__
from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.gateway.address_book import AddressBook
from mcp_gateway.gateway.call.call import Calls
from mcp_gateway.gateway.call.in_flight import InFlight
from mcp_gateway.gateway.call.log import CallLog
from mcp_gateway.gateway.call.suspended import SuspendedCalls
from mcp_gateway.gateway.context import Context
from mcp_gateway.gateway.dispatch import Dispatch
from mcp_gateway.gateway.faces.get_stream import GetStreams
from mcp_gateway.gateway.faces.http_sse import HttpSse
from mcp_gateway.gateway.faces.legacy import LegacyFace
from mcp_gateway.gateway.faces.listen import Listening
from mcp_gateway.gateway.faces.modern import ModernFace
from mcp_gateway.gateway.faces.own_answers import OwnAnswers
from mcp_gateway.gateway.faces.requests import Requests
from mcp_gateway.gateway.hub import Hub
from mcp_gateway.gateway.session_care import SessionCare
from mcp_gateway.gateway.session_table import SessionTable
from mcp_gateway.gateway.tasks import Tasks
from mcp_gateway.protocol import json_text
from mcp_gateway.routing.build import build, build_steps
from mcp_gateway.routing.table import RouteTable
from mcp_gateway.sessions.memory import MemoryStore
from mcp_gateway.sessions.signed import Signer
from mcp_gateway.telemetry.metrics import Metrics
from mcp_gateway.turns import in_turns

logger = logging.getLogger(__name__)

SERVER_INFO: Final = json_text.dumps({"name": "mcp-gateway", "version": __version__})
GATHER_S: Final = 0.02
"""Changes of spec and snapshots within this time make one new table, not many."""
PRUNE_S: Final = 5.0


@attrs.define(eq=False, kw_only=True)
class Gateway:
    """A running gateway, without its listeners."""

    context: Context
    dispatch: Dispatch
    listening: Listening
    built: Cell[tuple[int, int]]
    """Which versions of spec and snapshots the route table is made of."""

    @property
    def calls(self) -> Calls:
        """What runs now."""
        return self.context.calls

    @property
    def streams(self) -> int:
        """Open event streams outside calls."""
        return sum(len(session.streams) for session in self.context.sessions) + len(self.listening.streams)

    async def table_built(self) -> None:
        """Wait until requests are routed by what is configured and was observed when this was called."""
        spec_version, observed_version = self.context.spec.version, self.context.calls.fleet.served.version
        version, built = self.built.version, self.built.value
        while built[0] < spec_version or built[1] < observed_version:
            version, built = await self.built.changed(version)

    @property
    def table_is_built(self) -> bool:
        """Whether requests are routed by what is configured and was observed up to now."""
        return self.built.value == (self.context.spec.version, self.context.calls.fleet.served.version)

    def end_streams(self) -> None:
        """End every GET and listen stream in its era's way."""
        for session in self.context.sessions:
            session.mailbox.close()
        self.listening.close_all()


@asynccontextmanager
async def open_gateway(
    *, spec: Cell[GatewaySpec], fleet: Fleet, metrics: Metrics, wall_clock: Callable[[], float]
) -> AsyncIterator[Gateway]:
    """Serve ``spec`` with ``fleet`` for as long as the block lives."""
    signer = Cell(Signer(signing_keys(spec.value)))
    table = Cell(build(spec.value, fleet.served.value, None, server_info=SERVER_INFO))
    async with trio.open_nursery() as nursery:
        gateway, care = _assemble(spec, table, fleet, metrics, wall_clock, signer)
        nursery.start_soon(keep_table, spec, fleet, table, gateway.built, name="table builder")
        nursery.start_soon(follow_settings, spec, gateway, signer, name="follow settings")
        nursery.start_soon(gateway.context.hub.run, name="hub")
        nursery.start_soon(care.follow_lists, name="lists of sessions")
        nursery.start_soon(gateway.calls.in_flight.keep_alive, name="keep-alive")
        nursery.start_soon(gateway.context.sessions.reap, name="session reaper")
        nursery.start_soon(_prune, gateway.context, name="pruner")
        try:
            yield gateway
        finally:
            nursery.cancel_scope.cancel("gateway closed")


def signing_keys(spec: GatewaySpec) -> tuple[bytes, ...]:
    """The configured keys, or a random one, which no other process and no restart knows."""
    if spec.sessions.signing_keys:
        return spec.sessions.signing_keys
    logger.warning("no signing key configured: session ids end with this process")
    return (secrets.token_bytes(32),)


def _assemble(
    spec: Cell[GatewaySpec],
    table: Cell[RouteTable],
    fleet: Fleet,
    metrics: Metrics,
    wall_clock: Callable[[], float],
    signer: Cell[Signer],
) -> tuple[Gateway, SessionCare]:
    limits = spec.value.limits
    hub = Hub(table=table, fleet=fleet)
    addresses = AddressBook()
    tasks = Tasks(signer=signer, fleet=fleet)
    care = SessionCare(hub=hub, addresses=addresses, fleet=fleet, tasks=tasks)
    sessions = SessionTable(
        signer=signer,
        spec=spec.value.sessions,
        limits=limits,
        store=MemoryStore(),
        owner=addresses.owner,
        wall_clock=wall_clock,
        opened=care.opened,
        ended=care.ended,
    )
    calls = Calls(
        spec=spec,
        fleet=fleet,
        in_flight=InFlight(limits.in_flight),
        log=CallLog(metrics=metrics),
        suspended=SuspendedCalls(signer=signer, wall_clock=wall_clock, addresses=addresses),
        server_info=SERVER_INFO,
    )
    context = Context(
        spec=spec,
        table=table,
        sessions=sessions,
        calls=calls,
        hub=hub,
        own=OwnAnswers(server_info=SERVER_INFO, signer=signer),
        tasks=tasks,
        addresses=addresses,
    )
    metrics.readings.in_flight = calls.in_flight.by_server
    requests = Requests(context=context)
    legacy = LegacyFace(context=context, requests=requests)
    streams, listening = GetStreams(context=context), Listening(context=context)

    def seated(backend: Backend) -> None:
        hub.seated(backend)
        streams.seated(backend)

    fleet.seated = seated
    dispatch = Dispatch(
        context=context,
        legacy=legacy,
        streams=streams,
        modern=ModernFace(context=context, requests=requests, listening=listening),
        sse=HttpSse(context=context, face=legacy),
    )
    gateway = Gateway(context=context, dispatch=dispatch, listening=listening, built=Cell((-1, -1)))
    return gateway, care


async def follow_settings(spec: Cell[GatewaySpec], gateway: Gateway, signer: Cell[Signer]) -> None:
    """Take over limits, session times and keys whenever the spec changes, until cancelled."""
    version = spec.version
    while True:
        version, new = await spec.changed(version)
        sessions = gateway.context.sessions
        sessions.follow(new.sessions, new.limits)
        gateway.calls.in_flight.limit = new.limits.in_flight
        if new.sessions.signing_keys:
            signer.set(Signer(new.sessions.signing_keys))
            sessions.forget_keys()


async def keep_table(
    spec: Cell[GatewaySpec], fleet: Fleet, table: Cell[RouteTable], built: Cell[tuple[int, int]]
) -> None:
    """Build a new table whenever spec or what snapshots serve has changed, until cancelled."""
    while True:
        versions = (spec.version, fleet.served.version)
        table.set(await in_turns(build_steps(spec.value, fleet.served.value, table.value, server_info=SERVER_INFO)))
        built.set(versions)
        await _either_changed(spec, fleet, versions)
        await trio.sleep(GATHER_S)


async def _either_changed(spec: Cell[GatewaySpec], fleet: Fleet, versions: tuple[int, int]) -> None:
    async with trio.open_nursery() as nursery:

        async def of_spec() -> None:
            await spec.changed(versions[0])
            nursery.cancel_scope.cancel("spec changed")

        async def of_snapshots() -> None:
            await fleet.served.changed(versions[1])
            nursery.cancel_scope.cancel("snapshots changed")

        nursery.start_soon(of_spec, name="await spec")
        nursery.start_soon(of_snapshots, name="await snapshots")


async def _prune(context: Context) -> None:
    while True:
        await trio.sleep(PRUNE_S)
        context.calls.suspended.prune()
        context.tasks.prune()
