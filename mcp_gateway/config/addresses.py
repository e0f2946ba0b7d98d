"""URLs, hosts and origins in a configuration.

Owns their shape. Deliberately resolves no name and opens no connection.
Invariant: a URL that passes has a host, no user, no password and no fragment.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from mcp_gateway.config.schema import Item, Unfit, text

_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL}){{0,20}}\.?")
_WITH_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")


def _split(value: str, schemes: tuple[str, ...]) -> SplitResult:
    """The parts of a usable URL. Raises Unfit; never repeats the URL, which may hold a password."""
    if not value.isascii() or any(character <= " " or character == "\x7f" for character in value):
        raise Unfit("must be a URL without spaces and only of ASCII characters")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise Unfit("must be a URL; its host or port is not valid") from None
    if parts.scheme not in schemes:
        raise Unfit(f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if not parts.hostname or port == 0 or not is_host(parts.hostname):
        raise Unfit("must be a URL with a host, such as http://127.0.0.1:9001/mcp")
    return parts


def is_host(value: str) -> bool:
    """Whether this is a host name or an IP address (IPv6 without brackets)."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return len(value) <= 253 and _NAME.fullmatch(value) is not None
    return True


def server_url(item: Item) -> str:
    """The http or https URL of an MCP endpoint."""
    value = text(item)
    parts = _split(value, ("http", "https"))
    if "@" in parts.netloc:
        raise Unfit("must not contain a user or password; use credential")
    if "#" in value:
        raise Unfit("must not contain a fragment (#)")
    return value


def proxy_url(item: Item) -> str:
    """The http URL of a forward proxy; it may hold a user and a password."""
    value = text(item)
    _split(value, ("http",))
    return value


def public_url(item: Item) -> str:
    """The URL under which clients see the gateway, without a slash at its end."""
    return server_url(item).rstrip("/")


def host_name(item: Item) -> str:
    """A host name or an IP address, without a port."""
    value = text(item)
    if not is_host(value):
        raise Unfit("must be a host name or an IP address, without a port")
    return value


def dial_address(item: Item) -> str:
    """A host name or an IP address, with or without a port (IPv6 with a port in brackets)."""
    value = text(item)
    if not is_host(value) and not _has_host_and_port(value):
        raise Unfit("must be an IP address or a host name, such as 10.96.3.7 or 10.96.3.7:8080")
    return value


def _has_host_and_port(value: str) -> bool:
    match = _WITH_PORT.fullmatch(value)
    if match is None:
        return False
    host, port = match.groups()
    bare = host[1:-1] if host.startswith("[") else host
    return is_host(bare) and (host.startswith("[") == (":" in bare)) and (port is None or 0 < int(port) <= 65535)


def host_pattern(item: Item) -> str:
    """A lower-case host name without a port, ``*.suffix``, an IP address, or ``*`` for what nobody else claims."""
    value = text(item).lower()
    if (
        value != "*"
        and not is_host(value.removeprefix("*."))
        and not (value.startswith("[") and _has_host_and_port(value))
    ):
        raise Unfit('must be a host name without a port, such as mcp.example.com or "*.mcp.local"')
    return value


def allowed_host(item: Item) -> str:
    """What ``gateway.origin`` compares with a Host: ``name``, ``name:port``, ``*.name`` or ``*``."""
    value = text(item).lower()
    bare = value.removeprefix("*.")
    if value != "*" and not is_host(bare) and not _has_host_and_port(bare):
        raise Unfit('must be a host name, such as mcp.example.com, mcp.example.com:8443 or "*.mcp.local"')
    return value


def allowed_origin(item: Item) -> str:
    """What ``gateway.origin`` compares with an Origin: ``scheme://name[:port]``, ``scheme://*.name[:port]``, ``*``."""
    value = text(item).lower()
    scheme, colon, rest = value.partition("://")
    bare = rest.removeprefix("*.")
    fits = colon and _SCHEME.fullmatch(scheme) and (is_host(bare) or _has_host_and_port(bare))
    if value != "*" and not fits:
        raise Unfit("must be an origin, such as https://app.example.com (no path, no slash at the end)")
    return value
