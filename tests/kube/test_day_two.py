"""Applying again, upgrading and replacing pods under load: no call fails, and what was there before is there after.

One cluster for all: it begins with an earlier state of the manifests (``previous/``) and with kinds that lack fields
which both programs write, as those of an earlier release do. The programs are those of now.
"""

import contextlib
import copy
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.kube.crds import FILES, crd
from tests.support.kube.documentation import blocks
from tests.support.kube.installation import ROOT, SYSTEM, Installation, Program
from tests.support.kube.kubectl import condition_of
from tests.support.kube.kustomize import MANIFESTS, build
from tests.support.kube.shell import Shell
from tests.support.kube.traffic import Traffic

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(180)]

HOST: Final = "mcp.127-0-0-1.sslip.io"
PREVIOUS: Final = ROOT / "tests" / "kube" / "previous" / "installation.yaml"
SERVER: Final = ("apply", "--server-side", "--validate=strict", "--force-conflicts")
CLIENT: Final = ("apply", "--validate=strict")
PATIENCE_S: Final = 60.0
SECRETS: Final = ("mcp-gateway-config", "mcp-gateway-session-signing-key")
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


class Cluster(Installation):
    """An earlier release, with a registered server and the present programs."""

    data_planes = 0
    data_plane_program: Program
    controllers: Program
    where: str

    def install(self) -> None:
        self.kubectl(*SERVER, "-f", "-", stdin=earlier_kinds())
        self.kubectl(*SERVER, "-f", str(PREVIOUS))

    def begin(self) -> None:
        """Another pod of the data plane."""
        self.data_planes += 1
        self.data_plane_program, self.where = self.data_plane(pod=f"data-plane-{self.data_planes}")

    def is_served(self, where: str) -> bool:
        """Whether a readiness probe would let clients come."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{where}/readyz", timeout=5) as response:
            return bool(response.status == 200)
        return False

    def kept(self) -> dict[str, object]:
        """What has to survive."""
        secrets = {name: self.get("secret", name, "-n", SYSTEM).get("data") for name in SECRETS}
        assert all(secrets.values())
        uids = self.kubectl("get", "mcpsr,mcpge", "-A", "-o", "jsonpath={.items[*].metadata.uid}")
        return {**secrets, "registrations": uids}

    def pods(self) -> str:
        """The templates of the Deployments: pods are replaced when one changes."""
        return self.kubectl("get", "deployments", "-n", SYSTEM, "-o", "jsonpath={.items[*].spec.template}")

    def is_ready(self) -> bool:
        return condition_of(self.get("mcpsr", "my-mcp-server", "-n", "mcp-test"), "Ready") == "True"

    @contextlib.contextmanager
    def under_load(self) -> Iterator[Traffic]:
        """No call fails while the block runs, and what has to survive does."""
        before = self.kept()
        with Traffic(self.where, HOST, "myserver_add") as traffic:
            until(lambda: traffic.calls > 4)
            yield traffic
            enough = traffic.calls + 10
            until(lambda: traffic.calls > enough)
        assert traffic.failures == []
        assert self.kept() == before
        until(self.is_ready)


def all_but_kinds() -> str:
    """The manifests without our kinds, for who applies those by themselves."""
    objects = [one for one in build(".") if one["kind"] != "CustomResourceDefinition"]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def until(true: Callable[[], object]) -> None:
    until_at = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until_at
        time.sleep(0.05)  # noqa: TID251  # outside of any loop


def seed_objects() -> str:
    """What the procedure for registering a server applies."""
    text = (ROOT / "tests" / "kube" / "seed" / "procedure.txt").read_text()
    return "\n---\n".join(block.partition("\nEOF\n")[0] for block in text.split("<<EOF\n")[1:])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        made.kubectl(*SERVER, "-k", str(MANIFESTS / "samples/seed"))
        made.kubectl(*SERVER, "-f", "-", stdin=seed_objects())
        made.server("mcp-api-key-server", "mcp-test", 9090)
        made.controllers = made.controller()
        made.begin()
        yield made


def test_kinds_last_programs_that_are_ahead_of_their_kinds_work(cluster: Cluster) -> None:
    """What the old kinds cannot hold is missing from the status, and comes with the new ones: see the last test."""
    cluster.kubectl("wait", "--for=condition=Ready", "mcpsr/my-mcp-server", "-n", "mcp-test", "--timeout=30s")
    assert "protocolVersion" not in str(cluster.get("mcpsr", "my-mcp-server", "-n", "mcp-test")["status"])
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
    old, controller = cluster.data_plane_program, cluster.controllers
    with cluster.under_load() as traffic:
        cluster.begin()
        until(lambda: cluster.is_served(cluster.where))
        traffic.where = cluster.where
        assert old.end() == 0
        cluster.controllers = cluster.controller(pod="controller-2")
        assert controller.end() == 0
        cluster.controllers.wait_for("leading")


def test_the_signing_key_is_rotated_as_documented(cluster: Cluster) -> None:
    rotate = blocks("Rotate the signing key")[0]
    before = cluster.kept()[SECRETS[1]]
    with Traffic(cluster.where, HOST, "myserver_add") as traffic:
        Shell(cluster, cluster.where).run(rotate)
        late = Traffic(cluster.where, HOST, "myserver_add")  # its session is signed with the new key
        late.call_in_session()
        enough = traffic.calls + 100
        until(lambda: traffic.calls > enough)
    assert traffic.failures == []
    after = cluster.kept()[SECRETS[1]]
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert after["previous"] == before["key"]
    assert after["key"] != before["key"]


def test_what_the_earlier_kinds_could_not_hold_has_come_by_itself(cluster: Cluster) -> None:
    until(lambda: "protocolVersion" in str(cluster.get("mcpsr", "my-mcp-server", "-n", "mcp-test")["status"]))
    until(lambda: "registrations" in str(cluster.get("mcpge", "mcp-extension", "-n", "mcp-test")["status"]))
