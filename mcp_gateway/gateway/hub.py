"""Who is told when something visible changes.

Owns the audiences of list changes and the subscribers of resource updates.
Deliberately sends nothing: it marks mailboxes. Invariants: an audience hears of
a list exactly when what *it* sees of it became another one; an update reaches
exactly the subscribers of that URI (design section 7; invariant 4).
"""

from typing import Final

import attrs

from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.cell import Cell
from mcp_gateway.gateway.mailbox import Mailbox
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.routing.table import RouteTable, Target
from mcp_gateway.values import BackendKey, GatewayName

ALL_KINDS: Final = frozenset(Kind)
_NOTICE: Final = {Kind.TEMPLATES: Kind.RESOURCES}
"""Templates have no notice of their own: ``resources/list_changed`` covers them."""


@attrs.define(eq=False, kw_only=True)
class Audience:
    """One client that wants to hear of list changes."""

    view: tuple[GatewayName, str]
    mailbox: Mailbox
    kinds: frozenset[Kind] = ALL_KINDS
    seen: dict[Kind, bytes] = attrs.field(factory=dict)


@attrs.define(eq=False, kw_only=True)
class Hub:
    """All audiences and subscribers of this process."""

    table: Cell[RouteTable]
    fleet: Fleet
    _audiences: set[Audience] = attrs.field(factory=set)
    _subscribers: dict[tuple[BackendKey, str], dict[Mailbox, str]] = attrs.field(factory=dict)

    def join(self, audience: Audience) -> None:
        """Begin to tell ``audience``; what it sees now is what it is taken to know."""
        view = self.table.value.views.get(audience.view)
        if view is not None:
            for kind in audience.kinds:
                audience.seen.setdefault(kind, view.fingerprint(kind))
        self._audiences.add(audience)

    async def leave(self, audience: Audience) -> None:
        """Forget an audience and its subscriptions."""
        self._audiences.discard(audience)
        for key, subscribers in list(self._subscribers.items()):
            if subscribers.pop(audience.mailbox, None) is not None:
                await self._released(*key)

    async def subscribe(self, mailbox: Mailbox, target: Target) -> None:
        """Tell ``mailbox`` of updates of one resource.

        Raises:
            BackendError: the backend refused or failed; Overload.
        """
        key = (target.backend, target.upstream)
        subscribers = self._subscribers.setdefault(key, {})
        first = not subscribers
        already = mailbox in subscribers
        subscribers[mailbox] = target.federated
        backend = self.fleet.get(target.backend)
        if already or not first or backend is None:
            return
        done = False
        try:
            await backend.subscriptions.subscribe(target.upstream)
            done = True
        finally:
            if not done:
                subscribers.pop(mailbox, None)
                if not subscribers:
                    self._subscribers.pop(key, None)

    async def in_force(self, target: Target) -> None:
        """Wait until a subscription counts; the caller holds the deadline."""
        backend = self.fleet.get(target.backend)
        if backend is not None:
            await backend.subscriptions.in_force(target.upstream)

    async def unsubscribe(self, mailbox: Mailbox, target: Target) -> None:
        """Stop telling ``mailbox``; an unknown subscription is no error."""
        key = (target.backend, target.upstream)
        if self._subscribers.get(key, {}).pop(mailbox, None) is not None:
            await self._released(*key)

    def updated(self, backend: BackendKey, uri: str) -> None:
        """A backend says that one of its resources changed."""
        for mailbox, federated in self._subscribers.get((backend, uri), {}).items():
            mailbox.updated(federated)

    async def run(self) -> None:
        """Announce list changes until cancelled."""
        version = self.table.version
        while True:
            version, table = await self.table.changed(version)
            self.announce(table)

    def announce(self, table: RouteTable) -> None:
        """Mark the mailbox of everybody for whom a list is another one now."""
        for audience in self._audiences:
            view = table.views.get(audience.view)
            if view is None:
                continue
            for kind in audience.kinds:
                fingerprint = view.fingerprint(kind)
                if audience.seen.get(kind) != fingerprint:
                    audience.seen[kind] = fingerprint
                    audience.mailbox.changed(_NOTICE.get(kind, kind))

    async def _released(self, backend_key: BackendKey, uri: str) -> None:
        if self._subscribers.get((backend_key, uri)):
            return
        self._subscribers.pop((backend_key, uri), None)
        backend = self.fleet.get(backend_key)
        if backend is not None:
            await backend.subscriptions.unsubscribe(uri)
