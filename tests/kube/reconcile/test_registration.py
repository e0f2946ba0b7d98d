"""The status of a registration: what is said, why, and what to do next."""

from collections.abc import Callable
from typing import Any

import pytest

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import SecretRef
from mcp_gateway.kube.reconcile import registration as reconciler
from mcp_gateway.kube.reconcile.compile import document
from mcp_gateway.kube.reconcile.outcome import NOTHING, Outcome
from mcp_gateway.kube.reconcile.reports import Reports
from mcp_gateway.kube.reconcile.secrets import credential
from mcp_gateway.kube.store import Access, Settings
from tests.support.cluster import (
    GONE,
    LATER,
    NOW,
    ROUTE,
    SERVER,
    SERVICE,
    SILENCE,
    Cluster,
    backend,
    extension,
    gateway,
    grant,
    heard,
    listener,
    namespace,
    registration,
    report,
    route,
    rule,
    secret,
    seed,
    server_said,
    service,
)
from tests.support.verdicts import conditions, short

TEAM = Key("team-b", "mcp-extension")


def reconcile(cluster: Cluster, reports: Reports = SILENCE, key: Key = SERVER) -> Outcome:
    return reconciler.reconcile(key, cluster.store(), reports, NOW)


def revision(cluster: Cluster, key: Key = SERVER) -> str:
    return cluster.store().once(document).servers[key]


def connected(cluster: Cluster, *pods: str, **more: object) -> Reports:
    return heard(*(report(pod, servers=[server_said(revision(cluster), **more)]) for pod in pods or ("pod-1",)))  # type: ignore[arg-type]  # a table of the test


def test_the_seed_is_ready_once_a_pod_is_connected_and_shows_its_number_of_tools() -> None:
    cluster = seed()
    outcome = reconcile(cluster, connected(cluster))
    assert short(outcome) == {
        "Accepted": "True Accepted",
        "ResolvedRefs": "True ResolvedRefs",
        "Programmed": "True Programmed",
        "Connected": "True Connected",
        "Ready": "True Ready",
    }
    assert outcome.status is not None
    status: Any = outcome.status.status
    assert {one["observedGeneration"] for one in status["conditions"]} == {1} == {status["observedGeneration"]}
    del status["conditions"]
    assert status == {
        "observedGeneration": 1,
        "discoveredTools": 3,
        "protocolVersion": "2025-06-18",
        "endpoint": "http://mcp-api-key-server.mcp-test.svc.cluster.local:9090/mcp",
        "extensions": [{"namespace": "mcp-test", "name": "mcp-extension", "accepted": True, "tools": 3}],
    }
    assert not outcome.status.provisional


def test_all_five_conditions_are_there_before_anyone_has_reported() -> None:
    outcome = reconcile(seed())
    assert short(outcome) == {
        "Accepted": "True Accepted",
        "ResolvedRefs": "True ResolvedRefs",
        "Programmed": "Unknown Pending",
        "Connected": "Unknown Connecting",
        "Ready": "False NotReady",
    }
    assert outcome.status is not None
    assert outcome.status.provisional


def test_nothing_is_written_when_nothing_has_changed() -> None:
    cluster = seed()
    reports = connected(cluster)
    cluster.carry_out(reconcile(cluster, reports))
    assert reconciler.reconcile(SERVER, cluster.store(), reports, LATER) == NOTHING


def test_transition_times_change_only_with_the_status_of_their_condition() -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster))
    later = reconciler.reconcile(SERVER, cluster.store(), connected(cluster), LATER)
    assert later.status is not None
    found: Any = later.status.status["conditions"]
    times = {one["type"]: one["lastTransitionTime"] for one in found}
    assert times["Accepted"] == "2027-01-15T08:00:00Z"
    assert times["Connected"] == "2027-01-15T08:16:40Z"


def test_a_new_generation_is_written_even_if_nothing_else_is_new() -> None:
    cluster = seed()
    reports = connected(cluster)
    cluster.carry_out(reconcile(cluster, reports))
    cluster.objects[schema.REGISTRATION, SERVER]["metadata"]["generation"] = 2
    outcome = reconcile(cluster, reports)
    assert outcome.status is not None
    assert outcome.status.status["observedGeneration"] == 2


def test_a_spec_that_changes_the_entry_is_not_ready_until_a_pod_has_loaded_it() -> None:
    cluster = seed()
    reports = connected(cluster)
    cluster.carry_out(reconcile(cluster, reports))
    changed = registration(path="/other")
    changed["metadata"]["generation"] = 2
    changed["status"] = cluster.objects[schema.REGISTRATION, SERVER]["status"]
    cluster.put(changed)
    found = conditions(reconcile(cluster, reports))
    assert found["Programmed"][:2] == ("Unknown", "Pending")
    assert found["Ready"] == ("False", "NotReady", "0 of 1 pods have loaded it; wait, the others follow within seconds")
    assert conditions(reconcile(cluster, connected(cluster)))["Ready"][:2] == ("True", "Ready")


# --- what stands in the way ------------------------------------------------------------------------------------------

Change = Callable[[Cluster], object]


def other_gateway(cluster: Cluster) -> None:
    key = Key("gateway-system", "other")
    cluster.put(
        gateway(listener("web", "*.mcp.local"), key=key),
        extension(TEAM, target=key, publicHost="mcp.team-b.example"),
        grant("gateway-system", (schema.GROUP, "MCPGatewayExtension", "team-b"), name="team-b"),
        namespace("team-b"),
    )


ACCEPTED = [
    pytest.param(
        lambda c: c.drop(schema.EXTENSION, Key("mcp-test", "mcp-extension")),
        "False NoMatchingParent",
        "no MCPGatewayExtension targets Gateway gateway-system/mcp-gateway",
        id="no extension",
    ),
    pytest.param(
        lambda c: c.put(route(parents=[{"kind": "Service", "group": "", "name": "mesh"}])),
        "False NoMatchingParent",
        "has no Gateway among its parentRefs",
        id="route of a mesh",
    ),
    pytest.param(
        lambda c: c.drop(schema.REFERENCE_GRANT, Key("gateway-system", "allow")),
        "Unknown Pending",
        "MCPGatewayExtension mcp-test/mcp-extension is not accepted yet: invalid: ReferenceGrant required",
        id="extension without grant",
    ),
    pytest.param(
        lambda c: c.put(extension(section="nothing")),
        "Unknown Pending",
        'listener "nothing" not found on gateway',
        id="extension on no listener",
    ),
    pytest.param(
        lambda c: c.put(route(parents=[{"name": "mcp-gateway", "namespace": "gateway-system", "sectionName": "x"}])),
        "False NoMatchingParent",
        "no HTTP listener here is named by its parentRef Gateway gateway-system/mcp-gateway listener x",
        id="unknown section",
    ),
    pytest.param(
        lambda c: c.put(route(parents=[{"name": "mcp-gateway", "namespace": "gateway-system", "port": 1}])),
        "False NoMatchingParent",
        "mcp (8080), mcps (8080)",
        id="unknown port",
    ),
    pytest.param(
        lambda c: c.put(gateway(listener("mcp", allowedRoutes={}), listener("a")), extension(section="a")),
        "True Accepted",
        "",
        id="another listener on that port allows it",
    ),
    pytest.param(
        lambda c: c.put(route(hostnames=["api.example.com"])),
        "False NoMatchingListenerHostname",
        "none of its hostnames (api.example.com) fits a listener",
        id="hostname",
    ),
    pytest.param(
        lambda c: c.drop(schema.HTTP_ROUTE, ROUTE), "Unknown Pending", "waits for the HTTPRoute", id="no route"
    ),
    pytest.param(
        lambda c: c.put(route(rules=[rule(filters=[{"type": "RequestRedirect"}])])),
        "False UnsupportedValue",
        "filter RequestRedirect is not supported",
        id="redirect",
    ),
    pytest.param(
        lambda c: c.put(registration(forwardHeaders=["Authorization"])),
        "False UnsupportedValue",
        "spec.forwardHeaders: header Authorization is refused",
        id="forwarded credential",
    ),
    pytest.param(
        lambda c: c.put(registration(Key("mcp-test", "older"), born=0), registration(born=1)),
        "False PrefixConflict",
        'conflict: prefix "myserver_" is already used by MCPServerRegistration mcp-test/older',
        id="prefix of an older one",
    ),
    pytest.param(
        lambda c: c.put(registration(Key("mcp-test", "a"))), "False PrefixConflict", "mcp-test/a", id="as old, by name"
    ),
    pytest.param(
        lambda c: c.put(registration(Key("mcp-test", "older"), prefix=""), registration(born=1, prefix="")),
        "True Accepted",
        "",
        id="no prefix is no conflict",
    ),
]


@pytest.mark.parametrize("change, verdict, words", ACCEPTED)
def test_accepted(change: Change, verdict: str, words: str) -> None:
    cluster = seed()
    change(cluster)
    found = conditions(reconcile(cluster))["Accepted"]
    assert f"{found[0]} {found[1]}" == verdict
    assert words in found[2]


RESOLVED = [
    pytest.param(
        lambda c: c.drop(schema.HTTP_ROUTE, ROUTE),
        "False BackendNotFound",
        "HTTPRoute mcp-test/mcp-api-key-server-route not found",
        id="no route",
    ),
    pytest.param(
        lambda c: c.drop(schema.SERVICE, SERVICE),
        "False BackendNotFound",
        "Service mcp-test/mcp-api-key-server not found",
        id="no service",
    ),
    pytest.param(
        lambda c: c.put(registration(target=Key("infra", "route")), route(Key("infra", "route"))),
        "False RefNotPermitted",
        "from: [{group: mcp.kagenti.com, kind: MCPServerRegistration, namespace: mcp-test}] and "
        "to: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: route}]",
        id="route of another namespace",
    ),
    pytest.param(
        lambda c: c.put(registration(credentialRef={"name": "token"})),
        "False SecretNotFound",
        "kubectl label secret token -n mcp-test mcp.kagenti.com/credential=true",
        id="no secret",
    ),
]


@pytest.mark.parametrize("change, verdict, words", RESOLVED)
def test_resolved_refs(change: Change, verdict: str, words: str) -> None:
    cluster = seed()
    change(cluster)
    found = conditions(reconcile(cluster))
    assert f"{found['ResolvedRefs'][0]} {found['ResolvedRefs'][1]}" == verdict
    assert words in found["ResolvedRefs"][2]
    assert found["Ready"] == ("False", "NotReady", found["ResolvedRefs"][2])
    assert found["Programmed"][:2] == ("Unknown", "Pending")


def test_prefix_conflict_is_the_reason_of_ready_too() -> None:
    cluster = seed().put(registration(Key("mcp-test", "older")), registration(born=1))
    found = conditions(reconcile(cluster))
    assert found["Ready"][:2] == ("False", "PrefixConflict")
    assert found["Stalled"][:2] == ("True", "PrefixConflict")


def test_the_winner_of_a_conflict_is_untouched_and_the_loser_takes_over() -> None:
    cluster = seed().put(registration(Key("mcp-test", "older")), registration(born=1))
    assert conditions(reconcile(cluster, key=Key("mcp-test", "older")))["Accepted"][:2] == ("True", "Accepted")
    cluster.drop(schema.REGISTRATION, Key("mcp-test", "older"))
    assert conditions(reconcile(cluster))["Accepted"][:2] == ("True", "Accepted")


def test_a_conflict_at_one_extension_leaves_the_others_serving() -> None:
    cluster = seed()
    other_gateway(cluster)
    both = [{"name": name, "namespace": "gateway-system"} for name in ("mcp-gateway", "other")]
    only = Key("mcp-test", "only")
    cluster.put(
        route(parents=both),
        route(only, parents=both[1:]),
        registration(Key("mcp-test", "older"), target=only),
        registration(born=1),
    )
    outcome = reconcile(cluster)
    found = conditions(outcome)
    assert found["Accepted"][:2] == ("False", "PrefixConflict")
    assert found["Accepted"][2].endswith("; it is served by MCPGatewayExtension mcp-test/mcp-extension")
    assert outcome.status is not None
    assert outcome.status.status["extensions"] == [
        {"namespace": "mcp-test", "name": "mcp-extension", "accepted": True},
        {"namespace": "team-b", "name": "mcp-extension", "accepted": False, "reason": "PrefixConflict"},
    ]
    assert SERVER in cluster.store().once(document).servers


def test_every_parent_with_an_extension_has_to_accept_the_route() -> None:
    cluster = seed()
    other_gateway(cluster)
    parents = [
        {"name": "mcp-gateway", "namespace": "gateway-system"},
        {"name": "other", "namespace": "gateway-system", "sectionName": "none"},
        {"name": "plain", "namespace": "gateway-system"},
    ]
    cluster.put(gateway(key=Key("gateway-system", "plain")), route(parents=parents))
    assert short(reconcile(cluster))["Accepted"] == "False NoMatchingParent"
    assert SERVER in cluster.store().once(document).servers
    cluster.put(route(parents=[parents[0], parents[2]]))
    assert short(reconcile(cluster))["Accepted"] == "True Accepted"


def test_two_parents_that_lead_to_one_extension_are_one_place() -> None:
    ref = {"name": "mcp-gateway", "namespace": "gateway-system"}
    cluster = seed().put(route(parents=[{**ref, "sectionName": "mcp"}, {**ref, "sectionName": "mcps"}]))
    outcome = reconcile(cluster)
    assert outcome.status is not None
    assert outcome.status.status["extensions"] == [{"namespace": "mcp-test", "name": "mcp-extension", "accepted": True}]
    assert short(outcome)["Accepted"] == "False NoMatchingListenerHostname"
    outcome = reconcile(cluster.put(route(parents=[{**ref, "sectionName": "mcps"}, ref])))
    assert short(outcome)["Accepted"] == "True Accepted"
    assert outcome.status is not None
    found: Any = outcome.status.status["extensions"]
    assert len(found) == 1


# --- an implementation's word ----------------------------------------------------------------------------------------


def verdict_of(controller: str, generation: int = 1, status: str = "False", section: str = "") -> dict[str, object]:
    ref = {"name": "mcp-gateway", "namespace": "gateway-system"} | ({"sectionName": section} if section else {})
    condition = {
        "type": "Accepted",
        "status": status,
        "reason": "NotOnMyWatch",
        "message": "no",
        "observedGeneration": generation,
    }
    return {"parentRef": ref, "controllerName": controller, "conditions": [condition]}


@pytest.mark.parametrize(
    "entry, accepted",
    [
        pytest.param(verdict_of("example.com/gw"), "False NotOnMyWatch", id="a refusal"),
        pytest.param(verdict_of("example.com/gw", generation=0), "True Accepted", id="a stale refusal"),
        pytest.param(verdict_of("example.com/gw", status="True"), "True Accepted", id="consent"),
        pytest.param(verdict_of("example.com/gw", status="Unknown"), "True Accepted", id="no word yet"),
        pytest.param(verdict_of("example.com/gw", section="mcp"), "True Accepted", id="of another parentRef"),
        pytest.param(verdict_of(schema.CONTROLLER_NAME), "True Accepted", id="our own"),
        pytest.param(verdict_of(f"{schema.CONTROLLER_NAME}/b"), "True Accepted", id="of another instance"),
    ],
)
def test_an_implementation_may_refuse_the_present_generation(entry: dict[str, object], accepted: str) -> None:
    refused = {**route(), "status": {"parents": [entry]}}
    outcome = reconcile(seed().put(refused))
    assert short(outcome)["Accepted"] == accepted
    if accepted.startswith("False"):
        assert "example.com/gw does not accept HTTPRoute" in conditions(outcome)["Accepted"][2]


def test_a_refusal_without_a_reason_gets_one() -> None:
    entry: Any = verdict_of("example.com/gw")
    del entry["conditions"][0]["reason"]
    outcome = reconcile(seed().put({**route(), "status": {"parents": [entry]}}))
    assert short(outcome)["Accepted"] == "False NotAllowedByListeners"


# --- what the data plane says ----------------------------------------------------------------------------------------


def test_without_a_data_plane_for_long_nothing_is_known() -> None:
    found = conditions(reconcile(seed(), GONE))
    assert found["Programmed"][:2] == ("Unknown", "NoDataPlane")
    assert "kubectl -n mcp-system describe deployment mcp-gateway-broker-router" in found["Ready"][2]


def test_a_data_plane_that_restarts_changes_nothing() -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster, connected(cluster)))
    assert reconcile(cluster, SILENCE) == NOTHING
    young = heard(report(complete=False, servers=[]), first_at=NOW.at - 1)
    assert reconcile(cluster, young) == NOTHING


def test_a_broken_status_is_not_kept() -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster, connected(cluster)))
    status = cluster.objects[schema.REGISTRATION, SERVER]["status"]
    status |= {"discoveredTools": "three", "protocolVersion": 1, "lastError": []}
    assert short(reconcile(cluster, SILENCE))["Ready"] == "False NotReady"
    status["conditions"] = "none"
    assert short(reconcile(cluster, SILENCE))["Programmed"] == "Unknown Pending"


def test_last_error_survives_a_restart_of_the_data_plane() -> None:
    cluster = seed()
    failing = connected(cluster, state="ConnectionFailed", lastError="refused")
    cluster.carry_out(reconcile(cluster, failing))
    assert reconcile(cluster, SILENCE) == NOTHING


@pytest.mark.parametrize(
    "said, programmed, is_connected, words",
    [
        pytest.param(
            [["Connecting"]], "True Programmed", "Unknown Connecting", "0 of 1 pods are connected", id="young"
        ),
        pytest.param(
            [["ConnectionFailed", "refused"]],
            "True Programmed",
            "False ConnectionFailed",
            "pod-0: refused; check that the server runs",
            id="refused",
        ),
        pytest.param(
            [["AuthenticationFailed", ""]],
            "True Programmed",
            "False AuthenticationFailed",
            "pod-0: AuthenticationFailed; check the Secret that credentialRef names",
            id="credential",
        ),
        pytest.param(
            [["ConnectionFailed", "refused"], ["ProtocolError", "404"]],
            "True Programmed",
            "False ProtocolError",
            "check that spec.path",
            id="the more telling one of two",
        ),
        pytest.param(
            [["Connected"], ["Connected"], ["ConnectionFailed", "reset"]],
            "True Programmed",
            "False PartiallyConnected",
            "2 of 3 pods: pod-2: reset",
            id="two of three",
        ),
        pytest.param([["Connected"], None], "Unknown Pending", "Unknown Connecting", "1 of 2 pods", id="one is behind"),
        pytest.param(
            [["UnsupportedFeature", "external"]],
            "False UnsupportedFeature",
            "Unknown Connecting",
            "1 of 1 pods cannot serve it: pod-0: external; upgrade the data plane",
            id="old data plane",
        ),
        pytest.param(
            [["InvalidEntry", ""]],
            "False InvalidEntry",
            "Unknown Connecting",
            "pod-0: it does not say why",
            id="entry that cannot be read",
        ),
    ],
)
def test_what_pods_say_is_folded(said: list[list[str] | None], programmed: str, is_connected: str, words: str) -> None:
    cluster = seed()
    reports = [
        report(
            f"pod-{number}",
            servers=[] if one is None else [server_said(revision(cluster), one[0], lastError="".join(one[1:]))],
        )
        for number, one in enumerate(said)
    ]
    outcome = reconcile(cluster, heard(*reports))
    assert (short(outcome)["Programmed"], short(outcome)["Connected"]) == (programmed, is_connected)
    assert words in conditions(outcome)["Ready"][2]


def test_the_smallest_number_of_tools_is_shown() -> None:
    cluster = seed()
    pods = [report(f"pod-{n}", servers=[server_said(revision(cluster), tools=n)]) for n in (4, 2, 3)]
    outcome = reconcile(cluster, heard(*pods))
    assert outcome.status is not None
    assert outcome.status.status["discoveredTools"] == 2


def test_connected_without_a_list_of_tools_is_not_ready() -> None:
    cluster = seed()
    found = conditions(reconcile(cluster, connected(cluster, tools=None)))
    assert found["Connected"][:2] == ("True", "Connected")
    assert found["Ready"] == ("False", "NotReady", "connected; wait, its tools are being discovered")


def test_a_disabled_server_says_so_and_keeps_its_prefix() -> None:
    cluster = seed().put(registration(state="Disabled"), registration(Key("mcp-test", "young"), born=5))
    found = conditions(reconcile(cluster, connected(cluster, state="Disabled")))
    assert found["Ready"][:2] == found["Connected"][:2] == ("False", "Disabled")
    assert found["Programmed"][:2] == ("True", "Programmed")
    assert short(reconcile(cluster, key=Key("mcp-test", "young")))["Accepted"] == "False PrefixConflict"


def test_a_secret_that_may_not_be_read_any_more_is_used_on_and_spoken_of() -> None:
    cluster = seed().put(secret("token", token=b"Bearer x"), registration(credentialRef={"name": "token"}))
    cluster.access["mcp-test"] = Access.FORBIDDEN
    found = conditions(reconcile(cluster, connected(cluster)))
    assert found["ResolvedRefs"][:2] == ("False", "RefNotPermitted")
    assert (
        "kubectl create rolebinding mcp-gateway-secret-reader -n mcp-test --clusterrole=mcp-gateway-secret-reader "
        "--serviceaccount=mcp-system:mcp-gateway-controller"
    ) in found["Ready"][2]
    assert found["Connected"][:2] == ("True", "Connected")


def test_the_command_that_allows_an_instance_to_read_secrets_names_its_own_role_and_account() -> None:
    """Both instances may be allowed in one namespace, so the bindings have different names too."""
    cluster = seed()
    cluster.settings = Settings(instance="b", namespace="mcp-b")
    cluster.access["mcp-test"] = Access.FORBIDDEN
    found = credential(cluster.store(), "mcp-test", SecretRef(name="token", key="token")).verdict
    assert found is not None
    assert (
        "kubectl create rolebinding mcp-gateway-secret-reader-b -n mcp-test "
        "--clusterrole=mcp-gateway-secret-reader-b --serviceaccount=mcp-b:mcp-gateway-controller"
    ) in found.message


def test_what_does_not_fit_is_refused_by_name() -> None:
    huge = [f"x{number}" * 50 for number in range(50_000)]
    cluster = seed().put(registration(tags=huge, born=1), registration(Key("mcp-test", "small"), prefix="s_"))
    found = conditions(reconcile(cluster))
    assert found["Accepted"][:2] == ("False", "ConfigTooLarge")
    assert short(reconcile(cluster, key=Key("mcp-test", "small")))["Accepted"] == "True Accepted"


# --- whose it is -----------------------------------------------------------------------------------------------------


def test_an_instance_writes_only_where_its_own_extension_is_the_oldest() -> None:
    cluster = seed().put(extension(instance="b"))
    assert reconcile(cluster) == NOTHING
    cluster.settings = Settings(instance="b", namespace="mcp-b")
    assert short(reconcile(cluster))["Accepted"] == "True Accepted"


def test_one_that_is_gone_wants_nothing() -> None:
    assert reconcile(seed(), key=Key("mcp-test", "nobody")) == NOTHING
    deleted = registration()
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert reconcile(seed().put(deleted)) == NOTHING


def test_a_backend_of_another_namespace_needs_a_grant() -> None:
    away = Key("backends", "server")
    cluster = seed().put(service(away), route(rules=[rule(backend("server", namespace="backends"))]))
    assert short(reconcile(cluster))["ResolvedRefs"] == "False RefNotPermitted"
    cluster.put(grant("backends", (schema.GATEWAY_GROUP, "HTTPRoute", "mcp-test"), ("", "Service", "server")))
    assert short(reconcile(cluster))["ResolvedRefs"] == "True ResolvedRefs"
