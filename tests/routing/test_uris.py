"""URIs: reversible, stable, the scheme stays; templates match what they expand to."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.routing.uris import FALLBACK, PrefixedMap, Template, UriMap, marker_for, unmark
from mcp_gateway.values import BackendKey

MARKERS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,5}(\.[a-z0-9-]{1,5})?", fullmatch=True)
SCHEMES = st.from_regex(r"[A-Za-z][A-Za-z0-9+.-]{0,6}", fullmatch=True) | st.sampled_from([FALLBACK, "http", "HTTPS"])
URIS = st.text() | st.builds(
    lambda scheme, slashes, rest: f"{scheme}:{slashes}{rest}",
    SCHEMES,
    st.sampled_from(["", "/", "//", "///"]),
    st.text(alphabet="ab/.:{}?#ä", max_size=12),
)


@pytest.mark.parametrize(
    "uri, mapped",
    [
        ("file:///etc/motd", "file://time//etc/motd"),
        ("test://static-text", "test://time/static-text"),
        ("ui://clock/page.html", "ui://time/clock/page.html"),
        ("urn:isbn:1", "urn:time/isbn:1"),
        ("file:/x", "file:time//x"),
        ("test://", "test://time/"),
        ("test://template/{id}/data", "test://time/template/{id}/data"),
        ("{+path}", f"{FALLBACK}://time/{{+path}}"),
        ("notes/1", f"{FALLBACK}://time/notes/1"),
        ("", f"{FALLBACK}://time/"),
        (f"{FALLBACK}:x", f"{FALLBACK}://time/{FALLBACK}:x"),
    ],
)
def test_a_uri_keeps_its_scheme_and_gets_the_marker(uri: str, mapped: str) -> None:
    assert UriMap("time").out(uri) == mapped
    assert UriMap("time").back(mapped) == uri


@given(marker=MARKERS, uri=URIS)
def test_what_went_out_comes_back(marker: str, uri: str) -> None:
    mapped = UriMap(marker).out(uri)
    assert UriMap(marker).back(mapped) == uri
    assert unmark(mapped) == (marker, uri)


def test_what_is_not_of_this_server_is_not_restored() -> None:
    uris = UriMap("time")
    assert uris.restored("test://time/r") == "test://r"
    assert uris.restored("test://other/r") == "test://other/r"
    assert uris.restored("no uri") == "no uri"


@given(marker=MARKERS, one=URIS, other=URIS)
def test_two_uris_never_become_one(marker: str, one: str, other: str) -> None:
    assert (UriMap(marker).out(one) == UriMap(marker).out(other)) is (one == other)


@given(one=MARKERS, other=MARKERS, uri=URIS)
def test_another_servers_uri_does_not_come_back(one: str, other: str, uri: str) -> None:
    back = UriMap(other).back(UriMap(one).out(uri))
    assert back == (uri if one == other else None)


@pytest.mark.parametrize(
    "uri, shown",
    [
        ("https://example.com/a?b#c", "https://example.com/a?b#c"),
        ("HTTP://example.com", "HTTP://example.com"),
        ("https://time/x", "https://time/time/x"),
        ("https://clash.example/x", "https://time/clash.example/x"),
        ("https:x", "https:time/x"),
        ("ui://page", "ui://time/page"),
    ],
)
def test_what_clients_fetch_by_themselves_stays_unless_it_is_anothers(uri: str, shown: str) -> None:
    """Acceptance case K-145."""
    own = PrefixedMap("time", frozenset({"https://clash.example/x"}))
    assert (own.out(uri), own.restored(shown)) == (shown, uri)


@given(marker=MARKERS, one=URIS, other=URIS, clashing=st.booleans())
def test_what_stays_clashes_with_nothing_that_is_mapped(marker: str, one: str, other: str, clashing: bool) -> None:
    own = PrefixedMap(marker, frozenset({one} if clashing else ()))
    assert own.restored(own.out(one)) == one
    assert (own.out(one) == own.out(other)) is (one == other)


@pytest.mark.parametrize("uri", ["", "no-scheme/time/x", "test://time", "{+x}"])
def test_a_uri_without_a_place_for_a_marker_is_nobodys(uri: str) -> None:
    assert unmark(uri) is None
    assert UriMap("time").back(uri) is None


def test_markers_of_namespaced_servers_hold_no_slash() -> None:
    assert marker_for(BackendKey("team-a/time")) == "team-a.time"


@pytest.mark.parametrize(
    "template, uri, matches",
    [
        ("test://a", "test://a", True),
        ("test://a", "test://ab", False),
        ("test://a/{id}", "test://a/1", True),
        ("test://a/{id}", "test://a/", False),
        ("test://a/{id}", "test://a/1/2", False),
        ("test://a/{id}", "test://b/1", False),
        ("test://{a}/x/{b}/end", "test://1/x/2/end", True),
        ("test://{a}/x/{b}/end", "test://1/y/2/end", False),
        ("test://{a}/x/{b}/end", "test://1/2/x/3/end", False),
        ("test://{a}-{b}", "test://x-y-z", True),
        ("test://{a}{b}", "test://xy", True),
        ("test://{a}{b}", "test://x", False),
        ("test://{id}.txt", "test://a.txt.txt", True),
        ("file:///{+path}", "file:///a/b/c", True),
        ("file:///{+path}", "file:///", True),
        ("test://q{?x,y}", "test://q?x=1&y=2", True),
        ("test://q{?x,y}", "test://q", True),
        ("test://{+a}/x/{b}", "test://1/2/x/3/4", True),
        ("{+uri}", "anything at all", True),
        ("test://{broken", "test://{broken", True),
        ("test://{}", "test://x", True),
    ],
)
def test_templates_match_their_expansions(template: str, uri: str, matches: bool) -> None:
    assert Template.parse(template).matches(uri) is matches


@given(
    literals=st.lists(st.text(alphabet="ab/-", max_size=3), min_size=1, max_size=5),
    values=st.lists(st.text(alphabet="ab-", min_size=1, max_size=3), min_size=4, max_size=4),
    marker=MARKERS,
)
def test_a_simple_template_matches_whatever_it_expands_to(literals: list[str], values: list[str], marker: str) -> None:
    template = "test://" + "{v}".join(literals)
    uri = "test://" + "".join(a + b for a, b in zip(literals, [*values[: len(literals) - 1], ""], strict=True))
    assert Template.parse(template).matches(uri)
    mapped = UriMap(marker)
    assert Template.parse(mapped.out(template)).matches(mapped.out(uri))


def test_matching_is_fast_whatever_the_backend_sends() -> None:
    hostile = Template.parse("{+a}" + "x{+a}" * 1000 + "y")
    assert not hostile.matches(string.ascii_lowercase * 300)
