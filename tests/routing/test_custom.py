"""Methods that are not core: who serves them, for whom."""

import pytest

from mcp_gateway.config.spec import VirtualServerSpec
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.routing.custom import owner_of
from mcp_gateway.routing.decide import Decision, Forward, Own, Refuse, decide
from mcp_gateway.routing.table import View
from mcp_gateway.sessions.task_ids import TaskRef
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.tables import lists, server, snapshot, spec, table, view_of, whole

UI = "io.modelcontextprotocol/ui"
JOBS = "com.acme/jobs"


def with_extensions(*ids: str) -> JsonObject:
    return {"tools": {}, "prompts": {}, "resources": {}, "extensions": {one: {} for one in ids}}


CONFIG = spec(
    server("time", "time_"),
    server("plain"),
    server("shop", "shop_", include=("buy",)),
    virtual=(VirtualServerSpec(name="some", tools=("time_now",)),),
)
SNAPSHOTS = (
    snapshot("time", lists(["now"], ["greet"], ["test://r"]), capabilities=with_extensions(JOBS)),
    snapshot("plain", lists(tools=["look"], resources=["test://plain"]), capabilities=with_extensions(UI)),
    snapshot("shop", lists(tools=["buy", "steal"]), capabilities=with_extensions(UI, "com.acme/shop")),
)
VIEW = view_of(CONFIG, *SNAPSHOTS)


def ask(params: JsonObject, *declared: str, view: View = VIEW, method: str = "acme/run") -> Decision:
    return decide(method, params, view, V2025_11_25, {"extensions": {one: {} for one in declared}})


@pytest.mark.parametrize(
    "params, backend, edits",
    [
        ({"name": "time_now"}, "time", {"name": b'"now"'}),
        ({"name": "look"}, "plain", {}),
        ({"name": "time_greet"}, "time", {"name": b'"greet"'}),
        ({"uri": "test://time/r"}, "time", {"uri": b'"test://r"'}),
        ({"uri": "test://plain"}, "plain", {}),
        ({"name": "time_now", "uri": "test://time/r"}, "time", {"name": b'"now"', "uri": b'"test://r"'}),
        ({"name": "time_now", "uri": "test://plain"}, "time", {"name": b'"now"'}),
        ({"name": "nobody", "uri": "test://time/r"}, "time", {"uri": b'"test://r"'}),
        ({"name": "shop_buy"}, "shop", {"name": b'"buy"'}),
    ],
)
def test_it_goes_to_the_owner_of_what_it_names_under_the_owners_name(
    params: JsonObject, backend: str, edits: Edits
) -> None:
    decision = ask(params)
    assert isinstance(decision, Forward)
    assert (decision.target.backend, dict(decision.edits), decision.target.headers) == (backend, edits, ())


@pytest.mark.parametrize(
    "declared, backend",
    [([JOBS], "time"), ([UI], "plain"), ([JOBS, UI], None), (["com.acme/shop"], None), (["x/y"], None), ([], None)],
)
def test_else_to_the_only_server_of_an_extension_that_both_declare_and_that_hides_no_tool(
    declared: list[str], backend: str | None
) -> None:
    for params in ({}, {"name": "nobody"}, {"name": 1}, {"uri": "other://x"}):
        decision = ask(dict(params), *declared)
        assert (decision.target.backend if isinstance(decision, Forward) else None) == backend


def test_hidden_and_unknown_things_give_the_same_refusal() -> None:
    seen = {repr(ask({"name": name})) for name in ("shop_steal", "steal", "nobody")}
    assert len(seen) == 1
    decision = ask({"name": "shop_steal"})
    assert isinstance(decision, Refuse)
    assert decision.code == -32601
    assert "acme/run" in decision.message
    assert "no tool" in decision.message


def test_a_virtual_server_shows_what_it_names_and_nothing_else() -> None:
    view = whole(table(CONFIG, *SNAPSHOTS), virtual="some")
    named = ask({"name": "time_now"}, view=view)
    assert isinstance(named, Forward)
    for params, declared in (({}, JOBS), ({"name": "time_other"}, JOBS), ({"name": "look"}, UI)):
        assert isinstance(ask(dict(params), declared, view=view), Refuse)
    assert owner_of({}, view.seen_by(frozenset()), frozenset({JOBS})) is None


def test_a_server_that_was_never_heard_is_no_candidate() -> None:
    view = view_of(CONFIG, *SNAPSHOTS[1:])
    assert isinstance(ask({}, JOBS, view=view), Refuse)


@pytest.mark.parametrize(
    "method", ["ping", "resources/subscribe", "logging/setLevel", "sampling/createMessage", "tasks/x"]
)
def test_methods_of_other_revisions_are_nobodys(method: str) -> None:
    decision = decide(method, {"name": "time_now", "uri": "test://time/r"}, VIEW, V2026_07_28)
    assert decision == Refuse(code=-32601, message=f"method not found: {method}")


def test_what_no_list_says_is_no_guess() -> None:
    """``resources/read`` may guess the only server without a prefix; a method that nobody knows must not."""
    view = view_of(spec(server("plain")), snapshot("plain", lists(resources=["test://r"])))
    assert isinstance(decide("resources/read", {"uri": "other://x"}, view, V2025_11_25), Forward)
    assert isinstance(ask({"uri": "other://x"}, view=view), Refuse)


# --- tasks -----------------------------------------------------------------------------------------------------------

WITH_TASKS: JsonObject = {"tools": {}, "tasks": {"requests": {"tools": {"call": {}}}}}
TASKS = spec(server("time", "time_"), server("plain"), virtual=(VirtualServerSpec(name="some", tools=("time_now",)),))
OBSERVED = (
    snapshot("time", lists(["now"]), capabilities=WITH_TASKS),
    snapshot("plain", lists(["look"]), capabilities=WITH_TASKS),
)
TASK_VIEW = view_of(TASKS, *OBSERVED)
AT_TIME, AT_PLAIN, AT_NONE = (TaskRef(server=BackendKey(key), upstream="t1") for key in ("time", "plain", "gone"))


def about(task: TaskRef | None, view: View = TASK_VIEW, method: str = "tasks/get", **params: JsonValue) -> Decision:
    return decide(method, {"taskId": "ours", **params}, view, V2025_11_25, {}, task)


@pytest.mark.parametrize("method", ["tasks/get", "tasks/result", "tasks/cancel", "acme/run"])
def test_what_is_about_a_task_goes_to_its_server_under_the_servers_id(method: str) -> None:
    decision = about(AT_TIME, method=method)
    assert isinstance(decision, Forward)
    assert (decision.target.backend, decision.target.upstream, dict(decision.edits)) == (
        "time",
        "t1",
        {"taskId": b'"t1"'},
    )


def test_a_server_that_is_not_heard_yet_may_still_know_its_tasks() -> None:
    assert isinstance(about(AT_TIME, view_of(TASKS)), Forward)


def test_a_task_where_nothing_is_shown_is_unknown() -> None:
    unknown = Refuse(code=-32602, message="Task not found")
    narrow = whole(table(TASKS, *OBSERVED), virtual="some")
    assert isinstance(about(AT_TIME, narrow), Forward)
    assert about(AT_PLAIN, narrow) == about(AT_NONE) == about(None) == unknown
    assert about(None, taskId=7) == Refuse(code=-32602, message="params.taskId must be a string")
    assert isinstance(about(AT_NONE, method="acme/run"), Refuse)


def test_the_list_is_the_gateways_own() -> None:
    assert about(None, method="tasks/list") == Own(method="tasks/list")
    refused = about(None, VIEW, method="tasks/list")
    assert isinstance(refused, Refuse)
    assert refused.code == -32601
