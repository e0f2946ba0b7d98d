"""Which link carries whose exchanges, and so in which era they go up.

Owns the choice (``era_choice`` decides it, from what is known of the backend) and what is
kept of it for the life of a client session; how a caller's link is opened, and what follows
if it cannot be. Deliberately keeps no link (``upstream_sessions``, ``supervisor``) and
carries no exchange (``backend``).
Invariant: a client session's requests go up in one era, as long as the backend speaks it.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import attrs
import trio

from mcp_gateway.backends.caller import EVERYBODY, SESSIONLESS, Caller, SessionKey
from mcp_gateway.backends.connector import Connection, Connector
from mcp_gateway.backends.era_choice import Circumstances, family_for
from mcp_gateway.backends.running import REMOVED
from mcp_gateway.backends.start import Start
from mcp_gateway.backends.supervisor import Supervisor
from mcp_gateway.backends.transports.base import ClientIdentity, Hear, Hello, Inbound
from mcp_gateway.backends.upstream import Jitter, Upstream
from mcp_gateway.backends.upstream_sessions import Bound, UpstreamSessions
from mcp_gateway.config.spec import ServerSpec
from mcp_gateway.errors import (
    BackendDown,
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendRefused,
    BackendTimeout,
    GatewayError,
    Overload,
)
from mcp_gateway.protocol.eras import NEWEST_LEGACY, Family

REMEMBERED: Final = 10_000
"""Client sessions whose era is remembered; beyond them that of the oldest is decided anew."""


@attrs.define(eq=False, kw_only=True)
class Reach:
    """The ways of one backend's callers to it."""

    spec: ServerSpec
    connector: Connector
    supervisor: Supervisor
    jitter: Jitter
    opened: Callable[[Upstream], None]
    """Told of a process (or connection) that a caller has of its own, whenever it is used."""
    sessions: UpstreamSessions | None = None
    """While the backend runs."""
    shared_for_lack: int = 0
    """Calls that shared a pipe without their capabilities because ``limits.processes`` was reached."""
    _sessions_bound: Bound = attrs.field(init=False)
    _process_bound: Bound = attrs.field(init=False)
    _eras: dict[str, Family] = attrs.field(factory=dict)
    """Where a client session's requests go, for as long as it lives."""
    settled: dict[str | Caller, Upstream] = attrs.field(factory=dict)
    """The links found for callers since anything that decides it has changed, by their sessions where they have one."""

    def __attrs_post_init__(self) -> None:
        limits = self.spec.limits
        self._sessions_bound = Bound(name="limits.upstreamSessions", limit=limits.upstream_sessions, evicts=True)
        self._process_bound = Bound(name="limits.processes", limit=limits.processes, evicts=False)

    @property
    def pipe(self) -> bool:
        """Whether calls share a process or an HTTP+SSE connection."""
        verdict = self.supervisor.verdict
        return verdict is not None and verdict.pipe

    @property
    def _bound(self) -> Bound:
        return self._process_bound if self.pipe else self._sessions_bound

    def begin(self, nursery: trio.Nursery, heard: Callable[[Upstream, Inbound], bool]) -> UpstreamSessions:
        """The backend runs: links of callers may be opened, in its nursery; ``heard``: see ``UpstreamSessions``."""
        self.sessions = UpstreamSessions(
            backend=self.spec.key,
            open_link=self._open_link,
            heard=heard,
            failed=self._open_failed,
            replaced=self._session_replaced,
            timeouts=self.spec.timeouts,
            jitter=self.jitter,
            nursery=nursery,
        )
        return self.sessions

    def _open_link(
        self, key: SessionKey, identity: ClientIdentity, hear: Hear
    ) -> AbstractAsyncContextManager[Connection]:
        verdict = self.supervisor.known_now()
        if self.supervisor.builder.modern and key != EVERYBODY:
            verdict = verdict.in_legacy
        return Start.of(self.spec).link(self.connector, verdict, identity, hear)

    def _open_failed(self, error: GatewayError, began_at: float) -> None:
        """A caller's link could not be opened: a connection error counts, an odd answer makes us doubt the era."""
        if self.pipe and self.supervisor.builder.modern:
            return  # it was tried in 2025, which it need not speak
        if isinstance(error, (BackendGone, BackendTimeout)):
            self.supervisor.call_failed(error, began_at)
        elif isinstance(error, (BackendProtocol, BackendRefused)):
            self.supervisor.legacy_surprised()

    def changed(self) -> None:
        """What is known of the backend has changed: whose link is whose is decided anew."""
        self.settled.clear()

    def _session_replaced(self) -> None:
        """A session was lost without a word: others may be, and the gateway's own."""
        self.doubt_all()
        self.supervisor.check()

    def doubt_all(self) -> None:
        """Sessions were lost: the others are asked before their next use."""
        if self.sessions is not None:
            self.sessions.doubt_all(trio.current_time())

    def era_changed(self, kept: frozenset[Family]) -> None:
        """The backend speaks other eras now: links are of no use any more but those in ``kept``."""
        self.changed()
        if self.sessions is not None:
            self.sessions.forget_all(patience_s=self.spec.timeouts.max_s, but_legacy=Family.LEGACY in kept)

    def session_ended(self, session: str) -> None:
        """The client session is over."""
        self._eras.pop(session, None)
        self.settled.pop(session, None)

    # --- without waiting ---

    def family_for(self, caller: Caller) -> Family | None:
        """The family in which this caller's requests go up now; None: nothing is known of the backend yet."""
        supervisor = self.supervisor
        spoken = supervisor.builder.spoken
        if len(spoken) < 2:
            return next(iter(spoken), None)
        held = self._eras.get(caller.session) if caller.session is not None else None
        # Only a newcomer's era depends on the room.
        sessions = self.sessions if caller.session is not None and held is None else None
        return family_for(
            Circumstances(
                spoken=spoken,
                client=caller.family,
                askable=caller.askable,
                held=held,
                sessionless=supervisor.builder.sessionless,
                pipe=self.pipe,
                room=sessions is None or sessions.has_room(caller.key, self._bound),
            )
        )

    def hello_for(self, caller: Caller) -> Hello | None:
        """What the backend said of itself where this caller's requests go; None: nothing is known yet."""
        family, upstream = self.family_for(caller), self.find(caller)
        if family is None or (upstream is not None and upstream.link.era.family is family):
            return None if upstream is None else upstream.connection.hello
        hello = self.supervisor.builder.hello_in(family)
        if hello is None and family is Family.LEGACY:  # a process of its own, which is not there yet
            newest = self.supervisor.builder.hello
            return Hello(era=NEWEST_LEGACY, capabilities=newest.capabilities if newest is not None else {})
        return hello

    def key_of(self, caller: Caller) -> SessionKey:
        """Whose link a caller uses (docs/architecture.md, "Upstream sessions"), as far as is known of the backend now.

        To be asked only of who is going to use it: a client session's era is settled by it.
        """
        supervisor = self.supervisor
        family = self.family_for(caller)
        if caller.session is not None and family is not None and self._eras.get(caller.session) is not family:
            self._eras[caller.session] = family
            if len(self._eras) > REMEMBERED:
                del self._eras[next(iter(self._eras))]
        if family is not Family.LEGACY:
            return EVERYBODY
        if supervisor.builder.sessionless:
            return SESSIONLESS if supervisor.builder.modern else EVERYBODY
        return EVERYBODY if self.pipe and not caller.askable else caller.key

    def find(self, caller: Caller) -> Upstream | None:
        """The link that the caller uses now, without opening any."""
        sessions, verdict = self.sessions, self.supervisor.verdict
        if sessions is None or verdict is None:
            return None
        own = sessions.find(caller.key) or sessions.find(SESSIONLESS)
        if own is not None:
            return own
        return self.supervisor.shared_now() if verdict.pipe else sessions.find(EVERYBODY)

    # --- the caller holds the deadline ---

    async def upstream_for(self, caller: Caller) -> Upstream:
        """The link that the caller's exchanges use, opened if need be; everybody's where no place is left for its own.

        Raises:
            BackendDown, BackendGone, BackendTimeout, Overload and what opening a link raises.
        """
        supervisor, sessions = self.supervisor, self.sessions
        supervisor.attempts.check_circuit()
        if sessions is None:
            raise BackendDown(backend=supervisor.key, why=REMOVED)
        verdict = supervisor.verdict or await supervisor.known()
        shared = await supervisor.shared() if verdict.pipe else None
        key = self.key_of(caller)
        if shared is not None:
            return shared if key.everybodys else await self._process_for(key, caller, sessions, shared)
        identity = ClientIdentity() if key.everybodys else caller.identity
        upstream = await sessions.get(key, identity, self._sessions_bound)
        if supervisor.builder.modern and upstream.link.shared is not key.everybodys:
            supervisor.legacy_surprised()
        elif upstream.usable:
            if len(self.settled) >= REMEMBERED:
                self.changed()
            self.settled[caller.session or caller] = upstream
        await sessions.stream_settled(upstream)
        return upstream

    async def _process_for(
        self, key: SessionKey, caller: Caller, sessions: UpstreamSessions, shared: Upstream
    ) -> Upstream:
        """A process (or connection) of the caller's own; if it does not begin in its era, ``shared`` serves."""
        try:
            upstream = await sessions.get(key, caller.identity, self._process_bound)
        except Overload:
            self.shared_for_lack += 1
            return shared
        except BackendError as error:
            if not shared.link.era.modern:
                raise
            self.supervisor.legacy.refused(error)
            return await self.supervisor.shared()
        self.opened(upstream)
        await sessions.stream_settled(upstream)
        return upstream
