"""Keeping what is known of one selection of objects at what the API server says.

Owns the loop of list, watch, and list again. Deliberately keeps no object (its
``Feed`` does) and decides nothing. Invariant: the feed hears of a whole list, or
of one change at a time, in the server's order; a failure takes nothing away.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeAlias

import attrs
import trio

from mcp_gateway.backends.health import HEALTHY_AFTER_S, Backoff
from mcp_gateway.kube.api import Api, Selection, WatchEvent
from mcp_gateway.kube.errors import ApiExpired, ApiForbidden, ApiMissing, KubeError
from mcp_gateway.values import JsonObject

logger = logging.getLogger(__name__)

Jitter: TypeAlias = Callable[[float], float]

ABSENT_S: Final = 10.0
"""How soon a kind that the cluster does not have is looked for again."""
SHORT_S: Final = 1.0
"""A watch that the server ends sooner counts as a failure: who cuts them all would be asked without end."""
AWAY: Final = Backoff(first_s=0.2, ceiling_s=5.0)
"""A server that is away comes back, and is heard again soon after; a process has a dozen watches, not thousands."""
FORBIDDEN: Final = Backoff(first_s=0.2, ceiling_s=30.0)
"""Until somebody grants it; there may be two watches for each namespace of the cluster that are refused."""


class Feed(Protocol):
    """Who wants to know; plain functions."""

    def listed(self, items: Iterable[JsonObject]) -> None:
        """All that there is now: what is not in it is gone."""
        ...

    def changed(self, value: JsonObject) -> None:
        """One object is new or another one."""
        ...

    def deleted(self, value: JsonObject) -> None:
        """One object is gone; this is what it was last."""
        ...

    def failed(self, error: KubeError) -> None:
        """Nothing new can be learnt for the moment."""
        ...

    def heard(self) -> None:
        """It can again: a list or a watch has begun."""
        ...


@attrs.define(eq=False, kw_only=True)
class Reflector:
    """One selection, reflected until cancelled."""

    api: Api
    selection: Selection
    feed: Feed
    jitter: Jitter
    optional: bool = False
    """The cluster need not have this kind: where it has not, there is nothing of it."""
    _failures: int = 0
    _version: str = ""
    """To go on from; empty: list first."""

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            began_at = trio.current_time()
            try:
                await self._round()
                if trio.current_time() - began_at < SHORT_S:
                    await self._pause(began_at)
            except ApiExpired as expired:
                self._version = ""
                await self._pause(began_at, expired)
            except ApiMissing as missing:
                self._version = ""
                if self.optional:
                    self.feed.listed(())
                    self.feed.heard()
                else:
                    self.feed.failed(missing)
                await trio.sleep(self.jitter(ABSENT_S))
            except KubeError as error:
                self.feed.failed(error)
                logger.debug("watch failed", extra={"kind": self.selection.kind.resource, "why": str(error)})
                await self._pause(began_at, error)

    async def _round(self) -> None:
        """A list, if there is nothing to go on from, and one watch to its end."""
        if not self._version:
            found = await self.api.list(self.selection)
            self.feed.listed(found.items)
            self._version = found.version
        async with self.api.watch(self.selection, self._version) as events:
            self.feed.heard()
            async for event in events:
                self._take(event)
                self._failures = 0  # a watch that brings something is none, however short

    def _take(self, event: WatchEvent) -> None:
        match event.type:
            case "ADDED" | "MODIFIED":
                self.feed.changed(event.object)
            case "DELETED":
                self.feed.deleted(event.object)
            case "BOOKMARK":
                pass
            case _:
                logger.warning("watch event of an unknown type", extra={"type": event.type[:32]})
                return
        self._version = event.version or self._version

    async def _pause(self, began_at: float, error: KubeError | None = None) -> None:
        """Before the next try: at once after a good time, else longer and longer, never sooner than asked."""
        if trio.current_time() - began_at >= HEALTHY_AFTER_S:
            self._failures = 0
        backoff = FORBIDDEN if isinstance(error, ApiForbidden) else AWAY
        backoff_s = backoff.delay_s(self._failures)
        self._failures += 1
        asked_s = None if error is None else error.retry_after_s
        await trio.sleep(max(self.jitter(backoff_s), asked_s or 0.0))
