"""How a request of a client ends: one status and one JSON-RPC response.

Owns ``Outcome`` and the errors that the gateway makes itself. Deliberately no I/O.
Invariant: every outcome carries the id of its request, as the bytes it came in.
"""

from typing import Final

import attrs

from mcp_gateway.errors import CallCancelled, GatewayError
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.eras import Era
from mcp_gateway.protocol.wire_errors import CANCELLED, cancelled_data, error_data, wire_for
from mcp_gateway.values import BackendKey, JsonValue

_MODERN_STATUS: Final = {-32700: 400, -32600: 400, -32601: 404, -32020: 400, -32021: 400, -32022: 400}


@attrs.frozen(kw_only=True)
class Outcome:
    """The one answer to a request: HTTP status (of the client's era) and JSON-RPC response."""

    status: int = 200
    body: bytes = attrs.field(repr=False)
    label: str = "ok"
    """For the metric: ok, tool_error, error, cancelled, timeout, refused."""


def status_for(era: Era, code: int) -> int:
    """The HTTP status of a JSON-RPC error on this face (MCP 2026-07-28 basic/transports; a 2025 session gets 200)."""
    return _MODERN_STATUS.get(code, 200) if era.modern else 200


def succeeded(id_raw: bytes, result: bytes) -> Outcome:
    """With a raw result."""
    return Outcome(body=jsonrpc.render_result(id_raw, result))


def refused(id_raw: bytes, era: Era, code: int, message: str, data: JsonValue = None) -> Outcome:
    """With an error that the request itself is to blame for."""
    body = jsonrpc.render_error(id_raw, code, message, data)
    return Outcome(status=status_for(era, code), body=body, label="refused")


def failed(id_raw: bytes, error: GatewayError, backend: BackendKey | None) -> Outcome:
    """With one of the gateway's own errors."""
    if isinstance(error, CallCancelled):
        body = jsonrpc.render_error(id_raw, CANCELLED, str(error), cancelled_data(backend, error.executed))
        return Outcome(body=body, label="cancelled")
    wire = wire_for(error)
    body = jsonrpc.render_error(id_raw, wire.code, str(error), error_data(error, backend))
    return Outcome(body=body, label=wire.reason)


def error_response(id_raw: bytes, error: bytes) -> bytes:
    """A JSON-RPC error response around a raw error object."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id_raw, error)
