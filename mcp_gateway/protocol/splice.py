"""Editing JSON without parsing it: what is not edited keeps its bytes.

Owns the scanner that finds where members and elements begin and end, and the
edits made at those places. Deliberately builds no Python values and judges no
grammar inside a value it only passes over; ``json_text.parse`` is what validates.
Invariant: every byte that no edit names stays as it came (white space, key
order, foreign duplicates, number text); on garbage it raises, never loops.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import Final, NamedTuple, TypeAlias, cast

import attrs

from mcp_gateway.errors import MalformedMessage


class Remove(Enum):
    """The type of ``REMOVE``."""

    REMOVE = "remove"


REMOVE: Final = Remove.REMOVE
"""In ``Edits``: delete this member or element, with its comma. Absent is no error."""

Edits: TypeAlias = "Mapping[str | int, bytes | Remove | Edits]"
"""What to change in one container: member name or array index to its new raw value,
``REMOVE``, or the edits of the container found there (an absent object is made)."""

_INVALID: Final = -32600
_WS: Final = rb"[ \t\r\n]*+"
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SCALAR: Final = rb"-?[0-9][0-9.eE+-]*+|true|false|null"


def _container(levels: int) -> bytes:
    """A pattern for containers of at most ``levels`` levels, so that usual values are skipped by one match."""
    inner = rb'[^"\[\]{}]++|' + _STRING
    if levels > 1:
        inner += rb"|" + _container(levels - 1)
    return rb"\[(?:%b)*+\]|\{(?:%b)*+\}" % (inner, inner)


def _brackets(levels: int) -> bytes:
    """A pattern for containers of at most ``levels`` levels that does not look at the kind of a bracket."""
    pattern = rb'[\[{](?:[^"\[\]{}]++|%b)*+[\]}]' % _STRING
    for _ in range(levels - 1):
        pattern = rb'[\[{](?:[^"\[\]{}]++|%b|%b)*+[\]}]' % (_STRING, pattern)
    return pattern


MAX_MEMBERS: Final = 10_000
"""Of one object that is looked into: listing them is loop time, 2 us each."""
EXACT_BYTES: Final = 64 * 2**10
"""Up to here brackets may be counted one by one, 0.4 us each."""
MAX_ODD_BRACKETS: Final = 200_000
"""As many are counted in a value of more than 128 levels."""
# Three levels are {"content":[{...}]}; the pattern doubles with each level.
_ANY: Final = rb"%b|%b|%b" % (_STRING, _SCALAR, _container(3))
_VALUE: Final = re.compile(_ANY, re.DOTALL)
# 16 times as fast as bracket by bracket, which is 14 s of loop time for the worst answer of 32 MiB.
_DEEP: Final = re.compile(_brackets(128), re.DOTALL)
_TO_BRACKET: Final = re.compile(rb'(?:[^"\[\]{}]++|%b)*+([\[\]{}])' % _STRING, re.DOTALL)
_OPEN_OBJECT: Final = re.compile(rb"%b(\{)%b" % (_WS, _WS))
_OPEN_ARRAY: Final = re.compile(rb"%b(\[)%b" % (_WS, _WS))
_KEY: Final = re.compile(rb"(%b)%b:%b" % (_STRING, _WS, _WS), re.DOTALL)
_MEMBER: Final = re.compile(rb'"([^"\\]*+)"%b:%b(%b)%b([,}])%b' % (_WS, _WS, _ANY, _WS, _WS), re.DOTALL)
_NEXT: Final = re.compile(rb"%b([,}\]])%b" % (_WS, _WS))
_CLOSER: Final = {ord("["): ord("]"), ord("{"): ord("}")}


class Member(NamedTuple):
    """One member of an object; offsets into the scanned bytes, ends exclusive."""

    key: str
    key_start: int
    value_start: int
    value_end: int


@attrs.frozen
class Members:
    """The members of one object in their order; ``end`` is the offset after its ``}``."""

    items: tuple[Member, ...]
    opened_at: int
    """The offset after ``{``."""
    end: int

    def __iter__(self) -> Iterator[Member]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def find(self, key: str) -> Member | None:
        """The member of that name.

        Raises:
            MalformedMessage: it occurs twice (-32600): two readers could take different ones.
        """
        found = None
        for member in self.items:
            if member.key == key:
                if found is not None:
                    raise duplicate(key)
                found = member
        return found


def duplicate(key: str) -> MalformedMessage:
    """The fault of a member that is there twice."""
    return MalformedMessage(what=f"duplicate member {key!r}", code=_INVALID)


def not_an(kind: str) -> MalformedMessage:
    """The fault of an edit at another kind of container."""
    return MalformedMessage(what=f"not an {kind}", code=_INVALID)


def _broken(pos: int) -> MalformedMessage:
    return MalformedMessage(what=f"not JSON at byte {pos}", code=_INVALID)


def skip(raw: bytes, pos: int) -> int:
    """The offset after the value that begins exactly at ``pos``; its grammar is not checked, only its brackets, and
    those inside more than ``EXACT_BYTES`` without regard to their kind.

    Raises:
        MalformedMessage: no value begins there, it does not end, or it is too deep to be followed.
    """
    whole = _VALUE.match(raw, pos)
    if whole is None and len(raw) - pos > EXACT_BYTES:
        whole = _DEEP.match(raw, pos)
    if whole is not None:
        return whole.end()
    if raw[pos : pos + 1] not in {b"[", b"{"}:
        raise _broken(pos)
    closers = bytearray()
    for _ in range(MAX_ODD_BRACKETS):
        bracket = _TO_BRACKET.match(raw, pos)
        if bracket is None:
            raise _broken(pos)
        pos = bracket.end()
        kind = raw[pos - 1]
        if kind in _CLOSER:
            closers.append(_CLOSER[kind])
        elif closers.pop() != kind:
            raise _broken(pos - 1)
        if not closers:
            return pos
    raise MalformedMessage(what=f"JSON of more than {MAX_ODD_BRACKETS} brackets and 128 levels", code=_INVALID)


def members(raw: bytes, start: int = 0) -> Members:
    """The members of the object that begins at ``start``, after white space. Escapes in keys are honoured.

    Raises:
        MalformedMessage: no object begins there, it is broken between its members, or has over ``MAX_MEMBERS``.
    """
    opening = _OPEN_OBJECT.match(raw, start)
    if opening is None:
        raise not_an("object")
    pos = opening.end()
    if raw[pos : pos + 1] == b"}":
        return Members((), opening.end(1), pos + 1)
    found: list[Member] = []
    try:
        while len(found) < MAX_MEMBERS:
            whole = _MEMBER.match(raw, pos)
            if whole is not None:
                found.append(Member(whole[1].decode(), pos, *whole.span(2)))
                after, follows = whole, whole.start(3)
            else:
                member, after = _odd_member(raw, pos)
                found.append(member)
                follows = after.start(1)
            if raw[follows] == 0x7D:  # }
                return Members(tuple(found), opening.end(1), follows + 1)
            pos = after.end()
    except ValueError as exc:  # a key with bad UTF-8 or a bad escape
        raise _broken(pos) from exc
    raise MalformedMessage(what=f"an object of more than {MAX_MEMBERS} members", code=_INVALID)


def _odd_member(raw: bytes, pos: int) -> tuple[Member, re.Match[bytes]]:
    """A member with an escape in its key or too many levels in its value for one match, and what follows it."""
    key = _KEY.match(raw, pos)
    if key is None:
        raise _broken(pos)
    value_end = skip(raw, key.end())
    after = _NEXT.match(raw, value_end)
    if after is None or after[1] == b"]":
        raise _broken(value_end)
    return Member(cast(str, json.loads(key[1].decode())), pos, key.end(), value_end), after


def _array(raw: bytes, start: int) -> tuple[list[tuple[int, int]], int, int]:
    """The spans of the elements, the offset after ``[`` and the offset after ``]``."""
    opening = _OPEN_ARRAY.match(raw, start)
    found = list(each_element(raw, start))
    assert opening is not None  # or ``each_element`` had raised
    closing = raw.index(b"]", found[-1][1] if found else opening.end())
    return found, opening.end(1), closing + 1


def each_element(raw: bytes, start: int = 0) -> Iterator[tuple[int, int]]:
    """The (start, end) of each element of the array that begins at ``start``, after white space, as far as asked for.

    Raises:
        MalformedMessage: no array begins there, or it is broken after the element given last.
    """
    opening = _OPEN_ARRAY.match(raw, start)
    if opening is None:
        raise not_an("array")
    pos = opening.end()
    if raw[pos : pos + 1] == b"]":
        return
    while True:
        end = skip(raw, pos)
        yield pos, end
        after = _NEXT.match(raw, end)
        if after is None or after[1] == b"}":
            raise _broken(end)
        if after[1] == b"]":
            return
        pos = after.end()


def elements(raw: bytes, start: int = 0) -> list[tuple[int, int]]:
    """All of ``each_element``."""
    return list(each_element(raw, start))


def value_at(raw: bytes, path: Sequence[str | int]) -> bytes | None:
    """The raw bytes of the value at ``path``; None when it, or a container on the way, is not there.

    Raises:
        MalformedMessage: a member on the path occurs twice, or the bytes are not JSON.
    """
    start = _first(raw)
    end: int | None = None
    for step in path:
        if isinstance(step, str):
            member = members(raw, start).find(step) if raw[start : start + 1] == b"{" else None
            if member is None:
                return None
            start, end = member.value_start, member.value_end
        else:
            spans = each_element(raw, start) if raw[start : start + 1] == b"[" else iter(())
            span = next(islice(spans, step, None), None) if step >= 0 else None
            if span is None:
                return None
            start, end = span
    return raw[start : skip(raw, start) if end is None else end]


def _first(raw: bytes) -> int:
    return len(raw) - len(raw.lstrip(b" \t\r\n"))


def rewrite(raw: bytes, edits: Edits) -> bytes:
    """``raw`` with ``edits`` made to its outermost container; everything else byte for byte.

    A new member is appended last, as ``,"key":value``. Element ``len`` of an array may be set, which appends.

    Raises:
        MalformedMessage: an edited member occurs twice; a container on the way has another type;
            the element does not exist; the bytes are not JSON.
    """
    if not edits:
        return raw
    start = _first(raw)
    pieces = [raw[:start]]
    end = _edit(raw, start, edits, pieces)
    pieces.append(raw[end:])
    return b"".join(pieces)


def _edit(raw: bytes, start: int, edits: Edits, pieces: list[bytes]) -> int:
    """Add the container at ``start`` to ``pieces``, edited; the offset after it."""
    children: Sequence[Member]
    if raw[start : start + 1] == b"[":
        if not all(isinstance(key, int) for key in edits):
            raise not_an("object")
        spans, opened_at, end = _array(raw, start)
        children = [Member("", first, first, last) for first, last in spans]
        places, appended = _place_elements(len(children), edits)
    else:
        found = members(raw, start)
        children, opened_at, end = found.items, found.opened_at, found.end
        places, appended = _place_members(found, edits)
    done = start
    removed = 0
    for index in sorted(places):
        child, edit = children[index], places[index]
        if edit is REMOVE:
            if index > removed:  # one before it stays: the comma between them goes
                cut_from, cut_to = children[index - 1].value_end, child.value_end
            else:
                cut_from = child.key_start
                cut_to = children[index + 1].key_start if index + 1 < len(children) else child.value_end
            pieces.append(raw[done:cut_from])
            done = cut_to
            removed += 1
        else:
            pieces.append(raw[done : child.value_start])
            done = child.value_end
            if isinstance(edit, bytes):
                pieces.append(edit)
            elif edit:
                _edit(raw, child.value_start, edit, pieces)
            else:
                done = child.value_start
    if appended:
        last = children[-1].value_end if children else opened_at
        pieces += (raw[done:last], b"," if len(children) > removed else b"", b",".join(appended))
        done = last
    pieces.append(raw[done:end])
    return end


_Places: TypeAlias = "dict[int, bytes | Remove | Edits]"


def _place_members(found: Members, edits: Edits) -> tuple[_Places, list[bytes]]:
    """Which child gets which edit, and the members to append."""
    places: _Places = {}
    appended: list[bytes] = []
    names = [member.key for member in found.items]
    for key, edit in edits.items():
        if not isinstance(key, str):
            raise not_an("array")
        if key in names:
            if names.count(key) > 1:
                raise duplicate(key)
            places[names.index(key)] = edit
        elif isinstance(edit, bytes):
            appended.append(quoted(key) + b":" + edit)
        elif isinstance(edit, Mapping):
            made = rewrite(b"{}", edit)
            if made != b"{}":  # edits that only remove make nothing
                appended.append(quoted(key) + b":" + made)
    return places, appended


def _place_elements(length: int, edits: Edits) -> tuple[_Places, list[bytes]]:
    places: _Places = {}
    appended: list[bytes] = []
    for index in sorted(key for key in edits if isinstance(key, int)):
        edit = edits[index]
        if 0 <= index < length:
            places[index] = edit
        elif index == length + len(appended) and isinstance(edit, bytes):
            appended.append(edit)
        elif edit is not REMOVE:
            raise MalformedMessage(what=f"no element {index}", code=_INVALID)
    return places, appended


def quoted(text: str) -> bytes:
    """``text`` as a JSON string, ASCII only, so that lone surrogates survive too."""
    return json.dumps(text).encode("ascii")


def one_line(raw: bytes) -> bytes:
    """Valid JSON on one line: raw newlines, which only occur between tokens, become spaces.

    For frames that end with a newline (stdio) and for server-sent events.
    """
    if b"\n" not in raw and b"\r" not in raw:
        return raw
    return raw.replace(b"\n", b" ").replace(b"\r", b" ")
