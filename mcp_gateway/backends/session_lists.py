"""What the link of one client session lists beyond what everybody is shown.

Owns the reading of such lists: all of a process that a client has of its own, once it runs
and whenever they change, and over HTTP the resources, when the backend says on a session
that they have changed (what depends on capabilities there, a ``capability_probe`` finds for all).
Deliberately shows them to nobody (``fleet`` hands them on). Invariants: at most ``READERS``
links of a backend are read at once, each at most once per ``GAP_S``; what is told of a link
is taken back with it.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import attrs
import trio

from mcp_gateway.backends.connector import UPSTREAM_FAULTS
from mcp_gateway.backends.discovery import Catalogue, Discovery
from mcp_gateway.backends.transports.base import Inbound
from mcp_gateway.backends.upstream import Upstream
from mcp_gateway.routing.overlay import beyond
from mcp_gateway.routing.snapshot import Lists
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)

GAP_S: Final = 1.0
"""Between two readings of one link."""
READERS: Final = 2
"""A backend that tells all its sessions of a change is not asked by all at once."""
RESOURCES_CHANGED: Final = "notifications/resources/list_changed"


@attrs.define(eq=False, kw_only=True)
class SessionLists:
    """The lists of all client sessions of one backend, as far as they differ."""

    backend: BackendKey
    list_s: float
    everybodys: Callable[[], Lists | None]
    """What all clients of 2025 are shown, or may be."""
    hear: Callable[[Upstream, Inbound], Awaitable[None]]
    """Gets what comes beside an answer."""
    tell: Callable[[str, Lists], None]
    """Told what a session is shown besides, when that becomes another; nothing once its link has gone."""
    _wanted: dict[Upstream, trio.Event] = attrs.field(factory=dict)
    """Of each link that is read: set when it is to be read again."""
    _readers: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(READERS))

    def opened(self, upstream: Upstream) -> None:
        """A client uses a process of its own: what it lists is for this client."""
        if upstream not in self._wanted:
            self._want(upstream)

    def changed(self, upstream: Upstream, method: str) -> None:
        """The backend says on a link that a list is another one now."""
        if _is_pipe(upstream) or method == RESOURCES_CHANGED:
            self._want(upstream)

    def _want(self, upstream: Upstream) -> None:
        if upstream.key.session is None:
            return  # 2026 clients see one list for all
        if upstream in self._wanted:
            self._wanted[upstream].set()
        elif upstream.usable:
            self._wanted[upstream] = trio.Event()
            upstream.start(f"lists:{self.backend}", partial(self._follow, upstream, upstream.key.session), uses=False)

    async def _follow(self, upstream: Upstream, session: str) -> None:
        """Read the lists now and whenever it is wanted, for as long as the link lives."""
        told: Lists = {}
        last: Catalogue | None = None
        try:
            while True:
                wanted = self._wanted[upstream] = trio.Event()
                async with self._readers:
                    last = await self._read(upstream, last) or last
                everybodys = self.everybodys()
                found = beyond(everybodys, last.listings) if last is not None and everybodys is not None else {}
                if found != told:
                    told = found
                    self.tell(session, found)
                await wanted.wait()
                await trio.sleep(GAP_S)
        finally:
            del self._wanted[upstream]
            if told:
                self.tell(session, {})

    async def _read(self, upstream: Upstream, last: Catalogue | None) -> Catalogue | None:
        discovery = Discovery(
            link=upstream.link,
            backend=self.backend,
            list_s=self.list_s,
            over_http=not _is_pipe(upstream),
            hear=partial(self.hear, upstream),
        )
        hello = upstream.connection.hello
        if not _is_pipe(upstream):
            resources = {name: value for name, value in hello.capabilities.items() if name == "resources"}
            hello = attrs.evolve(hello, capabilities=resources)
        try:
            return await discovery.run(hello, last)
        except UPSTREAM_FAULTS as error:
            logger.debug("lists of a session not read", extra={"backend": self.backend, "why": str(error)})
            return None


def _is_pipe(upstream: Upstream) -> bool:
    return upstream.connection.listen is None
