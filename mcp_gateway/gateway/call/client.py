"""Who asks: what one request needs to know of its client, in either era.

Owns the client of a 2026 request; that of a 2025 request is its ``Session``, which has the
same members. Deliberately knows no HTTP. Invariant: nothing in it comes from another
client's session or request (docs/invariants.md, 4).
"""

from typing import TypeAlias

import attrs

from mcp_gateway.auth.principal import Principal
from mcp_gateway.backends.caller import Caller
from mcp_gateway.gateway.session import Session
from mcp_gateway.protocol.eras import Era
from mcp_gateway.sessions.task_ids import TaskOwner
from mcp_gateway.values import JsonObject


@attrs.frozen(kw_only=True, eq=False)
class ModernClient:
    """The client of one 2026 request, which stands alone."""

    era: Era
    realm: str
    """What its cursors and states are bound to."""
    principal: Principal
    caller: Caller
    """Whose upstream sessions it uses at 2025 backends."""
    capabilities: JsonObject
    """What it has declared; decides what it may be asked."""
    owner: TaskOwner
    """Whose its tasks are."""
    log_level: str | None = None
    """From which level on it wants log messages; None: it wants none."""
    session: None = None
    """It has none, and is never sent a request."""


Client: TypeAlias = Session | ModernClient
