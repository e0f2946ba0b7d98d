"""Extensions: what is beyond the core of every revision.

Owns which methods and notifications are nobody's but an extension's, and which
extensions two peers have agreed on. Deliberately knows no extension's content. Pure.
Invariant: a method that any revision's core has, or has reserved, is never custom:
what a revision took away does not come back by this door.

Spec: MCP 2026-07-28 basic/index, extensions overview; SEP-2663, "Reservations".
"""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Final

import attrs

from mcp_gateway.protocol.methods import CORE_NOTIFICATIONS, CORE_REQUESTS
from mcp_gateway.values import JsonObject, JsonValue

AUTHORIZATION: Final = frozenset(
    {"io.modelcontextprotocol/oauth-client-credentials", "io.modelcontextprotocol/enterprise-managed-authorization"}
)
"""Of one hop: a client's way to get a token for the gateway says nothing of how the gateway gets one."""

MEMBERS: Final = ("extensions", "experimental")
"""Of capabilities: what a server has beyond the core, by id, with the settings of each."""
MAX_OFFERS: Final = 64
"""Of one server in each of ``MEMBERS``."""
MAX_ID: Final = 256
MAX_SETTINGS: Final = 4 * 2**10
"""Characters of the settings of one id, and what punctuates them."""

_RESERVED: Final = ("tasks/", "notifications/tasks/", "rpc.")
"""Of the tasks extension, and of JSON-RPC itself."""
_SHOWN: Final = 64
_METHOD: Final = re.compile(r"[!-~]{1,128}")
"""It becomes a header and a word in logs."""


def is_custom(method: str) -> bool:
    """Whether a request of a client is one that no revision's core has."""
    known = method in CORE_REQUESTS or method.startswith((*_RESERVED, "notifications/"))
    return not known and _METHOD.fullmatch(method) is not None


def is_custom_notification(method: str) -> bool:
    """The same for a notification, in either direction."""
    known = method in CORE_NOTIFICATIONS or method.startswith(_RESERVED)
    return not known and _METHOD.fullmatch(method) is not None


def declared(capabilities: JsonObject) -> frozenset[str]:
    """The extensions that a client or a server declares, but those of authorization."""
    found = capabilities.get("extensions")
    return frozenset(found) - AUTHORIZATION if isinstance(found, dict) else frozenset()


@attrs.frozen(kw_only=True)
class Offers:
    """What a server has beyond the core, as it is to be advertised."""

    settings: Mapping[str, Mapping[str, JsonObject]]
    """For each of ``MEMBERS``: by id, in the server's order."""
    dropped: tuple[str, ...] = ()
    """Why what else it declares is not advertised."""


def offered(capabilities: JsonObject, *, besides: frozenset[str] = frozenset()) -> Offers:
    """What of a server's ``extensions`` and ``experimental`` can be advertised for it; authorization never is.

    Args:
        besides: ids that mean nothing in the server's revision.
    Spec: both are objects of objects (MCP 2026-07-28 schema, ServerCapabilities).
    """
    settings: dict[str, dict[str, JsonObject]] = {}
    dropped: list[str] = []
    for member in MEMBERS:
        found = capabilities.get(member)
        kept = settings[member] = {}
        if found is None:
            continue
        if not isinstance(found, dict):
            dropped.append(f"capabilities.{member} is not an object")
            continue
        for name, value in islice(found.items(), 2 * MAX_OFFERS):
            fault = _fault(name, value, len(kept))
            if fault:
                dropped.append(f"capabilities.{member}: {name[:_SHOWN]!r} {fault}")
            elif isinstance(value, dict) and name not in AUTHORIZATION | besides:
                kept[name] = value
    return Offers(settings=settings, dropped=tuple(dropped[:MAX_OFFERS]))


def _fault(name: str, value: JsonValue, before: int) -> str:
    """Why one id cannot be advertised; empty: it can."""
    if not name or len(name) > MAX_ID or not name.isprintable():
        return f"is no id of 1 to {MAX_ID} visible characters"
    if not isinstance(value, dict):
        return "is not an object"
    if _is_over(value, MAX_SETTINGS):
        return f"is over {MAX_SETTINGS} characters"
    return f"is one of more than {MAX_OFFERS}" if before >= MAX_OFFERS else ""


def _is_over(value: JsonValue, room: int) -> bool:
    """Whether JSON is longer than ``room`` characters or so; no more of it is looked at."""
    rest: list[JsonValue] = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            keys = [key for key, _ in islice(one.items(), room)]
            room -= sum(map(len, keys)) + 4 * len(keys)
            rest += islice(one.values(), max(room, 0))
        elif isinstance(one, list):
            rest += islice(one, room)
        room -= len(one) + 2 if isinstance(one, str) else 2
        if room < 0:
            return True
    return False
