"""What the faces share: one value that names every collaborator.

Owns no behaviour but the look-up of a request's place. Deliberately not a service
locator for the rest of the program: only ``dispatch`` and the faces see it.
Invariant: one gateway has one of it, for as long as it runs.
"""

from collections.abc import Callable

import attrs

from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.gateway.hub import Hub
from mcp_gateway.gateway.own_answers import OwnAnswers
from mcp_gateway.gateway.post import Post
from mcp_gateway.gateway.runner import Runner
from mcp_gateway.gateway.session_table import SessionTable
from mcp_gateway.gateway.tasks import Tasks
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.routing.table import RouteTable, View
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

    @property
    def realm(self) -> str:
        """What ids, cursors and states made here are bound to. Not to a header: it may come and go within a session."""
        return f"{self.gateway}|{self.path}"


@attrs.define(eq=False, kw_only=True)
class Core:
    """The collaborators of the client faces."""

    spec: Cell[GatewaySpec]
    table: Cell[RouteTable]
    sessions: SessionTable
    runner: Runner
    hub: Hub
    own: OwnAnswers
    tasks: Tasks
    post: Post[jsonrpc.RpcResponse]
    draining: Callable[[], bool]
    """True once new requests are refused (drain phase 2 and later)."""

    def place(self, host: str, path: str, narrowed: str = "") -> Place | None:
        """Find the view for a Host and the virtual server that path or header name; None: there is none such."""
        table = self.table.value
        gateway = table.gateway_for(host)
        view = table.view(gateway, narrowed or path)
        return None if view is None else Place(gateway=gateway, path=path, virtual=narrowed or path, view=view)
