"""The one seam between all entrances (HTTP/1.1, a batch, HTTP+SSE) and the gateway.

Owns ``Request``, ``Reply`` and ``Job``. Deliberately knows no HTTP parser and no
sockets. Invariants: a ``Reply`` is used as ``whole`` once, or as ``open``, any number of
``event``/``comment``, ``close``; a write after the client left returns False and never
raises. A ``Job`` writes exactly one answer, at the latest in ``finish``.

An entrance does, per request, in this order (``dispatch`` is the gateway's)::

    refusal = dispatch.admit(request)  # the head is complete, the body not read
    request.body = ...
    job = dispatch.prepare(request, reply)  # plain: nothing has waited yet
    with trio.CancelScope() as scope:
        await job.run(scope)
    await job.finish()

and calls ``job.left()`` when the client leaves meanwhile.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs
import trio

from mcp_gateway.auth.principal import ANONYMOUS, Principal
from mcp_gateway.values import Header


@attrs.define(kw_only=True, eq=False)
class Request:
    """One HTTP request; only the entrance changes it, until it gives it to ``prepare``."""

    method: str
    path: str
    query: str = ""
    headers: tuple[Header, ...] = ()
    """Names lower case, in order, duplicates kept."""
    body: bytes = attrs.field(default=b"", repr=False)
    """Read whole (at most ``limits.bodyBytes``) after the head was admitted."""
    peer: str = ""
    scheme: str = "http"
    loopback: bool = False
    """Only this machine can reach the listener that it came on."""
    principal: Principal = ANONYMOUS

    _first: Mapping[bytes, bytes] = attrs.field(
        alias="first", repr=False, default=attrs.Factory(lambda self: dict(reversed(self.headers)), takes_self=True)
    )
    """The first value of each header; an entrance that has them gives them."""

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; ``name`` in lower case."""
        return self._first.get(name)

    def only(self, name: bytes) -> str | None:
        """The one value of a header; several are none."""
        value = self._first.get(name)
        if value is None or (len(self._first) != len(self.headers) and len(self.all(name)) != 1):
            return None
        return value.strip(b" \t").decode("latin-1")

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header, in order."""
        if len(self._first) == len(self.headers):
            return [self._first[name]] if name in self._first else []
        return [value for key, value in self.headers if key == name]


class Reply(Protocol):
    """The one answer to one HTTP request; owned by the entrance."""

    async def whole(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        """Send a complete answer."""
        ...

    async def open(self, status: int, headers: Sequence[Header], *, more: bool = False) -> bool:
        """Send the head of a ``text/event-stream`` answer; ``headers``: beyond what every such answer has.

        ``more``: as of ``event``.
        """
        ...

    async def event(
        self,
        data: bytes,
        *,
        event_id: str | None = None,
        retry_ms: int | None = None,
        name: str | None = None,
        more: bool = False,
    ) -> bool:
        """Send one server-sent event; ``data`` is one JSON message (or empty, for a priming event).

        Args:
            name: the event's type; None leaves it out (a plain message).
            more: something else is written, or ``flush`` called, before anything is waited for: it may go with that.
        """
        ...

    async def flush(self) -> bool:
        """Send what was held back for ``more``."""
        ...

    async def comment(self) -> bool:
        """Send a comment line, so that nobody between takes the silence for death."""
        ...

    async def close(self) -> None:
        """End the stream."""
        ...


class Job(Protocol):
    """What one request has the gateway do; made by ``dispatch.prepare``."""

    async def run(self, scope: trio.CancelScope) -> None:
        """Do what waits, inside ``scope``, which the entrance has entered and which is this job's until this returns.

        The job moves the scope's deadline and cancels it; it changes nothing else of it. An entrance may use the
        scope again for its next job unless it was cancelled.
        """
        ...

    async def finish(self) -> None:
        """Write the answer that is still owed, where no cut reaches; the job is over with it."""
        ...

    def left(self) -> None:
        """The client has left; what that means is the era's affair. Plain; once; after ``finish`` of no effect."""
        ...


async def serve(job: Job) -> None:
    """Run a job in a scope of its own and let it finish."""
    with trio.CancelScope() as scope:
        await job.run(scope)
    await job.finish()
