"""Resource URIs of many backends in one space, and back again.

Owns the reversible mapping and the matcher of URI templates. Deliberately knows
no tables. Invariant: ``back(out(uri)) == uri`` for every text, and the result
depends on the server key alone, so a URI means the same after every restart.

``scheme://rest`` becomes ``scheme://<marker>/rest`` and ``scheme:rest`` becomes
``scheme:<marker>/rest``; templates likewise, so that expanding a mapped template
gives a mapped URI. The scheme stays (``ui://`` must stay ``ui://`` for MCP Apps).
What has no literal scheme (``{+path}``, ``notes/1``) goes as a whole under ``FALLBACK``.
What clients fetch by themselves (``https://``) stays as it is, as long as it is nobody else's.
"""

import re
from typing import Final, TypeAlias

import attrs

from mcp_gateway.values import BackendKey

FALLBACK: Final = "mcp-resource"
"""Scheme for what has none. A URI that has this scheme already is wrapped as a whole too, so that nothing clashes."""

WEB: Final = frozenset({"http://", "https://"})
"""A server SHOULD use "https://" only when the client can fetch the resource itself -- MCP, server/resources."""
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_EXPRESSION: Final = re.compile(r"\{([^{}]*)\}")


def marker_for(key: BackendKey) -> str:
    """The marker of one server in URIs.

    Injective: a namespace and a file's server name hold no dot, so the first dot is the one that was the slash.
    """
    return key.replace("/", ".")


def _split(uri: str) -> tuple[str, str]:
    """``scheme:`` or ``scheme://`` and the rest; what has no scheme, or the fallback's, is all rest."""
    head = _SCHEME.match(uri)
    if head is None or head[1].lower() == FALLBACK:
        return f"{FALLBACK}://", uri
    return head[0], uri[head.end() :]


def unmark(uri: str) -> tuple[str, str] | None:
    """(marker, the backend's own URI) of a mapped URI; None when there is no place for a marker.

    Whether the marker is some server's is for the caller to see.
    """
    head = _SCHEME.match(uri)
    if head is None:
        return None
    marker, slash, rest = uri[head.end() :].partition("/")
    if not slash:
        return None
    return marker, rest if head[0] == f"{FALLBACK}://" else head[0] + rest


@attrs.frozen
class UriMap:
    """The mapping of one backend's URIs."""

    marker: str

    def out(self, uri: str) -> str:
        """The URI, or template, that clients see for the backend's own."""
        head, rest = _split(uri)
        return f"{head}{self.marker}/{rest}"

    def back(self, uri: str) -> str | None:
        """The backend's own URI for one that clients use; None when it is not one of this backend's."""
        found = unmark(uri)
        return found[1] if found is not None and found[0] == self.marker else None

    def restored(self, uri: str) -> str:
        """The backend's own URI; what is none of this backend's stays as it is."""
        back = self.back(uri)
        return uri if back is None else back


@attrs.frozen
class PrefixedMap:
    """The mapping of a backend with a prefix: all of its URIs, but for those that clients can fetch by themselves."""

    marker: str
    clashing: frozenset[str] = frozenset()
    """The backend's own URIs of that kind that clients see marked all the same."""

    def out(self, uri: str) -> str:
        """See ``UriMap.out``. One that reads as if it were marked already is marked."""
        head, _ = _split(uri)
        stays = head.lower() in WEB and uri not in self.clashing and self.back(uri) is None
        return uri if stays else UriMap(self.marker).out(uri)

    def back(self, uri: str) -> str | None:
        """See ``UriMap.back``."""
        return UriMap(self.marker).back(uri)

    def restored(self, uri: str) -> str:
        """See ``UriMap.restored``."""
        return UriMap(self.marker).restored(uri)


@attrs.frozen
class ClashMap:
    """The mapping of a backend that keeps its URIs, but for those that are another's in this gateway."""

    marker: str
    clashing: frozenset[str]
    """The backend's own URIs that clients see marked."""

    def out(self, uri: str) -> str:
        """See ``UriMap.out``."""
        return UriMap(self.marker).out(uri) if uri in self.clashing else uri

    def back(self, uri: str) -> str | None:
        """See ``UriMap.back``; a URI that is not marked is the backend's own."""
        return self.restored(uri)

    def restored(self, uri: str) -> str:
        """See ``UriMap.restored``."""
        own = UriMap(self.marker).back(uri)
        return own if own in self.clashing else uri


AnyMap: TypeAlias = UriMap | PrefixedMap | ClashMap


@attrs.frozen
class Template:
    """A matcher for one URI template: its literal texts, with one expression between each two.

    ``strict``: every expression is a simple ``{name}``, which expands to one or
    more characters other than ``/``. Else an expression stands for any text, so
    that a template may match too much but never too little. Linear in the length
    of the URI, whatever the backend sends (no regular expression is built from it).
    """

    literals: tuple[str, ...]
    strict: bool

    @classmethod
    def parse(cls, template: str) -> "Template":
        """Read a template of RFC 6570; unbalanced braces count as text."""
        parts = _EXPRESSION.split(template)
        literals, expressions = parts[::2], parts[1::2]
        return cls(tuple(literals), all(re.match(r"\w", name) for name in expressions))

    def matches(self, uri: str) -> bool:
        """Whether ``uri`` can be an expansion of the template.

        Taking the first place for each literal decides exactly when ``strict``:
        every ``/`` of the URI must then be one of a literal, in order.
        """
        first, *middle = self.literals
        if not uri.startswith(first):
            return False
        if not middle:
            return uri == first
        last = middle.pop()
        least = 1 if self.strict else 0
        pos = len(first)
        for literal in middle:
            found = uri.find(literal, pos + least)
            if found < 0 or not self._expands(uri[pos:found]):
                return False
            pos = found + len(literal)
        end = len(uri) - len(last)
        return end >= pos + least and uri.endswith(last) and self._expands(uri[pos:end])

    def _expands(self, text: str) -> bool:
        return not self.strict or "/" not in text
