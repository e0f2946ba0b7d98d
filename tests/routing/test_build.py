"""Building the table: names, order, who contributes, virtual servers, reuse."""

import json
from collections.abc import Iterator

import attrs
import pytest

from mcp_gateway.config.spec import GatewayEntry, VirtualServerSpec
from mcp_gateway.protocol.eras import V2024_11_05, V2025_11_25, V2026_07_28
from mcp_gateway.routing.build import build, build_steps
from mcp_gateway.routing.snapshot import Condition, Health, Item, Kind, Listing, Problem
from mcp_gateway.routing.table import RouteTable, View
from mcp_gateway.values import BackendKey, GatewayName, JsonObject
from tests.support.tables import item, listed, lists, server, snapshot, spec, table, view_of, whole

A, B = BackendKey("a"), BackendKey("b")


def tools_of(built: RouteTable) -> list[str]:
    return list(whole(built).tools)


# --- names, order, filters -------------------------------------------------------------------------------------------


def test_names_are_prefixed_and_stand_in_the_servers_order() -> None:
    view = view_of(
        spec(server("time", "time_"), server("plain"), server("git", "git.")),
        snapshot("git", lists(tools=["log", "add"], prompts=["p"])),
        snapshot("plain", lists(tools=["x"])),
        snapshot("time", lists(tools=["now"])),
    )
    assert [one["name"] for one in listed(view)] == ["time_now", "x", "git.log", "git.add"]
    assert [one["name"] for one in listed(view, Kind.PROMPTS)] == ["git.p"]
    assert (view.tools["git.log"].backend, view.tools["git.log"].upstream) == ("git", "log")


def test_only_the_name_of_an_item_is_rewritten() -> None:
    raw = b'{ "x": 1e400, "name" : "now", "inputSchema": {"type":"object","$defs":{"name":{"z":1,"a":2.50}}} }'
    listings = {Kind.TOOLS: Listing(items=(Item(name="now", raw=raw, headers=(("R", ("r",)),)),))}
    view = view_of(spec(server("time", "time_")), snapshot("time", listings))
    entry = view.listings[Kind.TOOLS].entries[0]
    assert entry.raw == raw.replace(b'"now"', b'"time_now"')
    assert entry.target.headers == (("R", ("r",)),)


def test_resources_and_templates_are_mapped_under_a_prefix_and_kept_without() -> None:
    resources = lists(resources=["test://a"], templates=["test://t/{id}"])
    view = view_of(spec(server("p", "p_"), server("plain")), snapshot("p", resources), snapshot("plain", resources))
    assert [one["uri"] for one in listed(view, Kind.RESOURCES)] == ["test://p/a", "test://a"]
    assert [one["uriTemplate"] for one in listed(view, Kind.TEMPLATES)] == ["test://p/t/{id}", "test://t/{id}"]
    assert view.resources["test://a"].uri_map is None
    assert view.resources["test://p/a"].uri_map is not None


def test_globs_choose_tools_by_their_upstream_names_and_nothing_else() -> None:
    config = spec(server("s", "s_", include=("get_*",), exclude=("*_secret",)))
    found = lists(tools=["get_a", "get_secret", "set_a"], prompts=["other"], resources=["x://y"])
    view = view_of(config, snapshot("s", found))
    assert list(view.tools) == ["s_get_a"]
    assert list(view.prompts) == ["s_other"]
    assert list(view.resources) == ["x://s/y"]


def test_a_name_that_its_prefix_makes_too_long_is_dropped_or_reported() -> None:
    config = spec(server("s", "p" * 10))
    built = table(config, snapshot("s", lists(tools=["n" * 119, "n" * 60, "ok", "n" * 70])))
    assert [len(name) for name in tools_of(built)] == [70, 12, 80]
    assert [(len(one.name), one.hidden) for one in built.problems[BackendKey("s")]] == [(129, True), (70, False)]


def test_an_item_that_cannot_be_rewritten_is_dropped_alone() -> None:
    twice = Item(name="t", raw=b'{"name":"t","name":"t"}')
    listings = {Kind.TOOLS: Listing(items=(twice, item(Kind.TOOLS, "good"), item(Kind.TOOLS, "good")))}
    built = table(spec(server("s", "s_")), snapshot("s", listings))
    assert tools_of(built) == ["s_good"]
    assert [one.reason for one in built.problems[BackendKey("s")]] == ["duplicate member 'name'"]


@pytest.mark.parametrize(
    "meta",
    [{"ui": {"resourceUri": "ui://page"}}, {"ui/resourceUri": "ui://page"}],
    ids=["MCP Apps", "first draft of MCP Apps"],
)
def test_the_page_of_a_tool_keeps_its_scheme_and_follows_the_mapping(meta: JsonObject) -> None:
    tool = item(Kind.TOOLS, "show", _meta={**meta, "other": 1})
    for prefix, uri in (("s_", "ui://s/page"), ("", "ui://page")):
        view = view_of(spec(server("s", prefix)), snapshot("s", {Kind.TOOLS: Listing(items=(tool,))}))
        assert listed(view)[0]["_meta"] == json.loads(json.dumps({**meta, "other": 1}).replace("ui://page", uri))
        assert view.linked == {uri}
        found = view.resolve_uri(uri)
        assert found is not None
        assert found.upstream == "ui://page"


def test_a_page_that_is_no_text_is_left_alone() -> None:
    tool = item(Kind.TOOLS, "show", _meta={"ui": {"resourceUri": 7}})
    view = view_of(spec(server("s", "s_")), snapshot("s", {Kind.TOOLS: Listing(items=(tool,))}))
    assert listed(view)[0]["_meta"] == {"ui": {"resourceUri": 7}}
    assert view.linked == frozenset()


# --- who contributes -------------------------------------------------------------------------------------------------


def test_disabled_unheard_and_down_servers_contribute_nothing() -> None:
    config = spec(
        server("off", "off_", enabled=False), server("new", "new_"), server("down", "down_"), server("up", "up_")
    )
    built = table(
        config, snapshot("off", lists(tools=["x"])), snapshot("down", None), snapshot("up", lists(tools=["x"]))
    )
    assert tools_of(built) == ["up_x"]


def test_a_stale_list_is_served() -> None:
    stale = attrs.evolve(snapshot("a", lists(tools=["x"])), condition=Condition(health=Health.DOWN))
    assert tools_of(table(spec(server("a")), stale)) == ["x"]


def test_gateways_have_their_own_servers_in_their_own_order() -> None:
    gateways = (
        GatewayEntry(name=GatewayName("one"), hosts=("one",), servers=(B, A, B, BackendKey("unknown"))),
        GatewayEntry(name=GatewayName("two"), hosts=("two",), servers=(A,)),
        GatewayEntry(name=GatewayName("all"), hosts=("all",)),
    )
    config = spec(server("a", "a_"), server("b", "b_"), gateways=gateways)
    built = table(config, snapshot("a", lists(tools=["x"])), snapshot("b", lists(tools=["x"])))
    shown = {name: list(whole(built, name).tools) for name in ("one", "two", "all")}
    assert shown == {"one": ["b_x", "a_x"], "two": ["a_x"], "all": ["a_x", "b_x"]}
    assert built.gateway_for("two") == "two"


def test_no_gateway_at_all_shows_nothing() -> None:
    built = table(spec(server("a"), gateways=()), snapshot("a", lists(tools=["x"])))
    assert tools_of(built) == []


# --- virtual servers -------------------------------------------------------------------------------------------------


def virtual_view(virtual: VirtualServerSpec) -> View:
    tools = (item(Kind.TOOLS, "x", _meta={"ui": {"resourceUri": "ui://page"}}), item(Kind.TOOLS, "y"))
    found = {
        **lists(prompts=["p", "q"], resources=["r://1", "r://2"], templates=["t://{id}"]),
        Kind.TOOLS: Listing(items=tools),
    }
    config = spec(server("a", "a_", hint="secret"), server("b", "b_"), virtual=(virtual,))
    return whole(table(config, snapshot("a", found), snapshot("b", lists(tools=["z"]))), virtual=virtual.name)


def test_a_virtual_server_shows_the_named_tools_only_in_the_usual_order() -> None:
    view = virtual_view(VirtualServerSpec(name="v", tools=("b_z", "a_x", "missing")))
    assert list(view.tools) == ["a_x", "b_z"]
    assert list(view.prompts) == ["a_p", "a_q"]
    assert view.find_tool("a_y") is None


def test_a_virtual_server_narrows_prompts_and_resources_only_when_it_names_some() -> None:
    view = virtual_view(
        VirtualServerSpec(name="v", tools=("a_x",), prompts=("a_p",), resources=("r://a/1", "t://a/{id}"))
    )
    assert list(view.prompts) == ["a_p"]
    assert list(view.resources) == ["r://a/1"]
    assert view.resolve_uri("r://a/1") is not None
    assert view.resolve_uri("t://a/9") is not None
    assert view.resolve_uri("r://a/2") is None
    assert view.resolve_uri("r://a/unlisted") is None
    assert view.resolve_uri("nobody://x") is None
    page = view.resolve_uri("ui://a/page")  # whoever may use a tool may see its page
    assert page is not None
    assert page.upstream == "ui://page"


def test_a_narrowed_view_leaves_plain_uris_to_their_listing() -> None:
    virtual = VirtualServerSpec(name="v", tools=("x",), resources=("r://1",))
    tool = item(Kind.TOOLS, "x", _meta={"ui": {"resourceUri": "ui:page"}})
    found = {**lists(resources=["r://1", "r://2"]), Kind.TOOLS: Listing(items=(tool,))}
    view = whole(table(spec(server("a"), virtual=(virtual,)), snapshot("a", found)), virtual="v")
    assert view.resolve_uri("r://2") is None
    assert view.resolve_uri("ui:page") is not None


def test_a_virtual_server_does_not_name_servers_that_it_hides() -> None:
    assert virtual_view(
        VirtualServerSpec(name="v", tools=("b_z",), prompts=("none",), resources=("none",))
    ).advertised.instructions == ("b (names begin with b_)")


def test_a_gateway_has_the_virtual_servers_that_it_names() -> None:
    virtual = (VirtualServerSpec(name="v"), VirtualServerSpec(name="w"))
    gateways = (GatewayEntry(virtual_servers=("w",)),)
    built = table(spec(gateways=gateways, virtual=virtual))
    assert set(built.views) == {("", ""), ("", "w")}


# --- hints, instructions, abilities, problems ------------------------------------------------------------------------


def test_hints_are_the_shortest_ttl_and_private_wins() -> None:
    config = spec(server("a", "a_"), server("b", "b_"))
    slow, fast = snapshot("a", lists(ttl_ms=9000)), snapshot("b", lists(ttl_ms=50, private=True))
    assert view_of(config, slow, fast).hints(Kind.TOOLS) == (50, True)
    assert view_of(config, slow, snapshot("b", {})).hints(Kind.TOOLS) == (9000, False)
    assert view_of(config, slow).hints(Kind.TOOLS) == (0, False)


def test_instructions_are_the_configured_text() -> None:
    assert view_of(spec(server("a", "a_"), instructions="Ask nicely.")).advertised.instructions == "Ask nicely."


def test_instructions_are_else_one_line_per_server() -> None:
    config = spec(server("a", "a_", hint="What time it is"), server("b"), server("off", enabled=False))
    assert view_of(config).advertised.instructions == "a (names begin with a_): What time it is\nb"


def test_generated_instructions_are_cut_after_a_line() -> None:
    config = spec(*(server(f"s{index}", hint="h" * 100) for index in range(100)))
    text = view_of(config).advertised.instructions
    assert 3900 < len(text) <= 4096
    assert text.endswith("h" * 100)


def test_abilities_are_what_servers_have_said() -> None:
    config = spec(server("a"), server("b"), server("c"), server("d"), server("e"))
    view = view_of(
        config,
        snapshot("a", lists(), capabilities={"tools": {}, "resources": {"subscribe": True}}),
        snapshot("b", lists(), era=V2024_11_05, capabilities={"resources": {"subscribe": False}}),
        snapshot("c", None, era=None, capabilities={}),
        snapshot("e", lists(), era=V2026_07_28, capabilities={"resources": {"subscribe": False}}),
    )
    assert view.abilities == {
        "a": {"tools", "resources", "resources.subscribe"},
        "b": {"resources", "resources.subscribe", "completions"},  # some can although they say that they cannot
        "e": {"resources"},
    }
    assert view.lacks(A, "completions")
    assert not view.lacks(B, "completions")
    assert not view.lacks(BackendKey("c"), "tools")
    assert not view.lacks(BackendKey("d"), "tools")


def test_what_discovery_reported_comes_first_and_only_once() -> None:
    dropped = Problem(kind=Kind.TOOLS, name="t", reason="no name", hidden=True)
    gateways = tuple(GatewayEntry(name=GatewayName(name)) for name in ("one", "two"))
    config = spec(server("a"), server("b"), server("off", enabled=False), gateways=gateways)
    built = table(
        config,
        snapshot("a", lists(tools=["x"])),
        snapshot("b", lists(tools=["x"]), problems=(dropped,)),
        snapshot("off", None, problems=(dropped,)),
    )
    assert [one.name for one in built.problems[B]] == ["t", "x"]
    assert len(built.collisions) == 1
    assert built.problems[BackendKey("off")] == (dropped,)


# --- reuse and steps -------------------------------------------------------------------------------------------------


def test_nothing_new_gives_the_same_views() -> None:
    config = spec(server("a", "a_"))
    first = table(config, snapshot("a", lists(tools=["x"])))
    second = table(config, snapshot("a", lists(tools=["x"])), previous=first)
    assert second.generation == first.generation + 1
    assert whole(second) is whole(first)


def test_one_backends_change_leaves_the_other_parts_alone() -> None:
    config = spec(server("a", "a_"), server("b", "b_"))
    first = table(config, snapshot("a", lists(tools=["x"])), snapshot("b", lists(tools=["x"])))
    second = table(config, snapshot("a", lists(tools=["x"])), snapshot("b", lists(tools=["x", "y"])), previous=first)
    assert second.parts[A] is first.parts[A]
    assert second.parts[B] is not first.parts[B]
    assert whole(second).fingerprint(Kind.TOOLS) != whole(first).fingerprint(Kind.TOOLS)
    assert whole(second).fingerprint(Kind.PROMPTS) == whole(first).fingerprint(Kind.PROMPTS)


def test_a_changed_description_or_filter_is_a_change() -> None:
    first = table(spec(server("a")), snapshot("a", lists(tools=["x", "y"])))
    changed = {Kind.TOOLS: Listing(items=(item(Kind.TOOLS, "x", description="new"), item(Kind.TOOLS, "y")))}
    second = table(spec(server("a")), snapshot("a", changed), previous=first)
    third = table(spec(server("a", exclude=("y",))), snapshot("a", changed), previous=second)
    assert len({whole(one).fingerprint(Kind.TOOLS) for one in (first, second, third)}) == 3


def test_building_pauses_after_each_backend_and_each_gateway() -> None:
    config = spec(server("a"), server("b"), server("off", enabled=False))
    steps: Iterator[None] = build_steps(config, {}, None, server_info=b"{}")
    assert len(list(steps)) == 3


def test_building_pauses_inside_long_lists() -> None:
    long = lists(f"t{number}" for number in range(200))
    steps: Iterator[None] = build_steps(spec(server("a")), {A: snapshot("a", long)}, None, server_info=b"{}")
    assert len(list(steps)) == 2 + 4


def test_lists_say_who_we_are() -> None:
    built = build(spec(), {}, None, server_info=b'{"name":"g"}')
    page = whole(built).page(Kind.TOOLS, V2026_07_28)
    assert page is not None
    assert json.loads(page.raw)["_meta"] == {"io.modelcontextprotocol/serverInfo": {"name": "g"}}
    legacy = whole(built).page(Kind.TOOLS, V2025_11_25)
    assert legacy is not None
    assert legacy.raw == b'{"tools":[]}'
