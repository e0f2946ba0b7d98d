"""Which request a line, a span or a backend call belongs to.

Owns the context variables that the log reads, and the W3C ``traceparent`` of a
request. Deliberately records no spans and imports no OpenTelemetry.
Invariant: what a client sends is either well-formed or ignored, never an error.
Spec: W3C Trace Context (2021-11-23), 3.2; MCP 2026-07-28 carries the same text in ``_meta``.
"""

import itertools
import re
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final

import attrs

from mcp_gateway.values import Params

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The client's X-Request-Id if it is sane, else one of ours."""
trace_id: ContextVar[str] = ContextVar("trace_id", default="")
"""The trace the request belongs to (32 hexadecimal digits), or nothing."""
gateway: ContextVar[str | None] = ContextVar("gateway", default=None)
"""The gateway that the request is at; None: not known yet, or no request."""

_OURS: Final = secrets.token_hex(4)
_NUMBERS: Final = itertools.count()
"""An id need not be secret, only of one request of one process: no random bytes for each."""
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 0x01


@attrs.frozen(kw_only=True)
class TraceParent:
    """One parsed ``traceparent``."""

    trace_id: str
    parent_id: str
    flags: int = _SAMPLED

    @property
    def sampled(self) -> bool:
        """Whether the caller records this trace."""
        return bool(self.flags & _SAMPLED)

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.parent_id}-{self.flags:02x}"


def parse_traceparent(text: str) -> TraceParent | None:
    """Read a ``traceparent``; None for anything malformed, which is then treated as absent.

    A higher version is read as far as version 00 goes; only version ff is forbidden (3.2.2.1, 4.1).
    """
    found = _TRACEPARENT.fullmatch(text.strip())
    if found is None:
        return None
    version, trace, parent, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace.strip("0") or not parent.strip("0"):
        return None
    return TraceParent(trace_id=trace, parent_id=parent, flags=int(flags, 16))


def note_request(headers: Mapping[bytes, bytes]) -> None:
    """Set the context of the current task from a request's headers (names lower case)."""
    asked, trace = headers.get(b"x-request-id"), headers.get(b"traceparent")
    sane = asked is not None and _REQUEST_ID.fullmatch(asked)
    request_id.set(asked.decode("ascii") if asked and sane else f"{_OURS}{next(_NUMBERS):08x}")
    parsed = parse_traceparent(trace.decode("latin-1")) if trace else None
    trace_id.set(parsed.trace_id if parsed else "")
    gateway.set(None)


def note_gateway(name: str) -> None:
    """Add which gateway the request is at, once that is decided."""
    gateway.set(name)


def note_trace(meta: Params) -> None:
    """Add what a request says of its trace in its ``_meta``, where its HTTP headers said nothing.

    Spec: MCP 2026-07-28 basic/index, ``_meta``: ``traceparent`` as in W3C Trace Context.
    """
    text = meta.get("traceparent")
    parsed = parse_traceparent(text) if isinstance(text, str) and not trace_id.get() else None
    if parsed is not None:
        trace_id.set(parsed.trace_id)
