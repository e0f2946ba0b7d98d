"""Content blocks: where URIs stand in them, and what older clients cannot read.

Owns the walk over ``content``, ``contents`` and ``messages``, in results, in questions and in
the answers to them, as edits for ``splice``.
Deliberately edits nothing itself and touches no structured content. Invariant: a
block of a type not named here, and every member not named here, is left alone.
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from mcp_gateway.protocol import json_text, splice
from mcp_gateway.protocol.eras import NEWEST_MODERN, Era
from mcp_gateway.values import JsonObject, JsonValue

MapUri: TypeAlias = Callable[[str], str]
"""From a backend's own URI to the one that clients use; in answers of clients the way back."""
Changes: TypeAlias = "dict[str | int, bytes | splice.Remove | splice.Edits]"

_Edit: TypeAlias = "bytes | splice.Edits | None"

FLAT_LINK: Final = "ui/resourceUri"
"""How the first draft of MCP Apps named a tool's page in ``_meta``."""
_KEPT: Final = frozenset({"annotations", "_meta"})
_ESCAPED_ASCII: Final = b"\\u00"
"""A member or type may be spelled with escapes; then nobody can tell without parsing."""


def mentions(raw: bytes, *words: bytes) -> bool:
    """Whether one of the words may be a member name or type in ``raw``; False is certain."""
    return any(b'"%b"' % word in raw for word in words) or _ESCAPED_ASCII in raw


def concerns(raw: bytes, client: Era, map_uri: MapUri | None) -> bool:
    """Whether the walk could change anything; False is certain and costs no parsing."""
    if map_uri is not None and mentions(raw, b"uri", b"resourceUri", FLAT_LINK.encode()):
        return True
    if not client.resource_links and mentions(raw, b"resource_link"):
        return True
    return not client.audio and mentions(raw, b"audio")


def result_changes(method: str, result: JsonObject, client: Era, map_uri: MapUri | None) -> Changes:
    """The edits of one result.

    Args:
        result: as parsed; unexpected shapes are left alone.
        client: blocks its era does not know become text.
        map_uri: None leaves URIs as they are.
    """
    changes: Changes = {}
    match method:
        case "tools/call":
            _put(changes, "content", _blocks(result.get("content"), client, map_uri))
        case "prompts/get":
            _put(changes, "messages", _messages(result.get("messages"), client, map_uri))
        case "resources/read":
            contents = result.get("contents")
            parts = enumerate(contents if isinstance(contents, list) else ())
            _put(changes, "contents", _kept((index, _uri(part, map_uri)) for index, part in parts))
        case "tasks/get":  # of 2026: what the call would have returned, or what its server wants to know
            inner = result.get("result")
            if isinstance(inner, dict):
                _put(changes, "result", result_changes("tools/call", inner, client, map_uri))
            _put(changes, "inputRequests", _requests(result.get("inputRequests"), client, map_uri))
        case _:
            pass
    if result.get("resultType") == "input_required":
        _put(changes, "inputRequests", _requests(result.get("inputRequests"), client, map_uri))
    _put(changes, "_meta", _link(result.get("_meta"), map_uri))
    return changes


def question_changes(method: str, params: JsonObject, client: Era, map_uri: MapUri | None) -> Changes:
    """The edits of the params of a question: of its metadata, and of the messages to be sampled."""
    changes: Changes = {}
    if method == "sampling/createMessage":
        _put(changes, "messages", _messages(params.get("messages"), client, map_uri))
    _put(changes, "_meta", _link(params.get("_meta"), map_uri))
    return changes


def answer_changes(answer: JsonValue, map_uri: MapUri) -> Changes:
    """The edits of a client's answer to a question. Which kind it answers is seen from its members.

    Only a sampled message has content blocks: the content of an elicitation is its form, and roots are the client's.
    """
    changes: Changes = {}
    if isinstance(answer, dict):
        if "role" in answer:
            _put(changes, "content", _one_or_many(answer.get("content"), NEWEST_MODERN, map_uri))
        _put(changes, "_meta", _link(answer.get("_meta"), map_uri))
    return changes


def text_block(text: str, block: JsonObject | None = None) -> bytes:
    """A text block that stands for ``block`` and keeps its annotations."""
    made: JsonObject = {"type": "text", "text": text}
    for key, value in block.items() if block is not None else ():
        if key in _KEPT:
            made[key] = value
    return json_text.dumps(made)


def _put(changes: Changes, key: str, edit: _Edit) -> None:
    if edit:
        changes[key] = edit


def _kept(edits: Iterable[tuple[int, _Edit]]) -> splice.Edits:
    return {index: edit for index, edit in edits if edit}


def _messages(messages: JsonValue, client: Era, map_uri: MapUri | None) -> splice.Edits:
    if not isinstance(messages, list):
        return {}
    found: list[tuple[int, _Edit]] = []
    for index, message in enumerate(messages):
        edit = _one_or_many(message.get("content") if isinstance(message, dict) else None, client, map_uri)
        found.append((index, {"content": edit} if edit else None))
    return _kept(found)


def _requests(requests: JsonValue, client: Era, map_uri: MapUri | None) -> splice.Edits:
    """The questions of an interim result."""
    changes: Changes = {}
    for key, request in requests.items() if isinstance(requests, dict) else ():
        method, params = (request.get("method"), request.get("params")) if isinstance(request, dict) else (None, None)
        if isinstance(method, str) and isinstance(params, dict):
            inner = question_changes(method, params, client, map_uri)
            _put(changes, key, {"params": inner} if inner else None)
    return changes


def _one_or_many(content: JsonValue, client: Era, map_uri: MapUri | None) -> _Edit:
    """Of a message: one block, or since 2025-11-25 several."""
    return _blocks(content, client, map_uri) if isinstance(content, list) else _block(content, client, map_uri)


def _blocks(content: JsonValue, client: Era, map_uri: MapUri | None) -> splice.Edits:
    if not isinstance(content, list):
        return {}
    return _kept((index, _block(block, client, map_uri)) for index, block in enumerate(content))


def _block(block: JsonValue, client: Era, map_uri: MapUri | None) -> _Edit:
    if not isinstance(block, dict):
        return None
    match block.get("type"):
        case "resource_link" if not client.resource_links:
            return text_block(_link_text(block, map_uri), block)
        case "resource_link":
            return _uri(block, map_uri)
        case "resource":
            edit = _uri(block.get("resource"), map_uri)
            return {"resource": edit} if edit else None
        case "audio" if not client.audio:
            return text_block(f"[audio, {block.get('mimeType')}: protocol version {client.version} has none]", block)
        case "tool_result":
            inner = _blocks(block.get("content"), client, map_uri)
            return {"content": inner} if inner else None
        case _:
            return None


def _mapped(uri: JsonValue, map_uri: MapUri | None) -> str | None:
    """The mapped URI; None when it stays."""
    if map_uri is None or not isinstance(uri, str):
        return None
    mapped = map_uri(uri)
    return None if mapped == uri else mapped


def _uri(holder: JsonValue, map_uri: MapUri | None) -> "splice.Edits | None":
    mapped = _mapped(holder.get("uri"), map_uri) if isinstance(holder, dict) else None
    return None if mapped is None else {"uri": splice.quoted(mapped)}


def _link_text(block: JsonObject, map_uri: MapUri | None) -> str:
    uri = _mapped(block.get("uri"), map_uri) or block.get("uri")
    said = [block.get("title") or block.get("name"), uri, block.get("description")]
    return "\n".join(str(part) for part in said if part)


def _link(meta: JsonValue, map_uri: MapUri | None) -> splice.Edits:
    """``_meta.ui.resourceUri`` of MCP Apps, and the flat form."""
    if not isinstance(meta, dict):
        return {}
    ui = meta.get("ui")
    mapped = _mapped(ui.get("resourceUri"), map_uri) if isinstance(ui, dict) else None
    flat = _mapped(meta.get(FLAT_LINK), map_uri)
    edits: Changes = {}
    _put(edits, "ui", None if mapped is None else {"resourceUri": splice.quoted(mapped)})
    _put(edits, FLAT_LINK, None if flat is None else splice.quoted(flat))
    return edits
