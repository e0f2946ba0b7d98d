"""JSON-RPC messages: reading them strictly, writing them cheaply.

Owns the four message kinds, their validity, and the bytes of answers.
Deliberately knows no method of MCP. Invariant: ``read`` gives one unambiguous
message or raises ``MalformedMessage``; an id goes back as the bytes it came in.
Spec: JSON-RPC 2.0; RFC 8259; MCP basic, Messages.
"""

import re
from typing import Final, Literal, TypeAlias

import attrs
import msgspec

from mcp_gateway.errors import MalformedMessage, RemoteFault
from mcp_gateway.protocol import json_text, splice
from mcp_gateway.protocol.json_text import NOT_READ
from mcp_gateway.protocol.members import NO_MEMBERS, Members, least_length
from mcp_gateway.values import JsonObject, JsonValue, RequestId

MAX_BATCH: Final = 100
"""Messages in one array; each costs a task, so the size of the body is not bound enough."""

_INVALID: Final = -32600

# What the gateway acts on. A second one could make the backend do what was never checked here.
_GUARDED: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_GUARDED_PARAMS: Final = frozenset(
    {"name", "uri", "taskId", "cursor", "_meta", "requestState", "arguments", "inputResponses", "ref", "level"}
    | {"protocolVersion", "capabilities", "clientInfo"}  # of initialize
)
_GUARDED_META: Final = frozenset(
    {"progressToken"}
    | {
        f"io.modelcontextprotocol/{name}"
        for name in ("protocolVersion", "clientCapabilities", "clientInfo", "logLevel")
    }
)

_ABSENT: Final = msgspec.Raw(b"")
_USUAL_DIGITS: Final = 16
_USUAL_TEXT: Final = re.compile(rb'"[ -!#-\[\]-~]*+"')
_FRAME: Final = len(b'{"jsonrpc":"2.0","method":""}')
_FRAME_OF_ID: Final = len(b',"id":')
_FRAME_OF_PARAMS: Final = _FRAME + len(b',"params":')
_WS: Final = b" \t\r\n"
_W: Final = rb"[ \t\r\n]*+"
_BOM: Final = b"\xef\xbb\xbf"
_PADDING: Final = _WS + b"\v\f\0\x1e"
"""What servers put around a text: line ends of JSON lines, the separator of RFC 7464, what fills a buffer up."""
_VERSION: Final = rb'"jsonrpc"%b:%b"2\.0"' % (_W, _W)
_ID: Final = rb'"id"%b:%b(-?(?:0|[1-9][0-9]{0,15})|"[^"\\]*+"|null)' % (_W, _W)
_BODY: Final = rb'"(result|error)"%b:%b' % (_W, _W)
_COMMA: Final = rb"%b,%b" % (_W, _W)
_OPEN: Final = rb"%b\{%b" % (_W, _W)
# How the SDKs write answers: Python jsonrpc, id, result; others jsonrpc, result, id; TypeScript result, jsonrpc, id.
_HEAD_WITH_ID: Final = re.compile(_OPEN + _VERSION + _COMMA + _ID + _COMMA + _BODY)
_HEAD_WITH_VERSION: Final = re.compile(_OPEN + _VERSION + _COMMA + _BODY)
_HEAD_BARE: Final = re.compile(_OPEN + _BODY)
_TAIL_ID: Final = re.compile(_COMMA + _ID + _W + rb"\Z")
_TAIL_VERSION_ID: Final = re.compile(_COMMA + _VERSION + _COMMA + _ID + _W + rb"\Z")
_CLAIM: Final = re.compile(
    rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*([1-9][0-9]{0,17})\s*,\s*"(?:result|error|jsonrpc)"'
)
_BEGIN: Final = re.compile(
    rb'\s*+\{(?:\s*+"(?:jsonrpc|id)"\s*+:\s*+(?:"[^"\\]{0,64}+"|-?[0-9]{1,20}+|null)\s*+,){0,2}\s*+"(?:result|error)"\s*+:'
)
_TAIL_BYTES: Final = 128
"""How far from the end an id is looked for."""

_MAX_SHORT_BYTES: Final = 8192
"""An id or version in an answer; the longest integer that Python holds fits."""


@attrs.frozen
class RpcRequest:
    """A request; ``id_raw`` is the exact bytes of ``id``, absent params are ``{}``."""

    raw: bytes = attrs.field(repr=False)
    id: RequestId
    id_raw: bytes
    method: str
    params: Members = attrs.field(repr=False)
    plain: bool = attrs.field(default=False, eq=False, repr=False)
    """Nothing else stands in it, not even white space."""

    def sent_on(self, id_raw: bytes, params: bytes) -> bytes:
        """The same request under another id and with other raw params; what it says beyond that keeps its bytes."""
        if self.plain:
            method = self.method.encode()
            return b"".join((b'{"jsonrpc":"2.0","id":', id_raw, b',"method":"', method, b'","params":', params, b"}"))
        return splice.rewrite(self.raw, {"id": id_raw, "params": params})


@attrs.frozen
class RpcNotification:
    """A notification; absent params are ``{}``."""

    raw: bytes = attrs.field(repr=False)
    method: str
    params: Members = attrs.field(repr=False)


@attrs.frozen
class RpcResponse:
    """A response; ``is_error`` says which of ``error`` and ``result`` it has. Only errors may lack an id."""

    raw: bytes = attrs.field(repr=False)
    id: RequestId | None
    id_raw: bytes | None
    is_error: bool
    error: JsonObject | None = attrs.field(repr=False)
    result: JsonValue = attrs.field(repr=False)


RpcMessage: TypeAlias = RpcRequest | RpcNotification | RpcResponse


@attrs.frozen
class AnswerParts:
    """What the gateway needs of a backend's response; ``result`` is the raw result or error member."""

    id: RequestId | None
    is_error: bool
    result: bytes = attrs.field(repr=False)


def _invalid(what: str) -> MalformedMessage:
    return MalformedMessage(what=what, code=_INVALID)


def unpadded(body: bytes) -> bytes:
    """A body without what is around its JSON text; a mark of byte order too (RFC 8259, 8.1: "MAY ignore")."""
    return body.strip(_PADDING).removeprefix(_BOM).lstrip(_PADDING)


def begins_answer(head: bytes) -> bool:
    """Whether the first bytes of a text are those of a response, which may be large."""
    return _BEGIN.match(head) is not None


def claimed_id(raw: bytes) -> int | None:
    """The id with which a text begins that looks like a response to a request of ours, valid or not; None: no such."""
    found = _CLAIM.match(raw)
    return None if found is None else int(found[1])


def looks_like_batch(raw: bytes) -> bool:
    """Whether the first byte after white space opens an array."""
    return raw.lstrip(_WS)[:1] == b"["


def read(raw: bytes) -> RpcMessage:
    """Exactly one message.

    Raises:
        MalformedMessage: -32700 not JSON; -32600 not one JSON-RPC message, an id that is
            neither string nor integer, params that are no object, or a second member of a
            name the gateway acts on.
    """
    return _usual_call(raw) or _read_closely(raw)


class _Call(msgspec.Struct):
    """A request or a notification as msgspec finds it, in one pass."""

    jsonrpc: Literal["2.0"]
    method: str
    id: msgspec.Raw = _ABSENT
    params: dict[str, msgspec.Raw] | None = None


_CALLS: Final = msgspec.json.Decoder(_Call)


def _usual_call(raw: bytes) -> RpcRequest | RpcNotification | None:
    """A call without a byte that it does not need. None: look closer."""
    if json_text.is_too_deep(raw) or not json_text.is_utf8(raw):
        return None
    try:
        call = _CALLS.decode(raw)
    except NOT_READ:
        return None
    id_raw, method, raws = bytes(call.id), call.method, call.params
    params = NO_MEMBERS if raws is None else Members(raws)
    least = len(method) + (_FRAME if raws is None else _FRAME_OF_PARAMS + least_length(raws))
    if id_raw:
        least += _FRAME_OF_ID + len(id_raw)
    # ``null`` for params, for example, has another length than no params.
    if least != len(raw) or (raws is not None and not _has_usual_meta(params)):
        return None
    if not id_raw:
        return RpcNotification(raw, method, params)
    request_id: RequestId
    if id_raw.isdigit() and len(id_raw) <= _USUAL_DIGITS:
        request_id = int(id_raw)
    elif _USUAL_TEXT.fullmatch(id_raw) is not None:
        request_id = id_raw[1:-1].decode()
    else:
        return None
    return RpcRequest(raw, request_id, id_raw, method, params, True)


def _has_usual_meta(params: Members) -> bool:
    if len(params) > splice.MAX_MEMBERS:
        return False
    meta = params.within("_meta")
    return meta is None or not meta.scanned


def _read_closely(raw: bytes) -> RpcMessage:
    json_text.parse(raw)
    first = raw.lstrip(_WS)[:1]
    if first != b"{":
        raise _invalid("a batch is not accepted here" if first == b"[" else "not a JSON-RPC message")
    top = Members.of(raw)
    _check_once(top, _GUARDED)
    params = top.within("params")
    if params is not None:
        _check_once(params, _GUARDED_PARAMS)
        meta = params.within("_meta")
        if meta is not None:
            _check_once(meta, _GUARDED_META)
    if top.get("jsonrpc") != "2.0":
        raise _invalid('"jsonrpc" must be "2.0"')
    return _read_call(raw, top) if "method" in top else _read_response(raw, top)


def _read_call(raw: bytes, top: Members) -> RpcRequest | RpcNotification:
    if "result" in top or "error" in top:
        raise _invalid("a message with a method has no result and no error")
    method = top["method"]
    if not isinstance(method, str):
        raise _invalid('"method" must be a string')
    params = top.within("params") if "params" in top else NO_MEMBERS
    if params is None:
        raise _invalid('"params" must be an object')
    if "id" not in top:
        return RpcNotification(raw, method, params)
    request_id, id_raw = _id_of(top)
    if request_id is None:
        raise _invalid('"id" must not be null')
    return RpcRequest(raw, request_id, id_raw, method, params)


def _read_response(raw: bytes, top: Members) -> RpcResponse:
    is_error = "error" in top
    if is_error == ("result" in top):
        raise _invalid("neither a request nor a response")
    response_id, id_raw = _id_of(top)
    if response_id is None and not is_error:
        raise _invalid('a result needs its "id"')
    given = None if response_id is None else id_raw
    if not is_error:
        return RpcResponse(raw, response_id, given, False, None, top["result"])
    error = top["error"]
    if not isinstance(error, dict):
        raise _invalid('"error" must be an object')
    return RpcResponse(raw, response_id, given, True, error, None)


def _id_of(top: Members) -> tuple[RequestId | None, bytes]:
    """The id of a message and its bytes; none at all is ``null``."""
    id_raw = top.raw("id") or b"null"
    return _id_in(id_raw), id_raw


def _id_in(id_raw: bytes) -> RequestId | None:
    if id_raw.isdigit() and len(id_raw) <= _USUAL_DIGITS:
        return int(id_raw)
    found = json_text.parse(id_raw)
    # "Requests MUST include a string or integer ID." -- MCP 2026-07-28, basic, Requests. A bool is no integer here.
    if found is None or isinstance(found, str) or type(found) is int:
        return found
    raise _invalid('"id" must be a string or an integer')


def _check_once(found: Members, guarded: frozenset[str]) -> None:
    """Refuse a second member of a guarded name: parsers disagree on which one counts."""
    for name in found.repeated:
        if name in guarded:
            raise _invalid(f"duplicate member {name!r}")


def read_batch(raw: bytes) -> list[RpcMessage | MalformedMessage]:
    """The messages of a 2025-03-26 array, in order; a bad element is a value, not an exception.

    Raises:
        MalformedMessage: -32700 not JSON; -32600 not an array, empty, or more than ``MAX_BATCH``.
    """
    return [_read_element(element) for element in _elements(raw)]


def _elements(raw: bytes) -> list[bytes]:
    value = json_text.parse(raw)
    if not isinstance(value, list):
        raise _invalid("not a batch")
    if not value:
        raise _invalid("an empty batch")
    if len(value) > MAX_BATCH:
        raise _invalid(f"a batch of more than {MAX_BATCH} messages")
    return [raw[start:end] for start, end in splice.elements(raw)]


def split_batch(raw: bytes) -> list[bytes]:
    """The raw messages of an array that a 2025-03-26 peer sent; whether they are messages is the caller's business.

    Raises:
        MalformedMessage: as ``read_batch``, and above ``json_text.MAX_PARSED_BYTES``.
    """
    if len(raw) > json_text.MAX_PARSED_BYTES:
        raise _invalid(f"a batch of more than {json_text.MAX_PARSED_BYTES} bytes")
    return _elements(raw)


def _read_element(raw: bytes) -> RpcMessage | MalformedMessage:
    try:
        return read(raw)
    except MalformedMessage as malformed:
        return malformed


def readable_id(raw: bytes) -> bytes | None:
    """The raw id of a message that ``read`` refused, for the error's answer; None when there is none to trust."""
    try:
        json_text.parse(raw)
        request_id, id_raw = _id_of(Members.of(raw))
        return None if request_id is None else id_raw
    except MalformedMessage:
        return None


def render_result(id_raw: bytes, result: bytes) -> bytes:
    """A response; ``result`` is raw JSON."""
    return b"".join((b'{"jsonrpc":"2.0","id":', id_raw, b',"result":', result, b"}"))


def render_error(id_raw: bytes | None, code: int, message: str, data: JsonValue = None) -> bytes:
    """An error response; without an id it says ``"id":null``, as peers of both eras do. ``data`` None is left out."""
    tail = b"" if data is None else b',"data":%b' % json_text.dumps(data)
    spelled = b"null" if id_raw is None else id_raw
    text = json_text.dumps(message)
    return b'{"jsonrpc":"2.0","id":%b,"error":{"code":%d,"message":%b%b}}' % (spelled, code, text, tail)


def render_request(id_raw: bytes, method: str, params: bytes | None) -> bytes:
    """A request; ``params`` is raw JSON, None leaves it out."""
    tail = b"" if params is None else b',"params":%b' % params
    return b'{"jsonrpc":"2.0","id":%b,"method":%b%b}' % (id_raw, json_text.dumps(method), tail)


def render_notification(method: str, params: bytes | None) -> bytes:
    """A notification; ``params`` is raw JSON, None leaves it out."""
    tail = b"" if params is None else b',"params":%b' % params
    return b'{"jsonrpc":"2.0","method":%b%b}' % (json_text.dumps(method), tail)


def usual_answer(raw: bytes, request_id: int) -> AnswerParts | None:
    """The result of a request of ours in the bytes that most servers write. None: ``answer_parts`` has to look."""
    head = b'{"jsonrpc":"2.0","id":%d,"result":' % request_id
    if not raw.startswith(head) or not raw.endswith(b"}"):
        return None
    value = raw[len(head) : -1]
    return AnswerParts(request_id, False, value) if _is_one_value(value) else None


def answer_parts(raw: bytes) -> AnswerParts:
    """The parts of a backend's response; whether the id is the right one is the caller's business.

    The usual orders of members are recognised by their first and last bytes.
    What ``json_text.may_be_parsed`` is validated byte for byte, of the rest only the structure: one tool that is too
    deep must not cost the whole list.

    Raises:
        RemoteFault: not exactly one response object.
    """
    usual = _usual_answer(raw)
    if usual is not None:
        return usual
    if json_text.may_be_parsed(raw):
        json_text.parse(raw)
    return _scanned_answer(raw)


def _usual_answer(raw: bytes) -> AnswerParts | None:
    """The three orders that SDKs write. None: look closer."""
    inside = raw.rstrip(_WS)
    if inside[-1:] != b"}":
        return None
    end = len(inside) - 1
    head = _HEAD_WITH_ID.match(raw)
    if head is not None:
        id_raw, kind = head[1], head[2]
    else:
        tail_form = _TAIL_ID
        head = _HEAD_WITH_VERSION.match(raw)
        if head is None:
            tail_form = _TAIL_VERSION_ID
            head = _HEAD_BARE.match(raw)
        # The form is anchored at its end, and a comma begins it: the last one that fits is the one.
        tail = tail_form.search(raw, max(0, end - _TAIL_BYTES), end)
        if head is None or tail is None:
            return None
        id_raw, kind, end = tail[1], head[1], tail.start()
    value = raw[head.end() : end].rstrip(_WS)
    # If what is between head and end is one value, all of it together is one valid object.
    if not _is_one_value(value) or (kind == b"error" and value[:1] != b"{"):
        return None
    return AnswerParts(_id_in(id_raw), kind == b"error", value)


def _is_one_value(raw: bytes) -> bool:
    if json_text.is_usual(raw):
        return True
    try:
        if not json_text.may_be_parsed(raw):
            return splice.skip(raw, 0) == len(raw)
        json_text.parse(raw)
    except MalformedMessage:
        return False
    return True


def _scanned_answer(raw: bytes) -> AnswerParts:
    """Any order of members, by their places alone."""
    found = splice.members(raw)
    if raw[found.end :].strip(_WS):
        raise RemoteFault(what="more than one JSON text in an answer")
    at = {key: found.find(key) for key in _GUARDED}
    version, result, error, id_at = at["jsonrpc"], at["result"], at["error"], at["id"]
    if version is None or json_text.parse(_short(raw, version)) != "2.0":
        raise RemoteFault(what='an answer without "jsonrpc": "2.0"')
    body = error or result
    if body is None or (error is not None and result is not None) or at["method"] is not None:
        raise RemoteFault(what="a message that is not a response")
    value = raw[body.value_start : body.value_end]
    if error is not None and value[:1] != b"{":
        raise RemoteFault(what="an answer whose error is not an object")
    answer_id = None if id_at is None else _id_in(_short(raw, id_at))
    return AnswerParts(answer_id, error is not None, value)


def _short(raw: bytes, member: splice.Member) -> bytes:
    """A value that is parsed even in an answer too large for that, so it must be short."""
    if member.value_end - member.value_start > _MAX_SHORT_BYTES:
        raise RemoteFault(what=f"an answer whose {member.key!r} has more than {_MAX_SHORT_BYTES} bytes")
    return raw[member.value_start : member.value_end]
