"""Answers that are decided by HTTP alone, before any message is looked at.

Owns the checks of Content-Type and Accept, and the jobs that answer without a stream.
Deliberately looks into no body. Invariant: a refusal is JSON, whatever the client
accepts. Spec: MCP basic/transports; RFC 9110 12.5.1.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import attrs
import trio

from mcp_gateway.errors import Draining
from mcp_gateway.gateway.call.response import JSON_HEAD, Accepts
from mcp_gateway.gateway.entrance import Reply, Request
from mcp_gateway.protocol.envelope import Rejection
from mcp_gateway.protocol.wire_errors import INVALID_REQUEST, error_data, wire_for
from mcp_gateway.values import Header

SESSION_HEADER: Final = b"mcp-session-id"
VERSION_HEADER: Final = b"mcp-protocol-version"
RETRY_SOON: Final[Header] = (b"retry-after", b"1")
BOTH: Final = Accepts()
_ZERO: Final = re.compile(rb"q *= *0(?:\.0*)?")
_MAX_ACCEPT_BYTES: Final = 1024
"""Longer ones are not remembered."""


@attrs.define(eq=False)
class Whole:
    """The job that answers at once."""

    reply: Reply
    status: int
    headers: Sequence[Header] = ()
    body: bytes = b""

    async def run(self, scope: trio.CancelScope) -> None:
        """There is nothing to wait for."""

    async def finish(self) -> None:
        """See ``entrance.Job``."""
        await self.reply.whole(self.status, self.headers, self.body)

    def left(self) -> None:
        """It is over before that matters."""


@attrs.define(eq=False)
class WholeAfter(Whole):
    """The job that first does something which nobody waits for."""

    work: Callable[[], Awaitable[None]] = attrs.field(kw_only=True)

    async def run(self, scope: trio.CancelScope) -> None:
        """See ``entrance.Job``."""
        await self.work()


def whole_json(reply: Reply, status: int, body: bytes, *headers: Header) -> Whole:
    """Answer with a JSON body."""
    return Whole(reply, status, (*JSON_HEAD, *headers), body)


def refuse(reply: Reply, rejection: Rejection, *headers: Header) -> Whole:
    """Answer with a refusal."""
    return whole_json(reply, rejection.status, rejection.body(), *headers)


def refusal(status: int, message: str, code: int = INVALID_REQUEST) -> Rejection:
    """A refusal that has no request id to name."""
    return Rejection(status=status, code=code, message=message)


def turn_away(reply: Reply, id_raw: bytes | None = None) -> Whole:
    """Refuse what would begin something new while the gateway drains."""
    error = Draining()
    data, code = error_data(error, None), wire_for(error).code
    rejection = Rejection(status=503, code=code, message=str(error), data=data, id_raw=id_raw)
    return refuse(reply, rejection, RETRY_SOON)


def accepted(request: Request) -> Accepts:
    """Which of our two answer forms the client takes; a missing or ``*/*`` Accept means both."""
    if request.header(b"accept") is None:
        return BOTH
    values = b",".join(request.all(b"accept"))
    return _accepted(values) if len(values) <= _MAX_ACCEPT_BYTES else _read_accept(values)


def _read_accept(values: bytes) -> Accepts:
    taken: dict[bytes, bool] = {}
    for part in values.lower().split(b","):
        media, *parameters = (piece.strip() for piece in part.split(b";"))
        taken[media] = not any(map(_ZERO.fullmatch, parameters))
    return Accepts(
        json=_takes(taken, b"application/json", b"application/*"), sse=_takes(taken, b"text/event-stream", b"text/*")
    )


_accepted = lru_cache(maxsize=256)(_read_accept)


def _takes(taken: Mapping[bytes, bool], *ranges: bytes) -> bool:
    """ "The most specific reference has precedence." -- RFC 9110 12.5.1"""
    return next((taken[media] for media in (*ranges, b"*/*") if media in taken), False)


def is_json(request: Request) -> bool:
    """Whether the body claims to be JSON."""
    value = request.only(b"content-type")
    return value is not None and (value == "application/json" or _media_type(value) == "application/json")


def _media_type(value: str) -> str:
    return value.partition(";")[0].strip().lower()
