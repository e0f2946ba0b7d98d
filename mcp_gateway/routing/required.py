"""What a client must be able to do to be shown an item.

Owns the value and who meets it. Deliberately does not find it out (``backends.capability_probe``
does). Pure. Invariant: whoever can do more is shown no less.
"""

from collections.abc import Iterable
from typing import TypeAlias

from mcp_gateway.protocol import capabilities
from mcp_gateway.values import JsonObject

Required: TypeAlias = tuple[frozenset[str], ...]
"""Sets of client capabilities (names of ``protocol.capabilities``); having all of one set is enough. No sets:
everybody is shown the item."""


def met(required: Required, granted: frozenset[str]) -> bool:
    """Whether a client that can do ``granted`` is shown the item."""
    return not required or any(one <= granted for one in required)


def simplest(sets: Iterable[frozenset[str]]) -> Required:
    """The same required without the sets that hold another one."""
    kept: list[frozenset[str]] = []
    for one in sorted(sets, key=len):  # stable: equally large ones stay in their order
        if not any(other <= one for other in kept):
            kept.append(one)
    return tuple(kept)


def least(required: Required) -> JsonObject:
    """The least that a client must declare, as a capabilities object; of an item that requires something."""
    return capabilities.object_of(min(required, key=len))
