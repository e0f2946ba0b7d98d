"""A configuration text as a tree of values that know their line.

Owns the ``Node``s, their bounds and the error of a text that is no tree. Deliberately
reads nothing: ``yaml_text`` and ``jsonc`` do. Invariant: a tree holds at most
``MAX_NODES`` values, aliases counted as often as they are used, and is at most
``MAX_DEPTH`` deep; so walking it is always cheap.
"""

from typing import Final, TypeAlias

import attrs

from mcp_gateway.errors import ConfigMistake
from mcp_gateway.values import JsonScalar

MAX_DEPTH: Final = 32
MAX_NODES: Final = 50_000


@attrs.frozen(kw_only=True)
class Scalar:
    """Text, a number, a boolean or nothing."""

    line: int
    value: JsonScalar = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Sequence:
    """A list."""

    line: int
    items: "tuple[Node, ...]"


@attrs.frozen(kw_only=True)
class Entry:
    """One ``key: value``; ``line`` is the key's."""

    line: int
    key: str
    node: "Node"


@attrs.frozen(kw_only=True)
class Mapping:
    """Members by name."""

    line: int
    entries: tuple[Entry, ...]


Node: TypeAlias = Scalar | Sequence | Mapping


@attrs.frozen(kw_only=True, eq=False)
class Unparsable(Exception):
    """The text is no document at all, so nothing more can be said about it."""

    mistake: ConfigMistake


def unparsable(line: int | None, what: str, path: str = "") -> Unparsable:
    """What to raise for a text that is no tree."""
    return Unparsable(mistake=ConfigMistake(path=path, line=line, what=what))


def join(path: str, key: str) -> str:
    """The path of a key inside a mapping."""
    return f"{path}.{key}" if path else key
