"""The bytes of list results, made once and kept.

Owns ``Entry`` (one exposed item), the pages of one list per client era, and their
positions. Deliberately seals no cursors and knows no owners. Invariant: following
``following`` from the first page gives every entry once, in order, or a refusal
when the list has changed meanwhile; never a gap.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import attrs

from mcp_gateway.protocol import shape, splice
from mcp_gateway.protocol.eras import Era
from mcp_gateway.routing.required import Required
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.routing.uris import AnyMap
from mcp_gateway.values import BackendKey

PAGE_ITEMS: Final = 5000
PAGE_BYTES: Final = 4 * 2**20
"""A list is whole up to both; many clients read the first page only."""


@attrs.frozen(kw_only=True)
class Target:
    """Where one exposed thing really lives."""

    backend: BackendKey
    upstream: str
    """The backend's own name or URI."""
    federated: str
    """The name or URI that clients use."""
    headers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """As ``Item.headers``."""
    uri_map: AnyMap | None = None
    """How URIs in this thing's results are mapped; None: they stay."""
    required: Required = ()
    """As ``Item.required``."""
    only_as_task: bool = False
    """As ``Item.only_as_task``."""


@attrs.frozen(kw_only=True)
class Entry:
    """One exposed item."""

    target: Target
    raw: bytes = attrs.field(repr=False)
    """The item under its federated name, with everything the backend said."""
    digest: bytes = attrs.field(repr=False)
    """Of ``raw``."""
    linked: str | None = None
    """The federated URI of the page that shows this tool (MCP Apps), which whoever sees the tool may read."""
    _shaped: dict[str, bytes] = attrs.field(init=False, factory=dict, eq=False, repr=False)
    """By version, filled on first use: another backend's change must not cost this one's work again."""

    def shaped(self, kind: Kind, era: Era) -> bytes:
        """The item as clients of this era see it; ``raw`` itself where they see everything."""
        made = self._shaped.get(era.version)
        if made is None:
            made = self._shaped[era.version] = shape.shape_item(kind.value, self.raw, era)
        return made


@attrs.frozen(kw_only=True)
class Position:
    """A place in one list; what a cursor holds."""

    kind: Kind
    offset: int
    fingerprint: bytes
    """Of the list it was given out for."""


@attrs.frozen(kw_only=True)
class ListPage:
    """One list result; ``following`` None: the list ends here."""

    raw: bytes = attrs.field(repr=False)
    following: Position | None = None

    def with_cursor(self, cursor: str) -> bytes:
        """The result with ``nextCursor``."""
        return b'{"nextCursor":%b,%b' % (splice.quoted(cursor), self.raw[1:])


def fingerprint_of(entries: tuple[Entry, ...]) -> bytes:
    """16 bytes that differ when a visible name, description, schema or the order differs."""
    return blake2b(b"".join(entry.digest for entry in entries), digest_size=16).digest()


def digest_of(raw: bytes) -> bytes:
    """16 bytes for one item."""
    return blake2b(raw, digest_size=16).digest()


@attrs.frozen(kw_only=True, eq=False)
class ListingView:
    """One list as one view shows it."""

    kind: Kind
    entries: tuple[Entry, ...] = ()
    ttl_ms: int = 0
    private: bool = False
    server_info: bytes = b""
    """The raw ``serverInfo`` for modern clients; empty: none."""
    fingerprint: bytes = attrs.field(
        init=False, default=attrs.Factory(lambda self: fingerprint_of(self.entries), takes_self=True)
    )
    _pages: dict[tuple[str, int], ListPage] = attrs.field(init=False, factory=dict, repr=False)
    """Filled on first use. Bounded: one entry per era and page."""

    def only(self, keeps: Callable[[Target], bool]) -> "ListingView":
        """The same list with the entries that ``keeps`` says; itself when that is all of them."""
        kept = tuple(entry for entry in self.entries if keeps(entry.target))
        return self if len(kept) == len(self.entries) else attrs.evolve(self, entries=kept)

    def page(self, era: Era, position: Position | None) -> ListPage | None:
        """The list result from ``position`` on, in the form of the client's era.

        Returns:
            None when the position is not one of this list: the cursor is invalid.
        """
        offset = 0
        if position is not None:
            known = position.kind is self.kind and position.fingerprint == self.fingerprint
            if not known or not 0 < position.offset < len(self.entries):
                return None
            offset = position.offset
        page = self._pages.get((era.version, offset))
        if page is None:
            page = self._pages[era.version, offset] = self._make(era, offset)
        return page

    def _make(self, era: Era, offset: int) -> ListPage:
        items: list[bytes] = []
        size = 0
        for entry in self.entries[offset : offset + PAGE_ITEMS]:
            item = entry.shaped(self.kind, era)
            size += len(item) + 1
            if items and size > PAGE_BYTES:
                break
            items.append(item)
        end = offset + len(items)
        more = end < len(self.entries)
        return ListPage(
            raw=b'{%b"%b":[%b]}' % (self._head(era), self.kind.value.encode(), b",".join(items)),
            following=Position(kind=self.kind, offset=end, fingerprint=self.fingerprint) if more else None,
        )

    def _head(self, era: Era) -> bytes:
        """What a modern result says beside its items (MCP 2026-07-28 server/utilities/caching)."""
        if not era.caching_hints:
            return b""
        scope = b"private" if self.private else b"public"
        meta = b'"_meta":{"io.modelcontextprotocol/serverInfo":%b},' % self.server_info if self.server_info else b""
        return b'"resultType":"complete","ttlMs":%d,"cacheScope":"%b",%b' % (self.ttl_ms, scope, meta)
