"""The route table: which name leads to which backend, for every gateway and virtual server.

Owns the immutable values and their lookups. Deliberately decides no ownership
(``routing.build``) and no answer (``routing.decide``). Invariant: a table never
changes after it was built; whoever read it once sees one consistent state.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from mcp_gateway.protocol.eras import Era
from mcp_gateway.routing import uris
from mcp_gateway.routing.advertised import Advertised
from mcp_gateway.routing.listing_views import Entry, ListingView, ListPage, Position, Target
from mcp_gateway.routing.parts import Parts
from mcp_gateway.routing.required import met
from mcp_gateway.routing.snapshot import Kind, Problem
from mcp_gateway.values import BackendKey, GatewayName, JsonObject

if TYPE_CHECKING:
    from mcp_gateway.routing.decide import Forward

__all__ = ["Collision", "GatewayPart", "Hosts", "RouteTable", "Target", "TemplateRoute", "View"]

_NOTHING: Final[Mapping[tuple[Kind, str], Target]] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class TemplateRoute:
    """One listed template and what matches it."""

    target: Target
    matcher: uris.Template


@attrs.frozen(kw_only=True)
class Collision:
    """A name that two servers offer: the first in order owns it, the other's is hidden (a resource: renamed)."""

    kind: Kind
    name: str
    owner: BackendKey
    loser: BackendKey


@attrs.frozen(kw_only=True, eq=False)
class View:
    """What one client may see: a whole gateway, or one of its virtual servers."""

    listings: Mapping[Kind, ListingView]
    """Every kind is there."""
    tools: Mapping[str, Target]
    prompts: Mapping[str, Target]
    resources: Mapping[str, Target]
    advertised: Advertised
    """What is said of all this when a client begins."""
    templates: tuple[TemplateRoute, ...] = ()
    withheld: Mapping[tuple[Kind, str], Target] = _NOTHING
    """Names whose owner has no list at the moment: not listed, but a call gets the owner's precise error."""
    markers: Mapping[str, BackendKey] = attrs.field(factory=dict)
    """Owners of mapped URIs."""
    open_resources: bool = True
    """False: only selected resources, and pages of visible tools, can be read."""
    linked: frozenset[str] = frozenset()
    fallback: BackendKey | None = None
    """The only server that has resources and no prefix."""
    abilities: Mapping[BackendKey, frozenset[str]] = attrs.field(factory=dict)
    """The capabilities that servers have declared, ``resources.subscribe`` and each extension as ``extensions.<its
    id>``, and ``tasks.call`` and ``tasks.cancel`` of 2025-11-25; a server not heard yet is not in it."""
    servers: frozenset[BackendKey] = frozenset()
    """Those of which something is shown here, or could be."""
    unfiltered: tuple[BackendKey, ...] = ()
    """Servers all of whose tools are shown here, which may be sent what names nothing that is shown."""
    legacy: "View | None" = None
    """What clients of the 2025 era see instead; None: the same."""
    conditions: frozenset[frozenset[str]] = frozenset()
    """Every set of client capabilities that something here needs."""
    forwards: dict[str, "Forward"] = attrs.field(init=False, factory=dict, repr=False)
    """What was decided of calls of tools, by their names (``decide``); as many as there are tools."""
    _narrower: dict[frozenset[frozenset[str]], "View"] = attrs.field(init=False, factory=dict, repr=False)
    """By the conditions that a client meets. Bounded: a probe tries few sets (``backends.capability_probe``)."""

    @classmethod
    def of(
        cls,
        listings: Mapping[Kind, ListingView],
        *,
        withheld: Mapping[tuple[Kind, str], Target],
        markers: Mapping[str, BackendKey],
        fallback: BackendKey | None,
        abilities: Mapping[BackendKey, frozenset[str]],
        advertised: Advertised,
        servers: frozenset[BackendKey] = frozenset(),
        unfiltered: tuple[BackendKey, ...] = (),
        open_resources: bool = True,
    ) -> "View":
        """A view with its look-ups made from its lists."""

        def by_name(kind: Kind) -> dict[str, Target]:
            return {entry.target.federated: entry.target for entry in listings[kind].entries}

        listed = (entry.target for listing in listings.values() for entry in listing.entries)
        return cls(
            listings=listings,
            tools=by_name(Kind.TOOLS),
            prompts=by_name(Kind.PROMPTS),
            resources=by_name(Kind.RESOURCES),
            templates=tuple(
                TemplateRoute(target=target, matcher=uris.Template.parse(template))
                for template, target in by_name(Kind.TEMPLATES).items()
            ),
            withheld=withheld,
            markers=markers,
            open_resources=open_resources,
            linked=frozenset(entry.linked for entry in listings[Kind.TOOLS].entries if entry.linked is not None),
            fallback=fallback,
            abilities=abilities,
            servers=servers,
            unfiltered=unfiltered,
            advertised=advertised,
            conditions=frozenset(one for target in chain(listed, withheld.values()) for one in target.required),
        )

    def only(self, keeps: Callable[[Kind, Target], bool]) -> "View":
        """What ``keeps`` says of this view, listed or withheld, for whoever sees it."""
        return self._of(
            {kind: listing.only(partial(keeps, kind)) for kind, listing in self.listings.items()},
            {place: target for place, target in self.withheld.items() if keeps(place[0], target)},
        )

    def _of(self, listings: Mapping[Kind, ListingView], withheld: Mapping[tuple[Kind, str], Target]) -> "View":
        return View.of(
            listings,
            withheld=withheld,
            markers=self.markers,
            fallback=self.fallback,
            abilities=self.abilities,
            servers=self.servers,
            unfiltered=self.unfiltered,
            advertised=self.advertised,
            open_resources=self.open_resources,
        )

    def with_own(self, own: Mapping[Kind, Sequence[Entry]]) -> "View":
        """The same view, and what servers list to one client besides; names that are taken stay their owners'."""

        def shows(kind: Kind, target: Target) -> bool:
            if (kind, target.federated) in self.withheld:
                return False
            if kind in (Kind.TOOLS, Kind.PROMPTS):
                return target.backend in self.unfiltered
            return self.open_resources and target.backend in self.servers

        listings: dict[Kind, ListingView] = {}
        for kind, listing in self.listings.items():
            known = {entry.target.federated for entry in listing.entries}
            new = [entry for entry in own.get(kind, ()) if entry.target.federated not in known]
            new = [entry for entry in new if shows(kind, entry.target)]
            listings[kind] = attrs.evolve(listing, entries=(*listing.entries, *new)) if new else listing
        return self._of(listings, self.withheld)

    def seen_by(self, granted: frozenset[str]) -> "View":
        """What a 2025 client that can do ``granted`` (``capabilities.granted``) is shown; itself if that is all."""
        if self.legacy is not None:
            return self.legacy.seen_by(granted)
        if not self.conditions:
            return self
        meets = frozenset(one for one in self.conditions if one <= granted)
        if len(meets) == len(self.conditions):
            return self
        view = self._narrower.get(meets)
        if view is None:
            view = self._narrower[meets] = self.only(lambda kind, target: met(target.required, granted))
        return view

    @property
    def capabilities(self) -> JsonObject:
        """The ``capabilities`` of ``initialize`` and ``server/discover``; the caller's own copy."""
        return dict(self.advertised.capabilities)

    def page(self, kind: Kind, era: Era, position: Position | None = None) -> ListPage | None:
        """One list result for a client of ``era``; None: the position is not, or no longer, one of this list."""
        return self.listings[kind].page(era, position)

    def fingerprint(self, kind: Kind) -> bytes:
        """Equal exactly when a client would see no difference in this list."""
        return self.listings[kind].fingerprint

    def hints(self, kind: Kind) -> tuple[int, bool]:
        """(ttl in ms, private) of the merged list."""
        listing = self.listings[kind]
        return listing.ttl_ms, listing.private

    def lacks(self, backend: BackendKey, capability: str) -> bool:
        """Whether the backend has said what it can do, and not said this."""
        return backend in self.abilities and capability not in self.abilities[backend]

    def extensions_of(self, backend: BackendKey) -> frozenset[str]:
        """The ids of the extensions that a server declares, but those of authorization."""
        begins = "extensions."
        has = self.abilities.get(backend, ())
        return frozenset(ability.removeprefix(begins) for ability in has if ability.startswith(begins))

    def some_server(self, ability: str) -> bool:
        """Whether a server of which something is shown here has said that it has this ability."""
        return any(ability in self.abilities.get(server, ()) for server in self.servers)

    def shows(self, kind: Kind, name: str) -> bool:
        """Whether a name is listed to clients of any era."""
        views = (self,) if self.legacy is None else (self, self.legacy)
        return any(entry.target.federated == name for view in views for entry in view.listings[kind].entries)

    def find_tool(self, name: str) -> Target | None:
        """The target of an exposed name, visible or withheld."""
        return self.tools.get(name) or self.withheld.get((Kind.TOOLS, name))

    def find_prompt(self, name: str) -> Target | None:
        """The same for prompts."""
        return self.prompts.get(name) or self.withheld.get((Kind.PROMPTS, name))

    def find_named(self, name: str) -> Target | None:
        """The target of a tool's name, else of a prompt's."""
        return self.find_tool(name) or self.find_prompt(name)

    def find_template(self, template: str) -> Target | None:
        """The target of a listed template, by its exact text."""
        found = next((route.target for route in self.templates if route.target.federated == template), None)
        return found or self.withheld.get((Kind.TEMPLATES, template))

    def resolve_uri(self, uri: str) -> Target | None:
        """Who answers for a concrete URI: its lister, else its marker's server, else the first template that
        matches, else the only server with resources and no prefix."""
        return self.find_uri(uri) or self._by_fallback(uri)

    def find_uri(self, uri: str) -> Target | None:
        """The same for what is shown here: without a guess."""
        listed = self.resources.get(uri) or self.withheld.get((Kind.RESOURCES, uri))
        if listed is not None:
            return listed
        return self._by_marker(uri) or self._by_template(uri)

    def _by_marker(self, uri: str) -> Target | None:
        if not self.open_resources and uri not in self.linked:
            return None
        marker, upstream = uris.unmark(uri) or ("", uri)
        owner = self.markers.get(marker)
        if owner is None:
            return None
        uri_map = uris.PrefixedMap(marker, frozenset({upstream}))
        return Target(backend=owner, upstream=upstream, federated=uri, uri_map=uri_map)

    def _by_template(self, uri: str) -> Target | None:
        for route in self.templates:
            if route.matcher.matches(uri):
                uri_map = route.target.uri_map
                upstream = uri if uri_map is None else uri_map.back(uri)
                return attrs.evolve(route.target, upstream=upstream or uri, federated=uri)
        return None

    def _by_fallback(self, uri: str) -> Target | None:
        if self.fallback is None or not (self.open_resources or uri in self.linked):
            return None
        return Target(backend=self.fallback, upstream=uri, federated=uri)


@attrs.frozen(kw_only=True, eq=False)
class GatewayPart:
    """What was built for one gateway, and from what."""

    inputs: tuple[object, ...]
    """Equal inputs give an equal part."""
    views: Mapping[str, View]
    collisions: tuple[Collision, ...]
    problems: Mapping[BackendKey, tuple[Problem, ...]]


@attrs.frozen(kw_only=True)
class Hosts:
    """Which gateway answers to which Host."""

    exact: Mapping[str, GatewayName]
    wildcards: tuple[tuple[str, GatewayName], ...]
    """(".suffix", gateway), longest first."""
    unclaimed: GatewayName

    @classmethod
    def of(cls, claims: tuple[tuple[GatewayName, tuple[str, ...]], ...]) -> "Hosts":
        """From (gateway, its hosts) in order of precedence; no hosts means every Host."""
        exact: dict[str, GatewayName] = {}
        wild: dict[str, GatewayName] = {}
        for gateway, hosts in claims:
            for host in hosts:
                name = normal_host(host)
                if name.startswith("*"):
                    wild.setdefault(name[1:], gateway)
                else:
                    exact.setdefault(name, gateway)
        first = next((gateway for gateway, _ in claims), GatewayName(""))
        return cls(
            exact=exact,
            wildcards=tuple(sorted(wild.items(), key=lambda item: -len(item[0]))),
            unclaimed=next((gateway for gateway, hosts in claims if not hosts), first),
        )

    def find(self, host: str) -> GatewayName:
        """Exact before longest wildcard before the gateway of every Host before the first."""
        name = normal_host(host)
        if name in self.exact:
            return self.exact[name]
        return next((gateway for suffix, gateway in self.wildcards if name.endswith(suffix)), self.unclaimed)


def normal_host(host: str) -> str:
    """A Host for comparing: lower case, without port and trailing dot. ``[::1]:80`` gives ``[::1]``."""
    name = host.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0].removesuffix(".")


@attrs.frozen(kw_only=True, eq=False)
class RouteTable:
    """Everything that is served at one moment."""

    generation: int
    """Grows by one with each table."""
    views: Mapping[tuple[GatewayName, str], View]
    """By gateway and virtual server; ``""`` is the whole gateway."""
    hosts: Hosts
    collisions: tuple[Collision, ...] = ()
    problems: Mapping[BackendKey, tuple[Problem, ...]] = attrs.field(factory=dict)
    """Per configured server: what discovery dropped or doubted, and names hidden here."""
    parts: Mapping[BackendKey, Parts] = attrs.field(factory=dict, repr=False)
    """The last good parts of each configured, enabled server: what keeps its names its own while it is down."""
    gateways: Mapping[GatewayName, GatewayPart] = attrs.field(factory=dict, repr=False)
    """What ``routing.build`` reuses when nothing has changed for a gateway."""

    def gateway_for(self, host: str) -> GatewayName:
        """The gateway that answers to a Host header (with or without port)."""
        return self.hosts.find(host)

    def view(self, gateway: GatewayName, virtual: str = "") -> View | None:
        """One view; None when there is no such virtual server here."""
        return self.views.get((gateway, virtual))
