"""The loop that keeps one backend connected, and its lists and health known.

Owns the gateway's own connection: detect, connect, discover, probe until it is lost, pause
and begin again. On pipes this connection is also the one that callers share. Deliberately runs no
calls: its failure changes health, never a call (except where the connection itself, a process, has
ended); when what is asked is decided in ``schedule``. Invariants: at most one connection is open or
being opened here (a capability probe has its own), and one discovery in flight on it, whatever the backend shouts.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import attrs
import trio

from mcp_gateway.backends.attempts import Attempts
from mcp_gateway.backends.capability_probe import CapabilityProbe
from mcp_gateway.backends.connector import UPSTREAM_FAULTS, Connection, Connector, Verdict, leading
from mcp_gateway.backends.discovery import Catalogue, Discovery
from mcp_gateway.backends.health import Backoff, HealthMachine
from mcp_gateway.backends.legacy_side import LegacySide
from mcp_gateway.backends.notices import Notices
from mcp_gateway.backends.own_requests import GATEWAY, answer_alone, ask, read_hello, request
from mcp_gateway.backends.schedule import Schedule
from mcp_gateway.backends.snapshot_builder import SnapshotBuilder
from mcp_gateway.backends.start import Start, detect
from mcp_gateway.backends.transports.base import Inbound, Link
from mcp_gateway.backends.transports.session_sign import speaks_of_session
from mcp_gateway.backends.upstream import Jitter, Upstream
from mcp_gateway.config.spec import ServerSpec, StdioTarget
from mcp_gateway.errors import (
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendRefused,
    BackendSessionLost,
    BackendTimeout,
    Executed,
    GatewayError,
    LocalFault,
    RemoteFault,
)
from mcp_gateway.protocol.eras import Family
from mcp_gateway.values import BackendKey

REPROBE_GAP_S: Final = 10.0
"""The least time between two re-probes of the era that calls cause."""
STREAM_WAIT_S: Final = 0.2
"""How long the first discovery waits for the stream of notices, so that no change falls between the two."""


@attrs.define(eq=False, kw_only=True)
class Supervisor:
    """The connection to one backend through which it is discovered and probed."""

    spec: ServerSpec
    connector: Connector
    builder: SnapshotBuilder
    """What is known of it."""
    era_changed: Callable[[frozenset[Family]], None]
    """Links are of no use any more but those in these families."""
    reconnected: Callable[[], None]
    """The gateway's own session was lost and stands again: others may be lost."""
    jitter: Jitter
    room: Callable[[], bool]
    """Whether one more process may run beside those of callers."""
    notices: Notices = attrs.field(init=False)
    """What the backend tells this connection unasked."""
    legacy: LegacySide = attrs.field(init=False)
    capability_probe: CapabilityProbe = attrs.field(init=False)
    start: Start | None = None
    """The last attempt to open the connection, running or not."""
    restarts: int = 0
    attempts: Attempts = attrs.field(init=False)
    _schedule: Schedule = attrs.field(init=False)
    _upstream: Upstream | None = None
    _connections: int = 0
    _doubted: bool = False
    """The verdict stays in force for calls, but the next attempt asks again."""
    _reprobed_at: float = -math.inf
    _wake: trio.Event = attrs.field(factory=trio.Event)
    _read: trio.Event = attrs.field(factory=trio.Event)
    """The lists have been read once more."""

    def __attrs_post_init__(self) -> None:
        spec, jitter = self.spec, self.jitter
        self.attempts = Attempts(spec=spec, machine=self.machine, jitter=jitter)
        self._schedule = Schedule(interval_s=spec.health.interval_s, jitter=jitter)
        self.notices = Notices(
            backend=spec.key,
            list_s=spec.timeouts.list_s,
            jitter=jitter,
            refresh=self.refresh,
            check=self.check,
            hear=self._hear,
        )
        self.legacy = LegacySide(
            spec=spec,
            connector=self.connector,
            builder=self.builder,
            gone=lambda: self.era_changed(self.builder.spoken),
        )
        self.capability_probe = CapabilityProbe(
            spec=spec, connector=self.connector, builder=self.builder, jitter=jitter, room=self.room
        )

    @property
    def key(self) -> BackendKey:
        """Whose it is."""
        return self.spec.key

    @property
    def verdict(self) -> Verdict | None:
        """How it is spoken to; None: not known yet."""
        return self.builder.verdict

    @property
    def machine(self) -> HealthMachine:
        """What is known of the backend's health."""
        return self.builder.machine

    # --- what others ask for; plain functions ---

    def refresh(self) -> None:
        """The lists may have changed: discover soon, once, however often this is called."""
        self._schedule.lists_wanted = True
        self._wake.set()

    def check(self) -> None:
        """Something broke that may mean the backend is gone: probe now."""
        self._wake.set()

    async def reread(self) -> None:
        """Have the lists read again, and wait for that for at most ``timeouts.list``; the snapshot shows the result."""
        self.refresh()
        with trio.move_on_after(self.spec.timeouts.list_s):
            while self._schedule.lists_wanted:  # a reading that had begun before does not count
                await self._read.wait()

    def surprised(self) -> None:
        """An answer did not fit the era: find it out again, at most every ``REPROBE_GAP_S``."""
        now_at = trio.current_time()
        if now_at - self._reprobed_at >= REPROBE_GAP_S:
            self._reprobed_at = now_at
            self.check()

    def legacy_surprised(self) -> None:
        """A 2025 session was not as expected: look again what the backend speaks."""
        if self.builder.modern:
            self.legacy.doubt()
        self.surprised()

    def call_failed(self, error: GatewayError, began_at: float) -> None:
        """A call that began at ``began_at`` met a connection error, which is a failure like that of a probe.

        Calls that ran side by side fail together: only one that began after the
        last failure is one more in the row. On pipes the end of the connection is
        one failure, and ``run`` sees it itself.
        """
        last_at = self.machine.last_error_at
        piped = self.verdict is not None and self.verdict.pipe
        if not piped and (last_at is None or began_at > last_at or not self.machine.failures):
            self.builder.failed(error)
        self.check()

    def known_now(self) -> Verdict:
        """How to speak to the backend; only to be asked after ``known``.

        Raises:
            LocalFault: it is not known yet.
        """
        if self.verdict is None:
            raise LocalFault(what="a link was opened before the backend's era was known")
        return self.verdict

    def shared_now(self) -> Upstream | None:
        """The connection that callers of a pipe share, if it is up."""
        return self._upstream if self._upstream is not None and self._upstream.usable else None

    def retire(self) -> None:
        """Say nothing more, and connect no more once this connection has ended."""
        self.builder.retired = self.attempts.over = True
        self.attempts.turned()

    # --- what callers wait for; the caller holds the deadline ---

    async def known(self) -> Verdict:
        """How to speak to the backend.

        Raises:
            BackendGone: the attempt that this call waited for failed, or the next one is too far off.
        """
        failed_before = self.attempts.failed
        while self.verdict is None:
            await self.attempts.wait(failed_before)
        return self.verdict

    async def shared(self) -> Upstream:
        """The connection that callers of a pipe share; errors as ``known``."""
        failed_before = self.attempts.failed
        while (upstream := self.shared_now()) is None:
            await self.attempts.wait(failed_before)
        return upstream

    # --- the loop ---

    async def run(self) -> None:
        """Connect again and again until cancelled, or retired and disconnected."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.builder.let_list_expire, name=f"grace:{self.key}")
            if isinstance(self.spec.target, StdioTarget):
                nursery.start_soon(self._hold_up_no_longer, name=f"slow start:{self.key}")
            while not self.builder.retired:
                connected_before, began_at = self._connections, trio.current_time()
                try:
                    await self._connect_and_attend(nursery)
                except* UPSTREAM_FAULTS as group:
                    self._failed(leading(group), began_at)
                if self._connections == connected_before:
                    self.attempts.failed += 1
                await self.attempts.pause()
            nursery.cancel_scope.cancel("retired")

    async def _hold_up_no_longer(self) -> None:
        """Nobody waits longer for a process to come up than for a server over HTTP to be reached."""
        await trio.sleep(self.spec.timeouts.connect_s)
        self.builder.first_answer.set()

    async def _connect_and_attend(self, background: trio.Nursery) -> None:
        began_at = trio.current_time()
        cached = self.verdict is not None and not self._doubted
        verdict = await self._detect()
        self.start = Start.of(self.spec)
        async with self.start.link(self.connector, verdict, GATEWAY, self._hear) as connection:
            async with trio.open_nursery() as nursery:
                upstream = Upstream(connection=connection, nursery=nursery, identity=GATEWAY)
                try:
                    self._connected(upstream)
                    nursery.start_soon(self._watch, connection)
                    await self._await_notices(connection, nursery)
                    if cached and not verdict.pipe and connection.hello.era.modern:
                        await self._probe(upstream)
                    found = await self._read_lists(upstream)
                    await self._begin_capability_probe(background)
                    self._publish(found, began_at, loud=True)
                    await self._probe_loop(upstream)
                finally:
                    self._upstream = None
                    self.capability_probe.stop()
                nursery.cancel_scope.cancel("to be spoken to in another era")

    async def _await_notices(self, connection: Connection, nursery: trio.Nursery) -> None:
        """Open the stream of notices before the first discovery, if that is quick."""
        settled = trio.Event()
        nursery.start_soon(self.notices.run, connection, settled, name=f"notices:{self.key}")
        with trio.move_on_after(STREAM_WAIT_S):
            await settled.wait()
        settled.set()

    async def _begin_capability_probe(self, background: trio.Nursery) -> None:
        """Look with the eyes of more capable clients, in a nursery that outlives this connection."""
        way = self.capability_probe.way
        if way is not None:
            probed = self.capability_probe.begin(background, way)
            if not way.pipe:  # there it takes processes, and the lists do not wait for them
                with trio.move_on_after(self.spec.timeouts.list_s):
                    await probed.wait()

    async def _detect(self) -> Verdict:
        before = self.verdict
        if before is not None and not self._doubted and not before.provisional:
            return before
        verdict = await detect(self.connector, self.spec)
        if before is not None and before.transport != verdict.transport:
            self.era_changed(frozenset())
        self.builder.judged(verdict)
        self._doubted = False
        self.attempts.turned()
        return verdict

    def _connected(self, upstream: Upstream) -> None:
        hello, before, pipe = upstream.connection.hello, self.builder.hello, self.known_now().pipe
        if self._connections:
            self.restarts += pipe
            self.builder.observer.reconnected(self.key)
            self.reconnected()
        self.builder.connected(hello, sessionless=not pipe and upstream.link.shared)
        self.legacy.connected()
        if before is not None and before.era.family is not hello.era.family:
            self.era_changed(self.builder.spoken)
            self.builder.announce()  # calls are written in the era that is shown
        self._connections += 1
        self._upstream = upstream
        self.attempts.turned()

    async def _watch(self, connection: Connection) -> None:
        why = await connection.gone()
        raise BackendGone(backend=self.key, why=why, executed=Executed.NO)

    async def _hear(self, inbound: Inbound) -> None:
        """What belongs to no exchange."""
        if self._upstream is not None:
            await self._hear_on(self._upstream.link, inbound)
        else:
            self.notices.heard(inbound)

    async def _hear_on(self, link: Link, inbound: Inbound) -> None:
        """What comes to this connection: notices for us; a request cannot be attributed to any client."""
        if not self.notices.heard(inbound):
            await answer_alone(link, inbound)

    def _failed(self, error: BaseException, began_at: float) -> None:
        """An attempt or a connection has failed."""
        if isinstance(error, (BackendProtocol, BackendRefused, RemoteFault)):
            self._doubted = True  # perhaps not what we took it for: ask again
        if isinstance(error, BackendTimeout) and self.verdict is not None and self.verdict.transport == "sse":
            self._doubted = True  # a GET that says nothing is no HTTP+SSE
        if isinstance(error, BackendError) and error.retry_after_ms is not None:
            self.attempts.busy_s = min(error.retry_after_ms / 1000, Backoff().ceiling_s)
        if isinstance(error, BackendSessionLost):
            self._doubted = True
            if self.machine.ready_at is not None:
                return  # it lives, it only forgot us
        if isinstance(error, GatewayError):
            self.builder.failed(error)
            self.builder.observer.discovery(self.key, trio.current_time() - began_at, ok=False)

    # --- while it is connected ---

    async def _probe_loop(self, upstream: Upstream) -> None:
        """Probe and discover until the connection fails, or the backend turns out to speak a newer era."""
        self._schedule.asked(trio.current_time())
        while True:
            periodic = await self._next_wake()
            wants_lists = self._schedule.lists_wanted or trio.current_time() >= self._stale_at
            try:
                if wants_lists:
                    await self._discover(upstream)
                elif await self._look_after(upstream, periodic=periodic):
                    return
                self._schedule.asked(trio.current_time())
            except BackendTimeout as late:
                self._schedule.lists_wanted |= wants_lists
                self._schedule.asked(trio.current_time(), self._strike(upstream, late))

    @property
    def _stale_at(self) -> float:
        return self._schedule.stale_at(self.builder.catalogue)

    async def _next_wake(self) -> bool:
        """Wait for a reason to act; True if it is only that the time has come."""
        with trio.move_on_at(min(self._schedule.probe_at, self._stale_at)):
            await self._wake.wait()
        periodic = not self._wake.is_set()
        await trio.sleep_until(self._schedule.earliest_at(periodic=periodic))
        self._wake = trio.Event()
        return periodic

    async def _look_after(self, upstream: Upstream, *, periodic: bool) -> bool:
        """Probe, and find out what is doubtful or may have changed unheard; True: it speaks a newer era than this."""
        await self._probe(upstream)
        verdict = self.known_now()
        if verdict.provisional and (found := await self.connector.reconsider(verdict)) != verdict:
            if found.modern:
                self._doubted = True
            else:
                self.builder.verdict = found
            return found.modern is True
        if self.legacy.due(self.builder.catalogue, noticed=False):
            await self.legacy.look(verdict, self.builder.catalogue)
            self.builder.announce()
        unheard = periodic and not self.notices.tell_all(upstream.connection)
        if unheard or not self.machine.listed:
            await self._discover(upstream)
        return False

    def _strike(self, upstream: Upstream, late: BackendTimeout) -> float:
        """A late probe ends a connection, but not a pipe that carries calls; return the pause until the next one.

        A process that works on a long call may answer pings only after it: its calls keep their deadlines.
        """
        last = self.machine.failures + 1 >= self.machine.failures_to_open
        if not self.known_now().pipe or (last and not upstream.users):
            raise late
        self.builder.failed(late)
        return self.jitter(Backoff().delay_s(self.machine.failures))

    async def _probe(self, upstream: Upstream) -> None:
        """Ask for a sign of life; any answer is one.

        Raises:
            BackendTimeout: it came too late. BackendError: the connection failed.
            BackendProtocol: a modern backend that is modern no more.
        """
        era, builder = upstream.connection.hello.era, self.builder
        self._schedule.probing(trio.current_time())
        self.connector.tidy()
        outgoing = request("server/discover" if era.modern else "ping", {}, era)
        hear = partial(self._hear_on, upstream.link)
        try:
            answer = await ask(upstream.link, self.key, outgoing, hear, self.spec.timeouts.list_s)
        except BackendRefused as refused:  # an error is a sign of life too
            if era.modern:
                raise
            if speaks_of_session(refused.message.encode()):
                raise BackendSessionLost(backend=self.key, request="ping") from refused
        else:
            if era.modern:
                hello = read_hello(answer, era, self.key)
                if builder.hello is not None and hello.capabilities != builder.hello.capabilities:
                    self.refresh()
                builder.hello = hello
        builder.probed()

    async def _discover(self, upstream: Upstream) -> None:
        began_at = trio.current_time()
        found = await self._read_lists(upstream)
        catalogue, era = self.builder.catalogue, upstream.connection.hello.era
        newly = catalogue is not None and found.mute and not catalogue.mute
        if newly and not self.known_now().pipe and not era.modern:
            # Perhaps another server has taken its place: one with another era would refuse the ping in the same words.
            raise BackendSessionLost(backend=self.key)
        self._publish(found, began_at, loud=False)

    def _publish(self, found: Catalogue, began_at: float, *, loud: bool) -> None:
        self.builder.discovered(found, began_at, loud=loud)
        if found.dropped:
            self.check()
        read, self._read = self._read, trio.Event()
        read.set()

    async def _read_lists(self, upstream: Upstream) -> Catalogue:
        """What a client that declares nothing is shown."""
        verdict, builder = self.known_now(), self.builder
        noticed = self._schedule.discovering(trio.current_time())
        hello = builder.hello or upstream.connection.hello
        discovery = Discovery.of(self.spec, upstream.link, partial(self._hear_on, upstream.link))
        found = await discovery.run(hello, builder.catalogue)
        self._schedule.discovered(found, trio.current_time())
        if self.legacy.due(found, noticed=noticed):
            await self.legacy.look(verdict, found)
        base = found if not hello.era.modern or builder.legacy is None else builder.legacy.catalogue
        if base is not None:
            self.capability_probe.discovered(base, noticed=noticed)
        return found
