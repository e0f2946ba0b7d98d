"""What the lists for capable clients have that those for everybody have not.

Owns how a capability probe's lists are compared with the base lists (those of a client that
declares nothing) and laid over them. Deliberately asks no server
(``backends.capability_probe``). Pure. Invariant: the result depends on the lists alone, not
on when each was read; what the base lists show, everybody is shown, as it stands there.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import attrs

from mcp_gateway.routing.listing import MAX_ITEMS
from mcp_gateway.routing.required import simplest
from mcp_gateway.routing.snapshot import Item, Kind, Listing, Lists, Problem

_EMPTY: Final = Listing()


@attrs.frozen(kw_only=True)
class Overlay:
    """The items that only some clients are shown; a kind that has none is not in it."""

    extras: Mapping[Kind, tuple[Item, ...]]
    """Each with its ``required``."""
    order: Mapping[Kind, tuple[str, ...]]
    """The names in the list of a client that can do everything."""
    problems: tuple[Problem, ...] = ()


NOTHING: Final = Overlay(extras=MappingProxyType({}), order=MappingProxyType({}))


def differ(base: Lists, other: Lists) -> bool:
    """Whether one of two sessions is shown a name that the other is not."""
    return any(_names(base, kind) != _names(other, kind) for kind in Kind)


def beyond(everybodys: Lists, own: Lists) -> Lists:
    """What one session is listed that is in no list for everybody; a kind that has nothing of that is left out."""
    found: dict[Kind, Listing] = {}
    for kind, listing in own.items():
        known = _names(everybodys, kind)
        items = tuple(item for item in listing.items if item.name not in known)
        if items:
            found[kind] = attrs.evolve(listing, items=items)
    return found


def compare(base: Lists, seen: Sequence[tuple[frozenset[str], Lists]]) -> Overlay:
    """What is to be laid over the base lists.

    Args:
        seen: which capabilities were shown which lists, the fewest first: of an item that is another one in each of
            them, the first counts. The last set has every capability.
    """
    extras: dict[Kind, tuple[Item, ...]] = {}
    problems: list[Problem] = []
    for kind in Kind:
        known = _names(base, kind)
        found: dict[str, Item] = {}
        shown_to: dict[str, list[frozenset[str]]] = {}
        for granted, lists in seen:
            for item in lists.get(kind, _EMPTY).items:
                if item.name not in known:
                    found.setdefault(item.name, item)
                    shown_to.setdefault(item.name, []).append(granted)
        room = max(MAX_ITEMS - len(known), 0)
        if len(found) > room:
            reason = f"more than {MAX_ITEMS} items with those for capable clients: the rest is not shown"
            problems.append(Problem(kind=kind, name="", reason=reason, hidden=True))
        some = [attrs.evolve(item, required=simplest(shown_to[name])) for name, item in found.items()][:room]
        if some:
            extras[kind] = tuple(some)
    _, everything = seen[-1]
    order = {kind: tuple(item.name for item in everything.get(kind, _EMPTY).items) for kind in extras}
    return Overlay(extras=extras, order=order, problems=tuple(problems))


def keep(found: Overlay, before: Overlay, unread: frozenset[Kind]) -> Overlay:
    """``found``, but of the lists that could not be read this time what ``before`` has of them."""
    if not unread:
        return found
    extras = {kind: items for kind, items in found.extras.items() if kind not in unread}
    extras.update((kind, before.extras[kind]) for kind in before.extras if kind in unread)
    order = {kind: (before if kind in unread else found).order[kind] for kind in extras}
    return attrs.evolve(found, extras=extras, order=order)


def lay(base: Lists, overlay: Overlay) -> Lists:
    """The lists of everything, ``base`` itself where nothing is added.

    The order is that of the client that can do everything. An item that it is not shown comes right behind the one
    before it in the base list, or, if that has it neither, at the end.
    """
    if not overlay.extras:
        return base
    laid = dict(base)
    for kind, extras in overlay.extras.items():
        listing = base.get(kind, _EMPTY)
        known = {item.name for item in listing.items}
        rank = {name: place for place, name in enumerate(overlay.order[kind])}
        placed = [*_anchored(listing.items, rank)]
        placed += [(rank.get(item.name, len(rank)), item) for item in extras if item.name not in known]
        placed.sort(key=lambda pair: pair[0])  # stable: what has the same anchor stays in its own order
        laid[kind] = attrs.evolve(listing, items=tuple(item for _, item in placed))
    return laid


def _names(lists: Lists, kind: Kind) -> frozenset[str]:
    return frozenset(item.name for item in lists.get(kind, _EMPTY).items)


def _anchored(items: Sequence[Item], rank: Mapping[str, int]) -> Iterator[tuple[int, Item]]:
    """Each item with its own place, or else with that of the one before it."""
    anchor = -1
    for item in items:
        anchor = rank.get(item.name, anchor)
        yield anchor, item
