"""The links that callers use: which one is whose, opened on first use, closed when unused.

Owns the map from session key to link, its bound, which links hear their standalone
stream, and the asking and replacing of sessions that may be lost. Deliberately does not
know which key a caller has, nor shares pipes (``backend``), nor who is subscribed to what
(``subscriptions``). Invariant: a key has at most one link in use; it is given up for
another only once that one stands; a failure to open is told to all who wait for it and
then forgotten; a caller that leaves changes nothing.
"""

import logging
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, TypeAlias

import attrs
import trio

from mcp_gateway.backends.caller import EVERYBODY, SessionKey
from mcp_gateway.backends.connector import UPSTREAM_FAULTS, Connection, leading
from mcp_gateway.backends.health import Backoff
from mcp_gateway.backends.held import Held
from mcp_gateway.backends.losses import Losses
from mcp_gateway.backends.own_requests import answer_to, pong, stands
from mcp_gateway.backends.transports.base import GOODBYE_S, ClientIdentity, Hear, Inbound
from mcp_gateway.backends.transports.doubts import Doubts
from mcp_gateway.backends.upstream import Jitter, Upstream, keep_listening
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.errors import (
    BackendGone,
    BackendSessionLost,
    Executed,
    GatewayError,
    Overload,
)
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)

IDLE_S: Final = 300.0
"""A link that nobody used for so long is closed (docs/architecture.md)."""
STREAM_WAIT_S: Final = 1.0
"""How long a new session's first call or subscription waits for the standalone stream that its client wants."""

CHECKS: Final = Backoff(first_s=1.0, ceiling_s=30.0)
"""Between two askings of a doubted session: longer, the more of them in a row found neither it nor another one well."""

OpenLink: TypeAlias = Callable[[SessionKey, ClientIdentity, Hear], AbstractAsyncContextManager[Connection]]
"""Opens a link under a deadline (``start.Start``)."""


@attrs.frozen(kw_only=True)
class Bound:
    """How many links there may be."""

    name: str
    limit: int
    evicts: bool
    """At the bound the longest unused goes; False: the newcomer is refused."""


@attrs.define(eq=False, kw_only=True)
class _Entry:
    """One link from the wish to open it until it is closed."""

    key: SessionKey
    identity: ClientIdentity
    settled: trio.Event = attrs.field(factory=trio.Event)
    upstream: Upstream | None = None
    error: GatewayError | None = None
    wanted: bool = True
    begins_at: float = -math.inf
    """Not before its predecessors' losses allow."""
    instead_of: "_Entry | None" = None
    """Given up once this one stands."""
    successor: "_Entry | None" = None
    """The one that is being opened instead of this one."""

    @property
    def idle_since(self) -> float | None:
        """When its last user left; None: in use or still opening."""
        if self.upstream is None or self.upstream.users or self.upstream.holders:
            return None
        return self.upstream.used_at


def _idle(entry: _Entry) -> bool:
    return entry.idle_since is not None


@attrs.define(eq=False, kw_only=True)
class UpstreamSessions:
    """All links of one backend but the supervisor's."""

    backend: BackendKey
    open_link: OpenLink
    heard: Callable[[Upstream, Inbound], bool]
    """Takes notices that are no client's affair as they are: changed lists, updated resources."""
    failed: Callable[[GatewayError, float], None]
    """Told once when a link could not be opened, and when the attempt began."""
    replaced: Callable[[], None]
    """Told when a session turned out to be lost that nobody had said is lost."""
    timeouts: Timeouts
    """``connect`` also for the sign of life of a doubted session; ``max`` for what runs on one that was replaced."""
    jitter: Jitter
    nursery: trio.Nursery
    _entries: dict[SessionKey, _Entry] = attrs.field(factory=dict)
    _streams: dict[str, Hear] = attrs.field(factory=dict)
    """Of clients, by their sessions."""
    _subscribed: set[SessionKey] = attrs.field(factory=set)
    held: Held = attrs.field(factory=Held)
    """Links that must stay although nobody uses them."""
    _losses: Losses = attrs.field(factory=Losses)
    _running: int = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def running(self) -> int:
        """Links open, opening or closing."""
        return self._running

    def find(self, key: SessionKey) -> Upstream | None:
        """The usable link of a key, if it is open."""
        entry = self._entries.get(key)
        if entry is None or entry.upstream is None or not entry.upstream.usable:
            return None
        return entry.upstream

    async def get(self, key: SessionKey, identity: ClientIdentity, bound: Bound) -> Upstream:
        """The link of a key; opened now if there is none. The caller holds the deadline.

        Raises:
            Overload: the bound is reached and nothing may go.
            BackendTimeout: it was not open within ``timeouts.connect``, or ``timeouts.start``.
            BackendError, ConfigError: it could not be opened.
        """
        while (upstream := self.find(key)) is not None:
            doubts = upstream.doubts
            if doubts is None or not doubts.open:
                return upstream
            await doubts.settled()
        entry = self._entries.get(key)
        if entry is None or entry.upstream is not None:
            entry = self._begin(key, identity, bound)
        await entry.settled.wait()
        if entry.upstream is None:
            raise self._failure(entry)
        return entry.upstream

    def end_session(self, session: str, *, for_good: bool = True) -> None:
        """The client session is over: its link says goodbye in the background, within ``GOODBYE_S`` twice.

        ``for_good``: its client cannot come back; else a link with a live task stays.
        """
        key = SessionKey(session=session)
        if not for_good and self.held.now(key):
            self.set_stream(session, None)
            return
        self._streams.pop(session, None)
        self._losses.forget(key)
        self.held.forget(key)
        self.forget(key, patience_s=0.0)

    def forget(self, key: SessionKey, patience_s: float, only: Upstream | None = None) -> None:
        """Use the link of a key no more; who is on it may go on for ``patience_s``.

        ``only``: and only if it is still this one.
        """
        entry = self._entries.get(key)
        if entry is None or (only is not None and entry.upstream is not only):
            return
        del self._entries[key]
        entry.wanted = False
        if entry.upstream is not None:
            entry.upstream.end(patience_s)

    def forget_link(self, upstream: Upstream, patience_s: float) -> None:
        """The same for a link that turned out to be lost."""
        for key, entry in self._entries.items():
            if entry.upstream is upstream:
                self._note_loss(entry)
                self.forget(key, patience_s)
                if entry.successor is not None:
                    self._entries[key] = entry.successor
                return

    def forget_all(self, patience_s: float, *, but_legacy: bool) -> None:
        """Use none of the present links again (another era), or only those of 2025, which all are but everybody's."""
        for key in tuple(self._entries):
            if key == EVERYBODY or not but_legacy:
                self.forget(key, patience_s)

    def has_room(self, key: SessionKey, bound: Bound) -> bool:
        """Whether the link of a key is there or could be opened."""
        own = self._own
        return key in self._entries or len(own) < bound.limit or (bound.evicts and any(map(_idle, own)))

    @property
    def _own(self) -> list[_Entry]:
        """What counts towards a bound: everybody's links are one each, and keep nothing at the backend."""
        return [entry for entry in self._entries.values() if not entry.key.everybodys]

    def doubt_all(self, since: float) -> None:
        """Sessions were lost: every other one is asked, unless it has answered ``since``.

        At once where somebody listens; else before its next use, so that a server that comes back is not overrun.
        """
        for entry in self._entries.values():
            if entry.upstream is not None and entry.upstream.doubts is not None:
                entry.upstream.doubts.suspect(since, at_once=self._wants_stream(entry.key))

    # --- the standalone stream of a link ---

    def set_stream(self, session: str, hear: Hear | None) -> None:
        """The client opened (or, with None, closed) its stream: so does its link, now or when it is opened."""
        if hear is None:
            self._streams.pop(session, None)
        else:
            self._streams[session] = hear
        self._match_stream(SessionKey(session=session))

    def set_subscribed(self, key: SessionKey, *, subscribed: bool) -> None:
        """Whether the link of a key has to hear its stream because somebody is subscribed to a resource on it."""
        if subscribed:
            self._subscribed.add(key)
        else:
            self._subscribed.discard(key)
        self._match_stream(key)

    async def stream_settled(self, upstream: Upstream) -> None:
        """Wait shortly until what the backend says unasked can be heard, if anybody wants to."""
        if not upstream.stream_settled.is_set() and self._wants_stream(upstream.key):
            with trio.move_on_after(STREAM_WAIT_S):
                await upstream.stream_settled.wait()
            upstream.stream_settled.set()

    async def hear_unattributed(self, upstream: Upstream, inbound: Inbound) -> None:
        """Pass on what belongs to no call to the client whose session it is, or to the only call on the link."""
        key = upstream.key
        if self.heard(upstream, inbound) or await pong(upstream.link, inbound):
            return
        hear = upstream.task_ear(inbound)
        if hear is None:
            hear = self._streams.get(key.session) if key.session is not None else upstream.only_ear
        if hear is not None:
            await hear(upstream.attributed(inbound))
        elif inbound.id_raw is not None:
            await upstream.link.notify(answer_to(inbound.id_raw))

    def _wants_stream(self, key: SessionKey) -> bool:
        if key.session is None and not key.everybodys:
            return True  # modern callers hear nothing but what their calls are asked, or refuse it at once
        return key in self._subscribed or key.session in self._streams

    def _match_stream(self, key: SessionKey) -> None:
        upstream = self.find(key)
        if upstream is None:
            return
        if not self._wants_stream(key):
            upstream.stream_settled.set()
            if upstream.stream_scope is not None:
                upstream.stream_scope.cancel("nobody wants the stream any more")
                upstream.stream_scope = None
        elif upstream.connection.listen is None:
            upstream.stream_settled.set()
        elif upstream.stream_scope is None:
            upstream.stream_settled = trio.Event()
            # The stream of modern callers is always held: it keeps no unused link open.
            upstream.stream_scope = upstream.start(
                f"stream:{self.backend}", partial(self._hold_stream, upstream), uses=key.session is not None
            )

    async def _hold_stream(self, upstream: Upstream) -> None:
        settled = upstream.stream_settled
        hear = partial(self.hear_unattributed, upstream)
        try:
            await keep_listening(upstream.connection, hear, settled.set, lambda: None, self.jitter)
        except BackendSessionLost:
            self.forget_link(upstream, patience_s=GOODBYE_S)
        finally:
            settled.set()

    # --- one link's life ---

    def _begin(self, key: SessionKey, identity: ClientIdentity, bound: Bound) -> _Entry:
        if self.nursery.cancel_scope.cancel_called:
            raise BackendGone(backend=self.backend, executed=Executed.NO, why="it was removed")
        self.forget(key, patience_s=GOODBYE_S)
        if not key.everybodys:
            self._make_room(bound)
        entry = self._entries[key] = _Entry(key=key, identity=identity)
        self._start(entry)
        return entry

    def _start(self, entry: _Entry) -> None:
        entry.begins_at = self._losses.next_at(entry.key, self.jitter)
        self._running += 1
        self.nursery.start_soon(self._run, entry, name=f"upstream:{self.backend}")

    def _make_room(self, bound: Bound) -> None:
        own = self._own
        if len(own) < bound.limit:
            return
        unused = [(since, entry.key) for entry in own if (since := entry.idle_since) is not None]
        idle = [pair for pair in unused if not self.held.now(pair[1])]
        if not idle and len(unused) > bound.limit // 2:
            idle = unused  # tasks may keep half of all places from newcomers, not more
        if not bound.evicts or not idle:
            raise Overload(bound=bound.name, limit=bound.limit)
        _, longest = min(idle, key=lambda pair: pair[0])
        self.forget(longest, patience_s=0.0)

    def _failure(self, entry: _Entry) -> GatewayError:
        """The entry's failure, a copy for each who waited: an exception carries the traceback of one."""
        if entry.error is None:
            return BackendGone(backend=self.backend, executed=Executed.NO, why="the session was closed")
        copy = attrs.evolve(entry.error)  # type: ignore[misc]  # every concrete error is an attrs class
        copy.__cause__ = entry.error
        return copy

    async def _run(self, entry: _Entry) -> None:
        """Open, serve, close; this task is the owner of the link."""
        began_at = max(trio.current_time(), entry.begins_at)
        try:
            await trio.sleep_until(began_at)
            if entry.wanted:
                await self._serve(entry)
        except* UPSTREAM_FAULTS as group:
            self._failed(entry, leading(group), began_at)
        finally:
            if self._entries.get(entry.key) is entry:
                del self._entries[entry.key]
            self._running -= 1
            entry.settled.set()

    def _failed(self, entry: _Entry, error: BaseException, began_at: float) -> None:
        logger.debug("upstream session failed", extra={"backend": self.backend, "why": str(error)})
        if isinstance(error, GatewayError) and entry.upstream is None:
            entry.error = error
            self.failed(error, began_at)

    async def _serve(self, entry: _Entry) -> None:
        async def hear(inbound: Inbound) -> None:
            if entry.upstream is not None:  # before that nothing could be said that matters
                await self.hear_unattributed(entry.upstream, inbound)

        async with self.open_link(entry.key, entry.identity, hear) as connection:
            async with trio.open_nursery() as nursery:
                upstream = Upstream(connection=connection, nursery=nursery, identity=entry.identity, key=entry.key)
                entry.upstream = upstream
                self._take_over(entry)
                if entry.wanted:
                    self._match_stream(entry.key)
                else:
                    upstream.end(0.0)
                entry.settled.set()
                if upstream.doubts is None:  # a pipe says itself when it is gone, a session has to be asked
                    nursery.start_soon(self._watch, upstream)
                else:
                    nursery.start_soon(self._mind, entry, upstream, upstream.doubts)
                await self._until_unwanted(entry, upstream)
                nursery.cancel_scope.cancel("upstream session closed")
            with trio.move_on_after(GOODBYE_S):  # those who were cancelled still need the link to say so
                await upstream.unused()

    async def _watch(self, upstream: Upstream) -> None:
        await upstream.connection.gone()
        self.forget_link(upstream, patience_s=0.0)
        upstream.end(0.0)

    # --- sessions that may be lost ---

    async def _mind(self, entry: _Entry, upstream: Upstream, doubts: Doubts) -> None:
        """Ask the session whether it stands whenever there are doubts, and replace it if it does not."""
        fruitless = 0
        try:
            while True:
                await doubts.due()
                if await self._stands(upstream):
                    fruitless = 0
                elif await self._replace(entry):
                    return
                else:  # a credential, an overload: nothing is lost as long as there is nothing better
                    fruitless += 1
                doubts.settle(CHECKS.delay_s(fruitless))
        finally:
            doubts.settle(0.0)

    async def _stands(self, upstream: Upstream) -> bool:
        """Whether the backend still answers in this session; True also when it is forgotten for certain."""
        hear = partial(self.hear_unattributed, upstream)
        try:
            return await stands(upstream.link, self.backend, hear, self.timeouts.connect_s)
        except BackendSessionLost:
            self.forget_link(upstream, patience_s=GOODBYE_S)
            return True

    async def _replace(self, entry: _Entry) -> bool:
        """Open another session in the place of one; whether it stands."""
        successor = entry.successor = _Entry(key=entry.key, identity=entry.identity, instead_of=entry)
        self._start(successor)
        await successor.settled.wait()
        entry.successor = None
        return successor.upstream is not None

    def _take_over(self, entry: _Entry) -> None:
        """A session stands that was opened instead of another: that one is used no more, but for what runs on it."""
        before, holder = entry.instead_of, self._entries.get(entry.key)
        entry.instead_of = None
        if before is None or holder is entry:
            return
        if holder is not before or before.upstream is None:
            entry.wanted = False  # the caller has gone, or has another one
            return
        logger.info("upstream session replaced", extra={"backend": self.backend})
        self._note_loss(before)
        self._entries[entry.key] = entry
        before.wanted = False
        before.upstream.end(self.timeouts.max_s)
        self.replaced()

    def _note_loss(self, entry: _Entry) -> None:
        doubts = entry.upstream.doubts if entry.upstream is not None else None
        if doubts is not None:
            self._losses.note(entry.key, fruitful=doubts.answered)

    async def _until_unwanted(self, entry: _Entry, upstream: Upstream) -> None:
        while not upstream.ending.is_set():
            now_at, idle_since = trio.current_time(), entry.idle_since
            if idle_since is not None and self.held.now(entry.key):
                idle_since = None
            if idle_since is not None and now_at >= idle_since + IDLE_S:
                self.forget(entry.key, patience_s=0.0, only=upstream)
                return
            with trio.move_on_at((now_at if idle_since is None else idle_since) + IDLE_S):
                await upstream.ending.wait()
        with trio.move_on_after(upstream.patience_s):
            await upstream.unused()
