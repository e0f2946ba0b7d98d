"""The loop that keeps one backend connected.

Owns the discovery connection and the verdict: detect, connect, have it looked after
(``rounds``) until it is lost, pause and begin again. On pipes its connection is also
the one that callers share. Deliberately runs no calls: its failure changes
health, never a call (except where the connection itself, a process, has ended).
Invariant: at most one connection is open or being opened here at any time (a survey's sessions are its own).
"""

import math
from collections.abc import Callable
from typing import Final

import attrs
import trio

from mcp_gateway.backends.connector import UPSTREAM_FAULTS, Connection, Connector, Verdict, leading
from mcp_gateway.backends.health import Backoff, HealthMachine
from mcp_gateway.backends.legacy_side import LegacySide
from mcp_gateway.backends.notices import Notices
from mcp_gateway.backends.own_requests import GATEWAY, answer_alone
from mcp_gateway.backends.portrait import LegacyFacts, Portrait
from mcp_gateway.backends.rounds import Rounds
from mcp_gateway.backends.start import Start
from mcp_gateway.backends.transports.base import Hello, Inbound
from mcp_gateway.backends.upstream import Jitter, Upstream
from mcp_gateway.backends.vitals import Vitals
from mcp_gateway.config.spec import ServerSpec, StdioTarget
from mcp_gateway.errors import (
    BackendDown,
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendRefused,
    BackendSessionLost,
    BackendTimeout,
    Executed,
    GatewayError,
    Limit,
    LocalFault,
    RemoteFault,
)
from mcp_gateway.protocol.eras import Era, Family
from mcp_gateway.values import BackendKey

EAGER: Final = Backoff(ceiling_s=2.0)
"""Between attempts at a server over HTTP that may be starting, or starting again (``HealthMachine.eager_until``)."""
HASTE_S: Final = 0.5
"""The least pause between two attempts, however many calls there are."""
_LEGACY_ALONE: Final = frozenset({Family.LEGACY})
REPROBE_GAP_S: Final = 10.0
"""The least time between two re-probes of the era that calls cause."""


@attrs.define(eq=False, kw_only=True)
class Supervisor:
    """The connection to one backend through which it is discovered and probed."""

    spec: ServerSpec
    connector: Connector
    portrait: Portrait
    era_changed: Callable[[frozenset[Family]], None]
    """Links are of no use any more but those in these families."""
    reconnected: Callable[[], None]
    """The gateway's own session was lost and stands again: others may be lost."""
    jitter: Jitter
    room: Callable[[], bool]
    """Whether one more process may run beside those of callers."""
    vitals: Vitals = attrs.field(init=False)
    rounds: Rounds = attrs.field(init=False)
    verdict: Verdict | None = None
    start: Start | None = None
    """The last attempt to open the connection, running or not."""
    restarts: int = 0
    retry_at: float | None = None
    """When the next attempt begins; None while one is running or the connection is up."""
    _sessionless: bool = False
    _upstream: Upstream | None = None
    _connections: int = 0
    _attempts_failed: int = 0
    _doubted: bool = False
    """The verdict stays in force for calls, but the next attempt asks again."""
    _busy_s: float = 0.0
    """What the backend asked us to wait."""
    _reprobed_at: float = -math.inf
    _pausing: trio.CancelScope | None = None
    """The pause between two attempts, where it may be shortened."""
    _hastened_to: float = -math.inf
    """When it ends at the earliest."""
    _turn: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        machine = HealthMachine(
            failures_to_open=self.spec.health.failures,
            grace_when_down_s=self.spec.health.grace_when_down_s,
            since_at=trio.current_time(),
        )
        self.vitals = Vitals(machine=machine, portrait=self.portrait)
        self.rounds = Rounds(
            spec=self.spec,
            connector=self.connector,
            vitals=self.vitals,
            jitter=self.jitter,
            hear=self._hear,
            room=self.room,
            legacy_gone=lambda: self.era_changed(self.spoken),
        )

    @property
    def key(self) -> BackendKey:
        """Whose supervisor this is."""
        return self.spec.key

    @property
    def _over_network(self) -> bool:
        """An attempt costs a connection, not a process."""
        return not isinstance(self.spec.target, StdioTarget)

    @property
    def machine(self) -> HealthMachine:
        """What is known of the backend's health."""
        return self.vitals.machine

    @property
    def notices(self) -> Notices:
        """What the backend tells this connection unasked."""
        return self.rounds.notices

    @property
    def modern(self) -> bool | None:
        """Whether the newest era of the backend is 2026; None: not known yet."""
        verdict, hello = self.verdict, self.portrait.hello
        if verdict is None or verdict.modern is not None:
            return None if verdict is None else verdict.modern
        return None if hello is None else hello.era.modern

    @property
    def spoken(self) -> frozenset[Family]:
        """The families that the backend is known to speak; none while nothing is known."""
        if self.verdict is None or self.modern is None:
            return frozenset()
        return self.rounds.legacy.spoken(self.verdict) if self.modern else _LEGACY_ALONE

    @property
    def sessionless(self) -> bool:
        """Whether it gives no session ids on the 2025 side."""
        if self.modern:
            return self.portrait.legacy is not None and self.portrait.legacy.sessionless
        return self._sessionless

    def hello(self, family: Family) -> Hello | None:
        """What it said of itself in a family; None: it was not asked there yet."""
        newest = self.portrait.hello
        if newest is not None and newest.era.family is family:
            return newest
        if family is Family.LEGACY:
            return None if self.portrait.legacy is None else self.portrait.legacy.hello
        return None if self.verdict is None else self.verdict.hello

    @property
    def eras(self) -> tuple[Era, ...]:
        """The revisions in which it has said something of itself."""
        hellos = (self.portrait.hello, None if self.portrait.legacy is None else self.portrait.legacy.hello)
        return tuple(hello.era for hello in hellos if hello is not None)

    # --- what others ask for; plain functions ---

    def refresh(self) -> None:
        """The lists may have changed: see ``Rounds.refresh``."""
        self.rounds.refresh()

    def surprised(self) -> None:
        """An answer did not fit the era: find it out again, at most every ``REPROBE_GAP_S``."""
        now_at = trio.current_time()
        if now_at - self._reprobed_at >= REPROBE_GAP_S:
            self._reprobed_at = now_at
            self.rounds.check()

    def legacy_surprised(self) -> None:
        """A 2025 session was not as expected: look again what the backend speaks."""
        if self.modern:
            self.rounds.legacy.doubt()
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
            self.vitals.failed(error)
        self.rounds.check()

    def hasten(self) -> None:
        """A call met the open circuit: try again sooner than without callers. Neither a process nor who said when."""
        if self._pausing is not None and self.retry_at is not None:
            self.retry_at = self._pausing.deadline = min(self.retry_at, self._hastened_to)

    def check_circuit(self) -> None:
        """Refuse what has no chance.

        Raises:
            BackendDown: the circuit is open.
        """
        if self.machine.open:
            self.hasten()
            hint_s = None if self.retry_at is None else max(self.retry_at - trio.current_time(), 0.0)
            retry_after_ms = None if hint_s is None else int(hint_s * 1000)
            raise BackendDown(backend=self.key, why=self.machine.last_error, retry_after_ms=retry_after_ms)

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
        self.portrait.retired = True
        self._turned()

    # --- what callers wait for; the caller holds the deadline ---

    async def known(self) -> Verdict:
        """How to speak to the backend.

        Raises:
            BackendGone: the attempt that this call waited for failed, or the next one is too far off.
        """
        failed_before = self._attempts_failed
        while self.verdict is None:
            await self._await_turn(failed_before)
        return self.verdict

    async def shared(self) -> Upstream:
        """The connection that callers of a pipe share; errors as ``known``."""
        failed_before = self._attempts_failed
        while (upstream := self.shared_now()) is None:
            await self._await_turn(failed_before)
        return upstream

    async def _await_turn(self, failed_before: int) -> None:
        pause_s = 0.0 if self.retry_at is None else max(self.retry_at - trio.current_time(), 0.0)
        if self.portrait.retired or self._attempts_failed > failed_before or pause_s > self.spec.timeouts.connect_s:
            raise BackendGone(
                backend=self.key,
                executed=Executed.NO,
                retry_after_ms=int(pause_s * 1000) or None,
                why=self.machine.last_error or "not connected",
            )
        await self._turn.wait()

    def _turned(self) -> None:
        turn, self._turn = self._turn, trio.Event()
        turn.set()

    # --- the loop ---

    async def run(self) -> None:
        """Connect again and again until cancelled, or retired and disconnected."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.vitals.let_list_expire, name=f"grace:{self.key}")
            if isinstance(self.spec.target, StdioTarget):
                nursery.start_soon(self._hold_up_no_longer, name=f"slow start:{self.key}")
            while not self.portrait.retired:
                connected_before, began_at = self._connections, trio.current_time()
                try:
                    await self._connect_and_attend(nursery)
                except* UPSTREAM_FAULTS as group:
                    self._failed(leading(group), began_at)
                if self._connections == connected_before:
                    self._attempts_failed += 1
                await self._pause()
            nursery.cancel_scope.cancel("retired")

    async def _hold_up_no_longer(self) -> None:
        """Nobody waits longer for a process to come up than for a server over HTTP to be reached."""
        await trio.sleep(self.spec.timeouts.connect_s)
        self.vitals.first_answer.set()

    async def _pause(self) -> None:
        now_at = trio.current_time()
        tries = self.machine.connection_ended(now_at)
        eager = self._over_network and now_at < self.machine.eager_until
        delay_s = self.jitter((EAGER if eager else Backoff()).delay_s(tries))
        self.retry_at = now_at + max(delay_s, self._busy_s)
        self._turned()
        if not self.portrait.retired:
            with trio.CancelScope(deadline=self.retry_at) as pause:
                if self._over_network and not self._busy_s:
                    self._pausing, self._hastened_to = pause, now_at + HASTE_S
                await trio.sleep_forever()
        self._busy_s, self._pausing, self.retry_at = 0.0, None, None

    async def _connect_and_attend(self, background: trio.Nursery) -> None:
        began_at = trio.current_time()
        cached = self.verdict is not None and not self._doubted
        verdict = await self._detect()
        self.start = Start.of(self.spec)
        async with self.start.link(self.connector, verdict, GATEWAY, self._hear) as connection:
            async with trio.open_nursery() as nursery:
                upstream = Upstream(connection=connection, nursery=nursery, identity=GATEWAY)
                try:
                    self._connected(upstream, verdict)
                    nursery.start_soon(self._watch, connection)
                    await self.rounds.first_look(
                        upstream, verdict, nursery, began_at, cached=cached, background=background
                    )
                    await self._attend(upstream, verdict)
                finally:
                    self._upstream = None
                    self.rounds.survey.stop()
                nursery.cancel_scope.cancel("to be spoken to in another era")

    async def _attend(self, upstream: Upstream, verdict: Verdict) -> None:
        """Look after a connection until it fails, or turns out to be of an era that is not the backend's best."""
        while not (found := await self.rounds.attend(upstream, verdict)).modern:
            self.verdict = verdict = found
        self._doubted = True

    async def _detect(self) -> Verdict:
        if self.verdict is None or self._doubted or self.verdict.provisional:
            connect_s = self.spec.timeouts.connect_s
            verdict: Verdict | None = None
            with trio.move_on_after(connect_s):
                verdict = await self.connector.detect()
            if verdict is None:
                raise BackendTimeout(
                    backend=self.key,
                    after_s=connect_s,
                    limit=Limit.CONNECT,
                    executed=Executed.NO,
                    request="server/discover" if self.spec.protocol is not None else "initialize",
                )
            if self.verdict is not None and self.verdict.transport != verdict.transport:
                self.era_changed(frozenset())
            self._judged(verdict)
            self.portrait.reached(verdict)
            self._turned()
            return verdict
        return self.verdict

    def _judged(self, verdict: Verdict) -> None:
        """Take over a verdict. A backend that has learnt 2026 may speak 2025 as before, until it is asked."""
        portrait, before = self.portrait, self.portrait.hello
        if not LegacySide.may_be_looked_at(self.spec, verdict):
            portrait.legacy = None
        elif before is not None and not before.era.modern:
            portrait.legacy = LegacyFacts(hello=before, sessionless=self._sessionless, catalogue=portrait.catalogue)
        self.verdict, self._doubted = verdict, False

    def _connected(self, upstream: Upstream, verdict: Verdict) -> None:
        hello, before = upstream.connection.hello, self.portrait.hello
        if verdict.pipe and self._connections:
            self.restarts += 1
        if self._connections:
            self.portrait.observer.reconnected(self.key)
            self.reconnected()
        self.portrait.hello = hello
        self._sessionless = not verdict.pipe and upstream.link.shared
        self.rounds.legacy.connected()
        if before is not None and before.era.family is not hello.era.family:
            self.era_changed(self.spoken)
            self.vitals.announce()  # calls are written in the era that is shown
        self._connections += 1
        self._upstream = upstream
        self._turned()

    async def _watch(self, connection: Connection) -> None:
        why = await connection.gone()
        raise BackendGone(backend=self.key, why=why, executed=Executed.NO)

    async def _hear(self, inbound: Inbound) -> None:
        """What belongs to no exchange: notices for us; a request cannot be attributed to any client."""
        if not self.notices.heard(inbound) and self._upstream is not None:
            await answer_alone(self._upstream.link, inbound)

    def _failed(self, error: BaseException, began_at: float) -> None:
        """An attempt or a connection has failed."""
        if isinstance(error, (BackendProtocol, BackendRefused, RemoteFault)):
            self._doubted = True  # perhaps not what we took it for: ask again
        if isinstance(error, BackendTimeout) and self.verdict is not None and self.verdict.transport == "sse":
            self._doubted = True  # a GET that says nothing is no HTTP+SSE
        if isinstance(error, BackendError) and error.retry_after_ms is not None:
            self._busy_s = min(error.retry_after_ms / 1000, Backoff().ceiling_s)
        if isinstance(error, BackendSessionLost):
            self._doubted = True
            if self.machine.ready_at is not None:
                return  # it lives, it only forgot us
        if isinstance(error, GatewayError):
            self.vitals.failed(error)
            self.portrait.observer.discovery(self.key, trio.current_time() - began_at, ok=False)
