"""Who may speak to a listener: the Origin and Host of a request.

Owns the defence against DNS rebinding, as pure functions of the raw header list.
Deliberately no authentication and no configuration: the allow-lists come in as
arguments. Invariant: what cannot be parsed with certainty is refused.
Spec: MCP 2025-11-25 basic/transports, Security Warning ("MUST validate the Origin
header"); RFC 6454 section 7; RFC 9110 section 7.2.
"""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import attrs

from mcp_gateway.values import Header

_LABELS: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_NAME_CHARS: Final = 300
"""A DNS name has at most 253; what is longer is neither parsed nor remembered."""
_DEFAULT_PORT: Final = {"http": 80, "https": 443}


@attrs.frozen(kw_only=True)
class Refusal:
    """Why a request is not even looked at: an HTTP status and a constant sentence."""

    status: int
    message: str


@attrs.frozen(kw_only=True)
class Authority:
    """A parsed ``host[:port]``: lower case, no trailing dot, IPv6 without brackets and in its shortest form."""

    host: str
    port: int | None = None


BAD_ORIGIN: Final = Refusal(status=403, message="this Origin is not allowed")
BAD_HOST: Final = Refusal(status=403, message="this Host is not allowed")
TWO_HOSTS: Final = Refusal(status=400, message="more than one Host")


def check(
    method: str,
    headers: Sequence[Header],
    *,
    bind_is_loopback: bool,
    allowed_hosts: Sequence[str],
    allowed_origins: Sequence[str],
    admin: bool = False,
) -> Refusal | None:
    """Say why a request must not be served, or None.

    The Origin, where there is one, must be loopback or allowed. The Host is checked where an allow-list is given
    (public listener), and on a loopback bind where a browser could be the sender: an Origin, any GET, the whole
    admin listener. A loopback Host always passes: a page of another site cannot make a browser send it.

    Args:
        method: as it came, upper case.
        headers: names lower case, duplicates kept.
        bind_is_loopback: every address of the listener is a loopback address.
        allowed_hosts: ``name``, ``name:port`` (without a port: any), ``*.name`` (any depth below), ``*``.
        allowed_origins: ``scheme://name[:port]``, ``scheme://*.name[:port]``, ``*``.
        admin: the listener is the admin one; ``allowed_hosts`` then only adds names (scrapers come by address).
    """
    origins = [value for name, value in headers if name == b"origin"]
    if origins and not (len(origins) == 1 and origin_allowed(origins[0], allowed_origins)):
        return BAD_ORIGIN
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        return TWO_HOSTS
    browser = admin or bool(origins) or method in ("GET", "HEAD")
    wanted = (bind_is_loopback and browser) or (bool(allowed_hosts) and not admin)
    if wanted and not (hosts and host_allowed(hosts[0], allowed_hosts)):
        return BAD_HOST
    return None


def host_allowed(value: bytes, allowed: Sequence[str]) -> bool:
    """Whether a Host is loopback or on the list."""
    authority = parse_authority(value.decode("latin-1"))
    if authority is None:
        return False
    return is_loopback(authority.host) or any(_host_matches(authority, entry) for entry in allowed)


def origin_allowed(value: bytes, allowed: Sequence[str]) -> bool:
    """Whether an Origin is a loopback web page or on the list; ``null`` never is."""
    text = value.decode("latin-1")
    parsed = _parse_origin(text)
    if parsed is None:
        return False
    scheme, authority = parsed
    if scheme in _DEFAULT_PORT and is_loopback(authority.host):
        return True
    return any(entry == "*" or _origin_matches(scheme, authority, entry) for entry in allowed)


def is_loopback(host: str) -> bool:
    """``localhost``, 127.0.0.0/8 or ::1, and nothing that merely resolves to them."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None


def parse_authority(text: str) -> Authority | None:
    """``host[:port]`` in its comparable form; None for anything else (credentials, paths, white space)."""
    return _parse_authority(text) if len(text) <= _NAME_CHARS else None


@lru_cache(maxsize=1024)
def _parse_authority(text: str) -> Authority | None:
    text = text.lower()
    if text.startswith("["):
        literal, bracket, rest = text[1:].partition("]")
        try:
            host = ipaddress.IPv6Address(literal).compressed
        except ValueError:
            return None
        if not bracket or "%" in literal:
            return None
        return _with_port(host, rest)
    name, colon, port = text.partition(":")
    name = name.removesuffix(".")
    if not _LABELS.fullmatch(name):
        return None
    return _with_port(name, colon + port)


def _with_port(host: str, rest: str) -> Authority | None:
    if not rest:
        return Authority(host=host)
    digits = rest.removeprefix(":")
    # RFC 3986 3.2.3 allows "host:"; nobody sends it in earnest.
    if digits == rest or not (digits.isascii() and digits.isdigit()) or not 0 < len(digits) <= 5:
        return None
    port = int(digits)
    return Authority(host=host, port=port) if port <= 65535 else None


def _parse_origin(text: str) -> tuple[str, Authority] | None:
    return _parse_short_origin(text) if len(text) <= _NAME_CHARS else None


@lru_cache(maxsize=1024)
def _parse_short_origin(text: str) -> tuple[str, Authority] | None:
    scheme, separator, rest = text.partition("://")
    authority = parse_authority(rest)
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) or authority is None:
        return None
    scheme = scheme.lower()
    port = authority.port if authority.port is not None else _DEFAULT_PORT.get(scheme)
    return scheme, Authority(host=authority.host, port=port)


def _host_matches(authority: Authority, entry: str) -> bool:
    if entry == "*":
        return True
    wild = entry.startswith("*.")
    wanted = parse_authority(entry.removeprefix("*."))
    if wanted is None or (wanted.port is not None and wanted.port != authority.port):
        return False
    return _name_matches(authority.host, wanted.host, wild=wild)


def _origin_matches(scheme: str, authority: Authority, entry: str) -> bool:
    wild = "://*." in entry
    wanted = _parse_origin(entry.replace("://*.", "://", 1))
    if wanted is None or wanted[0] != scheme or wanted[1].port != authority.port:
        return False
    return _name_matches(authority.host, wanted[1].host, wild=wild)


def _name_matches(host: str, wanted: str, *, wild: bool) -> bool:
    return host.endswith("." + wanted) if wild else host == wanted
