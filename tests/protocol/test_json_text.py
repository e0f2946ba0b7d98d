"""JSON texts: what is parsed, what is refused, and what is written."""

import json
import math

import pytest

from mcp_gateway.errors import MalformedMessage
from mcp_gateway.protocol.json_text import MAX_DEPTH, dumps, parse
from mcp_gateway.values import JsonValue

BIG = 1 << 70
MANY_BRACKETS = b"[" + b",".join([b'{"a":"]]["}'] * 200) + b"]"


@pytest.mark.parametrize(
    "raw, value",
    [
        pytest.param(b' {"a":[1,2.5,null,true,"x"]}\n', {"a": [1, 2.5, None, True, "x"]}, id="everyday"),
        pytest.param(b"1e400", math.inf, id="a number beyond a double"),
        pytest.param(b'"\\ud800"', "\ud800", id="a lone surrogate"),
        pytest.param(b'{"n":%d}' % BIG, {"n": BIG}, id="a big integer"),
        pytest.param(b"[-9223372036854775809]", [-9223372036854775809], id="a big negative integer"),
        pytest.param(b"18446744073709551616", 18446744073709551616, id="a big integer alone"),
        pytest.param(b"1234567890123456789012.5", 1234567890123456789012.5, id="digits of a fraction"),
        pytest.param(b'"1234567890123456789012"', "1234567890123456789012", id="digits in a string"),
        pytest.param(b"9" * 5000, math.inf, id="an integer that Python will not hold"),
        pytest.param(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None, id="as deep as allowed"),
        pytest.param(MANY_BRACKETS, json.loads(MANY_BRACKETS), id="many brackets side by side, and in strings"),
        pytest.param(
            b'["\\\\","\\"[","' + b"[{" * 200 + b'"]', ["\\", '"[', "[{" * 200], id="brackets in strings only"
        ),
    ],
)
def test_json_is_parsed(raw: bytes, value: JsonValue) -> None:
    if value is None:
        parse(raw)
    else:
        assert parse(raw) == value


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b"[-Infinity]", id="Infinity"),
        pytest.param(b"\xef\xbb\xbf{}", id="BOM"),
        pytest.param(b"{} {}", id="trailing bytes"),
        pytest.param(b'"\xed\xa0\x80"', id="surrogates in UTF-8"),
        pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a":1,}', id="a trailing comma"),
        pytest.param(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), id="too deep"),
        pytest.param(b'{"a":' * 200_000, id="much too deep"),
        pytest.param(b'"' + b"[" * 100_000, id="an open string of brackets"),
        pytest.param(b"]" * 200 + b"[" * 200, id="closed before opened"),
    ],
)
def test_what_is_not_json_is_a_parse_error(raw: bytes) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse(raw)
    assert caught.value.code == -32700


def test_depth_that_the_quick_look_misjudges_is_still_no_crash() -> None:
    # A quote out of place hides the brackets from the depth check; both parsers then refuse by themselves.
    with pytest.raises(MalformedMessage) as caught:
        parse(b'"' + b"[" * 3_000 + b'"' + b"[" * 100_000)
    assert caught.value.code == -32700


@pytest.mark.parametrize(
    "value, raw",
    [
        pytest.param({"a": [1, "é"]}, '{"a":[1,"é"]}'.encode(), id="everyday"),
        pytest.param({"n": BIG, "f": 1.5}, b'{"n":%d,"f":1.5}' % BIG, id="a big integer"),
        pytest.param(["\ud800"], b'["\\ud800"]', id="a lone surrogate"),
        pytest.param([math.inf, BIG], b"[null,%d]" % BIG, id="infinity beside a big integer"),
        pytest.param([math.inf], b"[null]", id="infinity"),
    ],
)
def test_any_json_can_be_written(value: JsonValue, raw: bytes) -> None:
    assert dumps(value) == raw
