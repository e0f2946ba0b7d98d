"""Which era a backend speaks, judged by its answer to ``server/discover``.

Owns the probe's request and the table of answers. Deliberately no I/O: who asks
is ``streamable_http`` or ``pipe_greeting``. Invariant: one answer gives one verdict; an
answer that says nothing of the era (5xx, 401, 403, 429, a page) is UNDECIDED, never a guess.
Spec: MCP 2026-07-28, basic/versioning and basic/transports/streamable-http,
"Backward Compatibility"; what real servers answer is a table in the tests.
"""

from enum import Enum
from typing import Final

import attrs

from mcp_gateway.backends.transports import greeting
from mcp_gateway.backends.transports.base import ClientIdentity, Hello
from mcp_gateway.errors import RemoteFault
from mcp_gateway.protocol import json_text, jsonrpc
from mcp_gateway.protocol.eras import ERAS, LEGACY_VERSIONS, MODERN_VERSIONS, NEWEST_LEGACY, NEWEST_MODERN, Era
from mcp_gateway.values import JsonValue

DISCOVER: Final = "server/discover"
PROBE_S: Final = 2.0
"""Some legacy servers answer nothing before ``initialize``: a timeout means legacy (basic/versioning)."""
UNSUPPORTED_VERSION: Final = -32022
MODERN_CODES: Final = frozenset({-32020, -32021, UNSUPPORTED_VERSION})
"""Codes that only a modern server uses (MCP 2026-07-28, basic, Error codes)."""
_META: Final = "io.modelcontextprotocol/"


class EraKind(Enum):
    """What a backend speaks."""

    MODERN = "modern"
    LEGACY = "legacy"
    """Initialize it."""
    SSE = "sse"
    """No such POST here: if ``initialize`` is refused alike, a GET may give an ``endpoint`` event (2024-11-05)."""
    UNDECIDED = "undecided"
    """Initialize it, and ask again later."""


@attrs.frozen(kw_only=True)
class EraVerdict:
    """What an answer says of the backend.

    ``era``: the revision to speak (modern), to offer in ``initialize`` (legacy), else
    None. ``hello``: what a modern backend said of itself, None if it refused.
    """

    kind: EraKind
    why: str
    era: Era | None = None
    hello: Hello | None = None


def judge(status: int, content_type: bytes, body: bytes) -> EraVerdict:
    """Judge the answer to a modern ``server/discover`` without a session.

    Ids are not looked at: in error bodies they are unreliable ("server-error", null).

    Args:
        content_type: the media type alone, in lower case.
        body: the whole body; of an event stream the answer's data, with ``application/json``.
    """
    if status in (401, 403, 408, 425, 429) or status >= 500:
        return undecided(f"HTTP {status}")
    parts = _parts(body) if content_type == b"application/json" else None
    if parts is not None:
        return _judge_error(parts.result) if parts.is_error else _judge_result(parts.result)
    if status in (404, 405):
        return EraVerdict(kind=EraKind.SSE, why=f"no POST here (HTTP {status})")
    if status < 300:  # a page of whatever stands before the server, or nothing at all
        return undecided(f"HTTP {status} without a JSON-RPC answer")
    return _legacy(f"HTTP {status} without a JSON-RPC answer")


def undecided(why: str) -> EraVerdict:
    """There was no answer, or none that tells."""
    return EraVerdict(kind=EraKind.UNDECIDED, why=why)


def pinned_verdict(version: str) -> EraVerdict | None:
    """The verdict for a configured revision: known at once for a legacy one, None where discovery is still needed."""
    era = ERAS[version]
    return None if era.modern else EraVerdict(kind=EraKind.LEGACY, why="configured", era=era)


def discover_params(identity: ClientIdentity, era: Era = NEWEST_MODERN) -> bytes:
    """The raw params of ``server/discover``."""
    # Written by hand: the identity is raw JSON and goes through as it is.
    return (
        b'{"_meta":{"io.modelcontextprotocol/protocolVersion":%b,"io.modelcontextprotocol/clientCapabilities":%b,'
        b'"io.modelcontextprotocol/clientInfo":%b}}'
    ) % (json_text.dumps(era.version), identity.capabilities, identity.info)


def _parts(body: bytes) -> jsonrpc.AnswerParts | None:
    try:
        return jsonrpc.answer_parts(body)
    except RemoteFault:
        return None


def _judge_result(raw: bytes) -> EraVerdict:
    result = greeting.read_object(raw)
    offered = result.get("supportedVersions")
    era = _newest(offered, MODERN_VERSIONS)
    if era is not None:
        return EraVerdict(kind=EraKind.MODERN, why="discovered", era=era, hello=greeting.discovered(result, era))
    # A 200 without supportedVersions: a legacy server behind a front that answers whatever it is asked.
    return _legacy("no modern revision in its answer", _newest(offered, LEGACY_VERSIONS))


def _judge_error(raw: bytes) -> EraVerdict:
    error = greeting.read_object(raw)
    code = error.get("code")
    if not isinstance(code, int) or code not in MODERN_CODES:
        # -32601 too: "server/discover" is a MUST, so who does not know it is not modern.
        return _legacy(f"JSON-RPC error {code if isinstance(code, int) else 'without a code'}")
    if code == UNSUPPORTED_VERSION:
        data = error.get("data")
        supported = data.get("supported") if isinstance(data, dict) else None
        era = _newest(supported, MODERN_VERSIONS)
        legacy = _newest(supported, LEGACY_VERSIONS)
        if era is None and legacy is not None:
            return _legacy("it supports legacy revisions only", legacy)
        return EraVerdict(kind=EraKind.MODERN, why=f"JSON-RPC error {code}", era=era or NEWEST_MODERN)
    return EraVerdict(kind=EraKind.MODERN, why=f"JSON-RPC error {code}", era=NEWEST_MODERN)


def _legacy(why: str, era: Era | None = None) -> EraVerdict:
    return EraVerdict(kind=EraKind.LEGACY, why=why, era=era or NEWEST_LEGACY)


def _newest(offered: JsonValue, known: tuple[str, ...]) -> Era | None:
    """The newest revision of ``known`` (oldest first) that is offered."""
    if not isinstance(offered, list):
        return None
    return next((ERAS[version] for version in reversed(known) if version in offered), None)
