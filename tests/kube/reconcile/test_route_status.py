"""Our entries in the status of an HTTPRoute."""

import copy
from typing import Any

import pytest

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile import registration as registrations
from mcp_gateway.kube.reconcile import route_status
from mcp_gateway.kube.reconcile.outcome import NOTHING, Outcome
from mcp_gateway.kube.store import Settings
from tests.support.cluster import (
    LATER,
    NOW,
    ROUTE,
    SERVER,
    SERVICE,
    SILENCE,
    Cluster,
    extension,
    gateway,
    grant,
    listener,
    namespace,
    registration,
    route,
    seed,
)

PARENT = {"name": "mcp-gateway", "namespace": "gateway-system"}
THEIRS = {
    "controllerName": "example.com/gw",
    "parentRef": dict(PARENT),
    "conditions": [{"type": "Accepted", "status": "True", "odd": {"x": [1.50]}}],
}


def reconcile(cluster: Cluster, key: Key = ROUTE) -> Outcome:
    return route_status.reconcile(key, cluster.store(), NOW)


def parents(outcome: Outcome) -> list[Any]:
    assert outcome.route_status is not None
    return list(outcome.route_status.parents)


def short(entry: Any) -> dict[str, str]:  # noqa: ANN401 -- JSON
    return {one["type"]: f"{one['status']} {one['reason']}" for one in entry["conditions"]}


def test_a_route_in_use_says_so() -> None:
    (entry,) = parents(reconcile(seed()))
    assert entry["controllerName"] == "mcp.kagenti.com/gateway-controller"
    assert entry["parentRef"] == {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "namespace": "gateway-system",
        "name": "mcp-gateway",
    }
    assert short(entry) == {
        "Accepted": "True Accepted",
        "ResolvedRefs": "True ResolvedRefs",
        "Programmed": "True InUseByMCPServerRegistration",
    }
    assert entry["conditions"][2]["message"] == "HTTPRoute is referenced by at least one MCPServerRegistration"


def test_nothing_is_written_twice() -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    assert route_status.reconcile(ROUTE, cluster.store(), LATER) == NOTHING


def test_entries_of_others_stay_as_they_came_and_where_they_are() -> None:
    others = [copy.deepcopy(THEIRS), {**copy.deepcopy(THEIRS), "controllerName": f"{schema.CONTROLLER_NAME}/b"}]
    cluster = seed().put({**route(), "status": {"parents": copy.deepcopy(others)}})
    cluster.carry_out(reconcile(cluster))
    assert cluster.objects[schema.HTTP_ROUTE, ROUTE]["status"]["parents"][:2] == others
    cluster.drop(schema.REGISTRATION, SERVER)
    assert parents(reconcile(cluster)) == others


def test_ours_goes_with_the_last_registration_of_the_route() -> None:
    second = Key("mcp-test", "second")
    cluster = seed().put(registration(second, prefix="b_"))
    cluster.carry_out(reconcile(cluster))
    cluster.drop(schema.REGISTRATION, SERVER)
    assert reconcile(cluster) == NOTHING
    cluster.drop(schema.REGISTRATION, second)
    assert parents(reconcile(cluster)) == []


def test_a_registration_that_turns_to_another_route_leaves_nothing_behind() -> None:
    other = Key("mcp-test", "other")
    cluster = seed().put(route(other))
    cluster.carry_out(reconcile(cluster))
    cluster.put(registration(target=other))
    assert parents(reconcile(cluster)) == []
    assert len(parents(reconcile(cluster, other))) == 1


def test_each_parent_that_leads_to_an_extension_has_an_entry() -> None:
    refs: list[dict[str, Any]] = [
        {**PARENT, "sectionName": "mcps", "port": 8080},
        {**PARENT, "sectionName": "x"},
        {"name": "plain"},
    ]
    cluster = seed().put(route(parents=refs), gateway(), gateway(key=Key("mcp-test", "plain")))
    found = parents(reconcile(cluster))
    assert [one["parentRef"].get("sectionName") for one in found] == ["mcps", "x"]
    assert found[0]["parentRef"]["port"] == 8080
    assert [short(one)["Accepted"] for one in found] == ["True Accepted", "False NoMatchingParent"]
    cluster.carry_out(reconcile(cluster))
    cluster.put({**route(parents=refs[:1]), "status": cluster.objects[schema.HTTP_ROUTE, ROUTE]["status"]})
    assert [one["parentRef"]["sectionName"] for one in parents(reconcile(cluster))] == ["mcps"]


def test_a_second_entry_of_ours_for_one_parent_goes() -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    status = cluster.objects[schema.HTTP_ROUTE, ROUTE]["status"]
    status["parents"] *= 2
    assert len(parents(reconcile(cluster))) == 1


def test_references_that_are_not_resolved_are_told() -> None:
    cluster = seed().drop(schema.SERVICE, SERVICE)
    assert short(parents(reconcile(cluster))[0])["ResolvedRefs"] == "False BackendNotFound"


def test_a_registration_that_may_not_refer_to_the_route_leaves_no_trace_on_it() -> None:
    away = Key("infra", "route")
    cluster = seed().put(route(away), registration(target=away))
    assert reconcile(cluster, away) == NOTHING
    source = (schema.GROUP, "MCPServerRegistration", "mcp-test")
    cluster.put(grant("infra", source, (schema.GATEWAY_GROUP, "HTTPRoute", "")))
    assert len(parents(reconcile(cluster, away))) == 1


def test_a_registration_without_a_backend_here_reports_its_reference_alone() -> None:
    cluster = seed().put(route(hostnames=["nowhere.io"]))
    assert short(parents(reconcile(cluster))[0])["ResolvedRefs"] == "True ResolvedRefs"


@pytest.mark.parametrize("instance", ["b", "c"])
def test_each_instance_writes_its_own_entries_only(instance: str) -> None:
    cluster = seed().put(extension(instance="b"))
    assert reconcile(cluster) == NOTHING
    cluster.settings = Settings(instance=instance, namespace="mcp-b")
    outcome = reconcile(cluster)
    if instance == "b":
        assert parents(outcome)[0]["controllerName"] == "mcp.kagenti.com/gateway-controller/b"
    else:
        assert outcome == NOTHING


@pytest.mark.parametrize(
    "section, writer",
    [
        pytest.param("mcp", "default", id="the first's"),
        pytest.param("mcps", "b", id="the second's"),
        pytest.param("nothing", "default", id="nobody's, so the oldest extension's instance says so"),
    ],
)
def test_of_two_instances_on_one_gateway_the_one_whose_listener_it_is_writes(section: str, writer: str) -> None:
    """On the route and on its registration."""
    second = Key("team-b", "other")
    allowed = (schema.GROUP, "MCPGatewayExtension", "team-b")
    cluster = seed().put(
        gateway(listener("mcp", port=1), listener("mcps", port=2)),
        extension(section="mcp"),
        namespace("team-b"),
        grant("gateway-system", allowed, name="b"),
        extension(second, born=5, instance="b", section="mcps"),
        route(parents=[{**PARENT, "sectionName": section}]),
    )
    for instance in ("default", "b"):
        cluster.settings = Settings(instance=instance)
        assert (reconcile(cluster) != NOTHING) == (instance == writer)
        outcome = registrations.reconcile(SERVER, cluster.store(), SILENCE, NOW)
        assert (outcome != NOTHING) == (instance == writer)


def test_a_route_that_is_gone_or_that_nobody_refers_to_wants_nothing() -> None:
    cluster = seed().put(route(Key("mcp-test", "free")))
    assert reconcile(cluster, Key("mcp-test", "free")) == NOTHING
    assert reconcile(cluster, Key("mcp-test", "gone")) == NOTHING
