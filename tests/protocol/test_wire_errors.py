"""Which error has which code, and what its data say."""

import pytest

from mcp_gateway import errors
from mcp_gateway.errors import Executed, GatewayError, Limit
from mcp_gateway.protocol.headers import HeaderFault
from mcp_gateway.protocol.wire_errors import (
    CANCELLED,
    CANCELLED_WIRE,
    INTERNAL_WIRE,
    WIRE,
    Wire,
    cancelled_data,
    error_data,
    wire_for,
)
from mcp_gateway.values import BackendKey, JsonObject

TIME = BackendKey("time")
LATE = errors.BackendTimeout(backend=TIME, after_s=60.0, limit=Limit.CALL, executed=Executed.YES)


@pytest.mark.parametrize(
    "error, wire",
    [
        pytest.param(errors.BackendGone(backend=TIME, why="reset"), Wire(-33502, "backend_gone"), id="gone"),
        pytest.param(errors.BackendDown(backend=TIME), Wire(-33503, "backend_down"), id="down"),
        pytest.param(errors.BackendBusy(backend=TIME, status=429), Wire(-33503, "backend_busy"), id="busy"),
        pytest.param(LATE, Wire(-33504, "backend_timeout"), id="timeout"),
        pytest.param(errors.BackendAuth(backend=TIME, status=401), Wire(-33401, "backend_auth"), id="auth"),
        pytest.param(errors.BackendRemoved(backend=TIME), Wire(-33410, "backend_removed"), id="removed"),
        pytest.param(errors.BackendProtocol(backend=TIME, why="html"), Wire(-33520, "backend_protocol"), id="protocol"),
        pytest.param(
            errors.BackendTooLarge(backend=TIME, limit="eventBytes", bound=9), Wire(-33413, "too_large"), id="too large"
        ),
        pytest.param(errors.Overload(bound="inFlight", limit=1), Wire(-33429, "overload"), id="overload"),
        pytest.param(errors.Draining(), Wire(-33530, "draining"), id="draining"),
        pytest.param(HeaderFault(what="x"), Wire(-32020, "header_mismatch"), id="header"),
        pytest.param(errors.MalformedMessage(what="x", code=-32700), Wire(-32700, "malformed"), id="malformed"),
        pytest.param(errors.RemoteFault(what="x"), Wire(-32600, "malformed"), id="remote fault"),
        pytest.param(errors.LocalFault(what="x"), INTERNAL_WIRE, id="our bug"),
        pytest.param(TypeError("x"), INTERNAL_WIRE, id="any bug"),
    ],
)
def test_every_error_has_its_code(error: Exception, wire: Wire) -> None:
    assert wire_for(error) == wire


def _subclasses(kind: type[GatewayError]) -> set[type[GatewayError]]:
    return {kind} | {deeper for sub in kind.__subclasses__() for deeper in _subclasses(sub)}


def test_every_backend_error_stands_in_the_table() -> None:
    ours = {kind for kind in _subclasses(errors.BackendError) if kind.__module__ == errors.__name__}
    assert ours <= {kind for kind, _ in WIRE}  # what a package tells itself apart by goes as the error it is a kind of


def test_the_special_class_stands_before_the_general_one() -> None:
    kinds = [kind for kind, _ in WIRE]
    for at, kind in enumerate(kinds):
        assert not any(issubclass(later, kind) for later in kinds[at + 1 :])


def test_our_own_codes_lie_outside_the_reserved_range() -> None:
    protocol = {HeaderFault, errors.RemoteFault}
    for kind, wire in (*WIRE, (GatewayError, CANCELLED_WIRE)):
        assert (kind in protocol) or not -32768 <= wire.code <= -32000


@pytest.mark.parametrize(
    "error, server, data",
    [
        pytest.param(
            LATE,
            None,
            {"server": "time", "reason": "backend_timeout", "executed": "yes", "limit": "call"},
            id="timeout",
        ),
        pytest.param(
            errors.BackendBusy(backend=TIME, status=429, retry_after_ms=50),
            BackendKey("shown"),
            {"server": "shown", "reason": "backend_busy", "executed": "no", "retryAfterMs": 50},
            id="busy, with the name the client may see",
        ),
        pytest.param(
            errors.BackendTooLarge(backend=TIME, limit="eventBytes", bound=9),
            None,
            {"server": "time", "reason": "too_large", "executed": "unknown", "limit": "eventBytes"},
            id="too large",
        ),
        pytest.param(
            errors.Overload(bound="inFlight", limit=1),
            None,
            {"reason": "overload", "executed": "no", "limit": "inFlight", "retryAfterMs": 1000},
            id="overload",
        ),
        pytest.param(
            errors.Draining(executed=errors.Executed.UNKNOWN),
            TIME,
            {"server": "time", "reason": "draining", "executed": "unknown", "retryAfterMs": 1000},
            id="a running call that the drain cancelled",
        ),
        pytest.param(
            errors.Draining(),
            TIME,
            {"server": "time", "reason": "draining", "executed": "no", "retryAfterMs": 1000},
            id="drain",
        ),
        pytest.param(
            errors.MalformedMessage(what="x", code=-32600),
            None,
            {"reason": "malformed", "executed": "no"},
            id="malformed",
        ),
        pytest.param(errors.LocalFault(what="x"), None, {"reason": "internal", "executed": "unknown"}, id="our bug"),
    ],
)
def test_the_data_say_what_happened(error: GatewayError, server: BackendKey | None, data: JsonObject) -> None:
    assert error_data(error, server) == data


def test_a_cancelled_call_says_whether_it_ran() -> None:
    assert CANCELLED == -33499
    assert cancelled_data(TIME, Executed.UNKNOWN) == {"server": "time", "reason": "cancelled", "executed": "unknown"}
    assert cancelled_data(None, Executed.NO) == {"reason": "cancelled", "executed": "no"}
