"""What an instance takes back when it goes for good."""

from typing import Any

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile import extension as extensions
from mcp_gateway.kube.reconcile import route_status
from mcp_gateway.kube.reconcile.farewell import farewell
from mcp_gateway.kube.store import Settings, Store
from tests.support.cluster import (
    EXTENSION,
    GATEWAY,
    LATER,
    NOW,
    ROUTE,
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

THEIRS: Any = {"controllerName": "example.com/gw", "parentRef": {"name": "mcp-gateway"}, "conditions": []}
PUBLIC = Key("mcp-test", "mcp-gateway-route")
KINDS = (schema.GATEWAY, schema.HTTP_ROUTE, schema.REFERENCE_GRANT)


def traces_of_others(cluster: Cluster) -> Store:
    """What somebody sees who looks at no object of ours."""
    made = Store(settings=cluster.settings)
    for kind in KINDS:
        made.replace(kind, cluster.of(kind))
    return made


def served(instance: str = "default") -> Cluster:
    """The seed's cluster, in which a controller has written everything."""
    listeners = {"listeners": [{"name": "mcp", "conditions": []}]}
    cluster = seed().put({**gateway(), "status": listeners}, {**route(), "status": {"parents": [THEIRS]}})
    cluster.put(extension(instance="" if instance == "default" else instance))
    cluster.settings = Settings(instance=instance)
    cluster.carry_out(extensions.reconcile(EXTENSION, cluster.store(), SILENCE, NOW))
    return cluster.carry_out(route_status.reconcile(ROUTE, cluster.store(), NOW))


def test_entries_marks_routes_and_grants_are_taken_back_and_what_others_wrote_stays() -> None:
    cluster = served()
    before = seed().put(grant("mcp-system", name="theirs"))
    cluster.put(grant("mcp-system", name="theirs"))
    for outcome in farewell(traces_of_others(cluster), LATER):
        cluster.carry_out(outcome)
    assert cluster.objects[schema.HTTP_ROUTE, ROUTE]["status"]["parents"] == [THEIRS]
    assert cluster.objects[schema.GATEWAY, GATEWAY]["status"]["listeners"] == [{"name": "mcp", "conditions": []}]
    for kind in (schema.HTTP_ROUTE, schema.REFERENCE_GRANT):
        assert {key for of, key in cluster.objects if of == kind} == {key for of, key in before.objects if of == kind}
    assert not farewell(traces_of_others(cluster), LATER)


def test_it_is_the_same_whether_our_own_objects_are_still_there_or_not() -> None:
    cluster = served()
    found = farewell(traces_of_others(cluster), LATER)
    cluster.drop(schema.EXTENSION, EXTENSION)
    assert farewell(traces_of_others(cluster), LATER) == found
    assert found


def test_nothing_of_another_instance_is_touched() -> None:
    cluster = served("b")
    cluster.settings = Settings()
    assert not farewell(traces_of_others(cluster), LATER)
    cluster.settings = Settings(instance="b")
    assert farewell(traces_of_others(cluster), LATER)


def test_a_mark_is_removed_by_the_instance_that_made_it_and_by_no_other() -> None:
    cluster = served("b")
    cluster.drop(schema.EXTENSION, EXTENSION)
    cluster.settings = Settings()
    assert not extensions.orphans(cluster.drop(schema.HTTP_ROUTE, PUBLIC).store())
    assert not extensions.reconcile(EXTENSION, cluster.store(), SILENCE, LATER).listeners
    cluster.settings = Settings(instance="b")
    assert extensions.orphans(cluster.store()) == (EXTENSION,)
    (mark,) = extensions.reconcile(EXTENSION, cluster.store(), SILENCE, LATER).listeners
    assert not mark.conditions


def test_the_mark_of_an_extension_that_moves_to_another_instance_moves_with_it() -> None:
    cluster = served()
    cluster.put(extension(instance="b"))
    (mark,) = extensions.reconcile(EXTENSION, cluster.store(), SILENCE, LATER).listeners
    assert not mark.conditions
    cluster.settings = Settings(instance="b")
    cluster.carry_out(extensions.reconcile(EXTENSION, cluster.store(), SILENCE, LATER))
    (entry,) = cluster.objects[schema.GATEWAY, GATEWAY]["status"]["listeners"]
    (made,) = entry["conditions"]
    assert made["message"] == "listener in use by MCP Gateway b: mcp-test/mcp-extension"
    cluster.settings = Settings()
    assert not extensions.reconcile(EXTENSION, cluster.store(), SILENCE, LATER).listeners


def test_two_instances_on_one_gateway_write_on_nothing_of_each_other() -> None:
    """Each has its own listener; both look at everything, again and again, until nobody wants anything."""
    other = Key("team-b", "other")
    both = gateway(listener("mcp", "a.io"), listener("mcps", "b.io", port=1))
    cluster = seed().put({**both, "status": {"listeners": [{"name": "mcp", "conditions": []}, {"name": "mcps"}]}})
    cluster.put(extension(section="mcp"), namespace("team-b"), extension(other, instance="b", section="mcps"))
    cluster.put(grant("gateway-system", (schema.GROUP, "MCPGatewayExtension", "team-b"), name="b"), registration())
    for instance in ("default", "b", "default", "b"):
        cluster.settings = Settings(instance=instance, namespace=f"mcp-{instance}")
        wants = [extensions.reconcile(key, cluster.store(), SILENCE, NOW) for key in (EXTENSION, other)]
        for outcome in wants:
            cluster.carry_out(outcome)
    messages = [
        entry["conditions"][0]["message"] for entry in cluster.objects[schema.GATEWAY, GATEWAY]["status"]["listeners"]
    ]
    assert messages == [
        "listener in use by MCP Gateway: mcp-test/mcp-extension",
        "listener in use by MCP Gateway b: team-b/other",
    ]
