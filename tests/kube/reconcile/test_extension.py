"""Extensions: what each has a right to, and what is said of it."""

from collections.abc import Callable
from typing import Any

import pytest

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile import extension as reconciler
from mcp_gateway.kube.reconcile.claims import claims
from mcp_gateway.kube.reconcile.compile import document
from mcp_gateway.kube.reconcile.listener_mark import marked
from mcp_gateway.kube.reconcile.outcome import NOTHING, Outcome
from mcp_gateway.kube.reconcile.reports import Reports
from mcp_gateway.kube.store import Access, Settings
from tests.support.authorities import PEM
from tests.support.cluster import (
    EXTENSION,
    GATEWAY,
    GONE,
    LATER,
    NOW,
    SILENCE,
    Cluster,
    extension,
    gateway,
    grant,
    heard,
    listener,
    namespace,
    part_said,
    registration,
    report,
    secret,
    seed,
)
from tests.support.verdicts import conditions, short

OTHER = Key("team-b", "other")
SECOND = Key("gateway-system", "second")


def reconcile(cluster: Cluster, reports: Reports = SILENCE, key: Key = EXTENSION) -> Outcome:
    return reconciler.reconcile(key, cluster.store(), reports, NOW)


def loaded(cluster: Cluster, *pods: str, key: Key = EXTENSION, **more: object) -> Reports:
    revision = cluster.store().once(document).gateways[key]
    return heard(*(report(pod, gateways=[part_said(revision, key, **more)]) for pod in pods or ("pod-1",)))  # type: ignore[arg-type]  # a table of the test


def with_other(cluster: Cluster, target: Key = GATEWAY, born: int = 5, **spec: Any) -> Cluster:  # noqa: ANN401 -- spec of an object
    allowed = (schema.GROUP, "MCPGatewayExtension", "team-b")
    return cluster.put(
        namespace("team-b"), grant("gateway-system", allowed, name="b"), extension(OTHER, target, born, **spec)
    )


def test_the_seed_is_ready_once_a_pod_has_loaded_it() -> None:
    cluster = seed()
    outcome = reconcile(cluster, loaded(cluster))
    assert short(outcome) == {
        "Accepted": "True Accepted",
        "ResolvedRefs": "True ResolvedRefs",
        "Programmed": "True Programmed",
        "Ready": "True ValidMCPGatewayExtension",
    }
    assert conditions(outcome)["Ready"][2] == "successfully verified and configured"
    assert outcome.status is not None
    assert outcome.status.status["hosts"] == ["mcp.127-0-0-1.sslip.io", "*.mcp.local"]
    assert outcome.status.status["registrations"] == 1


def test_the_step_of_the_procedure_before_its_grant_says_which_grant_to_create() -> None:
    cluster = seed().drop(schema.REFERENCE_GRANT, Key("gateway-system", "allow"))
    found = conditions(reconcile(cluster))
    status, reason, message = found["Ready"]
    assert (status, reason) == ("False", "ReferenceGrantRequired")
    assert message == (
        "invalid: ReferenceGrant required in gateway-system to allow cross-namespace reference from mcp-test: create "
        "one (gateway.networking.k8s.io/v1beta1) in namespace gateway-system with from: [{group: mcp.kagenti.com, "
        "kind: MCPGatewayExtension, namespace: mcp-test}] and to: [{group: gateway.networking.k8s.io, kind: Gateway, "
        "name: mcp-gateway}]"
    )
    assert found["ResolvedRefs"] == ("False", "RefNotPermitted", message)
    assert found["Accepted"][:2] == ("Unknown", "Pending")
    assert "Stalled" not in found


def test_nothing_is_written_when_nothing_has_changed() -> None:
    cluster = seed()
    reports = loaded(cluster)
    cluster.carry_out(reconcile(cluster, reports))
    assert reconciler.reconcile(EXTENSION, cluster.store(), reports, LATER) == NOTHING


# --- grants ----------------------------------------------------------------------------------------------------------

GATEWAY_KIND = (schema.GATEWAY_GROUP, "Gateway", "")
SOURCE = (schema.GROUP, "MCPGatewayExtension", "mcp-test")


@pytest.mark.parametrize(
    "change, granted",
    [
        pytest.param(grant("gateway-system"), True, id="any Gateway"),
        pytest.param(grant("gateway-system", target=(*GATEWAY_KIND[:2], "mcp-gateway")), True, id="by name"),
        pytest.param(grant("gateway-system", target=(*GATEWAY_KIND[:2], "other")), False, id="wrong name"),
        pytest.param(grant("gateway-system", target=(schema.GATEWAY_GROUP, "HTTPRoute", "")), False, id="wrong kind"),
        pytest.param(grant("gateway-system", target=("", "Gateway", "")), False, id="wrong group"),
        pytest.param(grant("gateway-system", (*SOURCE[:2], "other")), False, id="wrong namespace"),
        pytest.param(grant("gateway-system", (schema.GROUP, "MCPVirtualServer", "mcp-test")), False, id="from a kind"),
        pytest.param(grant("gateway-system", ("other.io", *SOURCE[1:])), False, id="from another group"),
        pytest.param(grant("mcp-test"), False, id="in the wrong namespace"),
    ],
)
def test_a_grant_counts_only_if_every_field_of_it_fits(change: dict[str, object], granted: bool) -> None:
    cluster = seed().drop(schema.REFERENCE_GRANT, Key("gateway-system", "allow")).put(change)
    assert (short(reconcile(cluster))["Ready"] != "False ReferenceGrantRequired") is granted


def test_any_of_several_sources_and_targets_will_do() -> None:
    several = grant("gateway-system")
    several["spec"]["from"].insert(0, {"group": "a", "kind": "b", "namespace": "c"})
    several["spec"]["to"].insert(0, {"group": "a", "kind": "b"})
    assert short(reconcile(seed().put(several)))["ResolvedRefs"] == "True ResolvedRefs"


def test_no_grant_is_needed_inside_one_namespace() -> None:
    own = Key("mcp-test", "gateway")
    cluster = Cluster().put(namespace("mcp-test"), gateway(key=own), extension(target=own))
    assert short(reconcile(cluster))["Accepted"] == "True Accepted"


def test_without_a_grant_nobody_learns_whether_the_gateway_exists() -> None:
    cluster = seed().drop(schema.REFERENCE_GRANT, Key("gateway-system", "allow"))
    before = conditions(reconcile(cluster))
    assert conditions(reconcile(cluster.drop(schema.GATEWAY, GATEWAY))) == before


# --- scope and conflicts ---------------------------------------------------------------------------------------------

Change = Callable[[Cluster], object]


@pytest.mark.parametrize(
    "change, verdict, words",
    [
        pytest.param(
            lambda c: c.drop(schema.GATEWAY, GATEWAY),
            "False NoMatchingParent",
            "invalid: gateway target gateway-system/mcp-gateway not found",
            id="no gateway",
        ),
        pytest.param(
            lambda c: c.put(extension(section="nothing")),
            "False NoMatchingParent",
            'invalid: listener "nothing" not found on gateway gateway-system/mcp-gateway; it has mcp (HTTP 8080), mcps',
            id="no such listener",
        ),
        pytest.param(
            lambda c: c.put(gateway(listener("tcp", protocol="TCP"))),
            "False NoMatchingParent",
            "an HTTP or HTTPS listener not found on gateway gateway-system/mcp-gateway; it has tcp (TCP 8080)",
            id="no HTTP",
        ),
        pytest.param(
            lambda c: c.put({**gateway(), "spec": {"listeners": []}}),
            "False NoMatchingParent",
            "it has none",
            id="no listeners",
        ),
        pytest.param(
            lambda c: c.put(gateway(listener("mcp", allowedRoutes={"namespaces": {"from": "Same"}}))),
            "False NotAllowedByListeners",
            'listener "mcp" on gateway gateway-system/mcp-gateway does not allow routes from namespace "mcp-test"',
            id="same namespace only",
        ),
        pytest.param(
            lambda c: c.put(gateway(listener("mcp", allowedRoutes={"namespaces": {"from": "None"}}))),
            "False NotAllowedByListeners",
            "",
            id="nobody",
        ),
        pytest.param(
            lambda c: c.put(gateway(listener("mcp", allowedRoutes={"namespaces": {"from": "Selector"}}))),
            "False NotAllowedByListeners",
            "",
            id="a selector that is missing",
        ),
        pytest.param(
            lambda c: c.put(
                namespace("mcp-test", {"team": "a"}),
                gateway(
                    listener(
                        "mcp",
                        allowedRoutes={"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}},
                    )
                ),
            ),
            "True Accepted",
            "serves listeners mcp (8080)",
            id="a selector that fits",
        ),
        pytest.param(
            lambda c: c.put(
                gateway(listener("a"), listener("b", allowedRoutes={})), extension(section="b", publicHost="h.io")
            ),
            "False NotAllowedByListeners",
            'listener "b"',
            id="the named listener must let it in",
        ),
        pytest.param(
            lambda c: c.put(
                gateway(listener("a", port=1), listener("b", port=2), listener("c", port=2)), extension(section="c")
            ),
            "True Accepted",
            "serves listeners b (2), c (2) of Gateway",
            id="all listeners on that port",
        ),
        pytest.param(
            lambda c: c.put(extension(Key("mcp-test", "older"), born=0), extension(born=1)),
            "False Conflicted",
            "conflict: namespace mcp-test already has MCPGatewayExtension older (only one per namespace allowed)",
            id="second of its namespace",
        ),
        pytest.param(
            lambda c: with_other(c, born=0).put(extension(born=1)),
            "False Conflicted",
            "conflict: listener port 8080 on gateway gateway-system/mcp-gateway is already configured by "
            "MCPGatewayExtension team-b/other (listener mcp)",
            id="second of its port",
        ),
        pytest.param(
            lambda c: with_other(c.put(gateway(key=SECOND)), SECOND, 0).put(extension(born=1)),
            "False HostConflict",
            "host mcp.127-0-0-1.sslip.io already belongs to MCPGatewayExtension team-b/other; set spec.publicHost",
            id="hosts of another gateway",
        ),
        pytest.param(
            lambda c: with_other(c.put(gateway(listener("x"), key=SECOND)), SECOND, 0).put(
                gateway(listener("y")), extension(born=1)
            ),
            "False HostConflict",
            "every host that nobody else claims already belongs to MCPGatewayExtension team-b/other",
            id="every host twice",
        ),
        pytest.param(
            lambda c: with_other(c.put(gateway(listener("x", "*.mcp.local"), key=SECOND)), SECOND, 0).put(
                extension(born=1)
            ),
            "True Accepted",
            "conflict: host *.mcp.local already belongs to MCPGatewayExtension team-b/other",
            id="one of two hosts",
        ),
        pytest.param(
            lambda c: with_other(c.put(gateway(key=SECOND)), SECOND, 0, publicHost="b.io").put(extension(born=1)),
            "True Accepted",
            "",
            id="a public host instead of the listeners' own",
        ),
        pytest.param(
            lambda c: with_other(c.put(gateway(key=SECOND)), SECOND, 0, instance="b").put(extension(born=1)),
            "True Accepted",
            "",
            id="hosts of another instance",
        ),
    ],
)
def test_accepted(change: Change, verdict: str, words: str) -> None:
    """Acceptance cases K-40, K-41, K-42, K-51."""
    cluster = seed()
    change(cluster)
    found = conditions(reconcile(cluster))
    assert f"{found['Accepted'][0]} {found['Accepted'][1]}" == verdict
    assert words in found["Accepted"][2]
    if verdict.startswith("False"):
        assert found["Ready"] == ("False", "InvalidMCPGatewayExtension", found["Accepted"][2])
        assert ("Stalled" in found) is (found["Accepted"][1] in ("Conflicted", "HostConflict"))


def test_the_loser_of_a_conflict_takes_over_when_the_winner_goes() -> None:
    cluster = with_other(seed(), born=0).put(extension(born=1))
    assert short(reconcile(cluster, key=OTHER))["Accepted"] == "True Accepted"
    cluster.drop(schema.EXTENSION, OTHER)
    assert short(reconcile(cluster))["Accepted"] == "True Accepted"


def test_a_loser_claims_nothing_of_what_it_wanted_besides() -> None:
    third = Key("team-c", "third")
    cluster = seed().put(gateway(listener("a", "a.io", port=1), listener("b", "b.io", port=2)), extension(section="a"))
    with_other(cluster, born=1).put(
        namespace("team-c"),
        grant("gateway-system", (schema.GROUP, "MCPGatewayExtension", "team-c"), name="c"),
        extension(third, born=2, section="b"),
    )
    assert short(reconcile(cluster, key=OTHER))["Accepted"] == "False Conflicted"
    assert short(reconcile(cluster, key=third))["Accepted"] == "True Accepted"


def test_two_ports_of_one_gateway_belong_to_two_extensions() -> None:
    cluster = seed().put(gateway(listener("a", "a.io", port=1), listener("b", "b.io", port=2)), extension(section="a"))
    with_other(cluster, section="b")
    assert short(reconcile(cluster))["Accepted"] == short(reconcile(cluster, key=OTHER))["Accepted"] == "True Accepted"


def test_extensions_of_one_second_are_ordered_by_name() -> None:
    cluster = with_other(seed(), born=0)
    assert list(cluster.store().once(claims)) == [EXTENSION, OTHER]
    assert short(reconcile(cluster, key=OTHER))["Accepted"] == "False Conflicted"


# --- secrets, data plane, instances ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "objects, ready, words",
    [
        pytest.param([], "False SecretNotFound", "CA certificate secret ca not found", id="missing"),
        pytest.param([secret("ca", labelled=False, ca__crt=PEM)], "False SecretInvalid", "label", id="unlabelled"),
        pytest.param([secret("ca", ca__crt=b"x")], "False SecretInvalid", "put PEM certificates", id="no PEM"),
    ],
)
def test_a_bundle_that_cannot_be_used_is_named_and_the_extension_goes_on_serving(
    objects: list[Any], ready: str, words: str
) -> None:
    cluster = seed().put(extension(caCertBundleRef={"name": "ca"}), *objects)
    found = conditions(reconcile(cluster, loaded(cluster)))
    assert f"{found['Ready'][0]} {found['Ready'][1]}" == ready
    assert words in found["Ready"][2]
    assert EXTENSION in cluster.store().once(document).gateways


def test_a_bundle_that_may_not_be_read_is_no_matter_of_grants() -> None:
    cluster = seed().put(extension(caCertBundleRef={"name": "ca"}))
    cluster.access["mcp-test"] = Access.FORBIDDEN
    assert short(reconcile(cluster))["Ready"] == "False InvalidMCPGatewayExtension"


def test_it_is_not_ready_without_a_data_plane() -> None:
    found = conditions(reconcile(seed(), GONE))
    assert found["Programmed"][:2] == ("Unknown", "NoDataPlane")
    assert found["Ready"][:2] == ("False", "DeploymentNotReady")
    assert found["Ready"][2].startswith("broker-router deployment is not ready: no pod of the gateway reports")


def test_a_restart_of_the_data_plane_changes_nothing() -> None:
    cluster = seed()
    cluster.carry_out(reconcile(cluster, loaded(cluster)))
    assert reconcile(cluster, SILENCE) == NOTHING
    assert reconcile(cluster, heard(report("new", complete=False), first_at=NOW.at)) == NOTHING


def test_a_pod_counts_as_soon_as_it_has_loaded_the_extension() -> None:
    cluster = seed()
    revision = cluster.store().once(document).gateways[EXTENSION]
    young = heard(report("new", complete=False, gateways=[part_said(revision)]), first_at=NOW.at)
    assert short(reconcile(cluster, young))["Ready"] == "True ValidMCPGatewayExtension"


def test_a_new_server_behind_it_does_not_make_it_unready() -> None:
    cluster = seed()
    reports = loaded(cluster)
    cluster.put(registration(Key("mcp-test", "another"), prefix="b_"))
    outcome = reconcile(cluster, reports)
    assert short(outcome)["Ready"] == "True ValidMCPGatewayExtension"
    assert outcome.status is not None
    assert outcome.status.status["registrations"] == 2


def test_a_data_plane_that_is_too_old_is_named() -> None:
    cluster = seed()
    found = conditions(reconcile(cluster, loaded(cluster, state="UnsupportedFeature", lastError="hosts")))
    assert found["Ready"][:2] == ("False", "DeploymentNotReady")
    assert "upgrade the data plane" in found["Ready"][2]


def test_an_extension_of_another_instance_is_not_touched() -> None:
    cluster = seed().put(extension(instance="b"))
    assert reconcile(cluster) == NOTHING
    assert not cluster.store().once(document).gateways
    cluster.settings = Settings(instance="b", namespace="mcp-b")
    assert short(reconcile(cluster))["Accepted"] == "True Accepted"


# --- listeners -------------------------------------------------------------------------------------------------------


def with_listener_status(document_: dict[str, Any], **conditions_: list[Any]) -> dict[str, Any]:
    entries = [{"name": name, "conditions": found} for name, found in conditions_.items()]
    return {**document_, "status": {"listeners": entries}}


def test_listeners_that_have_an_entry_are_marked_and_unmarked_again() -> None:
    theirs = {"type": "Programmed", "status": "True"}
    cluster = seed().put(with_listener_status(gateway(), mcp=[theirs]))
    outcome = reconcile(cluster)
    (mark,) = outcome.listeners
    assert (mark.listener, mark.conditions[0]) == ("mcp", theirs)
    found: Any = mark.conditions[1]
    assert (found["type"], found["status"], found["reason"]) == ("MCPGatewayExtension", "True", "Programmed")
    assert found["message"] == "listener in use by MCP Gateway: mcp-test/mcp-extension"
    assert not marked(cluster.store())
    cluster.carry_out(outcome)
    assert marked(cluster.store()) == (EXTENSION,)
    assert not reconciler.reconcile(EXTENSION, cluster.store(), SILENCE, LATER).listeners
    cluster.drop(schema.EXTENSION, EXTENSION)
    (gone,) = reconcile(cluster).listeners
    assert gone.conditions == (theirs,)
    assert not reconcile(cluster.carry_out(Outcome(listeners=(gone,)))).listeners


def test_a_listener_that_leaves_the_scope_is_unmarked() -> None:
    cluster = seed().put(with_listener_status(gateway(), mcp=[], mcps=[]))
    cluster.carry_out(reconcile(cluster))
    marked = cluster.objects[schema.GATEWAY, GATEWAY]["status"]
    changed = gateway(listener("mcp", "mcp.io"), listener("mcps", "*.mcp.local", port=1))
    cluster.put({**changed, "status": marked}, extension(section="mcp"))
    (mark,) = reconcile(cluster).listeners
    assert (mark.listener, mark.conditions) == ("mcps", ())


def test_a_mark_of_somebody_else_stays() -> None:
    theirs = {"type": "MCPGatewayExtension", "status": "True", "message": "listener in use by MCP Gateway: x/y"}
    cluster = seed().put(with_listener_status(gateway(), mcp=[theirs])).drop(schema.EXTENSION, EXTENSION)
    assert not reconcile(cluster).listeners


def test_strange_listener_status_is_no_obstacle() -> None:
    cluster = seed().put(
        {**gateway(), "status": {"listeners": [{"name": "mcp", "conditions": 1}, {"conditions": [1]}]}}
    )
    (mark,) = reconcile(cluster).listeners
    assert len(mark.conditions) == 1
