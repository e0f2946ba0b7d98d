"""What a 2025 server lists only to clients that can do more than nothing.

Owns the short sessions on which the gateway declares capabilities that it does not
have, and when they are opened. Deliberately compares nothing (``routing.overlay``)
and causes no failure: what goes wrong is one ``Problem``, and what was found before
stays. Invariants: at most one such session is open, each is ended properly, and
nobody is asked anything on it that a client would have to answer.

Why: the gateway lists a server on a session that declares nothing. Servers that look
at the client's capabilities (server-everything) would be shown without the tools that
need them. 2026 servers hear of the capabilities with each request, and their lists must
not vary.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

import attrs
import orjson
import trio

from mcp_gateway.backends.connector import UPSTREAM_FAULTS, Connection, Connector, Verdict, leading
from mcp_gateway.backends.discovery import Catalogue, Discovery
from mcp_gateway.backends.health import Backoff
from mcp_gateway.backends.own_requests import GATEWAY, answer_to
from mcp_gateway.backends.snapshot_builder import SnapshotBuilder
from mcp_gateway.backends.start import Start
from mcp_gateway.backends.transports.base import Hear, Inbound, Link
from mcp_gateway.backends.upstream import Jitter, keep_listening
from mcp_gateway.config.spec import ServerSpec
from mcp_gateway.errors import BackendTimeout, Limit, Overload
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.capabilities import NAMES, object_of
from mcp_gateway.routing.overlay import NOTHING, Overlay, compare, differ, keep
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)

EVERYTHING: Final = frozenset(NAMES)
SINGLE: Final = (
    frozenset({"sampling"}),
    frozenset({"elicitation", "elicitation.form"}),
    frozenset({"elicitation", "elicitation.url"}),
    frozenset({"elicitation", "elicitation.form", "elicitation.url"}),
    frozenset({"roots"}),
)
"""Looked at only where ``EVERYTHING`` is shown other names than nothing is; the fewest capabilities first."""
WHOLE_S: Final = 30.0
"""For all sessions of one probe together; a page has ``timeouts.list``, a handshake ``timeouts.connect``."""
STREAM_WAIT_S: Final = 0.2
"""How long a session waits for its stream, on which a server may ask for what it needs to know before it lists."""
PIPE_WAIT_S: Final = 1.0
"""A second process waits so long, that it does not compete with the first calls of those who waited for the list."""
PAUSES: Final = Backoff(first_s=5.0, ceiling_s=60.0)
"""Between two probes of one connection: longer, the more of them in a row have found nothing new."""
REFUSED: Final = -1
"""The code with which a client's user rejects a request, in the examples of client/sampling."""

_NOBODY_THERE: Final[Mapping[str, bytes]] = {
    "ping": b"{}",
    "roots/list": b'{"roots":[]}',
    "elicitation/create": b'{"action":"cancel"}',
}
"""What a client answers who has nothing to give."""


@attrs.define(eq=False, kw_only=True)
class CapabilityProbe:
    """The looks at one backend with the eyes of more capable clients."""

    spec: ServerSpec
    connector: Connector
    builder: SnapshotBuilder
    jitter: Jitter
    room: Callable[[], bool]
    """Whether one more process may run beside those of callers."""
    _base: Catalogue = attrs.field(factory=lambda: Catalogue(listings={}))
    _compared: Catalogue | None = None
    """The base lists at the last probe that succeeded; None since one has failed."""
    _occasion: trio.Event = attrs.field(factory=trio.Event)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    @property
    def way(self) -> Verdict | None:
        """How its sessions are opened; None: what is listed in 2025 depends on no capabilities, or not to be found out.

        A second process may be one browser, lock file or licence too many: processes are probed only if asked for.
        """
        verdict, known = self.builder.verdict, self.builder
        if verdict is None or (known.modern and known.legacy is None) or known.sessionless:
            return None
        wanted = verdict.transport != "stdio" if self.spec.survey is None else self.spec.survey
        return (verdict.in_legacy if known.modern else verdict) if wanted else None

    def discovered(self, base: Catalogue, *, noticed: bool) -> None:
        """The base lists were read; ``noticed``: because the backend said that something has changed.

        Callers' sessions hear such notices too, also of a list that the base is not shown.
        """
        self._base = base
        if noticed or self._compared is None or base.listings != self._compared.listings:
            self._occasion.set()

    def begin(self, nursery: trio.Nursery, verdict: Verdict) -> trio.Event:
        """Probe now and on every further occasion, until ``stop``; the event is set once the first probe is over.

        Args:
            nursery: not the connection's, whose end would have to wait for the goodbye of a session here.
        """
        settled, self._scope = trio.Event(), trio.CancelScope()
        nursery.start_soon(self._run, verdict, settled, self._scope, name=f"capability probe:{self.spec.key}")
        return settled

    def stop(self) -> None:
        """The connection has ended."""
        self._scope.cancel("the connection has ended")

    async def _run(self, verdict: Verdict, settled: trio.Event, scope: trio.CancelScope) -> None:
        """A pipe is probed once, shortly after it was opened: each time costs up to six processes."""
        fruitless = 0
        with scope:
            if verdict.pipe:
                await trio.sleep(PIPE_WAIT_S)
            while True:
                self._occasion = trio.Event()
                news = await self._look(verdict)
                settled.set()
                if verdict.pipe:
                    return
                fruitless = 0 if news else fruitless + 1
                await trio.sleep(PAUSES.delay_s(fruitless))
                await self._occasion.wait()

    async def _look(self, verdict: Verdict) -> bool:
        """One probe; whether it found something new."""
        base, known = self._base, self.builder
        before = known.overlay
        self._compared = None
        try:
            known.capabilities_probed(await self._found_in_time(verdict, base))
            self._compared = base
        except* UPSTREAM_FAULTS as group:
            known.capability_probe_failed(str(leading(group)))
        if known.catalogue is not None:  # else it waits for the first lists to be published
            self.builder.announce()
        return known.overlay != before

    async def _found_in_time(self, verdict: Verdict, base: Catalogue) -> Overlay:
        with trio.move_on_after(WHOLE_S):
            return await self._found(verdict, base)
        raise BackendTimeout(backend=self.spec.key, after_s=WHOLE_S, limit=Limit.CALL)

    async def _found(self, verdict: Verdict, base: Catalogue) -> Overlay:
        before = self.builder.overlay
        everything = await self._shown_to(EVERYTHING, verdict, base)
        if not differ(base.listings, everything.listings):
            return keep(NOTHING, before, everything.unread)
        looks = [(one, await self._shown_to(one, verdict, base)) for one in SINGLE]
        looks.append((EVERYTHING, everything))
        found = compare(base.listings, [(granted, look.listings) for granted, look in looks])
        more = tuple(problem for problem in everything.problems if problem not in base.problems)
        unread = frozenset(kind for _, look in looks for kind in look.unread)
        return keep(attrs.evolve(found, problems=(*found.problems, *more)), before, unread)

    async def _shown_to(self, granted: frozenset[str], verdict: Verdict, base: Catalogue) -> Catalogue:
        """The lists of a session that declares these capabilities."""
        if verdict.pipe and not self.room():
            raise Overload(bound="limits.processes", limit=self.spec.limits.processes)
        identity = attrs.evolve(GATEWAY, capabilities=orjson.dumps(object_of(granted)))
        opened: list[Link] = []

        async def hear(inbound: Inbound) -> None:
            for link in opened:  # before it is open, nothing can be answered on it
                await answer_for_nobody(link, self.spec.key, inbound)

        async with Start.of(self.spec).link(self.connector, verdict, identity, hear) as connection:
            opened.append(connection.link)
            return await self._listed(connection, base, hear)

    async def _listed(self, connection: Connection, base: Catalogue, hear: Hear) -> Catalogue:
        discovery = Discovery.of(self.spec, connection.link, hear)
        async with trio.open_nursery() as nursery:
            heard = trio.Event()
            nursery.start_soon(self._listen, connection, hear, heard)
            with trio.move_on_after(STREAM_WAIT_S):
                await heard.wait()
            found = await discovery.run(connection.hello, base)
            nursery.cancel_scope.cancel("surveyed")
        if found.mute:
            raise found.faults[0]
        return found

    async def _listen(self, connection: Connection, hear: Hear, heard: trio.Event) -> None:
        await keep_listening(connection, hear, heard.set, lambda: None, self.jitter)
        heard.set()  # there is no such stream


async def answer_for_nobody(link: Link, backend: BackendKey, inbound: Inbound) -> None:
    """Answer what is asked on a session that no client is behind; notices are nobody's either."""
    if inbound.id_raw is None:
        return
    if inbound.method == "sampling/createMessage":
        answer = jsonrpc.render_error(inbound.id_raw, REFUSED, "User rejected sampling request")
    else:
        answer = answer_to(inbound.id_raw, result=_NOBODY_THERE.get(inbound.method))
    try:
        await link.notify(answer)
    except UPSTREAM_FAULTS as gone:  # asked while we leave; a session that broke shows in what it should have listed
        logger.debug("answer not delivered", extra={"backend": backend, "why": str(gone)})
