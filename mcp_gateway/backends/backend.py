"""One backend: everything that lives exactly as long as its spec entry.

Owns the lifetime of supervisor, links, slots and calls, and how it all ends.
Deliberately neither discovers (``supervisor``), nor chooses a caller's link (``reach``),
nor opens any (``upstream_sessions``). Invariant: a call ends by its own deadline or
cancel, or because its backend was removed; never because discovery failed.
"""

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final

import attrs
import trio

from mcp_gateway.backends.bays import Bays
from mcp_gateway.backends.caller import Caller
from mcp_gateway.backends.connector import Connector
from mcp_gateway.backends.notices import LIST_CHANGED
from mcp_gateway.backends.observer import Observer
from mcp_gateway.backends.reach import Reach
from mcp_gateway.backends.running import REMOVED, Running, RunningCall
from mcp_gateway.backends.session_lists import SessionLists
from mcp_gateway.backends.snapshot_builder import SnapshotBuilder
from mcp_gateway.backends.subscriptions import Subscriptions
from mcp_gateway.backends.supervisor import Supervisor
from mcp_gateway.backends.transports.base import GOODBYE_S, Answer, Hear, Hello, Inbound, Link, Outgoing
from mcp_gateway.backends.transports.limiter import Limiter
from mcp_gateway.backends.upstream import Jitter, Overhearing, Upstream
from mcp_gateway.config.spec import ServerSpec
from mcp_gateway.errors import BackendDown, BackendGone, BackendProtocol, BackendSessionLost, Executed
from mcp_gateway.protocol.eras import Era, Family
from mcp_gateway.routing.snapshot import Lists, Snapshot
from mcp_gateway.values import BackendKey

REMOVAL_GRACE_S: Final = 10.0

__all__ = ["REMOVAL_GRACE_S", "REMOVED", "Backend", "Caller"]


def _unheard(backend: "Backend", session: str, lists: Lists) -> None:
    """Until somebody wants to know."""


@attrs.define(eq=False, kw_only=True)
class Backend:
    """One generation of one configured server. ``run`` is its life; everything else needs it running."""

    spec: ServerSpec
    _connector: Connector = attrs.field(alias="connector", repr=False)
    _publish: Callable[["Backend", Snapshot], None] = attrs.field(alias="publish", repr=False)
    _relisted: Callable[["Backend", str, Lists], None] = attrs.field(alias="relisted", default=_unheard, repr=False)
    """Told what a client session is listed besides what everybody is."""
    _observer: Observer = attrs.field(alias="observer", repr=False)
    _jitter: Jitter = attrs.field(alias="jitter", repr=False)
    bays: Bays = attrs.field(init=False, factory=Bays, repr=False)
    supervisor: Supervisor = attrs.field(init=False, repr=False)
    reach: Reach = attrs.field(init=False, repr=False)
    subscriptions: Subscriptions = attrs.field(init=False, repr=False)
    session_lists: SessionLists = attrs.field(init=False, repr=False)
    gone: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Everything of it has ended."""
    _nursery: trio.Nursery | None = attrs.field(init=False, default=None, repr=False)
    _places: Limiter = attrs.field(init=False, repr=False)
    _running: Running = attrs.field(init=False, factory=Running, repr=False)
    _retiring: trio.Event = attrs.field(init=False, factory=trio.Event, repr=False)
    _patience: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope, repr=False)
    _life: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope, repr=False)

    def __attrs_post_init__(self) -> None:
        limits = self.spec.limits
        self._places = Limiter(limit=limits.concurrency)
        self.supervisor = Supervisor(
            spec=self.spec,
            connector=self._connector,
            builder=SnapshotBuilder(spec=self.spec, publish=self._published, observer=self._observer),
            era_changed=lambda kept: self.reach.era_changed(kept),
            reconnected=lambda: self.reach.doubt_all(),
            jitter=self._jitter,
            room=lambda: self.sessions < limits.processes,
        )
        self.session_lists = SessionLists(
            backend=self.spec.key,
            list_s=self.spec.timeouts.list_s,
            everybodys=lambda: self.snapshot.lists(Family.LEGACY),
            hear=self._hear_beside,
            tell=lambda session, lists: self._relisted(self, session, lists),
        )
        self.reach = Reach(
            spec=self.spec,
            connector=self._connector,
            supervisor=self.supervisor,
            jitter=self._jitter,
            opened=self.session_lists.opened,
        )
        self.subscriptions = Subscriptions(
            backend=self.spec.key,
            list_s=self.spec.timeouts.list_s,
            notices=self.supervisor.notices,
            jitter=self._jitter,
            key_of=self.reach.key_of,
            reach=self.reach.upstream_for,
        )

    def show_as(self, spec: ServerSpec) -> None:
        """Take a spec that says something else of how the server is shown, and nothing of how it is reached."""
        self.spec = spec
        self.supervisor.builder.spec = spec
        self.supervisor.builder.announce()

    @property
    def key(self) -> BackendKey:
        """The name in the configuration."""
        return self.spec.key

    @property
    def snapshot(self) -> Snapshot:
        """The latest."""
        return self.supervisor.builder.snapshot

    @property
    def pipe(self) -> bool:
        """Whether its calls share a process or an HTTP+SSE connection."""
        return self.reach.pipe

    @property
    def sessions(self) -> int:
        """Upstream links of callers, open or opening."""
        return len(self.reach.sessions) if self.reach.sessions is not None else 0

    @property
    def links(self) -> int:
        """The same, and those that are still closing."""
        return self.reach.sessions.running if self.reach.sessions is not None else 0

    @property
    def in_flight(self) -> int:
        """Exchanges running or queued."""
        return self._running.exchanges

    @property
    def queued(self) -> int:
        """Exchanges that wait for a slot."""
        return self._places.waiting

    # --- life ---

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until retired and quiet, or cancelled. Start it by ``nursery.start``."""
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    self.subscriptions.sessions = self.reach.begin(nursery, self._heard)
                    nursery.start_soon(self.supervisor.run, name=f"supervisor:{self.key}")
                    task_status.started()
                    await self._retiring.wait()
                    await self._run_down()
                    nursery.cancel_scope.cancel(REMOVED)
        finally:
            self._nursery = self.reach.sessions = self.subscriptions.sessions = None
            self._retiring.set()
            self.supervisor.retire()
            with trio.move_on_after(GOODBYE_S, shield=True):
                await self._connector.aclose()
            self.gone.set()

    def retire(self, within_s: float = math.inf) -> None:
        """Take no new calls; running ones keep their own deadline, at most ``within_s``, then are cancelled.

        Calling it again can only shorten the time left.
        """
        self._patience.deadline = min(self._patience.deadline, trio.current_time() + within_s)
        self._retiring.set()
        self.supervisor.retire()

    def close(self, reason: str) -> None:
        """End now: every link says goodbye in its own ``GOODBYE_S``; ``gone`` is set when all have."""
        self._retiring.set()
        self.supervisor.retire()
        self._running.tell_removed()
        self._life.cancel(reason)

    async def _run_down(self) -> None:
        with self._patience:
            await self._running.idle()
        self._running.tell_removed()
        with trio.move_on_after(GOODBYE_S):  # leaving a call tells the backend
            await self._running.idle()

    # --- calls ---

    def check_open(self) -> None:
        """Refuse at once what has no chance; to be asked before a call begins.

        Raises:
            BackendDown: the circuit is open, or the backend was replaced, removed or disabled.
        """
        if self._retiring.is_set() or self.reach.sessions is None:
            raise BackendDown(backend=self.key, why=REMOVED)
        if self.supervisor.builder.machine.open:
            self.supervisor.attempts.check_circuit()

    def enter(self, call: RunningCall) -> None:
        """A call begins: removal waits for it, and tells it when its time is over. Pair with ``leave``."""
        self._running.calls.add(call)

    def leave(self, call: RunningCall) -> None:
        """The call has ended."""
        self._running.calls.discard(call)
        if self._running.awaited is not None:
            self._running.ended()

    def call_scope(self) -> AbstractContextManager[trio.CancelScope]:
        """See ``Running.scope``."""
        return self._running.scope()

    def era_for(self, caller: Caller) -> Era:
        """The revision in which this caller's requests go up now; see ``era_choice``.

        Raises:
            BackendDown, BackendProtocol: nothing is known of the backend yet.
        """
        return self.hello_for(caller).era

    def hello_for(self, caller: Caller) -> Hello:
        """What the backend said of itself where this caller's requests go. Errors as ``era_for``."""
        hello = self.reach.hello_for(caller)
        if hello is None:
            self.check_open()
            raise BackendProtocol(backend=self.key, executed=Executed.NO, why="its protocol is not known yet")
        return hello

    def family_for(self, caller: Caller) -> Family | None:
        """The family of that revision; None: not known yet."""
        return self.reach.family_for(caller)

    def hears_closing(self, caller: Caller) -> bool:
        """Whether the end of its stream is how it hears that a call of this caller is cancelled (2026 over HTTP)."""
        return self.family_for(caller) is Family.MODERN and not self.pipe

    def link_now(self, caller: Caller) -> Upstream | None:
        """The link that this caller's exchanges use, where it stands and nothing speaks against using it at once."""
        upstream = self.reach.settled.get(caller.session or caller)
        if (
            upstream is None
            or upstream.ending.is_set()
            or upstream.link.lost
            or (upstream.doubts is not None and upstream.doubts.open)
            or not upstream.stream_settled.is_set()
            or self.supervisor.builder.machine.open
        ):
            return None
        return upstream

    async def open_link(self, caller: Caller) -> Upstream:
        """The same, opened if need be. The caller holds the deadline.

        Raises:
            BackendDown, BackendGone, BackendTimeout, Overload and what opening a link raises.
        """
        return self.link_now(caller) or await self.reach.upstream_for(caller)

    async def link_for(self, caller: Caller) -> Link:
        """The conversation on it. Errors as ``open_link``."""
        return (await self.open_link(caller)).link

    async def exchange(
        self,
        caller: Caller,
        outgoing: Outgoing,
        hear: Hear,
        queued: Callable[[], None] | None = None,
        renewed: Callable[[Link], Awaitable[None]] | None = None,
        *,
        on: Upstream | None = None,
    ) -> Answer:
        """One request and its answer: a link, a slot of ``limits.concurrency`` (first come, first served), the bytes.

        A lost upstream session is opened anew once, and so is a link that was found dead before a byte was sent; then
        the request is repeated, with a new upstream id.

        Args:
            outgoing: rendered once per attempt, when a slot is in hand.
            hear: gets what belongs to this exchange, but pings and changed lists, which are ours.
            queued: called when there is no free slot, before waiting for one.
            renewed: tells a new link what the lost one knew, before the request is repeated on it.
            on: the caller's link, where it was found already (``link_now``, ``open_link``).
        Raises:
            BackendDown: not tried; the circuit is open. As ``link_for`` and ``Link.exchange``.
        """
        self._running.exchanges += 1
        try:
            if on is not None and not on.ending.is_set() and not on.link.lost:
                upstream = on
            else:
                upstream = self.link_now(caller) or await self.reach.upstream_for(caller)
            try:
                return await self._attempt(upstream, outgoing, hear, queued)
            except BackendSessionLost as lost:
                if lost.executed is not Executed.NO:  # it had begun, and its stream cannot be resumed any more
                    raise
            except BackendGone as gone:
                if gone.executed is not Executed.NO or not self.pipe:
                    raise
            upstream = await self.reach.upstream_for(caller)
            if renewed is not None:
                await renewed(upstream.link)
            return await self._attempt(upstream, outgoing, hear, queued)
        finally:
            self._running.exchanges -= 1
            if self._running.awaited is not None:
                self._running.ended()

    async def reread(self) -> None:
        """Have the lists read again; bounded by ``timeouts.list``, and by how often a backend is asked at all."""
        await self.supervisor.reread()

    async def respond(self, caller: Caller, message: bytes) -> None:
        """Send the answer to a request of the backend on the caller's link.

        Raises:
            BackendSessionLost: that link is no more, and nobody waits for the answer.
        """
        upstream = self.reach.find(caller)
        if upstream is None:
            raise BackendSessionLost(backend=self.key)
        await upstream.link.notify(message)

    def start_in_session(self, caller: Caller, name: str, task: Callable[[], Awaitable[None]]) -> trio.CancelScope:
        """Run a parked call where it survives its client's request; cancel the scope to end it.

        It ends with the backend at the latest, whose removal cancels it like any call. (It runs in the backend's
        nursery, not in the session's: when the backend has lost the session, its exchange goes on in the next one.)

        Raises:
            BackendDown: the backend has ended.
        """
        nursery = self._nursery
        if nursery is None:
            raise BackendDown(backend=self.key, why=REMOVED)
        scope = trio.CancelScope()

        async def run() -> None:
            with self._running.scope(scope):
                await task()

        nursery.start_soon(run, name=name)
        return scope

    async def _attempt(
        self, upstream: Upstream, outgoing: Outgoing, hear: Hear, queued: Callable[[], None] | None
    ) -> Answer:
        places = self._places if not outgoing.control and outgoing.task is None else None
        if places is not None:
            if places.taken < places.limit:
                places.taken += 1
            else:
                if queued is not None:
                    queued()
                await places.enter()
        upstream.users += 1
        if upstream.key.askable:
            upstream.ears.append(hear)
        if outgoing.task is not None:
            upstream.task_ears[outgoing.task] = hear
        began_at = trio.current_time()
        try:
            if upstream.ending.is_set() or upstream.link.lost:  # while we queued
                raise BackendSessionLost(backend=self.key)
            if outgoing.family not in (None, upstream.link.era.family):
                why = f"it went over to {upstream.link.era.version} while the request waited"
                raise BackendProtocol(backend=self.key, executed=Executed.NO, why=why)
            answer = await upstream.link.exchange(outgoing, Overhearing(upstream, self._heard, hear))
        except BackendGone as gone:
            self.supervisor.call_failed(gone, began_at)
            raise
        except BackendSessionLost:
            if self.reach.sessions is not None:
                self.reach.sessions.forget_link(upstream, patience_s=self.spec.timeouts.max_s)
            raise
        finally:
            upstream.users -= 1
            upstream.used_at = trio.current_time()
            if upstream.awaited is not None:
                upstream.maybe_unused()
            if upstream.key.askable:
                upstream.ears.remove(hear)
            if outgoing.task is not None and upstream.task_ears.get(outgoing.task) is hear:
                del upstream.task_ears[outgoing.task]
            if places is not None:
                if places.queue:
                    places.leave()
                else:
                    places.taken -= 1
        if self.supervisor.builder.machine.failures:
            self.supervisor.builder.answered()
        # 404 is how a modern backend says "unknown method"; any other 4xx may be an older one in its place.
        if (
            answer.status >= 400
            and upstream.link.era.modern
            and (answer.status == 400 or b"-32022" in answer.raw[:512])
        ):
            self.supervisor.surprised()
        return answer

    def end_session(self, session: str, *, for_good: bool = True) -> None:
        """The client session ended: close its link, in the background; see ``UpstreamSessions.end_session``."""
        if for_good:
            self.reach.session_ended(session)
        if self.reach.sessions is not None:
            self.reach.sessions.end_session(session, for_good=for_good)

    def hold(self, caller: Caller, task_id: str, until_at: float) -> None:
        """A task of the caller lives on its link, which is kept until then; see ``Held``."""
        key = self.reach.key_of(caller)
        if self.reach.sessions is not None and not key.everybodys:  # there is no session that could be lost
            self.reach.sessions.held.hold(key, task_id, until_at)

    def set_stream(self, session: str, hear: Hear | None) -> None:
        """The client opened (or, with None, closed) its GET stream, and the upstream one of its legacy session follows.

        ``hear`` gets what comes, but pings and changed lists.
        """
        if self.reach.sessions is not None:
            self.reach.sessions.set_stream(session, hear)

    def _heard(self, upstream: Upstream, inbound: Inbound) -> bool:
        """Take what is no client's affair as it is: a changed list or an updated resource."""
        if inbound.method in LIST_CHANGED:
            self.session_lists.changed(upstream, inbound.method)
        return self.subscriptions.heard(upstream.key, inbound)

    async def _hear_beside(self, upstream: Upstream, inbound: Inbound) -> None:
        if self.reach.sessions is not None:
            await self.reach.sessions.hear_unattributed(upstream, inbound)

    def _published(self, snapshot: Snapshot) -> None:
        self.reach.changed()
        self._publish(self, snapshot)
