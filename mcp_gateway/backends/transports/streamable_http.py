"""How a conversation over Streamable HTTP begins, in either era.

Owns the probe (``probe_era``), discovery (``discover``) and the handshake
(``open_legacy``), and is the front of the transport: the links come from here.
Deliberately holds no deadline but the probe's; the caller owns the scope. Invariant: a handshake
that fails after ``initialize`` leaves no session behind, if the backend can be told.
Spec: MCP 2026-07-28 basic/versioning; MCP 2025-11-25 basic/lifecycle.
"""

from collections.abc import Callable
from typing import Final

import trio

from mcp_gateway.backends.transports import greeting
from mcp_gateway.backends.transports.asking import asking
from mcp_gateway.backends.transports.base import GOODBYE_S, ClientIdentity, Hear, Hello, Inbound
from mcp_gateway.backends.transports.era_probe import (
    DISCOVER,
    PROBE_S,
    EraKind,
    EraVerdict,
    discover_params,
    judge,
    pinned_verdict,
    undecided,
)
from mcp_gateway.backends.transports.http_client import HttpPool
from mcp_gateway.backends.transports.http_connection import HttpConnection
from mcp_gateway.backends.transports.http_exchange import EVENT_STREAM, JSON, POST_HEADERS, AnswerReader, HttpExchange
from mcp_gateway.backends.transports.legacy_http import LegacyHttpLink, NoStream, end_session
from mcp_gateway.backends.transports.modern_http import ModernHttpLink
from mcp_gateway.backends.transports.origin import render_headers
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import BackendBusy, BackendError, BackendGone, BackendProtocol, BackendTimeout, Executed
from mcp_gateway.protocol import json_text, jsonrpc
from mcp_gateway.protocol.eras import ERAS, NEWEST_MODERN, Era
from mcp_gateway.values import BackendKey, Header

__all__ = [
    "LegacyHttpLink",
    "ModernHttpLink",
    "NoStream",
    "discover",
    "open_legacy",
    "probe_era",
]

NOBODY: Final = ClientIdentity()
SESSION_ID_BYTES: Final = 4096
METHOD_NOT_FOUND: Final = -32601
_INITIALIZED: Final = jsonrpc.render_notification("notifications/initialized", None)


async def probe_era(
    pool: HttpPool, limits: BackendLimits, pinned: str | None = None, identity: ClientIdentity = NOBODY
) -> EraVerdict:
    """Find out which era a backend speaks, without side effects.

    Args:
        pinned: the configured revision; a legacy one is believed without asking.
    Returns:
        MODERN with ``era`` (and ``hello``, unless it refused the probe), LEGACY with the revision to offer, SSE;
        UNDECIDED also where the answer was broken off or did not come within ``PROBE_S``.
    Raises:
        BackendBusy: it said when to come back.
        BackendGone, BackendTimeout: it could not be reached.
        BackendProtocol: it does not speak the configured modern revision. There, others as ``HttpPool.request`` too.
    """
    verdict = pinned_verdict(pinned) if pinned is not None else None
    if verdict is not None:
        return verdict
    if pinned is None:
        return await _probe(pool, limits, identity)
    with asking(DISCOVER):
        verdict = judge(*await _ask_discover(pool, limits, identity, ERAS[pinned]))
        if verdict.kind is not EraKind.MODERN:
            raise BackendProtocol(backend=pool.key, why=f"it does not speak the configured {pinned}: {verdict.why}")
    return verdict


async def _probe(pool: HttpPool, limits: BackendLimits, identity: ClientIdentity) -> EraVerdict:
    """Ask, with ``PROBE_S`` for the answer once there is a connection; whatever is no answer leaves it undecided."""
    with trio.CancelScope() as scope:

        def sent() -> None:
            scope.deadline = trio.current_time() + PROBE_S

        try:
            with asking(DISCOVER):
                return judge(*await _ask_discover(pool, limits, identity, NEWEST_MODERN, sent))
        except BackendTimeout:
            raise  # of the dial
        except BackendError as error:
            unreached = isinstance(error, BackendGone) and error.executed is Executed.NO
            if unreached or (isinstance(error, BackendBusy) and error.retry_after_ms is not None):
                raise
            return undecided(error.reason)
    return undecided(f"{DISCOVER} was not answered within {PROBE_S:g} s")


async def discover(
    pool: HttpPool, limits: BackendLimits, identity: ClientIdentity = NOBODY, era: Era = NEWEST_MODERN
) -> Hello:
    """Ask a modern backend who it is.

    Raises:
        BackendProtocol: it does not say, or speaks no revision of ours any more. Others as ``probe_era``.
    """
    with asking(DISCOVER):
        verdict = judge(*await _ask_discover(pool, limits, identity, era))
        if verdict.hello is None:
            raise BackendProtocol(backend=pool.key, why=f"server/discover gave no result: {verdict.why}")
    return verdict.hello


async def _ask_discover(
    pool: HttpPool,
    limits: BackendLimits,
    identity: ClientIdentity,
    era: Era,
    sent: Callable[[], None] = lambda: None,
) -> tuple[int, bytes, bytes]:
    """Status, media type and body of the answer; an event stream is read to the answer.

    ``sent``: called when a connection is in hand.
    """
    message = jsonrpc.render_request(b"1", DISCOVER, discover_params(identity, era))
    headers = render_headers(
        (
            *POST_HEADERS,
            (b"MCP-Protocol-Version", era.version.encode("ascii")),
            (b"Mcp-Method", DISCOVER.encode("ascii")),
        )
    )
    reader = AnswerReader(key=pool.key, limits=limits, requests_allowed=True, observer=pool.observer)
    exchange = HttpExchange(upstream_id=1)

    def body() -> bytes:
        sent()
        return message

    async with pool.request(b"POST", headers, body, control=True, follow=True) as response:
        if response.content_type == EVENT_STREAM and response.status < 300:
            answer = await reader.read_events(response, exchange, _ignore)
            return response.status, JSON, b"" if answer is None else answer.raw
        if response.status in (401, 403, 429, 503):
            await reader.refused(response, exchange)
        raw = await response.read(limits.response_bytes) if response.content_type == JSON else b""
        return response.status, response.content_type, jsonrpc.unpadded(raw)


async def open_legacy(
    pool: HttpPool,
    *,
    identity: ClientIdentity,
    offer: str,
    limits: BackendLimits,
    forward: tuple[Header, ...] = (),
    control: bool = False,
) -> LegacyHttpLink:
    """Initialize one session: ``initialize``, then ``notifications/initialized``.

    Args:
        offer: the revision to propose; the backend may answer with another legacy one.
        forward: headers of the client that go with the handshake and with what is no exchange.
        control: use a control connection, so that a full ``concurrency`` cannot hold the handshake up.
    Raises:
        BackendRefused: answered with a JSON-RPC error; ``status`` and ``code`` tell what to try next.
        BackendProtocol: no MCP, or a revision that is not ours; ``status`` if the HTTP status was wrong.
        BackendAuth, BackendBusy, BackendGone, BackendTooLarge, BackendTimeout (dial).
    """
    with asking("initialize"):
        result, session_id = await _initialize(pool, identity, offer, limits, forward, control)
    ready = False
    try:
        with asking("initialize"):
            hello = greeting.initialized(pool.key, greeting.read_object(result))
        link = LegacyHttpLink(pool=pool, hello=hello, limits=limits, session_id=session_id, forward=forward)
        with asking("notifications/initialized"):
            await link.notify(_INITIALIZED)
        ready = True
        return link
    finally:
        if not ready and session_id is not None:
            with trio.move_on_after(GOODBYE_S, shield=True):
                await end_session(pool, render_headers([(b"Mcp-Session-Id", session_id), *forward]))


async def _initialize(
    pool: HttpPool,
    identity: ClientIdentity,
    offer: str,
    limits: BackendLimits,
    forward: tuple[Header, ...],
    control: bool,
) -> tuple[bytes, bytes | None]:
    """The raw result of ``initialize`` and the session id, if one was given."""
    params = b'{"protocolVersion":%b,"capabilities":%b,"clientInfo":%b}' % (
        json_text.dumps(offer),
        identity.capabilities,
        identity.info,
    )
    headers = render_headers((*POST_HEADERS, *forward))
    body = jsonrpc.render_request(b"1", "initialize", params)
    reader = AnswerReader(key=pool.key, limits=limits, requests_allowed=True, observer=pool.observer)
    exchange = HttpExchange(upstream_id=1)
    async with pool.request(b"POST", headers, body, control=control, follow=True) as response:
        session_id = _session_id(pool.key, response)
        if response.status >= 400:
            answer = await reader.refused(response, exchange)
        else:
            found = await reader.read(response, exchange, _early_ear(pool, headers, session_id))
            if found is None:
                raise reader.ended_without_answer(exchange)
            answer = found
    parts = answer.parts
    if parts.is_error:
        raise greeting.refused(pool.key, greeting.read_object(parts.result), answer.status)
    return parts.result, session_id


def _early_ear(pool: HttpPool, headers: bytes, session_id: bytes | None) -> Hear:
    """Answers what a server may send before it is initialized: "The server SHOULD NOT send requests other than
    pings and logging before receiving the initialized notification" -- MCP 2025-11-25, basic/lifecycle."""

    async def hear(inbound: Inbound) -> None:
        if inbound.id_raw is None:
            return
        if inbound.method == "ping":
            reply = jsonrpc.render_result(inbound.id_raw, b"{}")
        else:
            reply = jsonrpc.render_error(inbound.id_raw, METHOD_NOT_FOUND, "Method not found")
        session = render_headers([(b"Mcp-Session-Id", session_id)]) if session_id is not None else b""
        async with pool.request(b"POST", headers + session, reply, control=True):
            pass  # 202; anything else would change nothing

    return hear


def _session_id(key: BackendKey, response: HttpConnection) -> bytes | None:
    """ "The session ID MUST only contain visible ASCII characters (ranging from 0x21 to 0x7E)." -- MCP 2025-11-25"""
    session_id = response.headers.get(b"mcp-session-id")
    if session_id is None or response.status >= 300:
        return None
    if not session_id or len(session_id) > SESSION_ID_BYTES or not all(0x21 <= byte <= 0x7E for byte in session_id):
        raise BackendProtocol(backend=key, why="a session id that is not visible ASCII")
    return session_id


async def _ignore(inbound: Inbound) -> None:
    """What comes before the answer to a probe is not ours to serve."""
