"""The Helm chart makes the same objects as kustomize does, for the values it has by default and for others."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from mcp_gateway import __version__
from mcp_gateway.values import JsonObject
from tests.support.kube import helm
from tests.support.kube.kustomize import MANIFESTS, build, combined, folders, name

pytestmark = [pytest.mark.kube, pytest.mark.helm, pytest.mark.slow, pytest.mark.timeout(60)]

KEEP: Final = {"helm.sh/resource-policy": "keep"}
RESOURCES: Final[JsonObject] = {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi", "cpu": "4"}}
WHOLE: Final[JsonObject] = {"namespace": {"create": True}, "crds": {"keep": False}}
CHANGED: Final[JsonObject] = {
    **WHOLE,
    "image": {"repository": "registry.example.com/gw", "tag": "9.9.9", "pullSecrets": [{"name": "registry"}]},
    "controller": {"replicas": 3, "resources": RESOURCES, "args": ["--cluster-domain=example.org"]},
    "dataPlane": {"resources": {"limits": {"memory": "3Gi"}}, "args": ["--log-level=debug"]},
    "service": {"nodePort": 30080},
    "networkPolicy": {"enabled": True},
    "serviceMonitor": {"enabled": True},
    "restrictedSecrets": True,
    "watchNamespaces": ["mcp-test", "gateway-system"],
}
DEDICATED: Final[JsonObject] = {
    **CHANGED,
    "instance": "dedicated",
    "crds": {"install": False},
    "users": {"install": False},
}


def changed(tmp_path: Path, resource: str) -> list[JsonObject]:
    """What ``CHANGED`` says, in the words of kustomize."""
    folder = combined(tmp_path / "kustomization", resource, *folders("components"))
    made = yaml.safe_load((folder / "kustomization.yaml").read_text())
    made["images"] = [{"name": "mcp-gateway", "newName": "registry.example.com/gw", "newTag": "9.9.9"}]
    controller, data_plane = "mcp-gateway-controller", "mcp-gateway-broker-router"
    made["patches"] = [
        _patch("ServiceAccount", ".*", ("/imagePullSecrets", [{"name": "registry"}])),
        _patch(
            "Deployment",
            controller,
            ("/spec/replicas", 3),
            (_container("args/-"), "--cluster-domain=example.org"),
            (_container("resources/requests/cpu"), "1"),
            (_container("resources/limits"), RESOURCES["limits"]),
        ),
        _patch(
            "Deployment",
            data_plane,
            (_container("args/-"), "--log-level=debug"),
            (_container("resources/limits/memory"), "3Gi"),
        ),
    ]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(made))
    return build(folder)


def _container(path: str) -> str:
    return f"/spec/template/spec/containers/0/{path}"


def _patch(kind: str, called: str, *added: tuple[str, object]) -> dict[str, object]:
    operations = [{"op": "add", "path": path, "value": value} for path, value in added]
    return {"target": {"kind": kind, "name": called}, "patch": yaml.safe_dump(operations)}


def compared(objects: Sequence[JsonObject]) -> dict[str, JsonObject]:
    """By kind and name; the order of arguments is nobody's affair, because each is an option of its own."""
    found: dict[str, JsonObject] = {}
    for one in objects:
        key = f"{one['kind']} {name(one)}"
        assert key not in found
        found[key] = one
        if one["kind"] == "Deployment":
            copy: Any = json.loads(json.dumps(one))
            for container in copy["spec"]["template"]["spec"]["containers"]:
                container["args"] = sorted(container["args"])
            found[key] = copy
    return found


def assert_same(of_chart: Sequence[JsonObject], of_kustomize: Sequence[JsonObject]) -> None:
    ours, theirs = compared(of_chart), compared(of_kustomize)
    assert ours.keys() == theirs.keys()
    for key, one in ours.items():
        assert one == theirs[key], key


def test_by_default_they_are_the_same_but_for_what_helm_wants_of_a_chart(tmp_path: Path) -> None:
    """Kinds are kept by ``helm uninstall``, and the namespace is there before a release is."""
    made = helm.rendered(tmp_path, "mcp-system", {})
    wanted: Any = json.loads(json.dumps(build(".")))
    for one in wanted:
        if one["kind"] == "CustomResourceDefinition":
            one["metadata"]["annotations"] = KEEP
    assert_same(made, [one for one in wanted if one["kind"] != "Namespace"])


def test_all_objects_are_the_same(tmp_path: Path) -> None:
    assert_same(helm.rendered(tmp_path, "mcp-system", WHOLE), build("."))


def test_with_every_value_changed_they_are_those_of_the_components_and_patches(tmp_path: Path) -> None:
    assert_same(helm.rendered(tmp_path, "mcp-system", CHANGED), changed(tmp_path, "."))


def test_another_instance_is_the_same_as_the_overlay(tmp_path: Path) -> None:
    assert_same(helm.rendered(tmp_path, "mcp-dedicated", DEDICATED), changed(tmp_path, "overlays/dedicated"))


def test_every_value_is_changed_by_a_test() -> None:
    def paths(value: object, at: str = "") -> set[str]:
        if not isinstance(value, dict) or not value:
            return {at}
        return {path for member, below in value.items() for path in paths(below, f"{at}.{member}")}

    def leaf(path: str) -> str:
        return path.removesuffix(".requests.cpu").removesuffix(".limits.memory").removesuffix(".limits.cpu")

    known = paths(yaml.safe_load((helm.CHART / "values.yaml").read_text()))
    tried = {leaf(path) for values in (CHANGED, WHOLE, DEDICATED) for path in paths(values)}
    assert known == tried


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("controller.replica=2", id="unknown"),
        pytest.param("controller.replicas=many", id="of another type"),
        pytest.param("dataPlane.replicas=2", id="several data planes"),
        pytest.param("instance=Not_a_name", id="no name"),
    ],
)
def test_a_value_that_would_do_nothing_is_refused(value: str, tmp_path: Path) -> None:
    said = helm.said(tmp_path, "template", "x", str(helm.CHART), "--set", value)
    assert said.returncode != 0
    assert value.partition(".")[0].partition("=")[0] in said.stderr


def test_the_chart_has_the_version_of_the_package(tmp_path: Path) -> None:
    chart = yaml.safe_load((helm.CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_a_packaged_chart_needs_nothing_beside_it(tmp_path: Path) -> None:
    helm.helm(tmp_path, "package", str(helm.CHART), f"--destination={tmp_path}")
    text = helm.helm(tmp_path, "template", "mcp-gateway", str(tmp_path / f"mcp-gateway-{__version__}.tgz"))
    made = [value for value in yaml.safe_load_all(text) if isinstance(value, dict)]
    assert len(made) == len(build(".")) - 1


def test_folders_of_the_chart_are_those_of_the_kustomizations() -> None:
    leads = {path.name: path.resolve() for path in (helm.CHART / "files").iterdir()}
    assert all(path.is_relative_to(MANIFESTS) and path.parent.name != "files" for path in leads.values()), leads
