"""What the gateway is measured with, and which scenarios cannot exist in a pair of eras.

Owns the ways to put a server behind the gateway and the accepted failures, each with its reason. Invariant: with a
backend pinned to nothing the accepted list is empty, whoever wrote the server.
"""

from collections.abc import Mapping
from typing import Final

import attrs


@attrs.frozen(kw_only=True)
class Pair:
    """One server behind one configuration of the gateway, and the revisions that are measured through it."""

    name: str
    server: str = "fixture"
    """One of ``run_suite.SERVERS``."""
    backend: str
    """What the gateway speaks to the server."""
    scored: Mapping[str, int]
    """Scored scenarios of each revision."""
    impossible: Mapping[str, Mapping[str, str]] = {}
    """By revision: scored scenarios that fail, and why they must."""
    unscored: Mapping[str, frozenset[str]] = {}
    """Scenarios that the suite does not score, and that pass nevertheless."""


UNNAMED: Final[Mapping[str, str]] = {
    "input-required-result-basic-elicitation": "the suite wants the question under the key user_name; a legacy "
    "backend's question is a JSON-RPC request, which has an id and no name",
}

SCORED: Final[Mapping[str, int]] = {"2025-03-26": 1, "2025-06-18": 27, "2025-11-25": 30, "2026-07-28": 37}
NEWEST: Final[Mapping[str, int]] = {"2025-11-25": 30, "2026-07-28": 37}

DIRECT: Final = Pair(
    name="pinned to nothing",
    backend="auto",
    scored=SCORED,
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
    impossible={"2026-07-28": UNNAMED},
    unscored=DIRECT.unscored,
)
TO_MODERN: Final = Pair(
    name="bridge (b): legacy clients, a modern backend",
    backend="2026-07-28",
    scored={"2025-11-25": 30},
    unscored=DIRECT.unscored,
)
_RETURNED: Final = (
    "the tool returns its question, which exists in 2026 only; to a caller of 2025 the SDK answers with an error"
)
_PUSHED: Final = "the tool pushes its question, which exists in 2025 only; in 2026 the SDK has no way to do so"
_DECLARED: Final = "the tool looks at what a request of 2026 declares, and a request of 2025 declares nothing"
_PUSHING: Final[Mapping[str, str]] = dict.fromkeys(
    ("tools-call-sampling", "tools-call-elicitation", "elicitation-sep1034-defaults", "elicitation-sep1330-enums"),
    _PUSHED,
)
_RETURNING: Final[Mapping[str, str]] = dict.fromkeys(
    (
        "input-required-result-basic-elicitation",
        "input-required-result-basic-sampling",
        "input-required-result-basic-list-roots",
        "input-required-result-request-state",
        "input-required-result-multiple-input-requests",
        "input-required-result-multi-round",
        "input-required-result-non-tool-request",
        "input-required-result-result-type",
        "input-required-result-tampered-state",
        "input-required-result-capability-check",
    ),
    _RETURNED,
)

ONE_WAY: Final = Pair(
    name="tools that ask in one way",
    server="one-way",
    backend="auto",
    scored=SCORED,
    unscored=DIRECT.unscored,
)
SESSIONLESS: Final = Pair(
    name="tools that ask in one way, no session ids",
    server="sessionless",
    backend="auto",
    scored=NEWEST,
    impossible={"2025-11-25": _PUSHING},
)
PAIRS: Final = (DIRECT, TO_LEGACY, TO_MODERN, ONE_WAY, SESSIONLESS)

SDK_PAIRS: Final = (
    Pair(name="Python SDK, pinned to nothing", server="python", backend="auto", scored=SCORED),
    Pair(
        name="Python SDK, pinned to 2025-11-25",
        server="python",
        backend="2025-11-25",
        scored=NEWEST,
        impossible={"2026-07-28": _RETURNING},
    ),
    Pair(
        name="Python SDK, pinned to 2026-07-28",
        server="python",
        backend="2026-07-28",
        scored=NEWEST,
        impossible={"2025-11-25": _PUSHING},
    ),
    Pair(name="TypeScript SDK, pinned to nothing", server="typescript", backend="auto", scored=SCORED),
    Pair(
        name="TypeScript SDK, pinned to 2025-11-25",
        server="typescript",
        backend="2025-11-25",
        scored=NEWEST,
        impossible={
            "2026-07-28": {
                **UNNAMED,
                "input-required-result-capability-check": _DECLARED,
                "server-stateless": "a server of 2025 has no error for a capability that its client lacks",
            }
        },
    ),
    Pair(
        name="TypeScript SDK, pinned to 2026-07-28",
        server="typescript",
        backend="2026-07-28",
        scored=NEWEST,
        impossible={"2025-11-25": _PUSHING},
    ),
)
"""Servers whose tools ask in one way only, the way of their SDK."""
