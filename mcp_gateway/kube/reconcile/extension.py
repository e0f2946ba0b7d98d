"""One MCPGatewayExtension: its status, and what else has to be done for it.

Owns its conditions. Deliberately decides no conflict: ``claims`` has. Invariant: Ready is True only if it is accepted,
its references are resolved and every live pod has loaded it; neither its Gateway's status nor whether a route to us
could be made has a part in it.
"""

from collections.abc import Mapping
from typing import Final

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import Extension
from mcp_gateway.kube.reconcile import conditions
from mcp_gateway.kube.reconcile.claims import Claim, claims
from mcp_gateway.kube.reconcile.compile import document
from mcp_gateway.kube.reconcile.conditions import Now, Reason, Verdict, bad, good, kept
from mcp_gateway.kube.reconcile.listener_mark import marked, marks
from mcp_gateway.kube.reconcile.membership import members
from mcp_gateway.kube.reconcile.outcome import Outcome, StatusWrite, status_write
from mcp_gateway.kube.reconcile.public_route import leftovers, public_route, route_owners
from mcp_gateway.kube.reconcile.reports import NOT_GIVEN, NOT_REPORTED, Reports, fold_part, no_data_plane
from mcp_gateway.kube.store import Store
from mcp_gateway.values import JsonValue

MAX_HOSTS_SHOWN: Final = 64
_STATUS: Final = schema.GENERATION.status_fields
_READY_REASONS: Final[Mapping[str, Reason]] = {
    Reason.SECRET_NOT_FOUND: Reason.SECRET_NOT_FOUND,
    Reason.SECRET_INVALID: Reason.SECRET_INVALID,
}


def reconcile(key: Key, view: Store, reports: Reports, now: Now) -> Outcome:
    """What one extension wants; of one that is gone, that nothing is left behind."""
    claim, extension = view.once(claims).get(key), view.extension(key)
    if claim is None or extension is None:
        return Outcome(delete=leftovers(view, key), listeners=marks(view, key, now))
    if claim.extension.instance != view.settings.instance:
        return Outcome(listeners=marks(view, key, now))  # of the time when it was ours
    found = public_route(view, claim)
    return Outcome(
        status=_status(view, claim, extension, found.note, reports, now),
        apply=found.apply,
        delete=found.delete,
        listeners=marks(view, key, now),
    )


def orphans(view: Store) -> tuple[Key, ...]:
    """Extensions that are gone and have left something behind: nobody heard of their deletion."""
    alive = {extension.meta.key for extension in view.extensions()}
    named = (*route_owners(view), *marked(view))
    return tuple(dict.fromkeys(key for key in named if key not in alive))


def _status(
    view: Store, claim: Claim, extension: Extension, note: str, reports: Reports, now: Now
) -> StatusWrite | None:
    accepted = claim.accepted
    if note:
        accepted = attrs.evolve(accepted, message=f"{accepted.message}; {note}")
    verdicts = {
        schema.ACCEPTED: accepted,
        schema.RESOLVED_REFS: claim.resolved,
        schema.PROGRAMMED: _programmed(view, extension, reports, now),
    }
    verdicts[schema.READY] = _ready(verdicts)
    fields: dict[str, JsonValue] = {
        _STATUS.hosts: list[JsonValue](claim.hosts[:MAX_HOSTS_SHOWN]) or None,
        _STATUS.registrations: len(view.once(members).get(claim.key, ())),
    }
    return status_write(
        schema.EXTENSION,
        extension.meta,
        extension.status,
        verdicts,
        fields,
        now,
        provisional=claim.serves and claim.resolved.holds and verdicts[schema.PROGRAMMED].status == "Unknown",
    )


def _programmed(view: Store, extension: Extension, reports: Reports, now: Now) -> Verdict:
    key = extension.meta.key
    revision = view.once(document).gateways.get(key)
    if revision is None:
        return NOT_GIVEN
    name, counting = str(key), reports.counting(now.at)
    # A pod has loaded an extension before its first round to all servers is over.
    live = [one.report for one in reports.seen if one.report in counting or name in one.report.gateways]
    if live:
        return fold_part(name, revision, tuple((report.pod, report.gateways) for report in live))
    if reports.are_gone(now.at):
        return no_data_plane(view.settings)
    before = kept(extension.status, schema.PROGRAMMED, extension.meta.generation)
    return before or NOT_REPORTED


def _ready(verdicts: Mapping[str, Verdict]) -> Verdict:
    failing = conditions.first_failing(verdicts)
    if failing is None:
        return good(Reason.VALID_EXTENSION, "successfully verified and configured")
    if failing is verdicts[schema.PROGRAMMED]:
        return bad(Reason.DEPLOYMENT_NOT_READY, f"broker-router deployment is not ready: {failing.message}")
    needs_grant = failing.reason == Reason.REF_NOT_PERMITTED and not verdicts[schema.ACCEPTED].holds
    if needs_grant:
        return bad(Reason.REFERENCE_GRANT_REQUIRED, failing.message)
    return bad(_READY_REASONS.get(failing.reason, Reason.INVALID_EXTENSION), failing.message)
