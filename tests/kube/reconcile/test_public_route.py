"""The route that leads clients to us, and the grant that it needs."""

from typing import Any

import pytest

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile import extension as reconciler
from mcp_gateway.kube.reconcile.outcome import Outcome
from mcp_gateway.kube.reconcile.public_route import sweep
from mcp_gateway.kube.store import Settings
from tests.support.cluster import (
    EXTENSION,
    GATEWAY,
    NOW,
    SILENCE,
    Cluster,
    extension,
    gateway,
    grant,
    listener,
    route,
    seed,
)
from tests.support.verdicts import conditions

ROUTE = Key("mcp-test", "mcp-gateway-route")
GRANT = Key("mcp-system", "mcp-gateway-route-mcp-test")


def reconcile(cluster: Cluster, key: Key = EXTENSION) -> Outcome:
    return reconciler.reconcile(key, cluster.store(), SILENCE, NOW)


def test_the_seed_gets_a_route_and_the_grant_for_it() -> None:
    """Acceptance case K-52."""
    outcome = reconcile(seed())
    made = {apply.key: apply for apply in outcome.apply}
    assert list(made) == [GRANT, ROUTE], "the grant comes first"
    labels = {
        "app.kubernetes.io/name": "mcp-gateway",
        "app.kubernetes.io/managed-by": "mcp-gateway-controller",
        "mcp.kagenti.com/instance": "default",
    }
    assert made[GRANT].document == {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"namespace": "mcp-system", "name": "mcp-gateway-route-mcp-test", "labels": labels},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "mcp-test"}],
            "to": [{"group": "", "kind": "Service", "name": "mcp-gateway-broker-router"}],
        },
    }
    document: Any = made[ROUTE].document
    assert document["metadata"] == {
        "namespace": "mcp-test",
        "name": "mcp-gateway-route",
        "labels": labels,
        "ownerReferences": [
            {
                "apiVersion": "mcp.kagenti.com/v1alpha1",
                "kind": "MCPGatewayExtension",
                "name": "mcp-extension",
                "uid": "MCPGatewayExtension-mcp-test/mcp-extension",
                "controller": True,
            }
        ],
    }
    spec = document["spec"]
    assert spec["hostnames"] == ["mcp.127-0-0-1.sslip.io"]
    assert [one["matches"] for one in spec["rules"]] == [
        [{"path": {"type": "PathPrefix", "value": "/mcp"}}],
        [{"path": {"type": "PathPrefix", "value": "/.well-known"}}],
    ]
    assert spec["rules"][0]["backendRefs"][0]["name"] == "mcp-gateway-broker-router"
    assert spec["parentRefs"] == [
        {
            "group": "gateway.networking.k8s.io",
            "kind": "Gateway",
            "namespace": "gateway-system",
            "name": "mcp-gateway",
        }
    ]


def test_what_was_made_is_left_alone() -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    assert not reconcile(cluster).apply
    assert not reconcile(cluster).delete


@pytest.mark.parametrize("part", ["hostnames", "rules", "parentRefs"])
def test_a_route_or_grant_that_somebody_changed_is_put_right(part: str) -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    changed = cluster.objects[schema.HTTP_ROUTE, ROUTE]
    changed["spec"][part] = []
    changed["metadata"]["resourceVersion"] = "7"
    cluster.objects[schema.REFERENCE_GRANT, GRANT]["spec"]["from"] = []
    made = {apply.key: apply.resource_version for apply in reconcile(cluster).apply}
    assert made == {GRANT: "", ROUTE: "7"}


def test_labels_that_others_add_to_the_route_are_theirs() -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    labels = cluster.objects[schema.HTTP_ROUTE, ROUTE]["metadata"]["labels"]
    labels["team"] = "a"
    assert not reconcile(cluster).apply
    del labels["mcp.kagenti.com/instance"]
    assert [apply.key for apply in reconcile(cluster).apply] == [ROUTE]


@pytest.mark.parametrize(
    "listeners, spec, hostnames, section",
    [
        pytest.param([listener("a", "a.io")], {}, ["a.io"], None, id="the only host"),
        pytest.param([listener("a", "a.io"), listener("b", "*.b.io")], {}, ["a.io"], None, id="the only exact host"),
        pytest.param(
            [listener("a", "a.io"), listener("b", "b.io")], {"publicHost": "c.io"}, ["c.io"], None, id="given"
        ),
        pytest.param([listener("a", "a.io"), listener("b", "b.io")], {"section": "b"}, ["b.io"], "b", id="by section"),
        pytest.param([listener("b", "*.b.io")], {"section": "b"}, ["mcp.b.io"], "b", id="a wildcard"),
        pytest.param([listener("b")], {"section": "b"}, None, "b", id="every host by section"),
        pytest.param([listener("b")], {}, None, None, id="every host"),
    ],
)
def test_the_host_of_the_route(
    listeners: list[Any], spec: dict[str, Any], hostnames: list[str] | None, section: str | None
) -> None:
    """Acceptance case K-50."""
    cluster = seed().put(gateway(*listeners), extension(**spec))
    document: Any = next(apply.document for apply in reconcile(cluster).apply if apply.key == ROUTE)
    assert document["spec"].get("hostnames") == hostnames
    assert document["spec"]["parentRefs"][0].get("sectionName") == section


@pytest.mark.parametrize(
    "listeners", [[listener("a", "a.io"), listener("b", "b.io")], [listener("a", "*.a.io"), listener("b", "*.b.io")]]
)
def test_where_the_host_cannot_be_told_no_route_is_made_and_that_is_said(listeners: list[Any]) -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    cluster.put(gateway(*listeners))
    outcome = reconcile(cluster)
    assert not outcome.apply
    assert [delete.key for delete in outcome.delete] == [ROUTE]
    status, _, message = conditions(outcome)["Accepted"]
    assert status == "True"
    assert "no HTTPRoute mcp-gateway-route is made; set spec.publicHost or spec.targetRef.sectionName" in message


def test_a_route_of_our_name_that_is_not_ours_is_left_alone_and_spoken_of() -> None:
    cluster = seed().put(route(ROUTE))
    outcome = reconcile(cluster)
    assert not outcome.apply
    assert not outcome.delete
    assert "HTTPRoute mcp-test/mcp-gateway-route is not ours and is left alone" in conditions(outcome)["Accepted"][2]


def test_the_route_of_a_former_extension_of_the_same_name_makes_way() -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    again = extension()
    again["metadata"]["uid"] = "another"
    cluster.put(again)
    outcome = reconcile(cluster)
    assert [delete.key for delete in outcome.delete] == [ROUTE]
    cluster.carry_out(outcome)
    assert [apply.key for apply in reconcile(cluster).apply] == [ROUTE]


def test_when_the_user_manages_the_route_ours_goes() -> None:
    """Acceptance case K-53."""
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    cluster.put(extension(httpRouteManagement="Disabled"))
    outcome = reconcile(cluster)
    assert not outcome.apply
    assert [delete.key for delete in outcome.delete] == [ROUTE]
    cluster.carry_out(outcome)
    assert not reconcile(cluster).delete
    assert [delete.key for delete in sweep(cluster.store())] == [GRANT]


def test_an_extension_that_is_not_accepted_has_no_route() -> None:
    """Acceptance case K-40."""
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    cluster.drop(schema.GATEWAY, GATEWAY)
    assert [delete.key for delete in reconcile(cluster).delete] == [ROUTE]


def test_a_deleted_extension_leaves_nothing_behind() -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    cluster.drop(schema.EXTENSION, EXTENSION)
    assert [delete.key for delete in reconcile(cluster).delete] == [ROUTE]
    assert [delete.key for delete in sweep(cluster.store())] == [GRANT]
    assert not reconcile(cluster, Key("mcp-test", "another")).delete
    assert not reconcile(cluster, Key("elsewhere", "another")).delete
    cluster.settings = Settings(instance="b")
    assert not reconcile(cluster).delete
    assert not sweep(cluster.store())


def test_an_extension_whose_deletion_nobody_heard_of_is_found_by_its_route() -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    theirs = Key("elsewhere", "mcp-gateway-route")
    cluster.put(route(theirs))
    assert not reconciler.orphans(cluster.store())
    cluster.drop(schema.EXTENSION, EXTENSION)
    assert reconciler.orphans(cluster.store()) == (EXTENSION,)


def test_what_an_extension_left_behind_that_nobody_saw_go_is_found() -> None:
    listeners = {"listeners": [{"name": "mcp", "conditions": []}]}
    cluster = seed().put({**gateway(), "status": listeners})
    cluster.carry_out(reconcile(cluster))
    assert not reconciler.orphans(cluster.store())
    cluster.drop(schema.EXTENSION, EXTENSION)
    assert reconciler.orphans(cluster.store()) == (EXTENSION,)
    cluster.carry_out(reconcile(cluster))
    assert not reconciler.orphans(cluster.store())
    assert not reconciler.orphans(cluster.put(route(ROUTE)).store())


def test_only_our_own_grants_are_swept() -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    assert not sweep(cluster.store())
    cluster.put(grant("mcp-system", name="mcp-gateway-route-theirs"), grant("mcp-system", name="theirs"))
    ours = cluster.objects[schema.REFERENCE_GRANT, GRANT]
    cluster.put({**ours, "metadata": {**ours["metadata"], "name": "another"}})
    assert not sweep(cluster.store())


def test_an_extension_beside_the_data_plane_needs_no_grant() -> None:
    own = Key("mcp-system", "gateway")
    key = Key("mcp-system", "e")
    cluster = Cluster().put(gateway(key=own), extension(key, own))
    outcome = reconciler.reconcile(key, cluster.store(), SILENCE, NOW)
    assert [apply.kind for apply in outcome.apply] == [schema.HTTP_ROUTE]
