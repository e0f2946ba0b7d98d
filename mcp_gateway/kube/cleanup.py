"""Taking back what an instance has left outside of its namespace, before it goes for good.

Owns the rounds of looking and writing. Deliberately decides nothing (``reconcile.farewell``) and elects nobody.
Invariant: it ends when a look finds nothing more, or says what is in the way.
"""

import logging
from collections.abc import Callable
from typing import Final

import attrs
import trio

from mcp_gateway.kube import schema
from mcp_gateway.kube.api import Api, Selection
from mcp_gateway.kube.errors import ApiConflict, ApiMissing
from mcp_gateway.kube.pen import NotLeading, Pen
from mcp_gateway.kube.reconcile.conditions import Now
from mcp_gateway.kube.reconcile.farewell import farewell
from mcp_gateway.kube.reconcile.outcome import Outcome
from mcp_gateway.kube.store import Settings, Store

logger = logging.getLogger(__name__)

TRIES: Final = 5
"""Looks in a row after which every write met a conflict."""
PAUSE_S: Final = 1.0
"""Before another try."""
KINDS: Final = (schema.GATEWAY, schema.HTTP_ROUTE, schema.REFERENCE_GRANT)
"""All that may carry something of ours."""


@attrs.frozen(eq=False, kw_only=True)
class Cleanup:
    """One instance that takes its leave."""

    api: Api
    pen: Pen
    settings: Settings
    wall_clock: Callable[[], float]

    async def run(self) -> int:
        """Take everything back; returns how many writes that took.

        Raises:
            KubeError: the API server refuses, or is away.
            ApiConflict: others wrote at the same time again and again.
        """
        found: tuple[Outcome, ...] = ()
        written = tries = 0
        while tries < TRIES:
            found = farewell(await self._look(), Now(at=trio.current_time(), unix_s=self.wall_clock()))
            if not found:
                return written
            done = sum([await self._write(outcome) for outcome in found])
            written += done
            tries = 0 if done else tries + 1
            if not done:
                await trio.sleep(PAUSE_S)
        why = f"{len(found)} objects are changed by others at the same time"
        raise ApiConflict(where="cleanup", status=409, cause="Conflict", message=why)

    async def _look(self) -> Store:
        store = Store(settings=self.settings)
        for kind in KINDS:
            try:
                listed = await self.api.list(Selection(kind=kind))
            except ApiMissing:
                continue  # a cluster without this kind
            store.replace(kind, listed.items)
        return store

    async def _write(self, outcome: Outcome) -> int:
        """How many writes were made; after a conflict the next look sees what is left."""
        done = 0
        try:
            if outcome.route_status is not None:
                await self.pen.route_status(outcome.route_status)
                done += 1
            for mark in outcome.listeners:
                done += await self.pen.mark(mark) == 0  # else it was written a moment ago
            for unwanted in outcome.delete:
                await self.pen.delete(unwanted)
                done += 1
        except NotLeading:
            raise
        except (ApiConflict, ApiMissing) as error:
            logger.debug("not taken back yet", extra={"why": str(error)})
        return done
