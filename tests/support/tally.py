"""An observer that remembers what links and pools have told it.

Owns a list per kind. Deliberately keeps no state of servers: ``Silent`` ignores that.
Invariant: one entry, the server's name, for each time.
"""

import attrs

from mcp_gateway.backends.observer import Silent


@attrs.define(eq=False)
class Tally(Silent):
    """Lists of the servers that it was told of."""

    late: list[str] = attrs.field(factory=list)
    lost: list[str] = attrs.field(factory=list)
    skipped: list[str] = attrs.field(factory=list)

    def late_answer(self, server: str) -> None:
        self.late.append(server)

    def message_skipped(self, server: str) -> None:
        self.skipped.append(server)

    def kept_connection_lost(self, server: str) -> None:
        self.lost.append(server)
