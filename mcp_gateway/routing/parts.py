"""One backend's contribution to the tables, in federated names.

Owns ``BackendPart``: filtered, prefixed, serialised items of one server as the clients
of one era see them, built once per list and shared by every gateway. Deliberately looks
at no other backend, so a collision is not its business. Invariant: a part depends on the
server's key, prefix, filter and listings alone; equal lists of both eras are one part.
"""

from collections.abc import Generator, Mapping
from typing import Final, TypeAlias

import attrs

from mcp_gateway.config.spec import ItemFilter, ServerSpec
from mcp_gateway.errors import MalformedMessage
from mcp_gateway.protocol import content, json_text, splice
from mcp_gateway.protocol.eras import Family
from mcp_gateway.routing import names
from mcp_gateway.routing.listing_views import Entry, Target, digest_of
from mcp_gateway.routing.snapshot import Item, Kind, Listing, Lists, Problem, Snapshot
from mcp_gateway.routing.steps import at_once
from mcp_gateway.routing.uris import AnyMap, ClashMap, PrefixedMap, UriMap, marker_for
from mcp_gateway.values import BackendKey

URI_KINDS: Final = frozenset({Kind.RESOURCES, Kind.TEMPLATES})

_PAUSE_ITEMS: Final = 50
"""Between two steps, 2 ms of loop time."""
_NAMED_BY: Final = {Kind.TOOLS: "name", Kind.PROMPTS: "name", Kind.RESOURCES: "uri", Kind.TEMPLATES: "uriTemplate"}
# Where a tool names the page that shows it: MCP Apps, and the flat form of its first draft.
_LINKS: Final[tuple[tuple[str, ...], ...]] = (("_meta", "ui", "resourceUri"), ("_meta", content.FLAT_LINK))


@attrs.frozen(kw_only=True, eq=False)
class BackendPart:
    """What one server offers; compared by identity."""

    backend: BackendKey
    prefix: str
    tools: ItemFilter
    listings: Lists = attrs.field(repr=False)
    entries: Mapping[Kind, tuple[Entry, ...]] = attrs.field(repr=False)
    """Every kind is there; no federated name twice in one kind."""
    problems: tuple[Problem, ...] = ()

    def made_from(self, server: ServerSpec, lists: Lists) -> bool:
        """Whether the part would come out the same for this entry of the configuration and these lists."""
        if self.prefix != server.prefix or self.tools != server.tools:
            return False
        return self.listings is lists or self.listings == lists


Parts: TypeAlias = Mapping[Family, BackendPart]
"""What one server offers to the clients of each era: every family is there, or none while there was never a list."""


def parts_for(server: ServerSpec, snapshot: Snapshot | None, last: Parts) -> Generator[None, None, Parts]:
    """The parts of one server; those of ``last`` where nothing has changed. Yields now and then to let others run.

    Args:
        snapshot: without lists, or None: the last good ones stand in.
        last: the server's parts in the previous table.
    Returns:
        (as the generator's value) nothing when there was never a list.
    """
    parts: dict[Family, BackendPart] = {}
    for family in Family:
        lists = snapshot.lists(family) if snapshot is not None else None
        if lists is None and family in last:
            lists = last[family].listings
        if lists is not None:
            known = (*parts.values(), *last.values())
            same = next((part for part in known if part.made_from(server, lists)), None)
            parts[family] = same if same is not None else (yield from _make(server, lists))
    return last if parts == last else parts


def entries_of(server: ServerSpec, lists: Lists) -> Mapping[Kind, tuple[Entry, ...]]:
    """What a server lists to one client only, in federated names; those that cannot be shown are left out."""
    return at_once(_make(server, lists)).entries


def _make(server: ServerSpec, listings: Lists) -> Generator[None, None, BackendPart]:
    entries: dict[Kind, tuple[Entry, ...]] = {}
    problems: list[Problem] = []
    for kind in Kind:
        made: dict[str, Entry] = {}
        for index, item in enumerate(listings.get(kind, Listing()).items):
            if index % _PAUSE_ITEMS == _PAUSE_ITEMS - 1:
                yield
            if kind is Kind.TOOLS and not names.passes(item.name, server.tools):
                continue
            try:
                entry = entry_for(server, kind, item)
            except MalformedMessage as malformed:
                problems.append(Problem(kind=kind, name=item.name, reason=str(malformed), hidden=True))
                continue
            problem = _judge(kind, item.name, entry.target.federated)
            problems += [problem] if problem is not None else []
            if problem is None or not problem.hidden:
                made.setdefault(entry.target.federated, entry)
        entries[kind] = tuple(made.values())
    return BackendPart(
        backend=server.key,
        prefix=server.prefix,
        tools=server.tools,
        listings=listings,
        entries=entries,
        problems=tuple(problems),
    )


def _judge(kind: Kind, upstream: str, federated: str) -> Problem | None:
    """What only the prefix made wrong; what is wrong with the upstream name itself, discovery has reported."""
    if kind in URI_KINDS:
        return None
    fault = names.fault(federated)
    if fault is not None:
        return Problem(kind=kind, name=federated, reason=fault, hidden=True)
    odd = names.oddity(federated)
    if odd is not None and names.oddity(upstream) is None:
        return Problem(kind=kind, name=federated, reason=odd, hidden=False)
    return None


def entry_for(server: ServerSpec, kind: Kind, item: Item) -> Entry:
    """One item under its federated name.

    Raises:
        MalformedMessage: a member to be rewritten occurs twice.
    """
    uri_map = uri_map_for(server)
    if kind in URI_KINDS:
        federated = item.name if uri_map is None else uri_map.out(item.name)
    else:
        federated = names.federated(server.prefix, item.name)
    target = Target(
        backend=server.key,
        upstream=item.name,
        federated=federated,
        headers=item.headers,
        uri_map=uri_map,
        required=item.required,
        only_as_task=item.only_as_task,
    )
    raw = item.raw
    if federated != item.name:
        raw = splice.rewrite(raw, {_NAMED_BY[kind]: splice.quoted(federated)})
    linked = None
    if kind is Kind.TOOLS and b"resourceUri" in raw:
        raw, linked = _map_links(raw, uri_map)
    return Entry(target=target, raw=raw, digest=digest_of(raw), linked=linked)


def uri_map_for(server: ServerSpec) -> PrefixedMap | None:
    """How the URIs of one server are mapped; None: they stay, but for those that clash with another server's."""
    return PrefixedMap(marker_for(server.key)) if server.prefix else None


def marked(kind: Kind, entry: Entry) -> Entry:
    """A resource or template whose URI would stay, marked."""
    target = entry.target
    uri_map = UriMap(marker_for(target.backend))
    federated = uri_map.out(target.upstream)
    raw = splice.rewrite(entry.raw, {_NAMED_BY[kind]: splice.quoted(federated)})
    return Entry(target=attrs.evolve(target, federated=federated, uri_map=uri_map), raw=raw, digest=digest_of(raw))


def unclashed(entry: Entry, clash_map: ClashMap) -> Entry:
    """An item of a server whose words may name a URI that is another server's here; a marked one stays."""
    raw, linked, uri_map = entry.raw, entry.linked, entry.target.uri_map
    if isinstance(uri_map, UriMap):
        return entry
    if linked is not None:
        raw, linked = _map_links(raw, clash_map)
    digest = entry.digest if raw == entry.raw else digest_of(raw)
    after = clash_map if uri_map is None else PrefixedMap(clash_map.marker, clash_map.clashing)
    return Entry(target=attrs.evolve(entry.target, uri_map=after), raw=raw, digest=digest, linked=linked)


def _map_links(raw: bytes, uri_map: AnyMap | None) -> tuple[bytes, str | None]:
    """A tool with its page's URI mapped, and that URI."""
    linked = None
    for path in _LINKS:
        quoted = splice.value_at(raw, path)
        uri = None if quoted is None else json_text.parse(quoted)
        if not isinstance(uri, str):
            continue
        linked = uri if uri_map is None else uri_map.out(uri)
        if linked != uri:
            edits: splice.Edits = {path[-1]: splice.quoted(linked)}
            for step in reversed(path[:-1]):
                edits = {step: edits}
            raw = splice.rewrite(raw, edits)
    return raw, linked
