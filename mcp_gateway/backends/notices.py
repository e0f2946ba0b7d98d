"""What a backend tells the gateway's own connection unasked: changed lists and updated resources.

Owns the one upstream stream on which that comes: the discovery session's GET stream
(legacy), the pipe itself, or one ``subscriptions/listen`` with the union (modern).
Deliberately knows no other session; whose subscriptions belong here is decided in
``subscriptions``. Invariant: what is subscribed here is what ``subscription`` holds, on
every connection from its first moment on.
"""

import logging
from collections.abc import Callable
from typing import Final

import attrs
import trio

from mcp_gateway.backends.connector import UPSTREAM_FAULTS, Connection
from mcp_gateway.backends.health import HEALTHY_AFTER_S, Backoff
from mcp_gateway.backends.own_requests import METHOD_NOT_FOUND, request, result_of
from mcp_gateway.backends.subscription import Beside, DesiredSet, Subscription, ToldSet
from mcp_gateway.backends.transports.base import Hear, Inbound, Link
from mcp_gateway.backends.upstream import Jitter, keep_listening
from mcp_gateway.errors import BackendRefused
from mcp_gateway.values import BackendKey, JsonObject

logger = logging.getLogger(__name__)

GATHER_S: Final = 0.05
"""Changes of the set within this time cause one new listen stream, not many."""
LIST_CHANGED: Final = frozenset(
    {
        "notifications/tools/list_changed",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
    }
)
UPDATED: Final = "notifications/resources/updated"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
_FILTERS: Final = {
    "tools": "toolsListChanged",
    "prompts": "promptsListChanged",
    "resources": "resourcesListChanged",
}


def offers(connection: Connection, capability: str, feature: str) -> bool:
    """Whether the backend advertises e.g. ``tools.listChanged``."""
    offered = connection.hello.capabilities.get(capability)
    return isinstance(offered, dict) and offered.get(feature) is True


def _nobody() -> None:
    """Until the subscriptions are there nobody wants to know."""


@attrs.define(eq=False, kw_only=True)
class Notices:
    """The notices of one backend to the gateway's own connection."""

    backend: BackendKey
    list_s: float
    jitter: Jitter
    refresh: Callable[[], None]
    """The lists may have changed."""
    check: Callable[[], None]
    """The stream of notices ended: see whether the backend lives."""
    hear: Hear
    """Gets what comes on the stream; it calls ``heard``."""
    connected: Callable[[], None] = _nobody
    """Told of each new connection before anything is told on it."""
    live: bool = False
    """Notices can arrive right now."""
    desired: DesiredSet = attrs.field(init=False)
    """What is subscribed here for everybody who has no session of its own."""
    _listening_for: frozenset[str] = frozenset()
    """Modern: what the present listen stream was opened with, once the backend has acknowledged it."""
    _renewed: trio.Event = attrs.field(factory=trio.Event)
    _connection: Connection | None = None
    _told_set: ToldSet | None = None
    """Legacy: what is told on the present connection."""

    def __attrs_post_init__(self) -> None:
        self.desired = DesiredSet(backend=self.backend, list_s=self.list_s)

    async def subscribe(self, subscription: Subscription, beside: Beside) -> None:
        """Keep one more subscription; a URI that is new is told to the backend.

        Without a connection it is told with the next one.

        Raises:
            Overload: too many different URIs.
            BackendError: the backend refused or failed; the subscription is not kept.
        """
        connection = self._connection
        if connection is not None and connection.hello.era.modern and not offers(connection, "resources", "subscribe"):
            raise BackendRefused(backend=self.backend, code=METHOD_NOT_FOUND, message="it has no subscriptions")
        self.desired.add(subscription)
        done = False
        try:
            if self._told_set is not None:
                await self._told_set.tell(subscription.uri, beside)
            elif subscription.uri not in self._listening_for:
                self.desired.changed.set()
            await trio.lowlevel.checkpoint()
            done = True
        finally:
            if not done:
                subscription.drop()

    async def in_force(self, uri: str) -> None:
        """Wait until the backend would tell of a subscribed URI; the caller holds the deadline.

        A legacy backend does once ``subscribe`` has returned, a modern one from its next stream on.
        Without a connection there is nothing to wait for.
        """
        while self._connection is not None and self._connection.hello.era.modern and uri in self.desired.uris:
            if uri in self._listening_for:
                return
            await self._renewed.wait()
        await trio.lowlevel.checkpoint()

    def heard(self, inbound: Inbound) -> bool:
        """Take a message that is for us: a changed list or an updated resource."""
        if inbound.method in LIST_CHANGED:
            self.refresh()
            return True
        if inbound.method == UPDATED:
            self.desired.heard(inbound.params.get("uri"))
            return True
        return False

    def tell_all(self, connection: Connection) -> bool:
        """Whether every list would be announced to us if it changed; otherwise it has to be read again.

        A legacy server with sessions announces a change to the session whose call
        caused it, and often to no other: what our own one hears is not all.
        """
        advertised = [name for name in _FILTERS if name in connection.hello.capabilities]
        heard = self.live and all(offers(connection, name, "listChanged") for name in advertised)
        return connection.listen is None and heard

    async def run(self, connection: Connection, settled: trio.Event) -> None:
        """Keep notices coming for as long as this connection lives.

        Args:
            connection: the gateway's own one.
            settled: set once the first stream is open or will not be, and by who no longer waits for it.
        """
        self._connection = connection
        self.connected()
        try:
            if connection.hello.era.modern:
                await self._listen(connection, settled)
                return
            self._told_set = self.desired.told_on(connection.link, self.hear)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hold_stream, connection, settled)
                nursery.start_soon(self._keep_told, self._told_set)
        finally:
            self.live = False
            settled.set()
            if self._connection is connection:
                self._connection = self._told_set = None
            self._renew(frozenset())

    async def _keep_told(self, told: ToldSet) -> None:
        while True:
            await told.reconcile()
            await self.desired.changed.wait()

    async def _hold_stream(self, connection: Connection, settled: trio.Event) -> None:
        wanted = any(offers(connection, capability, "listChanged") for capability in _FILTERS)
        if connection.listen is None:  # a pipe: notices come by themselves
            self.live = wanted
            settled.set()
            return
        if wanted or (connection.link.shared and offers(connection, "resources", "subscribe")):
            await keep_listening(connection, self.hear, lambda: self._opened(settled), self._ended, self.jitter)
        settled.set()

    def _opened(self, settled: trio.Event) -> None:
        if settled.is_set() and not self.live:
            self.refresh()  # what changed while no stream was open was told to nobody
        self.live = True
        settled.set()

    def _ended(self) -> None:
        self.live = False
        self.check()

    # --- modern: one listen stream with the union ---

    async def _listen(self, connection: Connection, settled: trio.Event) -> None:
        """Replace the stream whenever the set changes: the new one is open before the old one goes."""
        current: trio.CancelScope | None = None
        async with trio.open_nursery() as nursery:
            while True:
                self.desired.changed = trio.Event()
                wanted, scope, acknowledged = self._filter(connection), trio.CancelScope(), trio.Event()
                uris = frozenset(self.desired.uris)
                if wanted:
                    nursery.start_soon(self._hold_listen, connection.link, wanted, scope, acknowledged, settled)
                    with trio.move_on_after(self.list_s):
                        await acknowledged.wait()
                settled.set()
                self._renew(uris)
                if current is not None:
                    current.cancel("listening for another set")
                current = scope
                await self.desired.changed.wait()
                await trio.sleep(GATHER_S)

    def _renew(self, uris: frozenset[str]) -> None:
        self._listening_for = uris
        renewed, self._renewed = self._renewed, trio.Event()
        renewed.set()

    def _filter(self, connection: Connection) -> JsonObject:
        wanted: JsonObject = {
            member: True for capability, member in _FILTERS.items() if offers(connection, capability, "listChanged")
        }
        if self.desired.uris and offers(connection, "resources", "subscribe"):
            wanted["resourceSubscriptions"] = list(self.desired.uris)
        return wanted

    async def _hold_listen(
        self,
        link: Link,
        wanted: JsonObject,
        scope: trio.CancelScope,
        acknowledged: trio.Event,
        settled: trio.Event,
    ) -> None:
        """Keep one listen stream open with growing pauses, until ``scope`` ends or the backend knows no such method."""

        async def hear(inbound: Inbound) -> None:
            if inbound.method == ACKNOWLEDGED:
                acknowledged.set()
                self._opened(settled)
            else:
                await self.hear(inbound)

        outgoing = request("subscriptions/listen", {"notifications": wanted}, link.era)
        backoff, tries = Backoff(), 0
        with scope:
            while True:
                began_at = trio.current_time()
                try:
                    result_of(await link.exchange(outgoing, hear), self.backend)
                except BackendRefused as refused:
                    if refused.code == METHOD_NOT_FOUND:
                        acknowledged.set()
                        return
                except UPSTREAM_FAULTS as error:
                    logger.debug("listen stream lost", extra={"backend": self.backend, "why": str(error)})
                self._ended()
                if trio.current_time() - began_at >= HEALTHY_AFTER_S:
                    tries = 0
                await trio.sleep(self.jitter(backoff.delay_s(tries)))
                tries = min(tries + 1, 1000)
