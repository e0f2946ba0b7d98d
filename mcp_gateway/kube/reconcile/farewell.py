"""What has to be taken back when an instance goes for good.

Owns nothing but the question: what would be decided of a cluster in which none of our own objects exists? Deliberately
no second list of what we write outside of our own namespace. Invariant: nothing of another instance is touched.
"""

from mcp_gateway.kube import schema
from mcp_gateway.kube.reconcile import extension, public_route, route_status
from mcp_gateway.kube.reconcile.conditions import Now
from mcp_gateway.kube.reconcile.outcome import NOTHING, Outcome
from mcp_gateway.kube.reconcile.reports import Reports
from mcp_gateway.kube.store import Store


def farewell(view: Store, now: Now) -> tuple[Outcome, ...]:
    """Everything of ours on objects of others, and every object of ours beside extensions.

    Args:
        view: knows Gateways, HTTPRoutes and ReferenceGrants, and nothing of our kinds, whatever the cluster has.
    """
    assert not view.extensions()
    wanted = [extension.reconcile(key, view, Reports(), now) for key in extension.orphans(view)]
    wanted += [route_status.reconcile(key, view, now) for key in view.keys(schema.HTTP_ROUTE)]
    wanted.append(Outcome(delete=public_route.sweep(view)))
    return tuple(outcome for outcome in wanted if outcome != NOTHING)
