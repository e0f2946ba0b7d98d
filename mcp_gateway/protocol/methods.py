"""Which client requests exist in which protocol revision.

Owns the table of methods (``schema.ts`` of each revision). Deliberately
says nothing about what the gateway does with a method. Invariant: a method that
is not in an era's row is unknown to its clients.
"""

from typing import Final

from mcp_gateway.protocol.eras import Era, Family

_COMMON: Final = frozenset(
    {
        "tools/list",
        "tools/call",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "completion/complete",
    }
)
SERVER_REQUESTS: Final = frozenset({"sampling/createMessage", "elicitation/create", "roots/list"})
"""What servers ask clients, beside ``ping``."""
EXTENSION_TASKS: Final = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
"""Of the tasks extension of 2026-07-28."""
_BY_FAMILY: Final = {
    Family.LEGACY: _COMMON | {"initialize", "ping", "resources/subscribe", "resources/unsubscribe", "logging/setLevel"},
    Family.MODERN: _COMMON | EXTENSION_TASKS | {"server/discover", "subscriptions/listen"},
}
CORE_REQUESTS: Final = _BY_FAMILY[Family.LEGACY] | _BY_FAMILY[Family.MODERN] | SERVER_REQUESTS
"""Every request that some revision's core has, in either direction."""
CORE_NOTIFICATIONS: Final = frozenset(
    f"notifications/{name}"
    for name in (
        *("initialized", "cancelled", "progress", "message", "roots/list_changed", "elicitation/complete"),
        *("tools/list_changed", "prompts/list_changed", "resources/list_changed", "resources/updated"),
        *("subscriptions/acknowledged", "tasks", "tasks/status"),
    )
)
"""The same for notifications."""
TASK_METHODS: Final = frozenset({"tasks/get", "tasks/result", "tasks/cancel", "tasks/list"})
"""Of 2025-11-25, the only revision whose core has tasks. In 2026-07-28 an extension has: its methods are reserved."""
LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""RFC 5424 severities, least severe first (MCP server/utilities/logging)."""


_NAMED_BY: Final = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    **dict.fromkeys(EXTENSION_TASKS, "taskId"),
}


def known(method: str, era: Era) -> bool:
    """Whether a client may send this request in this revision."""
    return method in _BY_FAMILY[era.family] or (era.tasks and method in TASK_METHODS)


def named_by(method: str) -> str | None:
    """The member of ``params`` that names what the request is about and that ``Mcp-Name`` mirrors.

    Spec: MCP 2026-07-28 basic/transports/streamable-http, Standard Headers; SEP-2663, Routing Headers.
    """
    return _NAMED_BY.get(method)


def level_at_least(level: str, wanted: str) -> bool:
    """Whether a log message of ``level`` passes a threshold; unknown levels always do."""
    if level not in LOG_LEVELS or wanted not in LOG_LEVELS:
        return True
    return LOG_LEVELS.index(level) >= LOG_LEVELS.index(wanted)
