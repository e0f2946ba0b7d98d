"""Servers that speak both eras and list other things in each: who sees what, and whose a name is."""

import attrs
import pytest

from mcp_gateway.config.spec import GatewayEntry, VirtualServerSpec
from mcp_gateway.protocol.eras import V2026_07_28, Family
from mcp_gateway.routing.snapshot import Condition, Kind, Lists
from mcp_gateway.routing.table import View
from mcp_gateway.values import BackendKey
from tests.support.tables import item, lists, server, snapshot, spec, table, view_of, whole

A, B = BackendKey("a"), BackendKey("b")
BOTH = spec(server("a"), server("b"))
NOBODY: frozenset[str] = frozenset()


def tools(view: View) -> dict[str, str]:
    return {name: target.backend for name, target in view.tools.items()}


def test_clients_of_an_era_see_that_eras_lists() -> None:
    view = view_of(spec(server("a", "a_")), snapshot("a", lists(tools=["new", "x"]), legacy=lists(tools=["x", "old"])))
    assert list(view.tools) == ["a_new", "a_x"]
    assert list(view.seen_by(NOBODY).tools) == ["a_x", "a_old"]
    assert view.fingerprint(Kind.TOOLS) != view.seen_by(NOBODY).fingerprint(Kind.TOOLS)


def test_the_same_name_may_be_described_otherwise() -> None:
    old = {**lists(), Kind.TOOLS: attrs.evolve(lists(tools=["x"])[Kind.TOOLS])}
    new = {**lists(), Kind.TOOLS: attrs.evolve(old[Kind.TOOLS], items=(item(Kind.TOOLS, "x", description="new"),))}
    view = view_of(spec(server("a")), snapshot("a", new, legacy=old))
    assert b"new" in view.listings[Kind.TOOLS].entries[0].raw
    assert b"new" not in view.seen_by(NOBODY).listings[Kind.TOOLS].entries[0].raw


@pytest.mark.parametrize("legacy", [pytest.param(None, id="one era"), pytest.param(lists(tools=["x"]), id="equal")])
def test_lists_that_do_not_differ_are_built_once(legacy: Lists | None) -> None:
    built = table(spec(server("a")), snapshot("a", lists(tools=["x"]), legacy=legacy))
    assert built.parts[A][Family.LEGACY] is built.parts[A][Family.MODERN]
    assert whole(built).legacy is None
    assert whole(built).seen_by(NOBODY) is whole(built)


def test_an_era_without_a_list_shows_nothing_of_it() -> None:
    view = view_of(spec(server("a")), snapshot("a", lists(tools=["x"]), legacy={}))
    assert list(view.tools) == ["x"]
    assert view.seen_by(NOBODY).tools == {}


def test_a_name_is_owned_for_both_eras() -> None:
    first = snapshot("a", lists(tools=["new"]), legacy=lists(tools=["old"]))
    second = snapshot("b", lists(tools=["old", "mine"]), legacy=lists(tools=["new", "mine"]))
    built = table(BOTH, first, second)
    assert tools(whole(built)) == {"new": "a", "mine": "b"}
    assert tools(whole(built).seen_by(NOBODY)) == {"old": "a", "mine": "b"}
    assert sorted(problem.name for problem in built.problems[B]) == ["new", "old"]
    assert {(one.name, one.owner, one.loser) for one in built.collisions} == {("new", "a", "b"), ("old", "a", "b")}


def test_of_two_servers_one_may_speak_one_era_only() -> None:
    built = table(BOTH, snapshot("a", lists(tools=["new"]), legacy=lists(tools=["old"])), snapshot("b", lists(["x"])))
    assert tools(whole(built)) == {"new": "a", "x": "b"}
    assert tools(whole(built).seen_by(NOBODY)) == {"old": "a", "x": "b"}


def test_a_collision_in_both_eras_is_told_once() -> None:
    same = snapshot("a", lists(tools=["x", "new"]), legacy=lists(tools=["x"]))
    built = table(BOTH, same, snapshot("b", lists(tools=["x"])))
    assert len(built.problems[B]) == len(built.collisions) == 1


def test_a_down_servers_names_of_both_eras_are_withheld() -> None:
    up = snapshot("a", lists(tools=["new"]), legacy=lists(tools=["old"]))
    first = table(BOTH, up)
    second = table(BOTH, snapshot("a", None, era=V2026_07_28), snapshot("b", lists(["new", "old"])), previous=first)
    assert second.parts[A] is first.parts[A]
    modern, legacy = whole(second), whole(second).seen_by(NOBODY)
    assert (tools(modern), tools(legacy)) == ({}, {})
    assert modern.find_tool("new") is not None
    assert legacy.find_tool("old") is not None
    assert (modern.find_tool("old"), legacy.find_tool("new")) == (None, None)


def test_a_server_that_loses_an_era_shows_everybody_what_is_left() -> None:
    first = table(spec(server("a")), snapshot("a", lists(tools=["new"]), legacy=lists(tools=["old"])))
    second = table(spec(server("a")), snapshot("a", lists(tools=["new"]), era=V2026_07_28), previous=first)
    assert list(whole(second).seen_by(NOBODY).tools) == ["new"]
    assert second.parts[A][Family.MODERN] is first.parts[A][Family.MODERN]


def test_one_eras_change_leaves_the_other_part_alone() -> None:
    config = spec(server("a"))
    first = table(config, snapshot("a", lists(tools=["new"]), legacy=lists(tools=["old"])))
    second = table(config, snapshot("a", lists(tools=["new"]), legacy=lists(tools=["older"])), previous=first)
    assert second.parts[A][Family.MODERN] is first.parts[A][Family.MODERN]
    assert list(whole(second).seen_by(NOBODY).tools) == ["older"]


def test_a_virtual_server_narrows_both() -> None:
    virtual = VirtualServerSpec(name="v", tools=("a_x", "a_old"))
    built = table(
        spec(server("a", "a_"), gateways=(GatewayEntry(),), virtual=(virtual,)),
        snapshot("a", lists(tools=["x", "new"]), legacy=lists(tools=["x", "old", "older"])),
    )
    view = whole(built, virtual="v")
    assert list(view.tools) == ["a_x"]
    assert list(view.seen_by(NOBODY).tools) == ["a_x", "a_old"]


def test_what_either_era_shows_is_shown() -> None:
    both = snapshot("a", lists(tools=["new"], prompts=["p"]), legacy=lists(tools=["old"]))
    view = view_of(spec(server("a", "a_")), both)
    assert [view.shows(Kind.TOOLS, name) for name in ("a_new", "a_old", "a_none")] == [True, True, False]
    assert view_of(spec(server("a")), snapshot("a", lists(tools=["x"]))).shows(Kind.TOOLS, "x")
    assert both.names(Kind.TOOLS) == {"new", "old"}
    assert snapshot("a", None).names(Kind.TOOLS) == frozenset()
    assert snapshot("a", {}).names(Kind.TOOLS) == frozenset()


def test_what_is_served_depends_on_no_time_or_failure() -> None:
    one = snapshot("a", lists(tools=["x"]))
    failed = Condition(failures=2, since_at=3.0)
    other = attrs.evolve(one, condition=failed, revision="r2")
    assert one != other
    assert one.served == other.served
    assert one.served != snapshot("a", lists(tools=["y"])).served
