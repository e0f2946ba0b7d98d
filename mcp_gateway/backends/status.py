"""What ``/status`` says of one server.

Owns the shape of the report. Deliberately pure: it reads, and is given the
conversion of times. Invariant: nothing secret, no upstream session id, bounded size.
"""

from collections.abc import Callable
from typing import Final

from mcp_gateway.backends.backend import Backend
from mcp_gateway.config.spec import ServerSpec
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.values import JsonObject, JsonValue

MAX_PROBLEMS: Final = 100


def disabled_status(spec: ServerSpec) -> JsonObject:
    """The report of a server that is configured not to run."""
    return {"name": spec.key, "state": "disabled", "prefix": spec.prefix}


def status_of(backend: Backend, unix_s: Callable[[float], float]) -> JsonObject:
    """The report of one running server.

    Args:
        backend: its current generation.
        unix_s: turns a time of the process into Unix seconds.
    """
    supervisor, snapshot = backend.supervisor, backend.snapshot
    machine = supervisor.machine
    error: JsonValue = None
    if machine.last_error_at is not None:
        error = {"message": machine.last_error, "at_unix_s": unix_s(machine.last_error_at)}
    listings = snapshot.listings or {}
    counts: JsonObject = {kind.name.lower(): len(listings[kind].items) if kind in listings else 0 for kind in Kind}
    limits = backend.spec.limits
    return {
        "name": backend.key,
        "state": machine.health.value,
        "since_unix_s": unix_s(machine.since_at),
        "failures": machine.failures,
        "circuit": "open" if machine.open else "closed",
        "protocol": snapshot.era.version if snapshot.era is not None else None,
        "transport": snapshot.transport or None,
        "server": snapshot.server_name or None,
        "prefix": backend.spec.prefix,
        "counts": counts,
        "for_some_clients": sum(1 for listing in listings.values() for item in listing.items if item.needs),
        "listed": snapshot.listings is not None,
        "problems": _problems(backend),
        "last_error": error,
        "next_try_unix_s": None if supervisor.retry_at is None else unix_s(supervisor.retry_at),
        "restarts": supervisor.restarts,
        "sessions": backend.sessions,
        "links": backend.links,
        "shared_for_lack_of_processes": backend.shared_for_lack,
        "subscriptions": len(backend.subscriptions.uris),
        "in_flight": backend.in_flight,
        "queued": backend.queued,
        "limits": {
            "concurrency": limits.concurrency,
            "upstream_sessions": limits.upstream_sessions,
            "processes": limits.processes,
        },
    }


def _problems(backend: Backend) -> list[JsonValue]:
    return [
        {
            "kind": "server" if problem.kind is None else problem.kind.name.lower(),
            "name": problem.name,
            "reason": problem.reason,
            "hidden": problem.hidden,
        }
        for problem in backend.snapshot.problems[:MAX_PROBLEMS]
    ]
