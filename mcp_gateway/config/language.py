"""Which language a configuration text is written in.

Owns that choice alone; ``jsonc`` and ``yaml_text`` read. Invariant: what a person sees as
JSON is never read by the rules of YAML, in which a comment of JSON is a value and a
back-slash means other things.
"""

import re
from pathlib import PurePath
from typing import Final

import attrs

from mcp_gateway.config import jsonc, yaml_text
from mcp_gateway.config.document import Node, Unparsable
from mcp_gateway.errors import ConfigMistake

_BYTE_ORDER_MARK: Final = "\ufeff"
_JSON_SUFFIXES: Final = frozenset({".json", ".jsonc"})
_BEFORE_THE_VALUE: Final = re.compile(r"(?:[\s\ufeff]++|(?://|\#)[^\r\n]*+|/\*(?s:.*?)\*/)*+")
"""White space and comments of either language; generously, so that what is neither is refused by the JSON reader."""


def parse(text: str, name: str) -> tuple[Node, tuple[ConfigMistake, ...]]:
    """Turn a text into its one document.

    Args:
        text: YAML, JSON or JSONC; a byte order mark is skipped.
        name: of the file; ``.json`` and ``.jsonc`` are JSON, whatever stands in them.
    Returns:
        The root, and the mistakes that still left a tree.
    Raises:
        Unparsable: a syntax error, an empty text, or a bound was reached.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    named, begun = PurePath(name).suffix.lower() in _JSON_SUFFIXES, _begins_as_json(text)
    if not named and not begun:
        return yaml_text.parse(text)
    try:
        return jsonc.parse(text)
    except Unparsable as refused:
        if named and begun:
            raise
        why = "the name of the file says JSON" if named else "a file that begins with { is read as JSON"
        what = f"{refused.mistake.what} ({why})"
        raise Unparsable(mistake=attrs.evolve(refused.mistake, what=what)) from None


def _begins_as_json(text: str) -> bool:
    before = _BEFORE_THE_VALUE.match(text)
    assert before is not None  # it matches nothing too
    return text.startswith("{", before.end())
