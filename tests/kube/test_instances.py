"""Two instances in one cluster, and instances that leave it: nobody writes on what is another's, and nothing stays.

Who wrote what is read in the audit log of the API server, because both controllers have the same field manager.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.kube.installation import CONTROLLER, DATA_PLANE, ROOT, SYSTEM, Installation, Program
from tests.support.kube.kubectl import condition_of
from tests.support.kube.served import until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(240)]

GROUP: Final = "gateway.networking.k8s.io"
DEDICATED: Final = "mcp-dedicated"
MANIFESTS: Final = ROOT / "manifests"
APPLY: Final = ("apply", "--server-side", "--validate=strict", "--force-conflicts")
AUDIT: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
    ],
}
TEAMS: Final = {"team-a": "default", "team-b": "dedicated"}
OWN: Final = {"default": SYSTEM, "dedicated": DEDICATED}


def gateway() -> dict[str, Any]:
    """One for both teams: each has a listener."""
    listeners = [
        {
            "name": team,
            "hostname": f"{team}.example",
            "port": 8000 + number,
            "protocol": "HTTP",
            "allowedRoutes": {"namespaces": {"from": "All"}},
        }
        for number, team in enumerate(TEAMS)
    ]
    spec = {"gatewayClassName": "any", "listeners": listeners}
    return made(f"{GROUP}/v1", "Gateway", "gateways", "gateway", spec)


def of_team(team: str) -> list[dict[str, Any]]:
    """An extension with its grant, a server with its route, and a registration."""
    reference = {"group": GROUP, "kind": "Gateway", "name": "gateway", "namespace": "gateways", "sectionName": team}
    extension = made("mcp.kagenti.com/v1alpha1", "MCPGatewayExtension", team, "extension", {"targetRef": reference})
    if TEAMS[team] != "default":
        extension["metadata"]["labels"] = {"mcp.kagenti.com/instance": TEAMS[team]}
    grant = {
        "from": [{"group": "mcp.kagenti.com", "kind": "MCPGatewayExtension", "namespace": team}],
        "to": [{"group": GROUP, "kind": "Gateway"}],
    }
    return [
        extension,
        made(f"{GROUP}/v1beta1", "ReferenceGrant", "gateways", team, grant),
        made("v1", "Service", team, "server", {"ports": [{"port": 9090}]}),
        *registered(team, "own", [team]),
    ]


def registered(team: str, called: str, listeners: list[str]) -> list[dict[str, Any]]:
    """A registration, and a route that is attached to these listeners."""
    route = {
        "parentRefs": [{"name": "gateway", "namespace": "gateways", "sectionName": one} for one in listeners],
        "rules": [{"backendRefs": [{"name": "server", "port": 9090}]}],
    }
    target = {"group": GROUP, "kind": "HTTPRoute", "name": called}
    spec = {"prefix": f"{called}_", "targetRef": target}
    return [
        made(f"{GROUP}/v1", "HTTPRoute", team, called, route),
        made("mcp.kagenti.com/v1alpha1", "MCPServerRegistration", team, called, spec),
    ]


def made(version: str, kind: str, namespace: str, called: str, spec: object) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": called, "namespace": namespace}, "spec": spec}


class Cluster(Installation):
    """Both instances, each with a team; the Gateway has an implementation that has written its listeners."""

    controllers: dict[str, Program]

    def __init__(self) -> None:
        super().__init__("--audit-policy-file=audit.json", "--audit-log-path=audit.log")
        (self.home / "audit.json").write_text(json.dumps(AUDIT))

    def apply(self, *objects: object) -> None:
        self.kubectl(*APPLY, "-f", "-", stdin="\n---\n".join(json.dumps(one) for one in objects))

    def begin(self, instance: str) -> None:
        """The programs of an instance, which is installed."""
        namespace, options = OWN[instance], ("--instance", instance)
        self.controllers[instance] = self.controller(*options, pod=f"controller-{instance}", namespace=namespace)
        words = ("serve", "--kubernetes", "--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0", *options)
        pod = f"data-plane-{instance}"
        self.start(DATA_PLANE, *words, "--allow-loopback-backends", pod=pod, namespace=namespace)

    def is_ready(self, team: str, *names: str) -> bool:
        return all(condition_of(self.get("mcpsr", name, "-n", team), "Ready") == "True" for name in names)

    def writes(self, instance: str) -> list[tuple[str, str, str]]:
        """What an instance's programs have changed: verb, ``resource[/subresource]``, ``namespace/name``."""
        found = []
        for line in (self.home / "audit.log").read_text().splitlines():
            event = json.loads(line)
            if event["user"]["username"].startswith(f"system:serviceaccount:{OWN[instance]}:"):
                ref = event["objectRef"]
                what = "/".join(one for one in (ref["resource"], ref.get("subresource", "")) if one)
                found.append((event["verb"], what, f"{ref.get('namespace', '')}/{ref.get('name', '')}"))
        return found

    def cleanup(self, instance: str, *, account: str = "") -> subprocess.Popen[str]:
        """``mcp-gateway controller --cleanup``, as an administrator or as the controller's account."""
        words = ("controller", "--cleanup", f"--instance={instance}", f"--namespace={OWN[instance]}")
        return subprocess.Popen(
            [sys.executable, "-m", "mcp_gateway.cli", *words],
            env={**os.environ, "KUBECONFIG": account or self.api.kubeconfig, "POD_NAME": "cleanup"},
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def cleaned(self, instance: str, *, account: str = "") -> str:
        """What it says when it succeeds."""
        running = self.cleanup(instance, account=account)
        out, err = running.communicate(timeout=60)
        assert running.returncode == 0, err
        return out

    def traces(self, instance: str) -> list[str]:
        """Whatever an instance has left outside of its namespace."""
        own = "mcp.kagenti.com/gateway-controller" + ("" if instance == "default" else f"/{instance}")
        mark = "listener in use by MCP Gateway" + (": " if instance == "default" else f" {instance}: ")
        found = []
        for route in self._items("httproutes"):
            name, parents = route["metadata"]["name"], route.get("status", {}).get("parents", [])
            found += [f"entry in {name}" for one in parents if one["controllerName"] == own]
            if route["metadata"].get("labels", {}).get("mcp.kagenti.com/instance") == instance:
                found.append(f"route {name}")
        for one in self._items("gateways"):
            for listener in one["status"]["listeners"]:
                told = [str(condition.get("message")) for condition in listener["conditions"]]
                found += [message for message in told if message.startswith(mark)]
        for grant in self._items("referencegrants"):
            if grant["metadata"].get("labels", {}).get("mcp.kagenti.com/instance") == instance:
                found.append(f"grant {grant['metadata']['name']}")
        return sorted(found)

    def _items(self, resource: str) -> list[dict[str, Any]]:
        items = self.get(f"{resource}.{GROUP}", "-A")["items"]
        assert isinstance(items, list)
        return items

    def state(self, *, without: str) -> list[str]:
        """Everything with its identity and version, but what belongs to an instance, and what beats."""
        row = "{.kind} {.metadata.namespace} {.metadata.name} {.metadata.uid} {.metadata.resourceVersion}"
        kinds = (
            "crd,namespace,clusterrole,clusterrolebinding,role,rolebinding,serviceaccount,deployment,service,secret,"
            "poddisruptionbudget,referencegrant,httproute,gateway"
        )
        said = self.kubectl("get", kinds, "-A", "-o", f"jsonpath={{range .items[*]}}{row}{{'\\n'}}{{end}}")
        return sorted(line for line in said.splitlines() if without not in line)

    def ending(self) -> list[str]:
        """Namespaces, and objects of ours and of the Gateway API, that are being deleted and still there."""
        kinds = ["namespaces", "crd"]
        kinds += [
            one for one in self.kubectl("api-resources", "-o", "name").split() if "kagenti" in one or GROUP in one
        ]
        path = "{range .items[?(@.metadata.deletionTimestamp)]}{.kind}/{.metadata.name} {end}"
        return self.kubectl("get", ",".join(kinds), "-A", "-o", f"jsonpath={path}").split()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as made_:
        made_.controllers = {}
        made_.api.start_controllers("namespace-controller")
        made_.kubectl(*APPLY, "-k", str(MANIFESTS / "overlays/dedicated"))
        for namespace in ("gateways", *TEAMS):
            made_.kubectl("create", "namespace", namespace)
        made_.apply(gateway())
        written = {"supportedKinds": [], "attachedRoutes": 0, "conditions": []}
        status = {"status": {"listeners": [{"name": team, **written} for team in TEAMS]}}
        made_.kubectl(
            *("patch", "gateway", "gateway", "-n", "gateways", "--subresource=status", "--type=merge"),
            *("-p", json.dumps(status)),
        )
        for team, instance in TEAMS.items():
            made_.apply(*of_team(team))
            made_.server("server", team, 9090)
            made_.begin(instance)
        yield made_


@pytest.fixture(scope="module")
def too_early(cluster: Cluster) -> Iterator[subprocess.Popen[str]]:
    """Somebody cleans up while the controller works; it waits a while for that one to end."""
    with cluster.cleanup("dedicated", account=cluster.account(CONTROLLER, DEDICATED)) as running:
        yield running


def test_each_writes_on_its_own_objects_and_on_nothing_else(cluster: Cluster, too_early: subprocess.Popen[str]) -> None:
    cluster.apply(*registered("team-a", "shared", list(TEAMS)))
    until(lambda: cluster.is_ready("team-a", "own", "shared") and cluster.is_ready("team-b", "own"))
    until(lambda: all(len(cluster.traces(instance)) >= 5 for instance in OWN))
    for team in TEAMS:  # some turbulence
        cluster.apply(*registered(team, "brief", [team]))
    until(lambda: all(cluster.is_ready(team, "brief") for team in TEAMS))
    for team in TEAMS:
        cluster.kubectl("delete", "mcpsr,httproute", "brief", "-n", team)
    for team, instance in TEAMS.items():
        writes = cluster.writes(instance)
        allowed = {team, OWN[instance]}
        elsewhere = {(what, where) for _, what, where in writes if where.partition("/")[0] not in allowed}
        # The listener of each on the Gateway of both; its entry beside the other's in the status of a route of both.
        shared = {("gateways/status", "gateways/gateway"), ("httproutes/status", "team-a/shared")}
        assert elsewhere <= shared, elsewhere
        assert {what for _, what, where in writes if where.startswith(f"{team}/")} >= {
            "mcpserverregistrations/status",
            "mcpgatewayextensions/status",
        }
    entries = [one for one in cluster.traces("default") + cluster.traces("dedicated") if one == "entry in shared"]
    assert len(entries) == 2


def test_a_working_controller_is_not_cleaned_up_after(cluster: Cluster, too_early: subprocess.Popen[str]) -> None:
    _, said = too_early.communicate(timeout=60)
    assert too_early.returncode == 1
    assert "controller-dedicated_" in said
    assert f"kubectl -n {DEDICATED} scale deployment/mcp-gateway-controller --replicas=0" in said
    assert cluster.traces("dedicated")


def test_one_leaves_and_the_other_notices_nothing(cluster: Cluster) -> None:
    cluster.controllers["dedicated"].end()
    said = cluster.cleaned("dedicated", account=cluster.account(CONTROLLER, DEDICATED))
    assert said.startswith("took back ")
    assert not cluster.traces("dedicated")
    before, kept = cluster.state(without="dedicated"), cluster.traces("default")
    assert kept
    cluster.kubectl("delete", "-k", str(MANIFESTS / "overlays/dedicated"), "--timeout=60s")
    assert cluster.state(without="dedicated") == before
    assert cluster.traces("default") == kept
    assert not cluster.ending()
    assert cluster.is_ready("team-a", "own")
    assert cluster.cleaned("dedicated").startswith("there is no trace of instance dedicated")


def test_kinds_first_then_programs(cluster: Cluster) -> None:
    """The controller hears that its objects go, and takes everything back by itself."""
    cluster.kubectl("delete", "-k", str(MANIFESTS / "crds"), "--timeout=60s")
    assert not cluster.ending()
    until(lambda: not cluster.traces("default"))
    cluster.controllers["default"].end()
    said = cluster.cleaned("default", account=cluster.account(CONTROLLER))
    assert said.startswith("there is no trace of instance default")
    cluster.kubectl("delete", "-k", str(MANIFESTS / "base"), "--timeout=60s")
    assert not cluster.ending()


def test_programs_first_then_kinds(cluster: Cluster) -> None:
    cluster.install()
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    cluster.apply(*of_team("team-a"))
    cluster.begin("default")
    until(lambda: cluster.is_ready("team-a", "own"))
    until(lambda: len(cluster.traces("default")) >= 4)
    cluster.controllers["default"].end()
    cluster.kubectl("delete", "-k", str(MANIFESTS / "base"), "--timeout=60s")
    assert not cluster.ending()
    assert cluster.cleaned("default").startswith("took back ")  # although its namespace and its rights are gone
    assert not cluster.traces("default")
    cluster.kubectl("delete", "-k", str(MANIFESTS / "crds"), "--timeout=60s")
    assert not cluster.ending()
