"""Which headers a configuration may send or let through, and which the gateway keeps to itself.

Owns the refused names and the shape of names and values. Deliberately sends nothing.
Invariant: a header that frames the message, carries the protocol or an identity
is never set by ``headers`` nor passed on by ``forwardHeaders``.
"""

import re
from typing import Final

from mcp_gateway.config import document
from mcp_gateway.config.schema import Item, Unfit, text
from mcp_gateway.config.secrets import credential, header_value

# RFC 9110, 5.6.2: token
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_WHY: Final = {
    "host": "the Host is the one of the server's url; use connect to dial another address",
    "accept": "the gateway sets it from the protocol",
    "accept-encoding": "the gateway relays uncompressed answers only",
    "cookie": "cookies belong to one site and one user",
    "authorization": "use credential",
    "last-event-id": "the gateway resumes streams itself",
}


def refusal(name: str) -> str | None:
    """Why a header name (any case) is refused; None if it may be used."""
    folded = name.lower()
    if folded in _WHY:
        return f"header {name} is refused: {_WHY[folded]}"
    if folded.startswith("content-"):
        return f"header {name} is refused: it describes a body that the gateway rewrites"
    if folded.startswith("mcp-"):
        return f"header {name} is refused: the gateway makes the protocol's own headers"
    if folded in _HOP_BY_HOP:
        return f"header {name} is refused: it is for one connection only (hop by hop)"
    return None


def header_name(name: str) -> str:
    """A usable header name as it was written. Raises Unfit."""
    if not _TOKEN.fullmatch(name):
        raise Unfit("is no header name")
    why = refusal(name)
    if why is not None:
        raise Unfit(why)
    return name


def forwarded_name(item: Item) -> str:
    """The lower-case name of a header that clients may send through."""
    return header_name(text(item)).lower()


def static_value(item: Item) -> str:
    """A header's value: text, or a secret."""
    if isinstance(item.node, document.Mapping):
        return credential(item)
    return header_value(text(item).encode("utf-8", "surrogatepass"))
