"""Fitting items and results to the client's revision.

Owns what versions of one family have and others have not. Deliberately does not
bridge the families (``translate``). Invariant: the newest client gets every byte
of an item; nobody gets a value his revision forbids.

Spec: reference table 1.10 "Feature by version" and section 2, row "schemas".
"""

from typing import Final

from mcp_gateway.protocol import content, json_text, splice
from mcp_gateway.protocol.content import Changes, MapUri
from mcp_gateway.protocol.eras import Era
from mcp_gateway.protocol.outline import outline
from mcp_gateway.values import JsonObject, JsonValue

_TOOLS: Final = "tools"
_STRUCTURED: Final = "structuredContent"


def shape_item(kind_member: str, raw: bytes, client: Era) -> bytes:
    """One listed item as a client of this era may see it.

    Args:
        kind_member: the member of the list result that holds it (``tools``, ``prompts``, ...).
        raw: the item under its federated name.
    """
    dropped: list[str] = []
    if not client.titles:
        dropped.append("title")
    if not client.icons:
        dropped.append("icons")
    if kind_member == _TOOLS:
        dropped += [] if client.icons else ["execution"]
        dropped += _schema_to_drop(raw, client)
    present = [member for member in dropped if content.mentions(raw, member.encode())]
    return splice.rewrite(raw, dict.fromkeys(present, splice.REMOVE)) if present else raw


def _schema_to_drop(raw: bytes, client: Era) -> list[str]:
    if client.structured_any or not content.mentions(raw, b"outputSchema"):
        return []
    schema = splice.value_at(raw, ("outputSchema",))
    if schema is None:
        return []
    # 2025-06-18 and 2025-11-25: "outputSchema?: { type: "object"; ... }" (schema.ts)
    value = json_text.parse(schema) if client.structured else None
    return [] if isinstance(value, dict) and value.get("type") == "object" else ["outputSchema"]


def result_changes(method: str, raw: bytes, *, client: Era, backend: Era, map_uri: MapUri | None) -> Changes:
    """The edits that fit a result to the client and map its URIs; empty when nothing need change.

    A result whose outline is too large passes as it is: parsing is loop time.
    """
    strict = (
        method == "tools/call" and _judges_structure(client, backend) and content.mentions(raw, _STRUCTURED.encode())
    )
    if not (strict or content.concerns(raw, client, map_uri)):
        return {}
    value = outline(raw)
    if not isinstance(value, dict):
        return {}
    changes = content.result_changes(method, value, client, map_uri)
    if strict:
        _fit_structure(changes, value, raw, client)
    return changes


def _judges_structure(client: Era, backend: Era) -> bool:
    return not client.structured or (backend.structured_any and not client.structured_any)


def _fit_structure(changes: Changes, value: JsonObject, raw: bytes, client: Era) -> None:
    """Structured content that this client cannot take goes; if nothing else was said, it becomes text."""
    found: JsonValue = value.get(_STRUCTURED)
    if _STRUCTURED not in value or (client.structured and isinstance(found, dict)):
        return
    changes[_STRUCTURED] = splice.REMOVE
    if value.get("content") in (None, []):
        said = splice.value_at(raw, (_STRUCTURED,)) or b"null"
        changes["content"] = b"[%b]" % content.text_block(said.decode())
