"""What a view says of itself: capabilities, what is beyond the core, and instructions.

Owns how the declarations of many servers become one. Deliberately believes no ``subscribe``
of a 2025 server (``routing.build``) and forms no result (``gateway.faces``). Pure.
Invariants: the result depends on the servers' order and words alone; it is bounded; no
server's words can be taken for another's or for the gateway's.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import attrs

from mcp_gateway.protocol import json_text
from mcp_gateway.protocol.extensions import MEMBERS, Offers
from mcp_gateway.protocol.plain_text import cut, fits, plain
from mcp_gateway.values import BackendKey, JsonObject, JsonValue

MAX_INSTRUCTIONS: Final = 4096
"""Bytes of generated instructions (docs/architecture.md)."""
MAX_HINT: Final = 512
"""Bytes of a hint: a long one must not take the lines of others."""
MAX_BYTES: Final = 64 * 2**10
"""Of all settings in each of ``extensions.MEMBERS``; what comes later in order is left out."""
PROVIDERS: Final = "mcp-gateway/providers"
"""In ``_meta``: by member and id, the servers that declare it, in order; the first one's settings are shown."""
QUOTED: Final = 'Lines that begin with ">" are the words of the server that is named above them.'

_ALWAYS: Final[Mapping[str, JsonObject]] = MappingProxyType(
    {"tools": {"listChanged": True}, "prompts": {"listChanged": True}, "resources": {"listChanged": True}}
)
"""Whatever is there now: clients of 2025 read this once, and servers come and go."""
_LEAST: Final = 64
"""Bytes of a server's words below which they are not begun."""


@attrs.frozen(kw_only=True)
class Provider:
    """One server of a view."""

    key: BackendKey
    prefix: str
    hint: str = ""
    abilities: frozenset[str] = frozenset()
    """As ``View.abilities``."""
    offers: Offers
    instructions: str = ""
    """Its own, made plain."""


@attrs.frozen(kw_only=True, eq=False)
class Advertised:
    """What ``initialize`` and ``server/discover`` say beside who we are."""

    capabilities: JsonObject
    meta: JsonObject = attrs.field(factory=dict)
    instructions: str = ""
    left_out: Mapping[BackendKey, tuple[str, ...]] = attrs.field(factory=dict)
    """What of a server there was no room for, and why."""

    def without(self, extension: str) -> "Advertised":
        """The same for clients in whose revisions an extension means nothing."""
        names = self.meta.get(PROVIDERS)
        rest = _without(names, extension) if isinstance(names, dict) else {}
        capabilities = _without(self.capabilities, extension)
        return attrs.evolve(self, capabilities=capabilities, meta={PROVIDERS: rest} if rest else {})


def advertise(providers: Sequence[Provider], *, complete: bool, configured: str) -> Advertised:
    """Make one of what the servers of a view declare.

    Args:
        providers: in order; those of which something is shown.
        complete: every server that could be one has been discovered. Until then all is advertised that can be relayed.
        configured: the operator's instructions, which stand instead of the servers'.
    """

    def some(ability: str) -> bool:
        return not complete or any(ability in provider.abilities for provider in providers)

    capabilities: JsonObject = {name: dict(value) for name, value in _ALWAYS.items()}
    if some("resources.subscribe"):
        capabilities["resources"] = {"subscribe": True, "listChanged": True}
    capabilities.update((name, {}) for name in ("completions", "logging") if some(name))
    names: JsonObject = {}
    left_out: dict[BackendKey, tuple[str, ...]] = {}
    for member in MEMBERS:
        merged = _merge(member, providers, left_out)
        if merged:
            capabilities[member] = {name: settings for name, (settings, _) in merged.items()}
            names[member] = {name: list(keys) for name, (_, keys) in merged.items()}
    return Advertised(
        capabilities=capabilities,
        meta={PROVIDERS: names} if names else {},
        instructions=configured or introduction(providers),
        left_out=left_out,
    )


def _without(holder: JsonObject, extension: str) -> JsonObject:
    held = holder.get("extensions")
    if not isinstance(held, dict) or extension not in held:
        return holder
    rest: JsonObject = {name: value for name, value in held.items() if name != extension}
    others: JsonObject = {member: value for member, value in holder.items() if member != "extensions"}
    return {**others, "extensions": rest} if rest else others


def _merge(
    member: str, providers: Sequence[Provider], left_out: dict[BackendKey, tuple[str, ...]]
) -> dict[str, tuple[JsonObject, list[JsonValue]]]:
    """By id: the settings of the first server that declares it, and the keys of all that do."""
    merged: dict[str, tuple[JsonObject, list[JsonValue]]] = {}
    room = MAX_BYTES
    for provider in providers:
        for name, settings in provider.offers.settings[member].items():
            if name not in merged:
                size = len(name.encode()) + len(json_text.dumps(settings))
                if size > room:
                    reason = (
                        f"capabilities.{member}: {name!r} is not advertised: over {MAX_BYTES} bytes with the others"
                    )
                    left_out[provider.key] = (*left_out.get(provider.key, ()), reason)
                    continue
                room -= size
                merged[name] = (settings, [])
            merged[name][1].append(provider.key)
    return merged


def introduction(providers: Sequence[Provider]) -> str:
    """One line per server, as far as there is room, and under it the server's own words, marked as such.

    No server's words take the room of another's line. They are cut, or left out, where there is none.
    """
    blocks: list[list[str]] = []
    room = MAX_INSTRUCTIONS
    for provider in providers:
        line = _line(provider)
        room -= len(line.encode()) + 1
        if room < 0:
            room += len(line.encode()) + 1
            break
        blocks.append([line])
    room -= len(QUOTED) + 1
    quoted = False
    for block, provider in zip(blocks, providers, strict=False):
        words = _quoted(provider.instructions, room - 1)
        if words:
            block.append(words)
            room -= len(words.encode()) + 1
            quoted = True
    lines = [line for block in blocks for line in block]
    return "\n".join([QUOTED, *lines] if quoted else lines)


def _line(provider: Provider) -> str:
    names = f" (names begin with {provider.prefix})" if provider.prefix else ""
    # Not every hint is the operator's own: with Kubernetes it is that of whoever registers the server.
    hint = provider.hint
    if not hint.isprintable() or not fits(hint, MAX_HINT):
        hint = " ".join(plain(hint, MAX_HINT).split())
    return f"{provider.key}{names}: {hint}" if hint else f"{provider.key}{names}"


def _quoted(words: str, room: int) -> str:
    """Plain text with a mark before each line, in at most ``room`` bytes; empty if there is none or too little room."""
    if not words or room < _LEAST:
        return ""
    marked = "\n".join(f"> {line}".rstrip() for line in words.split("\n"))
    return marked if fits(marked, room) else cut(marked, room)
