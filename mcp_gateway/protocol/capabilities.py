"""Client capabilities as sets of names.

Owns which capabilities the gateway knows by name and what an object declares.
Deliberately keeps no capability that it does not know. Pure. Invariant:
``known(object_of(names))`` gives ``names`` again, and the capabilities they are parts of.
"""

from typing import Final

from mcp_gateway.values import JsonObject

NAMES: Final = (
    "roots",
    "roots.listChanged",
    "sampling",
    "sampling.tools",
    "sampling.context",
    "elicitation",
    "elicitation.form",
    "elicitation.url",
)
"""In the order of their bits in a session id; only ever append."""


def known(declared: JsonObject) -> frozenset[str]:
    """The names in ``NAMES`` that a client's capabilities object holds (an empty object declares; null and false do
    not)."""
    names: set[str] = set()
    for name in NAMES:
        top, _, sub = name.partition(".")
        value = declared.get(top)
        if sub:
            value = value.get(sub) if isinstance(value, dict) else None
        if value is not None and value is not False:
            names.add(name)
    return frozenset(names)


def granted(declared: JsonObject) -> frozenset[str]:
    """What a client can do: ``known``, and forms for whoever says ``elicitation`` without a mode.

    Spec: MCP 2025-11-25 client/elicitation, where an empty object stands for form mode only.
    """
    names = known(declared)
    if "elicitation" in names and "elicitation.url" not in names:
        names |= {"elicitation.form"}
    return names


def object_of(names: frozenset[str]) -> JsonObject:
    """The capabilities object that declares exactly ``names``."""
    declared: JsonObject = {}
    for name in NAMES:
        if name not in names:
            continue
        top, _, sub = name.partition(".")
        inner = declared.setdefault(top, {})
        if sub and isinstance(inner, dict):
            inner[sub] = True if sub == "listChanged" else {}
    return declared
