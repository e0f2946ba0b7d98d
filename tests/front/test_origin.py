"""Who may speak to a listener: DNS rebinding, CORS and preflights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.front.cors import cors_headers, preflight
from mcp_gateway.gateway.origin import (
    BAD_HOST,
    BAD_ORIGIN,
    TWO_HOSTS,
    check,
    host_allowed,
    is_loopback,
    origin_allowed,
    parse_authority,
)
from mcp_gateway.values import Header


def head(host: str | None = "localhost:8080", origin: str | None = None) -> list[Header]:
    headers: list[Header] = [(b"accept", b"*/*")]
    if host is not None:
        headers.append((b"host", host.encode()))
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    return headers


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8080",
        "localhost.",
        "localhost.:8080",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.8.9.1:65535",
        "[::1]",
        "[::1]:8080",
        "[0:0:0:0:0:0:0:1]:80",
    ],
)
def test_loopback_hosts_pass_without_a_list(host: str) -> None:
    assert host_allowed(host.encode(), ())


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "localhost@evil.example",
        "evil.example@localhost",
        "127.0.0.1.nip.io",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::1%lo]",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:80:80",
        "localhost:",
        "localhost:port",
        "localhost:99999",
        "localhost:123456",
        "localhost:-1",
        "localhost:٣",
        "localhost..",
        " localhost",
        "localhost ",
        "localhost\t",
        "localhost/",
        "localhost,evil.example",
        "локалхост",
    ],
)
def test_hosts_that_are_not_surely_loopback_are_refused(host: str) -> None:
    assert not host_allowed(host.encode(), ())


@pytest.mark.parametrize(
    "host, entry, passes",
    [
        ("mcp.example.com", "mcp.example.com", True),
        ("MCP.Example.com.:8443", "mcp.example.com", True),
        ("mcp.example.com", "MCP.EXAMPLE.COM", True),
        ("mcp.example.com:8443", "mcp.example.com:8443", True),
        ("mcp.example.com:8444", "mcp.example.com:8443", False),
        ("mcp.example.com", "mcp.example.com:8443", False),
        ("a.mcp.local", "*.mcp.local", True),
        ("a.b.mcp.local", "*.mcp.local", True),
        ("mcp.local", "*.mcp.local", False),
        ("evilmcp.local", "*.mcp.local", False),
        ("a.mcp.local.evil", "*.mcp.local", False),
        ("anything.example", "*", True),
        ("bad host", "*", False),
        ("[2001:db8:0::1]:80", "[2001:db8::1]", True),
        ("evil.example", "not a host", False),
    ],
)
def test_listed_hosts(host: str, entry: str, passes: bool) -> None:
    assert host_allowed(host.encode(), [entry]) is passes


@pytest.mark.parametrize(
    "origin, allowed, passes",
    [
        ("http://localhost", [], True),
        ("http://localhost:6274", [], True),
        ("https://127.0.0.1:1", [], True),
        ("http://[::1]:3000", [], True),
        ("HTTP://LOCALHOST", [], True),
        ("null", [], False),
        ("null", ["*"], False),
        ("null", ["null"], False),
        ("", ["*"], False),
        ("http://evil.example", [], False),
        ("http://evil.example", ["*"], True),
        ("http://localhost.evil.example", [], False),
        ("http://localhost@evil.example", [], False),
        ("http://user:pw@localhost", [], False),
        ("http://localhost/path", [], False),
        ("http://localhost#", [], False),
        ("http://localhost http://evil.example", [], False),
        ("file://localhost", [], False),
        ("localhost", [], False),
        ("//localhost", [], False),
        ("1http://localhost", [], False),
        ("https://app.example.com", ["https://app.example.com"], True),
        ("https://app.example.com:443", ["https://app.example.com"], True),
        ("https://app.example.com", ["https://App.Example.com:443"], True),
        ("http://app.example.com", ["https://app.example.com"], False),
        ("https://app.example.com:8443", ["https://app.example.com"], False),
        ("https://a.example.com", ["https://*.example.com"], True),
        ("https://example.com", ["https://*.example.com"], False),
        ("https://a.example.com:8443", ["https://*.example.com"], False),
        ("chrome-extension://abcdef", ["chrome-extension://abcdef"], True),
        ("chrome-extension://abcdef", [], False),
        ("https://app.example.com", ["app.example.com"], False),
    ],
)
def test_origins(origin: str, allowed: list[str], passes: bool) -> None:
    assert origin_allowed(origin.encode(), allowed) is passes


@pytest.mark.parametrize(
    "method, headers, loopback, hosts, admin, refusal",
    [
        pytest.param("POST", head("any.name"), True, [], False, None, id="curl by any name"),
        pytest.param("POST", head(None), True, [], False, None, id="HTTP/1.0 without Host"),
        pytest.param("GET", head("evil.example"), True, [], False, BAD_HOST, id="a GET could be a browser"),
        pytest.param("HEAD", head("evil.example"), True, [], False, BAD_HOST, id="so could a HEAD"),
        pytest.param("GET", head("localhost"), True, [], False, None, id="a local GET"),
        pytest.param("GET", head(None), True, [], False, BAD_HOST, id="a GET without Host"),
        pytest.param(
            "POST", head("evil.example", "http://localhost:1"), True, [], False, BAD_HOST, id="an Origin is a browser"
        ),
        pytest.param("POST", head(origin="http://evil.example"), True, [], False, BAD_ORIGIN, id="evil Origin"),
        pytest.param("POST", head(origin="http://evil.example"), False, [], False, BAD_ORIGIN, id="on any bind"),
        pytest.param("GET", head("evil.example"), False, [], False, None, id="no list on a public bind"),
        pytest.param("POST", head("evil.example"), False, ["a.example"], False, BAD_HOST, id="a list holds for all"),
        pytest.param("POST", head("evil.example"), True, ["a.example"], False, BAD_HOST, id="on loopback too"),
        pytest.param("POST", head("a.example"), False, ["a.example"], False, None, id="listed"),
        pytest.param("POST", head(None), False, ["a.example"], False, BAD_HOST, id="a list needs a Host"),
        pytest.param("GET", head("evil.example"), True, [], True, BAD_HOST, id="admin"),
        pytest.param("POST", head("evil.example"), True, [], True, BAD_HOST, id="admin, every method"),
        pytest.param("GET", head("10.1.2.3:9090"), False, ["a.example"], True, None, id="a scraper by address"),
        pytest.param("POST", [*head(), *head()], True, [], False, TWO_HOSTS, id="two Hosts"),
        pytest.param(
            "POST", [*head(origin="http://localhost"), (b"origin", b"http://localhost")], True, [], False, BAD_ORIGIN,
            id="two Origins",
        ),
    ],
)  # fmt: skip
def test_what_is_refused_where(
    method: str, headers: list[Header], loopback: bool, hosts: list[str], admin: bool, refusal: object
) -> None:
    found = check(method, headers, bind_is_loopback=loopback, allowed_hosts=hosts, allowed_origins=(), admin=admin)
    assert found is refusal


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_loopback_names(name: str) -> None:
    assert is_loopback(name)


@given(st.text(max_size=60))
def test_no_text_is_an_authority_that_reads_differently(text: str) -> None:
    found = parse_authority(text)
    if found is not None:
        again = f"[{found.host}]" if ":" in found.host else found.host
        assert parse_authority(again + (f":{found.port}" if found.port is not None else "")) == found


def test_allowed_origins_get_cors_and_nobody_else() -> None:
    answer = dict(cors_headers(head(origin="https://a.example"), allowed_origins=["https://a.example"]))
    assert answer[b"access-control-allow-origin"] == b"https://a.example"
    assert b"Mcp-Session-Id" in answer[b"access-control-expose-headers"]
    assert answer[b"vary"] == b"Origin"
    assert b"access-control-allow-credentials" not in answer
    assert cors_headers(head(origin="https://b.example"), allowed_origins=["https://a.example"]) == ()
    assert cors_headers(head(), allowed_origins=["*"]) == ()


def test_a_preflight_allows_what_was_asked() -> None:
    asked: list[Header] = [
        *head(origin="http://localhost:6274"),
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", b"content-type, mcp-param-region"),
        (b"access-control-request-private-network", b"true"),
    ]
    answer = dict(preflight(asked, allowed_origins=()))
    assert answer[b"access-control-allow-methods"] == b"GET, POST, DELETE, OPTIONS"
    assert answer[b"access-control-allow-headers"] == b"content-type, mcp-param-region"
    assert answer[b"access-control-allow-private-network"] == b"true"


@pytest.mark.parametrize(
    "names", [b"", b"x\r\nset-cookie: a", b"a,,b", b"a" * 5000], ids=["none", "CRLF", "gap", "long"]
)
def test_a_preflight_does_not_echo_what_is_no_list_of_names(names: bytes) -> None:
    asked: list[Header] = [
        *head(origin="http://localhost"),
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", names),
    ]
    assert b"access-control-allow-headers" not in dict(preflight(asked, allowed_origins=()))


def test_options_without_a_preflight_names_the_methods() -> None:
    assert preflight(head(), allowed_origins=()) == ((b"allow", b"GET, POST, DELETE, OPTIONS"),)
    assert b"vary" in dict(preflight(head(origin="http://localhost"), allowed_origins=()))
