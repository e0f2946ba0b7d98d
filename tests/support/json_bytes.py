"""JSON as bytes for the property tests: every kind of value, written in every way the grammar allows.

Owns what the property tests feed; deliberately knows nothing of the gateway. A
value is built from one drawn byte string: a strategy that draws each part of it
by itself is ten times as slow, and 100,000 examples are to be run to the end.
"""

import json
import math
import struct
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Final, TypeVar

import attrs
from hypothesis import strategies as st

from mcp_gateway.values import JsonObject, JsonValue

_NAMES: Final = ("", "id", "name", "a", "b", 'q"', "}", "[", "\\", "params", "_meta", "x-mcp-header")
_INTEGERS: Final = (
    0,
    -1,
    1,
    127,
    1 << 31,
    (1 << 53) - 1,
    1 << 53,
    (1 << 63) - 1,
    1 << 63,
    -(1 << 63) - 1,
    10**18,
    10**19,
)
_FLOATS: Final = (
    0.0,
    -0.0,
    0.1,
    -1.5,
    1e16,
    1e22,
    1.7976931348623157e308,
    5e-324,
    2.2250738585072014e-308,
    9007199254740993.0,
)
_LETTERS: Final = 'ab"\\[]{},:/ \t\n\r\0\x1f\x7f\xe9\u2028\ufeff\uffff\ud800\udfff\U0001f600'
_GAPS: Final = (b"", b"", b" ", b"\n", b"\r\n", b"\t ")
_DEPTH: Final = 4

T = TypeVar("T")


@attrs.define
class Dice:
    """Many small choices out of one drawn byte string; when it is used up, every choice is the first one."""

    _bytes: bytes
    _at: int = 0

    def byte(self) -> int:
        """The next byte; 0 when none is left."""
        at, self._at = self._at, self._at + 1
        return self._bytes[at] if at < len(self._bytes) else 0

    def below(self, sides: int) -> int:
        """One of ``sides`` numbers; 0 is what examples shrink to."""
        return self.byte() % sides

    def shuffled(self, items: Iterable[T]) -> list[T]:
        """The items in another order."""
        return sorted(items, key=lambda _: self.byte())

    def take(self, count: int) -> bytes:
        """The next bytes, filled up with zeros."""
        return bytes(self.byte() for _ in range(count))

    def scalar(self) -> JsonValue:
        """A value without others inside."""
        match self.below(8):
            case 0:
                return None
            case 1:
                return bool(self.below(2))
            case 2:
                return _INTEGERS[self.below(len(_INTEGERS))]
            case 3:
                return int.from_bytes(self.take(1 + self.below(12)), "big", signed=True)
            case 4:
                return _FLOATS[self.below(len(_FLOATS))]
            case 5:
                number: float = struct.unpack(">d", self.take(8))[0]
                return number if math.isfinite(number) else 0.5
            case _:
                return self.text()

    def text(self) -> str:
        """Up to seven characters: some that a scanner could trip over, some of anywhere."""
        drawn = "".join(self._letter() for _ in range(self.below(8)))
        # Two halves of a surrogate pair are one character to whoever reads them.
        return drawn.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")

    def _letter(self) -> str:
        at = self.below(len(_LETTERS) + 4)
        return _LETTERS[at] if at < len(_LETTERS) else chr(int.from_bytes(self.take(3), "big") % 0x110000)

    def name(self) -> str:
        """A key: short or well known, so that keys collide."""
        at = self.below(len(_NAMES) + 6)
        return _NAMES[at] if at < len(_NAMES) else self.text()[:3]

    def value(self, depth: int = _DEPTH) -> JsonValue:
        """Any value of at most ``depth`` levels of containers."""
        match self.below(6) if depth else 0:
            case 4:
                return self.array(depth)
            case 5:
                return self.object(depth)
            case _:
                return self.scalar()

    def array(self, depth: int = _DEPTH) -> list[JsonValue]:
        """An array of up to four values."""
        return [self.value(depth - 1) for _ in range(self.below(5))]

    def object(self, depth: int = _DEPTH) -> JsonObject:
        """An object of up to five members."""
        return {self.name(): self.value(depth - 1) for _ in range(self.below(6))}


dice: Final = st.binary(min_size=48, max_size=96).map(Dice)
values: Final[st.SearchStrategy[JsonValue]] = dice.map(Dice.value)
arrays: Final[st.SearchStrategy[list[JsonValue]]] = dice.map(Dice.array)
objects: Final[st.SearchStrategy[JsonObject]] = dice.map(Dice.object)


def spell(value: JsonValue, plan: Dice) -> bytes:
    """``value`` as JSON, with white space and escapes drawn."""
    return _spell(value, cycle(plan.take(1 + plan.below(12))), stammer=False)


def stammer(value: JsonValue, plan: Dice) -> bytes:
    """The same, but now and then a member comes twice: the first time with another value."""
    return _spell(value, cycle(plan.take(1 + plan.below(12))), stammer=True)


def _spell(value: JsonValue, choices: Iterator[int], *, stammer: bool) -> bytes:
    choice = next(choices)
    gap = _GAPS[choice % len(_GAPS)]
    if isinstance(value, dict):
        pairs = list(value.items())
        if stammer and choice % 5 == 4:
            pairs[:1] = [(key, other) for key, item in pairs[:1] for other in (choice, item)]
        inside = (
            _spell(key, choices, stammer=False) + b":" + _spell(item, choices, stammer=stammer) for key, item in pairs
        )
        return b"%b{%b%b}" % (gap, b",".join(inside), gap)
    if isinstance(value, list):
        inside = (_spell(item, choices, stammer=stammer) for item in value)
        return b"%b[%b%b]%b" % (gap, gap, b",".join(inside), gap)
    if isinstance(value, str) and choice % 4 == 0:
        units = value.encode("utf-16-be", "surrogatepass")
        escapes = (b"\\u%02x%02x" % (units[at], units[at + 1]) for at in range(0, len(units), 2))
        return b'%b"%b"%b' % (gap, b"".join(escapes), gap)
    text = json.dumps(value, ensure_ascii=choice % 4 == 1)
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # a lone surrogate can only be escaped
        text = json.dumps(value)
    return b"%b%b%b" % (gap, text.encode(), gap)
