"""One view, as clients of different capabilities see it."""

from collections.abc import Iterable

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.config.spec import VirtualServerSpec
from mcp_gateway.protocol import capabilities
from mcp_gateway.protocol.eras import V2025_11_25
from mcp_gateway.routing.decide import Forward, Refuse, decide
from mcp_gateway.routing.listing_views import Position
from mcp_gateway.routing.required import Required, met
from mcp_gateway.routing.snapshot import Item, Kind, Listing, Snapshot
from mcp_gateway.routing.table import View
from tests.support.tables import item, listed, lists, server, snapshot, spec, table, view_of, whole

NOBODY: frozenset[str] = frozenset()
SAMPLING = frozenset({"sampling"})
FORM = frozenset({"elicitation", "elicitation.form"})
URL = FORM | {"elicitation.url"}
ALL = frozenset(capabilities.NAMES)

CONDITIONAL: dict[str, Required] = {"plain": (), "sample": (SAMPLING,), "form": (FORM,), "url": (URL,), "all": (ALL,)}


def some(kind: Kind, needed: dict[str, Required]) -> Listing:
    return Listing(items=tuple(attrs.evolve(item(kind, name), required=needs) for name, needs in needed.items()))


def varying() -> Snapshot:
    return snapshot("a", {**lists(), Kind.TOOLS: some(Kind.TOOLS, CONDITIONAL)})


def names(view: View, kind: Kind = Kind.TOOLS) -> list[object]:
    return [one["name"] for one in listed(view, kind)]


@pytest.mark.parametrize(
    "granted, seen",
    [
        pytest.param(NOBODY, ["plain"], id="nothing"),
        pytest.param(SAMPLING, ["plain", "sample"], id="sampling"),
        pytest.param(FORM, ["plain", "form"], id="forms"),
        pytest.param(URL, ["plain", "form", "url"], id="urls too"),
        pytest.param(SAMPLING | URL, ["plain", "sample", "form", "url"], id="two"),
        pytest.param(ALL, [*CONDITIONAL], id="everything"),
    ],
)
def test_a_client_sees_what_its_capabilities_cover(granted: frozenset[str], seen: list[str]) -> None:
    view = view_of(spec(server("a", "a_")), varying())
    assert names(view.seen_by(granted)) == [f"a_{name}" for name in seen]
    assert set(view.seen_by(granted).tools) == {f"a_{name}" for name in seen}
    assert names(view) == [f"a_{name}" for name in CONDITIONAL]


def test_the_view_itself_is_given_where_nothing_depends_on_the_client() -> None:
    plain = view_of(spec(server("a")), snapshot("a", lists(tools=["x"])))
    assert plain.seen_by(NOBODY) is plain
    view = view_of(spec(server("a")), varying())
    assert view.seen_by(ALL) is view


def test_clients_that_are_shown_the_same_share_one_view() -> None:
    view = view_of(spec(server("a")), varying())
    assert view.seen_by(SAMPLING) is view.seen_by(SAMPLING | {"roots"})
    assert view.seen_by(SAMPLING).seen_by(SAMPLING) is view.seen_by(SAMPLING)
    assert view.seen_by(NOBODY).listings[Kind.PROMPTS] is view.listings[Kind.PROMPTS]


def test_what_a_client_is_not_shown_is_unknown_to_it_in_every_way() -> None:
    """Invariant 8: hidden and unknown are indistinguishable."""
    view = view_of(spec(server("a")), varying()).seen_by(NOBODY)
    hidden = decide("tools/call", {"name": "sample"}, view, V2025_11_25)
    unknown = decide("tools/call", {"name": "nought!"}, view, V2025_11_25)
    assert isinstance(hidden, Refuse)
    assert isinstance(unknown, Refuse)
    assert attrs.evolve(hidden, message="") == attrs.evolve(unknown, message="")
    assert isinstance(decide("tools/call", {"name": "plain"}, view, V2025_11_25), Forward)


def test_prompts_resources_and_templates_depend_on_the_client_too() -> None:
    shown = {
        Kind.PROMPTS: some(Kind.PROMPTS, {"p": (SAMPLING,)}),
        Kind.RESOURCES: some(Kind.RESOURCES, {"r://1": (SAMPLING,)}),
        Kind.TEMPLATES: some(Kind.TEMPLATES, {"t://{id}": (SAMPLING,)}),
    }
    view = view_of(spec(server("a")), snapshot("a", shown, capabilities={"prompts": {}}))
    poor, rich = view.seen_by(NOBODY), view.seen_by(SAMPLING)
    assert rich is view
    assert (poor.find_prompt("p"), poor.find_template("t://{id}"), poor.resolve_uri("r://1")) == (None, None, None)
    template = rich.resolve_uri("t://7")
    assert template is not None
    assert template.required == (SAMPLING,)


def test_names_withheld_while_their_owner_is_down_are_withheld_from_who_saw_them() -> None:
    """Invariant 8: nobody learns by an outage of what he was not shown."""
    config = spec(server("a"))
    down = table(config, snapshot("a", None), previous=table(config, varying()))
    view = whole(down)
    assert view.seen_by(SAMPLING).find_tool("sample") is not None
    assert view.seen_by(NOBODY).find_tool("sample") is None
    assert view.seen_by(NOBODY).find_tool("plain") is not None


def test_a_collision_is_settled_before_anybody_looks() -> None:
    config = spec(server("a"), server("b"))
    built = table(config, varying(), snapshot("b", lists(tools=["sample", "own"])))
    assert [one.name for one in built.collisions] == ["sample"]
    assert names(whole(built).seen_by(NOBODY)) == ["plain", "own"]


def test_a_virtual_server_and_a_filter_narrow_what_a_client_is_shown() -> None:
    config = spec(server("a", exclude=("form",)), virtual=(VirtualServerSpec(name="v", tools=("sample", "plain")),))
    built = table(config, varying())
    virtual = whole(built, virtual="v")
    assert names(virtual.seen_by(NOBODY)) == ["plain"]
    assert virtual.seen_by(SAMPLING) is virtual
    assert names(whole(built).seen_by(URL)) == ["plain", "url"]


def test_the_page_of_a_tool_that_is_not_shown_cannot_be_read_through_it() -> None:
    linked = attrs.evolve(item(Kind.TOOLS, "ui", _meta={"ui": {"resourceUri": "ui://page"}}), required=(SAMPLING,))
    config = spec(server("a"), virtual=(VirtualServerSpec(name="v", tools=("ui",), resources=("r://none",)),))
    view = whole(table(config, snapshot("a", {Kind.TOOLS: Listing(items=(linked,))})), virtual="v")
    assert view.seen_by(SAMPLING).resolve_uri("ui://page") is not None
    assert view.seen_by(NOBODY).resolve_uri("ui://page") is None


def test_a_cursor_is_good_for_those_who_are_shown_the_same_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_gateway.routing.listing_views.PAGE_ITEMS", 1)
    view = view_of(spec(server("a")), varying())
    first = view.seen_by(SAMPLING).page(Kind.TOOLS, V2025_11_25)
    assert first is not None
    position = first.following
    assert isinstance(position, Position)
    assert view.seen_by(SAMPLING | {"roots"}).page(Kind.TOOLS, V2025_11_25, position) is not None
    assert view.seen_by(FORM).page(Kind.TOOLS, V2025_11_25, position) is None


def test_what_changes_for_some_changes_nothing_for_the_others() -> None:
    config = spec(server("a"))
    before = whole(table(config, varying()))
    changed = Listing(
        items=(*some(Kind.TOOLS, CONDITIONAL).items, attrs.evolve(item(Kind.TOOLS, "new"), required=(SAMPLING,)))
    )
    after = whole(table(config, snapshot("a", {Kind.TOOLS: changed})))
    assert after.seen_by(FORM).fingerprint(Kind.TOOLS) == before.seen_by(FORM).fingerprint(Kind.TOOLS)
    assert after.seen_by(SAMPLING).fingerprint(Kind.TOOLS) != before.seen_by(SAMPLING).fingerprint(Kind.TOOLS)


some_names = st.frozensets(st.sampled_from(capabilities.NAMES))


@given(needed=st.lists(st.lists(some_names, max_size=2), max_size=5), clients=st.lists(some_names, max_size=6))
def test_a_view_shows_each_client_exactly_what_it_may_see_in_one_order(
    needed: list[list[frozenset[str]]], clients: list[frozenset[str]]
) -> None:
    """Invariant 9."""

    def items() -> Iterable[Item]:
        for number, needs in enumerate(needed):
            yield attrs.evolve(item(Kind.TOOLS, f"t{number}"), required=tuple(needs))

    view = view_of(spec(server("a")), snapshot("a", {Kind.TOOLS: Listing(items=tuple(items()))}))
    for granted in clients:
        expected = [f"t{number}" for number, needs in enumerate(needed) if met(tuple(needs), granted)]
        assert names(view.seen_by(granted)) == expected
