"""Our manifests on a real API server: admitted as they are, with no more rights than they need, once or twice."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from mcp_gateway.values import JsonObject
from tests.support.kube.installation import CONTROLLER, DATA_PLANE, SYSTEM, Installation
from tests.support.kube.kustomize import MANIFESTS, build, combined, folders, name

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(180)]

STRICT: Final = ("apply", "--server-side", "--validate=strict", "--force-conflicts")
DEDICATED: Final = "mcp-dedicated"
NAMESPACES: Final = {".": SYSTEM, "overlays/dedicated": DEDICATED}
READER: Final = "mcp-gateway-secret-reader"
PATIENCE_S: Final = 60.0

Right = tuple[str, str, str]
"""A verb; a resource as ``group/resource[/subresource][:name]``, the group empty for core; a namespace or nothing."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Installation]:
    """With the controllers of Kubernetes that fill the roles for people and that empty namespaces."""
    with Installation() as made:
        made.api.start_controllers("clusterrole-aggregation-controller", "namespace-controller")
        made.kubectl(*STRICT, "-f", "-", stdin=json.dumps(SERVICE_MONITORS))
        made.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        for namespace in ("team-a", "team-b"):
            made.kubectl("create", "namespace", namespace)
        yield made


# --- everything is admitted ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [".", *folders("overlays"), *folders("samples")])
def test_everything_is_admitted_by_the_api_server(cluster: Installation, folder: str) -> None:
    cluster.kubectl(*STRICT, "-k", str(MANIFESTS / folder))


@pytest.mark.parametrize(
    "installation, without",
    [
        pytest.param(".", (), id="the first instance"),
        pytest.param("overlays/dedicated", ("components/nodeport",), id="another, whose node port would be taken"),
    ],
)
def test_all_components_are_admitted_on_top_of_an_installation(
    cluster: Installation, installation: str, without: tuple[str, ...], tmp_path: Path
) -> None:
    components = [one for one in folders("components") if one not in without]
    cluster.kubectl(*STRICT, "-k", str(combined(tmp_path, installation, *components)))
    policies = cluster.kubectl("get", "networkpolicy", "-n", NAMESPACES[installation], "-o", "name").split()
    assert len(policies) == 2


@pytest.mark.parametrize("component", folders("components"))
def test_each_component_is_admitted_by_itself(cluster: Installation, component: str, tmp_path: Path) -> None:
    cluster.kubectl(*STRICT, "--dry-run=server", "-k", str(combined(tmp_path, ".", component)))


@pytest.mark.parametrize("folder", [".", "overlays/dedicated", "samples/seed"])
def test_pods_are_admitted_where_the_restricted_standard_is_enforced_and_not_without_their_context(
    cluster: Installation, folder: str
) -> None:
    pods = [_pod(one) for one in build(folder) if one["kind"] == "Deployment"]
    create = ("create", "--dry-run=server", "-n", SYSTEM, "-f", "-")
    assert len(cluster.kubectl(*create, stdin=_listed(pods)).splitlines()) == len(pods)
    bare = [_without_context(pod, where) for pod in pods for where in ("pod", "container")]
    said = cluster.said(*create, stdin=_listed(bare))
    assert not said.stdout
    assert said.stderr.count('violates PodSecurity "restricted') == len(bare)


def test_applying_again_keeps_what_the_controller_wrote(cluster: Installation) -> None:
    filled = {"data": {"key": "AAAA"}}
    secret = ("secret", "mcp-gateway-session-signing-key", "-n", SYSTEM)
    cluster.kubectl("patch", *secret, "-p", json.dumps(filled))
    cluster.kubectl(*STRICT, "-k", str(MANIFESTS))
    assert cluster.get(*secret)["data"] == filled["data"]
    cluster.kubectl("apply", "-k", str(MANIFESTS))
    assert cluster.get(*secret)["data"] == filled["data"]
    cluster.kubectl("patch", *secret, "-p", '{"data": null}')


# --- what the programs may do ----------------------------------------------------------------------------------------

MCP: Final = "mcp.kagenti.com/"
ROUTES: Final = "gateway.networking.k8s.io/httproutes"
GRANTS: Final = "gateway.networking.k8s.io/referencegrants"

CONTROLLER_MAY: Final[Sequence[Right]] = (
    ("watch", MCP + "mcpserverregistrations", ""),
    ("patch", MCP + "mcpserverregistrations/status", "team-a"),
    ("patch", MCP + "mcpgatewayextensions/status", "team-a"),
    ("list", ROUTES, ""),
    ("create", ROUTES, "team-a"),
    ("patch", ROUTES + "/status", "team-a"),
    ("patch", "gateway.networking.k8s.io/gateways/status", "team-a"),
    ("list", "/services", ""),
    ("list", "/secrets", "team-a"),
    ("create", "events.k8s.io/events", "team-a"),
    ("create", "/secrets", SYSTEM),
    ("update", "/secrets:mcp-gateway-config", SYSTEM),
    ("update", "coordination.k8s.io/leases:mcp-gateway-controller", SYSTEM),
    ("patch", GRANTS, SYSTEM),
    ("delete", MCP + "mcpgatewayreports", SYSTEM),
)
CONTROLLER_MAY_NOT: Final[Sequence[Right]] = (
    ("create", MCP + "mcpserverregistrations", "team-a"),
    ("patch", MCP + "mcpserverregistrations", "team-a"),
    ("delete", MCP + "mcpgatewayextensions", "team-a"),
    ("patch", "gateway.networking.k8s.io/gateways", "team-a"),
    ("create", "/secrets", "team-a"),
    ("update", "/secrets", "team-a"),
    ("update", "/secrets", SYSTEM),
    ("delete", "/secrets:mcp-gateway-config", SYSTEM),
    ("update", "coordination.k8s.io/leases:other", SYSTEM),
    ("create", GRANTS, "team-a"),
    ("delete", MCP + "mcpgatewayreports", "team-a"),
    ("patch", "/services", "team-a"),
    ("list", "/pods", "team-a"),
    ("list", "/configmaps", SYSTEM),
    ("patch", "apps/deployments", SYSTEM),
    ("impersonate", "/users", ""),
    ("escalate", "rbac.authorization.k8s.io/clusterroles", ""),
    ("bind", "rbac.authorization.k8s.io/clusterroles", ""),
)
DATA_PLANE_MAY: Final[Sequence[Right]] = (
    *((verb, "/secrets:mcp-gateway-config", SYSTEM) for verb in ("get", "list", "watch")),
    *((verb, MCP + "mcpgatewayreports", SYSTEM) for verb in ("create", "get", "patch", "delete")),
)
DATA_PLANE_MAY_NOT: Final[Sequence[Right]] = (
    ("list", "/secrets", SYSTEM),
    ("get", "/secrets:mcp-gateway-session-signing-key", SYSTEM),
    ("update", "/secrets:mcp-gateway-config", SYSTEM),
    ("get", "/secrets:mcp-gateway-config", "team-a"),
    ("list", MCP + "mcpgatewayreports", SYSTEM),
    ("create", MCP + "mcpgatewayreports", "team-a"),
    ("list", MCP + "mcpserverregistrations", "team-a"),
    ("get", ROUTES, "team-a"),
    ("get", "/services", "team-a"),
    ("list", "/namespaces", ""),
    ("create", "events.k8s.io/events", SYSTEM),
    ("get", "coordination.k8s.io/leases:mcp-gateway-controller", SYSTEM),
)


@pytest.mark.parametrize(
    "account, may, may_not",
    [
        pytest.param(CONTROLLER, CONTROLLER_MAY, CONTROLLER_MAY_NOT, id="controller"),
        pytest.param(DATA_PLANE, DATA_PLANE_MAY, DATA_PLANE_MAY_NOT, id="data plane"),
    ],
)
def test_a_program_has_the_rights_that_it_needs_and_no_other(
    cluster: Installation, account: str, may: Sequence[Right], may_not: Sequence[Right]
) -> None:
    who = _account(account)
    assert _allowed(cluster, who, may) == list(may)
    assert _allowed(cluster, who, may_not) == []


def test_the_api_server_refuses_the_data_plane_what_is_not_its_own(cluster: Installation) -> None:
    account = cluster.account(DATA_PLANE)
    one = ("--field-selector=metadata.name=mcp-gateway-config", "-n", SYSTEM, "-o", "name")
    assert cluster.said("get", "secrets", *one, kubeconfig=account).stdout == "secret/mcp-gateway-config\n"
    for words in (
        ("get", "secrets", "-n", SYSTEM),
        ("get", "secret", "mcp-gateway-session-signing-key", "-n", SYSTEM),
        ("get", "mcpsr", "-A"),
        ("delete", "secret", "mcp-gateway-config", "-n", SYSTEM),
    ):
        assert "Forbidden" in cluster.said(*words, kubeconfig=account).stderr, words


def test_restricted_secrets_leaves_one_namespace_at_a_time_to_be_read(cluster: Installation, tmp_path: Path) -> None:
    rights = [("list", "/secrets", "team-a"), ("list", "/secrets", "team-b")]
    restricted = combined(tmp_path, ".", "components/restricted-secrets")
    cluster.kubectl(*STRICT, "-k", str(restricted))
    cluster.kubectl("delete", "clusterrolebinding", READER)  # the documented step of who had it
    _until(lambda: _allowed(cluster, _account(CONTROLLER), rights) == [])
    account = cluster.account(CONTROLLER)
    assert "Forbidden" in cluster.said("get", "secrets", "-n", "team-a", kubeconfig=account).stderr
    cluster.kubectl(
        *("create", "rolebinding", READER, "-n", "team-a", f"--clusterrole={READER}"),
        f"--serviceaccount={SYSTEM}:{CONTROLLER}",
    )
    _until(lambda: _allowed(cluster, _account(CONTROLLER), rights) == rights[:1])
    assert cluster.said("get", "secrets", "-n", "team-a", kubeconfig=account).returncode == 0
    cluster.kubectl(*STRICT, "-k", str(restricted))
    assert _allowed(cluster, _account(CONTROLLER), rights) == rights[:1]
    cluster.kubectl(*STRICT, "-k", str(MANIFESTS))
    _until(lambda: _allowed(cluster, _account(CONTROLLER), rights) == rights)


# --- what people may do ----------------------------------------------------------------------------------------------


def test_an_ordinary_admin_registers_a_server_in_one_namespace_and_can_do_nothing_elsewhere(
    cluster: Installation,
) -> None:
    cluster.kubectl("create", "rolebinding", "alice", "-n", "team-a", "--clusterrole=admin", "--user=alice")
    kinds = ("mcpserverregistrations", "mcpgatewayextensions", "mcpvirtualservers")
    own: list[Right] = [
        (verb, MCP + kind, "team-a") for kind in kinds for verb in ("create", "patch", "delete", "list")
    ]
    _until(lambda: _allowed(cluster, "alice", own) == own)
    elsewhere: list[Right] = [
        (verb, resource, place)
        for place in ("team-b", SYSTEM, "")
        for resource in (*(MCP + kind for kind in kinds), "/secrets", MCP + "mcpgatewayreports")
        for verb in ("get", "list", "create", "delete")
    ]
    status: list[Right] = [("patch", MCP + f"{kind}/status", "team-a") for kind in kinds]
    assert _allowed(cluster, "alice", [*elsewhere, *status]) == []
    registered = cluster.said(*STRICT, "--as=alice", "-f", "-", stdin=json.dumps(_registration("team-a")))
    assert registered.returncode == 0, registered.stderr
    refused = cluster.said(*STRICT, "--as=alice", "-f", "-", stdin=json.dumps(_registration("team-b")))
    assert "Forbidden" in refused.stderr
    assert cluster.kubectl("get", "mcpsr", "-n", "team-b", "-o", "name") == ""


def test_edit_registers_servers_and_leaves_extensions_alone_and_view_only_looks(cluster: Installation) -> None:
    for role in ("edit", "view"):
        cluster.kubectl("create", "rolebinding", role, "-n", "team-a", f"--clusterrole={role}", f"--user={role}er")
    register, extend, look = (
        ("create", MCP + "mcpserverregistrations", "team-a"),
        ("create", MCP + "mcpgatewayextensions", "team-a"),
        ("list", MCP + "mcpgatewayextensions", "team-a"),
    )
    _until(lambda: _allowed(cluster, "editer", [register, extend, look]) == [register, look])
    _until(lambda: _allowed(cluster, "viewer", [register, extend, look]) == [look])


# --- parts -----------------------------------------------------------------------------------------------------------


def _allowed(cluster: Installation, who: str, rights: Sequence[Right]) -> list[Right]:
    """Which of the rights somebody has; all are asked for in one command, as ``kubectl auth can-i`` asks for one."""
    said = cluster.kubectl(
        *("create", "-o", 'jsonpath={.status.allowed}{"\\n"}', "-f", "-"),
        stdin=_listed([_review(who, right) for right in rights]),
    )
    return [right for right, answer in zip(rights, said.split(), strict=True) if answer == "true"]


def _review(who: str, right: Right) -> dict[str, Any]:
    verb, what, namespace = right
    group, _, rest = what.partition("/")
    path, _, named = rest.partition(":")
    resource, _, subresource = path.partition("/")
    attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource, "name": named}
    groups = ["system:authenticated", *(["system:serviceaccounts"] if who.startswith("system:") else [])]
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": who, "groups": groups, "resourceAttributes": {**attributes, "namespace": namespace}},
    }


def _account(account: str) -> str:
    return f"system:serviceaccount:{SYSTEM}:{account}"


def _listed(objects: Sequence[object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def _pod(deployment: JsonObject) -> dict[str, Any]:
    template: dict[str, Any] = json.loads(json.dumps(deployment))["spec"]["template"]
    metadata = {**template.get("metadata", {}), "name": name(deployment).rpartition("/")[2]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def _without_context(pod: dict[str, Any], where: str) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(pod))
    copy["metadata"]["name"] += f"-{where}"
    del (copy["spec"] if where == "pod" else copy["spec"]["containers"][0])["securityContext"]
    return copy


def _registration(namespace: str) -> dict[str, Any]:
    route = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "weather"}
    return _object("mcp.kagenti.com/v1alpha1", "MCPServerRegistration", "weather", namespace, {"targetRef": route})


def _object(version: str, kind: str, called: str, namespace: str, spec: object) -> dict[str, Any]:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": called, "namespace": namespace},
        "spec": spec,
    }


def _until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)  # noqa: TID251  # outside of any loop


_TEXT: Final = {"type": "string"}
_LABELS: Final = {"type": "object", "additionalProperties": _TEXT}
_ENDPOINT: Final = {"type": "object", "properties": dict.fromkeys(("port", "path", "interval"), _TEXT)}
_MONITOR: Final = {
    "type": "object",
    "required": ["endpoints", "selector"],
    "properties": {
        "jobLabel": _TEXT,
        "endpoints": {"type": "array", "items": _ENDPOINT},
        "selector": {"type": "object", "properties": {"matchLabels": _LABELS}},
    },
}
SERVICE_MONITORS: Final = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"kind": "ServiceMonitor", "plural": "servicemonitors", "listKind": "ServiceMonitorList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": _MONITOR}}},
            }
        ],
    },
}
"""The fields of the Prometheus Operator's kind that we use; under strict validation any other is refused."""
