"""The chart on a real API server, with both programs: installed, upgraded under load, uninstalled, installed again."""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.kube.helm import CHART, helm
from tests.support.kube.installation import SYSTEM
from tests.support.kube.served import Served, until

pytestmark = [pytest.mark.kube, pytest.mark.helm, pytest.mark.slow, pytest.mark.timeout(180)]

RELEASE: Final = "gateway"


class Charted(Served):
    """Installed by helm."""

    def helm(self, *words: str) -> str:
        return helm(self.home, *words, f"--namespace={SYSTEM}", kubeconfig=self.api.kubeconfig)

    def install(self) -> None:
        self.helm("install", RELEASE, str(CHART), "--create-namespace")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Charted]:
    with Charted() as made:
        made.register()
        made.begin()
        yield made


@pytest.mark.parametrize(
    "values",
    [
        pytest.param((), id="the same again"),
        pytest.param(("controller.replicas=3", "networkPolicy.enabled=true", "image.tag=0.1.1"), id="other values"),
        pytest.param(("restrictedSecrets=true", "service.nodePort=30080"), id="less than before"),
    ],
)
def test_an_upgrade_under_load_keeps_secrets_sessions_and_registrations(
    cluster: Charted, values: tuple[str, ...]
) -> None:
    with cluster.under_load():
        cluster.helm("upgrade", RELEASE, str(CHART), *(f"--set={value}" for value in values))
    policies = cluster.kubectl("get", "networkpolicy", "-n", SYSTEM, "-o", "name").split()
    assert len(policies) == (2 if "networkPolicy.enabled=true" in values else 0)
    bindings = cluster.kubectl("get", "clusterrolebinding", "-o", "name")
    assert ("mcp-gateway-secret-reader" in bindings) == ("restrictedSecrets=true" not in values)


def test_uninstalled_it_leaves_registrations_and_installed_again_it_serves_them(cluster: Charted) -> None:
    before = cluster.kept()
    cluster.controller_program.end()
    cluster.data_plane_program.end()
    cluster.helm("uninstall", RELEASE)
    left = cluster.kubectl("get", "clusterrole,clusterrolebinding,deployment,secret,service,sa", "-A", "-o", "name")
    assert "mcp-gateway" not in left
    cluster.install()
    cluster.begin()
    until(lambda: all(cluster.kept().values()))
    assert cluster.kept()["registrations"] == before["registrations"]
    with cluster.under_load():
        pass
