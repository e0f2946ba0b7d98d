"""The reader without a fast way: every message parsed whole, then scanned and spliced.

What ``jsonrpc.read``, ``Members`` and ``translate`` do in one pass is held to this. Deliberately slow and plain.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

from mcp_gateway.errors import MalformedMessage, RemoteFault
from mcp_gateway.protocol import content, json_text, splice
from mcp_gateway.protocol.envelope import (
    META_CAPABILITIES,
    META_CLIENT_INFO,
    META_LOG_LEVEL,
    META_SERVER_INFO,
    META_VERSION,
)
from mcp_gateway.protocol.eras import Era
from mcp_gateway.protocol.splice import REMOVE, Edits
from mcp_gateway.protocol.translate import MetaEdits
from mcp_gateway.values import JsonObject

Verdict: TypeAlias = tuple[object, ...]
"""Of what is refused the code and the reason; of a call its id (raw, too), method and params."""

GUARDED: Final = ("jsonrpc", "id", "method", "params", "result", "error")
GUARDED_PARAMS: Final = (
    *("name", "uri", "taskId", "cursor", "_meta", "requestState", "arguments", "inputResponses", "ref", "level"),
    *("protocolVersion", "capabilities", "clientInfo"),
)
GUARDED_META: Final = ("progressToken", META_VERSION, META_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL)


def verdict(raw: bytes) -> Verdict:
    """What a message is, as the standard tells it."""
    try:
        value = json_text.parse(raw)
        if not isinstance(value, dict):
            what = "a batch is not accepted here" if isinstance(value, list) else "not a JSON-RPC message"
            return (-32600, what)
        _refuse_second_members(raw, value)
        return _told(raw, value)
    except MalformedMessage as fault:
        return (fault.code, fault.what)


def _told(raw: bytes, value: JsonObject) -> Verdict:
    if value.get("jsonrpc") != "2.0":
        return (-32600, '"jsonrpc" must be "2.0"')
    id_value, id_raw = value.get("id"), splice.value_at(raw, ("id",))
    good_id = id_value is None or isinstance(id_value, str) or type(id_value) is int
    if "method" not in value:
        return ("response",)
    if "result" in value or "error" in value:
        return (-32600, "a message with a method has no result and no error")
    if not isinstance(value["method"], str):
        return (-32600, '"method" must be a string')
    params = value.get("params", {})
    if not isinstance(params, dict):
        return (-32600, '"params" must be an object')
    if "id" not in value:
        return ("notification", value["method"], params)
    if not good_id:
        return (-32600, '"id" must be a string or an integer')
    if id_value is None:
        return (-32600, '"id" must not be null')
    return ("request", id_value, id_raw, value["method"], params)


def _refuse_second_members(raw: bytes, value: JsonObject) -> None:
    top = splice.members(raw)
    _once(top, GUARDED)
    params, params_value = top.find("params"), value.get("params")
    if params is None or not isinstance(params_value, dict):
        return
    inside = splice.members(raw, params.value_start)
    _once(inside, GUARDED_PARAMS)
    meta = inside.find("_meta")
    if meta is not None and isinstance(params_value["_meta"], dict):
        _once(splice.members(raw, meta.value_start), GUARDED_META)


def _once(members: Iterable[splice.Member], guarded: Iterable[str]) -> None:
    seen: set[str] = set()
    for member in members:
        if member.key in seen:
            raise MalformedMessage(what=f"duplicate member {member.key!r}", code=-32600)
        if member.key in guarded:
            seen.add(member.key)


def request(raw: bytes, id_raw: bytes, *, client: Era, backend: Era, edits: Edits, meta: MetaEdits) -> bytes:
    """The request for a backend, spliced."""
    params = splice.value_at(raw, ("params",)) or b"{}"
    changes: content.Changes = {}
    found = splice.members(params)
    if not (client.modern and backend.modern):
        foreign = ("task", "inputResponses", "requestState")
        changes.update({key: REMOVE for key in foreign if found.find(key) is not None})
    changes.update(edits)
    modern = backend.modern
    hop: dict[str, bytes | None] = {
        "progressToken": meta.progress_token,
        META_VERSION: splice.quoted(backend.version) if modern else None,
        META_CAPABILITIES: meta.capabilities if modern else None,
        META_CLIENT_INFO: meta.client_info if modern else None,
        META_LOG_LEVEL: splice.quoted(meta.log_level) if modern and meta.log_level is not None else None,
    }
    edit = _meta_edit(splice.value_at(params, ("_meta",)), hop)
    if edit is not None:
        changes["_meta"] = edit
    return splice.rewrite(raw, {"id": id_raw, "params": splice.rewrite(params, changes)})


def _meta_edit(held: bytes | None, wanted: dict[str, bytes | None]) -> "bytes | splice.Remove | Edits | None":
    made: content.Changes = {key: value for key, value in wanted.items() if value is not None}
    if held is None or not held.startswith(b"{"):
        whole = splice.rewrite(b"{}", made)
        return whole if made else None if held is None else REMOVE
    present = {member.key for member in splice.members(held)}
    return {**made, **{key: REMOVE for key in wanted if key in present and key not in made}} or None


def stamped(result: bytes, server_info: bytes) -> bytes:
    """A 2026 server's complete result for a 2026 client: our name in place of its own."""
    edit = _meta_edit(splice.value_at(result, ("_meta",)), {META_SERVER_INFO: server_info})
    assert edit is not None
    complete: content.Changes = {}
    kind = splice.value_at(result, ("resultType",))
    if kind in (None, b"null"):
        complete["resultType"] = b'"complete"'
    elif kind != b'"complete"':
        raise RemoteFault(what="another type")
    return splice.rewrite(result, {**complete, "_meta": edit})
