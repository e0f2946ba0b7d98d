"""What an exposed name may look like, and how it is made from the backend's own.

Owns the rule "federated name = prefix + upstream name", the checks of names and
the include/exclude globs. Deliberately knows no tables: who owns a name when two
want it is decided in ``routing.build``. Invariant: the same (prefix, name) always
gives the same result.
"""

import re
from fnmatch import fnmatchcase
from typing import Final

from mcp_gateway.config.spec import ItemFilter

MAX_NAME: Final = 128
"""Longer names are dropped: "Tool names SHOULD be between 1 and 128 characters" (MCP 2025-11-25 server/tools)."""
USUAL_NAME: Final = 64
"""Longer names are exposed with a warning: the large model APIs refuse them."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_USUAL: Final = re.compile(r"[A-Za-z0-9_.-]+")


def federated(prefix: str, upstream: str) -> str:
    """The name clients see for ``upstream`` of a backend with this prefix."""
    return prefix + upstream


def has_control(text: str) -> bool:
    """Whether ``text`` holds a C0 or C1 control character, DEL, or half a surrogate pair, which no header can carry."""
    return _CONTROL.search(text) is not None


def fault(name: str) -> str | None:
    """Why a tool or prompt of this name cannot be exposed; None when it can."""
    if not name:
        return "no name"
    if len(name) > MAX_NAME:
        return f"name over {MAX_NAME} characters"
    if has_control(name):
        return "name with control characters"
    return None


def oddity(name: str) -> str | None:
    """Why some clients may refuse a name that is exposed all the same; None when it is a usual one."""
    if len(name) > USUAL_NAME:
        return f"name over {USUAL_NAME} characters: some model APIs refuse it"
    if _USUAL.fullmatch(name) is None:
        return "name outside [A-Za-z0-9_.-]: some model APIs refuse it"
    return None


def passes(upstream: str, chosen: ItemFilter) -> bool:
    """Whether a tool's upstream name passes the globs: in ``include`` (empty: all) and not in ``exclude``."""
    if chosen.include and not any(fnmatchcase(upstream, glob) for glob in chosen.include):
        return False
    return not any(fnmatchcase(upstream, glob) for glob in chosen.exclude)
