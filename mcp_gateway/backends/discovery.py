"""One discovery: every list a backend advertises, all pages, bounded.

Owns the bounds and what a refused or endless list means. Deliberately decides
neither when to discover nor what health follows (``supervisor``).
Invariant: it ends, whatever the backend answers, within ``OVERALL_S``.
"""

from collections.abc import Mapping
from typing import Final

import attrs
import trio

from mcp_gateway.backends.own_requests import METHOD_NOT_FOUND, ask, request
from mcp_gateway.backends.transports.base import Hear, Hello, Link
from mcp_gateway.errors import BackendProtocol, BackendRefused, BackendTimeout, Limit, RemoteFault
from mcp_gateway.routing import listing
from mcp_gateway.routing.listing import Page
from mcp_gateway.routing.snapshot import Kind, Listing, Problem
from mcp_gateway.turns import in_turns
from mcp_gateway.values import BackendKey, JsonObject

MAX_PAGES: Final = 1000
MAX_BYTES: Final = 32 * 2**20
"""Of all pages of one list together; the rest is dropped and reported."""
OVERALL_S: Final = 60.0
"""For all lists together; one page has ``timeouts.list``."""

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

    @property
    def ttl_s(self) -> float | None:
        """How long the shortest-lived list stays fresh; None: no list says."""
        return min((found.ttl_ms / 1000 for found in self.listings.values() if found.ttl_ms > 0), default=None)


@attrs.frozen(kw_only=True)
class Discovery:
    """How to discover over one link."""

    link: Link
    backend: BackendKey
    list_s: float
    over_http: bool
    hear: Hear

    async def run(self, hello: Hello, last: Catalogue | None) -> Catalogue:
        """Fetch every advertised list.

        A list that is refused as an unknown method is empty; one that is refused
        otherwise keeps what ``last`` had, and both are reported, as long as
        another list could be read.

        Raises:
            BackendTimeout: a page took ``list_s``, or everything ``OVERALL_S``.
            BackendRefused: nothing could be read.
            BackendError: what ``ask`` raises.
        """
        with trio.move_on_after(OVERALL_S):
            return await self._fetch_all(hello, last)
        raise BackendTimeout(backend=self.backend, after_s=OVERALL_S, limit=Limit.CALL)

    async def _fetch_all(self, hello: Hello, last: Catalogue | None) -> Catalogue:
        listings: dict[Kind, Listing] = {}
        problems: list[Problem] = []
        refusal: BackendRefused | None = None
        read = 0
        for kind in Kind:
            if not isinstance(hello.capabilities.get(_CAPABILITY[kind]), dict):
                continue
            kept = last.listings.get(kind) if last is not None else None
            try:
                found, faults = await self._fetch(kind)
                read += 1
            except BackendRefused as refused:
                # Many servers advertise resources and know no templates: that is no problem worth telling.
                unknown = refused.code == METHOD_NOT_FOUND
                refusal = refusal if unknown else refused
                told = Problem(kind=kind, name="", reason=f"{_METHODS[kind]}: {refused.message}", hidden=True)
                faults = () if unknown and kind is Kind.TEMPLATES else (told,)
                found = Listing() if unknown or kept is None else kept
            # The same object for the same list, so that comparing snapshots stays cheap.
            listings[kind] = kept if kept == found and kept is not None else found
            problems += faults
        if refusal is not None and not read:
            raise refusal
        return Catalogue(listings=listings, problems=tuple(problems))

    async def _fetch(self, kind: Kind) -> tuple[Listing, tuple[Problem, ...]]:
        """All pages of one list, until it ends or a bound is reached."""
        pages: list[Page] = []
        cursors: set[str] = set()
        cursor: str | None = None
        size = items = 0
        cut = ""
        while True:
            page, page_bytes = await self._page(kind, cursor)
            pages.append(page)
            size += page_bytes
            items += len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                break
            cut = _why_to_stop(len(pages), size, items, repeated=cursor in cursors)
            if cut:
                break
            cursors.add(cursor)
        found, problems = listing.join(kind, pages)
        if cut:
            problems = (Problem(kind=kind, name="", reason=cut, hidden=True), *problems)
        return found, problems

    async def _page(self, kind: Kind, cursor: str | None) -> tuple[Page, int]:
        params: JsonObject = {} if cursor is None else {"cursor": cursor}
        outgoing = request(_METHODS[kind], params, self.link.era)
        result = await ask(self.link, self.backend, outgoing, self.hear, self.list_s)
        try:
            # Others run between the steps: ten thousand tools are most of a second.
            steps = listing.page_steps(kind, result, self.link.era, over_http=self.over_http)
            return await in_turns(steps), len(result)
        except RemoteFault as fault:
            raise BackendProtocol(backend=self.backend, why=str(fault)) from fault


def _why_to_stop(pages: int, size: int, items: int, *, repeated: bool) -> str:
    """Why no further page is asked for; empty: go on."""
    if repeated:
        return "the same cursor twice: the list was ended there"
    if pages >= MAX_PAGES:
        return f"more than {MAX_PAGES} pages: the rest was not read"
    if size > MAX_BYTES:
        return f"more than {MAX_BYTES} bytes: the rest was not read"
    if items > listing.MAX_ITEMS:
        return f"more than {listing.MAX_ITEMS} items: the rest was not read"
    return ""
