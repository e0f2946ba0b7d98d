"""The seam between the gateway and a backend, whatever carries the bytes.

Owns the ``Link`` protocol and the values that cross it. Deliberately no I/O.
Invariant: whoever leaves ``Link.exchange`` early (cancellation, deadline) has
told the backend in its own era's way, within ``GOODBYE_S``.

A *link* is one conversation with one backend in one era: an initialized
Streamable HTTP session, a modern backend's endpoint, a child process, or an
HTTP+SSE connection. Many exchanges run on one link at once.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

import attrs

from mcp_gateway.errors import LocalFault
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.eras import Era, Family
from mcp_gateway.values import Header, JsonObject, JsonValue, Params

GOODBYE_S: Final = 2.0
"""The longest a cancellation notice may keep a cancelled call alive (docs/architecture.md)."""


Respond: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Sends the response to a backend's request, or progress on the way to it, on the link that it came on."""


async def _nowhere(message: bytes) -> None:
    raise LocalFault(what="a message of a backend is answered that no caller's link has passed on")


@attrs.frozen(kw_only=True)
class Inbound:
    """A notification or a request that the backend sent (never an answer).

    ``raw`` is the whole message as it came; ``id_raw`` the bytes of its id, or
    None for a notification. ``respond``: to a request, where it was asked, which may be a
    session that its caller uses no more; raises what ``Link.notify`` raises.
    """

    method: str
    params: Params
    raw: bytes = attrs.field(repr=False)
    id_raw: bytes | None = None
    respond: Respond = attrs.field(default=_nowhere, eq=False, repr=False)
    more: bool = False
    """Others came with it, and ``Outgoing.caught_up`` is called, or the answer given, when all of them were heard."""


@attrs.define(kw_only=True)
class Answer:
    """The final response to one exchange.

    ``raw`` is the whole JSON-RPC response with the upstream id in it, exactly
    one JSON object, UTF-8. ``status`` is the HTTP status it came with (200 on pipes).
    """

    raw: bytes = attrs.field(repr=False)
    status: int = 200
    known: jsonrpc.AnswerParts | None = attrs.field(default=None, eq=False, repr=False)
    """What stands in it, where somebody has looked."""

    @property
    def parts(self) -> jsonrpc.AnswerParts:
        """What stands in it; looked up once, for it may be large.

        Raises:
            RemoteFault: not exactly one response object (links have asked before they give it away).
        """
        if self.known is None:
            self.known = jsonrpc.answer_parts(self.raw)
        return self.known


Hear: TypeAlias = Callable[[Inbound], Awaitable[None]]
"""Called for each message that belongs to an exchange, in order, before its answer.
The next message is not read until it returns (no buffering)."""


Polled: TypeAlias = Callable[[int | None], Awaitable[None]]
"""Called when the backend has ended the stream of an exchange that it goes on with when it is asked again; with the
pause that it wants before, in milliseconds. Spec: MCP 2025-11-25 basic/transports, "the client SHOULD then poll"."""


async def unpolled(retry_ms: int | None) -> None:
    """Nobody is told."""


async def nothing_held() -> None:
    """Nothing was held back."""


@attrs.frozen(kw_only=True)
class Outgoing:
    """One request for a backend.

    ``render(upstream_id)`` gives the whole JSON-RPC request with that id (and,
    where the caller asked for progress, that id as its progressToken). It is
    called once per attempt; the same id is never used twice on a link.
    """

    method: str
    render: Callable[[int], bytes]
    headers: tuple[Header, ...] = ()
    """HTTP only: Mcp-Name, Mcp-Param-* and forwarded headers, already encoded. Pipes ignore them."""
    cancellable: bool = True
    """False for ``initialize``: leaving sends no notice."""
    family: Family | None = None
    """In whose form it is written; None: it is the same in both."""
    control: bool = False
    """True: use the control connections, outside ``concurrency`` (pings, probes, listen streams)."""
    task: str | None = None
    """The backend's id of the task whose result it waits for: what is asked about that task elsewhere is for it. It may
    wait for long, so it takes no place of ``concurrency`` from calls."""
    polled: Polled = unpolled
    caught_up: Callable[[], Awaitable[None]] = nothing_held
    """Called when all of what came at once was heard (``Inbound.more``)."""


class Link(Protocol):
    """One conversation with one backend."""

    @property
    def era(self) -> Era:
        """The revision that was agreed on."""
        ...

    @property
    def shared(self) -> bool:
        """True when messages of several clients travel on it (pipes without an owner, sessionless backends)."""
        ...

    @property
    def lost(self) -> bool:
        """True once no further exchange can succeed; the owner then opens a new link."""
        ...

    async def exchange(self, outgoing: Outgoing, hear: Hear) -> Answer:
        """Send one request and wait for its answer.

        Cancelled while the request may have reached the backend: tells it
        (2025: notifications/cancelled with the upstream id and the cancel reason;
        2026 over HTTP: closes the stream) under a shield of at most ``GOODBYE_S``,
        then lets ``Cancelled`` go on. Cancelled while still queued: silent.

        Raises:
            BackendGone: the connection failed or ended; ``executed`` says how far it got.
            BackendSessionLost, BackendAuth, BackendBusy, BackendProtocol, BackendTooLarge.
        """
        ...

    async def notify(self, message: bytes) -> None:
        """Send one notification, or the response to a request of the backend. Same errors."""
        ...

    async def aclose(self) -> None:
        """Say goodbye (DELETE, end of stdin) within ``GOODBYE_S`` and free everything; idempotent."""
        ...


@attrs.frozen(kw_only=True)
class Hello:
    """What a backend said of itself: the result of ``initialize`` or ``server/discover``."""

    era: Era
    capabilities: JsonObject
    server_info: JsonValue = None
    instructions: str = ""


@attrs.frozen(kw_only=True)
class ClientIdentity:
    """What ``initialize`` says of the caller: its own capabilities and name, never the gateway's.

    Raw JSON objects, so that equal bytes mean the same upstream session.
    """

    capabilities: bytes = b"{}"
    info: bytes = b'{"name":"mcp-gateway","version":"0"}'
    version: str | None = None
    """The protocol version to offer; None: the newest legacy one."""
