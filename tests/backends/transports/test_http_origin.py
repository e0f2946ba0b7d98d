"""Targets become origins and request heads."""

import pytest

from mcp_gateway.backends.transports.origin import name_url, read_origin, render_headers
from mcp_gateway.config.spec import HttpTarget, TlsSpec
from mcp_gateway.errors import LocalFault


@pytest.mark.parametrize(
    "url, host_header, path, port",
    [
        pytest.param("http://example.com/mcp", b"example.com", b"/mcp", 80, id="default port is left out"),
        pytest.param("https://example.com", b"example.com", b"/", 443, id="no path is the root"),
        pytest.param("http://example.com:8080/a?b=c", b"example.com:8080", b"/a?b=c", 8080, id="port and query"),
        pytest.param("http://[::1]:9001/mcp", b"[::1]:9001", b"/mcp", 9001, id="IPv6 stays in brackets"),
        pytest.param("https://[::1]/mcp", b"[::1]", b"/mcp", 443, id="IPv6 without a port"),
        pytest.param("http://bücher.example/ä b", b"xn--bcher-kva.example", b"/%C3%A4%20b", 80, id="not ASCII"),
        pytest.param("http://u:p@example.com/mcp%20x", b"example.com", b"/mcp%20x", 80, id="user info never leaks"),
        pytest.param("HTTP://EXAMPLE.com/", b"example.com", b"/", 80, id="case of scheme and host"),
    ],
)
def test_the_url_gives_host_path_and_port(url: str, host_header: bytes, path: bytes, port: int) -> None:
    origin = read_origin(HttpTarget(url=url))
    assert (origin.host_header, origin.path, origin.port) == (host_header, path, port)
    assert origin.request_start(b"POST", None).startswith(b"POST %b HTTP/1.1\r\nHost: %b\r\n" % (path, host_header))


@pytest.mark.parametrize(
    "connect, expected",
    [
        pytest.param(None, ("example.com", 8080), id="absent"),
        pytest.param("10.96.3.7", ("10.96.3.7", 8080), id="address"),
        pytest.param("10.96.3.7:81", ("10.96.3.7", 81), id="address and port"),
        pytest.param("fd00::7", ("fd00::7", 8080), id="bare IPv6"),
        pytest.param("[fd00::7]:81", ("fd00::7", 81), id="IPv6 and port"),
        pytest.param("other.example", ("other.example", 8080), id="name"),
    ],
)
def test_an_address_override_changes_only_what_is_dialled(connect: str | None, expected: tuple[str, int]) -> None:
    origin = read_origin(HttpTarget(url="https://example.com:8080/mcp", connect=connect))
    assert (origin.dial_host, origin.dial_port) == expected
    assert (origin.server_name, origin.host_header) == ("example.com", b"example.com:8080")


def test_the_configured_server_name_wins() -> None:
    origin = read_origin(HttpTarget(url="https://10.0.0.1/", tls=TlsSpec(server_name="inner.example")))
    assert origin.server_name == "inner.example"


def test_configured_headers_and_the_credential_are_in_every_head_but_not_in_the_repr() -> None:
    origin = read_origin(
        HttpTarget(url="http://example.com/", headers=(("X-Team", "red"),), credential="Bearer secret")
    )
    assert b"X-Team: red\r\nAuthorization: Bearer secret\r\n" in origin.request_start(b"GET", b"/other")
    assert "secret" not in repr(origin)
    assert b"Accept-Encoding: identity\r\n" in origin.request_start(b"GET", None)


def test_a_plain_proxy_gets_the_absolute_form_and_its_own_credential() -> None:
    origin = read_origin(HttpTarget(url="http://example.com:81/mcp", proxy="http://me:p%40ss@proxy.example:3128"))
    start = origin.request_start(b"POST", None)
    assert start.startswith(b"POST http://example.com:81/mcp HTTP/1.1\r\nHost: example.com:81\r\n")
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in start  # me:p@ss
    assert origin.proxy is not None
    assert (origin.proxy.host, origin.proxy.port) == ("proxy.example", 3128)


def test_a_tunnelled_request_tells_the_backend_nothing_of_the_proxy() -> None:
    origin = read_origin(HttpTarget(url="https://example.com/mcp", proxy="http://me:pass@proxy.example"))
    start = origin.request_start(b"POST", None)
    assert start.startswith(b"POST /mcp HTTP/1.1\r\n")
    assert b"Proxy" not in start
    assert origin.proxy is not None
    assert origin.proxy.port == 80


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(HttpTarget(url="ftp://example.com/"), id="scheme"),
        pytest.param(HttpTarget(url="http:///mcp"), id="no host"),
        pytest.param(HttpTarget(url="http://[::1/"), id="open bracket"),
        pytest.param(HttpTarget(url="http://example.com:99999/"), id="port"),
        pytest.param(HttpTarget(url=f"http://{'ü' * 80}.example/"), id="host too long for IDNA"),
        pytest.param(HttpTarget(url="http://example.com/", proxy="socks5://proxy"), id="proxy scheme"),
        pytest.param(HttpTarget(url="http://example.com/", connect="10.0.0.1:x"), id="connect port"),
        pytest.param(HttpTarget(url="http://example.com/", headers=(("X-A", "b\r\nX-C: d"),)), id="header"),
    ],
)
def test_what_check_should_have_refused_is_our_fault(target: HttpTarget) -> None:
    with pytest.raises(LocalFault):
        read_origin(target)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param((b"X-A", b"a\nb"), id="LF"),
        pytest.param((b"X-A", b"a\rb"), id="CR"),
        pytest.param((b"X-A", b"a\0b"), id="NUL"),
        pytest.param((b"X-A: b\r\nX", b"c"), id="in the name"),
        pytest.param((b"X:A", b"c"), id="colon in the name"),
        pytest.param((b"", b"c"), id="no name"),
    ],
)
def test_no_header_breaks_out_of_its_line(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(LocalFault):
        render_headers([header])


@pytest.mark.parametrize(
    "url, location, target",
    [
        pytest.param("http://h.example/mcp", b"/mcp/", b"/mcp/", id="a slash more"),
        pytest.param("http://h.example/mcp/", b"/mcp", b"/mcp", id="a slash less"),
        pytest.param("http://h.example/mcp", b"http://H.example:80/mcp/", b"/mcp/", id="absolute"),
        pytest.param("https://h.example:8443/mcp", b"https://h.example:8443/mcp/", b"/mcp/", id="TLS, with a port"),
        pytest.param("https://[::1]/mcp", b"https://[::1]/mcp/", b"/mcp/", id="IPv6"),
        pytest.param("http://h.example/mcp?a=b", b"/mcp/?a=b", b"/mcp/?a=b", id="the query goes with it"),
        pytest.param("http://h.example/b c", b"/b%20c/", b"/b%20c/", id="encoded"),
        pytest.param("http://h.example/mcp", b"mcp/", b"/mcp/", id="relative"),
        pytest.param("http://h.example/mcp", b"/mcp", None, id="the same"),
        pytest.param("http://h.example/mcp", b"/mcp//", None, id="two slashes"),
        pytest.param("http://h.example/mcp", b"/MCP/", None, id="another case"),
        pytest.param("http://h.example/mcp", b"/mcp/?a=b", None, id="a query more"),
        pytest.param("http://h.example/mcp?a=b", b"/mcp/", None, id="a query less"),
        pytest.param("http://h.example/mcp", b"/mcp/#x", None, id="a fragment"),
        pytest.param("http://h.example/mcp", b"http://u:p@h.example/mcp/", None, id="user info"),
        pytest.param("http://h.example/mcp", b"https://h.example/mcp/", None, id="another scheme"),
        pytest.param("http://h.example/mcp", b"http://h.example:81/mcp/", None, id="another port"),
        pytest.param("http://h.example/mcp", b"http://other.example/mcp/", None, id="another host"),
        pytest.param("http://h.example/mcp", b"//other.example/mcp/", None, id="another host, no scheme"),
        pytest.param("http://h.example/mcp", b"/mcp/ HTTP/1.1", None, id="a space"),
        pytest.param("http://h.example/mcp", b"/mcp/, /mcp/", None, id="two Locations"),
        pytest.param("http://h.example/", b"http://h.example", None, id="the root has one spelling"),
        pytest.param("http://h.example/mcp", b"", None, id="none"),
    ],
)
def test_a_redirect_is_a_twin_only_if_its_last_slash_alone_differs(
    url: str, location: bytes, target: bytes | None
) -> None:
    assert read_origin(HttpTarget(url=url)).slash_twin(location) == target


@pytest.mark.parametrize(
    "reference, name",
    [
        pytest.param(b"/login?token=s#f", "http://h.example:81/login", id="no query, no fragment"),
        pytest.param(b"https://u:p@other.example:443/a", "https://other.example/a", id="no user info"),
        pytest.param(b"http://[fd00::7]:9/a", "http://[fd00::7]:9/a", id="IPv6"),
        pytest.param(b"/" + b"x" * 500, "http://h.example:81/" + "x" * 180, id="long"),
        pytest.param(b"ftp://h.example/", None, id="another protocol"),
        pytest.param(b"http://:80/a", None, id="no host"),
        pytest.param(b"http://h.example:port/", None, id="no port"),
        pytest.param(b"http://[/", None, id="no address"),
        pytest.param(b"/a\x1b[2J", None, id="control characters"),
    ],
)
def test_a_url_that_a_backend_names_is_told_without_its_secrets(reference: bytes, name: str | None) -> None:
    url = read_origin(HttpTarget(url="http://h.example:81/mcp")).joined(reference)
    assert (None if url is None else name_url(url)) == name
