"""Content blocks: every URI that has a place is mapped, nothing else is touched."""

import json

import pytest

from mcp_gateway.protocol import splice
from mcp_gateway.protocol.content import concerns, mentions, question_changes, result_changes, text_block
from mcp_gateway.protocol.eras import V2024_11_05, V2025_03_26, V2025_11_25
from mcp_gateway.values import JsonObject


def out(uri: str) -> str:
    return uri if uri.startswith("stay:") else "m/" + uri


@pytest.mark.parametrize(
    "method, raw, mapped",
    [
        pytest.param(
            "resources/read",
            '{"contents":[{"uri":"a:1","text":"\\"uri\\":1.50"},{"uri":"a:2"},7,{"uri":3},{"uri":"stay:1"}]}',
            '{"contents":[{"uri":"m/a:1","text":"\\"uri\\":1.50"},{"uri":"m/a:2"},7,{"uri":3},{"uri":"stay:1"}]}',
            id="contents",
        ),
        pytest.param(
            "tools/call",
            '{"content":[{"type":"resource_link","uri":"a:1","x":1e400},{"type":"resource","resource":{"uri":"a:2"}}]}',
            '{"content":[{"type":"resource_link","uri":"m/a:1","x":1e400},{"type":"resource","resource":{"uri":"m/a:2"}}]}',
            id="links and embedded resources",
        ),
        pytest.param(
            "tools/call",
            '{"content":[{"type":"text","uri":"a:1"},{"type":"resource"},{"type":"new","uri":"a:2"},"uri"],'
            '"structuredContent":{"uri":"a:3"}}',
            None,
            id="what has no place",
        ),
        pytest.param(
            "tools/call",
            '{"content":[],"_meta":{"ui":{"resourceUri":"ui://p","x":[]},"uri":"a:1"}}',
            '{"content":[],"_meta":{"ui":{"resourceUri":"m/ui://p","x":[]},"uri":"a:1"}}',
            id="page of the result",
        ),
        pytest.param(
            "tools/call",
            '{"content":[],"_meta":{"ui/resourceUri":"ui://p","ui":{"resourceUri":7}}}',
            '{"content":[],"_meta":{"ui/resourceUri":"m/ui://p","ui":{"resourceUri":7}}}',
            id="page of the result, as the first draft names it",
        ),
        pytest.param(
            "prompts/get",
            '{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a:1"}}},{"content":"uri"},1]}',
            '{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"m/a:1"}}},{"content":"uri"},1]}',
            id="messages",
        ),
        pytest.param("tasks/get", '{"result":["ui://p"],"uri":"a:1"}', None, id="a task's result of another shape"),
        pytest.param("completion/complete", '{"contents":[{"uri":"a:1"}]}', None, id="no content"),
        pytest.param("tools/call", '{"content":{"uri":"a:1"}}', None, id="content of another shape"),
        pytest.param("prompts/get", '{"messages":{"uri":"a:1"}}', None, id="messages of another shape"),
        pytest.param("resources/read", '{"contents":{"uri":"a:1"}}', None, id="contents of another shape"),
    ],
)
def test_uris_are_mapped_where_they_stand(method: str, raw: str, mapped: str | None) -> None:
    result: JsonObject = json.loads(raw)
    changes = result_changes(method, result, V2025_11_25, out)
    assert splice.rewrite(raw.encode(), changes).decode() == (raw if mapped is None else mapped)
    assert result_changes(method, result, V2025_11_25, None) == {}


def test_sampling_messages_hold_blocks_or_lists_of_blocks() -> None:
    link = {"type": "resource_link", "uri": "a:1"}
    params: JsonObject = json.loads(
        json.dumps(
            {
                "messages": [
                    {"content": link},
                    {"content": [link, {"type": "text"}]},
                    {"content": [{"type": "tool_result", "content": [link]}, {"type": "tool_result"}]},
                ]
            }
        )
    )
    edited = splice.rewrite(
        json.dumps(params).encode(), question_changes("sampling/createMessage", params, V2025_11_25, out)
    )
    assert edited.decode() == json.dumps(params).replace("a:1", "m/a:1")
    assert question_changes("sampling/createMessage", {}, V2025_11_25, out) == {}


def test_a_link_that_becomes_text_says_the_mapped_uri() -> None:
    result: JsonObject = {"content": [{"type": "resource_link", "uri": "a:1", "name": "n"}]}
    assert result_changes("tools/call", result, V2025_03_26, out) == {"content": {0: text_block("n\nm/a:1")}}


@pytest.mark.parametrize(
    "raw, mapping, mapped",
    [
        (b'{"uri":1}', True, True),
        (b'{"uri":1}', False, False),
        (b'{"resourceUri":1}', True, True),
        (b'{"ui/resourceUri":1}', True, True),
        (b"{}", True, False),
    ],
)
def test_what_mentions_no_uri_is_not_walked(raw: bytes, mapping: bool, mapped: bool) -> None:
    assert concerns(raw, V2025_11_25, out if mapping else None) is mapped


def test_old_clients_have_more_to_look_for() -> None:
    assert concerns(b'"audio"', V2024_11_05, None)
    assert not concerns(b'"audio"', V2025_03_26, None)
    assert concerns(b'"resource_link"', V2025_03_26, None)
    assert not concerns(b"{}", V2024_11_05, None)


def test_escaped_words_may_be_anything() -> None:
    assert mentions(b'"\\u0075ri"', b"uri")
    assert not mentions(b'"uris"', b"uri")
