"""The outline of a large text: the same places, without the long strings."""

import json

import pytest

from mcp_gateway.errors import MalformedMessage
from mcp_gateway.protocol.json_text import MAX_PARSED_BYTES
from mcp_gateway.protocol.outline import LONG, outline

BLOB = "A" * MAX_PARSED_BYTES


def test_a_small_text_is_its_own_outline() -> None:
    assert outline(b'{"a":"%b","b":null}' % (b"x" * 100_000)) == {"a": "x" * 100_000, "b": None}


@pytest.mark.parametrize(
    "text, length",
    [
        pytest.param("a" * LONG, LONG, id="short"),
        pytest.param("a" * (LONG + 1), 0, id="long"),
        pytest.param("\\" * LONG, LONG, id="escaped"),
        pytest.param("\\" * (LONG + 1), 0, id="escaped and long"),
        pytest.param('"' * 3000, 3000, id="escaped quotes"),
        pytest.param("", 0, id="empty"),
    ],
)
def test_only_long_strings_are_emptied(text: str, length: int) -> None:
    value = outline(json.dumps({"blob": BLOB, "text": text, "uri": "a://b"}).encode())
    assert value == {"blob": "", "text": text[:length], "uri": "a://b"}


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"[%b1]" % (b"1," * MAX_PARSED_BYTES), id="numbers"),
        pytest.param(b'["%b"%b]' % (BLOB.encode(), b',"short"' * 200_000), id="short strings"),
        pytest.param(b" " * MAX_PARSED_BYTES + b"{}", id="white space"),
        pytest.param(b'["%b"%b]' % (BLOB.encode(), b" " * (MAX_PARSED_BYTES - 3)), id="one byte too many"),
        pytest.param(
            b'["%b",%b"%b"]' % (BLOB.encode(), b" " * (MAX_PARSED_BYTES - 50), b"s" * 100), id="cut in a string"
        ),
    ],
)
def test_what_is_large_without_them_too_has_none(raw: bytes) -> None:
    assert outline(raw) is None


def test_the_largest_outline() -> None:
    spaces = b" " * (MAX_PARSED_BYTES - 4)
    assert outline(b'["%b"%b]' % (BLOB.encode(), spaces)) == [""]
    assert outline(b'["%b",%b"%b"]' % (BLOB.encode(), spaces[:-200], b"s" * 100)) == ["", "s" * 100]


@pytest.mark.parametrize("raw", [b'{"a":"%b' % BLOB.encode(), b'{"a":"%b"' % BLOB.encode(), BLOB.encode()])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        outline(raw)
