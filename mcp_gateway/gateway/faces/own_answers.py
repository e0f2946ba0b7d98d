"""Requests that the gateway answers by itself: handshake, discovery, lists, ping.

Owns the results; pure but for the signature of cursors. Deliberately forwards
nothing. Invariant: a list is answered from the route table alone and never waits
for a backend (docs/architecture.md).
"""

from typing import Final

import attrs

from mcp_gateway.cell import Cell
from mcp_gateway.protocol import json_text, splice, tasks
from mcp_gateway.protocol.envelope import META_SERVER_INFO
from mcp_gateway.protocol.eras import ERAS, LEGACY_VERSIONS, MODERN_VERSIONS, NEWEST_LEGACY, Era
from mcp_gateway.protocol.wire_errors import INVALID_PARAMS
from mcp_gateway.routing.advertised import Advertised
from mcp_gateway.routing.decide import ListOf
from mcp_gateway.routing.listing_views import Position
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.routing.table import View
from mcp_gateway.sessions.signed import Purpose, Signer
from mcp_gateway.values import JsonObject, JsonValue

DISCOVER_TTL_MS: Final = 60_000
"""How long clients may keep our capabilities and instructions, which change with the servers."""


@attrs.frozen(kw_only=True)
class Invalid:
    """Params that cannot be served."""

    code: int
    message: str


def negotiate(offered: JsonValue) -> Era:
    """The version of a new 2025 session: the client's if we speak it, else our latest legacy one.

    Spec: MCP 2025-11-25 basic/lifecycle, Version Negotiation; 2026-07-28 has no ``initialize``.
    """
    return ERAS[offered] if isinstance(offered, str) and offered in LEGACY_VERSIONS else NEWEST_LEGACY


@attrs.frozen(kw_only=True)
class OwnAnswers:
    """Makes results; one per process."""

    server_info: bytes
    signer: Cell[Signer]

    def initialized(self, era: Era, view: View) -> bytes:
        """The result of ``initialize``."""
        value: JsonObject = {"protocolVersion": era.version, **_advertised(view, era)}
        return splice.rewrite(json_text.dumps(value), {"serverInfo": self.server_info})

    def discovered(self, era: Era, view: View) -> bytes:
        """The result of ``server/discover`` (MCP 2026-07-28 server/discover)."""
        value: JsonObject = {
            "resultType": "complete",
            "supportedVersions": [*MODERN_VERSIONS],
            **_advertised(view, era),
            "ttlMs": DISCOVER_TTL_MS,
            "cacheScope": "public",
        }
        return splice.rewrite(json_text.dumps(value), {"_meta": {META_SERVER_INFO: self.server_info}})

    def listed(self, wanted: ListOf, era: Era, view: View, realm: str) -> bytes | Invalid:
        """The result of a list request."""
        kind, position = wanted.kind, None
        if wanted.cursor is not None:
            position = self._position(wanted.cursor, kind, realm)
            if position is None:
                return Invalid(code=INVALID_PARAMS, message="invalid cursor")
        page = view.page(kind, era, position)
        if page is None:
            return Invalid(code=INVALID_PARAMS, message="invalid cursor: the list has changed, begin again")
        if page.following is None:
            return page.raw
        return page.with_cursor(self._cursor(page.following, realm))

    def _cursor(self, position: Position, realm: str) -> str:
        payload: JsonObject = {"k": position.kind.value, "o": position.offset, "f": position.fingerprint.hex()}
        return self.signer.value.seal(Purpose.CURSOR, realm, json_text.dumps(payload))

    def _position(self, cursor: str, kind: Kind, realm: str) -> Position | None:
        sealed = self.signer.value.open(Purpose.CURSOR, realm, cursor)
        payload = json_text.parse(sealed) if sealed is not None else None
        if not isinstance(payload, dict) or payload.get("k") != kind.value:
            return None
        offset, fingerprint = payload.get("o"), payload.get("f")
        if not isinstance(offset, int) or not isinstance(fingerprint, str):
            return None
        return Position(kind=kind, offset=offset, fingerprint=bytes.fromhex(fingerprint))


def _advertised(view: View, era: Era) -> JsonObject:
    """What both results say of a view."""
    advertised = view.advertised if era.modern else view.advertised.without(tasks.EXTENSION)
    said: JsonObject = {"capabilities": _capabilities(advertised, view, era)}
    if advertised.instructions:
        said["instructions"] = advertised.instructions
    if advertised.meta:
        said["_meta"] = advertised.meta
    return said


def _capabilities(advertised: Advertised, view: View, era: Era) -> JsonObject:
    """What the gateway relays, without what this revision does not know."""
    found = dict(advertised.capabilities)
    if not era.completions:
        found.pop("completions", None)
    if era.tasks and view.some_server(tasks.CALLS):
        found["tasks"] = tasks.capability(cancels=view.some_server(tasks.CANCELS))
    return found
