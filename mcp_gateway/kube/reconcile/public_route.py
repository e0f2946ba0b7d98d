"""The way clients come from a Gateway to us: the route ``mcp-gateway-route``, and the grant that it needs.

Owns both, for each extension. Deliberately decides no conflict: ``claims`` has. Invariant: only what is ours is changed
or deleted; a route of our name that somebody else made is left alone and spoken of.
"""

from collections.abc import Mapping
from typing import Final

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.fields import Fields
from mcp_gateway.kube.gateway_api import HTTPRoute, http_route_of
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import Extension
from mcp_gateway.kube.reconcile.claims import Claim, claims
from mcp_gateway.kube.reconcile.outcome import Apply, Delete
from mcp_gateway.kube.store import Store
from mcp_gateway.values import JsonObject

PATHS: Final = ("/mcp", "/.well-known")


@attrs.frozen(kw_only=True)
class PublicRoute:
    """What has to be done for one extension, and what is to be said of it."""

    apply: tuple[Apply, ...] = ()
    delete: tuple[Delete, ...] = ()
    note: str = ""
    """Why there is no route, where there should be one."""


def public_route(view: Store, claim: Claim) -> PublicRoute:
    """The route and the grant of an extension, as far as they are not as they should be."""
    extension, key = claim.extension, Key(claim.key.namespace, schema.ROUTE)
    there = view.route(key)
    ours = there is not None and any(owner.uid == extension.meta.uid for owner in there.meta.owners)
    useless = (Delete.of(schema.HTTP_ROUTE, there.meta),) if there is not None and ours else ()
    if not claim.serves or not extension.manages_route:
        return PublicRoute(delete=useless)
    if there is not None and not ours:
        left = leftovers(view, extension.meta.key)
        if left:
            return PublicRoute(delete=left)  # of an extension of this name that was deleted; the next look makes ours
        return PublicRoute(note=f"HTTPRoute {key} is not ours and is left alone; delete it, or set httpRouteManagement")
    host = _host(claim)
    if host is None:
        why = f"Gateway {extension.gateway} has several host names, so no HTTPRoute {schema.ROUTE} is made"
        return PublicRoute(delete=useless, note=f"{why}; set spec.publicHost or spec.targetRef.sectionName")
    route = _route(view, extension, host)
    apply = [grant] if (grant := _grant(view, key.namespace)) is not None else []
    if not _is_as(there, route):
        version = "" if there is None else there.meta.resource_version
        apply.append(Apply(kind=schema.HTTP_ROUTE, key=key, resource_version=version, document=route))
    return PublicRoute(apply=tuple(apply))


def leftovers(view: Store, extension: Key) -> tuple[Delete, ...]:
    """The route of an extension that is gone; garbage collection does the same, where it runs."""
    there = view.route(Key(extension.namespace, schema.ROUTE))
    kind = (schema.EXTENSION.group, schema.EXTENSION.kind, extension.name)
    if there is None or there.meta.labels.get(schema.LABEL_INSTANCE) != view.settings.instance:
        return ()
    if not any((owner.group, owner.kind, owner.name) == kind for owner in there.meta.owners):
        return ()
    return (Delete.of(schema.HTTP_ROUTE, there.meta),)


def route_owners(view: Store) -> tuple[Key, ...]:
    """The extensions that own a route of ours, whether they still exist or not."""
    routes = (view.route(key) for key in view.keys(schema.HTTP_ROUTE) if key.name == schema.ROUTE)
    return tuple(
        Key(route.meta.key.namespace, owner.name)
        for route in routes
        if route is not None
        for owner in route.meta.owners
        if (owner.group, owner.kind) == (schema.EXTENSION.group, schema.EXTENSION.kind)
    )


def sweep(view: Store) -> tuple[Delete, ...]:
    """Our grants for namespaces that have no extension with a route any more: no owner reference reaches there."""
    needed = {
        claim.key.namespace
        for claim in view.once(claims).values()
        if claim.extension.instance == view.settings.instance and claim.serves and claim.extension.manages_route
    }
    mine = _labels(view).items()
    return tuple(
        Delete.of(schema.REFERENCE_GRANT, grant.meta)
        for grant in view.grants(view.settings.namespace)
        if mine <= grant.meta.labels.items()
        and grant.meta.key.name.startswith(schema.ROUTE_GRANT_PREFIX)
        and grant.meta.key.name.removeprefix(schema.ROUTE_GRANT_PREFIX) not in needed
    )


# --- route -----------------------------------------------------------------------------------------------------------


def _host(claim: Claim) -> str | None:
    """The host of the route; empty for every host, None if it cannot be told."""
    extension = claim.extension
    if extension.public_host:
        return extension.public_host
    if extension.section:
        named = next(one.hostname for one in claim.listeners if one.name == extension.section)
        # Clients need one name to call: "*.example.com" becomes mcp.example.com.
        return f"mcp{named[1:]}" if named.startswith("*.") else named
    exact = {one.hostname for one in claim.listeners if one.hostname and not one.hostname.startswith("*.")}
    if len(exact) == 1:
        return exact.pop()
    return None if any(one.hostname for one in claim.listeners) else ""


def _route(view: Store, extension: Extension, host: str) -> JsonObject:
    kind, backend = schema.HTTP_ROUTE, _backend(view)
    spec: JsonObject = {
        "parentRefs": [_parent(extension)],
        "rules": [
            {"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": [backend]} for path in PATHS
        ],
    }
    if host:
        spec["hostnames"] = [host]
    owner: JsonObject = {
        "apiVersion": schema.EXTENSION.api_version,
        "kind": schema.EXTENSION.kind,
        "name": extension.meta.key.name,
        "uid": extension.meta.uid,
        "controller": True,
    }
    metadata: JsonObject = {
        "namespace": extension.meta.key.namespace,
        "name": schema.ROUTE,
        "labels": dict(_labels(view)),
        "ownerReferences": [owner],
    }
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}


def _parent(extension: Extension) -> JsonObject:
    parent: JsonObject = {
        "group": schema.GATEWAY.group,
        "kind": schema.GATEWAY.kind,
        "namespace": extension.gateway.namespace,
        "name": extension.gateway.name,
    }
    if extension.section:
        parent["sectionName"] = extension.section
    return parent


def _backend(view: Store) -> JsonObject:
    return {
        "group": schema.SERVICE.group,
        "kind": schema.SERVICE.kind,
        "namespace": view.settings.namespace,
        "name": schema.DATA_PLANE,
        "port": schema.DATA_PLANE_PORT,
        "weight": 1,
    }


def _labels(view: Store) -> Mapping[str, str]:
    return {
        schema.LABEL_NAME: "mcp-gateway",
        schema.LABEL_MANAGED_BY: schema.CONTROLLER,
        schema.LABEL_INSTANCE: view.settings.instance,
    }


def _is_as(there: HTTPRoute | None, wanted: JsonObject) -> bool:
    """Whether a route says what is wanted, with all defaults filled in."""
    if there is None:
        return False
    other = http_route_of(Fields(wanted))
    same = (there.parents, there.hostnames, there.rules) == (other.parents, other.hostnames, other.rules)
    return same and other.meta.labels.items() <= there.meta.labels.items()


# --- grant -----------------------------------------------------------------------------------------------------------


def _grant(view: Store, namespace: str) -> Apply | None:
    """What lets routes of a namespace refer to our Service; None if it is there, or not needed."""
    ours = view.settings.namespace
    if namespace == ours:
        return None
    kind, key = schema.REFERENCE_GRANT, Key(ours, f"{schema.ROUTE_GRANT_PREFIX}{namespace}")
    sources = ((schema.HTTP_ROUTE.group, schema.HTTP_ROUTE.kind, namespace),)
    targets = ((schema.SERVICE.group, schema.SERVICE.kind, schema.DATA_PLANE),)
    there = next((grant for grant in view.grants(ours) if grant.meta.key == key), None)
    if there is not None and (there.sources, there.targets) == (sources, targets):
        return None
    document: JsonObject = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"namespace": key.namespace, "name": key.name, "labels": dict(_labels(view))},
        "spec": {
            "from": [{"group": group, "kind": of, "namespace": name} for group, of, name in sources],
            "to": [{"group": group, "kind": of, "name": name} for group, of, name in targets],
        },
    }
    version = "" if there is None else there.meta.resource_version
    return Apply(kind=kind, key=key, resource_version=version, document=document)
