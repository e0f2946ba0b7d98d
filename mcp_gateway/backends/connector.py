"""The seam between the loops that keep a backend going and the transports.

Owns ``Connector`` and the values that cross it. Deliberately dials nothing:
``spec_connector`` does, and tests bring a scripted one.
Invariant: leaving ``Connector.link`` has closed the link, within ``GOODBYE_S`` (a process that
never answered may take ``child.FIRST_STOP_S``, unless the gateway shuts down).
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeAlias

import attrs
import trio

from mcp_gateway.backends.transports.base import ClientIdentity, Hear, Hello, Link
from mcp_gateway.backends.transports.doubts import Doubts
from mcp_gateway.config.spec import ServerSpec
from mcp_gateway.errors import BackendError, ConfigError, GatewayError, Overload, RemoteFault

UPSTREAM_FAULTS: Final[tuple[type[GatewayError], ...]] = (BackendError, RemoteFault, ConfigError, Overload)
"""What may go wrong with a link; anything else is a bug of ours and not caught."""

Listen: TypeAlias = Callable[[Hear, Callable[[], None]], Awaitable[bool]]
"""``listen(hear, opened)``: hold the standalone GET stream of a session. Returns False when the
backend has none (405), True when it ended; raises what ``Link.exchange`` raises."""


@attrs.frozen(kw_only=True)
class Verdict:
    """How a backend wants to be spoken to; cached until it surprises us."""

    transport: str
    """``streamable-http``, ``sse`` or ``stdio``."""
    modern: bool | None = None
    """None: only opening the link tells (pipes)."""
    hello: Hello | None = None
    """What the probe already learnt of a modern backend, whichever way it is going to be spoken to."""
    offer: str | None = None
    """The revision to offer a legacy backend that said what it supports."""
    provisional: bool = False
    """The backend gave no answer that tells; it was taken for a legacy one, and is asked again now and then."""
    caveat: str = ""
    """What of the configuration this transport cannot do, for people."""

    @property
    def in_legacy(self) -> "Verdict":
        """How a 2025 connection is opened to a backend whose newest era is 2026."""
        return attrs.evolve(self, modern=False)

    @property
    def opening(self) -> str:
        """The request with which a link begins, where it does."""
        if self.transport == "sse":
            return "GET"
        return "" if self.pipe or self.modern else "initialize"

    @property
    def pipe(self) -> bool:
        """One conversation for many callers: a process or an HTTP+SSE connection."""
        return self.transport != "streamable-http"


@attrs.frozen(kw_only=True, eq=False)
class Connection:
    """An open link and what there is to know about it."""

    link: Link
    hello: Hello
    listen: Listen | None = None
    """None where unattributed messages come without a stream of their own, or never come."""
    doubts: Doubts | None = None
    """Whether the session stands; None where there is none that could be lost without the connection."""
    gone: Callable[[], Awaitable[str]] = trio.sleep_forever
    """Returns the reason once the link has ended by itself (a process exit); never, where only calls can tell."""


class Connector(Protocol):
    """The ways to reach one backend."""

    async def detect(self) -> Verdict:
        """Find transport and era without side effects; the caller holds the deadline.

        Raises:
            BackendGone, BackendAuth, BackendBusy, BackendProtocol.
        """
        ...

    async def reconsider(self, verdict: Verdict) -> Verdict:
        """Ask once more for the era of a backend whose verdict is provisional; bounded, and never fails.

        Returns: a verdict that is not provisional, else ``verdict`` itself.
        """
        ...

    def link(
        self,
        verdict: Verdict,
        identity: ClientIdentity,
        unattributed: Hear,
        stderr: Callable[[bytes], None],
    ) -> AbstractAsyncContextManager[Connection]:
        """Open one link and close it at the end; the caller holds the deadline (``start``).

        Args:
            verdict: what ``detect`` said.
            identity: what ``initialize`` says of the caller; modern backends hear it with each request instead.
            unattributed: gets what belongs to no exchange on a pipe.
            stderr: told of what a process writes to standard error, for as long as it lives; must not wait.
        Raises:
            as ``detect``; BackendRefused: the handshake was answered with an error.
        """
        ...

    def tidy(self) -> None:
        """Free what has become useless (idle connections); called with each probe."""
        ...

    async def aclose(self) -> None:
        """Free what outlives links (the connection pool); idempotent."""
        ...


ConnectorFactory: TypeAlias = Callable[[ServerSpec], Connector]


def leading(error: BaseException) -> BaseException:
    """The first error of a group, however deep; of several it is the one that ended the others."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
