"""Whose call it is, as far as a backend is concerned.

Owns ``Caller`` and ``SessionKey``, which names the upstream session that it uses
(docs/architecture.md, "Upstream sessions"). Deliberately pure. Invariant: callers with
equal keys may share a session because nothing that the backend can see tells them apart.
"""

import functools
from typing import Final

import attrs
import orjson

from mcp_gateway.auth.principal import Principal
from mcp_gateway.backends.transports.base import ClientIdentity
from mcp_gateway.protocol.eras import Family

_INPUT: Final = ("sampling", "elicitation", "roots")


@attrs.frozen(kw_only=True)
class SessionKey:
    """Whose link it is: one client session's, or that of all modern callers who are alike; neither: everybody's."""

    session: str | None = None
    subject: str = ""
    capabilities: bytes = b""
    version: str | None = None
    askable: bool = False
    """Modern callers who can be asked things; backends do that on the standalone stream too (mcp 1.30 by default)."""
    bay: int = 0
    """Which of the sessions that carry one such call at a time; the first carries all that is no such call, too."""
    sessionless: bool = False
    """Everybody's, on the 2025 side of a backend that gives no session ids there and speaks 2026 as well."""

    @property
    def everybodys(self) -> bool:
        """Whether it is a link that all callers share: the backend keeps nothing for any of them."""
        return self.session is None and not self.capabilities

    @property
    def alike(self) -> "SessionKey":
        """The first session of all that nothing but their bay tells apart."""
        return attrs.evolve(self, bay=0) if self.bay else self


EVERYBODY: Final = SessionKey()
"""In the newest era of the backend."""
SESSIONLESS: Final = SessionKey(sessionless=True)
"""In 2025, where that is not the newest."""


@attrs.frozen(kw_only=True, cache_hash=True)
class Caller:
    """Whose upstream session a call uses."""

    session: str | None = None
    """The client session's key on the 2025 face; None for modern clients."""
    principal: Principal
    identity: ClientIdentity
    """The caller's own capabilities, info and version, never the gateway's."""
    bay: int = 0
    """Of a modern caller's call that may be asked something (``bays``)."""

    @property
    def like_anybody(self) -> "Caller":
        """Somebody who has nothing of his own at a process, on behalf of the same client."""
        identity = attrs.evolve(self.identity, capabilities=b"{}")
        return Caller(principal=self.principal, identity=identity)

    @property
    def family(self) -> Family:
        """The client's own: only 2025 clients have sessions."""
        return Family.MODERN if self.session is None else Family.LEGACY

    @property
    def askable(self) -> bool:
        """Whether the client could be asked something."""
        return may_be_asked(self.identity.capabilities)

    @property
    def key(self) -> SessionKey:
        """The client session, or what makes modern callers alike; the credential is the backend's own."""
        if self.session is not None:
            return SessionKey(session=self.session)
        return SessionKey(
            subject=self.principal.subject,
            capabilities=self.identity.capabilities,
            version=self.identity.version,
            askable=may_be_asked(self.identity.capabilities),
            bay=self.bay,
        )


@functools.lru_cache(maxsize=256)
def may_be_asked(capabilities: bytes) -> bool:
    """Whether a client with these capabilities (raw JSON) could be asked something by a backend."""
    try:
        declared = orjson.loads(capabilities)
    except orjson.JSONDecodeError:
        return False
    return isinstance(declared, dict) and any(name in declared for name in _INPUT)
