"""Short ways to write down what routing works on: servers, items, snapshots, tables."""

import json
from collections.abc import Iterable

from mcp_gateway.config.spec import GatewayEntry, GatewaySpec, ItemFilter, ServerSpec, StdioTarget, VirtualServerSpec
from mcp_gateway.protocol import json_text, tasks
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era, Family
from mcp_gateway.routing.build import build
from mcp_gateway.routing.snapshot import Condition, Health, Item, Kind, Listing, Lists, Problem, Snapshot
from mcp_gateway.routing.table import RouteTable, View
from mcp_gateway.values import BackendKey, GatewayName, JsonObject, JsonValue

EVERYTHING: JsonObject = {"tools": {}, "prompts": {}, "resources": {"subscribe": True}, "completions": {}}


def server(
    key: str,
    prefix: str = "",
    *,
    enabled: bool = True,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    hint: str = "",
    own_instructions: bool = True,
) -> ServerSpec:
    """One entry of the configuration."""
    return ServerSpec(
        key=BackendKey(key),
        target=StdioTarget(command=("true",)),
        prefix=prefix,
        enabled=enabled,
        tools=ItemFilter(include=include, exclude=exclude),
        hint=hint,
        own_instructions=own_instructions,
    )


def item(kind: Kind, name: str, **more: JsonValue) -> Item:
    """One item as a backend would list it."""
    members: JsonObject
    match kind:
        case Kind.TOOLS:
            members = {"name": name, "inputSchema": {"type": "object"}}
        case Kind.PROMPTS:
            members = {"name": name}
        case Kind.RESOURCES:
            members = {"name": "r", "uri": name}
        case Kind.TEMPLATES:
            members = {"name": "t", "uriTemplate": name}
    return Item(name=name, raw=json_text.dumps({**members, **more}))


def lists(
    tools: Iterable[str] = (),
    prompts: Iterable[str] = (),
    resources: Iterable[str] = (),
    templates: Iterable[str] = (),
    *,
    ttl_ms: int = 0,
    private: bool = False,
) -> dict[Kind, Listing]:
    """The lists of one backend, by names."""
    named = {Kind.TOOLS: tools, Kind.PROMPTS: prompts, Kind.RESOURCES: resources, Kind.TEMPLATES: templates}
    return {
        kind: Listing(items=tuple(item(kind, name) for name in some), ttl_ms=ttl_ms, private=private)
        for kind, some in named.items()
    }


def snapshot(
    key: str,
    listings: Lists | None,
    *,
    legacy: Lists | None = None,
    era: Era | None = V2025_11_25,
    capabilities: JsonObject = EVERYTHING,
    instructions: str = "",
    problems: tuple[Problem, ...] = (),
) -> Snapshot:
    """What was observed of one backend; no lists: it is down; ``legacy``: it speaks both eras, and these are 2025's."""
    both = None
    if listings is not None:
        family = Family.MODERN if legacy is not None or era is None else era.family
        both = {family: listings} if legacy is None else {family: listings, Family.LEGACY: legacy}
    return Snapshot(
        backend=BackendKey(key),
        condition=Condition(health=Health.DOWN if listings is None else Health.READY),
        era=era,
        capabilities=capabilities,
        tasks=tasks.abilities(capabilities) if era is not None and era.tasks else frozenset(),
        instructions=instructions,
        listings=both,
        problems=problems,
    )


def spec(
    *servers: ServerSpec,
    gateways: tuple[GatewayEntry, ...] = (GatewayEntry(),),
    virtual: tuple[VirtualServerSpec, ...] = (),
    instructions: str = "",
) -> GatewaySpec:
    """A whole configuration."""
    return GatewaySpec(servers=servers, gateways=gateways, virtual_servers=virtual, instructions=instructions)


def table(config: GatewaySpec, *snapshots: Snapshot, previous: RouteTable | None = None) -> RouteTable:
    """The table for what was observed."""
    return build(config, {one.backend: one for one in snapshots}, previous)


def whole(built: RouteTable, gateway: str = "", virtual: str = "") -> View:
    """One view that must be there."""
    return built.views[GatewayName(gateway), virtual]


def view_of(config: GatewaySpec, *snapshots: Snapshot) -> View:
    """The view of the only gateway."""
    return whole(table(config, *snapshots))


def listed(view: View, kind: Kind = Kind.TOOLS) -> list[JsonObject]:
    """The items of a list, as a 2026-07-28 client reads them."""
    page = view.page(kind, V2026_07_28)
    assert page is not None
    items: list[JsonObject] = json.loads(page.raw)[kind.value]
    return items
