"""What the gateway is measured with, and which scenarios cannot exist in a pair of eras.

Owns the three ways to put the fixture behind the gateway and the accepted failures, each with its reason. Invariant:
with a backend pinned to nothing the accepted list is empty.
"""

from collections.abc import Mapping
from typing import Final

import attrs


@attrs.frozen(kw_only=True)
class Pair:
    """One configuration of the gateway, and the revisions that are measured through it."""

    name: str
    backend: str
    """What the gateway speaks to the fixture server."""
    scored: Mapping[str, int]
    """Scored scenarios of each revision."""
    impossible: Mapping[str, str] = {}
    """Scored scenarios that fail, and why they must."""
    unscored: Mapping[str, frozenset[str]] = {}
    """Scenarios that the suite does not score, and that pass nevertheless."""


DIRECT: Final = Pair(
    name="pinned to nothing",
    backend="auto",
    scored={"2025-03-26": 1, "2025-06-18": 27, "2025-11-25": 30, "2026-07-28": 37},
    unscored={
        "2025-11-25": frozenset({"server-session-lifecycle", "json-schema-2020-12", "server-sse-polling"}),
        "2026-07-28": frozenset(
            {"http-header-validation", "http-custom-header-server-validation", "json-schema-2020-12"}
        ),
    },
)
TO_LEGACY: Final = Pair(
    name="bridge (a): modern clients, a legacy backend",
    backend="2025-11-25",
    scored={"2026-07-28": 37},
    impossible={
        "input-required-result-basic-elicitation": "the suite wants the question under the key user_name; a legacy "
        "backend's question is a JSON-RPC request, which has an id and no name",
    },
    unscored=DIRECT.unscored,
)
TO_MODERN: Final = Pair(
    name="bridge (b): legacy clients, a modern backend",
    backend="2026-07-28",
    scored={"2025-11-25": 30},
    unscored=DIRECT.unscored,
)
PAIRS: Final = (DIRECT, TO_LEGACY, TO_MODERN)
