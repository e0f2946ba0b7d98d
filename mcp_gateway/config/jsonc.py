"""JSON as a tree, with what desktop clients add to it: comments and trailing commas.

Owns the way from JSON or JSONC text to ``Node``s. Deliberately forgives nothing else
(no single quotes, no bare keys, no ``#``): what is not understood is an error that says
what would be right. Invariants: a text that is JSON gives the values that every JSON reader
gives; a node's line is that of its first character; no message repeats a value.

Spec: RFC 8259; comments and trailing commas as in "JSON with Comments" of Visual Studio Code.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Mapping as Table
from typing import Final

import attrs

from mcp_gateway.config.document import (
    MAX_DEPTH,
    MAX_NODES,
    Entry,
    Mapping,
    Node,
    Scalar,
    Sequence,
    Unparsable,
    join,
    unparsable,
)
from mcp_gateway.errors import ConfigMistake
from mcp_gateway.values import JsonScalar

MAX_NUMBER_CHARS: Final = 100

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_SPACE: Final = re.compile(r"[ \t\r\n]*+")
_LINE_COMMENT: Final = re.compile(r"//[^\r\n]*+")
_SOUND_TEXT: Final = re.compile(r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')
"""A text up to the first character that cannot be in it."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_WORD: Final = re.compile(r'[^ \t\r\n,:\[\]{}"/]++')
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_NAMES: Final[Table[str, JsonScalar]] = {"true": True, "false": False, "null": None}


def parse(text: str) -> tuple[Node, tuple[ConfigMistake, ...]]:
    """Turn a text into its one value.

    Args:
        text: JSON or JSONC without a byte order mark.
    Returns:
        The root, and the mistakes that still left a tree (duplicate keys).
    Raises:
        Unparsable: a syntax error, an empty text, or a bound was reached.
    """
    reader = _Reader(text)
    root = reader.document()
    return root, tuple(reader.mistakes)


@attrs.define
class _Reader:
    """Reads the text once, from left to right."""

    text: str
    mistakes: list[ConfigMistake] = attrs.field(factory=list)
    _at: int = 0
    """The first character that was not read yet."""
    _nodes: int = 0
    _line_starts: list[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._line_starts = [end.end() for end in _LINE_END.finditer(self.text)]

    def document(self) -> Node:
        if not self.next(""):
            raise unparsable(None, "the file is empty")
        root = self.node("", 0)
        if isinstance(root, Scalar) and root.value is None:
            raise unparsable(None, "the file is empty")
        if self.next(""):
            raise self.wrong("", "the document has ended before this; only one value is allowed")
        return root

    # --- values ---

    def node(self, path: str, depth: int) -> Node:
        first, line = self.next(path), self.line()
        if depth > MAX_DEPTH:
            raise unparsable(line, f"nested more than {MAX_DEPTH} deep", path)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise unparsable(line, f"more than {MAX_NODES} values", path)
        if first == "{":
            return self.mapping(path, depth)
        if first == "[":
            return self.sequence(path, depth)
        return Scalar(line=line, value=self.string(path) if first == '"' else self.word(path))

    def mapping(self, path: str, depth: int) -> Mapping:
        line, entries = self.opened(), dict[str, Entry]()
        while self.more("}", line, path):
            if self.next(path) != '"':
                raise self.wrong(path, "a key must be text in double quotes")
            key_line, key = self.line(), self.string(path)
            below = join(path, key)
            if self.next(below) != ":":
                raise self.wrong(below, "a colon must stand between key and value")
            self._at += 1
            node = self.node(below, depth + 1)
            if key in entries:
                what = f"is already set on line {entries[key].line}"
                self.mistakes.append(ConfigMistake(path=below, line=key_line, what=what))
            else:
                entries[key] = Entry(line=key_line, key=key, node=node)
            self.separated("}", below)
        return Mapping(line=line, entries=tuple(entries.values()))

    def sequence(self, path: str, depth: int) -> Sequence:
        line, items = self.opened(), list[Node]()
        while self.more("]", line, path):
            below = f"{path}[{len(items)}]"
            items.append(self.node(below, depth + 1))
            self.separated("]", below)
        return Sequence(line=line, items=tuple(items))

    def opened(self) -> int:
        """Step over the bracket; return its line."""
        line = self.line()
        self._at += 1
        return line

    def more(self, closing: str, line: int, path: str) -> bool:
        """Whether another member begins here; steps over the closing bracket if none does."""
        found = self.next(path)
        if not found:
            opening = "{" if closing == "}" else "["
            raise unparsable(line, f"not valid JSON: this {opening} is never closed", path)
        if found == closing:
            self._at += 1
            return False
        if found == ",":
            raise self.wrong(path, "a value is missing before this comma")
        return True

    def separated(self, closing: str, path: str) -> None:
        """Step over the comma behind a member; the last one needs none."""
        found = self.next(path)
        if found == ",":
            self._at += 1
        elif found and found != closing:
            raise self.wrong(path, f"a comma or {closing} must stand before this")

    def string(self, path: str) -> str:
        sound = _SOUND_TEXT.match(self.text, self._at)
        assert sound is not None  # a quote is there
        stopped_at = sound.end()
        stopped = self.text[stopped_at : stopped_at + 1]
        if stopped != '"':
            raise self.wrong(path, _why_unsound(stopped))
        found = json.loads(f'{sound[0]}"')
        assert isinstance(found, str)
        if _SURROGATE.search(found):
            raise self.wrong(path, "a \\u escape here is half of a surrogate pair")
        self._at = stopped_at + 1
        return found

    def word(self, path: str) -> JsonScalar:
        """A number, or one of three names."""
        found = _WORD.match(self.text, self._at)
        word = found[0] if found is not None else ""
        if word in _NAMES:
            value = _NAMES[word]
        elif len(word) > MAX_NUMBER_CHARS or not _NUMBER.fullmatch(word):
            raise self.wrong(path, _why_no_value(word))
        else:
            value = int(word) if _INTEGER.fullmatch(word) else float(word)
        self._at += len(word)
        return value

    # --- what stands between them ---

    def next(self, path: str) -> str:
        """Step over white space and comments; return the character after them, empty at the end."""
        text = self.text
        while True:
            space = _SPACE.match(text, self._at)
            assert space is not None  # it matches nothing too
            self._at = space.end()
            comment = _LINE_COMMENT.match(text, self._at)
            if comment is not None:
                self._at = comment.end()
            elif text.startswith("/*", self._at):
                end = text.find("*/", self._at + 2)
                if end < 0:
                    raise self.wrong(path, "this comment is never closed")
                self._at = end + 2
            else:
                break
        found = text[self._at : self._at + 1]
        if found == "#":
            raise self.wrong(path, "# begins no comment in JSON; write // instead")
        if found == "\ufeff" or found.isspace():
            raise self.wrong(path, f"only spaces, tabs and line ends may stand here, no U+{ord(found):04X}")
        return found

    def line(self) -> int:
        """The line of the next character, from 1."""
        return bisect_right(self._line_starts, self._at) + 1

    def wrong(self, path: str, what: str) -> Unparsable:
        return unparsable(self.line(), f"not valid JSON: {what}", path)


def _why_unsound(stopped: str) -> str:
    """Why a text cannot go on with this character."""
    match stopped:
        case "\\":
            return "this backslash begins no escape of JSON; one that is meant is written \\\\, as in C:\\\\apps"
        case "" | "\r" | "\n":
            return "this text is not closed on its line"
        case "\t":
            return "a tab in text is written \\t"
        case _:
            return f"a control character in text is written \\u{ord(stopped):04x}"


def _why_no_value(word: str) -> str:
    if len(word) > MAX_NUMBER_CHARS and _NUMBER.fullmatch(word):
        return f"a number of more than {MAX_NUMBER_CHARS} characters; put it in quotes"
    if word.startswith("'"):
        return "text stands in double quotes, not in single ones"
    return "a value must be text in double quotes, a number, true, false, null, { or ["
