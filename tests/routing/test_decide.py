"""Deciding: where a request goes, or what the caller is told."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.config.spec import VirtualServerSpec
from mcp_gateway.protocol import methods
from mcp_gateway.protocol.eras import ERAS, V2024_11_05, V2025_11_25, V2026_07_28, Era
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.routing.decide import NO_SUBSCRIPTIONS, Answer, Decision, Forward, ListOf, Own, Refuse, decide
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.tables import lists, server, snapshot, spec, table, view_of, whole

FOUND = lists(tools=["now"], prompts=["greet"], resources=["test://r"], templates=["test://t/{id}"])
VIEW = view_of(
    spec(server("time", "time_"), server("plain"), server("mute", "mute_")),
    snapshot("time", FOUND),
    snapshot("plain", lists(tools=["now"], prompts=["greet"], resources=["test://plain"], templates=["test://p/{id}"])),
    snapshot(
        "mute",
        lists(prompts=["p"], resources=["test://m"]),
        era=V2026_07_28,
        capabilities={"prompts": {}, "resources": {}},
    ),
)


def ask(method: str, params: JsonObject, era: Era = V2025_11_25) -> Decision:
    return decide(method, params, VIEW, era)


@pytest.mark.parametrize(
    "method, params, backend, edits",
    [
        ("tools/call", {"name": "time_now"}, "time", {"name": b'"now"'}),
        ("tools/call", {"name": "now"}, "plain", {}),
        ("prompts/get", {"name": "time_greet"}, "time", {"name": b'"greet"'}),
        ("resources/read", {"uri": "test://time/r"}, "time", {"uri": b'"test://r"'}),
        ("resources/read", {"uri": "test://time/t/1"}, "time", {"uri": b'"test://t/1"'}),
        ("resources/read", {"uri": "test://plain"}, "plain", {}),
        ("resources/subscribe", {"uri": "test://time/r"}, "time", {"uri": b'"test://r"'}),
        ("resources/unsubscribe", {"uri": "test://time/r"}, "time", {"uri": b'"test://r"'}),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "time_greet"}},
            "time",
            {"ref": {"name": b'"greet"'}},
        ),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "greet"}}, "plain", {}),
        (
            "completion/complete",
            {"ref": {"type": "ref/resource", "uri": "test://time/t/{id}"}},
            "time",
            {"ref": {"uri": b'"test://t/{id}"'}},
        ),
        (
            "completion/complete",
            {"ref": {"type": "ref/resource", "uri": "test://time/t/7"}},
            "time",
            {"ref": {"uri": b'"test://t/7"'}},
        ),
    ],
)
def test_a_request_goes_to_its_owner_under_the_owners_name(
    method: str, params: JsonObject, backend: str, edits: Edits
) -> None:
    decision = ask(method, params)
    assert isinstance(decision, Forward)
    assert (decision.target.backend, dict(decision.edits)) == (backend, edits)


@pytest.mark.parametrize(
    "method, params, message",
    [
        ("tools/call", {}, "params.name must be a string"),
        ("tools/call", {"name": 1}, "params.name must be a string"),
        ("tools/call", {"name": "nope"}, "Unknown tool: nope"),
        ("tools/call", {"name": "n" * 999}, "Unknown tool: " + "n" * 128),
        ("prompts/get", {"name": None}, "params.name must be a string"),
        ("prompts/get", {"name": "nope"}, "Unknown prompt: nope"),
        ("resources/read", {}, "params.uri must be a string"),
        ("completion/complete", {}, "params.ref must be an object"),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "nope"}}, "Unknown prompt: nope"),
        (
            "completion/complete",
            {"ref": {"type": "ref/tool", "name": "x"}},
            "params.ref must be a ref/prompt with a name or a ref/resource with a uri",
        ),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt"}},
            "params.ref must be a ref/prompt with a name or a ref/resource with a uri",
        ),
        (
            "completion/complete",
            {"ref": {"type": "ref/resource", "uri": 7}},
            "params.ref must be a ref/prompt with a name or a ref/resource with a uri",
        ),
        ("tools/list", {"cursor": 1}, "params.cursor must be a string"),
    ],
)
@pytest.mark.parametrize("era", [V2025_11_25, V2026_07_28], ids=["legacy", "modern"])
def test_bad_params_are_refused(method: str, params: JsonObject, message: str, era: Era) -> None:
    assert ask(method, params, era) == Refuse(code=-32602, message=message)


@pytest.mark.parametrize(
    "method, params",
    [
        ("resources/read", {"uri": "nobody"}),
        ("completion/complete", {"ref": {"type": "ref/resource", "uri": "nobody"}}),
    ],
)
def test_an_unknown_resource_has_the_eras_own_code(method: str, params: JsonObject) -> None:
    view = view_of(spec(server("time", "time_")), snapshot("time", FOUND))
    for era, code in ((V2024_11_05, -32002), (V2025_11_25, -32002), (V2026_07_28, -32602)):
        refused = decide(method, params, view, era)
        assert refused == Refuse(code=code, message="Resource not found", data={"uri": "nobody"})
    unsubscribed = decide("resources/unsubscribe", {"uri": "nobody"}, view, V2025_11_25)
    assert isinstance(unsubscribed, Refuse)


def test_a_hidden_tool_and_an_unknown_tool_are_the_same() -> None:
    """Invariant 8."""
    config = spec(server("time", "time_"), virtual=(VirtualServerSpec(name="v", tools=("time_now",)),))
    found = table(config, snapshot("time", lists(tools=["now", "set"])))
    narrow, wide = whole(found, virtual="v"), whole(found)
    hidden = decide("tools/call", {"name": "time_set"}, narrow, V2025_11_25)
    none_at_all = view_of(spec(server("time", "time_")), snapshot("time", lists(tools=["now"])))
    assert isinstance(decide("tools/call", {"name": "time_set"}, wide, V2025_11_25), Forward)
    assert hidden == decide("tools/call", {"name": "time_set"}, none_at_all, V2025_11_25)


@pytest.mark.parametrize(
    "method, kind",
    [
        ("tools/list", Kind.TOOLS),
        ("prompts/list", Kind.PROMPTS),
        ("resources/list", Kind.RESOURCES),
        ("resources/templates/list", Kind.TEMPLATES),
    ],
)
@pytest.mark.parametrize(
    "params, cursor", [({}, None), ({"cursor": None}, None), ({"cursor": ""}, ""), ({"cursor": "c"}, "c")]
)
def test_lists_are_answered_from_the_view(
    method: str, kind: Kind, params: Mapping[str, JsonValue], cursor: str | None
) -> None:
    assert ask(method, dict(params)) == ListOf(kind=kind, cursor=cursor)


def test_what_the_owner_cannot_do_we_answer() -> None:
    prompt: JsonObject = {"ref": {"type": "ref/prompt", "name": "mute_p"}}
    assert ask("completion/complete", prompt) == Answer(
        result=b'{"completion":{"values":[],"total":0,"hasMore":false}}'
    )


@pytest.mark.parametrize("method", ["resources/subscribe", "resources/unsubscribe"])
def test_a_subscription_that_its_owner_cannot_keep_is_refused_as_by_itself(method: str) -> None:
    assert ask(method, {"uri": "test://mute/m"}) == Refuse(code=-32601, message=NO_SUBSCRIPTIONS)


@pytest.mark.parametrize(
    "method, params, legacy, modern",
    [
        ("ping", {}, Answer(result=b"{}"), None),
        ("initialize", {}, Own(method="initialize"), None),
        ("logging/setLevel", {"level": "debug"}, Own(method="logging/setLevel"), None),
        ("server/discover", {}, None, Own(method="server/discover")),
        ("subscriptions/listen", {}, None, Own(method="subscriptions/listen")),
        ("resources/subscribe", {}, Refuse(code=-32602, message="params.uri must be a string"), None),
        ("tasks/other", {}, None, None),
        ("notifications/initialized", {}, None, None),
    ],
)
def test_each_era_has_its_methods(
    method: str, params: JsonObject, legacy: Decision | None, modern: Decision | None
) -> None:
    unknown = Refuse(code=-32601, message=f"method not found: {method}")
    for era in ERAS.values():
        assert ask(method, params, era) == ((modern if era.modern else legacy) or unknown)


@pytest.mark.parametrize("level", [None, "loud", 3, ["debug"]])
def test_a_bad_log_level_is_refused(level: JsonValue) -> None:
    refused = ask("logging/setLevel", {"level": level})
    assert isinstance(refused, Refuse)
    assert refused.code == -32602


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.dictionaries(st.sampled_from(["name", "uri", "ref", "level", "cursor", "type"]), JSON, max_size=4)
METHODS = st.sampled_from(["tools/call", "prompts/get", "resources/read", "completion/complete", "logging/setLevel"])


@given(method=METHODS | st.text(), params=MEMBERS, era=st.sampled_from(list(ERAS.values())))
def test_deciding_never_fails(method: str, params: JsonObject, era: Era) -> None:
    decision = ask(method, params, era)
    if not methods.known(method, era):
        assert isinstance(decision, Refuse)
