"""When to look after a backend that is connected, and the looking.

Owns the clocks between two probes and two discoveries, and which of them a notice,
a ttl, a health period or a failed call causes. Deliberately connects nothing and
handles no lost connection: what fails here is raised to ``supervisor``.
Invariant: at most one discovery is in flight, whatever the backend shouts.
"""

import math
from collections.abc import Callable
from typing import Final

import attrs
import trio

from mcp_gateway.backends.connector import Connection, Connector, Verdict
from mcp_gateway.backends.discovery import Catalogue, Discovery
from mcp_gateway.backends.health import Backoff
from mcp_gateway.backends.legacy_side import LegacySide
from mcp_gateway.backends.notices import Notices, offers
from mcp_gateway.backends.own_requests import answer_alone, ask, read_hello, request
from mcp_gateway.backends.survey import Survey
from mcp_gateway.backends.transports.base import Hear, Hello, Inbound, Link
from mcp_gateway.backends.transports.session_sign import speaks_of_session
from mcp_gateway.backends.upstream import Jitter, Upstream
from mcp_gateway.backends.vitals import Vitals
from mcp_gateway.config.spec import ServerSpec
from mcp_gateway.errors import BackendRefused, BackendSessionLost, BackendTimeout

REFRESH_GAP_S: Final = 1.0
"""The least time between two discoveries caused by notices: a storm costs one per second."""
MIN_TTL_S: Final = 1.0
"""A ``ttlMs`` below this polls no faster."""
STREAM_WAIT_S: Final = 0.2
"""How long the first discovery waits for the stream of notices, so that no change falls between the two."""
CHECK_GAP_S: Final = 0.5
"""The least time between two probes that failed calls or lost streams cause."""
UNREAD_FIRST_S: Final = 1.0
"""The first pause before a list that could not be read is asked for again; it doubles up to ``health.interval``."""


@attrs.define(eq=False, kw_only=True)
class Rounds:
    """Probes and discoveries of one backend, on whichever connection it has now."""

    spec: ServerSpec
    connector: Connector
    vitals: Vitals
    jitter: Jitter
    hear: Hear
    """Gets what comes on the stream of notices."""
    room: Callable[[], bool]
    """See ``Survey.room``."""
    legacy_gone: Callable[[], None]
    """See ``LegacySide.gone``."""
    legacy: LegacySide = attrs.field(init=False)
    notices: Notices = attrs.field(init=False)
    survey: Survey = attrs.field(init=False)
    _discovered_at: float = -math.inf
    _probed_at: float = -math.inf
    _list_wanted: bool = False
    _unread_in_row: int = 0
    """Discoveries one after the other that left a list unread."""
    _unread_pause_s: float = math.inf
    """How long after the last discovery what it left unread is asked for again."""
    _wake: trio.Event = attrs.field(factory=trio.Event)
    _read: trio.Event = attrs.field(factory=trio.Event)
    """The lists have been read once more."""

    def __attrs_post_init__(self) -> None:
        self.notices = Notices(
            backend=self.spec.key,
            list_s=self.spec.timeouts.list_s,
            jitter=self.jitter,
            refresh=self.refresh,
            check=self.check,
            hear=self.hear,
        )
        self.legacy = LegacySide(
            spec=self.spec, connector=self.connector, portrait=self.vitals.portrait, gone=self.legacy_gone
        )
        self.survey = Survey(
            spec=self.spec, connector=self.connector, vitals=self.vitals, jitter=self.jitter, room=self.room
        )

    def refresh(self) -> None:
        """The lists may have changed: discover soon, once, however often this is called."""
        self._list_wanted = True
        self._wake.set()

    def check(self) -> None:
        """Something broke that may mean the backend is gone: probe now."""
        self._wake.set()

    async def reread(self) -> None:
        """Have the lists read again, and wait for that for at most ``timeouts.list``; the snapshot shows the result."""
        self.refresh()
        with trio.move_on_after(self.spec.timeouts.list_s):
            while self._list_wanted:  # a reading that had begun before does not count
                await self._read.wait()

    async def first_look(
        self,
        upstream: Upstream,
        verdict: Verdict,
        nursery: trio.Nursery,
        began_at: float,
        *,
        cached: bool,
        background: trio.Nursery,
    ) -> None:
        """The first discovery on this connection, with the stream of notices open before it, if that is quick.

        Args:
            nursery: of this connection.
            cached: the verdict is of an earlier connection; a modern backend is asked again what it says of itself.
            background: outlives the connection.
        """
        settled = trio.Event()
        nursery.start_soon(self.notices.run, upstream.connection, settled, name=f"notices:{self.spec.key}")
        with trio.move_on_after(STREAM_WAIT_S):
            await settled.wait()
        settled.set()
        if cached and not verdict.pipe and upstream.connection.hello.era.modern:
            await self._probe(upstream)
        found, hello = await self._read_lists(upstream, verdict)
        looks = self._surveyed(upstream, verdict)
        if looks is not None:
            surveyed = self.survey.begin(background, looks)
            if not verdict.pipe:  # there a survey takes processes, and the lists do not wait for them
                with trio.move_on_after(self.spec.timeouts.list_s):
                    await surveyed.wait()
        self._publish(found, hello, began_at, loud=True)

    def _surveyed(self, upstream: Upstream, verdict: Verdict) -> Verdict | None:
        """How the sessions of a survey are opened; None: what is listed cannot depend on them."""
        legacy = self.vitals.portrait.legacy
        if not upstream.connection.hello.era.modern:
            sessionless, looks = not verdict.pipe and upstream.link.shared, verdict
        elif legacy is not None:
            sessionless, looks = legacy.sessionless, verdict.in_legacy
        else:
            return None
        return looks if self.survey.concerns(verdict, sessionless=sessionless) else None

    async def attend(self, upstream: Upstream, verdict: Verdict) -> Verdict:
        """Probe and refresh until the connection fails, or a provisional verdict gives way to the one returned."""
        probe_at = trio.current_time() + self.spec.health.interval_s
        while True:
            periodic = await self._next_wake(min(probe_at, self._stale_at()))
            wants_list = self._list_wanted or trio.current_time() >= self._stale_at()
            try:
                if wants_list:
                    await self._discover(upstream, verdict)
                else:
                    await self._probe(upstream)
                    if verdict.provisional and (found := await self.connector.reconsider(verdict)) != verdict:
                        return found
                    if self.legacy.due(verdict, self.vitals.portrait.catalogue, noticed=False):
                        await self._look_at_legacy(verdict)
                    unheard = periodic and not self._hears_of_changes(upstream.connection)
                    if unheard or not self.vitals.machine.listed:
                        await self._discover(upstream, verdict)
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
        """When the lists are to be read again, whatever the backend tells us until then."""
        catalogue = self.vitals.portrait.catalogue
        if catalogue is None:
            return math.inf
        fresh_s = math.inf if catalogue.ttl_s is None else max(catalogue.ttl_s, MIN_TTL_S)
        return self._discovered_at + min(fresh_s, self._unread_pause_s)

    def _hears_of_changes(self, connection: Connection) -> bool:
        """Whether every list would be announced to us if it changed; otherwise it has to be read again.

        A legacy server with sessions announces a change to the session whose call
        caused it, and often to no other: what our own one hears is not all.
        """
        if connection.listen is not None:
            return False
        advertised = (name for name in ("tools", "prompts", "resources") if name in connection.hello.capabilities)
        return self.notices.live and all(offers(connection, name, "listChanged") for name in advertised)

    def _strike(self, upstream: Upstream, verdict: Verdict, late: BackendTimeout) -> float:
        """A late probe ends a connection, but not a pipe that carries calls; return the pause until the next one.

        A process that works on a long call may answer pings only after it: its calls keep their deadlines.
        """
        machine = self.vitals.machine
        last = machine.failures + 1 >= machine.failures_to_open
        if not verdict.pipe or (last and not upstream.users):
            raise late
        self.vitals.failed(late)
        return self.jitter(Backoff().delay_s(machine.failures))

    async def _probe(self, upstream: Upstream) -> None:
        """Ask for a sign of life; any answer is one.

        Raises:
            BackendTimeout: it came too late. BackendError: the connection failed.
            BackendProtocol: a modern backend that is modern no more.
        """
        key, era, list_s = self.spec.key, upstream.connection.hello.era, self.spec.timeouts.list_s
        self._probed_at = trio.current_time()
        self.connector.tidy()
        hear = self._hear_on(upstream.link)
        if not era.modern:
            try:
                await ask(upstream.link, key, request("ping", {}, era), hear, list_s)
            except BackendRefused as refused:  # an error is a sign of life too
                if speaks_of_session(refused.message.encode()):
                    raise BackendSessionLost(backend=key, request="ping") from refused
        else:
            portrait = self.vitals.portrait
            hello = read_hello(
                await ask(upstream.link, key, request("server/discover", {}, era), hear, list_s), era, key
            )
            if portrait.hello is not None and hello.capabilities != portrait.hello.capabilities:
                self.refresh()
            portrait.hello = hello
        self.vitals.probed()

    async def _discover(self, upstream: Upstream, verdict: Verdict) -> None:
        began_at = trio.current_time()
        found, hello = await self._read_lists(upstream, verdict)
        catalogue, era = self.vitals.portrait.catalogue, upstream.connection.hello.era
        newly = catalogue is not None and found.mute and not catalogue.mute
        if newly and not verdict.pipe and not era.modern:
            # Perhaps another server has taken its place: one with another era would refuse the ping in the same words.
            raise BackendSessionLost(backend=self.spec.key)
        self._publish(found, hello, began_at, loud=False)

    def _publish(self, found: Catalogue, hello: Hello, began_at: float, *, loud: bool) -> None:
        self.vitals.discovered(found, hello, began_at, loud=loud)
        if found.dropped:
            self.check()
        read, self._read = self._read, trio.Event()
        read.set()

    def _plan_rereading(self, found: Catalogue, took_s: float) -> None:
        """A list that could not be read is asked for again, with growing pauses, the longer the more it costs."""
        if not found.unread:
            self._unread_in_row, self._unread_pause_s = 0, math.inf
            return
        pauses = Backoff(first_s=max(UNREAD_FIRST_S, 3 * took_s), ceiling_s=self.spec.health.interval_s)
        pause_s = self.jitter(pauses.delay_s(self._unread_in_row))
        self._unread_in_row += 1
        self._unread_pause_s = max(pause_s, found.retry_after_s, MIN_TTL_S)

    async def _read_lists(self, upstream: Upstream, verdict: Verdict) -> tuple[Catalogue, Hello]:
        """What a client that declares nothing is shown, and what the backend says of itself."""
        noticed, self._list_wanted = self._list_wanted, False
        self._discovered_at = trio.current_time()
        portrait = self.vitals.portrait
        hello = portrait.hello or upstream.connection.hello
        discovery = Discovery(
            link=upstream.link,
            backend=self.spec.key,
            list_s=self.spec.timeouts.list_s,
            over_http=verdict.transport != "stdio",
            hear=self._hear_on(upstream.link),
        )
        found = await discovery.run(hello, portrait.catalogue)
        began_at, self._discovered_at = self._discovered_at, trio.current_time()
        self._plan_rereading(found, self._discovered_at - began_at)
        if self.legacy.due(verdict, found, noticed=noticed):
            await self.legacy.look(verdict, found)
        base = found if not hello.era.modern or portrait.legacy is None else portrait.legacy.catalogue
        if base is not None:
            self.survey.discovered(base, noticed=noticed)
        return found, hello

    async def _look_at_legacy(self, verdict: Verdict) -> None:
        """It is not known yet, or doubtful, whether and how the backend speaks 2025."""
        await self.legacy.look(verdict, self.vitals.portrait.catalogue)
        self.vitals.announce()

    def _hear_on(self, link: Link) -> Hear:
        """What comes with an exchange of our own: notices for us; a request cannot be attributed to any client."""

        async def hear(inbound: Inbound) -> None:
            if not self.notices.heard(inbound):
                await answer_alone(link, inbound)

        return hear
