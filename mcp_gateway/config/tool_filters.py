"""Which tools of a server are shown: our own filter, and those that desktop clients write.

Owns their keys and what they mean. Deliberately matches nothing (``routing.names``).
Invariant: a filter is obeyed as it was meant or refuses its server; it is never ignored,
which would show tools that somebody has hidden.
"""

import re
from typing import Final

from mcp_gateway.config import document
from mcp_gateway.config.schema import Fields, Item, Unfit, fields_of, filled_text, list_of
from mcp_gateway.config.spec import ItemFilter

_SHOWN: Final = ("includeTools", "enabledTools", "allowedTools", "include_tools", "enabled_tools", "allowed_tools")
_HIDDEN: Final = ("excludeTools", "disabledTools", "exclude_tools", "disabled_tools")
_NO_FILTERS: Final = ("autoApprove", "alwaysAllow", "trust")
"""They say for which tools a user is not asked; all are shown."""
_FILTERING: Final = re.compile(
    r"allow|den[iy]|includ|exclud|enabl|disabl|block|filter|hid[de]|forbid|restrict|permit|select|available|only"
    r"|blacklist|whitelist",
    re.IGNORECASE,
)
_NONE: Final = ItemFilter(exclude=("*",))


def own_filter(fields: Fields) -> ItemFilter:
    """``tools: {include: [...], exclude: [...]}``."""
    return fields.take("tools", _globs, ItemFilter())


def desktop_filter(fields: Fields) -> ItemFilter:
    """The same, and the lists of desktop clients: ``tools`` of Copilot, the others of Gemini, Codex and Cline."""
    shown = [key for key in ("tools", *_SHOWN) if fields.has(key)]
    for key in shown[1:]:
        fields.refuse(key, f"{shown[0]} and {key} are two ways to say the same; keep one of them")
    chosen = ItemFilter()
    for key in shown[:1]:
        chosen = fields.take(key, _own_or_names if key == "tools" else _only, chosen)
    hidden = tuple(name for key in _HIDDEN for name in fields.take(key, list_of(_name), ()))
    for key in _NO_FILTERS:
        fields.at(key)
    return ItemFilter(include=chosen.include, exclude=(*chosen.exclude, *hidden))


def is_filter(key: str) -> bool:
    """Whether a key that nobody knows must be taken for a filter of tools."""
    return "tool" in key.lower() and _FILTERING.search(key) is not None


def _globs(item: Item) -> ItemFilter:
    fields = fields_of(item)
    globs = list_of(filled_text)
    spec = ItemFilter(include=fields.take("include", globs, ()), exclude=fields.take("exclude", globs, ()))
    fields.finish()
    return spec


def _own_or_names(item: Item) -> ItemFilter:
    return _only(item) if isinstance(item.node, document.Sequence) else _globs(item)


def _only(item: Item) -> ItemFilter:
    """The named tools alone; an empty list names none."""
    names = list_of(_name)(item)
    return ItemFilter(include=names) if names else _NONE


def _name(item: Item) -> str:
    value = filled_text(item)
    if "(" in value:
        raise Unfit("names arguments too; tools are filtered by their names alone")
    if value.startswith("mcp__"):
        raise Unfit("must be the server's own name of a tool, without mcp__ and the server")
    return value
