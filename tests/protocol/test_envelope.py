"""The validation ladder of 2026 requests, rung by rung, and the table of methods."""

import orjson
import pytest

from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.envelope import (
    ANONYMOUS_INFO,
    META_CAPABILITIES,
    META_CLIENT_INFO,
    META_LOG_LEVEL,
    META_VERSION,
    ModernCall,
    Rejection,
    is_modern,
    meta_of,
    must_be_request,
    validate,
)
from mcp_gateway.protocol.eras import ERAS, V2025_11_25, V2026_07_28
from mcp_gateway.protocol.methods import known, level_at_least, named_by
from mcp_gateway.values import Header, JsonObject, JsonValue

MODERN = V2026_07_28.version
GOOD: JsonObject = {META_VERSION: MODERN, META_CAPABILITIES: {}}


def request(method: str = "tools/call", meta: JsonValue = None, **params: JsonValue) -> jsonrpc.RpcRequest:
    given: JsonObject = {"name": "t", **params, "_meta": GOOD if meta is None else meta}
    message = jsonrpc.read(orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": given}))
    assert isinstance(message, jsonrpc.RpcRequest)
    return message


def headers(**changed: str | None) -> list[Header]:
    given: dict[str, str | None] = {
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": "t",
        **{key.replace("_", "-"): value for key, value in changed.items()},
    }
    return [(key.encode(), value.encode()) for key, value in given.items() if value is not None]


def refused(message: jsonrpc.RpcRequest, given: list[Header]) -> tuple[int, int]:
    rejection = validate(message, given)
    assert isinstance(rejection, Rejection)
    body = orjson.loads(rejection.body())
    assert body["id"] == 1
    assert body["error"]["code"] == rejection.code
    return rejection.status, rejection.code


def test_a_valid_request_climbs_to_the_top() -> None:
    meta: JsonObject = {
        META_VERSION: MODERN,
        META_CAPABILITIES: {"roots": {"x": 1}},
        META_CLIENT_INFO: {"name": "c", "version": "1"},
        META_LOG_LEVEL: "info",
    }
    call = validate(request(meta=meta), headers())
    assert isinstance(call, ModernCall)
    assert (call.era, call.capabilities, call.client_info) == (
        V2026_07_28,
        b'{"roots":{"x":1}}',
        b'{"name":"c","version":"1"}',
    )
    assert (call.capabilities_value, call.log_level) == ({"roots": {"x": 1}}, "info")


def test_client_info_is_only_a_should() -> None:
    call = validate(request(), headers())
    assert isinstance(call, ModernCall)
    assert call.client_info == ANONYMOUS_INFO
    assert call.log_level is None


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {META_VERSION: MODERN},
        {META_CAPABILITIES: {}},
        {META_VERSION: 7, META_CAPABILITIES: {}},
        {META_VERSION: MODERN, META_CAPABILITIES: []},
        7,
    ],
)
def test_t23_required_metadata_is_required(meta: JsonValue) -> None:
    assert refused(request(meta=meta), headers()) == (400, -32602)


@pytest.mark.parametrize(
    "given",
    [
        headers(mcp_protocol_version=None),
        headers(mcp_protocol_version="2025-11-25"),
        [*headers(), (b"mcp-protocol-version", MODERN.encode())],
        headers(mcp_method=None),
        headers(mcp_method="tools/list"),
        headers(mcp_name=None),
        headers(mcp_name="other"),
    ],
)
def test_t14_t17_t18_headers_must_say_what_the_body_says(given: list[Header]) -> None:
    assert refused(request(), given) == (400, -32020)


def test_t15_an_unsupported_version_is_told_what_is_supported() -> None:
    meta: JsonObject = {META_VERSION: "2099-01-01", META_CAPABILITIES: {}}
    rejection = validate(request(meta=meta), headers(mcp_protocol_version="2099-01-01"))
    assert isinstance(rejection, Rejection)
    assert (rejection.status, rejection.code) == (400, -32022)
    assert rejection.data == {"supported": [MODERN], "requested": "2099-01-01"}


def test_a_request_that_mismatches_and_is_unsupported_is_told_of_the_mismatch() -> None:
    meta: JsonObject = {META_VERSION: "2099-01-01", META_CAPABILITIES: {}}
    assert refused(request(meta=meta), headers()) == (400, -32020)


def test_a_method_of_no_core_climbs_too() -> None:
    """Whether it has an owner, routing says; its name is checked if it is there."""
    method = "acme/run"
    assert isinstance(validate(request(method), headers(mcp_method=method, mcp_name=None)), ModernCall)
    assert isinstance(validate(request(method), headers(mcp_method=method, mcp_name="t")), ModernCall)
    assert refused(request(method), headers(mcp_method=method, mcp_name="u")) == (400, -32020)


@pytest.mark.parametrize("method", ["ping", "initialize", "resources/subscribe", "tasks/result", "notifications/x"])
def test_t16_unknown_and_removed_methods_are_404(method: str) -> None:
    given = headers(mcp_method=method, mcp_name=None)
    assert refused(request(method), given) == (404, -32601)


def test_an_unknown_log_level_is_refused() -> None:
    assert refused(request(meta={**GOOD, META_LOG_LEVEL: "loud"}), headers()) == (400, -32602)


def test_header_or_body_makes_a_request_modern() -> None:
    plain = jsonrpc.read(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
    assert is_modern(MODERN, plain)
    assert is_modern(None, request())
    assert not is_modern("2025-11-25", plain)
    assert not is_modern(None, plain)


def test_t5_a_response_cannot_be_posted() -> None:
    response = jsonrpc.read(b'{"jsonrpc":"2.0","id":1,"result":{}}')
    assert meta_of(response) == {}
    rejection = must_be_request(response)
    assert rejection is not None
    assert (rejection.status, rejection.code) == (400, -32600)
    assert must_be_request(request()) is None


def test_each_revision_knows_its_methods() -> None:
    for era in ERAS.values():
        assert known("tools/call", era)
        assert known("initialize", era) is not era.modern
        assert known("server/discover", era) is era.modern
    assert named_by("resources/read") == "uri"
    assert named_by("tools/list") is None
    assert not known("tools/cal", V2025_11_25)


def test_log_levels_are_ordered_and_unknown_ones_pass() -> None:
    assert level_at_least("error", "info")
    assert not level_at_least("debug", "info")
    assert level_at_least("strange", "emergency")
    assert level_at_least("debug", "strange")
