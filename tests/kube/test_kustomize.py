"""What kustomize makes of our manifests: everything builds, and an instance of its own shares nothing by accident."""

import json
from pathlib import Path

import pytest

from mcp_gateway import __version__
from mcp_gateway.kube import schema
from mcp_gateway.kube.store import Settings
from tests.support.kube.kustomize import build, combined, folders, name, names

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(60)]

INSTALLATIONS = (".", "overlays/dedicated")
NAMESPACES = {".": "mcp-system", "overlays/dedicated": "mcp-dedicated"}


@pytest.mark.parametrize("folder", [".", "base", "crds", "users", *folders("overlays"), *folders("samples")])
def test_every_folder_builds(folder: str) -> None:
    assert build(folder)


@pytest.mark.parametrize("folder", [*INSTALLATIONS, *folders("samples")])
def test_the_image_has_the_version_of_the_package(folder: str) -> None:
    made = json.dumps(build(folder))
    assert f'"image": "mcp-gateway:{__version__}"' in made
    assert made.count('"image": ') == made.count(f'"image": "mcp-gateway:{__version__}"')


@pytest.mark.parametrize("installation", INSTALLATIONS)
@pytest.mark.parametrize("component", folders("components"))
def test_a_component_fits_every_installation_and_stays_in_its_namespace(
    installation: str, component: str, tmp_path: Path
) -> None:
    before, after = build(installation), build(combined(tmp_path, installation, component))
    changed = [one for one in after if one not in before] or [one for one in before if one not in after]
    assert changed
    for one in changed:
        assert "/" not in name(one) or name(one).startswith(f"{NAMESPACES[installation]}/")


@pytest.mark.parametrize("installation", INSTALLATIONS)
def test_restricted_secrets_takes_one_binding_away_and_leaves_the_role(installation: str, tmp_path: Path) -> None:
    before = names(build(installation))
    after = names(build(combined(tmp_path, installation, "components/restricted-secrets")))
    role = Settings(instance="default" if installation == "." else "dedicated").secret_reader_role
    assert before - after == {f"ClusterRoleBinding {role}"}
    assert not after - before
    assert f"ClusterRole {role}" in after


def test_an_instance_of_its_own_shares_no_object_with_the_first() -> None:
    first, second = build("."), build("overlays/dedicated")
    assert not names(first) & names(second)
    assert "mcp-system" not in json.dumps(second)
    assert not [one for one in second if one["kind"] == "CustomResourceDefinition"]
    own = {name(one).removeprefix("mcp-dedicated/") for one in second if "/" in name(one)}
    assert own == {name(one).removeprefix("mcp-system/") for one in first if "/" in name(one)}


def test_both_programs_of_an_instance_are_told_its_name() -> None:
    deployments = [json.dumps(one) for one in build("overlays/dedicated") if one["kind"] == "Deployment"]
    assert len(deployments) == 2
    assert all('"--instance=dedicated"]' in one for one in deployments)


def test_re_applying_says_nothing_of_the_data_of_our_secrets() -> None:
    secrets = [one for one in build(".") if one["kind"] == "Secret"]
    assert {name(one) for one in secrets} == {
        f"mcp-system/{one}" for one in (schema.CONFIG_SECRET, schema.SIGNING_KEY_SECRET)
    }
    assert not [one for one in secrets if "data" in one or "stringData" in one]


def test_ports_of_containers_are_the_ones_that_everything_else_names(tmp_path: Path) -> None:
    """A Service, a probe, a policy or a monitor that names a port nobody has is accepted, and silently does nothing."""
    every = folders("components")
    made = build(combined(tmp_path, ".", *every))
    ports = {"mcp-gateway-broker-router": {"http", "admin"}, "mcp-gateway-controller": {"admin"}}
    for one in made:
        text = json.dumps(one)
        app = next((app for app in ports if f'"app.kubernetes.io/name": "{app}"' in text), None)
        if one["kind"] in ("Service", "NetworkPolicy", "ServiceMonitor", "PodDisruptionBudget"):
            assert app is not None, name(one)
            named = {port for port in ("http", "admin", "metrics") if f'ort": "{port}"' in text}
            assert named <= ports[app], name(one)
