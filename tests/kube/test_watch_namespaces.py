"""A controller that looks at a few namespaces only and has rights in no other, on a real API server."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from mcp_gateway.kube import schema
from mcp_gateway.values import JsonObject
from tests.support.kube.installation import CONTROLLER, ROOT, SYSTEM
from tests.support.kube.kustomize import build, combined
from tests.support.kube.small_cluster import EXTENSION, GRANT, ROUTE, SmallCluster, registration, until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(180)]

COMPONENTS: Final = ("components/watch-namespaces", "components/restricted-secrets")
WATCHED: Final = "mcp-test,gateway-system"
ACCOUNT: Final = f"system:serviceaccount:{SYSTEM}:{CONTROLLER}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallCluster]:
    """With the rights that the component leaves, and the bindings that the documentation names."""
    with SmallCluster() as made:
        folder = combined(tmp_path_factory.mktemp("watching"), ".", *COMPONENTS)
        made.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(folder))
        made.kubectl("delete", "clusterrolebinding", CONTROLLER, schema.SECRET_READER_ROLE)
        text = (ROOT / "docs" / "kubernetes.md").read_text()
        for role in (CONTROLLER, schema.SECRET_READER_ROLE):
            assert re.search(rf"kubectl create rolebinding {role} -n \S+ --clusterrole={role} ", text)
            for namespace in WATCHED.split(","):
                account = f"--serviceaccount={SYSTEM}:{CONTROLLER}"
                made.kubectl("create", "rolebinding", role, "-n", namespace, f"--clusterrole={role}", account)
        yield made


def test_the_deployment_says_which_namespaces(tmp_path: Path) -> None:
    made = str(build(combined(tmp_path, ".", *COMPONENTS)))
    assert "--watch-namespaces=$(WATCH_NAMESPACES)" in made
    assert f"'value': '{WATCHED}'" in made


def test_what_is_in_the_namespaces_is_served_and_what_is_elsewhere_is_left_alone(cluster: SmallCluster) -> None:
    for verb, resource in (("list", "namespaces"), ("watch", "services"), ("list", "secrets"), ("list", "httproutes")):
        said = cluster.said("auth", "can-i", verb, resource, "-A", f"--as={ACCOUNT}")
        assert said.stdout.strip() == "no"
    cluster.kubectl("create", "namespace", "elsewhere")
    elsewhere = registration("elsewhere")
    cluster.apply(ROUTE, GRANT, EXTENSION, {**elsewhere, "metadata": {"name": "elsewhere", "namespace": "elsewhere"}})
    program = cluster.controller("--watch-namespaces", WATCHED)
    cluster.apply(registration("inside"))
    until(lambda: cluster.serves("inside") and cluster.ready("inside") == "True")
    cluster.remove(registration("inside"))
    until(lambda: not cluster.serves("inside"))
    left = cluster.admin.get(schema.REGISTRATION, "elsewhere", "elsewhere")["status"]
    assert isinstance(left, dict)  # with what the kind itself says of an object that nobody has looked at
    assert "observedGeneration" not in left
    log = program.log.read_text()
    assert "cannot be read" not in log
    assert "not written" not in log
    program.end()


def test_a_namespace_by_whose_label_a_gateway_chooses_is_known(cluster: SmallCluster) -> None:
    program = cluster.controller("--watch-namespaces", WATCHED)
    chosen: JsonObject = {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}}
    spec = cluster.admin.get(schema.GATEWAY, "gateway-system", "mcp-gateway")["spec"]
    assert isinstance(spec, dict)
    listeners = spec["listeners"]
    assert isinstance(listeners, list)
    for one in listeners:
        assert isinstance(one, dict)
        one["allowedRoutes"] = chosen
    cluster.admin.merge(schema.GATEWAY, "gateway-system", "mcp-gateway", {"spec": {"listeners": listeners}})
    cluster.apply(registration("chosen"))
    until(lambda: cluster.ready("chosen") == "False")
    cluster.kubectl("label", "namespace", "mcp-test", "team=a")
    until(lambda: cluster.serves("chosen"))
    program.end()
