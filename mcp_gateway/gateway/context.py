"""What the faces share: one value that names every collaborator.

Owns the look-up of a request's place. Deliberately not a service locator for the rest of
the program: only ``dispatch`` and the faces see it. Invariant: one gateway has one of it,
for as long as it runs.
"""

from typing import Final

import attrs

from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.gateway.address_book import AddressBook
from mcp_gateway.gateway.call.call import Calls
from mcp_gateway.gateway.faces.own_answers import OwnAnswers
from mcp_gateway.gateway.hub import Hub
from mcp_gateway.gateway.place import Place
from mcp_gateway.gateway.session_table import SessionTable
from mcp_gateway.gateway.tasks import Tasks
from mcp_gateway.routing.table import RouteTable

_PLACES: Final = 1024
"""Spellings of Host and path whose places are remembered."""


@attrs.define(eq=False, kw_only=True)
class Context:
    """The collaborators of the client faces."""

    spec: Cell[GatewaySpec]
    table: Cell[RouteTable]
    sessions: SessionTable
    calls: Calls
    hub: Hub
    own: OwnAnswers
    tasks: Tasks
    addresses: AddressBook
    draining: bool = False
    """True once new requests are refused (drain phase 2 and later)."""
    _places: dict[tuple[str, str, str], Place] = attrs.field(factory=dict, init=False)
    _places_of: RouteTable | None = attrs.field(default=None, init=False)
    """The table that they are places of."""

    def place(self, host: str, path: str, narrowed: str = "") -> Place | None:
        """Find the view for a Host and the virtual server that path or header name; None: there is none such."""
        table = self.table.value
        if self._places_of is not table or len(self._places) > _PLACES:
            self._places, self._places_of = {}, table
        key = (host, path, narrowed)
        place = self._places.get(key)
        if place is None:
            gateway = table.gateway_for(host)
            view = table.view(gateway, narrowed or path)
            if view is None:
                return None
            place = self._places[key] = Place(gateway=gateway, path=path, virtual=narrowed or path, view=view)
        return place
