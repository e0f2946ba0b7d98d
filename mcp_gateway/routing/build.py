"""From the desired and the observed state to the route table.

Owns who owns a name when several servers offer it, what each gateway and virtual
server shows, and the reuse of finished parts. Deliberately waits for nothing: the
caller may pause between the steps. Invariants: the table is a function of the
configuration and of each server's last good lists alone, never of the order in
which lists arrived; a name's owner keeps it while it is down, as long as it is
configured and enabled, and owns it for the clients of both eras.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Final

import attrs

from mcp_gateway.config.spec import GatewayEntry, GatewaySpec, ItemFilter, ServerSpec, VirtualServerSpec
from mcp_gateway.protocol import extensions, tasks
from mcp_gateway.protocol.eras import Family
from mcp_gateway.routing import uris
from mcp_gateway.routing.advertised import Advertised, Provider, advertise
from mcp_gateway.routing.listing_views import Entry, ListingView, Target
from mcp_gateway.routing.parts import URI_KINDS, Parts, marked, parts_for, unclashed
from mcp_gateway.routing.snapshot import Kind, Problem, Snapshot
from mcp_gateway.routing.steps import at_once
from mcp_gateway.routing.table import Collision, GatewayPart, Hosts, RouteTable, View
from mcp_gateway.values import BackendKey, GatewayName

_CORE: Final = ("tools", "prompts", "resources", "completions", "logging")
"""The capabilities of servers that mean something here."""
_NO_GATEWAY: Final = GatewayEntry(servers=(), virtual_servers=())


@attrs.frozen(kw_only=True)
class _Member:
    """One server as one gateway sees it."""

    server: ServerSpec
    parts: Parts
    live: bool
    """It has a list now; else its parts only keep its names."""
    abilities: frozenset[str] | None
    """None: not heard yet."""
    provider: Provider

    @property
    def discovered(self) -> bool:
        """It has said what it can do, and its lists were read once."""
        return self.abilities is not None and bool(self.parts)


def build(
    spec: GatewaySpec,
    snapshots: Mapping[BackendKey, Snapshot],
    previous: RouteTable | None,
    *,
    server_info: bytes = b"",
) -> RouteTable:
    """The table for one moment, in one go; see ``build_steps``."""
    return at_once(build_steps(spec, snapshots, previous, server_info=server_info))


def build_steps(
    spec: GatewaySpec,
    snapshots: Mapping[BackendKey, Snapshot],
    previous: RouteTable | None,
    *,
    server_info: bytes = b"",
) -> Generator[None, None, RouteTable]:
    """Build the table, yielding every few items and after each gateway so that the caller can let others run.

    Args:
        spec: the whole configuration.
        snapshots: by backend; a missing one counts as not heard yet.
        previous: the table in force: its parts and views are reused, and what its servers owned they still own.
        server_info: raw JSON object for the ``_meta`` of modern lists; empty: none.
    Returns:
        (as the generator's value) the new table.
    """
    members: dict[BackendKey, _Member] = {}
    for server in spec.servers:
        if server.enabled:
            last = previous.parts.get(server.key) if previous is not None else None
            members[server.key] = yield from _member(server, snapshots.get(server.key), last or {})
            yield
    entries = spec.gateways or (_NO_GATEWAY,)
    gateways: dict[GatewayName, GatewayPart] = {}
    for entry in entries:
        known = previous.gateways.get(entry.name) if previous is not None else None
        gateways[entry.name] = _gateway(spec, entry, members, known, server_info)
        yield
    return RouteTable(
        generation=previous.generation + 1 if previous is not None else 1,
        views={(name, virtual): view for name, made in gateways.items() for virtual, view in made.views.items()},
        hosts=Hosts.of(tuple((entry.name, entry.hosts) for entry in entries)),
        collisions=tuple(dict.fromkeys(one for made in gateways.values() for one in made.collisions)),
        problems={server.key: _problems(server.key, snapshots, members, gateways) for server in spec.servers},
        parts={key: member.parts for key, member in members.items() if member.parts},
        gateways=gateways,
    )


def _member(server: ServerSpec, snapshot: Snapshot | None, last: Parts) -> Generator[None, None, _Member]:
    parts = yield from parts_for(server, snapshot, last)
    snapshot = Snapshot(backend=server.key) if snapshot is None else snapshot
    modern = snapshot.era is not None and snapshot.era.modern
    # "This extension is not defined under the 2025-11-25 protocol version." -- SEP-2663
    foreign = frozenset[str]() if modern else frozenset({tasks.EXTENSION})
    offers = extensions.offered(snapshot.capabilities, besides=foreign)
    abilities = None
    if snapshot.era is not None:
        resources = snapshot.capabilities.get("resources")
        # The first major version of the Python SDK declares ``subscribe: false`` whatever its server can: asking tells.
        subscribes = isinstance(resources, dict) and (resources.get("subscribe") is True or not snapshot.era.modern)
        abilities = frozenset(
            (
                *(name for name in _CORE if name in snapshot.capabilities),
                *(("resources.subscribe",) if subscribes else ()),
                *(() if snapshot.era.completions else ("completions",)),
                *(f"extensions.{one}" for one in offers.settings["extensions"]),
                *snapshot.tasks,
            )
        )
    return _Member(
        server=server,
        parts=parts,
        live=snapshot.listings is not None,
        abilities=abilities,
        provider=Provider(
            key=server.key,
            prefix=server.prefix,
            hint=server.hint,
            abilities=abilities or frozenset(),
            offers=offers,
            instructions=snapshot.instructions if server.own_instructions else "",
        ),
    )


def _problems(
    key: BackendKey,
    snapshots: Mapping[BackendKey, Snapshot],
    members: Mapping[BackendKey, _Member],
    gateways: Mapping[GatewayName, GatewayPart],
) -> tuple[Problem, ...]:
    found = list(snapshots[key].problems) if key in snapshots else []
    member = members.get(key)
    if member is not None and member.live:
        found += (problem for part in member.parts.values() for problem in part.problems)
        found += (_unadvertised(reason) for reason in member.provider.offers.dropped)
    for made in gateways.values():
        found += made.problems.get(key, ())
    return tuple(dict.fromkeys(found))


def _unadvertised(reason: str) -> Problem:
    return Problem(kind=None, name="", reason=reason, hidden=True)


def _gateway(
    spec: GatewaySpec,
    entry: GatewayEntry,
    members: Mapping[BackendKey, _Member],
    known: GatewayPart | None,
    server_info: bytes,
) -> GatewayPart:
    """One gateway's views; ``known`` itself when it was made from equal inputs."""
    order = [server.key for server in spec.servers] if entry.servers is None else list(dict.fromkeys(entry.servers))
    chosen = tuple(members[key] for key in order if key in members)
    virtuals = tuple(
        virtual
        for virtual in spec.virtual_servers
        if entry.virtual_servers is None or virtual.name in entry.virtual_servers
    )
    inputs = (chosen, virtuals, spec.instructions, server_info)
    if known is not None and known.inputs == inputs:
        return known
    merges = _merge(chosen)
    wholes = {family: _view(chosen, merge, spec.instructions, server_info) for family, merge in merges.items()}
    views = {"": _of_both(wholes)}
    for virtual in virtuals:
        narrow = {family: _narrowed(whole, virtual, chosen, spec.instructions) for family, whole in wholes.items()}
        views[virtual.name] = _of_both(narrow)
    problems: dict[BackendKey, tuple[Problem, ...]] = {}
    for merge in merges.values():
        for key, found in merge.problems.items():
            problems[key] = tuple(dict.fromkeys((*problems.get(key, ()), *found)))
    for key, reasons in views[""].advertised.left_out.items():
        problems[key] = (*problems.get(key, ()), *map(_unadvertised, reasons))
    return GatewayPart(
        inputs=inputs,
        views=views,
        collisions=tuple(dict.fromkeys(one for merge in merges.values() for one in merge.collisions)),
        problems=problems,
    )


def _merge(chosen: Sequence[_Member]) -> "dict[Family, _Merge]":
    """What the clients of each era are shown; of the modern ones alone, where that is no difference.

    A name belongs to the first server that has it for anybody, in order, so it leads to the same one in both eras.
    """
    differs = any(len(set(map(id, member.parts.values()))) > 1 for member in chosen)
    markers = {uris.marker_for(member.server.key): member.server.key for member in chosen}
    owners: dict[tuple[Kind, str], BackendKey] = {}
    merges = {
        family: _Merge(family=family, markers=markers, owners=owners)
        for family in (Family.MODERN, Family.LEGACY)
        if differs or family is Family.MODERN
    }
    for member in chosen:
        for merge in merges.values():
            merge.add(member)
    for merge in merges.values():
        merge.settle()
    return merges


def _of_both(views: Mapping[Family, View]) -> View:
    """One view of what was made for each era."""
    return attrs.evolve(views[Family.MODERN], legacy=views.get(Family.LEGACY))


@attrs.define(kw_only=True)
class _Merge:
    """What a gateway's servers show to the clients of one era, laid over each other in order; lives for one build."""

    family: Family
    markers: Mapping[str, BackendKey]
    owners: dict[tuple[Kind, str], BackendKey]
    """For both eras."""
    shown: dict[Kind, list[Entry]] = attrs.field(factory=lambda: {kind: [] for kind in Kind})
    withheld: dict[tuple[Kind, str], Target] = attrs.field(factory=dict)
    collisions: list[Collision] = attrs.field(factory=list)
    problems: dict[BackendKey, list[Problem]] = attrs.field(factory=dict)
    clashing: dict[BackendKey, set[str]] = attrs.field(factory=dict)
    """Own URIs of servers that would stay and that clients see mapped all the same."""

    def add(self, member: _Member) -> None:
        """Lay one server over those before it: they keep what they own."""
        part = member.parts.get(self.family)
        for kind, entries in part.entries.items() if part is not None else ():
            for entry in entries:
                self._place(kind, entry, member.live)

    def _place(self, kind: Kind, entry: Entry, live: bool) -> None:
        if _stays(kind, entry) and self._seems_mapped(entry.target.federated):
            entry = self._marked(kind, entry)
        owner = self._claim(kind, entry)
        if owner != entry.target.backend:
            free = _stays(kind, entry)
            if live:
                self._report(kind, entry.target, owner, hidden=not free)
            if not free:
                return
            # Its mapped URI is its own alone: nobody else has this marker, and nobody's unmapped URI may look mapped.
            entry = self._marked(kind, entry)
            self._claim(kind, entry)
        if live:
            self.shown[kind].append(entry)
        else:
            self.withheld[kind, entry.target.federated] = entry.target

    def _marked(self, kind: Kind, entry: Entry) -> Entry:
        if kind is Kind.RESOURCES:
            self.clashing.setdefault(entry.target.backend, set()).add(entry.target.upstream)
        return marked(kind, entry)

    def settle(self) -> None:
        """What a server says anywhere of a URI that is mapped here is mapped, too."""
        for key, clashing in self.clashing.items():
            clash_map = uris.ClashMap(uris.marker_for(key), frozenset(clashing))
            for kind, entries in self.shown.items():
                self.shown[kind] = [
                    unclashed(entry, clash_map) if entry.target.backend == key else entry for entry in entries
                ]

    def _seems_mapped(self, uri: str) -> bool:
        """Whether an unmapped URI would be read as some server's mapped one."""
        found = uris.unmark(uri)
        return found is not None and found[0] in self.markers

    def _claim(self, kind: Kind, entry: Entry) -> BackendKey:
        return self.owners.setdefault((kind, entry.target.federated), entry.target.backend)

    def _report(self, kind: Kind, target: Target, owner: BackendKey, *, hidden: bool) -> None:
        name, loser = target.federated, target.backend
        self.collisions.append(Collision(kind=kind, name=name, owner=owner, loser=loser))
        outcome = "hidden" if hidden else "exposed under a mapped URI"
        reason = f"servers {owner!r} and {loser!r} both offer it: {owner!r} owns it, that of {loser!r} is {outcome}"
        self.problems.setdefault(loser, []).append(Problem(kind=kind, name=name, reason=reason, hidden=hidden))


def _stays(kind: Kind, entry: Entry) -> bool:
    """Whether clients see the URI that its server has."""
    return kind in URI_KINDS and entry.target.federated == entry.target.upstream


def _view(chosen: Sequence[_Member], merged: _Merge, instructions: str, server_info: bytes) -> View:
    """What the whole gateway shows."""
    abilities = {member.server.key: member.abilities for member in chosen if member.abilities is not None}
    mute = {key for key, has in abilities.items() if "resources" not in has}
    filtered = {member.server.key for member in chosen if member.server.tools != ItemFilter()}
    plain = [member.server.key for member in chosen if not member.server.prefix]
    candidates = [key for key in plain if key in abilities and key not in mute]
    listings: dict[Kind, ListingView] = {}
    for kind in Kind:
        ttl_ms, private = _hints(chosen, merged.family, kind)
        listings[kind] = ListingView(
            kind=kind, entries=tuple(merged.shown[kind]), ttl_ms=ttl_ms, private=private, server_info=server_info
        )
    return View.of(
        listings,
        withheld=merged.withheld,
        markers={marker: key for marker, key in merged.markers.items() if key not in mute},
        fallback=candidates[0] if len(candidates) == 1 else None,
        abilities=abilities,
        servers=frozenset(member.server.key for member in chosen),
        unfiltered=tuple(key for key in abilities if key not in filtered),
        advertised=_advertised(chosen, chosen, instructions),
    )


def _advertised(shown: Sequence[_Member], chosen: Sequence[_Member], instructions: str) -> Advertised:
    """Of the servers that are shown; any of the chosen ones that has not been discovered may be shown later."""
    complete = bool(chosen) and all(member.discovered for member in chosen)
    return advertise([member.provider for member in shown], complete=complete, configured=instructions)


def _narrowed(whole: View, virtual: VirtualServerSpec, chosen: Sequence[_Member], instructions: str) -> View:
    """One virtual server: the named tools only; of prompts and resources the named ones, all if none is named."""
    named = {
        Kind.TOOLS: virtual.tools,
        Kind.PROMPTS: virtual.prompts or None,
        Kind.RESOURCES: virtual.resources or None,
        Kind.TEMPLATES: virtual.resources or None,
    }
    wanted = {kind: None if some is None else frozenset(some) for kind, some in named.items()}

    def keeps(kind: Kind, target: Target) -> bool:
        some = wanted[kind]
        return some is None or target.federated in some

    narrow = whole.only(keeps)
    # What is said of it must not name servers of which nothing is shown here.
    shown = {entry.target.backend for listing in narrow.listings.values() for entry in listing.entries}
    shown.update(target.backend for target in narrow.withheld.values())
    return attrs.evolve(
        narrow,
        advertised=_advertised([member for member in chosen if member.server.key in shown], chosen, instructions),
        open_resources=not virtual.resources,
        servers=frozenset(shown),
        unfiltered=(),  # what is named is all that is shown
    )


def _hints(chosen: Sequence[_Member], family: Family, kind: Kind) -> tuple[int, bool]:
    """The shortest ttl and the narrowest scope; a list that a server is missing from may change at any time."""
    parts = [member.parts[family] for member in chosen if member.live and member.parts]
    lists = [part.listings[kind] for part in parts if kind in part.listings]
    whole = all(member.live for member in chosen)
    ttl_ms = min((listing.ttl_ms for listing in lists), default=0) if whole else 0
    return ttl_ms, any(listing.private for listing in lists)
