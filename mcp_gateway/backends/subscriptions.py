"""What a backend tells unasked: changed lists and updated resources.

Owns the set of subscribed URIs, counted, and the one upstream stream on which
notices come: the discovery session's GET stream (legacy), the pipe itself, or
one ``subscriptions/listen`` with the union (modern). Deliberately knows no
clients: ``updated`` is told the URI, who asked for it is the hub's affair.
Invariant: a URI is subscribed upstream exactly while its count is above zero
(and a connection is up); every new connection subscribes the whole set again.
"""

import logging
from collections.abc import Callable
from typing import Final

import attrs
import trio

from mcp_gateway.backends.connector import UPSTREAM_FAULTS, Connection
from mcp_gateway.backends.health import HEALTHY_AFTER_S, Backoff
from mcp_gateway.backends.own_requests import METHOD_NOT_FOUND, ask, request, result_of
from mcp_gateway.backends.transports.base import Hear, Inbound, Link
from mcp_gateway.backends.upstream import Jitter, keep_listening
from mcp_gateway.errors import BackendRefused, Overload
from mcp_gateway.values import BackendKey, JsonObject

logger = logging.getLogger(__name__)

MAX_URIS: Final = 10_000
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


def _ignore(uri: str) -> None:
    """Until the hub is there nobody wants to know."""


@attrs.define(eq=False, kw_only=True)
class Subscriptions:
    """The notices of one backend."""

    backend: BackendKey
    list_s: float
    jitter: Jitter
    refresh: Callable[[], None]
    """The lists may have changed."""
    check: Callable[[], None]
    """The stream of notices ended: see whether the backend lives."""
    hear: Hear
    """Gets what comes on the stream; it calls ``heard``."""
    updated: Callable[[str], None] = _ignore
    live: bool = False
    """Notices can arrive right now."""
    _counts: dict[str, int] = attrs.field(factory=dict)
    _told: set[str] = attrs.field(factory=set)
    _lock: trio.Lock = attrs.field(factory=trio.Lock)
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _listening_for: frozenset[str] = frozenset()
    """Modern: what the present listen stream was opened with, once the backend has acknowledged it."""
    _renewed: trio.Event = attrs.field(factory=trio.Event)
    _connection: Connection | None = None

    @property
    def uris(self) -> frozenset[str]:
        """Those with at least one subscriber."""
        return frozenset(self._counts)

    def adopt(self, other: "Subscriptions") -> None:
        """Take over the subscribers of an earlier generation; before this one is told of any."""
        self._counts = dict(other._counts)
        self._changed.set()

    async def subscribe(self, uri: str) -> None:
        """Count one more subscriber; the first is told to the backend.

        Without a connection the URI is remembered and subscribed with the next one.

        Raises:
            Overload: ``MAX_URIS`` different URIs.
            BackendError: the backend refused or failed; nothing is counted.
        """
        if uri not in self._counts and len(self._counts) >= MAX_URIS:
            raise Overload(bound="subscriptions", limit=MAX_URIS)
        self._counts[uri] = self._counts.get(uri, 0) + 1
        done = False
        try:
            async with self._lock:
                if uri not in self._told:
                    await self._tell("resources/subscribe", uri)
            done = True
        finally:
            if not done:
                self._release(uri)

    async def in_force(self, uri: str) -> None:
        """Wait until the backend would tell of a subscribed URI; the caller holds the deadline.

        A legacy backend does once ``subscribe`` has returned, a modern one from its next stream on.
        Without a connection there is nothing to wait for.
        """
        while self._connection is not None and self._connection.hello.era.modern and uri in self._told:
            if uri in self._listening_for:
                return
            await self._renewed.wait()
        await trio.lowlevel.checkpoint()

    def unsubscribe(self, uri: str) -> None:
        """Undo one ``subscribe`` that returned; the backend hears of the last one in the background."""
        self._release(uri)
        if uri not in self._counts:
            self._changed.set()

    def heard(self, inbound: Inbound) -> bool:
        """Take a message that is for us: a changed list or an updated resource."""
        if inbound.method in LIST_CHANGED:
            self.refresh()
            return True
        if inbound.method == UPDATED:
            uri = inbound.params.get("uri")
            if isinstance(uri, str):
                self.updated(uri)
            return True
        return False

    async def run(self, connection: Connection, settled: trio.Event) -> None:
        """Keep notices coming for as long as this connection lives.

        Args:
            connection: the gateway's own one.
                settled: set once the first stream is open or will not be, and by who no longer waits for it.
        """
        self._connection = connection
        self._told = set()
        try:
            if connection.hello.era.modern:
                await self._listen(connection, settled)
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hold_stream, connection, settled)
                nursery.start_soon(self._keep_told)
        finally:
            self.live = False
            settled.set()
            if self._connection is connection:
                self._connection = None
            self._renew(frozenset())

    def _release(self, uri: str) -> None:
        left = self._counts.get(uri, 0) - 1
        if left > 0:
            self._counts[uri] = left
        else:
            self._counts.pop(uri, None)

    async def _tell(self, method: str, uri: str) -> None:
        connection = self._connection
        if connection is None or not offers(connection, "resources", "subscribe"):
            return
        if connection.hello.era.modern:
            self._changed.set()
        else:
            outgoing = request(method, {"uri": uri}, connection.hello.era)
            await ask(connection.link, self.backend, outgoing, self.hear, self.list_s)
        if method == "resources/subscribe":
            self._told.add(uri)

    async def _keep_told(self) -> None:
        """Tell the backend what it does not know: a new session knows nothing of what the last one had subscribed."""
        while True:
            self._changed = trio.Event()
            for uri in (*self._counts, *(self._told - self._counts.keys())):
                try:
                    async with self._lock:
                        await self._catch_up(uri)
                except UPSTREAM_FAULTS as error:
                    logger.warning("subscription not passed on", extra={"backend": self.backend, "why": str(error)})
            await self._changed.wait()

    async def _catch_up(self, uri: str) -> None:
        wanted, told = uri in self._counts, uri in self._told
        if wanted and not told:
            await self._tell("resources/subscribe", uri)
        elif told and not wanted:
            self._told.discard(uri)  # first: its refusal changes nothing
            await self._tell("resources/unsubscribe", uri)

    async def _hold_stream(self, connection: Connection, settled: trio.Event) -> None:
        wanted = any(offers(connection, capability, "listChanged") for capability in _FILTERS)
        if connection.listen is None:  # a pipe: notices come by themselves
            self.live = wanted
            settled.set()
            return
        if wanted or offers(connection, "resources", "subscribe"):
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
                self._changed = trio.Event()
                wanted, scope, acknowledged = self._filter(connection), trio.CancelScope(), trio.Event()
                uris = frozenset(self._told)
                if wanted:
                    nursery.start_soon(self._hold_listen, connection.link, wanted, scope, acknowledged, settled)
                    with trio.move_on_after(self.list_s):
                        await acknowledged.wait()
                settled.set()
                self._renew(uris)
                if current is not None:
                    current.cancel("listening for another set")
                current = scope
                await self._changed.wait()
                await trio.sleep(GATHER_S)

    def _renew(self, uris: frozenset[str]) -> None:
        self._listening_for = uris
        renewed, self._renewed = self._renewed, trio.Event()
        renewed.set()

    def _filter(self, connection: Connection) -> JsonObject:
        wanted: JsonObject = {
            member: True for capability, member in _FILTERS.items() if offers(connection, capability, "listChanged")
        }
        self._told = set(self._counts) if offers(connection, "resources", "subscribe") else set()
        if self._told:
            wanted["resourceSubscriptions"] = list(self._counts)
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
