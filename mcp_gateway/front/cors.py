"""What pages of other origins are told: CORS headers and the answers to preflights.

Owns the headers, as pure functions of the request's. Deliberately decides not who may ask
(``gateway.origin``). Invariant: an Origin that is not allowed is told nothing.
Spec: Fetch, section 3.2 (CORS protocol).
"""

import re
from collections.abc import Sequence
from typing import Final

from mcp_gateway.gateway.origin import origin_allowed
from mcp_gateway.values import Header

_TOKENS: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_ASKED_HEADERS_BYTES: Final = 4096
_PREFLIGHT_AGE_S: Final = 600
METHODS: Final = b"GET, POST, DELETE, OPTIONS"
EXPOSED: Final = b"Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate"


def cors_headers(headers: Sequence[Header], *, allowed_origins: Sequence[str]) -> tuple[Header, ...]:
    """What every answer to an allowed Origin carries; nothing for anybody else."""
    origins = [value for name, value in headers if name == b"origin"]
    if len(origins) != 1 or not origin_allowed(origins[0], allowed_origins):
        return ()
    return (
        (b"access-control-allow-origin", origins[0]),
        (b"access-control-expose-headers", EXPOSED),
        (b"vary", b"Origin"),
    )


def preflight(headers: Sequence[Header], *, allowed_origins: Sequence[str]) -> tuple[Header, ...]:
    """The headers of the 204 that answers OPTIONS on an MCP path.

    The headers that the page asked for are allowed as asked: Mcp-Param-* has no end, and they protect nothing here
    (the Origin does).
    """
    answer: tuple[Header, ...] = ((b"allow", METHODS),)
    cors = cors_headers(headers, allowed_origins=allowed_origins)
    asked = {name: value for name, value in headers if name.startswith(b"access-control-request-")}
    if not cors or b"access-control-request-method" not in asked:
        return answer + cors
    answer += (
        (b"access-control-allow-origin", cors[0][1]),
        (b"access-control-allow-methods", METHODS),
        (b"access-control-max-age", b"%d" % _PREFLIGHT_AGE_S),
        (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    )
    names = asked.get(b"access-control-request-headers", b"")
    if len(names) <= _ASKED_HEADERS_BYTES and _TOKENS.fullmatch(names):
        answer += ((b"access-control-allow-headers", names),)
    if asked.get(b"access-control-request-private-network") == b"true":
        answer += ((b"access-control-allow-private-network", b"true"),)
    return answer
