"""Between the two families: requests, results, errors and questions, in pure pairs.

Owns what is per hop: ``_meta`` keys of the protocol, result types, caching hints,
error codes, the form of server-to-client questions. Deliberately knows no sessions
and keeps no state. Invariant: whatever is not per hop keeps its bytes, and between
equal eras with nothing to map the bytes go through.

Spec: docs/protocol.md; MCP 2026-07-28 basic/index (``_meta``), basic/patterns/mrtr, server/utilities/caching.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, TypeAlias

import attrs

from mcp_gateway.errors import MalformedMessage, RemoteFault
from mcp_gateway.protocol import content, json_text, shape, splice, tasks
from mcp_gateway.protocol.content import Changes, MapUri
from mcp_gateway.protocol.envelope import (
    ANONYMOUS_INFO,
    META_CAPABILITIES,
    META_CLIENT_INFO,
    META_LOG_LEVEL,
    META_SERVER_INFO,
    META_VERSION,
)
from mcp_gateway.protocol.eras import NEWEST_MODERN, Era
from mcp_gateway.protocol.members import NO_MEMBERS, Members
from mcp_gateway.protocol.outline import outline
from mcp_gateway.protocol.splice import REMOVE, Edits
from mcp_gateway.protocol.wire_errors import (
    HEADER_MISMATCH,
    INTERNAL,
    INVALID_PARAMS,
    MISSING_CAPABILITY,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_VERSION,
    URL_ELICITATION,
)
from mcp_gateway.values import JsonValue

Hints: TypeAlias = tuple[int, bool]
"""(ttl in ms, private)."""

CACHED: Final = frozenset(
    {
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
    }
)
"""Whose modern results must hold ttlMs and cacheScope."""
INTERIM: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
"""Whose modern results may be ``input_required`` ("MUST NOT" elsewhere, basic/patterns/mrtr)."""

RESERVED: Final = range(-32099, -32019)
""" "Implementations MUST NOT emit any code from this sub-range that is not defined by this specification and MUST use
defined codes only with their specified meanings." -- MCP 2026-07-28 basic/index, Error Codes"""

_MODERN_CODES: Final = (HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION)
_HINTS: Final = {"ttlMs": re.compile(rb"[0-9]{1,15}"), "cacheScope": re.compile(rb'"(?:public|private)"')}
_COMPLETE: Final = b'"complete"'
_INPUT_REQUIRED: Final = b'"input_required"'
_OWN_TYPES: Final = frozenset({_INPUT_REQUIRED, tasks.CREATED})
"""Which no other extension may use for its own."""
_ABOUT_RESOURCES: Final = frozenset({"resources/read", "resources/subscribe", "resources/unsubscribe"})
# These exist only between modern peers, and the gateway gives its own.
_MODERN_PARAMS: Final = ("inputResponses", "requestState")
_NO_MODERN_META: Final[dict[str, bytes | None]] = dict.fromkeys(
    (META_VERSION, META_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL)
)
_KEPT_META_BYTES: Final = 2 * 2**10


@attrs.frozen(kw_only=True)
class MetaEdits:
    """What one request says of its caller on this hop; raw JSON except ``log_level``."""

    capabilities: bytes = b"{}"
    client_info: bytes = ANONYMOUS_INFO
    log_level: str | None = None
    progress_token: bytes | None = None


def request_params(
    params: Members,
    *,
    client: Era,
    backend: Era,
    edits: Edits,
    meta: MetaEdits,
    uri_back: MapUri | None = None,
    custom: bool = False,
    may_be_task: bool = False,
) -> bytes:
    """The ``params`` for the backend.

    Args:
        params: the caller's.
        edits: of routing and of the gateway (name, uri, ref, requestState, inputResponses); never of ``_meta``.
        uri_back: from URIs that clients use to the backend's own, for the answers to its questions.
        custom: of a method that is not core: no member but ``_meta`` is known to mean anything.
        may_be_task: both are of 2025-11-25, and the backend says that it has tasks.
    Returns:
        An object: the protocol's own ``_meta`` keys made anew for this backend, the progress token replaced or
        removed, every other key as it came.
    Raises:
        MalformedMessage: a member to be changed occurs twice.
    """
    changes: Changes = {}
    if custom:
        pass
    elif not (client.modern and backend.modern):
        foreign = _MODERN_PARAMS if may_be_task else ("task", *_MODERN_PARAMS)
        changes.update({key: REMOVE for key in foreign if key in params})
    elif uri_back is not None:
        answered = _answers(params.raw("inputResponses"), uri_back)
        changes.update({"inputResponses": answered} if answered else {})
    changes.update(edits)
    if backend.modern or meta.progress_token is not None or "_meta" in params:
        meta_edit = _meta_edit(params, _hop_meta(backend, meta))
        if meta_edit is not None:
            changes["_meta"] = meta_edit
    return params.edited(changes) if changes else params.text


def _hop_meta(backend: Era, meta: MetaEdits) -> dict[str, bytes | None]:
    """The keys that belong to one hop, with their value towards this backend; None: it gets none."""
    if not backend.modern:
        return {**_NO_MODERN_META, "progressToken": meta.progress_token}
    return {
        "progressToken": meta.progress_token,
        META_VERSION: b'"%b"' % backend.version.encode(),
        META_CAPABILITIES: meta.capabilities,
        META_CLIENT_INFO: meta.client_info,
        META_LOG_LEVEL: None if meta.log_level is None else b'"%b"' % meta.log_level.encode(),
    }


def _meta_edit(holder: Members, wanted: Mapping[str, bytes | None]) -> "bytes | splice.Remove | Edits | None":
    """The edit that gives ``_meta`` the wanted keys; None when it has no others to lose and none to get."""
    held = holder.within("_meta")
    if held is None:
        made: Changes = {key: value for key, value in wanted.items() if value is not None}
        if made:
            return NO_MEMBERS.edited(made)
        return REMOVE if "_meta" in holder else None
    changes: Changes = {}
    for key, value in wanted.items():
        if value is None:
            if key in held:
                changes[key] = REMOVE
        elif held.raw(key) != value:
            changes[key] = value
    return changes or None


def result(
    method: str,
    result: bytes,
    *,
    client: Era,
    backend: Era,
    server_info: bytes,
    hints: Hints | None = None,
    uri_map: MapUri | None = None,
    extended: bool = False,
    may_be_task: bool = False,
) -> bytes:
    """A backend's result as the client's era has it; shaping within the family included.

    Args:
        server_info: our own, raw; what modern clients find in ``_meta``. Empty: none.
        hints: what a cacheable result says; None: the modern backend's own, else ttl 0 and private.
        uri_map: ``UriMap.out`` of the target.
        extended: client and backend have agreed on an extension, which may have result types of its own.
        may_be_task: they have agreed on that of tasks.
    Returns:
        The same bytes when nothing needs to change.
    Raises:
        RemoteFault: the result is no object, of a type that it must not have, or with a member to be changed twice.
    """
    changes = shape.result_changes(method, result, client=client, backend=backend, map_uri=uri_map)
    if not (client.modern or backend.modern):
        return splice.rewrite(result, changes) if changes else result
    found = Members.of(result)
    if client.modern:
        kind = found.raw("resultType")
        # "Clients MUST treat an absent resultType as "complete"": said for them; of legacy backends it is always so.
        if not backend.modern or _is_untyped(method, kind, extended=extended, may_be_task=may_be_task):
            changes["resultType"] = kind = _COMPLETE
        if method in CACHED and kind == _COMPLETE:
            changes.update(_caching(found, backend, hints))
        _stamp(changes, found, server_info)
    else:
        _to_legacy(changes, method, found)
    return found.edited(changes) if changes else result


def _stamp(changes: Changes, found: Members, server_info: bytes) -> None:
    meta = found.raw("_meta")
    if meta is not None and "_meta" not in changes and len(meta) <= _KEPT_META_BYTES:
        edit: bytes | splice.Remove | Edits | None = _stamped(meta, server_info)
    else:
        edit = _meta_edit(found, {META_SERVER_INFO: server_info or None})
    if edit is not None:
        _merge_meta(changes, edit)


@lru_cache(maxsize=256)
def _stamped(meta: bytes, server_info: bytes) -> "bytes | splice.Remove":
    """``_meta`` of a result, which most servers repeat with every one, with our name in place of theirs."""
    edit = _meta_edit(Members({"_meta": meta}), {META_SERVER_INFO: server_info or None})
    if edit is None:
        return meta
    return edit if isinstance(edit, bytes | splice.Remove) else Members.of(meta).edited(edit)


def _is_untyped(method: str, said: bytes | None, *, extended: bool = False, may_be_task: bool = False) -> bool:
    """Whether a modern backend left its result's type out.

    Raises:
        RemoteFault: "a result with an unrecognized resultType is invalid" (basic/index), and only some may be interim.
    """
    if said == _COMPLETE:
        return False
    if said in (None, b"null"):
        return True
    allowed = (
        (said == _INPUT_REQUIRED and method in INTERIM)
        or (said == tasks.CREATED and method == "tools/call" and may_be_task)
        or (said not in _OWN_TYPES and extended)
    )
    if not allowed:
        raise RemoteFault(what="a result of a type that this request cannot have")
    return False


def _caching(found: Members, backend: Era, hints: Hints | None) -> Changes:
    """ttlMs and cacheScope: ours if given, else the backend's if they are any, else "do not keep it"."""
    ttl_ms, private = hints or (0, True)
    ours: Changes = {"ttlMs": b"%d" % ttl_ms, "cacheScope": b'"private"' if private else b'"public"'}
    if hints is None and backend.caching_hints:
        for key, form in _HINTS.items():
            if form.fullmatch(found.raw(key) or b""):
                del ours[key]
    return ours


def _to_legacy(changes: Changes, method: str, found: Members) -> None:
    _is_untyped(method, found.raw("resultType"))
    for member in ("resultType", "ttlMs", "cacheScope"):
        if member in found:
            changes[member] = REMOVE
    held = found.within("_meta")
    if held is None or META_SERVER_INFO not in held:
        return
    if len(held) == 1 and not held.repeated:
        changes["_meta"] = REMOVE
    else:
        _merge_meta(changes, {META_SERVER_INFO: REMOVE})


def _merge_meta(changes: Changes, edit: "bytes | splice.Remove | Edits") -> None:
    before = changes.get("_meta")
    if isinstance(before, Mapping) and isinstance(edit, Mapping):
        edit = {**before, **edit}
    changes["_meta"] = edit


def error(error_raw: bytes, *, method: str, client: Era, backend: Era, uri: str | None = None) -> bytes:
    """A backend's ``error`` object as the client's era has it. -32042 passes: the relay has an answer to it.

    Args:
        uri: the URI as the client asked for it, for ``data.uri``; None leaves ``data`` as it is.
    Raises:
        MalformedMessage: a member to be changed occurs twice.
    """
    held = splice.value_at(error_raw, ("code",))
    data = splice.value_at(error_raw, ("data",))
    names_uri = data is not None and data.startswith(b"{") and splice.value_at(data, ("uri",)) is not None
    code = None if held is None else json_text.parse(held)
    if client.modern and code in RESERVED and not _means_it(code, data, backend):
        return splice.rewrite(error_raw, {"code": b"%d" % INTERNAL})
    missing = code == RESOURCE_NOT_FOUND
    # "Resource not found: -32602 ... with data.uri"; 2025-11-25 and older: -32002
    if code == INVALID_PARAMS and names_uri and method in _ABOUT_RESOURCES:
        missing = True
    if not missing:
        return error_raw
    changes: Changes = {}
    wanted = _code_for(client, backend, code == RESOURCE_NOT_FOUND)
    if wanted != code:
        changes["code"] = b"%d" % wanted
    if uri is not None and method in _ABOUT_RESOURCES and (names_uri or client.modern):
        changes["data"] = _with_uri(data, splice.quoted(uri))
    return splice.rewrite(error_raw, changes)


def _means_it(code: JsonValue, data: bytes | None, backend: Era) -> bool:
    """Whether a backend can have meant by a reserved code what it means to a modern client."""
    if code == MISSING_CAPABILITY and data is not None and splice.value_at(data, ("requiredCapabilities",)) is not None:
        return True  # SDKs that know 2026-07-28 say this in older revisions, too
    return code == URL_ELICITATION or (backend.modern and code in _MODERN_CODES)


def _code_for(client: Era, backend: Era, said_not_found: bool) -> int:
    """Modern clients never see -32002; legacy ones see it for what a modern backend says the modern way."""
    if client.modern:
        return INVALID_PARAMS
    return RESOURCE_NOT_FOUND if said_not_found or backend.modern else INVALID_PARAMS


def _with_uri(data: bytes | None, quoted: bytes) -> "bytes | Edits":
    if data is None or data == b"null":
        return b'{"uri":%b}' % quoted
    if data.startswith(b"{"):
        return {"uri": quoted}
    return b'{"uri":%b,"detail":%b}' % (quoted, data)


def client_capabilities(raw: bytes | None, *, modern: bool = False) -> bytes:
    """A client's capabilities without those that the gateway cannot relay end to end.

    Tasks that servers begin at clients; and for a 2025 client the extension of that name: a 2026 backend that saw it
    might answer with a task, which the client could not ask for again. What is no object is none.
    """
    if raw is None or not raw.startswith(b"{"):
        return b"{}"
    if not content.mentions(raw, b"tasks", tasks.EXTENSION.encode()):
        return raw
    try:
        return _without_tasks(raw, modern=modern)
    except MalformedMessage:  # a member twice: the gateway goes by what it has parsed, and so must the backend
        return _without_tasks(json_text.dumps(json_text.parse(raw)), modern=modern)


def _without_tasks(capabilities: bytes, *, modern: bool) -> bytes:
    changes: Changes = {"tasks": REMOVE}
    if not modern and splice.value_at(capabilities, ("extensions", tasks.EXTENSION)) is not None:
        changes["extensions"] = {tasks.EXTENSION: REMOVE}
    return splice.rewrite(capabilities, changes)


def answer(raw: bytes, *, uri_back: MapUri | None) -> bytes:
    """A client's answer to a question, the raw result, with the backend's own URIs where it holds mapped ones.

    Returns:
        The same bytes when nothing needs to change, or when a member to be changed occurs twice.
    """
    if uri_back is None or len(raw) > json_text.MAX_PARSED_BYTES or not content.mentions(raw, b"uri", b"resourceUri"):
        return raw
    changes = content.answer_changes(json_text.parse(raw), uri_back)
    try:
        return splice.rewrite(raw, changes) if changes else raw
    except MalformedMessage:  # nobody can say which one the backend will read
        return raw


def _answers(responses: bytes | None, uri_back: MapUri) -> Edits:
    """The edits of ``inputResponses``."""
    changes: Changes = {}
    if responses is None or not responses.startswith(b"{"):
        return changes
    for member in splice.members(responses):
        raw = responses[member.value_start : member.value_end]
        mapped = answer(raw, uri_back=uri_back)
        if mapped != raw:
            changes[member.key] = mapped
    return changes


def input_request(method: str, params_raw: bytes | None, *, uri_map: MapUri | None = None) -> bytes:
    """A legacy backend's question as one value of ``inputRequests`` for a modern client.

    Without elicitationId (modern url elicitation has none), task keys and the progress token, whose
    notifications could not reach the backend.
    """
    raw = b"{}" if params_raw is None else params_raw
    found = Members.of(raw)
    changes = _question_changes(method, raw, NEWEST_MODERN, uri_map)
    changes.update({key: REMOVE for key in ("elicitationId", "task") if key in found})
    gone = _meta_edit(found, {"progressToken": None, tasks.RELATED: None})
    if gone is not None:
        _merge_meta(changes, gone)
    return b'{"method":%b,"params":%b}' % (splice.quoted(method), found.edited(changes))


def server_request_params(
    method: str,
    params_raw: bytes | None,
    *,
    client: Era,
    elicitation_id: str | None = None,
    uri_map: MapUri | None = None,
) -> bytes:
    """The ``params`` of a question for a legacy client, from a modern backend's ``inputRequests`` or a legacy one.

    Args:
        elicitation_id: freshly minted for a url elicitation of a modern backend; None leaves it as it is.
    """
    raw = b"{}" if params_raw is None else params_raw
    found = Members.of(raw)
    changes = _question_changes(method, raw, client, uri_map)
    if method == "elicitation/create":
        if not client.url_elicitation and "mode" in found:
            changes["mode"] = REMOVE  # 2025-06-18 has forms only, and no word for them
        elif elicitation_id is not None and found.raw("mode") == b'"url"':
            changes["elicitationId"] = splice.quoted(elicitation_id)
    # Nobody can tell a 2026 backend how far its client is with what it asks.
    gone = _meta_edit(found, {**_NO_MODERN_META, "progressToken": None})
    if gone is not None:
        _merge_meta(changes, gone)
    return found.edited(changes) if changes else raw


def _question_changes(method: str, raw: bytes, client: Era, uri_map: MapUri | None) -> Changes:
    if not content.concerns(raw, client, uri_map):
        return {}
    value = outline(raw)
    return content.question_changes(method, value, client, uri_map) if isinstance(value, dict) else {}
