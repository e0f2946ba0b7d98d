"""The members of one JSON object, as the bytes they came in.

Owns the one cheap way to look into an object and to change it. Deliberately knows no
message. Invariant: ``edited`` gives the bytes that ``splice.rewrite`` gives, and
nothing of a value becomes Python objects before it is asked for.

Peers write JSON without white space. Then what an object needs at least, for members that are there once, is as long
as it is: each that were there twice, each escape in a name and each space would make it longer. So one sum proves that
the members which msgspec found, of each name the last, are all there is; any other text is scanned.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, TypeAlias, TypeVar, overload

import attrs
import msgspec

from mcp_gateway.protocol import json_text, splice
from mcp_gateway.protocol.json_text import NOT_READ
from mcp_gateway.protocol.splice import REMOVE, Edits
from mcp_gateway.values import JsonValue

RawMembers: TypeAlias = "Mapping[str, msgspec.Raw | bytes]"

_T = TypeVar("_T")
_DECODER: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECT: Final = ord("{")
_MAX_KEPT_NAME: Final = 64


def least_length(raws: RawMembers) -> int:
    """The bytes of an object that has these members, each once and nothing between them."""
    return (sum(map(len, raws)) + sum(map(len, raws.values())) + 4 * len(raws) + 1) if raws else 2


@attrs.define(eq=False, repr=False)
class Members(Mapping[str, JsonValue]):
    """What stands in one object: its values parsed one at a time when they are asked for, of two the last."""

    _raws: RawMembers
    """They keep the text alive that they were found in."""
    _scanned: bytes | None = None
    """The whole object, where more stands in it than its members in their shortest form."""
    repeated: tuple[str, ...] = ()
    """The names of members that are there more than once."""
    _inside: "dict[str, Members | None]" = attrs.field(factory=dict, init=False)

    @staticmethod
    def of(text: "bytes | msgspec.Raw") -> "Members":
        """The members of an object, after white space.

        Raises:
            MalformedMessage: as ``splice.members``.
        """
        try:
            raws = _DECODER.decode(text)
        except NOT_READ:
            return _scan(bytes(text))
        if least_length(raws) == len(text) and len(raws) <= splice.MAX_MEMBERS:
            return Members(raws)
        del raws  # they may be many
        return _scan(bytes(text))

    @property
    def scanned(self) -> bool:
        """Whether the object is written in another way than the shortest."""
        return self._scanned is not None

    @property
    def text(self) -> bytes:
        """The whole object."""
        return _joined(self._raws, {}) if self._scanned is None else self._scanned

    def __getitem__(self, name: str) -> JsonValue:
        return _parsed(self._raws[name])

    @overload
    def get(self, name: str, /) -> JsonValue: ...
    @overload
    def get(self, name: str, /, default: JsonValue | _T) -> JsonValue | _T: ...
    def get(self, name: str, /, default: object = None) -> object:
        """The parsed value."""
        raw = self._raws.get(name)
        return default if raw is None else _parsed(raw)

    def __contains__(self, name: object) -> bool:
        return name in self._raws

    def __iter__(self) -> Iterator[str]:
        return iter(self._raws)

    def __len__(self) -> int:
        return len(self._raws)

    def has_none_of(self, names: frozenset[str]) -> bool:
        """Whether no member has one of these names."""
        return names.isdisjoint(self._raws)

    def raw(self, name: str) -> bytes | None:
        """A copy of the bytes of a value; None: there is no such member.

        Raises:
            MalformedMessage: it occurs twice (-32600): two readers could take different ones.
        """
        if name in self.repeated:
            raise splice.duplicate(name)
        raw = self._raws.get(name)
        return None if raw is None else bytes(raw)

    def within(self, name: str) -> "Members | None":
        """The members of the object that is the value; None: it is none, or not there.

        Raises:
            MalformedMessage: as ``raw``, and as ``splice.members``.
        """
        if name not in self._raws:
            return None
        if name not in self._inside:
            if name in self.repeated:
                raise splice.duplicate(name)
            raw = self._raws[name]
            self._inside[name] = Members.of(raw) if memoryview(raw)[0] == _OBJECT else None
        return self._inside[name]

    def edited(self, edits: Edits) -> bytes:
        """The object with these edits made, and nothing else changed.

        Raises:
            MalformedMessage: as ``splice.rewrite``.
        """
        if self._scanned is not None:
            return splice.rewrite(self._scanned, edits)
        raws = dict(self._raws)
        added: dict[str, bytes] = {}
        for name, edit in edits.items():
            if not isinstance(name, str):
                raise splice.not_an("array")
            if edit is REMOVE:
                raws.pop(name, None)
            elif isinstance(edit, bytes):
                (raws if name in raws else added)[name] = edit
            elif name in raws:
                raws[name] = self._edited_inside(name, edit)
            elif (made := NO_MEMBERS.edited(edit)) != b"{}":  # edits that only remove make nothing
                added[name] = made
        return _joined(raws, added)

    def _edited_inside(self, name: str, edits: Edits) -> bytes:
        inside = self.within(name)
        return splice.rewrite(bytes(self._raws[name]), edits) if inside is None else inside.edited(edits)


NO_MEMBERS: Final = Members({})


def _scan(text: bytes) -> Members:
    raws: dict[str, bytes] = {}
    repeated: list[str] = []
    for member in splice.members(text):
        if member.key in raws:
            repeated.append(member.key)
        raws[member.key] = text[member.value_start : member.value_end]
    return Members(raws, text, tuple(repeated))


def _parsed(raw: "msgspec.Raw | bytes") -> JsonValue:
    return json_text.parse(bytes(raw))


def _joined(raws: RawMembers, added: Mapping[str, bytes]) -> bytes:
    # One join: ``%`` grows its result piece by piece, which costs ten times as much for a large one.
    pieces: list[bytes] = []
    for name, raw in raws.items():
        pieces += (_label(name), raw)
    for name, raw in added.items():
        pieces += (_new_label(name), raw)
    if not pieces:
        return b"{}"
    pieces[0] = b"{" + pieces[0][1:]
    pieces.append(b"}")
    return b"".join(pieces)


def _label(name: str) -> bytes:
    return _kept_label(name) if len(name) <= _MAX_KEPT_NAME else b',"%b":' % name.encode()


@lru_cache(maxsize=1024)
def _kept_label(name: str) -> bytes:
    return b',"%b":' % name.encode()


@lru_cache(maxsize=256)
def _new_label(name: str) -> bytes:
    """Of one that the gateway adds, which is one of few."""
    return b",%b:" % splice.quoted(name)
