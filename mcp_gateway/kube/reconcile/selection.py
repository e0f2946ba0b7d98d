"""Where each virtual server is offered.

Owns the way virtual server -> extension. Deliberately does not look whether its names exist: the data plane knows.
Invariant: a virtual server without a target is offered at each extension of the instance, one with a target there
alone, and only if it may refer to it.
"""

from collections.abc import Mapping

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import VirtualServer
from mcp_gateway.kube.reconcile.claims import claims
from mcp_gateway.kube.reconcile.conditions import Reason, Verdict, bad, good, unknown
from mcp_gateway.kube.reconcile.grants import is_granted, missing_grant
from mcp_gateway.kube.store import Store


@attrs.frozen(kw_only=True)
class Selection:
    """One virtual server."""

    server: VirtualServer
    accepted: Verdict
    resolved: Verdict
    owner: str
    """The instance that writes its status."""
    offered: tuple[Key, ...] = ()
    """At these extensions of this instance, oldest first."""


def selections(view: Store) -> Mapping[Key, Selection]:
    """Every virtual server, oldest first."""
    return {server.meta.key: _selection(view, server) for server in view.virtual_servers()}


def _selection(view: Store, server: VirtualServer) -> Selection:
    resolved = good(Reason.RESOLVED_REFS, "every reference is resolved")
    if server.extension is not None:
        return _targeted(view, server, server.extension)
    serving = [claim for claim in view.once(claims).values() if claim.serves]
    offered = tuple(claim.key for claim in serving if claim.extension.instance == view.settings.instance)
    owner = serving[0].extension.instance if serving else schema.DEFAULT_INSTANCE
    accepted = good(Reason.ACCEPTED, "offered at every MCPGatewayExtension")
    if not serving:
        accepted = unknown(Reason.PENDING, "no MCPGatewayExtension is accepted yet; create one")
    return Selection(server=server, accepted=accepted, resolved=resolved, owner=owner, offered=offered)


def _targeted(view: Store, server: VirtualServer, target: Key) -> Selection:
    namespace = server.meta.key.namespace
    waits = unknown(Reason.PENDING, "waits for the MCPGatewayExtension: see ResolvedRefs")
    owner = schema.DEFAULT_INSTANCE
    if not is_granted(view, schema.VIRTUAL_SERVER, namespace, schema.EXTENSION, target):
        why = missing_grant(schema.VIRTUAL_SERVER, namespace, schema.EXTENSION, target)
        return Selection(server=server, accepted=waits, resolved=bad(Reason.REF_NOT_PERMITTED, why), owner=owner)
    claim = view.once(claims).get(target)
    if claim is None:
        why = f"MCPGatewayExtension {target} not found; create it or correct spec.targetRef"
        return Selection(server=server, accepted=waits, resolved=bad(Reason.BACKEND_NOT_FOUND, why), owner=owner)
    accepted = good(Reason.ACCEPTED, f"offered at MCPGatewayExtension {target}")
    if not claim.serves:
        accepted = unknown(Reason.PENDING, f"MCPGatewayExtension {target} is not accepted yet; see its conditions")
    instance = claim.extension.instance
    here = claim.serves and instance == view.settings.instance
    return Selection(
        server=server,
        accepted=accepted,
        resolved=good(Reason.RESOLVED_REFS, "every reference is resolved"),
        owner=instance,
        offered=(target,) if here else (),
    )
