"""One discovery: every list a backend advertises, all pages, bounded.

Owns the bounds and what a refused, malformed, late or endless list means: it costs
that list, and no other. Deliberately decides neither when to discover nor what health
follows (``schedule``, ``supervisor``). Invariant: it ends, whatever the backend answers,
within ``OVERALL_S``, or ``timeouts.list`` for each list where that is more.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import trio

from mcp_gateway.backends.own_requests import METHOD_NOT_FOUND, ask, request
from mcp_gateway.backends.transports.base import Hear, Hello, Link
from mcp_gateway.config.spec import ServerSpec, StdioTarget
from mcp_gateway.errors import (
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendRefused,
    BackendSessionLost,
    BackendTimeout,
    BackendTooLarge,
    Limit,
    RemoteFault,
)
from mcp_gateway.routing import listing
from mcp_gateway.routing.listing import Page
from mcp_gateway.routing.snapshot import Kind, Listing, Problem
from mcp_gateway.turns import in_turns
from mcp_gateway.values import BackendKey, JsonObject

MAX_PAGES: Final = 1000
MAX_BYTES: Final = 32 * 2**20
"""Of all pages of one list together; the rest is dropped and reported."""
OVERALL_S: Final = 60.0
"""For all lists together, of which each has an equal share; one page has ``timeouts.list``."""

_METHODS: Final[Mapping[Kind, str]] = {
    Kind.TOOLS: "tools/list",
    Kind.PROMPTS: "prompts/list",
    Kind.RESOURCES: "resources/list",
    Kind.TEMPLATES: "resources/templates/list",
}
_CAPABILITY: Final[Mapping[Kind, str]] = {
    Kind.TOOLS: "tools",
    Kind.PROMPTS: "prompts",
    Kind.RESOURCES: "resources",
    Kind.TEMPLATES: "resources",
}


@attrs.frozen(kw_only=True)
class Catalogue:
    """What one discovery found."""

    listings: Mapping[Kind, Listing]
    problems: tuple[Problem, ...] = ()
    unread: frozenset[Kind] = frozenset()
    """Lists that could not be read to their end: the last good one stands, else what could be read."""
    partial: frozenset[Kind] = frozenset()
    """Those of them that no discovery has read to their end."""
    mute: bool = False
    """No page of any list could be read, although the backend answers: all is as it was."""
    faults: tuple[BackendError, ...] = attrs.field(default=(), eq=False)
    """Why lists are ``unread``."""

    @property
    def ttl_s(self) -> float | None:
        """How long the shortest-lived list stays fresh; None: no list says."""
        return min((found.ttl_ms / 1000 for found in self.listings.values() if found.ttl_ms > 0), default=None)

    @property
    def dropped(self) -> bool:
        """Whether a request ended with its connection: the backend may be gone."""
        return any(isinstance(fault, BackendGone) for fault in self.faults)

    @property
    def retry_after_s(self) -> float:
        """How long the backend wants to be left alone."""
        return max(((fault.retry_after_ms or 0) / 1000 for fault in self.faults), default=0.0)


@attrs.define(kw_only=True)
class _Reading:
    """How far the reading of one list has come."""

    kind: Kind
    pages: list[Page] = attrs.field(factory=list)
    cursors: set[str] = attrs.field(factory=set)
    size: int = 0
    items: int = 0
    cut: str = ""
    """The bound that has ended it: what was read is the list."""
    fault: BackendError | None = None
    """What has ended it before the list's end."""

    @property
    def unknown(self) -> bool:
        """The backend has no such list, whatever it advertises."""
        return not self.pages and isinstance(self.fault, BackendRefused) and self.fault.code == METHOD_NOT_FOUND

    def take(self, page: Page, page_bytes: int) -> str | None:
        """Add a page; the cursor of the next one, None if there is none or a bound is reached.

        Raises:
            RemoteFault: it leads nowhere, or on for ever.
        """
        self.pages.append(page)
        self.size += page_bytes
        self.items += len(page.items)
        cursor = page.next_cursor
        if page.bad_cursor:
            raise RemoteFault(what=page.bad_cursor)
        if cursor is None:
            return None
        if cursor in self.cursors:
            raise RemoteFault(what="the same cursor twice")
        if len(self.pages) >= MAX_PAGES:
            raise RemoteFault(what=f"more than {MAX_PAGES} pages")
        self.cursors.add(cursor)
        if self.size > MAX_BYTES:
            self.cut = f"more than {MAX_BYTES} bytes: the rest was not read"
        elif self.items > listing.MAX_ITEMS:
            self.cut = f"more than {listing.MAX_ITEMS} items: the rest was not read"
        return None if self.cut else cursor

    def standing(self, last: Catalogue | None) -> Listing | None:
        """What is served instead of what could be read, if there is anything better."""
        if last is None or (self.pages and self.kind in last.partial):
            return None
        return last.listings.get(self.kind)

    def report(self, *, stands: bool) -> tuple[Problem, ...]:
        """What is to be told of how it ended."""
        if self.fault is None:
            reason = self.cut
        elif self.unknown:
            # Many servers advertise resources and know no templates: that is no problem worth telling.
            reason = "" if self.kind is Kind.TEMPLATES else f"{_METHODS[self.kind]}: {_words(self.fault)}"
        else:
            shown = "what was listed before stands" if stands else f"{self.items} items could be read"
            reason = f"{_METHODS[self.kind]}: {_words(self.fault)}: {shown}"
        return (Problem(kind=self.kind, name="", reason=reason, hidden=True),) if reason else ()


@attrs.frozen(kw_only=True)
class Discovery:
    """How to discover over one link."""

    link: Link
    backend: BackendKey
    list_s: float
    over_http: bool
    hear: Hear

    @classmethod
    def of(cls, spec: ServerSpec, link: Link, hear: Hear) -> "Discovery":
        """How a configured server is discovered over one of its links."""
        over_http = not isinstance(spec.target, StdioTarget)
        return cls(link=link, backend=spec.key, list_s=spec.timeouts.list_s, over_http=over_http, hear=hear)

    async def run(self, hello: Hello, last: Catalogue | None) -> Catalogue:
        """Fetch every advertised list.

        A list that is refused as an unknown method is empty. One that cannot be read to its end for any other reason
        keeps what ``last`` had, or shows what could be read, and is reported; the others are what they are. Where
        nothing could be read, but the backend answers, all is as in ``last``.

        Raises:
            BackendError: no page of any list could be read, and there is no ``last`` or no answer either; the link
                is lost.
        """
        wanted = [kind for kind in Kind if isinstance(hello.capabilities.get(_CAPABILITY[kind]), dict)]
        ends_at = trio.current_time() + OVERALL_S
        readings: list[_Reading] = []
        for place, kind in enumerate(wanted):
            share_s = (ends_at - trio.current_time()) / (len(wanted) - place)
            readings.append(await self._read(kind, max(share_s, self.list_s)))
        return _judge(readings, last)

    async def _read(self, kind: Kind, within_s: float) -> _Reading:
        """As much of one list as can be read."""
        reading = _Reading(kind=kind)
        try:
            with trio.move_on_after(within_s):
                await self._read_pages(reading)
                return reading
            reading.fault = BackendTimeout(backend=self.backend, after_s=within_s, limit=Limit.CALL)
        except RemoteFault as fault:
            reading.fault = BackendProtocol(backend=self.backend, why=fault.what)
        except BackendSessionLost:
            raise
        except BackendError as error:
            if self.link.lost:
                raise
            reading.fault = error
        return reading

    async def _read_pages(self, reading: _Reading) -> None:
        cursor = reading.take(*await self._page(reading.kind, None))
        while cursor is not None:
            cursor = reading.take(*await self._page(reading.kind, cursor))

    async def _page(self, kind: Kind, cursor: str | None) -> tuple[Page, int]:
        params: JsonObject = {} if cursor is None else {"cursor": cursor}
        outgoing = request(_METHODS[kind], params, self.link.era)
        result = await ask(self.link, self.backend, outgoing, self.hear, self.list_s)
        # Others run between the steps: ten thousand tools are most of a second.
        steps = listing.page_steps(kind, result, self.link.era, over_http=self.over_http)
        return await in_turns(steps), len(result)


def _judge(readings: Sequence[_Reading], last: Catalogue | None) -> Catalogue:
    """What follows from what could be read.

    Raises:
        BackendError: see ``Discovery.run``.
    """
    faults = [reading.fault for reading in readings if reading.fault is not None and not reading.unknown]
    mute = bool(faults) and not any(reading.pages for reading in readings)
    if mute and (last is None or not any(_is_answer(fault) for fault in faults)):
        raise faults[0]
    listings: dict[Kind, Listing] = {}
    problems: list[Problem] = []
    unread, partial = set[Kind](), set[Kind]()
    for reading in readings:
        kind = reading.kind
        found, doubts = listing.join(kind, reading.pages)
        standing = None
        if mute or (reading.fault is not None and not reading.unknown):
            unread.add(kind)
            standing = reading.standing(last)
            if standing is None or (last is not None and kind in last.partial):
                partial.add(kind)
            found, doubts = (found, doubts) if standing is None else (standing, ())
        # The same object for the same list, so that comparing snapshots stays cheap.
        before = last.listings.get(kind) if last is not None else None
        listings[kind] = before if before is not None and before == found else found
        problems += (*reading.report(stands=standing is not None), *doubts)
    return Catalogue(
        listings=listings,
        problems=tuple(problems),
        unread=frozenset(unread),
        partial=frozenset(partial),
        mute=mute,
        faults=tuple(faults),
    )


def _is_answer(fault: BackendError) -> bool:
    """Whether a fault is what the backend itself has said; a status of 5xx may be of what stands before it."""
    match fault:
        case BackendRefused() | BackendTooLarge():
            return True
        case BackendProtocol():
            return fault.status is None or fault.status < 500
        case _:
            return False


def _words(fault: BackendError) -> str:
    """Why, without the name of the backend, beside which it stands."""
    match fault:
        case BackendRefused():
            return fault.message or f"error {fault.code}"
        case BackendProtocol():
            return fault.why
        case _:
            return str(fault)
