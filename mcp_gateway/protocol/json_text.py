"""JSON texts: parsed strictly, written compactly.

Owns what RFC 8259 allows and orjson does not take, and the bounds of what is parsed
at all. Deliberately knows no message (``jsonrpc``) and edits nothing (``splice``).
Invariant: two readers of what ``parse`` has taken see the same value, but for
members that are there twice and numbers beyond a double.
"""

import json
import re
from itertools import accumulate
from typing import Final, NoReturn, cast

import msgspec
import orjson

from mcp_gateway.errors import MalformedMessage
from mcp_gateway.values import JsonValue

MAX_DEPTH: Final = 128
"""Containers inside containers; deeper is refused (docs/architecture.md)."""
MAX_PARSED_BYTES: Final = 1 << 20
"""Above this an answer is not parsed, only its structure is scanned: parsing is loop time."""

NOT_READ: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What msgspec raises for a text that it does not take: lone surrogates, too, and bad UTF-8 in a name."""

_PARSE_ERROR: Final = -32700
_WALKER: Final = msgspec.json.Decoder(msgspec.Raw)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b'"[]{}'))
_IN_QUOTES: Final = re.compile(rb'"[^"]*+"')
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_DIGITS_TO_ZERO: Final = bytes(ord("0") if byte in b"123456789" else byte for byte in range(256))
_NINETEEN: Final = b"0" * 19
"""The shortest integer that may not fit 64 bits; orjson rounds those to floats."""
_BIG_INTEGER: Final = re.compile(rb"(?:\A|[:,\[ \t\r\n])-?[0-9]{19,}+(?![.eE])")
_MAX_INTEGER_DIGITS: Final = 4300
"""CPython's own bound for int(); its cost is quadratic."""


def parse(raw: bytes) -> JsonValue:
    """One JSON text, strictly by RFC 8259, UTF-8.

    Lone surrogates and integers of any size (to 4,300 digits) are kept; numbers
    beyond a double become infinite.

    Raises:
        MalformedMessage: -32700; also for a BOM, NaN, trailing bytes and more than ``MAX_DEPTH`` levels.
    """
    if raw.startswith(b'"'):  # nothing to be counted in a string
        try:
            return cast(str, orjson.loads(raw))
        except ValueError:
            return _parse_slowly(raw)
    if is_too_deep(raw):
        raise MalformedMessage(what=f"JSON of more than {MAX_DEPTH} levels", code=_PARSE_ERROR)
    try:
        value: JsonValue = orjson.loads(raw)
    except ValueError:
        return _parse_slowly(raw)
    if _NINETEEN in raw.translate(_DIGITS_TO_ZERO) and _BIG_INTEGER.search(raw):
        return _parse_slowly(raw)
    return value


def is_too_deep(raw: bytes) -> bool:
    """Whether valid JSON has more than ``MAX_DEPTH`` levels; of other text either may be said."""
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return False
    # Escaped characters first, so that every quote left is the end of a string; then only brackets and quotes; then
    # no strings. The three steps run at C speed and are exact for valid JSON; what is not valid, the parser refuses.
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_BRACKETS).replace(b'""', b"")
    steps = map(_STEP.__getitem__, _IN_QUOTES.sub(b"", bare).replace(b'"', b""))
    return any(map(MAX_DEPTH.__lt__, accumulate(steps)))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else float(digits)


def _parse_slowly(raw: bytes) -> JsonValue:
    """What orjson refuses or rounds and RFC 8259 allows: 1e400, lone surrogates, big integers."""
    try:
        value: JsonValue = json.loads(raw.decode(), parse_constant=_no_constant, parse_int=_integer)
    except (ValueError, RecursionError) as exc:
        raise MalformedMessage(what="not JSON", code=_PARSE_ERROR) from exc
    return value


def dumps(value: JsonValue) -> bytes:
    """Compact JSON. Integers of any size and lone surrogates are written; numbers beyond a double are ``null``."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(_finite(value), separators=(",", ":")).encode("ascii")


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value - value != 0.0:  # infinite, as orjson writes it
        return None
    return value


def may_be_parsed(raw: bytes) -> bool:
    """Whether it is small and flat enough; else only its structure is looked at."""
    return len(raw) <= MAX_PARSED_BYTES and not is_too_deep(raw)


def is_utf8(raw: bytes) -> bool:
    """Whether it is; surrogates are not."""
    try:
        return raw.isascii() or bool(raw.decode())
    except UnicodeDecodeError:
        return False


def is_usual(raw: bytes) -> bool:
    """Whether it is one JSON text, found without parsing it; False: look closer, it may be one that few write."""
    try:
        _WALKER.decode(raw)
    except NOT_READ:
        return False
    return is_utf8(raw)
