"""The headers that mirror the body. Examples are the specification's where it has them."""

import math

import pytest

from mcp_gateway.protocol.headers import (
    MAX_SAFE_INTEGER,
    HeaderFault,
    annotated,
    by_name,
    check_mirrored,
    check_standard,
    decode_value,
    encode_value,
    mirror,
)
from mcp_gateway.values import Header, JsonValue

REGION = {"type": "string", "x-mcp-header": "Region"}
ANNOTATIONS = (("Region", ("region",)), ("Count", ("page", "count")), ("Dry", ("dry",)))


@pytest.mark.parametrize(
    "text, raw",
    [
        pytest.param("us-west1", b"us-west1", id="plain"),
        pytest.param("", b"", id="empty"),
        pytest.param("a b\tc", b"a b\tc", id="white space inside"),
        pytest.param("Hello, 世界", b"=?base64?SGVsbG8sIOS4lueVjA==?=", id="not ASCII"),
        pytest.param(" padded ", b"=?base64?IHBhZGRlZCA=?=", id="white space around"),
        pytest.param("line1\nline2", b"=?base64?bGluZTEKbGluZTI=?=", id="a newline"),
        pytest.param("=?base64?literal?=", b"=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=", id="looks encoded"),
        pytest.param("=?base64?literal", b"=?base64?literal", id="only begins like it"),
    ],
)
def test_a_value_is_encoded_where_it_must_be(text: str, raw: bytes) -> None:
    assert encode_value(text) == raw
    assert decode_value(b" " + raw + b"\t") == text


def test_a_lone_surrogate_cannot_be_a_header() -> None:
    with pytest.raises(HeaderFault):
        encode_value("\ud800")


@pytest.mark.parametrize(
    "raw, text",
    [
        pytest.param(b"=?base64??=", "", id="encoded and empty"),
        pytest.param(b"=?base64?=", "=?base64?=", id="too short to be encoded"),
        pytest.param(b"=?BASE64?QQ==?=", "=?BASE64?QQ==?=", id="the marker is lower case"),
    ],
)
def test_a_value_is_decoded_only_if_marked(raw: bytes, text: str) -> None:
    assert decode_value(raw) == text


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xc3\xa9", id="not ASCII"),
        pytest.param(b"a\x00b", id="a control character"),
        pytest.param(b"a\nb", id="a newline"),
        pytest.param(b"=?base64?QQ?=", id="no padding"),
        pytest.param(b"=?base64?Q Q==?=", id="a blank in base64"),
        pytest.param(b"=?base64?Q-Q=?=", id="another alphabet"),
        pytest.param(b"=?base64?QR==?=", id="spare bits"),
        pytest.param(b"=?base64?/w==?=", id="not UTF-8 inside"),
    ],
)
def test_an_ill_charactered_value_is_refused(raw: bytes) -> None:
    with pytest.raises(HeaderFault):
        decode_value(raw)


@pytest.mark.parametrize(
    "schema, annotations",
    [
        pytest.param(None, (), id="no schema"),
        pytest.param({"properties": {"region": REGION}}, (("Region", ("region",)),), id="one"),
        pytest.param(
            {"properties": {"page": {"properties": {"count": {"type": "integer", "x-mcp-header": "Count"}}}}},
            (("Count", ("page", "count")),),
            id="nested",
        ),
        pytest.param({"properties": {"x-mcp-header": {"type": "number"}}}, (), id="a property of that name"),
        pytest.param({"$defs": {"x-mcp-header": {"type": "number"}}}, (), id="a definition of that name"),
        pytest.param({"default": {"x-mcp-header": 1}, "enum": [{"x-mcp-header": 1}]}, (), id="data that look like it"),
        pytest.param({"properties": [], "$defs": 7, "items": True}, (), id="keywords of the wrong type"),
    ],
)
def test_annotations_are_found(schema: JsonValue, annotations: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
    assert annotated(schema) == annotations


@pytest.mark.parametrize(
    "schema, what",
    [
        pytest.param({"type": "string", "x-mcp-header": "A"}, "not on a property", id="on the root"),
        pytest.param({"items": REGION}, "not on a property", id="behind items"),
        pytest.param({"anyOf": [{"properties": {"region": REGION}}]}, "not on a property", id="behind anyOf"),
        pytest.param({"$defs": {"r": REGION}}, "not on a property", id="in a definition"),
        pytest.param({"properties": {"a": {"type": "string", "x-mcp-header": ""}}}, "not a header name", id="empty"),
        pytest.param(
            {"properties": {"a": {"type": "string", "x-mcp-header": "a b"}}}, "not a header name", id="a blank"
        ),
        pytest.param(
            {"properties": {"a": {"type": "string", "x-mcp-header": "a\n"}}}, "not a header name", id="a newline"
        ),
        pytest.param({"properties": {"a": {"type": "string", "x-mcp-header": 7}}}, "not a header name", id="a number"),
        pytest.param({"properties": {"a": {"type": "number", "x-mcp-header": "A"}}}, "not a string", id="type number"),
        pytest.param(
            {"properties": {"a": {"type": ["string"], "x-mcp-header": "A"}}}, "not a string", id="a list of types"
        ),
        pytest.param({"properties": {"a": {"x-mcp-header": "A"}}}, "not a string", id="no type"),
        pytest.param(
            {"properties": {"a": REGION, "b": {"type": "string", "x-mcp-header": "rEGION"}}}, "occurs twice", id="twice"
        ),
    ],
)
def test_an_annotation_that_breaks_the_rules_is_named(schema: JsonValue, what: str) -> None:
    with pytest.raises(HeaderFault, match=what):
        annotated(schema)


@pytest.mark.parametrize(
    "arguments, headers",
    [
        pytest.param(
            {"region": "é", "page": {"count": 42}, "dry": False},
            ((b"Mcp-Param-Region", b"=?base64?w6k=?="), (b"Mcp-Param-Count", b"42"), (b"Mcp-Param-Dry", b"false")),
            id="all",
        ),
        pytest.param({"region": None, "page": 7, "dry": True}, ((b"Mcp-Param-Dry", b"true"),), id="null and absent"),
        pytest.param({"page": {"count": 42.0}}, ((b"Mcp-Param-Count", b"42"),), id="an integer written as a fraction"),
        pytest.param({"page": {"count": 1.5}}, ((b"Mcp-Param-Count", b"1.5"),), id="a fraction, against the schema"),
        pytest.param({"page": {"count": math.inf}, "region": ["a"]}, (), id="what no header can hold"),
        pytest.param(None, (), id="no arguments"),
    ],
)
def test_arguments_are_mirrored_and_pass_their_own_check(arguments: JsonValue, headers: tuple[Header, ...]) -> None:
    assert mirror(ANNOTATIONS, arguments) == headers
    check_mirrored(ANNOTATIONS, arguments, headers)


@pytest.mark.parametrize("count", [MAX_SAFE_INTEGER + 1, -MAX_SAFE_INTEGER - 1, 1e300])
def test_an_integer_outside_the_safe_range_is_refused(count: float) -> None:
    with pytest.raises(HeaderFault, match="safe range"):
        mirror(ANNOTATIONS, {"page": {"count": count}})


@pytest.mark.parametrize(
    "arguments, headers",
    [
        pytest.param({"page": {"count": 42}}, [(b"mcp-param-count", b"42.0")], id="42.0 is 42"),
        pytest.param({"page": {"count": 42}}, [(b"MCP-PARAM-COUNT", b"4.2e1")], id="4.2e1 is 42"),
        pytest.param({"region": "é"}, [(b"mcp-param-region", b"=?base64?w6k=?=")], id="decoded first"),
        pytest.param({}, [(b"mcp-param-other", b"x"), (b"accept", b"y")], id="headers nobody annotated"),
    ],
)
def test_equal_headers_are_accepted(arguments: JsonValue, headers: list[Header]) -> None:
    check_mirrored(ANNOTATIONS, arguments, headers)


@pytest.mark.parametrize(
    "arguments, headers, what",
    [
        pytest.param({"region": "a"}, [], "Mcp-Param-Region is missing", id="missing"),
        pytest.param({"region": "a"}, [(b"mcp-param-region", b"b")], "does not match", id="different"),
        pytest.param({"region": "a"}, [(b"mcp-param-region", b"A")], "does not match", id="another case"),
        pytest.param({"region": "42"}, [(b"mcp-param-region", b"42.0")], "does not match", id="strings are no numbers"),
        pytest.param({"region": "a"}, [(b"mcp-param-region", b"a")] * 2, "more than once", id="twice"),
        pytest.param({"region": "a"}, [(b"mcp-param-region", b"\xff")], "Mcp-Param-Region: ", id="ill-charactered"),
        pytest.param({}, [(b"mcp-param-region", b"a")], "no argument to mirror", id="no argument"),
        pytest.param({"region": None}, [(b"mcp-param-region", b"null")], "no argument to mirror", id="null"),
        pytest.param({"region": []}, [(b"mcp-param-region", b"[]")], "does not match", id="an array"),
        pytest.param({"page": {"count": math.inf}}, [(b"mcp-param-count", b"1")], "does not match", id="infinity"),
        pytest.param({"page": {"count": 1}}, [(b"mcp-param-count", b"2")], "does not match", id="another number"),
        pytest.param({"page": {"count": 1}}, [(b"mcp-param-count", b"one")], "does not match", id="no number"),
        pytest.param({"dry": True}, [(b"mcp-param-dry", b"1")], "does not match", id="true is not 1"),
    ],
)
def test_unequal_headers_are_refused(arguments: JsonValue, headers: list[Header], what: str) -> None:
    with pytest.raises(HeaderFault, match=what):
        check_mirrored(ANNOTATIONS, arguments, headers)


def test_without_annotations_there_is_nothing_to_check() -> None:
    check_mirrored((), {"region": "a"}, [(b"mcp-param-region", b"b")])


@pytest.mark.parametrize(
    "name, headers",
    [
        pytest.param("a", [(b"mcp-method", b"tools/call"), (b"mcp-name", b"a")], id="plain"),
        pytest.param("é", [(b"mcp-method", b" tools/call "), (b"mcp-name", b"=?base64?w6k=?=")], id="encoded"),
        pytest.param(None, [(b"mcp-method", b"tools/call")], id="no name to say"),
    ],
)
def test_standard_headers_that_match_are_accepted(name: str | None, headers: list[Header]) -> None:
    check_standard("tools/call", name, by_name(headers))


METHOD = (b"mcp-method", b"tools/call")


@pytest.mark.parametrize(
    "headers, what",
    [
        pytest.param([(b"mcp-name", b"a")], "Mcp-Method is missing", id="no method"),
        pytest.param([METHOD, METHOD, (b"mcp-name", b"a")], "Mcp-Method occurs more than once", id="two methods"),
        pytest.param([(b"mcp-method", b"Tools/Call")], "Mcp-Method does not match", id="case matters"),
        pytest.param([(b"mcp-method", b"tools/\xff")], "Mcp-Method has characters", id="ill-charactered method"),
        pytest.param([METHOD], "Mcp-Name is missing", id="no name"),
        pytest.param(
            [METHOD, (b"mcp-name", b"a"), (b"mcp-name", b"a")], "Mcp-Name occurs more than once", id="two names"
        ),
        pytest.param([METHOD, (b"mcp-name", b"b")], "Mcp-Name does not match", id="another name"),
        pytest.param([METHOD, (b"mcp-name", b"=?base64?!?=")], "Mcp-Name: ", id="bad base64"),
    ],
)
def test_standard_headers_that_do_not_match_are_refused(headers: list[Header], what: str) -> None:
    with pytest.raises(HeaderFault, match=what):
        check_standard("tools/call", "a", by_name(headers))


def test_lists_of_schemas_without_annotations_are_none_of_our_business() -> None:
    assert annotated({"type": "object", "anyOf": [{"type": "string"}, True], "items": [{}]}) == ()
