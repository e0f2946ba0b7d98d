"""Entries of a configuration that are no servers: virtual servers, gateways, sessions.

Owns how each becomes its spec. Deliberately compares no two of them (``config.rules``).
Invariant: as everywhere in a configuration: a mistake costs its own value only.
"""

from typing import Final

from mcp_gateway.config.addresses import host_pattern
from mcp_gateway.config.schema import Item, Unfit, duration, fields_of, filled_text, list_of, one_of, text
from mcp_gateway.config.secrets import signing_key
from mcp_gateway.config.servers import entry_name
from mcp_gateway.config.spec import GatewayEntry, SessionsSpec, VirtualServerSpec
from mcp_gateway.values import BackendKey, GatewayName

LOG_LEVELS: Final = {"debug": "debug", "info": "info", "warn": "warning", "warning": "warning", "error": "error"}
"""As they are written, and as the log calls them."""


def virtual_server(item: Item) -> tuple[str, VirtualServerSpec]:
    """One entry of ``virtualServers``, with its path."""
    fields = fields_of(item)
    names = list_of(filled_text, unique=True)
    spec = VirtualServerSpec(
        name=fields.need("name", entry_name, ""),
        tools=fields.take("tools", names, ()),
        prompts=fields.take("prompts", names, ()),
        resources=fields.take("resources", names, ()),
    )
    fields.finish()
    return item.path, spec


def gateway(item: Item) -> tuple[str, GatewayEntry]:
    """One entry of ``gateways``, with its path."""
    fields = fields_of(item)
    entry = GatewayEntry(
        name=GatewayName(fields.need("name", entry_name, "")),
        hosts=fields.take("hosts", list_of(host_pattern, unique=True), ()),
        servers=fields.take("servers", list_of(lambda name: BackendKey(entry_name(name)), unique=True), None),
        virtual_servers=fields.take("virtualServers", list_of(entry_name, unique=True), None),
        log_level=fields.take("logLevel", one_of(LOG_LEVELS), ""),
    )
    fields.finish()
    return item.path, entry


def sessions(item: Item) -> SessionsSpec:
    """The member ``sessions``."""
    fields, base = fields_of(item), SessionsSpec()
    spec = SessionsSpec(
        lifetime_s=fields.take("lifetime", duration(), base.lifetime_s),
        idle_s=fields.take("idle", duration(), base.idle_s),
        signing_keys=fields.take("signingKeys", list_of(signing_key), ()),
        store=fields.take("store", _store, base.store),
    )
    fields.finish()
    return spec


def _store(item: Item) -> str:
    value = text(item)
    if value != "memory":
        raise Unfit("must be memory; this version keeps sessions in memory only (redis comes later)")
    return value
