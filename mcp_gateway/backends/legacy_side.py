"""Whether a server that speaks 2026 speaks 2025 too, and what it lists there.

Owns the short session on which that is found out, and when one is opened. Deliberately
carries no calls and keeps no lists (``snapshot_builder`` does). Invariants: at most one such
session is open; each is ended properly, and nobody is asked anything on it; what goes
wrong is no failure of the server, which serves in 2026 meanwhile.

No process is started to look: what a process says to ``initialize`` shows when the first
client gets one of its own.
"""

import logging
from collections.abc import Callable

import attrs

from mcp_gateway.backends.connector import UPSTREAM_FAULTS, Connection, Connector, Verdict, leading
from mcp_gateway.backends.discovery import Catalogue, Discovery
from mcp_gateway.backends.own_requests import GATEWAY, answer_alone
from mcp_gateway.backends.snapshot_builder import LegacyFacts, SnapshotBuilder
from mcp_gateway.backends.start import Start
from mcp_gateway.backends.transports.base import Inbound, Link
from mcp_gateway.config.spec import ServerSpec
from mcp_gateway.errors import BackendProtocol, BackendRefused

logger = logging.getLogger(__name__)


@attrs.define(eq=False, kw_only=True)
class LegacySide:
    """The 2025 side of one backend, where the newest that it speaks is 2026."""

    spec: ServerSpec
    connector: Connector
    builder: SnapshotBuilder
    gone: Callable[[], None]
    """Told when it turns out that 2025 is not spoken any more."""
    settled: bool = False
    """It is known on the present connection whether there is one (over HTTP)."""
    _unlisted: bool = False
    """Its lists could not be read the last time."""
    _compared: Catalogue | None = None
    """The 2026 lists when those of 2025 were read."""

    def connected(self) -> None:
        """A new connection: what was known is in force until it has been asked again."""
        self.settled = False

    def doubt(self) -> None:
        """A 2025 session was not as expected."""
        self.settled = False

    def refused(self, error: Exception) -> None:
        """A process that a client has of its own did not begin in 2025."""
        self.builder.legacy_refused = True
        logger.info("no 2025 connection", extra={"backend": self.spec.key, "why": str(error)})

    def due(self, modern: Catalogue | None, *, noticed: bool) -> bool:
        """Whether to look (again), now that the 2026 lists were read; ``noticed``: because they were said to change."""
        if not self.builder.may_have_legacy:
            return False
        if not self.settled:
            return True
        before = self._compared
        changed = before is None or modern is None or modern.listings != before.listings
        return self.builder.legacy is not None and (changed or noticed or self._unlisted)

    async def look(self, verdict: Verdict, modern: Catalogue | None) -> None:
        """Open a session, read its lists, end it; the builder knows the outcome.

        Args:
            modern: the 2026 lists as they are now.
        """
        self._compared = modern
        try:
            await self._visit(verdict.in_legacy)
        except* UPSTREAM_FAULTS as group:
            self._failed(leading(group))

    async def _visit(self, verdict: Verdict) -> None:
        opened: list[Link] = []

        async def hear(inbound: Inbound) -> None:
            for link in opened:  # before it is open, nothing can be answered on it
                await answer_alone(link, inbound)

        async with Start.of(self.spec).link(self.connector, verdict, GATEWAY, hear) as connection:
            opened.append(connection.link)
            self._greeted(connection)
            discovery = Discovery.of(self.spec, connection.link, hear)
            facts = self.builder.legacy
            assert facts is not None  # it was greeted just now
            try:
                found = await discovery.run(connection.hello, facts.catalogue)
            except UPSTREAM_FAULTS as error:
                self._unlisted = True
                logger.info("2025 lists not read", extra={"backend": self.spec.key, "why": str(error)})
            else:
                self._unlisted = bool(found.unread)
                self.builder.legacy = attrs.evolve(facts, catalogue=found)

    def _greeted(self, connection: Connection) -> None:
        known = self.builder.legacy
        self.builder.legacy = LegacyFacts(
            hello=connection.hello,
            sessionless=connection.link.shared,
            catalogue=known.catalogue if known is not None else None,
        )
        if known is None:
            fields = {
                "server": self.spec.key,
                "protocol": connection.hello.era.version,
                "sessions": not connection.link.shared,
            }
            logger.info("Speaks 2025 too", extra=fields)
        self.settled = True

    def _failed(self, error: BaseException) -> None:
        """No session: a refusal is an answer, anything else leaves it open."""
        logger.debug("no 2025 session", extra={"backend": self.spec.key, "why": str(error)})
        broken = isinstance(error, BackendProtocol) and (error.status is None or error.status < 500)
        if broken or isinstance(error, BackendRefused):
            self.settled = True
            if self.builder.legacy is not None:
                self.builder.legacy = None
                self.gone()
