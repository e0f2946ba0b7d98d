"""The strict reader: nodes in, typed values out, every mistake noted on the way.

Owns ``Item`` (a node and where it stands), ``Fields`` (a mapping read key by key)
and readers for plain types. Deliberately knows no setting by name.
Invariant: a reader that raises ``Unfit`` costs its own value only; reading goes on,
so that one look finds every mistake. No message repeats a value that may be secret.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

import attrs

from mcp_gateway.config import document
from mcp_gateway.config.document import Node, join
from mcp_gateway.config.durations import duration_s, size_bytes
from mcp_gateway.errors import ConfigMistake

T = TypeVar("T")
ReadFile: TypeAlias = Callable[[str], bytes]
"""The bytes of a file named in the configuration. Raises OSError."""

MAX_DURATION_S: Final = 365 * 86400.0
MAX_SIZE_BYTES: Final = 2**40


class Unfit(Exception):
    """This value cannot be used; the argument says why, as the end of a sentence."""


@attrs.define
class Context:
    """What one reading of one file shares: its surroundings and its findings."""

    environ: Mapping[str, str] = attrs.field(repr=False)
    read_file: ReadFile
    mistakes: list[ConfigMistake] = attrs.field(factory=list)
    notes: list[ConfigMistake] = attrs.field(factory=list)
    """What is no mistake, but not in force either."""
    lines: dict[str, int] = attrs.field(factory=dict)
    lenient: bool = False
    """A key that nobody knows is a note, no mistake: whoever wrote it may be newer than we are."""

    def wrong(self, path: str, what: str) -> None:
        """Note a mistake; its line is that of the path, or of the nearest parent that was seen."""
        parent = path
        while parent not in self.lines and parent:
            parent = parent[: max(parent.rfind("."), parent.rfind("["), 0)]
        self.mistakes.append(ConfigMistake(path=path, line=self.lines.get(parent), what=what))


@attrs.frozen(kw_only=True)
class Item:
    """A node, the path that leads to it, and the reading it belongs to."""

    node: Node
    path: str
    line: int
    context: Context = attrs.field(repr=False)

    def wrong(self, what: str) -> None:
        """Note a mistake at this place."""
        self.context.mistakes.append(ConfigMistake(path=self.path, line=self.line, what=what))

    def note(self, what: str) -> None:
        """Note what is ignored here, which people should know."""
        self.context.notes.append(ConfigMistake(path=self.path, line=self.line, what=what))

    def read(self, reader: "Reader[T]", default: T) -> T:
        """Read this value; if it is unfit, note that and go on with ``default``."""
        self.context.lines[self.path] = self.line
        try:
            return reader(self)
        except Unfit as unfit:
            self.wrong(str(unfit))
            return default


T_co = TypeVar("T_co", covariant=True)


class Reader(Protocol, Generic[T_co]):
    """Reads one value. Raises ``Unfit`` if there is none to be had."""

    def __call__(self, item: Item, /) -> T_co: ...


def kind_of(node: Node) -> str:
    """What a person would call this value."""
    match node:
        case document.Mapping():
            return "a mapping"
        case document.Sequence():
            return "a list"
        case document.Scalar(value=None):
            return "nothing"
        case document.Scalar(value=bool()):
            return "true or false"
        case document.Scalar(value=int() | float()):
            return "a number"
        case _:
            return "text"


@attrs.define
class Fields:
    """A mapping, read key by key; ``finish()`` reports what was not asked for."""

    item: Item
    _entries: dict[str, document.Entry]
    _asked: list[str] = attrs.field(factory=list)

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._entries

    def at(self, key: str) -> Item | None:
        """The value under ``key``, unread, or None."""
        if key not in self._asked:
            self._asked.append(key)
        entry = self._entries.get(key)
        if entry is None:
            return None
        return attrs.evolve(self.item, node=entry.node, path=join(self.item.path, key), line=entry.line)

    def take(self, key: str, reader: Reader[T], default: T) -> T:
        """The value under ``key``, or ``default`` if it is absent or unfit."""
        item = self.at(key)
        return default if item is None else item.read(reader, default)

    def need(self, key: str, reader: Reader[T], placeholder: T, why: str = "is required") -> T:
        """Like ``take``, and a mistake if it is absent."""
        if not self.has(key):
            self._asked.append(key)
            self.item.wrong(f"{key} {why}")
        return self.take(key, reader, placeholder)

    def refuse(self, key: str, why: str) -> None:
        """A key that is known, but must not stand here."""
        item = self.at(key)
        if item is not None:
            item.wrong(why)

    def unknown(self) -> list[tuple[Item, str | None]]:
        """What nobody asked for, each with the known key that was probably meant."""
        found = []
        for key in [key for key in self._entries if key not in self._asked]:
            near = _nearest(key, self._asked)
            item = self.at(key)
            assert item is not None
            found.append((item, near))
        return found

    def finish(self) -> None:
        """Report every key that nobody asked for."""
        for item, near in self.unknown():
            if item.context.lenient:
                item.note("unknown key: ignored")
            else:
                item.wrong(f"unknown key; did you mean {near}?" if near else "unknown key")


def fields_of(item: Item) -> Fields:
    """Raises Unfit if the value is no mapping."""
    if not isinstance(item.node, document.Mapping):
        raise Unfit(f"must be a mapping, not {kind_of(item.node)}")
    return Fields(item, {entry.key: entry for entry in item.node.entries})


def _nearest(key: str, known: list[str]) -> str | None:
    folded = {name.lower(): name for name in known}
    plain = key.lower().replace("_", "").replace("-", "")
    near = difflib.get_close_matches(plain, folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def text(item: Item) -> str:
    """Text; numbers and booleans are not."""
    if isinstance(item.node, document.Scalar) and isinstance(item.node.value, str):
        return item.node.value
    hint = "; put it in quotes" if kind_of(item.node) in ("a number", "true or false") else ""
    raise Unfit(f"must be text, not {kind_of(item.node)}{hint}")


def filled_text(item: Item) -> str:
    """Text with something in it."""
    value = text(item)
    if not value.strip():
        raise Unfit("must not be empty")
    return value


def boolean(item: Item) -> bool:
    """True or false."""
    if isinstance(item.node, document.Scalar) and isinstance(item.node.value, bool):
        return item.node.value
    raise Unfit(f"must be true or false, not {kind_of(item.node)}")


def integer(lowest: int, highest: int) -> Reader[int]:
    """A whole number within bounds, both included."""

    def read(item: Item) -> int:
        value = item.node.value if isinstance(item.node, document.Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unfit(f"must be a whole number, not {kind_of(item.node)}")
        if not lowest <= value <= highest:
            raise Unfit(f"must be between {lowest} and {highest}, not {value}")
        return value

    return read


def duration(lowest_s: float = 0.001) -> Reader[float]:
    """A duration with its unit; ``0`` needs none, where it is allowed."""

    def read(item: Item) -> float:
        value = item.node.value if isinstance(item.node, document.Scalar) else None
        seconds = 0.0 if value == 0 and not isinstance(value, bool) else None
        if isinstance(value, str):
            seconds = duration_s(value)
        if seconds is None:
            raise Unfit("must be a duration with its unit, such as 500ms, 5s, 2m or 24h")
        if not lowest_s <= seconds <= MAX_DURATION_S:
            raise Unfit(f"must be {'at least 1ms' if seconds < lowest_s else 'at most 365d'}")
        return seconds

    return read


def size(item: Item) -> int:
    """Bytes, as a number or as text such as ``4MiB``."""
    value = item.node.value if isinstance(item.node, document.Scalar) else None
    number = value if isinstance(value, int) and not isinstance(value, bool) else None
    if isinstance(value, str):
        number = size_bytes(value)
    if number is None:
        raise Unfit("must be a size, such as 256KiB, 4MiB or a plain number of bytes")
    if not 1 <= number <= MAX_SIZE_BYTES:
        raise Unfit("must be between 1 byte and 1024GiB")
    return number


def one_of(choices: Mapping[str, T]) -> Reader[T]:
    """One of a few words."""

    def read(item: Item) -> T:
        value = text(item)
        if value not in choices:
            near = _nearest(value, list(choices))
            hint = f"; did you mean {near}?" if near else ""
            raise Unfit(f"must be one of {', '.join(choices)}{hint}")
        return choices[value]

    return read


def items_of(item: Item) -> tuple[Item, ...]:
    """The items of a list. Raises Unfit if the value is none."""
    if not isinstance(item.node, document.Sequence):
        raise Unfit(f"must be a list, not {kind_of(item.node)}")
    return tuple(
        attrs.evolve(item, node=node, path=f"{item.path}[{index}]", line=node.line)
        for index, node in enumerate(item.node.items)
    )


def list_of(reader: Reader[T], *, unique: bool = False) -> Reader[tuple[T, ...]]:
    """A list whose fit items are kept and whose unfit items are reported one by one."""

    def read(item: Item) -> tuple[T, ...]:
        found: list[T] = []
        for entry in items_of(item):
            value = entry.read(_boxed(reader), None)
            if value is None:
                continue
            if unique and value[0] in found:
                entry.wrong("stands in this list twice")
                continue
            found.append(value[0])
        return tuple(found)

    return read


def _boxed(reader: Reader[T]) -> Reader[tuple[T] | None]:
    return lambda item: (reader(item),)


def map_of(key: Callable[[str], str], reader: Reader[T]) -> Reader[tuple[tuple[str, T], ...]]:
    """A mapping with keys of the user's choice; ``key`` checks and shapes a key, or raises Unfit."""

    def read(item: Item) -> tuple[tuple[str, T], ...]:
        fields = fields_of(item)
        found: list[tuple[str, T]] = []
        for entry, _ in fields.unknown():
            name = entry.path[len(item.path) + 1 :]
            try:
                shaped = key(name)
            except Unfit as unfit:
                entry.wrong(str(unfit))
                continue
            value = entry.read(_boxed(reader), None)
            if value is not None:
                found.append((shaped, value[0]))
        return tuple(found)

    return read
