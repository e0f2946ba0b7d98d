"""Reading lists: one bad item never costs another."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.errors import RemoteFault
from mcp_gateway.protocol import json_text
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.routing import listing
from mcp_gateway.routing.listing import Page, join, page_steps
from mcp_gateway.routing.snapshot import Item, Kind
from mcp_gateway.routing.steps import at_once
from mcp_gateway.values import JsonValue

GOOD = '{"name":"good","inputSchema":{"type":"object"}}'


def read_page(kind: Kind, result: bytes, era: Era, *, over_http: bool = True) -> Page:
    return at_once(page_steps(kind, result, era, over_http=over_http))


def page(kind: Kind, *items: str, more: str = "") -> bytes:
    return f'{{"{kind.value}":[{",".join(items)}]{more}}}'.encode()


def tool(**members: JsonValue) -> str:
    made: dict[str, JsonValue] = {"name": "t", "inputSchema": {"type": "object"}, **members}
    return json.dumps(made)


def test_items_are_kept_as_the_bytes_that_came() -> None:
    odd = '{ "x-vendor": 1e400, "name":"t\\u0061", "inputSchema": {"type":"object","$defs":{"n":1.50}}}'
    read = read_page(Kind.TOOLS, page(Kind.TOOLS, GOOD, odd), V2025_11_25)
    assert [(one.name, one.raw) for one in read.items] == [("good", GOOD.encode()), ("ta", odd.encode())]
    assert read.problems == ()


@pytest.mark.parametrize(
    "kind, item, name, reason",
    [
        pytest.param(Kind.TOOLS, "7", "", "item 0: not an object", id="not an object"),
        pytest.param(Kind.TOOLS, '{"inputSchema":{"type":"object"}}', "", "item 0: no name", id="no name"),
        pytest.param(Kind.TOOLS, tool(name=""), "", "item 0: no name", id="empty name"),
        pytest.param(Kind.TOOLS, tool(name=3), "", "item 0: no name", id="number as name"),
        pytest.param(Kind.TOOLS, tool(name="n" * 129), "n" * 128, "name over 128 characters", id="long name"),
        pytest.param(Kind.TOOLS, tool(name="a\tb"), "a\tb", "name with control characters", id="tab"),
        pytest.param(Kind.TOOLS, '{"name":"t"}', "t", "inputSchema is not an object schema", id="no schema"),
        pytest.param(
            Kind.TOOLS,
            tool(inputSchema={"type": "array"}),
            "t",
            "inputSchema is not an object schema",
            id="array schema",
        ),
        pytest.param(Kind.TOOLS, tool(description=5), "t", "'description' is of the wrong type", id="description"),
        pytest.param(Kind.TOOLS, tool(outputSchema=True), "t", "'outputSchema' is of the wrong type", id="output"),
        pytest.param(Kind.TOOLS, '{"name":"t","name":"u"}', "u", "duplicate member 'name'", id="two names"),
        pytest.param(Kind.TOOLS, '{"name":"t",}', "", "item 0: not JSON", id="not JSON"),
        pytest.param(
            Kind.TOOLS,
            '{"name":"t","inputSchema":' + "[" * 200 + "]" * 200 + "}",
            "",
            "item 0: JSON of more than 128 levels",
            id="too deep",
        ),
        pytest.param(Kind.TOOLS, tool(description="d" * 2**18), "", "item 0: over 262144 bytes", id="too large"),
        pytest.param(
            Kind.PROMPTS, '{"name":"p","arguments":{}}', "p", "'arguments' is of the wrong type", id="arguments"
        ),
        pytest.param(
            Kind.PROMPTS, '{"name":"p","arguments":[{"name":1}]}', "p", "an argument without a name", id="argument"
        ),
        pytest.param(Kind.PROMPTS, '{"name":"p","arguments":[1]}', "p", "an argument without a name", id="no argument"),
        pytest.param(Kind.RESOURCES, '{"name":"r"}', "", "item 0: no uri", id="no uri"),
        pytest.param(Kind.RESOURCES, '{"uri":"a:b"}', "a:b", "no name", id="resource without a name"),
        pytest.param(
            Kind.RESOURCES,
            '{"name":"r","uri":"a:\\n"}',
            "a:\n",
            "uri with control characters",
            id="uri with line break",
        ),
        pytest.param(
            Kind.TEMPLATES,
            f'{{"name":"r","uriTemplate":"{"u" * 8193}"}}',
            "u" * 128,
            "uriTemplate over 8192 characters",
            id="long template",
        ),
    ],
)
def test_an_unusable_item_is_dropped_alone_and_reported(kind: Kind, item: str, name: str, reason: str) -> None:
    good = {Kind.TOOLS: GOOD, Kind.PROMPTS: '{"name":"good","arguments":[{"name":"a"}]}'}
    good[Kind.RESOURCES] = '{"name":"r","uri":"good","mimeType":null}'
    good[Kind.TEMPLATES] = '{"name":"r","uriTemplate":"good"}'
    read = read_page(kind, page(kind, item, good[kind]), V2025_11_25)
    assert [one.name for one in read.items] == ["good"]
    assert [(one.kind, one.name, one.reason, one.hidden) for one in read.problems] == [(kind, name, reason, True)]


INT = {"type": "int"}


@pytest.mark.parametrize("member", ["inputSchema", "outputSchema"])
@pytest.mark.parametrize(
    "schema, reason",
    [
        pytest.param({"properties": {"code": INT}}, "'int', which is no type of JSON Schema, at /properties/code"),
        pytest.param({"properties": {"a": {"items": INT}}}, "'int'"),
        pytest.param({"properties": {"a": {"anyOf": [{}, INT]}}}, "at /properties/a/anyOf/1"),
        pytest.param({"$defs": {"a": {"type": ["string", "int"]}}}, "at /$defs/a"),
        pytest.param({"properties": {"a": {"type": {"type": "string"}}}}, "which is no type"),
        pytest.param({"not": INT}, "at /not"),
        pytest.param({"type": ["object", 3]}, "'3', which is no type of JSON Schema, at /"),
    ],
)
def test_a_tool_with_an_invalid_schema_is_left_out_and_told(
    member: str, schema: dict[str, JsonValue], reason: str
) -> None:
    """Acceptance case K-95."""
    bad = tool(**{member: {"type": "object", **schema}})
    if member == "inputSchema" and "type" in schema:
        reason = "is not an object schema"
    read = read_page(Kind.TOOLS, page(Kind.TOOLS, bad, GOOD), V2025_11_25)
    assert [one.name for one in read.items] == ["good"]
    ((name, why, hidden),) = [(one.name, one.reason, one.hidden) for one in read.problems]
    assert (name, hidden) == ("t", True)
    assert why.startswith(member)
    assert reason in why


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"properties": {"type": {"type": "string"}, "a": True, "b": None}}, id="a property called type"),
        pytest.param({"properties": None, "type": ["object", "null"], "not": 3}, id="null, and what is no schema"),
        pytest.param({"default": {"type": "int"}, "examples": [{"type": "int"}], "enum": [INT]}, id="data"),
        pytest.param({"dependencies": {"a": ["b"], "c": {"type": "object"}}, "items": [{}]}, id="older drafts"),
        pytest.param({"x-vendor": {"type": "int"}}, id="keywords of others"),
    ],
)
def test_a_schema_is_left_alone_where_types_are_not_meant(schema: dict[str, JsonValue]) -> None:
    read = read_page(Kind.TOOLS, page(Kind.TOOLS, tool(outputSchema=schema)), V2025_11_25)
    assert (len(read.items), read.problems) == (1, ())


def test_the_second_of_equal_names_is_dropped() -> None:
    read = read_page(Kind.TOOLS, page(Kind.TOOLS, GOOD, tool(name="good", title="no")), V2025_11_25)
    assert [one.raw for one in read.items] == [GOOD.encode()]
    assert [one.reason for one in read.problems] == ["this name twice"]


def test_an_unusual_name_is_exposed_and_reported() -> None:
    read = read_page(Kind.TOOLS, page(Kind.TOOLS, tool(name="a/b")), V2025_11_25)
    assert [one.name for one in read.items] == ["a/b"]
    assert [(one.name, one.hidden) for one in read.problems] == [("a/b", False)]


def test_a_page_is_read_up_to_a_bound_with_pauses() -> None:
    junk = page(Kind.TOOLS, GOOD, *["1"] * listing.MAX_ITEMS)
    assert len(list(page_steps(Kind.TOOLS, junk, V2025_11_25))) > 0
    read = read_page(Kind.TOOLS, junk, V2025_11_25)
    assert [one.name for one in read.items] == ["good"]
    assert len(read.problems) == listing.MAX_PROBLEMS + 1
    assert read.problems[0].reason == f"more than {listing.MAX_ITEMS} items in one page: the rest was not read"


def test_resources_may_have_any_uri() -> None:
    read = read_page(Kind.RESOURCES, page(Kind.RESOURCES, '{"name":"r","uri":"test://ä/1?x"}'), V2025_11_25)
    assert [one.name for one in read.items] == ["test://ä/1?x"]
    assert read.problems == ()


ANNOTATED: JsonValue = {"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": "Region"}}}
BADLY: JsonValue = {"type": "object", "properties": {"r": {"type": "number", "x-mcp-header": "Region"}}}


def test_header_annotations_are_read_of_every_era() -> None:
    for era in (V2025_11_25, V2026_07_28):
        read = read_page(Kind.TOOLS, page(Kind.TOOLS, tool(inputSchema=ANNOTATED)), era)
        assert read.items[0].headers == (("Region", ("r",)),)


def test_a_bad_annotation_hides_a_tool_of_a_modern_http_backend_only() -> None:
    raw = page(Kind.TOOLS, tool(inputSchema=BADLY), GOOD)
    modern = read_page(Kind.TOOLS, raw, V2026_07_28)
    assert [one.name for one in modern.items] == ["good"]
    assert "x-mcp-header" in modern.problems[0].reason
    for lenient in (read_page(Kind.TOOLS, raw, V2026_07_28, over_http=False), read_page(Kind.TOOLS, raw, V2025_11_25)):
        assert [(one.name, one.headers) for one in lenient.items] == [("t", ()), ("good", ())]
        assert lenient.problems == ()


@pytest.mark.parametrize(
    "more, ttl_ms, private",
    [
        pytest.param(',"ttlMs":5000,"cacheScope":"public"', 5000, False, id="public"),
        pytest.param(',"ttlMs":5000,"cacheScope":"private"', 5000, True, id="private"),
        pytest.param("", 0, True, id="nothing said"),
        pytest.param(',"ttlMs":-1,"cacheScope":"public"', 0, False, id="negative"),
        pytest.param(',"ttlMs":true,"cacheScope":"public"', 0, False, id="no number"),
        pytest.param(',"ttlMs":1e3,"cacheScope":"public"', 0, False, id="no integer"),
        pytest.param(',"ttlMs":999999999999,"cacheScope":"public"', 86_400_000, False, id="for ever"),
    ],
)
def test_hints_are_a_modern_backends(more: str, ttl_ms: int, private: bool) -> None:
    read = read_page(Kind.TOOLS, page(Kind.TOOLS, more=more), V2026_07_28)
    assert (read.ttl_ms, read.private) == (ttl_ms, private)
    legacy = read_page(Kind.TOOLS, page(Kind.TOOLS, more=more), V2025_11_25)
    assert (legacy.ttl_ms, legacy.private) == (0, False)


@pytest.mark.parametrize(
    "more, cursor", [("", None), (',"nextCursor":null', None), (',"nextCursor":""', ""), (',"nextCursor":"x"', "x")]
)
def test_an_empty_cursor_is_a_cursor(more: str, cursor: str | None) -> None:
    assert read_page(Kind.PROMPTS, page(Kind.PROMPTS, more=more), V2025_11_25).next_cursor == cursor


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"{}",
        b'{"tools":{}}',
        b'{"tools":null}',
        b'{"tools":[],"tools":[]}',
    ],
)
def test_what_is_no_list_raises(raw: bytes) -> None:
    with pytest.raises(RemoteFault):
        read_page(Kind.TOOLS, raw, V2025_11_25)


@pytest.mark.parametrize(
    "cursor, why",
    [
        pytest.param(b'"nextCursor":1', "not a string", id="a number"),
        pytest.param(b'"nextCursor":"%b"' % (b"x" * listing.MAX_HINT_BYTES), "over 65536 bytes", id="too long"),
        pytest.param(b'"nextCursor":"a","nextCursor":"b"', "duplicate", id="twice"),
        pytest.param(b'"nextCursor":[1 2]', "JSON", id="no JSON"),
    ],
)
def test_a_cursor_of_no_use_costs_no_item(cursor: bytes, why: str) -> None:
    raw = b'{"tools":[{"name":"a","inputSchema":{"type":"object"}}],%b}' % cursor
    read = read_page(Kind.TOOLS, raw, V2025_11_25)
    assert [one.name for one in read.items] == ["a"]
    assert read.next_cursor is None
    assert why in read.bad_cursor


@given(
    st.binary()
    | st.recursive(st.none() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)).map(
        lambda value: b'{"tools":[%b]}' % json_text.dumps(value)
    )
)
def test_whatever_comes_gives_a_page_or_a_remote_fault(raw: bytes) -> None:
    try:
        read = read_page(Kind.TOOLS, raw, V2026_07_28)
    except RemoteFault:
        return
    assert len(read.items) <= 1


def test_pages_join_to_one_list() -> None:
    first = Page(items=(Item(name="a", raw=b"1"), Item(name="b", raw=b"2")), ttl_ms=9)
    second = Page(items=(Item(name="b", raw=b"3"), Item(name="c", raw=b"4")), ttl_ms=5, private=True)
    joined, problems = join(Kind.TOOLS, [first, second])
    assert [one.raw for one in joined.items] == [b"1", b"2", b"4"]
    assert (joined.ttl_ms, joined.private) == (5, True)
    assert [(one.name, one.reason) for one in problems] == [("b", "this name twice")]


def test_no_pages_are_an_empty_list() -> None:
    joined, problems = join(Kind.TOOLS, [])
    assert (joined.items, joined.ttl_ms, joined.private, problems) == ((), 0, False, ())


def test_items_and_problems_have_bounds() -> None:
    many = tuple(Item(name=str(n), raw=b"{}") for n in range(listing.MAX_ITEMS + 7))
    joined, problems = join(Kind.TOOLS, [Page(items=many), Page(items=many)])
    assert len(joined.items) == listing.MAX_ITEMS
    assert len(problems) == listing.MAX_PROBLEMS
    assert problems[0].reason == "7 items over 10000, which is the most of one server"
