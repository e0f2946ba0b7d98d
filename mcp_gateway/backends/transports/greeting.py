"""What a backend says of itself when it is greeted, in either era, and that it refuses.

Owns how the results of ``initialize`` and ``server/discover`` and a JSON-RPC error are
read. Deliberately asks nothing: ``streamable_http``, ``pipe_greeting`` and
``own_requests`` do. Pure. Invariant: a member of the wrong type is as good as absent.
"""

from typing import Final

from mcp_gateway.backends.transports.base import Hello
from mcp_gateway.errors import BackendProtocol, BackendRefused, MalformedMessage
from mcp_gateway.protocol import json_text
from mcp_gateway.protocol.eras import ERAS, LEGACY_VERSIONS, Era
from mcp_gateway.protocol.plain_text import plain
from mcp_gateway.values import BackendKey, JsonObject, JsonValue

MESSAGE_CHARS: Final = 500
"""So much of a backend's error message is kept."""
MAX_INSTRUCTIONS: Final = 1024
"""Bytes of a backend's own instructions that are kept; more of them would crowd out those of others."""
SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"


def read_object(raw: bytes) -> JsonObject:
    """A raw result or error as an object; an empty one for anything else, and for what is too deep to be parsed."""
    try:
        value = json_text.parse(raw)
    except MalformedMessage:
        return {}
    return value if isinstance(value, dict) else {}


def initialized(backend: BackendKey, result: JsonObject) -> Hello:
    """What the result of ``initialize`` says.

    Raises:
        BackendProtocol: a revision that is not ours.
    Spec: MCP 2025-11-25 basic/lifecycle.
    """
    version = result.get("protocolVersion")
    # "If the client does not support the version in the server's response, it SHOULD disconnect." -- MCP 2025-11-25,
    # basic/lifecycle, Version Negotiation
    if not isinstance(version, str) or version not in LEGACY_VERSIONS:
        raise BackendProtocol(backend=backend, why=f"initialize was answered with version {str(version)[:32]!r}")
    return _hello(result, ERAS[version], result.get("serverInfo"))


def discovered(result: JsonObject, era: Era) -> Hello:
    """What the result of ``server/discover`` says to somebody who speaks ``era``.

    Spec: MCP 2026-07-28 server/discover; serverInfo is in ``_meta``.
    """
    meta = result.get("_meta")
    return _hello(result, era, meta.get(SERVER_INFO) if isinstance(meta, dict) else None)


def refused(backend: BackendKey, error: JsonObject, status: int) -> BackendRefused:
    """What to raise for a JSON-RPC error; ``status``: of HTTP, 200 on pipes."""
    code, message = error.get("code"), error.get("message")
    return BackendRefused(
        backend=backend,
        code=code if isinstance(code, int) else 0,
        message=message[:MESSAGE_CHARS] if isinstance(message, str) else "",
        status=status,
        data=error.get("data"),
    )


def _hello(result: JsonObject, era: Era, server_info: JsonValue) -> Hello:
    capabilities, instructions = result.get("capabilities"), result.get("instructions")
    return Hello(
        era=era,
        capabilities=capabilities if isinstance(capabilities, dict) else {},
        server_info=server_info,
        instructions=plain(instructions, MAX_INSTRUCTIONS) if isinstance(instructions, str) else "",
    )
