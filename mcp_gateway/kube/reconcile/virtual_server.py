"""One MCPVirtualServer: its status.

Owns its conditions and the names that are missing. Deliberately decides no offer: ``selection`` has.
Invariant: Ready is True only if every live pod has loaded it and every name in it is served.
"""

from collections.abc import Mapping
from typing import Final

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import VirtualServer
from mcp_gateway.kube.reconcile import conditions
from mcp_gateway.kube.reconcile.compile import document
from mcp_gateway.kube.reconcile.conditions import Now, Reason, Verdict, bad, good, kept
from mcp_gateway.kube.reconcile.outcome import NOTHING, Outcome, status_write
from mcp_gateway.kube.reconcile.reports import NOT_GIVEN, NOT_REPORTED, Reports, fold_part, no_data_plane
from mcp_gateway.kube.reconcile.selection import Selection, selections
from mcp_gateway.kube.store import Store
from mcp_gateway.values import JsonValue

MAX_MISSING: Final = 20
MAX_NAMED: Final = 3
_STATUS: Final = schema.GENERATION.status_fields


def reconcile(key: Key, view: Store, reports: Reports, now: Now) -> Outcome:
    """What one virtual server wants: its status, if it is ours to write and not as it should be."""
    selection, server = view.once(selections).get(key), view.virtual_server(key)
    if selection is None or server is None or selection.owner != view.settings.instance:
        return NOTHING
    programmed, missing, count = _loaded(view, server, reports, now)
    verdicts = {
        schema.ACCEPTED: _accepted(view, selection),
        schema.RESOLVED_REFS: selection.resolved,
        schema.PROGRAMMED: programmed,
    }
    verdicts[schema.READY] = _ready(verdicts, missing, count)
    fields: dict[str, JsonValue] = {
        _STATUS.missing: list[JsonValue](missing) or None,
        _STATUS.missing_count: count,
    }
    write = status_write(
        schema.VIRTUAL_SERVER,
        server.meta,
        server.status,
        verdicts,
        fields,
        now,
        provisional=bool(selection.offered) and programmed.status == "Unknown",
    )
    return Outcome(status=write)


def _accepted(view: Store, selection: Selection) -> Verdict:
    if (schema.VIRTUAL_SERVER, selection.server.meta.key) in view.once(document).refused:
        why = "the configuration of the gateway is full, and older objects come first; delete some"
        return bad(Reason.CONFIG_TOO_LARGE, why)
    return selection.accepted


def _loaded(
    view: Store, server: VirtualServer, reports: Reports, now: Now
) -> tuple[Verdict, tuple[str, ...], int | None]:
    """Whether it is loaded, and what is missing: the most that a pod misses."""
    name, revision = str(server.meta.key), view.once(document).virtual_servers.get(server.meta.key)
    if revision is None:
        return NOT_GIVEN, (), None
    counting = reports.counting(now.at)
    if counting:
        verdict = fold_part(name, revision, tuple((report.pod, report.virtual_servers) for report in counting))
        known = [report.virtual_servers[name] for report in counting if name in report.virtual_servers]
        worst = max((one for one in known if one.revision == revision), key=lambda one: one.missing_count, default=None)
        if worst is None:
            return verdict, (), None
        return verdict, worst.missing[:MAX_MISSING], worst.missing_count
    if reports.are_gone(now.at):
        return no_data_plane(view.settings), (), None
    before = kept(server.status, schema.PROGRAMMED, server.meta.generation)
    if before is None:
        return NOT_REPORTED, (), None
    missing, count = server.status.get(_STATUS.missing), server.status.get(_STATUS.missing_count)
    names = tuple(str(one) for one in missing) if isinstance(missing, list) else ()
    return before, names, count if isinstance(count, int) else None


def _ready(verdicts: Mapping[str, Verdict], missing: tuple[str, ...], count: int | None) -> Verdict:
    failing = conditions.first_failing(verdicts)
    if failing is not None:
        return bad(Reason.NOT_READY, failing.message)
    if count:
        more = f" and {count - MAX_NAMED} more" if count > MAX_NAMED else ""
        why = f"no server offers {', '.join(missing[:MAX_NAMED])}{more}; register one, or correct spec"
        return bad(Reason.NOT_READY, why)
    return good(Reason.READY, "everything that it names is served")
