"""Which lines of the log are wanted: the levels of gateways, and of the servers behind them.

Owns whose level a server has. Deliberately writes no line (``telemetry.log``). Pure. Invariant: a server is spoken of
as much as the most talkative of the gateways that serve it wants.
"""

from collections.abc import Mapping
from typing import Final

from mcp_gateway.config.spec import GatewaySpec

_TALKATIVE_FIRST: Final = ("debug", "info", "warning", "error")


def of_gateways(spec: GatewaySpec) -> Mapping[str, str]:
    """By name; only those that have one of their own."""
    return {entry.name: entry.log_level for entry in spec.gateways if entry.log_level}


def of_backends(spec: GatewaySpec, process: str) -> Mapping[str, str]:
    """By key; only those that differ from the level of the process."""
    wanted: dict[str, set[str]] = {server.key: set() for server in spec.servers}
    for entry in spec.gateways:
        for key in wanted if entry.servers is None else entry.servers:
            wanted.setdefault(key, set()).add(entry.log_level or process)
    levels = {key: min(names, key=_TALKATIVE_FIRST.index) for key, names in wanted.items() if names}
    return {key: level for key, level in levels.items() if level != process}
