"""Shaping: what a revision does not have does not reach its clients; the rest stays as it came."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.protocol import json_text, splice
from mcp_gateway.protocol.eras import (
    ERAS,
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
    V2026_07_28,
    Era,
)
from mcp_gateway.protocol.shape import result_changes, shape_item
from mcp_gateway.values import JsonObject, JsonValue


def shape_result(method: str, result: bytes, client: Era, backend: Era) -> bytes:
    """One result with nothing but its edits made: no bridging, no URIs."""
    return splice.rewrite(result, result_changes(method, result, client=client, backend=backend, map_uri=None))


OBJECT_SCHEMA = '{"type":"object","$defs":{"n":{"const":1.50}}}'


def tool(output: str) -> bytes:
    return (
        f'{{"name":"t", "title":"T","inputSchema":{{"type":"object","title":"In"}},"icons":[],'
        f'"execution":{{"taskSupport":"optional"}},"outputSchema":{output},"x-vendor":1e400}}'
    ).encode()


@pytest.mark.parametrize(
    "era, output, kept",
    [
        (V2024_11_05, OBJECT_SCHEMA, {"name", "inputSchema", "x-vendor"}),
        (V2025_03_26, OBJECT_SCHEMA, {"name", "inputSchema", "x-vendor"}),
        (V2025_06_18, OBJECT_SCHEMA, {"name", "title", "inputSchema", "outputSchema", "x-vendor"}),
        (V2025_06_18, '{"type":"array"}', {"name", "title", "inputSchema", "x-vendor"}),
        (V2025_11_25, '{"type":"array"}', {"name", "title", "inputSchema", "icons", "execution", "x-vendor"}),
        (V2025_11_25, "true", {"name", "title", "inputSchema", "icons", "execution", "x-vendor"}),
        (V2025_11_25, '{"$ref":"#/$defs/x"}', {"name", "title", "inputSchema", "icons", "execution", "x-vendor"}),
    ],
)
def test_a_tool_loses_what_the_era_does_not_have(era: Era, output: str, kept: set[str]) -> None:
    shaped = shape_item("tools", tool(output), era)
    assert set(json.loads(shaped)) == kept
    assert b'"inputSchema":{"type":"object","title":"In"}' in shaped
    assert b'"x-vendor":1e400' in shaped


@pytest.mark.parametrize(
    "era, output", [(V2026_07_28, '{"type":"array"}'), (V2025_11_25, OBJECT_SCHEMA)], ids=["modern", "same rules"]
)
def test_nothing_to_drop_leaves_the_bytes(era: Era, output: str) -> None:
    assert shape_item("tools", tool(output), era) == tool(output)


def test_a_word_inside_a_schema_is_no_member() -> None:
    raw = b'{"name":"t","inputSchema":{"type":"object","properties":{"outputSchema":{},"title":{}}}}'
    assert shape_item("tools", raw, V2024_11_05) == raw


def test_escaped_member_names_are_found() -> None:
    raw = b'{"name":"t","\\u0074itle":"T"}'
    assert shape_item("tools", raw, V2024_11_05) == b'{"name":"t"}'


def test_other_items_lose_title_and_icons_only() -> None:
    raw = b'{"name":"p","title":"P","icons":[],"execution":1,"outputSchema":[]}'
    assert shape_item("prompts", raw, V2024_11_05) == b'{"name":"p","execution":1,"outputSchema":[]}'


@pytest.mark.parametrize(
    "client, backend, result, shaped",
    [
        pytest.param(
            V2026_07_28,
            V2026_07_28,
            '{"content":[],"structuredContent":[1]}',
            '{"content":[],"structuredContent":[1]}',
            id="modern takes anything",
        ),
        pytest.param(
            V2025_11_25,
            V2026_07_28,
            '{"content":[{"type":"text","text":"x"}],"structuredContent":[1e400]}',
            '{"content":[{"type":"text","text":"x"}]}',
            id="an array is not for legacy",
        ),
        pytest.param(
            V2025_11_25,
            V2026_07_28,
            '{"content":[],"structuredContent":[1.50, 2]}',
            '{"content":[{"type":"text","text":"[1.50, 2]"}]}',
            id="said as text where nothing else was said",
        ),
        pytest.param(
            V2025_11_25,
            V2026_07_28,
            '{"structuredContent":null}',
            '{"content":[{"type":"text","text":"null"}]}',
            id="null is no object",
        ),
        pytest.param(
            V2025_11_25,
            V2026_07_28,
            '{"content":[],"structuredContent":{"a":1.50}}',
            '{"content":[],"structuredContent":{"a":1.50}}',
            id="an object is",
        ),
        pytest.param(
            V2025_11_25,
            V2025_06_18,
            '{"content":[],"structuredContent":[1]}',
            '{"content":[],"structuredContent":[1]}',
            id="among legacy nothing is judged",
        ),
        pytest.param(
            V2025_03_26,
            V2025_11_25,
            '{"content":[{"type":"text","text":"x"}],"structuredContent":{}}',
            '{"content":[{"type":"text","text":"x"}]}',
            id="before there was any",
        ),
        pytest.param(
            V2025_03_26,
            V2025_11_25,
            '{"content":[{"type":"text","text":"\\"structuredContent\\""}]}',
            '{"content":[{"type":"text","text":"\\"structuredContent\\""}]}',
            id="only mentioned",
        ),
        pytest.param(V2025_03_26, V2025_11_25, '[ "structuredContent" ]', '[ "structuredContent" ]', id="no object"),
    ],
)
def test_structured_content_follows_the_clients_rules(client: Era, backend: Era, result: str, shaped: str) -> None:
    assert shape_result("tools/call", result.encode(), client, backend).decode() == shaped


LINK = '{"type":"resource_link","uri":"a:b","name":"n","title":"T","description":"D","annotations":{"priority":1}}'
AUDIO = '{"type":"audio","mimeType":"audio/wav","data":"AAAA"}'


def test_resource_links_become_text_for_clients_without_them() -> None:
    raw = f'{{"content":[{{"type":"text","text":"x"}}, {LINK}]}}'.encode()
    for client in (V2024_11_05, V2025_03_26):
        shaped = json.loads(shape_result("tools/call", raw, client, V2025_11_25))
        assert shaped["content"] == [
            {"type": "text", "text": "x"},
            {"type": "text", "text": "T\na:b\nD", "annotations": {"priority": 1}},
        ]
    assert shape_result("tools/call", raw, V2025_06_18, V2025_11_25) == raw


def test_audio_becomes_text_for_the_oldest_clients() -> None:
    raw = f'{{"messages":[{{"role":"user","content":{AUDIO}}}]}}'.encode()
    shaped = json.loads(shape_result("prompts/get", raw, V2024_11_05, V2025_11_25))
    assert shaped["messages"][0]["content"] == {
        "type": "text",
        "text": "[audio, audio/wav: protocol version 2024-11-05 has none]",
    }
    assert shape_result("prompts/get", raw, V2025_03_26, V2025_11_25) == raw


def test_a_huge_result_is_fitted_too_unless_it_is_huge_without_its_long_strings() -> None:
    pad = b"x" * json_text.MAX_PARSED_BYTES
    fitted = shape_result("tools/call", b'{"content":[%b],"pad":"%b"}' % (LINK.encode(), pad), V2024_11_05, V2025_11_25)
    assert fitted.endswith(b'"pad":"%b"}' % pad)
    assert json.loads(fitted)["content"][0]["type"] == "text"
    raw = b'{"content":[%b],"pad":[%b1]}' % (LINK.encode(), b"1," * len(pad))
    assert shape_result("tools/call", raw, V2024_11_05, V2025_11_25) == raw


JSON = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "uri", "content", "resource", "text", "ui"]), inner, max_size=3)
    ),
    max_leaves=8,
)
TYPES: st.SearchStrategy[JsonValue] = st.sampled_from(["resource_link", "audio", "resource", "tool_result", "text"])
BLOCKS = st.builds(lambda kind, more: {**more, "type": kind}, TYPES, st.dictionaries(st.just("content"), JSON))
RESULTS = st.dictionaries(
    st.sampled_from(["content", "messages", "contents", "structuredContent", "_meta"]),
    JSON | st.lists(BLOCKS, max_size=3),
    max_size=3,
)
METHODS = st.sampled_from(["tools/call", "prompts/get", "resources/read", "completion/complete"])
ANY_ERA = st.sampled_from(list(ERAS.values()))


@given(result=RESULTS, method=METHODS, client=ANY_ERA, backend=ANY_ERA)
def test_shaping_twice_is_shaping_once(result: JsonObject, method: str, client: Era, backend: Era) -> None:
    once = shape_result(method, json_text.dumps(result), client, backend)
    assert shape_result(method, once, client, backend) == once
    if client.modern:
        assert json.loads(once) == result
