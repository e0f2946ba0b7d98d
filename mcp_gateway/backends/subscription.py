"""What one upstream session is subscribed to, and for whom.

Owns the subscriptions of those who hear on it, by URI (``DesiredSet``), and what its backend
has been told on each of its links (``ToldSet``). Deliberately opens no session and
knows no clients: a subscription brings its own way to tell. Invariant: a URI is subscribed
upstream exactly while somebody subscriptions to hear of it; a new link knows nothing and is
told everything.
"""

import logging
from collections.abc import Awaitable, Callable, KeysView
from typing import Final, TypeAlias

import attrs
import trio

from mcp_gateway.backends.caller import Caller
from mcp_gateway.backends.connector import UPSTREAM_FAULTS
from mcp_gateway.backends.transports.base import Inbound, Link
from mcp_gateway.errors import BackendRefused, Overload
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)

MAX_URIS: Final = 10_000
SUBSCRIBE: Final = "resources/subscribe"
UNSUBSCRIBE: Final = "resources/unsubscribe"

Beside: TypeAlias = Callable[[Inbound], Awaitable[bool]]
"""Hears what a backend says before its answer to a subscription, for who has asked for it; whether it took it."""
Ask: TypeAlias = Callable[[str, str, Beside], Awaitable[object]]
"""``ask(method, uri, beside)``: one request on the link; raises what ``own_requests.ask`` raises."""


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

    def on(self, link: Link, ask: Ask) -> "ToldSet":
        """What is told on the present link; ``ask`` is how."""
        if self._told_set is None or self._told_set.link is not link:
            self._told_set = ToldSet(desired=self, link=link, ask=ask)
        return self._told_set


@attrs.define(eq=False, kw_only=True)
class ToldSet:
    """What the backend has been told on one link."""

    desired: DesiredSet
    link: Link
    ask: Ask
    _told: set[str] = attrs.field(factory=set)
    """What it has confirmed."""
    _doubtful: set[str] = attrs.field(factory=set)
    """What it may have been told by a request that was given up."""
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    async def tell(self, uri: str, beside: Beside = nobody_asked) -> None:
        """See to it that the backend knows of a URI, if somebody subscriptions it still.

        Raises:
            BackendError: it refused or failed.
        """
        async with self._lock:
            if uri in self._told or uri not in self.desired.uris:
                return
            self._doubtful.add(uri)
            try:
                await self.ask(SUBSCRIBE, uri, beside)
            except BackendRefused:
                self._doubtful.discard(uri)
                raise
            self._doubtful.discard(uri)
            self._told.add(uri)

    async def catch_up(self) -> None:
        """Tell the backend of everything that it does not know yet; a refusal costs no other URI."""
        self.desired.changed = trio.Event()
        for uri in [uri for uri in self.desired.uris if uri not in self._told]:
            await self._try(self.tell(uri))
        for uri in (self._told | self._doubtful) - self.desired.uris:
            await self._try(self._untell(uri))

    async def _untell(self, uri: str) -> None:
        async with self._lock:
            if uri not in self.desired.uris:
                self._told.discard(uri)  # first: its refusal changes nothing
                self._doubtful.discard(uri)
                await self.ask(UNSUBSCRIBE, uri, nobody_asked)

    async def _try(self, telling: Awaitable[None]) -> None:
        try:
            await telling
        except UPSTREAM_FAULTS as error:
            extra = {"backend": self.desired.backend, "why": str(error)}
            logger.info("subscription not passed on", extra=extra)
