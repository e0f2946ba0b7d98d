"""The rules between the entries of a configuration, whatever source they come from.

Owns what two entries may not have in common, and what one may say of another. Deliberately
knows no file and no line: a violation names its entry by list and place, and the reader of
a source says where that stands. Pure. Invariant: taking out every entry that is named
leaves a configuration without violations.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from mcp_gateway.config.spec import GatewaySpec, ServerSpec

SERVERS: Final = "servers"
VIRTUAL_SERVERS: Final = "virtualServers"
GATEWAYS: Final = "gateways"


@attrs.frozen(kw_only=True)
class Violation:
    """One entry breaks a rule."""

    entries: str
    """Which list it stands in."""
    place: int
    """Where in it, from 0."""
    key: str
    """The member that is wrong."""
    what: str
    taken_by: int | None = None
    """The place of the entry in the same list that has the name already."""


def violations(spec: GatewaySpec) -> Iterator[Violation]:
    """Every entry that breaks a rule; of several that clash the first is right."""
    yield from _taken_names(SERVERS, "server", [server.key for server in spec.servers])
    yield from _taken_names(VIRTUAL_SERVERS, "virtual server", [virtual.name for virtual in spec.virtual_servers])
    yield from _taken_names(GATEWAYS, "gateway", [gateway.name for gateway in spec.gateways])
    yield from _dead_references(spec)
    yield from _taken_prefixes(spec)


def _taken_names(entries: str, what: str, names: Sequence[str]) -> Iterator[Violation]:
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        if not name:  # one that was missing or unfit is reported already
            continue
        taken = first.setdefault(name, place)
        if taken != place:
            told = f"the {what} name {name} is already taken"
            yield Violation(entries=entries, place=place, key="name", what=told, taken_by=taken)


def _dead_references(spec: GatewaySpec) -> Iterator[Violation]:
    servers = {server.key for server in spec.servers}
    virtual = {one.name for one in spec.virtual_servers}
    for place, gateway in enumerate(spec.gateways):
        for key in gateway.servers or ():
            if key not in servers:
                told = f"there is no server named {key}"
                yield Violation(entries=GATEWAYS, place=place, key="servers", what=told)
        for name in gateway.virtual_servers or ():
            if name not in virtual:
                told = f"there is no virtual server named {name}"
                yield Violation(entries=GATEWAYS, place=place, key="virtualServers", what=told)


def _taken_prefixes(spec: GatewaySpec) -> Iterator[Violation]:
    """ "Two equal non-empty prefixes in one gateway are an error." -- docs/configuration.md"""
    for gateway in spec.gateways:
        owners: dict[str, ServerSpec] = {}
        for place, server in enumerate(spec.servers):
            elsewhere = gateway.servers is not None and server.key not in gateway.servers
            if not server.prefix or not server.key or elsewhere:
                continue
            owner = owners.setdefault(server.prefix, server)
            if owner.key != server.key:
                inside = f" in gateway {gateway.name}" if gateway.name else ""
                told = f"prefix {server.prefix} is already the one of server {owner.key}{inside}"
                yield Violation(entries=SERVERS, place=place, key="prefix", what=told)


def impossible_selections(spec: GatewaySpec) -> Iterator[Violation]:
    """A tool or prompt that begins with no server's prefix, where no other server will ever come: a slip of the pen.

    No rule for a source whose servers come and go: a selection outlives them, and its other names go on being served.
    """
    prefixes = tuple(server.prefix for server in spec.servers)
    for place, virtual in enumerate(spec.virtual_servers):
        for key, names in (("tools", virtual.tools), ("prompts", virtual.prompts)):
            for name in names:
                if not name.startswith(prefixes):
                    told = f"no server has a prefix that {name} begins with"
                    yield Violation(entries=VIRTUAL_SERVERS, place=place, key=key, what=told)
