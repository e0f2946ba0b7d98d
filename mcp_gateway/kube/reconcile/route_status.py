"""The status of an HTTPRoute that registrations refer to: our entry for each of its parents.

Owns our entries. Deliberately reads others' only to give them back. Invariant: entries of other controllers stay as
they came, ours are there exactly as long as a registration refers to the route.
"""

from collections.abc import Mapping

from mcp_gateway.kube import schema
from mcp_gateway.kube.fields import Fields
from mcp_gateway.kube.gateway_api import HTTPRoute, ParentRef, parent_ref_of
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile import conditions
from mcp_gateway.kube.reconcile.backend import backends
from mcp_gateway.kube.reconcile.conditions import Now, Reason, Verdict, first_failing, good
from mcp_gateway.kube.reconcile.membership import Membership, memberships
from mcp_gateway.kube.reconcile.outcome import NOTHING, Outcome, RouteStatusWrite
from mcp_gateway.kube.store import Store
from mcp_gateway.values import JsonObject


def reconcile(key: Key, view: Store, now: Now) -> Outcome:
    """What one HTTPRoute wants of its status."""
    route = view.route(key)
    if route is None:
        return NOTHING
    wanted = _wanted(view, route)
    before: dict[ParentRef, JsonObject] = {}
    parents: list[JsonObject] = []
    for entry in route.parent_status:
        parent = _ours(view, route, entry)
        if parent is None:
            parents.append(entry)
        elif parent in wanted and parent not in before:
            before[parent] = entry
            parents.append(_entry(view, route, parent, wanted[parent], entry, now))
    parents += [
        _entry(view, route, parent, verdicts, {}, now) for parent, verdicts in wanted.items() if parent not in before
    ]
    if tuple(parents) == route.parent_status:
        return NOTHING
    write = RouteStatusWrite(key=key, resource_version=route.meta.resource_version, parents=tuple(parents))
    return Outcome(route_status=write)


def _ours(view: Store, route: HTTPRoute, entry: JsonObject) -> ParentRef | None:
    """The parent that an entry of ours speaks of; None if it is somebody else's."""
    fields = Fields(entry)
    if fields.text("controllerName") != view.settings.controller_name:
        return None
    return parent_ref_of(fields.at("parentRef"), route.meta.key.namespace)


def _wanted(view: Store, route: HTTPRoute) -> Mapping[ParentRef, Mapping[str, Verdict]]:
    """Our conditions for each parent that leads to an extension of this instance."""
    who = view.referrers(schema.HTTP_ROUTE, route.meta.key, schema.REGISTRATION)
    found = view.once(memberships)
    referring = [found[key] for key in who if key in found and found[key].route is not None]
    if not referring:
        return {}
    # Parents depend on the route alone, so all registrations of it have the same.
    return {
        parent.ref: {
            schema.ACCEPTED: parent.verdict,
            schema.RESOLVED_REFS: _resolved(view, referring),
            schema.PROGRAMMED: good(Reason.IN_USE, "HTTPRoute is referenced by at least one MCPServerRegistration"),
        }
        for parent in referring[0].parents
        if any(claim.extension.instance == view.settings.instance for claim in parent.claims)
    }


def _resolved(view: Store, referring: list[Membership]) -> Verdict:
    verdicts = {}
    for member in referring:
        key = member.registration.meta.key
        backend = view.once(backends).get(key)
        verdicts[str(key)] = member.resolved if backend is None else backend.resolved
    return first_failing(verdicts) or good(Reason.RESOLVED_REFS, "every reference is resolved")


def _entry(
    view: Store,
    route: HTTPRoute,
    parent: ParentRef,
    verdicts: Mapping[str, Verdict],
    before: JsonObject,
    now: Now,
) -> JsonObject:
    ref: JsonObject = {
        "group": parent.group,
        "kind": parent.kind,
        "namespace": parent.key.namespace,
        "name": parent.key.name,
    }
    if parent.section:
        ref["sectionName"] = parent.section
    if parent.port is not None:
        ref["port"] = parent.port
    made = conditions.conditions_after(before, verdicts, route.meta.generation, now)
    return {"parentRef": ref, "controllerName": view.settings.controller_name, "conditions": made}
