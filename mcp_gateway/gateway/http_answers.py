"""Answers that are decided by HTTP alone, before any message is looked at.

Owns the checks of Content-Type and Accept and the bodies of plain refusals.
Deliberately looks into no body. Invariant: a refusal is JSON, whatever the client
accepts. Spec: reference 1.2 (T25) and 1.4; RFC 9110 12.5.1.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from mcp_gateway.errors import Draining
from mcp_gateway.gateway.entrance import Reply, Request
from mcp_gateway.gateway.outlet import JSON_HEAD, Accepts
from mcp_gateway.protocol.envelope import Rejection
from mcp_gateway.protocol.wire_errors import INVALID_REQUEST, error_data, wire_for
from mcp_gateway.values import Header

SESSION_HEADER: Final = b"mcp-session-id"
VERSION_HEADER: Final = b"mcp-protocol-version"
_ZERO: Final = re.compile(rb"q *= *0(?:\.0*)?")


def accepted(request: Request) -> Accepts:
    """Which of our two answer forms the client takes; a missing or ``*/*`` Accept means both."""
    values = request.all(b"accept")
    if not values:
        return Accepts()
    taken: dict[bytes, bool] = {}
    for part in b",".join(values).lower().split(b","):
        media, *parameters = (piece.strip() for piece in part.split(b";"))
        taken[media] = not any(map(_ZERO.fullmatch, parameters))
    return Accepts(
        json=_takes(taken, b"application/json", b"application/*"), sse=_takes(taken, b"text/event-stream", b"text/*")
    )


def _takes(taken: Mapping[bytes, bool], *ranges: bytes) -> bool:
    """ "The most specific reference has precedence." -- RFC 9110 12.5.1"""
    return next((taken[media] for media in (*ranges, b"*/*") if media in taken), False)


def is_json(request: Request) -> bool:
    """Whether the body claims to be JSON."""
    values = request.all(b"content-type")
    return len(values) == 1 and values[0].partition(b";")[0].strip().lower() == b"application/json"


def refusal(status: int, message: str, code: int = INVALID_REQUEST) -> Rejection:
    """A refusal that has no request id to name."""
    return Rejection(status=status, code=code, message=message)


async def turn_away(reply: Reply, id_raw: bytes | None = None) -> None:
    """Refuse what would begin something new while the gateway drains."""
    error = Draining()
    data, code = error_data(error, None), wire_for(error).code
    rejection = Rejection(status=503, code=code, message=str(error), data=data, id_raw=id_raw)
    await refuse(reply, rejection, ((b"retry-after", b"1"),))


async def refuse(reply: Reply, rejection: Rejection, headers: Sequence[Header] = ()) -> None:
    """Send a refusal."""
    await reply.whole(rejection.status, (*JSON_HEAD, *headers), rejection.body())
