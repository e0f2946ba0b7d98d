"""Where a request came in.

Owns the name of a gateway, or of one of its virtual servers, and what is seen there.
Deliberately finds nothing (``context`` does). Invariant: what is made at a place is good
at no other (docs/invariants.md, 4).
"""

import attrs

from mcp_gateway.routing.table import View
from mcp_gateway.values import GatewayName


@attrs.frozen(kw_only=True)
class Place:
    """Where a request came in: a gateway or one of its virtual servers."""

    gateway: GatewayName
    path: str
    """The virtual server that the path names; empty: none."""
    virtual: str
    """The one that is seen: the path's, or the one that a header narrows this request to."""
    view: View
    realm: str = attrs.field(init=False)
    """What ids, cursors and states made here are bound to. Not to a header: it may come and go within a session."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "realm", f"{self.gateway}|{self.path}")
