"""Applying again, upgrading and replacing pods under load: no call fails, and what was there before is there after.

One cluster for all: it begins with an earlier state of the manifests (``previous/``) and with kinds that lack fields
which both programs write, as those of an earlier release do. The programs are those of now.
"""

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.kube.crds import FILES, crd
from tests.support.kube.documentation import blocks
from tests.support.kube.installation import ROOT, SYSTEM
from tests.support.kube.kustomize import MANIFESTS, build
from tests.support.kube.served import REGISTERED, Served, until
from tests.support.kube.shell import Shell

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(180)]

PREVIOUS: Final = ROOT / "tests" / "kube" / "previous" / "installation.yaml"
SERVER: Final = ("apply", "--server-side", "--validate=strict", "--force-conflicts")
CLIENT: Final = ("apply", "--validate=strict")
UNKNOWN: Final = {
    "mcpserverregistrations": ("status.lastError", "status.protocolVersion", "status.extensions"),
    "mcpgatewayextensions": ("status.registrations",),
    "mcpgatewayreports": ("spec.serverCount", "spec.connectedCount"),
}
"""Fields that the kinds of the earlier release do not have."""


def earlier_kinds() -> str:
    """Our kinds, as if some fields had not been thought of yet."""
    made = []
    for file in FILES:
        found: Any = copy.deepcopy(crd(file.stem))
        version = found["spec"]["versions"][0]
        for path in UNKNOWN.get(file.stem, ()):
            part, _, field = path.partition(".")
            del version["schema"]["openAPIV3Schema"]["properties"][part]["properties"][field]
            columns = version.get("additionalPrinterColumns", [])
            version["additionalPrinterColumns"] = [one for one in columns if f".{path}" not in one["jsonPath"]]
        made.append(found)
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": made})


class Cluster(Served):
    """Begins with an earlier release."""

    def install(self) -> None:
        self.kubectl(*SERVER, "-f", "-", stdin=earlier_kinds())
        self.kubectl(*SERVER, "-f", str(PREVIOUS))

    def pods(self) -> str:
        """The templates of the Deployments: pods are replaced when one changes."""
        return self.kubectl("get", "deployments", "-n", SYSTEM, "-o", "jsonpath={.items[*].spec.template}")


def all_but_kinds() -> str:
    """The manifests without our kinds, for who applies those by themselves."""
    objects = [one for one in build(".") if one["kind"] != "CustomResourceDefinition"]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        made.register()
        made.begin()
        yield made


def test_kinds_last_programs_that_are_ahead_of_their_kinds_work(cluster: Cluster) -> None:
    """What the old kinds cannot hold is missing from the status, and comes with the new ones: see the last test."""
    assert "protocolVersion" not in str(cluster.get(*REGISTERED)["status"])
    with cluster.under_load():
        cluster.kubectl(*SERVER, "-f", "-", stdin=all_but_kinds())
        cluster.kubectl(*SERVER, "-k", str(MANIFESTS / "crds"))


def test_rolled_back_and_upgraded_with_the_kinds_first(cluster: Cluster) -> None:
    with cluster.under_load():
        cluster.install()
        cluster.kubectl(*SERVER, "-k", str(MANIFESTS / "crds"))
        cluster.kubectl(*SERVER, "-f", "-", stdin=all_but_kinds())


@pytest.mark.parametrize(
    "how", [pytest.param(CLIENT, id="on the client's side"), pytest.param(SERVER, id="on the server's side")]
)
def test_applied_again(cluster: Cluster, how: tuple[str, ...]) -> None:
    before = cluster.pods()
    with cluster.under_load():
        cluster.kubectl(*how, "-k", str(MANIFESTS))
        said = cluster.kubectl(*how, "-k", str(MANIFESTS))
    assert "created" not in said
    assert cluster.pods() == before, "pods would be replaced for nothing"


def test_pods_are_replaced(cluster: Cluster) -> None:
    """As a rolling update does it: the new one first; new calls go to it when it is ready, and the old one drains."""
    old, controller = cluster.data_plane_program, cluster.controller_program
    with cluster.under_load() as traffic:
        cluster.add_data_plane()
        traffic.where = cluster.where
        assert old.end() == 0
        cluster.controller_program = cluster.controller(pod="controller-2")
        assert controller.end() == 0
        cluster.controller_program.wait_for("leading")


def test_the_signing_key_is_rotated_as_documented(cluster: Cluster) -> None:
    before = cluster.signing_key()
    with cluster.traffic() as traffic:
        Shell(cluster, cluster.where).run(blocks("Rotate the signing key")[0])
        cluster.traffic().call_in_session()  # signed with the new key
        enough = traffic.calls + 100
        until(lambda: traffic.calls > enough)
    assert traffic.failures == []
    after = cluster.signing_key()
    assert after["previous"] == before["key"]
    assert after["key"] != before["key"]


def test_what_the_earlier_kinds_could_not_hold_has_come_by_itself(cluster: Cluster) -> None:
    until(lambda: "protocolVersion" in str(cluster.get(*REGISTERED)["status"]))
    until(lambda: "registrations" in str(cluster.get("mcpge", "mcp-extension", "-n", "mcp-test")["status"]))
