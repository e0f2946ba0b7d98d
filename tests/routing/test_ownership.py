"""Building the table: who owns a name that several servers offer."""

import attrs
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.protocol.eras import V2026_07_28
from mcp_gateway.routing.snapshot import Kind, Listing, Snapshot
from mcp_gateway.routing.table import Collision, RouteTable
from mcp_gateway.values import BackendKey, JsonObject
from tests.support.tables import item, listed, lists, server, snapshot, spec, table, view_of, whole

A, B = BackendKey("a"), BackendKey("b")

# --- ownership -------------------------------------------------------------------------------------------------------

BOTH = spec(server("a"), server("b"))


def test_the_later_servers_equal_name_is_hidden_and_both_owners_are_named() -> None:
    built = table(BOTH, snapshot("b", lists(tools=["x", "y"])), snapshot("a", lists(tools=["x"])))
    assert {name: target.backend for name, target in whole(built).tools.items()} == {"x": "a", "y": "b"}
    assert built.collisions == (Collision(kind=Kind.TOOLS, name="x", owner=A, loser=B),)
    problem = built.problems[B][0]
    assert problem.hidden
    assert "'a'" in problem.reason
    assert "'b'" in problem.reason
    assert built.problems[A] == ()


def test_a_down_owners_names_are_withheld_not_given_away() -> None:
    everything = lists(tools=["x"], prompts=["p"], resources=["r://1"], templates=["t://{id}"])
    up = snapshot("b", everything)
    first = table(BOTH, snapshot("a", everything), up)
    down = table(BOTH, snapshot("a", None), up, previous=first)
    view = whole(down)
    assert view.tools == {}
    assert [one.owner for one in down.collisions if one.kind is Kind.TOOLS] == ["a"]
    owners = [view.find_tool("x"), view.find_prompt("p"), view.resolve_uri("r://1"), view.find_template("t://{id}")]
    assert [owner.backend if owner else None for owner in owners] == ["a"] * 4
    again = table(BOTH, snapshot("a", everything), up, previous=down)
    assert whole(again).tools["x"].backend == "a"


def test_a_down_losers_names_are_no_problem() -> None:
    first = table(BOTH, snapshot("a", lists(tools=["x"])), snapshot("b", lists(tools=["x"])))
    down = table(BOTH, snapshot("a", lists(tools=["x"])), snapshot("b", None), previous=first)
    assert (down.collisions, down.problems[B]) == ((), ())


def test_names_go_on_when_their_owner_leaves_the_configuration_or_is_disabled() -> None:
    up = snapshot("b", lists(tools=["x"]))
    first = table(BOTH, snapshot("a", lists(tools=["x"])), up)
    for config in (spec(server("b")), spec(server("a", enabled=False), server("b"))):
        after = table(config, snapshot("a", None), up, previous=first)
        assert whole(after).tools["x"].backend == "b"


def test_a_withheld_name_follows_a_changed_prefix() -> None:
    first = table(spec(server("a")), snapshot("a", lists(tools=["x"])))
    after = table(spec(server("a", "new_")), snapshot("a", None), previous=first)
    assert whole(after).find_tool("x") is None
    assert whole(after).find_tool("new_x") is not None


def test_a_clashing_uri_of_a_plain_server_is_exposed_mapped() -> None:
    same = lists(resources=["test://r"], templates=["test://{id}"])
    built = table(BOTH, snapshot("a", same), snapshot("b", same))
    view = whole(built)
    assert {uri: (one.backend, one.upstream) for uri, one in view.resources.items()} == {
        "test://r": ("a", "test://r"),
        "test://b/r": ("b", "test://r"),
    }
    assert [one["uriTemplate"] for one in listed(view, Kind.TEMPLATES)] == ["test://{id}", "test://b/{id}"]
    assert [one.hidden for one in built.problems[B]] == [False, False]


def test_a_plain_uri_that_looks_like_another_servers_is_exposed_mapped() -> None:
    config = spec(server("plain"), server("time", "time_"))
    view = view_of(config, snapshot("plain", lists(resources=["test://time/now"])), snapshot("time", lists()))
    assert list(view.resources) == ["test://plain/time/now"]
    stolen = view.resolve_uri("test://time/now")
    assert stolen is not None
    assert stolen.backend == "time"


def test_what_a_plain_server_says_of_a_uri_that_is_anothers_leads_home() -> None:
    for uri in ("ui://page", "ui://time/page"):  # another lists it; it looks like another's mapped one
        meta: JsonObject = {"ui": {"resourceUri": uri}}
        tools = Listing(items=(item(Kind.TOOLS, "show", _meta=meta), item(Kind.TOOLS, "other")))
        late = {
            Kind.TOOLS: tools,
            Kind.RESOURCES: Listing(items=tuple(item(Kind.RESOURCES, one) for one in (uri, "m://1"))),
        }
        config = spec(server("first"), server("time", "time_"), server("late"))
        first = lists(resources=["ui://page"])
        view = view_of(config, snapshot("first", first), snapshot("time", lists()), snapshot("late", late))
        assert listed(view)[0]["_meta"] == {"ui": {"resourceUri": f"ui://late/{uri[5:]}"}}
        (linked,) = view.linked
        home = view.resolve_uri(linked)
        assert home is not None
        assert (home.backend, home.upstream) == ("late", uri)
        for target in (view.tools["show"], view.tools["other"], view.resources["m://1"]):
            assert target.uri_map is not None
            assert (target.uri_map.out(uri), target.uri_map.out("m://1")) == (linked, "m://1")
            assert (target.uri_map.back(linked), target.uri_map.back("m://1")) == (uri, "m://1")
        assert view.resources["ui://page"].uri_map is None


def test_what_clients_fetch_by_themselves_is_listed_as_it_is_whatever_the_prefix() -> None:
    """The second of two that list the same one is marked, wherever its server names it."""
    uri, other = "https://example.com/page", "https://time/now"
    meta: JsonObject = {"ui": {"resourceUri": uri}}
    tools = Listing(items=(item(Kind.TOOLS, "show", _meta=meta),))
    resources = Listing(items=tuple(item(Kind.RESOURCES, one) for one in (uri, "m://1", other)))
    config = spec(server("time", "time_"), server("late", "late_"))
    both = {Kind.TOOLS: tools, Kind.RESOURCES: resources}
    view = view_of(config, snapshot("time", both), snapshot("late", both))
    assert {shown: (one.backend, one.upstream) for shown, one in view.resources.items()} == {
        uri: ("time", uri),
        "m://time/1": ("time", "m://1"),
        "https://time/time/now": ("time", other),
        "https://late/example.com/page": ("late", uri),
        "m://late/1": ("late", "m://1"),
        "https://late/time/now": ("late", other),
    }
    links = [one["_meta"] for one in listed(view)]
    assert links == [{"ui": {"resourceUri": uri}}, {"ui": {"resourceUri": "https://late/example.com/page"}}]
    target = view.tools["late_show"]
    assert target.uri_map is not None
    assert [target.uri_map.out(one) for one in (uri, "m://1", "https://else.where/")] == [
        "https://late/example.com/page",
        "m://late/1",
        "https://else.where/",
    ]


def test_servers_with_the_same_marker_do_not_share_a_uri() -> None:
    config = spec(server("a/b", "x_"), server("a.b", "y_"))
    built = table(config, snapshot("a/b", lists(resources=["r://1"])), snapshot("a.b", lists(resources=["r://1"])))
    assert {uri: one.backend for uri, one in whole(built).resources.items()} == {"r://a.b/1": "a/b"}
    assert [one.hidden for one in built.problems[BackendKey("a.b")]] == [True]


NAMES = st.lists(st.sampled_from(["x", "y", "z", "r"]), unique=True, max_size=4)
WORLDS = st.lists(st.tuples(st.sampled_from(["", "p_", "q_"]), NAMES, NAMES), min_size=1, max_size=5)


def world(made: list[tuple[str, list[str], list[str]]]) -> tuple[GatewaySpec, list[Snapshot]]:
    config = spec(*(server(f"s{index}", prefix) for index, (prefix, _, _) in enumerate(made)))
    return config, [
        snapshot(f"s{index}", lists(tools=tools, resources=[f"test://{name}" for name in uris]))
        for index, (_, tools, uris) in enumerate(made)
    ]


def everything(built: RouteTable) -> object:
    view = whole(built)
    pages = [view.page(kind, V2026_07_28) for kind in Kind]
    return pages, view.tools, view.resources, view.advertised.instructions, built.collisions, built.problems


@given(made=WORLDS, data=st.data())
def test_the_order_of_arrival_changes_nothing(
    made: list[tuple[str, list[str], list[str]]], data: st.DataObject
) -> None:
    config, snapshots = world(made)
    at_once = table(config, *snapshots)
    arrived: list[Snapshot] = []
    built: RouteTable | None = None
    for one in data.draw(st.permutations(snapshots)):
        arrived.append(one)
        built = table(config, *arrived, previous=built)
    assert built is not None
    assert everything(built) == everything(at_once)


@given(made=WORLDS, data=st.data())
def test_a_name_never_changes_its_owner_while_servers_go_down_and_come_back(
    made: list[tuple[str, list[str], list[str]]], data: st.DataObject
) -> None:
    config, snapshots = world(made)
    built = table(config, *snapshots)
    owners = {name: target.backend for name, target in whole(built).tools.items()}
    for _ in range(3):
        down = data.draw(st.sets(st.sampled_from(snapshots).map(lambda one: one.backend)))
        now = [attrs.evolve(one, listings=None) if one.backend in down else one for one in snapshots]
        built = table(config, *now, previous=built)
        for name, owner in owners.items():
            found = whole(built).find_tool(name)
            assert found is not None
            assert found.backend == owner
            assert (name in whole(built).tools) is (owner not in down)
    assert everything(table(config, *snapshots, previous=built)) == everything(table(config, *snapshots))


@given(made=WORLDS)
def test_no_federated_name_occurs_twice_and_each_leads_home(made: list[tuple[str, list[str], list[str]]]) -> None:
    config, snapshots = world(made)
    view = view_of(config, *snapshots)
    for kind, member in ((Kind.TOOLS, "name"), (Kind.RESOURCES, "uri")):
        names = [one[member] for one in listed(view, kind)]
        assert len(names) == len(set(names))
    for uri, target in view.resources.items():
        found = view.resolve_uri(uri)
        assert found == target
