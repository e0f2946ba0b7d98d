"""From one POST to a request of one era: classification and the validation ladder.

Owns the decision legacy or modern, and for modern requests the checks in their
order (parse, envelope, metadata, headers, version, method). Deliberately looks
at no session, table or clock. Invariant: whatever a header claims has been
compared with the body before a ``ModernCall`` exists (docs/invariants.md, 5).

Spec: MCP 2026-07-28 basic/index and basic/transports/streamable-http; docs/protocol.md.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final, cast

import attrs
import orjson

from mcp_gateway.protocol import headers as mcp_headers
from mcp_gateway.protocol import json_text, jsonrpc
from mcp_gateway.protocol.eras import ERAS, MODERN_VERSIONS, Era
from mcp_gateway.protocol.extensions import is_custom
from mcp_gateway.protocol.members import NO_MEMBERS, Members
from mcp_gateway.protocol.methods import LOG_LEVELS, known, named_by
from mcp_gateway.protocol.wire_errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    UNSUPPORTED_VERSION,
)
from mcp_gateway.values import Header, JsonObject, JsonValue

META_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
META_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
META_CLIENT_INFO: Final = "io.modelcontextprotocol/clientInfo"
META_LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"
META_SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
META_SUBSCRIPTION: Final = "io.modelcontextprotocol/subscriptionId"

ANONYMOUS_INFO: Final = b'{"name":"unnamed-client","version":"0"}'
"""What a backend is told of a client that did not say who it is (clientInfo is only a SHOULD)."""
MAX_CAPABILITIES_BYTES: Final = 16 * 2**10
MAX_INFO_BYTES: Final = 16 * 2**10
"""Both are kept as long as a session lives, here and upstream."""
_KEPT: Final = 256
"""Clients whose words need not be read again."""
_KEPT_BYTES: Final = 2 * 2**10
"""More of parsed JSON is kept of nobody: it is many times as large as its text."""
TOO_MUCH_CAPABILITY: Final = f"is over {MAX_CAPABILITIES_BYTES} bytes"
_INFO_TYPES: Final[Mapping[str, type]] = MappingProxyType(
    {"name": str, "version": str, "title": str, "description": str, "websiteUrl": str, "icons": list}
)


@attrs.frozen(kw_only=True)
class Rejection:
    """A request that is answered at once: HTTP status and JSON-RPC error."""

    status: int
    code: int
    message: str
    data: JsonValue = None
    id_raw: bytes | None = None

    def body(self) -> bytes:
        """The JSON-RPC error."""
        return jsonrpc.render_error(self.id_raw, self.code, self.message, self.data)


@attrs.frozen(kw_only=True)
class ModernCall:
    """One valid request of the modern era, with its per-request metadata taken out."""

    message: jsonrpc.RpcRequest
    era: Era
    capabilities: bytes
    capabilities_value: JsonObject
    client_info: bytes
    log_level: str | None


def meta_of(message: jsonrpc.RpcMessage) -> Members:
    """``params._meta``, or an empty object."""
    meta = None if isinstance(message, jsonrpc.RpcResponse) else message.params.within("_meta")
    return NO_MEMBERS if meta is None else meta


def is_modern(version_header: str | None, message: jsonrpc.RpcMessage) -> bool:
    """Whether header or body claims the modern era; either is enough (docs/protocol.md)."""
    if version_header in MODERN_VERSIONS:
        return True
    said = not isinstance(message, jsonrpc.RpcResponse) and "_meta" in message.params
    return said and META_VERSION in meta_of(message)


def says_too_much(capabilities: bytes) -> bool:
    """Whether a client's capabilities (raw) are more than is kept of anybody."""
    return len(capabilities) > MAX_CAPABILITIES_BYTES


def client_info(raw: bytes | None) -> bytes:
    """What backends are told of who a client is: its own words, if they are an Implementation, else nobody's.

    Modern callers share sessions of 2025 backends: what no backend takes would fail the others who wait for one.
    """
    return ANONYMOUS_INFO if raw is None or len(raw) > MAX_INFO_BYTES else _own_words(raw)


@lru_cache(maxsize=_KEPT)
def _own_words(info: bytes) -> bytes:
    try:
        value: JsonValue = orjson.loads(info)  # strict: a lone surrogate would not be read by every backend
    except ValueError:
        return ANONYMOUS_INFO
    return info if isinstance(value, dict) and _is_implementation(value) else ANONYMOUS_INFO


def _is_implementation(value: JsonObject) -> bool:
    icons = value.get("icons")
    sources = [icon.get("src") if isinstance(icon, dict) else None for icon in icons] if isinstance(icons, list) else []
    return (
        {"name", "version"} <= value.keys()
        and all(isinstance(value[name], kind) for name, kind in _INFO_TYPES.items() if name in value)
        and all(isinstance(source, str) for source in sources)
    )


def _plain(value: bytes | None) -> str | None:
    return None if value is None else value.strip(b" \t").decode("latin-1")


def validate(message: jsonrpc.RpcRequest, headers: Sequence[Header]) -> ModernCall | Rejection:
    """Check one modern request rung by rung; the first fault decides the answer.

    Args:
        message: a well-formed JSON-RPC request.
        headers: names lower case, in order, duplicates kept.
    """

    def no(status: int, code: int, text: str, data: JsonValue = None) -> Rejection:
        return Rejection(status=status, code=code, message=text, data=data, id_raw=message.id_raw)

    meta = meta_of(message)
    version, raw = meta.get(META_VERSION), meta.raw(META_CAPABILITIES)
    # "A request missing any required field is malformed; the server MUST reject it with
    #  -32602 ... For HTTP, the response status MUST be 400 Bad Request." -- 2026-07-28 basic/index
    if not isinstance(version, str):
        return no(400, INVALID_PARAMS, f"params._meta must hold {META_VERSION!r} as a string")
    if raw is None or not raw.startswith(b"{"):
        return no(400, INVALID_PARAMS, f"params._meta must hold {META_CAPABILITIES!r} as an object")
    if says_too_much(raw):
        return no(400, INVALID_PARAMS, f"{META_CAPABILITIES!r} {TOO_MUCH_CAPABILITY}")
    given = mcp_headers.by_name(headers)
    claimed = _plain(given.get(b"mcp-protocol-version"))
    if claimed != version:
        return no(400, HEADER_MISMATCH, f"MCP-Protocol-Version is {claimed!r} but the body says {version!r}")
    try:
        mcp_headers.check_standard(message.method, _name_of(message), given)
        if is_custom(message.method):
            mcp_headers.check_custom_name(message.params, given)
    except mcp_headers.HeaderFault as fault:
        return no(400, HEADER_MISMATCH, str(fault))
    if version not in MODERN_VERSIONS:
        supported: list[JsonValue] = [*MODERN_VERSIONS]
        return no(
            400,
            UNSUPPORTED_VERSION,
            f"protocol version {version!r} is not supported",
            {"supported": supported, "requested": version},
        )
    era = ERAS[version]
    if not (known(message.method, era) or is_custom(message.method)):
        return no(404, METHOD_NOT_FOUND, f"method not found: {message.method}")
    level = meta.get(META_LOG_LEVEL)
    if level is not None and level not in LOG_LEVELS:
        return no(400, INVALID_PARAMS, f"{META_LOG_LEVEL!r} must be one of {', '.join(LOG_LEVELS)}")
    return ModernCall(
        message=message,
        era=era,
        capabilities=raw,
        capabilities_value=_object_in(raw) if len(raw) <= _KEPT_BYTES else _object_in.__wrapped__(raw),
        client_info=client_info(meta.raw(META_CLIENT_INFO)),
        log_level=level if isinstance(level, str) else None,
    )


@lru_cache(maxsize=_KEPT)
def _object_in(raw: bytes) -> JsonObject:
    """What a client says of itself with every request, in the same bytes."""
    return cast(JsonObject, json_text.parse(raw))


def _name_of(message: jsonrpc.RpcRequest) -> str | None:
    member = named_by(message.method)
    value = message.params.get(member) if member else None
    return value if isinstance(value, str) else None


def must_be_request(message: jsonrpc.RpcMessage) -> Rejection | None:
    """A modern POST carries a request or a notification, never a response."""
    if isinstance(message, jsonrpc.RpcResponse):
        return Rejection(
            status=400,
            code=INVALID_REQUEST,
            message="a response cannot be posted: retry the request with inputResponses",
            id_raw=message.id_raw,
        )
    return None
