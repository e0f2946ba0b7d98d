"""What a server says is shown, and does not steer the terminal."""

import pytest

from mcp_gateway.screen import plain, result_lines
from mcp_gateway.values import JsonObject, JsonValue


@pytest.mark.parametrize(
    "value, text",
    [
        (None, ""),
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[2J\x07\u202e", "\N{REPLACEMENT CHARACTER}[2J" + 2 * "\N{REPLACEMENT CHARACTER}"),
        (5, "5"),
        ({"ä": [True]}, '{"ä": [true]}'),
    ],
)
def test_text_has_no_control_characters(value: JsonValue, text: str) -> None:
    assert plain(value) == text


@pytest.mark.parametrize(
    "result, lines",
    [
        pytest.param(
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, ["a", "b"], id="texts"
        ),
        pytest.param(
            {"content": [{"type": "image", "mimeType": "image/png", "data": "AAAA"}]},
            ["[image image/png, 3 bytes]"],
            id="image",
        ),
        pytest.param({"content": [{"type": "audio"}]}, ["[audio , 0 bytes]"], id="audio without data"),
        pytest.param({"content": [{"type": "resource_link", "uri": "file:///x"}]}, ["[link file:///x]"], id="link"),
        pytest.param({"content": [{"type": "resource", "resource": {"text": "x"}}]}, ["x"], id="text resource"),
        pytest.param(
            {"content": [{"type": "resource", "resource": {"uri": "u"}}]}, ["[resource u]"], id="other resource"
        ),
        pytest.param({"content": [{"type": "resource"}]}, ["[resource ]"], id="no resource"),
        pytest.param({"content": [{"type": "hologram"}, 5]}, ["[hologram]"], id="unknown content"),
        pytest.param({"content": [], "structuredContent": {"a": 1}}, ['{\n  "a": 1\n}'], id="structured only"),
        pytest.param({"structuredContent": 5}, ["5"], id="structured number"),
        pytest.param({}, [], id="nothing"),
    ],
)
def test_results_are_shown_by_their_kind(result: JsonObject, lines: list[str]) -> None:
    assert result_lines(result) == lines
