"""What a session holds outside its own object, from its first to its last moment.

Owns joining and leaving the hub and the address book, and freeing upstream sessions.
Deliberately holds no sessions (``session_table``). Invariant: after ``ended``
nothing outside the session refers to it.
"""

import attrs

from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.gateway.address_book import AddressBook
from mcp_gateway.gateway.hub import Audience, Hub
from mcp_gateway.gateway.session import Session
from mcp_gateway.gateway.tasks import Tasks
from mcp_gateway.values import BackendKey


@attrs.define(eq=False, kw_only=True)
class SessionCare:
    """Opens and closes the doors of sessions."""

    hub: Hub
    addresses: AddressBook
    fleet: Fleet
    tasks: Tasks
    _audiences: dict[str, Audience] = attrs.field(factory=dict)
    _sessions: dict[str, Session] = attrs.field(factory=dict)

    def opened(self, session: Session) -> None:
        """A session is in memory now."""
        place = (session.gateway, session.view)
        audience = Audience(view=place, mailbox=session.mailbox, sees=session.sees, seen=session.seen)
        self._audiences[session.key], self._sessions[session.key] = audience, session
        self.hub.join(audience)
        self.addresses.claim(session.address.name, session.receive)

    async def follow_lists(self) -> None:
        """Let each session see what servers list to it besides, and tell it, until cancelled."""
        cell = self.fleet.session_lists
        version, before = cell.version, cell.value
        while True:
            version, shown = await cell.changed(version)
            changed = [place for place in {*before, *shown} if before.get(place) is not shown.get(place)]
            for key in {key for _, key in changed if key in self._sessions}:
                self._sessions[key].shown = {server: one for (server, whose), one in shown.items() if whose == key}
                self.hub.announce_to(self._audiences[key], self.hub.table.value)
            before = shown

    def ended(self, session: Session) -> None:
        """A session has left memory; whoever ended it waits for no backend."""
        self.addresses.release(session.address.name)
        self.hub.leave(self._audiences.pop(session.key))
        del self._sessions[session.key]
        if session.over:
            self.tasks.end(session.owner, session.key)
        for key in session.backends:
            backend = self.fleet.get(BackendKey(key))
            if backend is not None:
                backend.end_session(session.key, for_good=session.over)
