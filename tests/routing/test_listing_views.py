"""List results: whole when they can be, in pages without gaps when not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.protocol.eras import ERAS, V2024_11_05, V2025_11_25, V2026_07_28
from mcp_gateway.routing import listing_views
from mcp_gateway.routing.listing_views import Entry, ListingView, Position, Target, digest_of
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.values import BackendKey

INFO = b'{"name":"gateway","version":"1"}'


def entry(name: str, more: str = "") -> Entry:
    raw = f'{{"name":"{name}"{more}}}'.encode()
    target = Target(backend=BackendKey("b"), upstream=name, federated=name)
    return Entry(target=target, raw=raw, digest=digest_of(raw))


def view(*entries: Entry, private: bool = False, server_info: bytes = INFO) -> ListingView:
    return ListingView(kind=Kind.TOOLS, entries=entries, ttl_ms=7, private=private, server_info=server_info)


def test_a_legacy_client_gets_the_items_alone() -> None:
    page = view(entry("a", ',"x":1e400'), entry("b")).page(V2025_11_25, None)
    assert page is not None
    assert page.raw == b'{"tools":[{"name":"a","x":1e400},{"name":"b"}]}'
    assert page.following is None


@pytest.mark.parametrize("private, scope", [(False, "public"), (True, "private")])
def test_a_modern_client_gets_type_hints_and_our_name(private: bool, scope: str) -> None:
    page = view(entry("a"), private=private).page(V2026_07_28, None)
    assert page is not None
    assert json.loads(page.raw) == {
        "resultType": "complete",
        "ttlMs": 7,
        "cacheScope": scope,
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "gateway", "version": "1"}},
        "tools": [{"name": "a"}],
    }


def test_without_our_name_there_is_no_meta() -> None:
    page = view(server_info=b"").page(V2026_07_28, None)
    assert page is not None
    assert json.loads(page.raw) == {"resultType": "complete", "ttlMs": 7, "cacheScope": "public", "tools": []}


def test_items_are_shaped_for_the_era() -> None:
    page = view(entry("a", ',"title":"A","icons":[]')).page(V2024_11_05, None)
    assert page is not None
    assert page.raw == b'{"tools":[{"name":"a"}]}'


def test_the_bytes_are_made_once_per_era() -> None:
    shown = view(entry("a"))
    assert {era.version: shown.page(era, None) is shown.page(era, None) for era in ERAS.values()} == dict.fromkeys(
        ERAS, True
    )


@given(sizes=st.lists(st.integers(0, 60), max_size=30), modern=st.booleans())
def test_following_the_pages_gives_every_item_once_in_order(sizes: list[int], modern: bool) -> None:
    era = V2026_07_28 if modern else V2025_11_25
    names = [f"{index}{'x' * size}" for index, size in enumerate(sizes)]
    shown = view(*(entry(name) for name in names))
    seen: list[str] = []
    position: Position | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing_views, "PAGE_ITEMS", 4)
        patch.setattr(listing_views, "PAGE_BYTES", 150)
        while True:
            page = shown.page(era, position)
            assert page is not None
            read = json.loads(page.raw)
            assert len(read["tools"]) <= 4
            seen += [tool["name"] for tool in read["tools"]]
            if page.following is None:
                break
            assert json.loads(page.with_cursor('c"1'))["nextCursor"] == 'c"1'
            assert json.loads(page.with_cursor("c"))["tools"] == read["tools"]
            position = page.following
    assert seen == names


@pytest.mark.parametrize(
    "kind, offset, stale",
    [
        pytest.param(Kind.PROMPTS, 1, False, id="of another list"),
        pytest.param(Kind.TOOLS, 1, True, id="of a list that has changed"),
        pytest.param(Kind.TOOLS, 2, False, id="after the end"),
        pytest.param(Kind.TOOLS, 0, False, id="the beginning is no cursor"),
    ],
)
def test_a_position_of_another_list_is_refused(kind: Kind, offset: int, stale: bool) -> None:
    shown = view(entry("a"), entry("b"))
    fingerprint = b"" if stale else shown.fingerprint
    assert shown.page(V2025_11_25, Position(kind=kind, offset=offset, fingerprint=fingerprint)) is None
    good = shown.page(V2025_11_25, Position(kind=Kind.TOOLS, offset=1, fingerprint=shown.fingerprint))
    assert good is not None
    assert good.raw == b'{"tools":[{"name":"b"}]}'


def test_the_fingerprint_shows_every_visible_change() -> None:
    base = view(entry("a"), entry("b")).fingerprint
    assert view(entry("a"), entry("b"), private=True).fingerprint == base
    changed = [view(entry("b"), entry("a")), view(entry("a")), view(entry("a", ',"description":"new"'), entry("b"))]
    assert base not in {one.fingerprint for one in changed}


def test_an_item_is_shaped_once_whatever_list_it_stands_in() -> None:
    shared = entry("a", ',"title":"A"')
    assert shared.shaped(Kind.TOOLS, V2024_11_05) is shared.shaped(Kind.TOOLS, V2024_11_05)
    assert shared.shaped(Kind.TOOLS, V2026_07_28) is shared.raw
