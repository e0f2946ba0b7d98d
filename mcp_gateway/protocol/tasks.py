"""Tasks in messages: where their ids stand, and what a server says of one.

Owns both designs' places: the tasks of 2025-11-25 and the tasks extension of 2026-07-28.
Deliberately knows neither whose a task is nor what an id means (``sessions.task_ids``
does). Pure. Invariant: what is not a task's id keeps its bytes.

Spec: MCP 2025-11-25 basic/utilities/tasks; SEP-2663.
"""

import re
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from mcp_gateway.protocol import content, json_text, splice
from mcp_gateway.protocol.eras import Era
from mcp_gateway.protocol.splice import REMOVE, Edits
from mcp_gateway.values import JsonObject, JsonValue

EXTENSION: Final = "io.modelcontextprotocol/tasks"
RELATED: Final = "io.modelcontextprotocol/related-task"
STATUS_2025: Final = "notifications/tasks/status"
FINAL: Final = frozenset({"completed", "failed", "cancelled"})
CREATED: Final = b'"task"'
"""The ``resultType`` of a task that a 2026 server has begun."""
OFFERED: Final = f"extensions.{EXTENSION}"
"""The ability of a 2026 server that has the extension."""
CALLS: Final = "tasks.call"
CANCELS: Final = "tasks.cancel"
NOT_BRIDGED: Final = (
    "this tool runs as a task of protocol version 2025-11-25 only: tasks are not bridged, so a client of another "
    "version cannot call it"
)
NOT_BRIDGED_BACK: Final = (
    "this tool runs as a task of protocol version 2026-07-28 only: tasks are not bridged, so a client of an older "
    "version cannot call it"
)
REQUIRED: Final[JsonObject] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
"""What a client lacks that asks for a task and does not declare the extension."""

MapId: TypeAlias = Callable[[str], str | None]
"""From one side's id of a task to the other's; None: it is none that this side may know of."""

_TOKEN: Final = "task:"
"""Begins the progress token of a call that may become a task: it is good for as long as the task is, longer than the
request whose id is the token of every other call. That id and the client's own token, as raw JSON, follow."""
_TOKEN_FORM: Final = re.compile(r'task:([1-9][0-9]{0,17}):("(?:[^"\\]|\\.)*+"|-?[0-9]{1,32})')
_ABOUT_ONE: Final = frozenset({"tasks/get", "tasks/cancel"})
_RELATED: Final = RELATED.encode()


@attrs.frozen(kw_only=True)
class Told:
    """What a server says of one task."""

    id: str
    """The server's own."""
    status: str
    ttl_s: float | None
    """From its creation; None: as long as the server likes."""
    raw: bytes = attrs.field(repr=False)
    """The whole object."""

    @property
    def final(self) -> bool:
        """Whether it can change no more."""
        return self.status in FINAL


def abilities(capabilities: JsonObject) -> frozenset[str]:
    """What a 2025-11-25 server says that it can do: ``CALLS``, and with it ``CANCELS``."""

    def holds(*path: str) -> bool:
        value: JsonValue = capabilities
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return isinstance(value, dict)

    if not holds("tasks", "requests", "tools", "call"):
        return frozenset()
    return frozenset({CALLS, CANCELS} if holds("tasks", "cancel") else {CALLS})


def capability(*, cancels: bool) -> JsonObject:
    """What a 2025-11-25 client is told that it may do."""
    call: JsonObject = {"tools": {"call": {}}}
    return {"list": {}, **({"cancel": {}} if cancels else {}), "requests": call}


def demanded(error: bytes) -> bool:
    """Whether a 2026 server's -32021 says that the client must have tasks."""
    return splice.value_at(error, ("data", "requiredCapabilities", "extensions", EXTENSION)) is not None


def told(raw: bytes) -> Told | None:
    """What a Task object says, of either revision; None: it is none."""
    value = json_text.parse(raw) if raw.startswith(b"{") and len(raw) <= json_text.MAX_PARSED_BYTES else None
    if not isinstance(value, dict):
        return None
    task_id, status = value.get("taskId"), value.get("status")
    if not isinstance(task_id, str) or not isinstance(status, str):
        return None
    ttl_ms = value.get("ttl", value.get("ttlMs"))
    number = isinstance(ttl_ms, int | float) and not isinstance(ttl_ms, bool)
    return Told(id=task_id, status=status, ttl_s=max(float(ttl_ms), 0.0) / 1000 if number else None, raw=raw)  # type: ignore[arg-type]  # a number


def in_result(method: str, result: bytes, backend: Era) -> Told | None:
    """The task that a result is about; None: it says nothing of one, or nothing new."""
    path = _places(method, result, backend)
    if path is None:
        return None
    held = result if len(path) == 1 else splice.value_at(result, path[:-1])
    return None if held is None else told(held)


def outward(method: str, result: bytes, backend: Era, map_id: MapId) -> bytes:
    """A result with its client's ids.

    Raises:
        MalformedMessage: a member on the way to an id is there twice.
    """
    path = _places(method, result, backend)
    if path is not None:
        result = mapped(result, path, map_id)
    return related(result, map_id)


def related(raw: bytes, map_id: MapId, *outer: str) -> bytes:
    """What is related to a task, with the other side's id of it; of a task that this side may not know of, nothing.

    Args:
        outer: the way to the object that holds ``_meta``.
    Raises:
        MalformedMessage: a member on the way is there twice.
    """
    return mapped(raw, (*outer, "_meta", RELATED, "taskId"), map_id) if content.mentions(raw, _RELATED) else raw


def mapped(raw: bytes, path: tuple[str, ...], map_id: MapId) -> bytes:
    """``raw`` with the id at ``path`` mapped; the object that holds one that has no other goes."""
    held = splice.value_at(raw, path)
    value = None if held is None else json_text.parse(held)
    if not isinstance(value, str):
        return raw
    other = map_id(value)
    return splice.rewrite(raw, _at(path[:-1], REMOVE) if other is None else _at(path, splice.quoted(other)))


def progress_token(client_token: bytes, upstream_id: int) -> bytes:
    """The token that a call which may become a task goes up with, for the client's own raw one."""
    return splice.quoted(f"{_TOKEN}{upstream_id}:{client_token.decode()}")


def clients_token(token: JsonValue) -> bytes | None:
    """The client's own raw token of such a call; None: the token is of another kind."""
    form = _form(token)
    try:
        return None if form is None else form[2].encode()
    except UnicodeEncodeError:  # a lone surrogate, which no token of ours has
        return None


def request_of(token: JsonValue) -> int | None:
    """The upstream id of such a call; None: the token is of another kind."""
    form = _form(token)
    return None if form is None else int(form[1])


def _form(token: JsonValue) -> "re.Match[str] | None":
    if not isinstance(token, str) or not token.startswith(_TOKEN):
        return None
    return _TOKEN_FORM.fullmatch(token)


def _places(method: str, result: bytes, backend: Era) -> tuple[str, ...] | None:
    """Where a result names the task that it is about."""
    if method in _ABOUT_ONE:
        return ("taskId",)
    if method != "tools/call" or not content.mentions(result, b"task"):
        return None
    if not backend.modern:
        return ("task", "taskId")
    return ("taskId",) if splice.value_at(result, ("resultType",)) == CREATED else None


def _at(path: tuple[str, ...], edit: "bytes | splice.Remove") -> Edits:
    edits: Edits = {path[-1]: edit}
    for step in reversed(path[:-1]):
        edits = {step: edits}
    return edits
