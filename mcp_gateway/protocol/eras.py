"""The protocol revisions, as data.

Owns one frozen ``Era`` per revision. Deliberately no behaviour: what differs
between revisions is a field here, never an ``if version >= ...`` in the flow.
Invariant: ``ERAS`` holds every revision the gateway speaks, oldest first.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

import attrs


class Family(Enum):
    """The two ways to begin: a handshake (legacy) or metadata with every request (modern)."""

    LEGACY = "legacy"
    MODERN = "modern"


@attrs.frozen(kw_only=True)
class Era:
    """What one protocol revision has. Spec: the schemas and the changelogs of each revision."""

    version: str
    family: Family = Family.LEGACY
    version_header: bool = True
    """MCP-Protocol-Version is sent after the handshake (2025-06-18 and later)."""
    batches: bool = False
    """JSON-RPC arrays (2025-03-26 only)."""
    priming_event: bool = False
    """SSE answers begin with an event of an id and empty data (2025-11-25)."""
    resumable: bool = True
    """Event ids and Last-Event-ID exist (not in 2024-11-05 HTTP+SSE, not in 2026-07-28)."""
    one_stream: bool = False
    """Answers come as events of the session's one stream, never on their own POST (HTTP+SSE, whatever the revision)."""
    disconnect_cancels: bool = False
    """A client that closes the response stream has cancelled (2026-07-28)."""
    completions: bool = True
    """The ``completions`` capability exists (2025-03-26 and later)."""
    audio: bool = True
    resource_links: bool = True
    structured: bool = True
    """outputSchema and structuredContent exist."""
    structured_any: bool = False
    """... and may be any JSON, not only objects (2026-07-28)."""
    titles: bool = True
    icons: bool = False
    """icons and execution.taskSupport exist (2025-11-25)."""
    tasks: bool = False
    """Tasks are part of the core (2025-11-25)."""
    elicitation: bool = True
    url_elicitation: bool = False
    caching_hints: bool = False
    """ttlMs, cacheScope and resultType exist (2026-07-28)."""

    modern: bool = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.family is Family.MODERN, takes_self=True)
    )
    """Whether it is of the family without sessions and handshake."""


V2024_11_05: Final = Era(
    version="2024-11-05",
    version_header=False,
    resumable=False,
    completions=False,
    audio=False,
    resource_links=False,
    structured=False,
    titles=False,
    elicitation=False,
)
V2025_03_26: Final = Era(
    version="2025-03-26",
    version_header=False,
    batches=True,
    resource_links=False,
    structured=False,
    titles=False,
    elicitation=False,
)
V2025_06_18: Final = Era(version="2025-06-18")
V2025_11_25: Final = Era(version="2025-11-25", priming_event=True, icons=True, tasks=True, url_elicitation=True)
V2026_07_28: Final = Era(
    version="2026-07-28",
    family=Family.MODERN,
    resumable=False,
    disconnect_cancels=True,
    structured_any=True,
    icons=True,
    url_elicitation=True,
    caching_hints=True,
)

ERAS: Final[Mapping[str, Era]] = MappingProxyType(
    {era.version: era for era in (V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25, V2026_07_28)}
)
LEGACY_VERSIONS: Final = tuple(era.version for era in ERAS.values() if not era.modern)
MODERN_VERSIONS: Final = tuple(era.version for era in ERAS.values() if era.modern)
NEWEST_LEGACY: Final = V2025_11_25
NEWEST_MODERN: Final = V2026_07_28
