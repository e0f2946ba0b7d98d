"""The loop that keeps one backend discovered.

Owns the discovery connection, the health machine and the Snapshot: connect,
discover, publish, then wait for the first of list_changed, ttl, health period,
stream lost; on failure pause and begin again. On pipes its connection is also
the one that callers share. Deliberately runs no calls: its failure changes
health, never a call (except where the connection itself, a process, has ended).
Invariant: at most one discovery is in flight, whatever the backend shouts.
"""

import contextlib
import logging
import math
from collections.abc import Callable
from typing import Final, NoReturn

import attrs
import trio

from mcp_gateway.backends.connector import UPSTREAM_FAULTS, Connection, Connector, Verdict, connect_within, leading
from mcp_gateway.backends.discovery import Discovery
from mcp_gateway.backends.health import Backoff, HealthMachine
from mcp_gateway.backends.own_requests import GATEWAY, answer_alone, ask, read_hello, request
from mcp_gateway.backends.portrait import Portrait
from mcp_gateway.backends.subscriptions import Subscriptions, offers
from mcp_gateway.backends.transports.base import Hear, Inbound, Link
from mcp_gateway.backends.upstream import Jitter, Upstream
from mcp_gateway.config.spec import ServerSpec
from mcp_gateway.errors import (
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
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)

REFRESH_GAP_S: Final = 1.0
"""The least time between two discoveries caused by notices: a storm costs one per second."""
MIN_TTL_S: Final = 1.0
"""A ``ttlMs`` below this polls no faster."""
STREAM_WAIT_S: Final = 0.2
"""How long the first discovery waits for the stream of notices, so that no change falls between the two."""
CHECK_GAP_S: Final = 0.5
"""The least time between two probes that failed calls or lost streams cause."""
REPROBE_GAP_S: Final = 10.0
"""The least time between two re-probes of the era that calls cause."""


@attrs.define(eq=False, kw_only=True)
class Supervisor:
    """Discovery and health of one backend."""

    spec: ServerSpec
    connector: Connector
    portrait: Portrait
    era_changed: Callable[[], None]
    """Links of the old era are of no use any more."""
    jitter: Jitter
    subscriptions: Subscriptions = attrs.field(init=False)
    machine: HealthMachine = attrs.field(init=False)
    verdict: Verdict | None = None
    sessionless: bool = False
    """The backend gives no session ids: one link serves everybody."""
    restarts: int = 0
    retry_at: float | None = None
    """When the next attempt begins; None while one is running or the connection is up."""
    first_answer: trio.Event = attrs.field(factory=trio.Event)
    """The first attempt has succeeded or failed."""
    settled: trio.Event = attrs.field(factory=trio.Event)
    """The first success, or the circuit has opened: there is no point in waiting longer."""
    _upstream: Upstream | None = None
    _connections: int = 0
    _attempts_failed: int = 0
    _doubted: bool = False
    """The verdict stays in force for calls, but the next attempt asks again."""
    _busy_s: float = 0.0
    """What the backend asked us to wait."""
    _discovered_at: float = -math.inf
    _probed_at: float = -math.inf
    _reprobed_at: float = -math.inf
    _list_wanted: bool = False
    _wake: trio.Event = attrs.field(factory=trio.Event)
    _turn: trio.Event = attrs.field(factory=trio.Event)
    _downfall: trio.Event = attrs.field(factory=trio.Event)
    _read: trio.Event = attrs.field(factory=trio.Event)
    """The lists have been read once more."""

    def __attrs_post_init__(self) -> None:
        self.machine = HealthMachine(
            failures_to_open=self.spec.health.failures,
            grace_when_down_s=self.spec.health.grace_when_down_s,
            since_at=trio.current_time(),
        )
        self.subscriptions = Subscriptions(
            backend=self.key,
            list_s=self.spec.timeouts.list_s,
            jitter=self.jitter,
            refresh=self.refresh,
            check=self.check,
            hear=self._hear,
        )

    @property
    def key(self) -> BackendKey:
        return self.spec.key

    # --- what others ask for; plain functions ---

    def refresh(self) -> None:
        """The lists may have changed: discover soon, once, however often this is called."""
        self._list_wanted = True
        self._wake.set()

    def check(self) -> None:
        """Something broke that may mean the backend is gone: probe now."""
        self._wake.set()

    def surprised(self) -> None:
        """An answer did not fit the era: find it out again, at most every ``REPROBE_GAP_S``."""
        now_at = trio.current_time()
        if now_at - self._reprobed_at >= REPROBE_GAP_S:
            self._reprobed_at = now_at
            self.check()

    def call_failed(self, error: GatewayError, began_at: float) -> None:
        """A call that began at ``began_at`` met a connection error, which is a failure like that of a probe.

        Calls that ran side by side fail together: only one that began after the
        last failure is one more in the row. On pipes the end of the connection is
        one failure, and ``run`` sees it itself.
        """
        last_at = self.machine.last_error_at
        piped = self.verdict is not None and self.verdict.pipe
        if not piped and (last_at is None or began_at > last_at or not self.machine.failures):
            self._count(error)
        self.check()

    def call_answered(self) -> None:
        """A call was answered, whatever the answer."""
        if self.machine.failures:
            self.machine.answered(trio.current_time())
            self._announce()

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

    async def reread(self) -> None:
        """Have the lists read again, and wait for that for at most ``timeouts.list``; the snapshot shows the result."""
        self.refresh()
        with trio.move_on_after(self.spec.timeouts.list_s):
            while self._list_wanted:  # a reading that had begun before does not count
                await self._read.wait()

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
            nursery.start_soon(self._let_list_expire, name=f"grace:{self.key}")
            while not self.portrait.retired:
                connected_before, began_at = self._connections, trio.current_time()
                try:
                    await self._connect_and_attend()
                except* UPSTREAM_FAULTS as group:
                    self._failed(leading(group), began_at)
                if self._connections == connected_before:
                    self._attempts_failed += 1
                await self._pause()
            nursery.cancel_scope.cancel("retired")

    async def _pause(self) -> None:
        now_at = trio.current_time()
        delay_s = max(self.jitter(Backoff().delay_s(self.machine.connection_ended(now_at))), self._busy_s)
        self._busy_s = 0.0
        self.retry_at = now_at + delay_s
        self._turned()
        if not self.portrait.retired:
            await trio.sleep(delay_s)
        self.retry_at = None

    async def _connect_and_attend(self) -> None:
        began_at = trio.current_time()
        cached = self.verdict is not None and not self._doubted
        verdict = await self._detect()
        opening = self.connector.link(verdict, GATEWAY, self._hear)
        async with connect_within(opening, self.key, self.spec.timeouts.connect_s) as connection:
            async with trio.open_nursery() as nursery:
                upstream = Upstream(connection=connection, nursery=nursery, identity=GATEWAY)
                try:
                    self._connected(upstream, verdict)
                    nursery.start_soon(self._watch, connection)
                    await self._first_look(upstream, nursery, began_at, asks_first=cached and not verdict.pipe)
                    await self._attend(upstream, verdict)
                finally:
                    self._upstream = None

    async def _detect(self) -> Verdict:
        if self.verdict is None or self._doubted:
            connect_s = self.spec.timeouts.connect_s
            verdict: Verdict | None = None
            with trio.move_on_after(connect_s):
                verdict = await self.connector.detect()
            if verdict is None:
                raise BackendTimeout(backend=self.key, after_s=connect_s, limit=Limit.CONNECT, executed=Executed.NO)
            if self.verdict is not None and self.verdict.transport != verdict.transport:
                self.era_changed()
            self.verdict, self._doubted = verdict, False
            self._turned()
        return self.verdict

    def _connected(self, upstream: Upstream, verdict: Verdict) -> None:
        hello = upstream.connection.hello
        if self.portrait.hello is not None and self.portrait.hello.era.family is not hello.era.family:
            self.era_changed()
        if verdict.pipe and self._connections:
            self.restarts += 1
        if self._connections:
            self.portrait.observer.reconnected(self.key)
        self.portrait.hello = hello
        self.sessionless = not verdict.pipe and upstream.link.shared
        self._connections += 1
        self._upstream = upstream
        self._turned()

    async def _watch(self, connection: Connection) -> None:
        why = await connection.gone()
        raise BackendGone(backend=self.key, why=why, executed=Executed.NO)

    async def _first_look(
        self, upstream: Upstream, nursery: trio.Nursery, began_at: float, *, asks_first: bool
    ) -> None:
        """The first discovery on this connection, with the stream of notices open before it, if that is quick.

        ``asks_first``: what the backend said of itself was cached, so a modern one is asked again.
        """
        settled = trio.Event()
        nursery.start_soon(self.subscriptions.run, upstream.connection, settled, name=f"notices:{self.key}")
        with trio.move_on_after(STREAM_WAIT_S):
            await settled.wait()
        settled.set()
        if asks_first and upstream.connection.hello.era.modern:
            await self._probe(upstream)
        await self._discover(upstream, began_at, loud=True)

    async def _attend(self, upstream: Upstream, verdict: Verdict) -> NoReturn:
        """Probe and refresh until the connection fails."""
        probe_at = trio.current_time() + self.spec.health.interval_s
        while True:
            periodic = await self._next_wake(min(probe_at, self._stale_at()))
            wants_list = self._list_wanted or trio.current_time() >= self._stale_at()
            try:
                if wants_list:
                    await self._discover(upstream, trio.current_time())
                else:
                    await self._probe(upstream)
                    if (periodic and not self._hears_of_changes(upstream.connection)) or not self.machine.listed:
                        await self._discover(upstream, trio.current_time())
                probe_at = trio.current_time() + self.spec.health.interval_s
            except BackendTimeout as late:
                self._list_wanted |= wants_list
                probe_at = trio.current_time() + self._strike(upstream, verdict, late)

    async def _next_wake(self, until: float) -> bool:
        """Wait for a reason to act; True if it is only that the time has come."""
        with trio.move_on_at(until):
            await self._wake.wait()
        periodic = not self._wake.is_set()
        if self._list_wanted:
            await trio.sleep_until(self._discovered_at + REFRESH_GAP_S)
        elif not periodic:
            await trio.sleep_until(self._probed_at + CHECK_GAP_S)
        self._wake = trio.Event()
        return periodic

    def _stale_at(self) -> float:
        ttl_s = self.portrait.catalogue.ttl_s if self.portrait.catalogue is not None else None
        return math.inf if ttl_s is None else self._discovered_at + max(ttl_s, MIN_TTL_S)

    def _hears_of_changes(self, connection: Connection) -> bool:
        """Whether every list would be announced to us if it changed; otherwise it has to be read again.

        A legacy server with sessions announces a change to the session whose call
        caused it, and often to no other: what our own one hears is not all.
        """
        if connection.listen is not None:
            return False
        advertised = (name for name in ("tools", "prompts", "resources") if name in connection.hello.capabilities)
        return self.subscriptions.live and all(offers(connection, name, "listChanged") for name in advertised)

    def _strike(self, upstream: Upstream, verdict: Verdict, late: BackendTimeout) -> float:
        """A late probe ends a connection, but not a pipe that carries calls; return the pause until the next one.

        A process that works on a long call may answer pings only after it: its calls keep their deadlines.
        """
        last = self.machine.failures + 1 >= self.machine.failures_to_open
        if not verdict.pipe or (last and not upstream.users):
            raise late
        self._count(late)
        return self.jitter(Backoff().delay_s(self.machine.failures))

    async def _probe(self, upstream: Upstream) -> None:
        """Ask for a sign of life; any answer is one.

        Raises:
            BackendTimeout: it came too late. BackendError: the connection failed.
            BackendProtocol: a modern backend that is modern no more.
        """
        era, list_s = upstream.connection.hello.era, self.spec.timeouts.list_s
        self._probed_at = trio.current_time()
        self.connector.tidy()
        hear = self._hear_on(upstream.link)
        if not era.modern:
            with contextlib.suppress(BackendRefused):  # an error is a sign of life too
                await ask(upstream.link, self.key, request("ping", {}, era), hear, list_s)
        else:
            result = await ask(upstream.link, self.key, request("server/discover", {}, era), hear, list_s)
            hello = read_hello(result, era, self.key)
            if self.portrait.hello is not None and hello.capabilities != self.portrait.hello.capabilities:
                self.refresh()
            self.portrait.hello = hello
        self.machine.probed(trio.current_time())
        self._announce()

    async def _discover(self, upstream: Upstream, began_at: float, *, loud: bool = False) -> None:
        self._list_wanted = False
        self._discovered_at = trio.current_time()
        hello = self.portrait.hello or upstream.connection.hello
        discovery = Discovery(
            link=upstream.link,
            backend=self.key,
            list_s=self.spec.timeouts.list_s,
            over_http=self.verdict is None or self.verdict.transport != "stdio",
            hear=self._hear_on(upstream.link),
        )
        found = await discovery.run(hello, self.portrait.catalogue)
        self._discovered_at = trio.current_time()
        self.machine.discovered(self._discovered_at)
        duration_s = self._discovered_at - began_at
        self.portrait.discovered(found, hello, duration_s, loud=loud)
        self.first_answer.set()
        self.settled.set()
        self._announce()
        read, self._read = self._read, trio.Event()
        read.set()

    # --- messages on the discovery connection ---

    async def _hear(self, inbound: Inbound) -> None:
        """What belongs to no exchange: notices for us; a request cannot be attributed to any client."""
        if not self.subscriptions.heard(inbound) and self._upstream is not None:
            await answer_alone(self._upstream.link, inbound)

    def _hear_on(self, link: Link) -> Hear:
        """What comes with an exchange of our own: the same, on a link that is known."""

        async def hear(inbound: Inbound) -> None:
            if not self.subscriptions.heard(inbound):
                await answer_alone(link, inbound)

        return hear

    # --- health ---

    def _failed(self, error: BaseException, began_at: float) -> None:
        """An attempt or a connection has failed."""
        if isinstance(error, (BackendProtocol, BackendRefused, RemoteFault)):
            self._doubted = True  # perhaps not what we took it for: ask again
        if isinstance(error, BackendError) and error.retry_after_ms is not None:
            self._busy_s = min(error.retry_after_ms / 1000, Backoff().ceiling_s)
        if isinstance(error, BackendSessionLost):
            self._doubted = True
            if self.machine.ready_at is not None:
                return  # it lives, it only forgot us
        if isinstance(error, GatewayError):
            self._count(error)
            self.portrait.observer.discovery(self.key, trio.current_time() - began_at, ok=False)

    def _count(self, error: GatewayError) -> None:
        opened = self.machine.failed(trio.current_time(), str(error))
        if opened:
            logger.warning("backend down", extra={"backend": self.key, "why": str(error)})
            self._downfall.set()
            self.settled.set()
        self.first_answer.set()
        self._announce()

    def _announce(self) -> None:
        self.portrait.announce(self.machine.health, None if self.verdict is None else self.verdict.transport)

    async def _let_list_expire(self) -> None:
        """Withdraw the last good list once the backend has been down for its grace."""
        while True:
            await self._downfall.wait()
            self._downfall = trio.Event()
            while (expires_at := self.machine.list_expires_at) is not None:
                await trio.sleep_until(expires_at)
                if self.machine.expire(trio.current_time()):
                    self.portrait.catalogue = None
                    logger.warning("list withdrawn", extra={"backend": self.key})
                    self._announce()
