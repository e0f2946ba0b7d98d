"""YAML as a tree.

Owns the way from YAML text to ``Node``s: duplicate keys, tags, aliases, several
documents. Deliberately knows no setting by name and reads no JSON (``jsonc``).
Invariant: what looks like a comment of JSON is never taken for a value.

Plain scalars follow YAML 1.2's core schema, not 1.1: ``no`` is text, ``2025-11-25``
is text and ``1:30`` is text; only null, true, false and decimal numbers are more.
"""

import re
from collections.abc import Iterator
from typing import Final

import attrs
import yaml

from mcp_gateway.config.document import (
    MAX_DEPTH,
    MAX_NODES,
    Entry,
    Mapping,
    Node,
    Scalar,
    Sequence,
    join,
    unparsable,
)
from mcp_gateway.errors import ConfigMistake
from mcp_gateway.values import JsonScalar

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where it is built in: 20 times as fast
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_REAL: Final = re.compile(r"[-+]?(?:[0-9]{1,18}\.[0-9]*|\.[0-9]{1,18}|[0-9]{1,18})(?:[eE][-+]?[0-9]{1,2})?")
_STRING_TAG: Final = "tag:yaml.org,2002:str"
_COMMENTS_OF_JSON: Final = ("//", "/*")


def parse(text: str) -> tuple[Node, tuple[ConfigMistake, ...]]:
    """Turn a text into its one document.

    Args:
        text: YAML without a byte order mark.
    Returns:
        The root, and the mistakes that still left a tree (duplicate keys, keys that are no text).
    Raises:
        Unparsable: a syntax error, an empty text, several documents, or a bound was reached.
    """
    composer = _Composer()
    try:
        return composer.document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        # Only ``problem`` is repeated: the snippet of the mark may show a secret.
        line = error.problem_mark.line + 1 if error.problem_mark is not None else None
        raise unparsable(line, f"not valid YAML: {error.problem or 'syntax error'}") from None
    except yaml.YAMLError:
        raise unparsable(None, "not valid YAML: a character that YAML does not allow") from None


def _resolved(value: str) -> JsonScalar:
    if value in _NULLS:
        return None
    if value in _BOOLEANS:
        return _BOOLEANS[value]
    if _INTEGER.fullmatch(value):
        return int(value)
    if _REAL.fullmatch(value):
        return float(value)
    return value


@attrs.define
class _Composer:
    """Builds the tree from parser events, counting as it goes."""

    mistakes: list[ConfigMistake] = attrs.field(factory=list)
    anchors: dict[str, tuple[Node, int]] = attrs.field(factory=dict)
    nodes: int = 0

    def document(self, events: Iterator[yaml.Event]) -> tuple[Node, tuple[ConfigMistake, ...]]:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent | yaml.DocumentEndEvent):
                continue
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise unparsable(_line(event), "a second document begins here; only one is allowed")
                continue
            root = self.node(event, events, path="", depth=0)
        if root is None or (isinstance(root, Scalar) and root.value is None):
            raise unparsable(None, "the file is empty")
        return root, tuple(self.mistakes)

    def node(self, event: yaml.Event, events: Iterator[yaml.Event], path: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise unparsable(_line(event), f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        before = self.nodes
        self.count(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            node: Node = self.scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            self.refuse_tag(event.tag, event, path)
            node = self.sequence(event, events, path, depth)
        else:
            assert isinstance(event, yaml.MappingStartEvent)
            self.refuse_tag(event.tag, event, path)
            node = self.mapping(event, events, path, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, self.nodes - before)
        return node

    def alias(self, event: yaml.AliasEvent) -> Node:
        # An anchor is known only once its value is complete, so nothing can contain itself.
        known = self.anchors.get(event.anchor or "")
        if known is None:
            raise unparsable(_line(event), f"alias *{event.anchor} has no complete anchor before it")
        self.count(event, known[1])
        return known[0]

    def count(self, event: yaml.Event, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise unparsable(_line(event), f"more than {MAX_NODES} values (aliases count each time they are used)")

    def scalar(self, event: yaml.ScalarEvent, path: str) -> Scalar:
        plain = event.implicit[0] and event.tag is None
        if plain and event.value.startswith(_COMMENTS_OF_JSON):
            # Taken as a value, what was commented out would be in force.
            self.wrong(event, path, "// and /* begin no comment in YAML; write # instead, or quotes if it is a value")
        if not plain and event.tag not in (None, "!", _STRING_TAG):
            self.refuse_tag(event.tag, event, path)
        return Scalar(line=_line(event), value=_resolved(event.value) if plain else event.value)

    def sequence(self, event: yaml.SequenceStartEvent, events: Iterator[yaml.Event], path: str, depth: int) -> Sequence:
        items: list[Node] = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(self.node(item, events, f"{path}[{len(items)}]", depth + 1))
        return Sequence(line=_line(event), items=tuple(items))

    def mapping(self, event: yaml.MappingStartEvent, events: Iterator[yaml.Event], path: str, depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        while not isinstance(at := next(events), yaml.MappingEndEvent):
            name = at.value if isinstance(at, yaml.ScalarEvent) else None  # as written: ``on`` and ``1`` are names too
            below = join(path, name or "?")
            self.node(at, events, below, depth + 1)
            node = self.node(next(events), events, below, depth + 1)
            if name is None:
                self.wrong(at, path, "a key must be text")
            elif name == "<<":
                self.wrong(at, path, "merge keys (<<) are not supported; use an alias for the whole value")
            elif name in entries:
                self.wrong(at, below, f"is already set on line {entries[name].line}")
            else:
                entries[name] = Entry(line=_line(at), key=name, node=node)
        return Mapping(line=_line(event), entries=tuple(entries.values()))

    def refuse_tag(self, tag: str | None, event: yaml.Event, path: str) -> None:
        if tag is not None:
            self.wrong(event, path, "tags (!) are not supported")

    def wrong(self, event: yaml.Event, path: str, what: str) -> None:
        self.mistakes.append(ConfigMistake(path=path, line=_line(event), what=what))


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    assert mark is not None  # both parsers mark every event
    return int(mark.line) + 1
