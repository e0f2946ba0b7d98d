"""Where an HTTP backend lives, and the constant part of every request head to it.

Owns the reading of a url, an address override and a proxy into an ``Origin``, what
a url that a backend names has to do with it, and the rendering of header lines. Deliberately no I/O: ``dial`` connects.
Invariant: whatever address is dialled, Host and the TLS server name are the url's.
"""

from base64 import b64encode
from collections.abc import Iterable
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

import attrs

from mcp_gateway.config.spec import HttpTarget
from mcp_gateway.errors import LocalFault
from mcp_gateway.values import Header

USER_AGENT: Final = b"mcp-gateway"
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
NAME_CHARS: Final = 200
"""So much of a url is told."""
SAFE_IN_TARGET: Final = "/%:@!$&'()*+,;=~-._?"
"""RFC 3986 section 3.3 and 3.4: what may stand in a path or query unencoded ("%": the url is encoded already)."""


@attrs.frozen(kw_only=True)
class Proxy:
    """An HTTP proxy that the configuration names; ``authorization`` is its own credential."""

    host: str
    port: int
    authorization: bytes | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class Origin:
    """One backend's endpoint, ready for dialling and for request heads."""

    secure: bool
    host: str
    port: int
    dial_host: str
    """What is connected to: the url's host, or the address override."""
    dial_port: int
    server_name: str
    """For SNI and certificate verification."""
    host_header: bytes
    path: bytes
    """The request target of the url (path and query), percent-encoded."""
    proxy: Proxy | None = None
    static: bytes = attrs.field(default=b"", repr=False)
    """Header lines that every request carries: the configured ones, the credential, a proxy's credential."""

    def request_start(self, method: bytes, path: bytes | None) -> bytes:
        """The request line and the constant headers, without the empty line that ends a head."""
        target = self.path if path is None else path
        if self.proxy is not None and not self.secure:
            # "a client MUST send the target URI in absolute-form as the request-target" -- RFC 9112, 3.2.2
            target = b"http://" + self.host_header + target
        return b"%b %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: %b\r\nAccept-Encoding: identity\r\n%b" % (
            method,
            target,
            self.host_header,
            USER_AGENT,
            self.static,
        )

    @property
    def url(self) -> str:
        """Of the endpoint; without user info."""
        return f"{self._base}{self.path.decode('ascii')}"

    def joined(self, reference: bytes) -> SplitResult | None:
        """The url that a backend names by a reference, as seen from the endpoint (RFC 3986, 5); None: it is none."""
        if not reference or not all(0x21 <= byte <= 0x7E for byte in reference):
            return None
        try:
            url = urlsplit(urljoin(self.url, reference.decode("ascii")))
            url.port  # noqa: B018  # raises where it is no number
        except ValueError:
            return None
        return url if url.hostname and url.scheme in DEFAULT_PORTS else None

    def holds(self, url: SplitResult) -> bool:
        """Whether a url is on this origin: scheme, host and port (RFC 6454, 4)."""
        return name_url(url, path=False) == self._base

    def slash_twin(self, location: bytes) -> bytes | None:
        """The request target of a redirect to the same url with a slash more or less at the end of its path.

        Returns: None: it leads anywhere else.
        """
        url = self.joined(location)
        if url is None or not self.holds(url) or url.username is not None or url.fragment:
            return None
        target = request_target(url)
        (path, _, query), (own_path, _, own_query) = target.partition(b"?"), self.path.partition(b"?")
        twins = path + b"/" == own_path or own_path + b"/" == path
        return target if twins and query == own_query else None

    @property
    def _base(self) -> str:
        return f"http{'s' if self.secure else ''}://{self.host_header.decode('ascii')}"


def name_url(url: SplitResult, *, path: bool = True) -> str:
    """A url for people: no query, fragment or user info, where secrets live; at most ``NAME_CHARS``.

    Args:
        path: False: its origin only.
    """
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    port = "" if url.port in (None, DEFAULT_PORTS[url.scheme]) else f":{url.port}"
    return f"{url.scheme}://{host}{port}{url.path if path else ''}"[:NAME_CHARS]


def read_origin(target: HttpTarget) -> Origin:
    """Read a configured target.

    Raises:
        LocalFault: a url, address or proxy that ``check`` should have refused.
    """
    url = _split(target.url, ("http", "https"), "url")
    secure = url.scheme == "https"
    host = _ascii_host(url.hostname or "")
    port = _port(url, "url")
    dial_host, dial_port = _address(target.connect, port) if target.connect else (host, port)
    proxy = _proxy(target.proxy) if target.proxy else None
    bracketed = f"[{host}]" if ":" in host else host
    return Origin(
        secure=secure,
        host=host,
        port=port,
        dial_host=dial_host,
        dial_port=dial_port,
        server_name=target.tls.server_name or host,
        host_header=(bracketed if port == DEFAULT_PORTS[url.scheme] else f"{bracketed}:{port}").encode("ascii"),
        path=request_target(url),
        proxy=proxy,
        static=_static(target, proxy if not secure else None),
    )


def render_headers(headers: Iterable[Header]) -> bytes:
    """Header lines, each ended by CRLF.

    Raises:
        LocalFault: a name or value that would break out of its line (the names are
            checked where they enter the gateway; this is the last fence).
    """
    lines = bytearray()
    for name, value in headers:
        if not name or any(mark in name or mark in value for mark in (b"\r", b"\n", b"\0")) or b":" in name:
            raise LocalFault(what=f"header {name[:64]!r} cannot be sent")
        lines += b"%b: %b\r\n" % (name, value)
    return bytes(lines)


def _static(target: HttpTarget, proxy: Proxy | None) -> bytes:
    headers = [(name.encode("latin-1"), value.encode()) for name, value in target.headers]
    if target.credential is not None:
        headers.append((b"Authorization", target.credential.encode()))
    if proxy is not None and proxy.authorization is not None:
        headers.append((b"Proxy-Authorization", proxy.authorization))
    return render_headers(headers)


def _split(url: str, schemes: tuple[str, ...], what: str) -> SplitResult:
    try:
        split = urlsplit(url)
    except ValueError as exc:
        raise LocalFault(what=f"the {what} of a backend cannot be read") from exc
    if split.scheme not in schemes or not split.hostname:
        raise LocalFault(what=f"the {what} of a backend must begin with {' or '.join(schemes)}:// and name a host")
    return split


def _port(url: SplitResult, what: str) -> int:
    try:
        port = url.port
    except ValueError as exc:
        raise LocalFault(what=f"the port in the {what} of a backend is not a port") from exc
    return DEFAULT_PORTS[url.scheme] if port is None else port


def _address(text: str, default_port: int) -> tuple[str, int]:
    """``10.0.0.1``, ``10.0.0.1:80``, ``::1``, ``[::1]:80`` or a name, with or without a port."""
    if text.count(":") > 1 and not text.startswith("["):
        return text, default_port
    split = _split(f"http://{text}", ("http",), "connect address")
    try:
        return split.hostname or "", split.port or default_port
    except ValueError as exc:
        raise LocalFault(what="the port in the connect address of a backend is not a port") from exc


def _proxy(text: str) -> Proxy:
    url = _split(text, ("http",), "proxy")
    authorization = None
    if url.username is not None:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        authorization = b"Basic " + b64encode(pair.encode())
    return Proxy(host=_ascii_host(url.hostname or ""), port=_port(url, "proxy"), authorization=authorization)


def _ascii_host(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as exc:
        raise LocalFault(what="the host name of a backend cannot be written in ASCII") from exc


def request_target(url: SplitResult) -> bytes:
    """Path and query, percent-encoded."""
    path = quote(url.path or "/", safe=SAFE_IN_TARGET.rstrip("?"))
    query = f"?{quote(url.query, safe=SAFE_IN_TARGET)}" if url.query else ""
    return (path + query).encode("ascii")
