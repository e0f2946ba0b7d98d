"""A call's request and answer in the words of the other side, in any pair of eras.

Owns what goes upstream for a ``Call`` and what its client gets. Deliberately waits for
nothing. Invariant: what the gateway does not act on goes through byte for byte
(docs/invariants.md, 6).
"""

import re
from typing import TYPE_CHECKING, Final

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.transports.base import Answer
from mcp_gateway.config.spec import HttpTarget
from mcp_gateway.errors import BackendProtocol, Executed, RemoteFault
from mcp_gateway.gateway.call.outcome import Outcome, error_response, refused, status_for
from mcp_gateway.gateway.server_requests import allowed, needed_for
from mcp_gateway.protocol import headers as mcp_headers
from mcp_gateway.protocol import json_text, jsonrpc, splice, tasks, translate
from mcp_gateway.protocol.content import MapUri
from mcp_gateway.protocol.envelope import META_SERVER_INFO, meta_of
from mcp_gateway.protocol.eras import Era
from mcp_gateway.protocol.extensions import is_custom
from mcp_gateway.protocol.methods import named_by
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.protocol.wire_errors import (
    HEADER_MISMATCH,
    INTERNAL,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_VERSION,
    URL_ELICITATION,
)
from mcp_gateway.values import Header, JsonObject

if TYPE_CHECKING:
    from mcp_gateway.gateway.call.call import Call

_ABOUT_A_HOP: Final = frozenset({"_meta", "task", "inputResponses", "requestState"})
"""Members of params that may mean something to one hop alone."""
_TOKEN: Final = re.compile(rb'".*"|-?[0-9]+', re.DOTALL)
_HOP_STATUSES: Final = frozenset({401, 403, 407})
"""Between the gateway and its server: a client cannot answer them."""


# --- up ---


def progress_token(message: jsonrpc.RpcRequest) -> bytes | None:
    """The client's own progressToken as it stands in its request; None when it is no string and no integer."""
    raw = meta_of(message).raw("progressToken")
    return raw if raw is not None and _TOKEN.fullmatch(raw) else None


def request(call: "Call", era: Era, extra: Edits, upstream_id: int) -> bytes:
    """The whole JSON-RPC request for a backend of ``era``, with ``extra`` edits of its params."""
    message, client = call.asked.message, call.asked.client
    id_raw = b"%d" % upstream_id
    plain = not (era.modern or client.era.modern or extra) and call.tasks is None
    if plain and message.params.has_none_of(_ABOUT_A_HOP):  # most calls between 2025 peers
        return message.sent_on(id_raw, message.params.edited(call.edits) if call.edits else message.params.text)
    token = progress_token(message)
    if token is not None:  # one that is good longer than this request is
        becomes_task = call.tasks is not None and "task" in message.params
        token = tasks.progress_token(token, upstream_id) if becomes_task else id_raw
    identity, uris = call.caller.identity, call.target.uri_map
    params = translate.request_params(
        message.params,
        client=client.era,
        backend=era,
        edits={**call.edits, **extra},
        meta=translate.MetaEdits(
            progress_token=token,
            capabilities=identity.capabilities,
            client_info=identity.info,
            # A 2025 client that has not said so gets what the backend would send by itself: "the server MAY decide
            # which messages to send automatically" (2025-11-25 server/utilities/logging); the SDKs send all.
            log_level=client.log_level or (None if client.era.modern else "debug"),
        ),
        uri_back=uris.restored if uris is not None else None,
        custom=is_custom(message.method),
        may_be_task=call.tasks is not None and era.tasks,
    )
    if call.tasks is not None:
        params = call.tasks.params(params)
    return message.sent_on(id_raw, params)


def headers(call: "Call", backend: Backend, era: Era) -> tuple[Header, ...]:
    """The HTTP headers of the request: what the era wants, and what the configuration lets through of the client's."""
    target = backend.spec.target
    names = target.forward_headers if isinstance(target, HttpTarget) else ()
    if not names and not era.modern:
        return ()
    forwarded = tuple(one for one in call.asked.headers if one[0].decode("latin-1") in names) if names else ()
    if not era.modern:
        return forwarded
    own: list[Header] = []
    name = name_upstream(call)
    if name is not None:
        own.append((b"Mcp-Name", mcp_headers.encode_value(name)))
    if call.method == "tools/call" and call.target.headers:
        own.extend(mcp_headers.mirror(call.target.headers, call.message.params.get("arguments")))
    return (*own, *forwarded)


def name_upstream(call: "Call") -> str | None:
    """What ``Mcp-Name`` says to a modern backend: what its own params say."""
    if named_by(call.method):
        return call.target.upstream
    if not is_custom(call.method):
        return None
    params = call.message.params
    member = mcp_headers.custom_name(params, call.asked.headers, modern=call.client.era.modern)
    edit = call.edits.get(member) if member is not None else None
    value = json_text.parse(edit) if isinstance(edit, bytes) else params.get(member or "")
    return value if isinstance(value, str) else None


# --- down ---


def outcome(call: "Call", answer: Answer, era: Era) -> Outcome:
    """The client's form of a backend's final answer.

    Raises:
        BackendProtocol: the answer is not one that can be passed on.
    """
    client = call.asked.client.era
    try:
        parts = answer.parts
        if parts.is_error:
            return _error(call, era, parts.result, answer.status)
        if era is client and not era.modern and call.tasks is None and not _may_hold_uris(call, parts.result):
            return _succeeded(call, parts.result, parts.result)
        result = translate.result(
            # "exactly what the underlying request would have returned", and only tools are called as tasks
            "tools/call" if call.awaits_task else call.method,
            parts.result,
            client=client,
            backend=era,
            server_info=call.calls.server_info,
            uri_map=_outward(call),
            extended=bool(call.extensions),
            may_be_task=call.tasks is not None,
        )
        if call.tasks is not None:
            result = call.tasks.result(call.method, result, era)
    except RemoteFault as fault:
        raise broken(call, Executed.YES, fault) from fault
    return _succeeded(call, result, parts.result)


def _may_hold_uris(call: "Call", result: bytes) -> bool:
    """Whether it may have members that are mapped, however they are spelled; False is certain."""
    if call.target.uri_map is None:
        return False
    return b'uri"' in result or b'Uri"' in result or b"\\u00" in result


def _succeeded(call: "Call", result: bytes, said: bytes) -> Outcome:
    # Only a label: a result that holds another result with such a member is counted as its error, too.
    failed = b'"isError":true' in said or b'"isError": true' in said
    body = jsonrpc.render_result(call.asked.message.id_raw, result)
    return Outcome(body=body, label="tool_error" if failed else "ok")


def _outward(call: "Call") -> MapUri | None:
    """How URIs in the answer are mapped. The resource that was asked for keeps the URI that the client used: one that
    expands a template like ``{+path}`` has another spelling than the backend's own URI mapped.
    """
    target = call.target
    if target.uri_map is None:
        return None
    out = target.uri_map.out
    if call.method != "resources/read":
        return out
    return lambda uri: target.federated if uri == target.upstream else out(uri)


def _error(call: "Call", era: Era, error_raw: bytes, said: int) -> Outcome:
    """A backend's own error; ``said`` is the HTTP status that it came with."""
    client, uri = call.client.era, call.message.params.get("uri")
    error = translate.error(
        error_raw, method=call.method, client=client, backend=era, uri=uri if isinstance(uri, str) else None
    )
    code = error_code(error)
    # Said of our hop; passed on, it would say that the gateway lacks the version.
    if era.modern and code == UNSUPPORTED_VERSION:
        why = f"it does not speak {era.version} any more"
        raise BackendProtocol(backend=call.target.backend, executed=Executed.NO, why=why)
    if era.modern and not client.modern and code == MISSING_CAPABILITY and tasks.demanded(error):
        error = splice.rewrite(error, {"message": json_text.dumps(tasks.NOT_BRIDGED_BACK)})
    if client.modern and code == URL_ELICITATION:
        return _urls_first(call, error)
    # 2026-07-28 gives few of its errors a status; of the others each server thinks for itself.
    own = client.modern and era.modern and 400 <= said < 500 and said not in _HOP_STATUSES
    body = error_response(call.message.id_raw, error)
    return Outcome(status=said if own else status_for(client, code), body=body, label="error")


def _urls_first(call: "Call", error: bytes) -> Outcome:
    """A 2025-11-25 backend's "open these URLs first" as what 2026 has for it; the retry is the call itself.

    -32042 itself must not leave the modern face. Spec: MCP 2025-11-25 client/elicitation, "URL Elicitation Required
    Error"; MCP 2026-07-28 basic/patterns/mrtr.
    """
    id_raw, requests = call.message.id_raw, url_elicitations(error)
    if not requests or call.method not in translate.INTERIM:
        body = error_response(id_raw, splice.rewrite(error, {"code": b"%d" % INTERNAL}))
        return Outcome(body=body, label="error")
    if not allowed("elicitation/create", {"mode": "url"}, call.client.capabilities):
        return may_not_be_asked(call, "elicitation/create", {"mode": "url"})
    asked: Edits = dict(requests.items())
    interim: Edits = {"inputRequests": splice.rewrite(b"{}", asked)}
    result = stamped(splice.rewrite(b'{"resultType":"input_required"}', interim), call.calls.server_info)
    return Outcome(body=jsonrpc.render_result(id_raw, result), label="input_required")


def stamped(result: bytes, server_info: bytes) -> bytes:
    """A modern result of our own, with who we are in its metadata."""
    return splice.rewrite(result, {"_meta": {META_SERVER_INFO: server_info}})


def broken(call: "Call", executed: Executed, fault: RemoteFault) -> BackendProtocol:
    """What a backend said cannot be passed on: its fault, never the client's."""
    return BackendProtocol(backend=call.target.backend, executed=executed, why=fault.what)


def may_not_be_asked(call: "Call", method: str, params: JsonObject) -> Outcome:
    """The outcome of a call whose backend needs what this client has not declared, in the words of the client's era."""
    era = call.client.era
    code = MISSING_CAPABILITY if era.modern else METHOD_NOT_FOUND
    data: JsonObject | None = {"requiredCapabilities": needed_for(method, params)} if era.modern else None
    return refused(call.message.id_raw, era, code, f"the client cannot do {method}", data)


def mismatches(answer: Answer) -> bool:
    """Whether a modern backend refused the call because of a header, which means that it was not executed."""
    if answer.status != 400:
        return False
    parts = answer.parts
    return parts.is_error and error_code(parts.result) == HEADER_MISMATCH


def is_missing(answer: Answer) -> bool:
    """Whether a backend has no such resource, as each era and each SDK says it."""
    parts = answer.parts
    return parts.is_error and error_code(parts.result) in (RESOURCE_NOT_FOUND, INVALID_PARAMS)


def wants_input(method: str, result: bytes) -> bool:
    """Whether a 2026 result is interim."""
    return (
        b'"input_required"' in result
        and method in translate.INTERIM
        and splice.value_at(result, ("resultType",)) == b'"input_required"'
    )


def url_elicitations(error: bytes) -> dict[str, bytes]:
    """The ``inputRequests`` that stand for the elicitations of a -32042."""
    json_text.parse(error)
    wanted = splice.value_at(error, ("data", "elicitations")) or b""
    spans = splice.elements(wanted) if wanted.startswith(b"[") else []
    return {
        f"k{number}": translate.input_request("elicitation/create", wanted[start:end])
        for number, (start, end) in enumerate(spans, 1)
        if wanted.startswith(b"{", start)
    }


def error_code(error: bytes) -> int:
    """The code of a raw JSON-RPC error object; internal error when there is none."""
    code = splice.value_at(error, ("code",))
    try:
        return int(code) if code is not None else -32603
    except ValueError:
        return -32603
