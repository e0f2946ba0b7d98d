"""Who serves what is beyond the core: a request or a notification that only an extension has.

Owns that rule alone. Deliberately knows no method's meaning. Pure. Invariant: what a
caller cannot see leads nowhere: the owner is found by what is shown to it, else by an
extension that both sides declare, and there only among servers all of whose tools
are shown.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import attrs

from mcp_gateway.protocol import splice
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.routing.listing_views import Target
from mcp_gateway.routing.table import View
from mcp_gateway.sessions.task_ids import TaskRef
from mcp_gateway.values import Params

Owned: TypeAlias = tuple[Target, Edits]
"""The owner, and the edits of ``params`` that give it its own names."""

_FINDERS: Final[Mapping[str, Callable[[View, str], Target | None]]] = MappingProxyType(
    {"name": View.find_named, "uri": View.find_uri}
)


def task_target(task: TaskRef, params: Params, view: View) -> Target | None:
    """Where the task that ``params.taskId`` means is; None: at a server of which nothing is shown here."""
    if task.server not in view.servers:
        return None
    shown = (*view.tools.values(), *view.withheld.values())
    uri_map = next((target.uri_map for target in shown if target.backend == task.server), None)
    token = str(params.get("taskId"))
    return Target(backend=task.server, upstream=task.upstream, federated=token, uri_map=uri_map)


def owner_of(params: Params, view: View, extensions: frozenset[str], task: TaskRef | None = None) -> Owned | None:
    """Who serves a custom request or notification; None: nobody, as far as this caller is concerned.

    The first of ``params.name``, ``params.uri`` and ``params.taskId`` that is something shown here decides; the others
    are put into its owner's words, too, if they are the same server's.

    Args:
        extensions: what the caller declares.
        task: what ``params.taskId`` means.
    """
    found: dict[str, Target] = {}
    for member, find in _FINDERS.items():
        value = params.get(member)
        target = find(view, value) if isinstance(value, str) else None
        if target is not None:
            found[member] = target
    its_task = None if task is None else task_target(task, params, view)
    if its_task is not None:
        found["taskId"] = its_task
    if found:
        owner = next(iter(found.values()))
        edits: Edits = {
            member: splice.quoted(target.upstream)
            for member, target in found.items()
            if target.backend == owner.backend and target.upstream != target.federated
        }
        return attrs.evolve(owner, headers=()), edits  # arguments are mirrored of ``tools/call`` alone
    servers = [key for key in view.unfiltered if view.extensions_of(key) & extensions]
    return (Target(backend=servers[0], upstream="", federated=""), {}) if len(servers) == 1 else None
