"""What a survey found, laid over the base lists."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.protocol.capabilities import NAMES
from mcp_gateway.routing import overlay as module
from mcp_gateway.routing.overlay import NOTHING, compare, differ, keep, lay
from mcp_gateway.routing.snapshot import Item, Kind, Listing, Lists
from tests.support.tables import item, lists

SAMPLING = frozenset({"sampling"})
ROOTS = frozenset({"roots"})
ALL = frozenset(NAMES)


def tools(laid: Lists) -> list[str]:
    return [one.name for one in laid[Kind.TOOLS].items]


def needs(laid: Lists) -> dict[str, tuple[frozenset[str], ...]]:
    return {one.name: one.required for one in laid[Kind.TOOLS].items}


def laid_over(base: Sequence[str], *seen: tuple[frozenset[str], Sequence[str]]) -> Lists:
    shown = lists(tools=base)
    return lay(shown, compare(shown, [(granted, lists(tools=names)) for granted, names in seen]))


def test_an_item_needs_the_least_of_the_sets_that_show_it() -> None:
    laid = laid_over(
        ["a", "z"], (SAMPLING, ["a", "s", "z"]), (ROOTS, ["a", "r", "z"]), (ALL, ["a", "r", "s", "both", "z"])
    )
    assert tools(laid) == ["a", "r", "s", "both", "z"]
    assert needs(laid) == {"a": (), "r": (ROOTS,), "s": (SAMPLING,), "both": (ALL,), "z": ()}


def test_what_several_sets_show_needs_any_of_them() -> None:
    assert needs(laid_over([], (SAMPLING, ["x"]), (ROOTS, ["x"]), (ALL, ["x"]))) == {"x": (SAMPLING, ROOTS)}


def test_what_the_base_shows_is_for_everybody_and_keeps_its_words() -> None:
    base = lists(tools=["a"])
    other = {Kind.TOOLS: Listing(items=(item(Kind.TOOLS, "a", description="longer"), item(Kind.TOOLS, "b")))}
    laid = lay(base, compare(base, [(ALL, other)]))
    assert laid[Kind.TOOLS].items[0] is base[Kind.TOOLS].items[0]
    assert tools(laid) == ["a", "b"]


def test_of_an_item_in_several_words_those_for_the_least_capable_count() -> None:
    first, second = item(Kind.TOOLS, "a", title="short"), item(Kind.TOOLS, "a", title="long")
    seen = [
        (SAMPLING, {Kind.TOOLS: Listing(items=(first,))}),
        (ALL, {Kind.TOOLS: Listing(items=(second,))}),
    ]
    (one,) = lay({}, compare({}, seen))[Kind.TOOLS].items
    assert one.raw == first.raw


def test_what_only_less_capable_clients_are_shown_has_its_place() -> None:
    laid = laid_over(["first", "a", "plain", "b"], (SAMPLING, ["a", "odd"]), (ALL, ["a", "x", "b"]))
    assert tools(laid) == ["first", "a", "plain", "x", "b", "odd"]


def test_a_base_list_that_has_changed_since_keeps_its_order_and_loses_nothing_to_what_was_found() -> None:
    before, after = lists(tools=["a", "gone", "b"]), lists(tools=["a", "b", "new", "x"])
    found = compare(before, [(ALL, lists(tools=["a", "gone", "x", "y", "b"]))])
    laid = lay(after, found)
    assert tools(laid) == ["a", "x", "y", "b", "new"]
    assert needs(laid) == {"a": (), "x": (), "y": (ALL,), "b": (), "new": ()}


def test_a_kind_that_only_capable_clients_are_shown_is_listed() -> None:
    found = compare({}, [(ALL, lists(prompts=["p"]))])
    laid = lay({}, found)
    assert set(found.extras) == set(laid) == {Kind.PROMPTS}


def test_lists_that_show_the_same_names_do_not_differ_and_are_not_touched() -> None:
    base = lists(tools=["a", "b"])
    assert not differ(base, lists(tools=["b", "a"]))
    assert not differ({}, lists())
    assert differ(base, lists(tools=["a", "b"], resources=["r://1"]))
    assert lay(base, NOTHING) is base
    assert lay(base, compare(base, [(ALL, lists(tools=["b"]))])) is base


def test_more_items_than_one_server_may_have_are_cut_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ITEMS", 3)
    base = lists(tools=["a", "b"])
    found = compare(base, [(ALL, lists(tools=["a", "b", "c", "d"]))])
    assert tools(lay(base, found)) == ["a", "b", "c"]
    assert [problem.kind for problem in found.problems] == [Kind.TOOLS]
    full = lists(tools=["a", "b", "c", "d"])
    assert compare(full, [(ALL, lists(tools=["e"]))]).extras == {}


some_tools = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(base=some_tools, one=some_tools, everything=some_tools)
def test_every_name_is_there_once_and_the_order_is_that_of_the_most_capable(
    base: list[str], one: list[str], everything: list[str]
) -> None:
    laid = laid_over(base, (SAMPLING, one), (ALL, everything))
    names = tools(laid)
    assert sorted(names) == sorted({*base, *one, *everything})
    if set(everything) - set(base):
        assert [name for name in names if name in everything] == everything
    shown: dict[str, Item] = {found.name: found for found in laid[Kind.TOOLS].items}
    assert all(not shown[name].required for name in base)


def test_what_could_not_be_read_this_time_is_as_it_was_found_before() -> None:
    base = lists(tools=["a"], prompts=["p"])
    before = compare(base, [(ALL, lists(tools=["a", "old"], prompts=["p", "q"]))])
    now = compare(base, [(ALL, lists(tools=["a", "new"]))])
    assert keep(now, before, frozenset()) is now
    kept = lay(base, keep(now, before, frozenset({Kind.PROMPTS})))
    assert tools(kept) == ["a", "new"]
    assert [one.name for one in kept[Kind.PROMPTS].items] == ["p", "q"]
    assert tools(lay(base, keep(now, NOTHING, frozenset({Kind.TOOLS})))) == ["a"]
