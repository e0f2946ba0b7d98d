"""Who is told when something visible changes.

Owns the audiences of list changes and the subscribers of resource updates.
Deliberately sends nothing: it marks mailboxes. Invariants: an audience hears of
a list exactly when what *it* sees of it became another one; an update reaches
exactly the subscribers of that URI (design section 7; invariant 4).
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import attrs
import trio

from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.cell import Cell
from mcp_gateway.errors import BackendGone, Executed, Overload
from mcp_gateway.gateway.mailbox import Mailbox
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.routing.table import RouteTable, Target, View
from mcp_gateway.values import BackendKey, GatewayName

ResourceKey: TypeAlias = tuple[BackendKey, str]
"""A resource by its backend and the backend's own URI."""
MAX_SUBSCRIPTIONS: Final = 1000
"""Of one client."""
ALL_KINDS: Final = frozenset(Kind)
Sees: TypeAlias = Callable[[View], View]
"""What one client is shown of a view."""
_NOTICE: Final = {Kind.TEMPLATES: Kind.RESOURCES}
"""Templates have no notice of their own: ``resources/list_changed`` covers them."""


def everything(view: View) -> View:
    """2026 clients are shown all there is: lists must not vary by client there, who may share what they keep."""
    return view


@attrs.define(eq=False, kw_only=True)
class Audience:
    """One client that wants to hear of list changes."""

    view: tuple[GatewayName, str]
    mailbox: Mailbox
    kinds: frozenset[Kind] = ALL_KINDS
    sees: Sees = everything
    seen: dict[Kind, bytes] = attrs.field(factory=dict)


@attrs.define(eq=False, kw_only=True)
class _Subscription:
    """One mailbox's interest in one resource."""

    federated: str
    counted: bool = False
    """The backend's own count of subscribers has this one in it."""
    settled: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False, kw_only=True)
class Hub:
    """All audiences and subscribers of this process."""

    table: Cell[RouteTable]
    fleet: Fleet
    _audiences: set[Audience] = attrs.field(factory=set)
    _subscribers: dict[ResourceKey, dict[Mailbox, "_Subscription"]] = attrs.field(factory=dict)
    _held: dict[Mailbox, set[ResourceKey]] = attrs.field(factory=dict)
    """The same by subscriber, so that one who leaves costs only what he had."""

    def join(self, audience: Audience) -> None:
        """Begin to tell ``audience``; what it sees now is what it is taken to know."""
        view = self.table.value.view(*audience.view)
        if view is not None:
            mine = audience.sees(view)
            for kind in audience.kinds:
                audience.seen.setdefault(kind, mine.fingerprint(kind))
        self._audiences.add(audience)

    def leave(self, audience: Audience) -> None:
        """Forget an audience and its subscriptions; backends hear of it in the background."""
        self._audiences.discard(audience)
        for key in self._held.pop(audience.mailbox, ()):
            self._drop(key, audience.mailbox)

    async def subscribe(self, mailbox: Mailbox, target: Target) -> None:
        """Tell ``mailbox`` of updates of one resource.

        Raises:
            BackendError: the backend refused or failed; Overload.
        """
        backend = self.fleet.get(target.backend)
        if backend is None:
            raise BackendGone(backend=target.backend, executed=Executed.NO, why="it is not configured any more")
        key = (target.backend, target.upstream)
        while (other := self._subscribers.get(key, {}).get(mailbox)) is not None:
            if other.counted:
                return
            await other.settled.wait()
        if len(self._held.get(mailbox, ())) >= MAX_SUBSCRIPTIONS:
            raise Overload(bound="subscriptions of one client", limit=MAX_SUBSCRIPTIONS)
        # Entered before the backend is asked: nothing that it says right behind its answer is missed.
        mine = _Subscription(federated=target.federated)
        self._subscribers.setdefault(key, {})[mailbox] = mine
        self._held.setdefault(mailbox, set()).add(key)
        try:
            await backend.subscriptions.subscribe(target.upstream)
            mine.counted = True
        finally:
            mine.settled.set()
            if self._subscribers.get(key, {}).get(mailbox) is not mine:  # dropped while the backend was asked
                self._uncount(key, mine)
            elif not mine.counted:
                self._drop(key, mailbox)

    async def in_force(self, target: Target) -> None:
        """Wait until a subscription counts; the caller holds the deadline."""
        backend = self.fleet.get(target.backend)
        if backend is not None:
            await backend.subscriptions.in_force(target.upstream)

    def unsubscribe(self, mailbox: Mailbox, target: Target) -> None:
        """Stop telling ``mailbox``; an unknown subscription is no error."""
        self._drop((target.backend, target.upstream), mailbox)

    def updated(self, backend: BackendKey, uri: str) -> None:
        """A backend says that one of its resources changed."""
        for mailbox, subscription in self._subscribers.get((backend, uri), {}).items():
            mailbox.updated(subscription.federated)

    async def run(self) -> None:
        """Announce list changes until cancelled."""
        version = self.table.version
        while True:
            version, table = await self.table.changed(version)
            self.announce(table)

    def announce(self, table: RouteTable) -> None:
        """Mark the mailbox of everybody for whom a list is another one now."""
        for audience in self._audiences:
            view = table.view(*audience.view)
            if view is None:
                continue
            mine = audience.sees(view)
            for kind in audience.kinds:
                fingerprint = mine.fingerprint(kind)
                if audience.seen.get(kind) != fingerprint:
                    audience.seen[kind] = fingerprint
                    audience.mailbox.changed(_NOTICE.get(kind, kind))

    def _drop(self, key: ResourceKey, mailbox: Mailbox) -> None:
        subscribers = self._subscribers.get(key, {})
        dropped = subscribers.pop(mailbox, None)
        if not subscribers:
            self._subscribers.pop(key, None)
        held = self._held.get(mailbox, set())
        held.discard(key)
        if not held:
            self._held.pop(mailbox, None)
        if dropped is not None:
            self._uncount(key, dropped)

    def _uncount(self, key: ResourceKey, subscription: "_Subscription") -> None:
        """The upstream subscription has one user less; while it is being made, its maker looks after that."""
        backend = self.fleet.get(key[0])
        if subscription.counted and backend is not None:
            backend.subscriptions.unsubscribe(key[1])
