"""What is beyond the core, and which extensions are agreed on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.errors import RemoteFault
from mcp_gateway.protocol.eras import ERAS, V2025_11_25, V2026_07_28, Era
from mcp_gateway.protocol.extensions import (
    MAX_ID,
    MAX_OFFERS,
    MAX_SETTINGS,
    declared,
    is_custom,
    is_custom_notification,
    offered,
)
from mcp_gateway.protocol.headers import HeaderFault, by_name, check_custom_name, custom_name
from mcp_gateway.protocol.members import Members
from mcp_gateway.protocol.methods import CORE_REQUESTS, known
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.protocol.translate import MetaEdits, request_params, result
from mcp_gateway.values import Header, JsonObject, JsonValue


@pytest.mark.parametrize("method", ["acme/search", "search", "com.acme/jobs/list", "ui/open", "x" * 128])
def test_a_method_that_no_core_has_is_custom(method: str) -> None:
    assert is_custom(method)
    assert is_custom_notification(method)


@pytest.mark.parametrize("method", sorted(CORE_REQUESTS))
def test_a_method_of_any_revisions_core_is_not(method: str) -> None:
    assert not is_custom(method)


def test_what_any_revision_knows_is_core() -> None:
    assert all(known(method, era) <= (method in CORE_REQUESTS) for era in ERAS.values() for method in CORE_REQUESTS)


@pytest.mark.parametrize(
    "method", ["", "tasks/anything", "rpc.discover", "notifications/x", "a b", "a\r\nX-Evil: 1", "caf\u00e9", "x" * 129]
)
def test_reserved_and_unprintable_methods_are_not(method: str) -> None:
    assert not is_custom(method)


@pytest.mark.parametrize("method", ["notifications/acme/done", "acme/done"])
def test_notifications_of_extensions_are_custom(method: str) -> None:
    assert is_custom_notification(method)


@pytest.mark.parametrize(
    "method",
    ["notifications/message", "notifications/tasks", "notifications/tasks/status", "notifications/cancelled", ""],
)
def test_notifications_of_the_core_are_not(method: str) -> None:
    assert not is_custom_notification(method)


@pytest.mark.parametrize(
    "capabilities, ids",
    [
        ({}, set()),
        ({"extensions": None}, set()),
        ({"extensions": []}, set()),
        ({"extensions": {"com.acme/jobs": {}, "com.acme/ui": {"x": 1}}}, {"com.acme/jobs", "com.acme/ui"}),
        ({"extensions": {"io.modelcontextprotocol/oauth-client-credentials": {}}}, set()),
        ({"extensions": {"io.modelcontextprotocol/enterprise-managed-authorization": {}, "a/b": {}}}, {"a/b"}),
    ],
)
def test_authorization_is_agreed_on_for_each_hop_alone(capabilities: JsonObject, ids: set[str]) -> None:
    assert declared(capabilities) == ids


NAME: Header = (b"mcp-name", b"job")


@pytest.mark.parametrize(
    "params, headers",
    [
        ({"name": "job"}, (NAME,)),
        ({"name": "x", "uri": "job"}, (NAME,)),
        ({"taskId": "job"}, ((b"Mcp-Name", b"=?base64?am9i?="),)),
        ({"name": "job"}, ()),
        ({}, ()),
    ],
)
def test_a_name_that_is_there_says_what_the_body_says(params: JsonObject, headers: tuple[Header, ...]) -> None:
    check_custom_name(params, by_name(headers))


@pytest.mark.parametrize(
    "params, headers",
    [
        ({"name": "other"}, (NAME,)),
        ({}, (NAME,)),
        ({"name": 1}, (NAME,)),
        ({"name": "job"}, (NAME, NAME)),
        ({"name": "job"}, ((b"mcp-name", b"=?base64?!?="),)),
    ],
)
def test_a_name_that_lies_is_refused(params: JsonObject, headers: tuple[Header, ...]) -> None:
    with pytest.raises(HeaderFault):
        check_custom_name(params, by_name(headers))


@pytest.mark.parametrize(
    "params, headers, modern, member",
    [
        ({"name": "job", "uri": "a:b"}, (), True, None),
        ({"name": "job", "uri": "a:b"}, (NAME,), True, "name"),
        ({"name": "a:b", "uri": "job"}, (NAME,), True, "uri"),
        ({"name": "job", "uri": "a:b"}, (), False, "name"),
        ({"name": 1, "taskId": "t"}, (NAME,), False, "taskId"),
        ({}, (), False, None),
    ],
)
def test_the_name_upstream_mirrors_what_the_clients_did(
    params: JsonObject, headers: tuple[Header, ...], modern: bool, member: str | None
) -> None:
    assert custom_name(params, headers, modern=modern) == member


@pytest.mark.parametrize("client", [V2025_11_25, V2026_07_28])
@pytest.mark.parametrize("backend", [V2025_11_25, V2026_07_28])
def test_members_of_custom_params_keep_their_own_meaning(client: Era, backend: Era) -> None:
    raw = b'{"task":1,"inputResponses":{"uri":"x"},"requestState":null,"name":"a_b"}'
    edits: Edits = {"name": b'"b"'}
    sent = request_params(Members.of(raw), client=client, backend=backend, edits=edits, meta=MetaEdits(), custom=True)
    assert sent.startswith(b'{"task":1,"inputResponses":{"uri":"x"},"requestState":null,"name":"b"')


def shown(raw: bytes, *, extended: bool, method: str = "tools/call") -> bytes:
    return result(method, raw, client=V2026_07_28, backend=V2026_07_28, server_info=b"", extended=extended)


def test_result_types_of_an_agreed_extension_pass() -> None:
    raw = b'{"resultType":"acme","x":1}'
    assert shown(raw, extended=True) == raw
    with pytest.raises(RemoteFault):
        shown(raw, extended=False)


@pytest.mark.parametrize("kind", ["input_required", "task"])
def test_result_types_of_others_are_not_an_extensions_own(kind: str) -> None:
    with pytest.raises(RemoteFault):
        shown(b'{"resultType":"%b"}' % kind.encode(), extended=True, method="acme/search")


# --- what is advertised of a server ---


def test_what_a_server_offers_beyond_the_core_keeps_its_exact_ids_and_settings() -> None:
    extensions: JsonObject = {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html"]}, "com.Acme/Jobs": {}}
    found = offered({"tools": {}, "extensions": extensions, "experimental": {"vendorThing": {"a": 1}}})
    assert found.settings == {"extensions": extensions, "experimental": {"vendorThing": {"a": 1}}}
    assert found.dropped == ()
    nothing: JsonObject = {"extensions": None}
    for capabilities in ({}, nothing):
        assert offered(capabilities).settings == {"extensions": {}, "experimental": {}}
        assert offered(capabilities).dropped == ()


def test_authorization_is_never_offered_for_another_and_that_is_no_problem() -> None:
    both: JsonObject = {"io.modelcontextprotocol/oauth-client-credentials": {}, "a/b": {}}
    found = offered({"extensions": both, "experimental": dict(both)})
    assert found.settings == {"extensions": {"a/b": {}}, "experimental": {"a/b": {}}}
    assert found.dropped == ()


@pytest.mark.parametrize(
    "value, why",
    [
        pytest.param([], "capabilities.extensions is not an object", id="an array"),
        pytest.param("ui", "capabilities.extensions is not an object", id="a text"),
        pytest.param({"a/b": None}, "'a/b' is not an object", id="null"),
        pytest.param({"a/b": True}, "'a/b' is not an object", id="true"),
        pytest.param({"": {}}, "is no id", id="an empty id"),
        pytest.param({"a/\u202eb": {}}, "is no id", id="an id that cannot be seen"),
        pytest.param({"a/b\n": {}}, "is no id", id="an id with a line feed"),
        pytest.param({"a/" + "b" * MAX_ID: {}}, "is no id", id="a long id"),
        pytest.param({"a/b": {"x" * MAX_SETTINGS: 1}}, "is over 4096 characters", id="a long member"),
        pytest.param({"a/b": {"x": [[1] * 1000, [2] * 2000]}}, "is over 4096 characters", id="many numbers"),
        pytest.param({"a/b": {"x": {str(n): n for n in range(5000)}}}, "is over 4096 characters", id="many members"),
        pytest.param({"a/b": {"x": "y" * MAX_SETTINGS}}, "is over 4096 characters", id="long settings"),
    ],
)
def test_what_cannot_be_advertised_is_dropped_alone_and_reported(value: JsonValue, why: str) -> None:
    good: JsonObject = {"good/one": {}}
    given = {**value, **good} if isinstance(value, dict) else value
    found = offered({"extensions": given, "experimental": good})
    assert found.settings == {"extensions": good if isinstance(value, dict) else {}, "experimental": good}
    (reason,) = found.dropped
    assert why in reason
    assert len(reason) < 200


def test_settings_of_a_usual_length_are_kept_whole() -> None:
    settings: JsonObject = {"x": {"y": ["z" * 1000, 1, 2.5, None, True, {"deep": [{}]}]}}
    assert offered({"extensions": {"a/b": settings}}).settings["extensions"] == {"a/b": settings}


def test_a_server_offers_so_many_and_no_more() -> None:
    found = offered({"extensions": {f"a/{number}": {} for number in range(100_000)}})
    assert len(found.settings["extensions"]) == MAX_OFFERS
    assert 1 <= len(found.dropped) <= MAX_OFFERS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(
    st.dictionaries(st.sampled_from(["extensions", "experimental", "tools"]), JSON | st.dictionaries(st.text(), JSON))
)
def test_whatever_a_server_declares_something_bounded_is_advertised(capabilities: JsonObject) -> None:
    found = offered(capabilities)
    assert found.settings.keys() == {"extensions", "experimental"}
    for member, settings in found.settings.items():
        declared_there = capabilities[member] if settings else {}
        assert isinstance(declared_there, dict)
        assert all(declared_there[name] is value for name, value in settings.items())
    assert len(found.dropped) <= MAX_OFFERS
