"""What log level each upstream link of a 2025 backend was told.

Owns the translation of "this request wants logs from level X on" into
``logging/setLevel`` on the link that will carry it. Deliberately filters nothing
(whoever hears does). Invariant: a link that several callers share is only ever made
more talkative, so nobody loses what another asked for.

Spec: MCP 2025-11-25 server/utilities/logging; docs/protocol.md.
"""

import logging
from typing import Final
from weakref import WeakKeyDictionary

import attrs

from mcp_gateway.backends.backend import Backend, Caller
from mcp_gateway.backends.transports.base import Inbound, Link, Outgoing
from mcp_gateway.errors import GatewayError
from mcp_gateway.protocol import json_text, jsonrpc
from mcp_gateway.protocol.methods import level_at_least

logger = logging.getLogger(__name__)

METHOD: Final = "logging/setLevel"


async def _ignore(inbound: Inbound) -> None:
    """Nothing that comes before the answer to setLevel belongs to anybody."""


@attrs.define(eq=False)
class LogLevels:
    """The level in force on each link."""

    _told: WeakKeyDictionary[Link, str] = attrs.field(factory=WeakKeyDictionary)

    async def ensure(self, backend: Backend, caller: Caller, link: Link, level: str | None) -> None:
        """Make the caller's link send what ``level`` asks for; its refusal changes nothing."""
        if level is None or link.era.modern or "logging" not in backend.hello_for(caller).capabilities:
            return
        told = self._told.get(link)
        shared = link.shared or caller.session is None  # modern callers share one session of each kind
        if told == level or (shared and told is not None and level_at_least(level, told)):
            return
        self._told[link] = level
        params = json_text.dumps({"level": level})
        outgoing = Outgoing(
            method=METHOD, render=lambda number: jsonrpc.render_request(b"%d" % number, METHOD, params), control=True
        )
        settled = False
        try:
            await link.exchange(outgoing, _ignore)
            settled = True
        except GatewayError as error:
            settled = True
            logger.debug("log level not set", extra={"backend": backend.key, "why": str(error)})
        finally:
            if not settled:  # cancelled: the next caller tells it again
                self._told.pop(link, None)
