"""How a conversation over a pipe begins, in either era.

Owns the probe, discovery and the handshake on a link that has just been opened.
Deliberately starts and ends nothing, and its only deadline is the probe's: the
caller's scope bounds the rest. Invariant: nothing with a side effect is sent.
Spec: MCP 2026-07-28 basic/versioning; MCP 2025-11-25 basic/lifecycle.
"""

from typing import Final

import trio

from mcp_gateway.backends.transports import greeting
from mcp_gateway.backends.transports.asking import asking
from mcp_gateway.backends.transports.base import ClientIdentity, Hello, Inbound, Outgoing
from mcp_gateway.backends.transports.era_probe import DISCOVER, PROBE_S, EraKind, EraVerdict, discover_params, judge
from mcp_gateway.backends.transports.pipe import PipeLink
from mcp_gateway.errors import BackendProtocol, BackendRefused
from mcp_gateway.protocol import json_text, jsonrpc
from mcp_gateway.protocol.eras import ERAS, NEWEST_LEGACY, NEWEST_MODERN, Era
from mcp_gateway.values import BackendKey

NOBODY: Final = ClientIdentity()
"""A caller with no capabilities."""

_JSON: Final = b"application/json"
_INITIALIZED: Final = jsonrpc.render_notification("notifications/initialized", None)


async def probe_and_greet(link: PipeLink, identity: ClientIdentity) -> Hello:
    """Find out the era by ``server/discover``, then do what it needs.

    Raises:
        BackendGone: the pipe ended. BackendRefused, BackendProtocol: the backend speaks, but not with us.
    """
    verdict: EraVerdict | None = None
    with trio.move_on_after(PROBE_S):
        verdict = await _ask_discover(link, identity, NEWEST_MODERN)
    if verdict is not None and verdict.kind is EraKind.MODERN:
        return _modern_hello(link.key, verdict)
    offer = verdict.era if verdict is not None and verdict.era is not None else NEWEST_LEGACY
    try:
        return await initialize(link, identity, offer.version)
    except BackendRefused as exc:
        if verdict is not None:
            raise
        refused = exc
    # The probe was not answered in time and the handshake is refused: a modern server that was slow to start?
    verdict = await _ask_discover(link, identity, NEWEST_MODERN)
    if verdict.kind is not EraKind.MODERN:
        raise refused
    return _modern_hello(link.key, verdict)


async def greet(link: PipeLink, identity: ClientIdentity, *, pinned: str | None) -> Hello:
    """Greet without a probe: in the era of ``pinned``, else as a legacy backend. Errors as ``probe_and_greet``."""
    if pinned is not None and ERAS[pinned].modern:
        verdict = await _ask_discover(link, identity, ERAS[pinned])
        if verdict.kind is not EraKind.MODERN:
            raise BackendProtocol(backend=link.key, why=f"it does not speak the configured {pinned}: {verdict.why}")
        return _modern_hello(link.key, verdict)
    return await initialize(link, identity, pinned or NEWEST_LEGACY.version)


async def initialize(link: PipeLink, identity: ClientIdentity, offer: str) -> Hello:
    """The legacy handshake: ``initialize``, then ``notifications/initialized``.

    Args:
        offer: the revision to propose, where the identity has none of its own.
    Raises:
        BackendRefused: answered with a JSON-RPC error. BackendProtocol: with a revision that is not ours.
    """
    params = b'{"protocolVersion":%b,"capabilities":%b,"clientInfo":%b}' % (
        json_text.dumps(identity.version or offer),
        identity.capabilities,
        identity.info,
    )
    with asking("initialize"):
        raw = await _ask(link, "initialize", params)
        parts = jsonrpc.answer_parts(raw)
        body = greeting.read_object(parts.result)
        if parts.is_error:
            raise greeting.refused(link.key, body, 200)
        hello = greeting.initialized(link.key, body)
    await link.notify(_INITIALIZED)
    return hello


async def _ask_discover(link: PipeLink, identity: ClientIdentity, era: Era) -> EraVerdict:
    return judge(200, _JSON, await _ask(link, DISCOVER, discover_params(identity, era)))


async def _ask(link: PipeLink, method: str, params: bytes) -> bytes:
    def render(upstream_id: int) -> bytes:
        return jsonrpc.render_request(b"%d" % upstream_id, method, params)

    # Not cancellable: initialize must not be cancelled, and before it a server need not understand the notice.
    answer = await link.exchange(Outgoing(method=method, render=render, cancellable=False, control=True), _ignore)
    return answer.raw


async def _ignore(inbound: Inbound) -> None:
    """What comes before the greeting is done is not ours to serve."""


def _modern_hello(key: BackendKey, verdict: EraVerdict) -> Hello:
    if verdict.hello is None:
        raise BackendProtocol(backend=key, why=f"server/discover gave no result: {verdict.why}")
    return verdict.hello
