"""What ``/status`` says of one server.

Owns the shape of the report. Deliberately pure: it reads, and is given the
conversion of times. Invariant: nothing secret, no upstream session id, bounded size.
"""

from collections.abc import Callable, Sequence
from typing import Final

from mcp_gateway.backends.backend import Backend
from mcp_gateway.config.spec import ServerSpec
from mcp_gateway.errors import Limit
from mcp_gateway.routing.snapshot import Health, Item, Kind, Problem, Snapshot
from mcp_gateway.values import JsonObject, JsonValue

MAX_PROBLEMS: Final = 100
STARTING: Final = "starting"
"""Instead of ``connecting`` while a process of a server that was never ready is on its way up."""


def disabled_status(spec: ServerSpec) -> JsonObject:
    """The report of a server that is configured not to run."""
    return {"name": spec.key, "state": "disabled", "prefix": spec.prefix}


def status_of(backend: Backend, unix_s: Callable[[float], float], routed: Sequence[Problem] = ()) -> JsonObject:
    """The report of one running server.

    Args:
        backend: its current generation.
        unix_s: turns a time of the process into Unix seconds.
        routed: problems that only the route table knows.
    """
    supervisor, snapshot = backend.supervisor, backend.snapshot
    condition, failure = snapshot.condition, snapshot.condition.last_failure
    error: JsonValue = None if failure is None else {"message": failure.message, "at_unix_s": unix_s(failure.at)}
    listed = {kind: _listed(snapshot, kind) for kind in Kind}
    counts: JsonObject = {kind.name.lower(): len(items) for kind, items in listed.items()}
    limits = backend.spec.limits
    start = supervisor.start
    starting = start is not None and start.running and start.limit is Limit.START
    first_start = starting and snapshot.health is Health.CONNECTING
    return {
        "name": backend.key,
        "state": STARTING if first_start else snapshot.health.value,
        "since_unix_s": unix_s(condition.since_at),
        "failures": condition.failures,
        "circuit": "open" if condition.circuit_open else "closed",
        "protocol": snapshot.era.version if snapshot.era is not None else None,
        "protocols": [*sorted(era.version for era in supervisor.builder.eras)],
        "transport": snapshot.transport or None,
        "server": snapshot.server_name or None,
        "prefix": backend.spec.prefix,
        "counts": counts,
        "for_some_clients": sum(1 for items in listed.values() for item in items.values() if item.required),
        "listed": snapshot.listings is not None,
        "problems": _problems((*backend.snapshot.problems, *routed)),
        "last_error": error,
        "starting_since_unix_s": unix_s(start.began_at) if start is not None and starting else None,
        "stderr": start.said or None if start is not None else None,
        "next_try_unix_s": None if supervisor.attempts.retry_at is None else unix_s(supervisor.attempts.retry_at),
        "restarts": supervisor.restarts,
        "sessions": backend.sessions,
        "links": backend.links,
        "shared_for_lack_of_processes": backend.reach.shared_for_lack,
        "subscriptions": len(backend.subscriptions.uris),
        "in_flight": backend.in_flight,
        "queued": backend.queued,
        "limits": {
            "concurrency": limits.concurrency,
            "upstream_sessions": limits.upstream_sessions,
            "processes": limits.processes,
        },
    }


def _listed(snapshot: Snapshot, kind: Kind) -> dict[str, Item]:
    """By name, what clients of any era are shown."""
    lists = (snapshot.listings or {}).values()
    return {item.name: item for listings in lists if kind in listings for item in listings[kind].items}


def _problems(problems: Sequence[Problem]) -> list[JsonValue]:
    return [
        {
            "kind": "server" if problem.kind is None else problem.kind.name.lower(),
            "name": problem.name,
            "reason": problem.reason,
            "hidden": problem.hidden,
        }
        for problem in list(dict.fromkeys(problems))[:MAX_PROBLEMS]
    ]
