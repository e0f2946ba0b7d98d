"""Who is told when something visible changes.

Owns the audiences of list changes and the resource subscriptions of clients, which
outlive the backends that keep them. Deliberately sends nothing: it marks mailboxes.
Invariants: an audience hears of a list exactly when what *it* sees of it became
another one; whatever backend serves a resource has the subscriptions of all its subscribers
(docs/invariants.md, 4).
"""

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import attrs
import trio

from mcp_gateway.backends.backend import Backend, Caller
from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.backends.subscription import Beside, Subscription, nobody_asked
from mcp_gateway.cell import Cell
from mcp_gateway.errors import BackendGone, BackendRemoved, Executed, Overload
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


@attrs.define(eq=False)
class _Interest:
    """One mailbox's interest in one resource."""

    subscription: Subscription
    kept: bool = False
    """A backend keeps it, or will as soon as there is one."""
    settled: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False, kw_only=True)
class Hub:
    """All audiences and subscribers of this process."""

    table: Cell[RouteTable]
    fleet: Fleet
    _audiences: set[Audience] = attrs.field(factory=set)
    _held: dict[Mailbox, dict[ResourceKey, _Interest]] = attrs.field(factory=dict)
    """By subscriber, so that one who leaves costs only what he had."""

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
        for interest in self._held.pop(audience.mailbox, {}).values():
            interest.subscription.drop()

    async def subscribe(self, mailbox: Mailbox, caller: Caller, target: Target, beside: Beside = nobody_asked) -> None:
        """Tell ``mailbox`` of updates of one resource, as ``caller`` would hear of them.

        ``beside`` hears first what the backend says before it has answered.

        Raises:
            BackendError: the backend refused or failed; Overload.
        """
        backend = self.fleet.get(target.backend)
        if backend is None:
            raise BackendGone(backend=target.backend, executed=Executed.NO, why="it is not configured any more")
        key = (target.backend, target.upstream)
        while (other := self._held.get(mailbox, {}).get(key)) is not None:
            if other.kept:
                return
            await other.settled.wait()
        if mailbox.closed:
            return  # who has left meanwhile leaves nothing
        held = self._held.setdefault(mailbox, {})
        if len(held) >= MAX_SUBSCRIPTIONS:
            raise Overload(bound="subscriptions of one client", limit=MAX_SUBSCRIPTIONS)
        subscription = Subscription(
            caller=caller, uri=target.upstream, updated=partial(mailbox.updated, target.federated)
        )
        mine = held[key] = _Interest(subscription)
        try:
            with backend.call_scope():
                await backend.subscriptions.subscribe(subscription, beside)
                mine.kept = True
        finally:
            mine.settled.set()
            if self._held.get(mailbox, {}).get(key) is not mine:  # dropped while the backend was asked
                subscription.drop()
            elif not mine.kept:
                self.unsubscribe(mailbox, target)
        if not mine.kept:
            raise BackendRemoved(backend=target.backend, executed=Executed.UNKNOWN)
        current = self.fleet.get(target.backend)
        if current is not None and current is not backend and subscription.kept_in is not None:
            current.subscriptions.adopt(subscription)  # it was replaced while it was asked

    async def in_force(self, mailbox: Mailbox, target: Target) -> None:
        """Wait until a subscription counts; the caller holds the deadline."""
        backend = self.fleet.get(target.backend)
        interest = self._held.get(mailbox, {}).get((target.backend, target.upstream))
        if backend is not None and interest is not None:
            await backend.subscriptions.in_force(interest.subscription)

    def unsubscribe(self, mailbox: Mailbox, target: Target) -> None:
        """Stop telling ``mailbox``; an unknown subscription is no error."""
        held = self._held.get(mailbox, {})
        interest = held.pop((target.backend, target.upstream), None)
        if not held:
            self._held.pop(mailbox, None)
        if interest is not None:
            interest.subscription.drop()

    def seated(self, backend: Backend) -> None:
        """A backend is new, or there again, or a changed one: it keeps the subscriptions from before its time."""
        for held in self._held.values():
            for (key, _), interest in held.items():
                if key == backend.key and interest.kept:
                    backend.subscriptions.adopt(interest.subscription)

    async def run(self) -> None:
        """Announce list changes until cancelled."""
        version = self.table.version
        while True:
            version, table = await self.table.changed(version)
            self.announce(table)

    def announce(self, table: RouteTable) -> None:
        """Mark the mailbox of everybody for whom a list is another one now."""
        for audience in self._audiences:
            self.announce_to(audience, table)

    def announce_to(self, audience: Audience, table: RouteTable) -> None:
        """The same for one."""
        view = table.view(*audience.view)
        if view is None:
            return
        mine = audience.sees(view)
        for kind in audience.kinds:
            fingerprint = mine.fingerprint(kind)
            if audience.seen.get(kind) != fingerprint:
                audience.seen[kind] = fingerprint
                audience.mailbox.changed(_NOTICE.get(kind, kind))
