"""Whether a route belongs to a listener: the rules of the Gateway API, from specs alone.

Owns parentRef, allowedRoutes and hostname matching. Deliberately reads no status: the verdict is the same with any
implementation of the Gateway API, or none. Invariant: what ``allowedRoutes`` does not admit is not attached; it is the
border between tenants.

Gateway API v1: "Attaching to Gateways", AllowedRoutes, HTTPRoute.spec.hostnames.
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.gateway_api import Gateway, HTTPRoute, Listener, ParentRef
from mcp_gateway.kube.reconcile.conditions import Reason, Verdict, bad, good

HTTP_PROTOCOLS: Final = frozenset({"HTTP", "HTTPS"})
_HTTP_ROUTE: Final = (schema.HTTP_ROUTE.group, schema.HTTP_ROUTE.kind)


class Stage(IntEnum):
    """How far a route came; the furthest of several listeners explains best why it is not attached."""

    PARENT = 0
    ALLOWED = 1
    HOSTNAME = 2
    ATTACHED = 3


@attrs.frozen(kw_only=True)
class Attachment:
    """What became of one parentRef at some listeners."""

    stage: Stage
    verdict: Verdict


def attach(
    route: HTTPRoute, parent: ParentRef, gateway: Gateway, listeners: Iterable[Listener], labels: Mapping[str, str]
) -> Attachment:
    """Try one parentRef of a route at listeners of its Gateway.

    Args:
        listeners: those of ``gateway`` that count.
        labels: of the route's namespace.
    """
    who = f"HTTPRoute {route.meta.key}"
    named = [one for one in listeners if _is_named(parent, one)]
    if not named:
        there = ", ".join(f"{one.name} ({one.port})" for one in gateway.listeners) or "none"
        why = (
            f"{who}: no HTTP listener here is named by its parentRef {parent}; Gateway {gateway.meta.key} has {there}; "
            "correct sectionName and port of the parentRef"
        )
        return Attachment(stage=Stage.PARENT, verdict=bad(Reason.NO_MATCHING_PARENT, why))
    names = ", ".join(one.name for one in named)
    taking = [one for one in named if _takes_routes(one)]
    if not taking:
        why = (
            f"{who}: listener {names} of Gateway {gateway.meta.key} does not take an HTTPRoute; ask its owner to add "
            "the kind to allowedRoutes of the listener"
        )
        return Attachment(stage=Stage.ALLOWED, verdict=bad(Reason.NOT_ALLOWED_BY_LISTENERS, why))
    allowed = [one for one in taking if admits(one, route.meta.key.namespace, gateway, labels)]
    if not allowed:
        why = (
            f"{who}: listener {names} of Gateway {gateway.meta.key} does not allow routes from namespace "
            f'"{route.meta.key.namespace}"; ask its owner to change allowedRoutes of the listener'
        )
        return Attachment(stage=Stage.ALLOWED, verdict=bad(Reason.NOT_ALLOWED_BY_LISTENERS, why))
    if not any(_share_a_host(one, route) for one in allowed):
        hosts = ", ".join(one.hostname for one in allowed)
        why = (
            f"{who}: none of its hostnames ({', '.join(route.hostnames)}) fits a listener of Gateway "
            f"{gateway.meta.key} ({hosts}); change the hostnames of the route or of the listener"
        )
        return Attachment(stage=Stage.HOSTNAME, verdict=bad(Reason.NO_MATCHING_LISTENER_HOSTNAME, why))
    return Attachment(stage=Stage.ATTACHED, verdict=good(Reason.ACCEPTED, f"attached to Gateway {gateway.meta.key}"))


def _is_named(parent: ParentRef, listener: Listener) -> bool:
    return parent.section in ("", listener.name) and parent.port in (None, listener.port)


def _takes_routes(listener: Listener) -> bool:
    return not listener.kinds or _HTTP_ROUTE in listener.kinds


def admits(listener: Listener, namespace: str, gateway: Gateway, labels: Mapping[str, str]) -> bool:
    """Whether ``allowedRoutes.namespaces`` lets routes of a namespace in; an unknown word lets nobody in."""
    match listener.namespaces:
        case "All":
            return True
        case "Same":
            return namespace == gateway.meta.key.namespace
        case "Selector":
            return listener.selector is not None and listener.selector.matches(labels)
        case _:
            return False


def _share_a_host(listener: Listener, route: HTTPRoute) -> bool:
    return not route.hostnames or any(hosts_meet(listener.hostname, host) for host in route.hostnames)


def hosts_meet(one: str, other: str) -> bool:
    """Whether some host fits both patterns; an empty one fits every host."""
    if not one or not other or one == other:
        return True
    if one.startswith("*."):
        # "*.example.com" has any number of labels in place of the star; of two wildcards one must contain the other.
        return other.endswith(one[1:]) or (other.startswith("*.") and one.endswith(other[1:]))
    return other.startswith("*.") and one.endswith(other[1:])
