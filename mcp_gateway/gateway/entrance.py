"""The one seam between all entrances (ASGI, express lane, HTTP+SSE) and the gateway.

Owns ``Request``, ``Reply`` and ``CallScope``. Deliberately knows no ASGI, no
httptools and no sockets. Invariant: a ``Reply`` is used as ``whole`` once, or as
``open``, any number of ``event``/``comment``, ``close``; a write after the client
left returns False and never raises.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
import trio

from mcp_gateway.auth.principal import ANONYMOUS, Principal
from mcp_gateway.values import Header


@attrs.frozen(kw_only=True)
class Request:
    """One HTTP request, its body read whole (at most ``limits.bodyBytes``)."""

    method: str
    path: str
    query: str = ""
    headers: tuple[Header, ...] = ()
    """Names lower case, in order, duplicates kept."""
    body: bytes = attrs.field(default=b"", repr=False)
    peer: str = ""
    scheme: str = "http"
    principal: Principal = ANONYMOUS
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, repr=False)
    """A scope that nobody has entered yet: dispatch enters it around the call and moves its deadline."""

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; ``name`` in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key == name]


class Reply(Protocol):
    """The one answer to one HTTP request; owned by the entrance."""

    async def whole(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        """Send a complete answer."""
        ...

    async def open(self, status: int, headers: Sequence[Header]) -> bool:
        """Send the head of a ``text/event-stream`` answer; ``headers``: beyond what every such answer has."""
        ...

    async def event(
        self, data: bytes, *, event_id: str | None = None, retry_ms: int | None = None, name: str | None = None
    ) -> bool:
        """Send one server-sent event; ``data`` is one JSON message (or empty, for a priming event).

        ``name`` is the event's type; None leaves it out (a plain message).
        """
        ...

    async def comment(self) -> bool:
        """Send a comment line, so that nobody between takes the silence for death."""
        ...

    async def close(self) -> None:
        """End the stream."""
        ...

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the client has left; at once if it already has."""
        ...
