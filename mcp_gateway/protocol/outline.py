"""The shape of a large JSON text, without what makes it large.

Owns the outline: the text with its long strings (base64, mostly) emptied. Deliberately
edits nothing: places are the same in both, so edits made by the outline fit the text.
Invariant: what a text up to ``json_text.MAX_PARSED_BYTES`` says is in its outline whole,
and no outline is larger than that: parsing is loop time (docs/architecture.md).
"""

import re
from typing import Final

from mcp_gateway.protocol import json_text, splice
from mcp_gateway.values import JsonValue

LONG: Final = 8192
"""Strings of more characters (as written: an escape is one, of UTF-8 each byte) are emptied in a large text; no URI,
name or type is so long."""

# A step for each character, so that a long string is not looked at to its end.
_SHORT: Final = rb'"(?:[^"\\]|\\.){0,%d}+"' % LONG
_SHORT_STRING: Final = re.compile(_SHORT, re.DOTALL)
_TO_LONG: Final = re.compile(rb'(?:[^"]++|%b)*+' % _SHORT, re.DOTALL)


def outline(raw: bytes) -> JsonValue:
    """The parsed text; where it is large, without the contents of its long strings.

    Returns:
        None when it is too large even so, as for ``null``.
    Raises:
        MalformedMessage: as ``json_text.parse``.
    """
    if len(raw) <= json_text.MAX_PARSED_BYTES:
        return json_text.parse(raw)
    small = _without_long_strings(raw)
    return None if small is None else json_text.parse(small)


def _without_long_strings(raw: bytes) -> bytes | None:
    """None: more than ``MAX_PARSED_BYTES`` are left; it stops there, so its work is bounded by that too."""
    kept: list[bytes] = []
    room, pos = json_text.MAX_PARSED_BYTES, 0
    while pos < len(raw) and room >= 0:
        between = _TO_LONG.match(raw, pos, pos + room + 1)
        assert between is not None  # it matches the empty text
        start = between.end()
        kept.append(raw[pos:start])
        room -= start - pos
        if start < len(raw) and room >= 0:
            pos = splice.skip(raw, start)
            only_cut = _SHORT_STRING.match(raw, start) is not None  # a short one, at the bound
            kept.append(raw[start:pos] if only_cut else b'""')
            room -= len(kept[-1])
        else:
            pos = start
    return b"".join(kept) if room >= 0 else None
