"""What one upstream session is to be subscribed to, for whom, and what its backend knows of it.

Owns the desired set (``DesiredSet``: by URI, who wants to hear of it), which outlives links, and the told
set of one link (``ToldSet``), which is reconciled with it. Deliberately opens no session and knows no
clients: a subscription brings its own way to tell. Invariant: a URI is subscribed upstream exactly while
somebody wants to hear of it; a new link knows nothing and is told everything.
"""

import logging
from collections.abc import Awaitable, Callable, KeysView
from typing import Final, TypeAlias

import attrs
import trio

from mcp_gateway.backends.caller import Caller
from mcp_gateway.backends.connector import UPSTREAM_FAULTS
from mcp_gateway.backends.own_requests import ask, request
from mcp_gateway.backends.transports.base import Hear, Inbound, Link
from mcp_gateway.errors import BackendRefused, BackendSessionLost, Overload
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)

MAX_URIS: Final = 10_000
SUBSCRIBE: Final = "resources/subscribe"
UNSUBSCRIBE: Final = "resources/unsubscribe"

Beside: TypeAlias = Callable[[Inbound], Awaitable[bool]]
"""Hears what a backend says before its answer to a subscription, for who has asked for it; whether it took it."""


async def nobody_asked(inbound: Inbound) -> bool:
    """Beside what is told in the background."""
    return False


@attrs.define(eq=False, kw_only=True)
class Subscription:
    """One client's subscription to one resource, wherever it is kept."""

    caller: Caller
    uri: str
    """The backend's own."""
    updated: Callable[[], None]
    """Told each time the resource changes."""
    kept_in: "DesiredSet | None" = None
    """Where it is kept now."""

    def drop(self) -> None:
        """The client wants to hear of it no more; the backend is told in the background."""
        if self.kept_in is not None:
            self.kept_in.remove(self)


@attrs.define(eq=False, kw_only=True)
class DesiredSet:
    """The subscriptions of one upstream session, which outlive each of its links."""

    backend: BackendKey
    list_s: float
    """How long one request may take."""
    changed: trio.Event = attrs.field(factory=trio.Event)
    """Set when the backend has something to be told; replaced whenever that begins."""
    _subscriptions: dict[str, set[Subscription]] = attrs.field(factory=dict)
    _told_set: "ToldSet | None" = None

    @property
    def uris(self) -> KeysView[str]:
        """Those with at least one subscriber, in the order in which they came."""
        return self._subscriptions.keys()

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """All that are kept here."""
        return tuple(subscription for subscriptions in self._subscriptions.values() for subscription in subscriptions)

    def add(self, subscription: Subscription) -> None:
        """Keep a subscription here, and nowhere else; what follows from it is up to the caller.

        Raises:
            Overload: ``MAX_URIS`` different URIs.
        """
        if subscription.uri not in self._subscriptions and len(self._subscriptions) >= MAX_URIS:
            raise Overload(bound="subscriptions", limit=MAX_URIS)
        subscription.drop()
        self._subscriptions.setdefault(subscription.uri, set()).add(subscription)
        subscription.kept_in = self

    def adopt(self, subscription: Subscription) -> None:
        """The same in the background: the backend is told of it as soon as there is a link."""
        try:
            self.add(subscription)
        except Overload as full:
            logger.warning("subscription not kept", extra={"backend": self.backend, "why": str(full)})
        self.changed.set()

    def remove(self, subscription: Subscription) -> None:
        """Keep a subscription no more; the backend hears of the last one of its URI in the background."""
        subscriptions = self._subscriptions[subscription.uri]
        subscriptions.remove(subscription)
        subscription.kept_in = None
        if not subscriptions:
            del self._subscriptions[subscription.uri]
            self.changed.set()

    def heard(self, uri: object) -> None:
        """The backend says on this session that a resource has changed."""
        if isinstance(uri, str):
            for subscription in tuple(self._subscriptions.get(uri, ())):
                subscription.updated()

    def told_on(self, link: Link, hear: Hear, lost: Callable[[], None] = lambda: None) -> "ToldSet":
        """What the backend knows by the present link.

        Args:
            hear: gets what comes beside an answer and is for nobody who has asked.
            lost: told when it says that the session is gone.
        """
        if self._told_set is None or self._told_set.link is not link:
            self._told_set = ToldSet(desired=self, link=link, hear=hear, lost=lost)
        return self._told_set


@attrs.define(eq=False, kw_only=True)
class ToldSet:
    """What the backend has been told on one link."""

    desired: DesiredSet
    link: Link
    hear: Hear
    lost: Callable[[], None]
    _told: dict[str, bool] = attrs.field(factory=dict)
    """Whether it has confirmed it; else it may have heard of it in a request that was given up."""
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    async def tell(self, uri: str, beside: Beside = nobody_asked) -> None:
        """See to it that the backend knows of a URI, if it is desired still.

        Raises:
            BackendError: it refused or failed.
        """
        async with self._lock:
            if self._told.get(uri) or uri not in self.desired.uris:
                return
            self._told[uri] = False
            try:
                await self._ask(SUBSCRIBE, uri, beside)
            except BackendRefused:
                del self._told[uri]
                raise
            self._told[uri] = True

    async def reconcile(self) -> None:
        """Tell the backend of everything that it does not know yet; a refusal costs no other URI."""
        self.desired.changed = trio.Event()
        for uri in [uri for uri in self.desired.uris if not self._told.get(uri)]:
            await self._try(self.tell(uri))
        for uri in self._told.keys() - self.desired.uris:
            await self._try(self._untell(uri))

    async def _untell(self, uri: str) -> None:
        async with self._lock:
            if uri not in self.desired.uris:
                self._told.pop(uri, None)  # first: its refusal changes nothing
                await self._ask(UNSUBSCRIBE, uri, nobody_asked)

    async def _ask(self, method: str, uri: str, beside: Beside) -> None:
        async def hear(inbound: Inbound) -> None:
            if not await beside(inbound):
                await self.hear(inbound)

        outgoing = request(method, {"uri": uri}, self.link.era)
        try:
            await ask(self.link, self.desired.backend, outgoing, hear, self.desired.list_s)
        except BackendSessionLost:
            self.lost()
            raise

    async def _try(self, asking: Awaitable[None]) -> None:
        try:
            await asking
        except UPSTREAM_FAULTS as error:
            extra = {"backend": self.desired.backend, "why": str(error)}
            logger.info("subscription not passed on", extra=extra)
