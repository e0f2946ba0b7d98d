"""Where the subscriptions of clients are kept at one backend.

Owns which upstream session hears each of them: the caller's own one where callers
have one, else the gateway's connection (``notices``); and that such a session is
there, hears its stream and is told again what it has forgotten. Deliberately leaves
counting and telling to ``subscription``. Invariants: an update reaches exactly the
subscribers whose session it came on, or one like it; a session with a subscriber is
in use, so it is neither closed as idle nor evicted.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import trio

from mcp_gateway.backends.caller import Caller, SessionKey
from mcp_gateway.backends.connector import UPSTREAM_FAULTS
from mcp_gateway.backends.health import HEALTHY_AFTER_S, Backoff
from mcp_gateway.backends.notices import UPDATED, Notices
from mcp_gateway.backends.own_requests import METHOD_NOT_FOUND
from mcp_gateway.backends.subscription import Beside, DesiredSet, Subscription, ToldSet, nobody_asked
from mcp_gateway.backends.transports.base import GOODBYE_S, Inbound
from mcp_gateway.backends.upstream import Jitter, Upstream
from mcp_gateway.backends.upstream_sessions import UpstreamSessions
from mcp_gateway.errors import BackendRefused, BackendSessionLost
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)


@attrs.define(eq=False, kw_only=True)
class Subscriptions:
    """The subscriptions of all clients at one backend."""

    backend: BackendKey
    list_s: float
    notices: Notices
    jitter: Jitter
    key_of: Callable[[Caller], SessionKey]
    """Whose session a caller's exchanges would use, as far as is known of the backend now."""
    reach: Callable[[Caller], Awaitable[Upstream]]
    """The caller's link, opened if need be; it is everybody's where there was no place for one of its own."""
    sessions: UpstreamSessions | None = None
    """While the backend runs."""
    unknown: bool = False
    """The backend has said that it knows no subscriptions, whatever it declares."""
    _kept: dict[SessionKey, DesiredSet] = attrs.field(factory=dict)
    """Of each session that somebody is subscribed on."""
    _connected: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.notices.connected = self.connected

    @property
    def uris(self) -> frozenset[str]:
        """Every resource with at least one subscriber."""
        return frozenset(uri for desired in (self.notices.desired, *self._kept.values()) for uri in desired.uris)

    async def subscribe(self, subscription: Subscription, beside: Beside = nobody_asked) -> None:
        """Keep one more; the caller holds the deadline. The first of a URI on a session is told to the backend.

        Args:
            beside: hears first what the backend says meanwhile.
        Raises:
            Overload: too many different URIs on this session, or too many sessions.
            BackendError, ConfigError: the backend refused or failed; the subscription is not kept.
        """
        try:
            try:
                await self._subscribe(subscription, beside)
            except BackendSessionLost:
                await self._subscribe(subscription, beside)  # on a new session, once
        except BackendRefused as refused:
            self.unknown = refused.code == METHOD_NOT_FOUND
            raise
        self.unknown = False

    async def in_force(self, subscription: Subscription) -> None:
        """Wait until the backend would tell of what was subscribed; the caller holds the deadline."""
        if subscription.kept_in is self.notices.desired:
            await self.notices.in_force(subscription.uri)

    def adopt(self, subscription: Subscription) -> None:
        """Keep a subscription from before this backend was there, or from before it was known as what it is now."""
        key = self.key_of(subscription.caller)
        if not key.everybodys and self.sessions is not None:
            self._desired(key, subscription.caller, self.sessions).adopt(subscription)
        else:
            self.notices.desired.adopt(subscription)

    def connected(self) -> None:
        """The backend is there (again), perhaps as another one: see who has a session of its own now."""
        self.unknown = False
        connected, self._connected = self._connected, trio.Event()
        connected.set()
        for subscription in self.notices.desired.subscriptions:
            if not self.key_of(subscription.caller).everybodys:
                self.adopt(subscription)

    def heard(self, key: SessionKey, inbound: Inbound) -> bool:
        """Take what came on a session and is no client's affair as it is: a changed list or an updated resource."""
        if key.everybodys or inbound.method != UPDATED:
            return self.notices.heard(inbound)
        desired = self._kept.get(key.alike)  # what a call in another bay has changed, all who are alike are told
        if desired is not None:
            desired.heard(inbound.params.get("uri"))
        return True

    # --- sessions of callers ---

    async def _subscribe(self, subscription: Subscription, beside: Beside) -> None:
        sessions = self.sessions
        if sessions is None or self.key_of(subscription.caller).everybodys:
            await self.notices.subscribe(subscription, beside)
            return
        upstream = await self.reach(subscription.caller)
        if upstream.key.everybodys:
            await self.notices.subscribe(subscription, beside)
            return
        desired = self._desired(upstream.key, subscription.caller, sessions)
        desired.add(subscription)
        done = False
        try:
            await sessions.stream_settled(upstream)
            await self._told_set(desired, upstream, sessions).tell(subscription.uri, beside)
            done = True
        finally:
            if not done:
                subscription.drop()

    def _told_set(self, desired: DesiredSet, upstream: Upstream, sessions: UpstreamSessions) -> ToldSet:
        return desired.told_on(
            upstream.link,
            partial(sessions.hear_unattributed, upstream),
            partial(sessions.forget_link, upstream, patience_s=GOODBYE_S),
        )

    def _desired(self, key: SessionKey, caller: Caller, sessions: UpstreamSessions) -> DesiredSet:
        """Those of a session; the first subscriber has the session looked after."""
        desired = self._kept.get(key)
        if desired is None:
            desired = self._kept[key] = DesiredSet(backend=self.backend, list_s=self.list_s)
            sessions.set_subscribed(key, subscribed=True)
            sessions.nursery.start_soon(
                self._look_after, key, desired, caller, sessions, name=f"subscriptions:{self.backend}"
            )
        return desired

    async def _look_after(
        self, key: SessionKey, desired: DesiredSet, caller: Caller, sessions: UpstreamSessions
    ) -> None:
        """Keep a session there and told for as long as somebody is subscribed on it."""
        backoff, tries = Backoff(), 0
        try:
            while True:
                began_at = trio.current_time()
                try:
                    await self._attend(desired, await self.reach(caller), sessions)
                except UPSTREAM_FAULTS as error:
                    logger.debug("no session for subscribers", extra={"backend": self.backend, "why": str(error)})
                if not desired.uris:
                    return
                desired.changed.set()  # the next link knows nothing
                if trio.current_time() - began_at >= HEALTHY_AFTER_S:
                    tries = 0
                if tries:  # the first time at once: nobody else notices what changes until then
                    with trio.move_on_after(self.jitter(backoff.delay_s(tries))):
                        await self._connected.wait()
                tries += 1
        finally:
            del self._kept[key]
            sessions.set_subscribed(key, subscribed=False)

    async def _attend(self, desired: DesiredSet, upstream: Upstream, sessions: UpstreamSessions) -> None:
        """While a link lives: use it, and tell its backend what changes."""
        if upstream.key.everybodys:
            for subscription in desired.subscriptions:
                self.notices.desired.adopt(subscription)
            return
        told = self._told_set(desired, upstream, sessions)

        async def keep_told() -> None:
            while desired.uris:
                await desired.changed.wait()
                if upstream.ending.is_set():
                    return  # the session goes, and all that its backend knows of it
                await sessions.stream_settled(upstream)
                await told.reconcile()
            nursery.cancel_scope.cancel("nobody is subscribed any more")

        upstream.enter()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_told)
                await upstream.ending.wait()
                nursery.cancel_scope.cancel("the session has ended")
        finally:
            upstream.leave()
