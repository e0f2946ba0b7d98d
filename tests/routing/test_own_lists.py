"""What a server lists to one client besides what everybody is shown."""

from mcp_gateway.config.spec import GatewayEntry, VirtualServerSpec
from mcp_gateway.routing.overlay import beyond
from mcp_gateway.routing.parts import entries_of
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.routing.table import View
from tests.support.tables import lists, server, snapshot, spec, table, view_of, whole

NOBODY: frozenset[str] = frozenset()
FILES = server("files", "f_")
OWN = entries_of(FILES, lists(tools=["mine"], prompts=["my prompt"], resources=["memo://mine"]))


def shown(view: View) -> dict[Kind, list[str]]:
    return {kind: [entry.target.upstream for entry in view.listings[kind].entries] for kind in Kind}


def test_what_is_beyond_the_lists_for_everybody() -> None:
    everybodys = lists(tools=["a"], resources=["memo://a"])
    own = lists(tools=["a", "mine"], resources=["memo://a"], templates=["memo://{x}"])
    found = beyond(everybodys, own)
    assert {kind: [item.name for item in listing.items] for kind, listing in found.items()} == {
        Kind.TOOLS: ["mine"],
        Kind.TEMPLATES: ["memo://{x}"],
    }


def test_a_view_shows_it_behind_the_rest_and_finds_its_owner() -> None:
    view = view_of(spec(FILES), snapshot("files", lists(tools=["a"]))).with_own(OWN)
    assert shown(view)[Kind.TOOLS] == ["a", "mine"]
    assert shown(view)[Kind.RESOURCES] == ["memo://mine"]
    target = view.find_tool("f_mine")
    assert target is not None
    assert (target.backend, target.upstream) == ("files", "mine")
    mine = view.listings[Kind.RESOURCES].entries[0].target.federated
    resolved = view.resolve_uri(mine)
    assert resolved is not None
    assert resolved.upstream == "memo://mine"


def test_a_name_that_is_taken_stays_its_owners_also_while_that_is_down() -> None:
    both = spec(server("first"), server("files"))
    built = table(both, snapshot("first", lists(tools=["mine"])), snapshot("files", lists()))
    own = entries_of(server("files"), lists(tools=["mine"]))
    for view in (
        whole(built).with_own(own),
        whole(table(both, snapshot("first", None), snapshot("files", lists()), previous=built)).with_own(own),
    ):
        target = view.find_tool("mine")
        assert target is not None
        assert target.backend == "first"


def test_a_selection_is_not_added_to() -> None:
    """A filter of tools, and a virtual server that names what it shows."""
    filtered = server("files", "f_", include=("a",))
    assert shown(view_of(spec(filtered), snapshot("files", lists(tools=["a"]))).with_own(OWN))[Kind.TOOLS] == ["a"]
    some = VirtualServerSpec(name="some", tools=("f_a",), resources=("memo://a",))
    every = VirtualServerSpec(name="every", tools=("f_a",))
    entry = GatewayEntry(servers=None, virtual_servers=None)
    built = table(
        spec(FILES, gateways=(entry,), virtual=(some, every)),
        snapshot("files", lists(tools=["a"], resources=["memo://a"])),
    )
    for name, resources in (("some", 0), ("every", 1)):
        before = whole(built, virtual=name)
        extended = before.with_own(OWN)
        assert shown(extended)[Kind.TOOLS] == ["a"]
        assert shown(extended)[Kind.PROMPTS] == []
        assert len(shown(extended)[Kind.RESOURCES]) - len(shown(before)[Kind.RESOURCES]) == resources
