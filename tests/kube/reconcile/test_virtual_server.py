"""The status of a virtual server."""

from collections.abc import Callable
from typing import Any

import pytest

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile import compile as compiling
from mcp_gateway.kube.reconcile import virtual_server as reconciler
from mcp_gateway.kube.reconcile.compile import document
from mcp_gateway.kube.reconcile.outcome import NOTHING, Outcome
from mcp_gateway.kube.reconcile.reports import Reports
from mcp_gateway.kube.store import Settings
from tests.support.cluster import (
    EXTENSION,
    GONE,
    LATER,
    NOW,
    SELECTION,
    SILENCE,
    Cluster,
    extension,
    grant,
    heard,
    part_said,
    report,
    seed,
    virtual_server,
)
from tests.support.verdicts import conditions, short

TARGET = {"name": EXTENSION.name, "namespace": EXTENSION.namespace}
AWAY = Key("team-b", "finance")


def reconcile(cluster: Cluster, reports: Reports = SILENCE, key: Key = SELECTION) -> Outcome:
    return reconciler.reconcile(key, cluster.store(), reports, NOW)


def loaded(cluster: Cluster, *missing: list[str]) -> Reports:
    revision = cluster.store().once(document).virtual_servers[SELECTION]
    pods = [
        report(
            f"pod-{number}",
            virtualServers=[part_said(revision, SELECTION, missing=names[:20], missingCount=len(names))],
        )
        for number, names in enumerate(missing or ([],))
    ]
    return heard(*pods)


def test_it_is_ready_once_a_pod_has_loaded_it() -> None:
    cluster = seed().put(virtual_server())
    outcome = reconcile(cluster, loaded(cluster))
    assert short(outcome) == {
        "Accepted": "True Accepted",
        "ResolvedRefs": "True ResolvedRefs",
        "Programmed": "True Programmed",
        "Ready": "True Ready",
    }
    cluster.carry_out(outcome)
    assert reconciler.reconcile(SELECTION, cluster.store(), loaded(cluster), LATER) == NOTHING


@pytest.mark.parametrize(
    "missing, shown, count, words",
    [
        pytest.param([["a"]], ["a"], 1, "no server offers a; register one", id="one"),
        pytest.param([[], ["a", "b"]], ["a", "b"], 2, "no server offers a, b; register one", id="the worst pod"),
        pytest.param(
            [[f"t{n}" for n in range(25)]],
            [f"t{n}" for n in range(20)],
            25,
            "no server offers t0, t1, t2 and 22 more; register one",
            id="many",
        ),
    ],
)
def test_missing_names_are_listed(missing: list[list[str]], shown: list[str], count: int, words: str) -> None:
    cluster = seed().put(virtual_server())
    outcome = reconcile(cluster, loaded(cluster, *missing))
    assert outcome.status is not None
    assert (outcome.status.status["missing"], outcome.status.status["missingCount"]) == (shown, count)
    status, reason, message = conditions(outcome)["Ready"]
    assert (status, reason) == ("False", "NotReady")
    assert message.startswith(words)


def test_a_pod_that_has_another_revision_does_not_count() -> None:
    cluster = seed().put(virtual_server())
    reports = loaded(cluster)
    cluster.put(virtual_server(tools=["other"]))
    outcome = reconcile(cluster, reports)
    assert short(outcome)["Programmed"] == "Unknown Pending"
    assert outcome.status is not None
    assert outcome.status.provisional


def test_a_restart_of_the_data_plane_changes_nothing_and_a_long_absence_does() -> None:
    cluster = seed().put(virtual_server())
    cluster.carry_out(reconcile(cluster, loaded(cluster, ["a"])))
    assert reconcile(cluster, SILENCE) == NOTHING
    cluster.objects[schema.VIRTUAL_SERVER, SELECTION]["status"] |= {"missing": 1, "missingCount": "x"}
    assert short(reconcile(cluster, SILENCE))["Ready"] == "True Ready"
    assert short(reconcile(cluster, GONE))["Programmed"] == "Unknown NoDataPlane"


Change = Callable[[Cluster], object]


@pytest.mark.parametrize(
    "change, accepted, resolved, words",
    [
        pytest.param(lambda c: c, "True Accepted", "True ResolvedRefs", "waits for the first report", id="everywhere"),
        pytest.param(
            lambda c: c.drop(schema.EXTENSION, EXTENSION),
            "Unknown Pending",
            "True ResolvedRefs",
            "no MCPGatewayExtension is accepted yet",
            id="no extension",
        ),
        pytest.param(
            lambda c: c.put(virtual_server(targetRef=TARGET)),
            "True Accepted",
            "True ResolvedRefs",
            "waits for the first report",
            id="at one extension",
        ),
        pytest.param(
            lambda c: c.put(virtual_server(targetRef={"name": "x"})),
            "Unknown Pending",
            "False BackendNotFound",
            "MCPGatewayExtension mcp-test/x not found",
            id="at none",
        ),
        pytest.param(
            lambda c: c.put(virtual_server(targetRef=TARGET), extension(section="nothing")),
            "Unknown Pending",
            "True ResolvedRefs",
            "MCPGatewayExtension mcp-test/mcp-extension is not accepted yet",
            id="at one that is not accepted",
        ),
    ],
)
def test_conditions(change: Change, accepted: str, resolved: str, words: str) -> None:
    cluster = seed().put(virtual_server())
    change(cluster)
    outcome = reconcile(cluster)
    assert (short(outcome)["Accepted"], short(outcome)["ResolvedRefs"]) == (accepted, resolved)
    assert words in conditions(outcome)["Ready"][2]


def test_an_extension_of_another_namespace_has_to_be_granted() -> None:
    cluster = seed().put(virtual_server(AWAY, targetRef=TARGET))
    found = conditions(reconcile(cluster, key=AWAY))
    assert found["ResolvedRefs"][:2] == ("False", "RefNotPermitted")
    assert "kind: MCPVirtualServer, namespace: team-b" in found["Ready"][2]
    cluster.put(
        grant("mcp-test", (schema.GROUP, "MCPVirtualServer", "team-b"), (schema.GROUP, "MCPGatewayExtension", ""))
    )
    assert short(reconcile(cluster, key=AWAY))["ResolvedRefs"] == "True ResolvedRefs"


def test_one_that_does_not_fit_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "MAX_DOCUMENT_BYTES", 1500)
    cluster = seed().put(virtual_server(tools=["x" * 2000]))
    assert short(reconcile(cluster))["Accepted"] == "False ConfigTooLarge"


@pytest.mark.parametrize("spec", [{}, {"targetRef": TARGET}])
def test_the_instance_of_the_extension_writes_its_status(spec: dict[str, Any]) -> None:
    cluster = seed().put(extension(instance="b"), virtual_server(**spec))
    assert reconcile(cluster) == NOTHING
    cluster.settings = Settings(instance="b", namespace="mcp-b")
    assert short(reconcile(cluster))["Accepted"] == "True Accepted"
    assert reconcile(cluster, key=Key("mcp-test", "gone")) == NOTHING
