"""What one pod of the data plane says of what it has loaded and connected to.

Owns the ``spec`` of an MCPGatewayReport as a function of the configuration and of what is observed.
Deliberately sends nothing (``reporter`` does). Pure. Invariant: what is said of an entry is said of
the revision that this pod really has; nothing secret is in it, and it is at most ``MAX_BYTES`` long.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import attrs
import orjson

from mcp_gateway.config.compiled import Compiled, Place
from mcp_gateway.config.rules import GATEWAYS, SERVERS, VIRTUAL_SERVERS
from mcp_gateway.config.spec import ServerSpec, VirtualServerSpec
from mcp_gateway.errors import FaultKind
from mcp_gateway.kube.reconcile.conditions import Reason, rfc3339
from mcp_gateway.routing.snapshot import Health, Kind, Snapshot
from mcp_gateway.routing.table import RouteTable
from mcp_gateway.values import BackendKey, JsonObject, JsonValue

MAX_BYTES: Final = 512 * 2**10
MAX_MISSING: Final = 20
MAX_ERROR_BYTES: Final = 256
CONNECTED: Final = "Connected"
LOADED: Final = "Loaded"
DISABLED: Final = "Disabled"

_FAILURES: Final[Mapping[FaultKind, Reason]] = {
    FaultKind.CONNECTION: Reason.CONNECTION_FAILED,
    FaultKind.AUTH: Reason.AUTHENTICATION_FAILED,
    FaultKind.PROTOCOL: Reason.PROTOCOL_ERROR,
}


@attrs.frozen(kw_only=True)
class Observed:
    """What a report is made of, at one moment."""

    compiled: Compiled
    snapshots: Mapping[BackendKey, Snapshot]
    table: RouteTable
    complete: bool
    """Every server has been tried once."""


def report_spec(
    observed: Observed, pod: str, instance: str, started: str, unix_s: Callable[[float], float]
) -> JsonObject:
    """The ``spec``, without ``renewTime``.

    Args:
        started: when this process began, RFC 3339.
        unix_s: turns a time of the process into Unix seconds.
    """
    servers = [*_servers(observed, unix_s), *_refused(observed.compiled, SERVERS)]
    spec: JsonObject = {
        "pod": pod,
        "instance": instance,
        "startTime": started,
        "complete": observed.complete,
        "configRevision": observed.compiled.revision,
        "serverCount": len(servers),
        "connectedCount": sum(one["state"] == CONNECTED for one in servers),
        "servers": [*servers],
        "gateways": [*_gateways(observed.compiled), *_refused(observed.compiled, GATEWAYS)],
        "virtualServers": [*_virtual(observed), *_refused(observed.compiled, VIRTUAL_SERVERS)],
    }
    return _fitted(spec)


def states(spec: JsonObject) -> Mapping[str, str]:
    """The state of each server in a report: what must not wait."""
    servers = spec.get("servers")
    found = servers if isinstance(servers, list) else []
    return {str(one["name"]): str(one["state"]) for one in found if isinstance(one, dict)}


def _servers(observed: Observed, unix_s: Callable[[float], float]) -> Iterable[JsonObject]:
    for server in observed.compiled.spec.servers:
        snapshot = observed.snapshots.get(server.key)
        # A snapshot of another revision is of what this entry was before.
        current = snapshot if snapshot is not None and snapshot.revision == server.revision else None
        yield _server(server, current, unix_s)


def _server(server: ServerSpec, snapshot: Snapshot | None, unix_s: Callable[[float], float]) -> JsonObject:
    said: JsonObject = {"name": server.key, "revision": server.revision}
    if not server.enabled:
        return {**said, "state": DISABLED}
    if snapshot is None:
        return {**said, "state": Reason.CONNECTING.value}
    condition = snapshot.condition
    said |= {"state": _state(snapshot), "since": rfc3339(unix_s(condition.since_at))}
    if snapshot.era is not None:
        said["protocol"] = snapshot.era.version
    for member, kind in (("tools", Kind.TOOLS), ("prompts", Kind.PROMPTS), ("resources", Kind.RESOURCES)):
        if snapshot.listings is not None:
            said[member] = len(snapshot.names(kind))
    if condition.last_failure is not None and condition.health is not Health.READY:
        said["lastError"] = _short(condition.last_failure.message)
    return said


def _state(snapshot: Snapshot) -> str:
    condition = snapshot.condition
    if condition.health is Health.READY:
        return CONNECTED
    if condition.last_failure is None:
        return Reason.CONNECTING.value
    return _FAILURES[condition.last_failure.kind].value


def _gateways(compiled: Compiled) -> Iterable[JsonObject]:
    for gateway in compiled.spec.gateways:
        place = (GATEWAYS, gateway.name)
        if place not in compiled.refused:  # those only keep their hosts
            yield {"name": gateway.name, "revision": compiled.revisions.get(place, ""), "state": LOADED}


def _virtual(observed: Observed) -> Iterable[JsonObject]:
    for virtual in observed.compiled.spec.virtual_servers:
        revision = observed.compiled.revisions.get((VIRTUAL_SERVERS, virtual.name), "")
        said: JsonObject = {"name": virtual.name, "revision": revision, "state": LOADED}
        missing = _missing(virtual, observed.table)
        if missing:
            said |= {"missing": [*missing[:MAX_MISSING]], "missingCount": len(missing)}
        yield said


def _missing(virtual: VirtualServerSpec, table: RouteTable) -> list[str]:
    """Names of a selection that no gateway shows."""
    views = [view for (_, name), view in table.views.items() if name == virtual.name]
    wanted = (
        (virtual.tools, (Kind.TOOLS,)),
        (virtual.prompts, (Kind.PROMPTS,)),
        (virtual.resources, (Kind.RESOURCES, Kind.TEMPLATES)),
    )
    return [
        name
        for names, kinds in wanted
        for name in names
        if not any(view.shows(kind, name) for view in views for kind in kinds)
    ]


def _refused(compiled: Compiled, entries: str) -> Iterable[JsonObject]:
    for place, refused in compiled.refused.items():
        if place[0] == entries:
            reason = Reason.UNSUPPORTED_FEATURE if refused.unsupported else Reason.INVALID_ENTRY
            yield {
                "name": place[1],
                "revision": _revision(compiled, place),
                "state": reason.value,
                "lastError": _short(refused.why),
            }


def _revision(compiled: Compiled, place: Place) -> str:
    return compiled.revisions.get(place, "")


def _short(text: str) -> str:
    cut = text.encode()[:MAX_ERROR_BYTES]
    return "".join(one if one.isprintable() else " " for one in cut.decode(errors="ignore"))


def _fitted(spec: JsonObject) -> JsonObject:
    """Within bounds: what is only for people goes first."""
    for member in ("lastError", "since", "prompts", "resources", "missing"):
        if len(orjson.dumps(spec)) <= MAX_BYTES:
            break
        for entries in ("servers", "virtualServers"):
            found = spec[entries]
            spec[entries] = [_without(one, member) for one in found] if isinstance(found, list) else found
    return spec


def _without(value: JsonValue, member: str) -> JsonValue:
    return {key: one for key, one in value.items() if key != member} if isinstance(value, dict) else value
