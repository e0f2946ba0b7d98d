"""Strategies for JSON as bytes: written in every way the grammar allows.

Owns what the property tests feed; deliberately knows nothing of the gateway.
"""

import json
from collections.abc import Iterator
from itertools import cycle
from typing import Final

from hypothesis import strategies as st

from mcp_gateway.values import JsonValue

names: Final = st.text(max_size=3) | st.sampled_from(["id", "name", "a", "b", 'q"', "}", "[", "\\"])
"""Keys: short, so that they collide, and with what a scanner could trip over."""

scalars: Final = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.text(alphabet='"\\[]{},:\ud800', max_size=8)
)

values: Final[st.SearchStrategy[JsonValue]] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)

_GAPS: Final = (b"", b"", b" ", b"\n", b"\r\n", b"\t ")


def spelled(value: JsonValue) -> st.SearchStrategy[bytes]:
    """``value`` as JSON, with white space and escapes drawn; one draw for all of them, which keeps it quick."""
    return st.binary(min_size=1, max_size=12).map(lambda choices: _spell(value, cycle(choices)))


def _spell(value: JsonValue, choices: Iterator[int]) -> bytes:
    choice = next(choices)
    gap = _GAPS[choice % len(_GAPS)]
    if isinstance(value, dict):
        inside = (_spell(key, choices) + b":" + _spell(item, choices) for key, item in value.items())
        return b"%b{%b%b}" % (gap, b",".join(inside), gap)
    if isinstance(value, list):
        return b"%b[%b%b]%b" % (gap, gap, b",".join(_spell(item, choices) for item in value), gap)
    if isinstance(value, str) and choice % 4 == 0:
        units = value.encode("utf-16-be", "surrogatepass")
        escapes = (b"\\u%02x%02x" % (units[at], units[at + 1]) for at in range(0, len(units), 2))
        return b'%b"%b"%b' % (gap, b"".join(escapes), gap)
    text = json.dumps(value, ensure_ascii=choice % 4 == 1)
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # a lone surrogate can only be escaped
        text = json.dumps(value)
    return b"%b%b%b" % (gap, text.encode(), gap)
