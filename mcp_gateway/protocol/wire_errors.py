"""Errors on the wire: the only place that knows which error has which code.

Owns the protocol's code numbers, our own ones and the ``data`` that every error
of ours carries. Deliberately no HTTP statuses: those are the era's.
Invariant: our own codes lie outside -32768..-32000 (MCP 2026-07-28, basic, Error
codes), so nobody can take them for the peer's.
"""

from typing import Final

import attrs

from mcp_gateway import errors
from mcp_gateway.protocol.headers import HeaderFault
from mcp_gateway.values import BackendKey, JsonObject

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL: Final = -32603
HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022
RESOURCE_NOT_FOUND: Final = -32002
"""2025-11-25 and older only; the modern face says ``INVALID_PARAMS``."""
URL_ELICITATION: Final = -32042
"""2025-11-25 only."""
CANCELLED: Final = -33499
"""The call was cancelled by its own client and HTTP still needs an answer (after nginx's 499)."""


@attrs.frozen
class Wire:
    """A JSON-RPC code, and the word that ``data.reason`` says."""

    code: int
    reason: str


# The last three digits follow the HTTP status of the same meaning.
WIRE: Final[tuple[tuple[type[errors.GatewayError], Wire], ...]] = (
    (errors.BackendGone, Wire(-33502, "backend_gone")),
    (errors.BackendDown, Wire(-33503, "backend_down")),
    (errors.BackendBusy, Wire(-33503, "backend_busy")),
    (errors.BackendTimeout, Wire(-33504, "backend_timeout")),
    (errors.BackendAuth, Wire(-33401, "backend_auth")),
    (errors.BackendSessionLost, Wire(-33404, "backend_session_lost")),
    (errors.BackendRemoved, Wire(-33410, "backend_removed")),
    (errors.BackendTooLarge, Wire(-33413, "too_large")),
    (errors.BackendRefused, Wire(-33424, "backend_refused")),
    (errors.BackendProtocol, Wire(-33520, "backend_protocol")),
    (errors.BackendError, Wire(-33500, "backend_error")),
    (errors.Overload, Wire(-33429, "overload")),
    (errors.Draining, Wire(-33530, "draining")),
    (HeaderFault, Wire(HEADER_MISMATCH, "header_mismatch")),
    (errors.RemoteFault, Wire(INVALID_REQUEST, "malformed")),
)
"""First match wins: the more special class stands first."""
INTERNAL_WIRE: Final = Wire(INTERNAL, "internal")
CANCELLED_WIRE: Final = Wire(CANCELLED, "cancelled")

_NEVER_RAN: Final = (errors.Overload, HeaderFault, errors.MalformedMessage)


def wire_for(error: Exception) -> Wire:
    """The code and reason of an error; a malformed message has JSON-RPC's own code, a bug is ``INTERNAL``."""
    for kind, wire in WIRE:
        if isinstance(error, kind):
            return Wire(error.code, wire.reason) if isinstance(error, errors.MalformedMessage) else wire
    return INTERNAL_WIRE


def error_data(error: errors.GatewayError, server: BackendKey | None) -> JsonObject:
    """The ``data`` of our own error: ``{server, reason, executed, limit?, retryAfterMs?}``.

    Args:
        server: the configured name the client may see; None takes the error's own backend,
            and leaves the member out where there is none.
    """
    data: JsonObject = {}
    executed = errors.Executed.NO if isinstance(error, _NEVER_RAN) else errors.Executed.UNKNOWN
    if isinstance(error, errors.BackendError | errors.Draining):
        executed = error.executed
    if isinstance(error, errors.BackendError):
        server = error.backend if server is None else server
    if server is not None:
        data["server"] = server
    data["reason"] = wire_for(error).reason
    data["executed"] = executed.value
    limit = _limit(error)
    if limit is not None:
        data["limit"] = limit
    if isinstance(error, errors.BackendError | errors.Overload | errors.Draining) and error.retry_after_ms is not None:
        data["retryAfterMs"] = error.retry_after_ms
    return data


def cancelled_data(server: BackendKey | None, executed: errors.Executed) -> JsonObject:
    """The ``data`` of ``CANCELLED``, which is no error class: a cancelled call raises nothing."""
    data: JsonObject = {} if server is None else {"server": server}
    return {**data, "reason": CANCELLED_WIRE.reason, "executed": executed.value}


def _limit(error: errors.GatewayError) -> str | None:
    match error:
        case errors.BackendTimeout():
            return error.limit.value
        case errors.BackendTooLarge():
            return error.limit
        case errors.Overload():
            return error.bound
        case _:
            return None
