"""What the public listener serves: where each head leads.

Owns the paths, the two health pages, preflights and the settings that all connections share.
Deliberately no sockets. Invariant: a path is compared as it came, so that a proxy in front and
this listener cannot read it in two ways; only a virtual server's name is decoded.
Spec: docs/operations.md; RFC 9110 9.3.7 (OPTIONS), 15.5.6 (Allow).
"""

from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import unquote

import attrs

from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.front.cors import cors_headers, preflight
from mcp_gateway.front.http1.request_reader import Head
from mcp_gateway.gateway.entrance import Job, Reply, Request
from mcp_gateway.gateway.origin import Refusal
from mcp_gateway.telemetry.metrics import Metrics
from mcp_gateway.values import Header

_MCP: Final = {b"/mcp": "/mcp", b"/mcp/": "/mcp", b"/sse": "/sse", b"/messages": "/messages"}
_VIRTUAL: Final = b"/mcp/vs/"
_TEXT: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
_PAGE_METHODS: Final[Header] = (b"allow", b"GET, HEAD, OPTIONS")


@attrs.frozen(kw_only=True)
class Timings:
    """How long one connection may be silent, in seconds."""

    head_s: float = 10.0
    """From accepting, and from the first byte of every later request, to the end of its head."""
    keep_alive_s: float = 75.0
    """Between two requests: above the 60 s at which most proxies in front drop an idle connection."""
    body_s: float = 60.0
    """For a whole body."""
    send_stall_s: float = 30.0
    """Without a byte of progress while we have something to send; the client is then treated as gone."""


class Dispatch(Protocol):
    """The gateway, as an entrance sees it: ``gateway.dispatch``."""

    def admit(self, request: Request) -> Refusal | None:
        """Why a request is not served, as far as its head shows."""
        ...

    def prepare(self, request: Request, reply: Reply) -> Job:
        """What a whole request has the gateway do."""
        ...


@attrs.frozen(kw_only=True)
class OwnAnswer:
    """An answer that needs no gateway."""

    status: int
    headers: tuple[Header, ...]
    body: bytes = b""


@attrs.define(eq=False, kw_only=True)
class Service:
    """What all connections of the public listener share."""

    dispatch: Dispatch
    ready: Callable[[], tuple[bool, str]]
    """Whether traffic should come here, and if not, why."""
    spec: Cell[GatewaySpec]
    """``http`` and ``limits.body_bytes`` are read once per request."""
    metrics: Metrics
    loopback: bool = True
    """Every address of the listener is a loopback address."""
    draining: Callable[[], bool] = lambda: False
    """While True, answers say ``Connection: close``, so that clients go elsewhere (docs/operations.md)."""
    timings: Timings = Timings()

    def request(self, head: Head, *, peer: str, scheme: str) -> Request:
        """The gateway's view of a head; an empty path if it does not lead there."""
        target, _, query = head.target.partition(b"?")
        path = _MCP.get(target)
        if path is None:
            path = unquote(target.decode("latin-1")) if target.startswith(_VIRTUAL) else ""
        return Request(
            method=head.method,
            path=path,
            query=query.decode("latin-1"),
            headers=tuple(head.headers),
            first=head.first,
            peer=peer,
            scheme=scheme,
            loopback=self.loopback,
        )

    def admit(self, request: Request) -> Refusal | None:
        """Why a request is not served, as far as its head shows. Pages are for everybody."""
        return self.dispatch.admit(request) if request.path else None

    def cors(self, request: Request) -> tuple[Header, ...]:
        """What every answer to an allowed Origin carries (a preflight has its own)."""
        if request.header(b"origin") is None or request.method == "OPTIONS" or not request.path:
            return ()
        return cors_headers(request.headers, allowed_origins=self.spec.value.http.allowed_origins)

    def own_answer(self, request: Request, head: Head) -> OwnAnswer | None:
        """The answer of a preflight or a page; None: it is for the gateway."""
        if not request.path:
            return self._page(head)
        if request.method != "OPTIONS":
            return None
        return OwnAnswer(
            status=204, headers=preflight(request.headers, allowed_origins=self.spec.value.http.allowed_origins)
        )

    def _page(self, head: Head) -> OwnAnswer:
        path = head.target.partition(b"?")[0]
        if path not in (b"/healthz", b"/readyz"):
            return _text(404, "not found")
        if head.method == "OPTIONS":
            return OwnAnswer(status=204, headers=(_PAGE_METHODS,))
        if head.method not in ("GET", "HEAD"):
            return attrs.evolve(_text(405, "method not allowed"), headers=(*_TEXT, _PAGE_METHODS))
        is_ready, why = self.ready() if path == b"/readyz" else (True, "")
        return _text(200, "ok") if is_ready else _text(503, f"not ready: {why}")


def _text(status: int, line: str) -> OwnAnswer:
    return OwnAnswer(status=status, headers=_TEXT, body=f"{line}\n".encode())
