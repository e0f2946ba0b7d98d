"""Extensions: what is beyond the core of every revision.

Owns which methods and notifications are nobody's but an extension's, and which
extensions two peers have agreed on. Deliberately knows no extension's content. Pure.
Invariant: a method that any revision's core has, or has reserved, is never custom:
what a revision took away does not come back by this door.

Spec: MCP 2026-07-28 basic/index, extensions overview; SEP-2663, "Reservations".
"""

import re
from typing import Final

from mcp_gateway.protocol.methods import CORE_NOTIFICATIONS, CORE_REQUESTS
from mcp_gateway.values import JsonObject

AUTHORIZATION: Final = frozenset(
    {"io.modelcontextprotocol/oauth-client-credentials", "io.modelcontextprotocol/enterprise-managed-authorization"}
)
"""Of one hop: a client's way to get a token for the gateway says nothing of how the gateway gets one."""

_RESERVED: Final = ("tasks/", "notifications/tasks/", "rpc.")
"""Of the tasks extension, and of JSON-RPC itself."""
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
