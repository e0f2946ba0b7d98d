"""What goes wrong in a cluster, and that everything converges: programs that die or freeze, objects that vanish."""

import base64
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import pytest

from tests.support.kube.installation import ROOT, SYSTEM, Installation, Program
from tests.support.kube.kubectl import condition_of

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(240)]

HOST: Final = "mcp.127-0-0-1.sslip.io"
PATIENCE_S: Final = 60.0
"""For what takes two seconds on an idle machine."""
EXTENSION: Final = {
    "apiVersion": "mcp.kagenti.com/v1alpha1",
    "kind": "MCPGatewayExtension",
    "metadata": {"name": "extension", "namespace": "mcp-test"},
    "spec": {
        "targetRef": {
            "group": "gateway.networking.k8s.io",
            "kind": "Gateway",
            "name": "mcp-gateway",
            "namespace": "gateway-system",
        }
    },
}
GRANT: Final = {
    "apiVersion": "gateway.networking.k8s.io/v1beta1",
    "kind": "ReferenceGrant",
    "metadata": {"name": "grant", "namespace": "gateway-system"},
    "spec": {
        "from": [{"group": "mcp.kagenti.com", "kind": "MCPGatewayExtension", "namespace": "mcp-test"}],
        "to": [{"group": "gateway.networking.k8s.io", "kind": "Gateway"}],
    },
}
ROUTE: Final = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "route", "namespace": "mcp-test"},
    "spec": {
        "parentRefs": [{"name": "mcp-gateway", "namespace": "gateway-system"}],
        "hostnames": ["server.mcp.local"],
        "rules": [{"backendRefs": [{"name": "mcp-api-key-server", "port": 9090}]}],
    },
}


def registration(name: str, prefix: str = "") -> dict[str, object]:
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route", "namespace": "mcp-test"}
    return {
        "apiVersion": "mcp.kagenti.com/v1alpha1",
        "kind": "MCPServerRegistration",
        "metadata": {"name": name, "namespace": "mcp-test"},
        "spec": {"prefix": prefix or f"{name}_", "targetRef": target},
    }


def until(true: Callable[[], object], patience_s: float = PATIENCE_S) -> float:
    """Wait, and say how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < patience_s, "it did not come true"
        time.sleep(0.1)  # noqa: TID251  # outside of any loop
    return time.monotonic() - began


class Cluster(Installation):
    """With the words of these tests."""

    where: str = ""

    def apply(self, *documents: object) -> None:
        text = "\n---\n".join(json.dumps(one) for one in documents)
        self.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", stdin=text)

    def remove(self, document: Mapping[str, object]) -> None:
        self.kubectl("delete", "-f", "-", "--wait=false", stdin=json.dumps(document))

    def tools(self) -> set[str]:
        """What a client sees."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        body: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
        result = self.ask(self.where, HOST, body, **headers)["result"]
        assert isinstance(result, dict)
        return {str(tool["name"]) for tool in result["tools"]}

    def serves(self, name: str) -> bool:
        return f"{name}_add" in self.tools()

    def ready(self, name: str) -> str:
        """The status of a registration's Ready."""
        said = self.said("get", "mcpsr", name, "-n", "mcp-test", "-o", "json")
        return condition_of(json.loads(said.stdout), "Ready") if said.returncode == 0 else ""

    def config(self) -> str:
        """The resourceVersion of the compiled configuration."""
        path = "jsonpath={.metadata.resourceVersion}"
        return self.said("get", "secret", "mcp-gateway-config", "-n", SYSTEM, "-o", path).stdout


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        made.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests/samples/seed"))
        _, made.where = made.data_plane()
        made.server("mcp-api-key-server", "mcp-test", 9090)
        yield made


@pytest.fixture
def controller(cluster: Cluster) -> Iterator[Program]:
    """A controller that leads."""
    program = cluster.controller(pod=f"controller-{time.monotonic_ns()}")
    program.wait_for("leading")
    yield program
    if program.process.poll() is None:
        program.process.send_signal(signal.SIGCONT)
        program.end()


def test_pieces_in_any_order_converge_and_what_goes_is_taken_back(cluster: Cluster, controller: Program) -> None:
    cluster.apply(registration("one"))
    until(lambda: cluster.ready("one") == "False")
    for piece in (ROUTE, GRANT, EXTENSION):
        cluster.apply(piece)
    until(lambda: cluster.serves("one"))
    until(lambda: cluster.ready("one") == "True")
    cluster.remove(GRANT)
    until(lambda: not cluster.tools())
    until(lambda: cluster.ready("one") != "True")
    cluster.apply(GRANT)
    until(lambda: cluster.serves("one"))
    until(lambda: cluster.ready("one") == "True")


def test_what_happens_while_no_controller_runs_is_caught_up_with(cluster: Cluster) -> None:
    cluster.apply(registration("gone"), registration("stays"))
    killed = cluster.controller(pod="controller-killed")
    until(lambda: cluster.serves("gone") and cluster.serves("stays"))
    killed.end(signal.SIGKILL)
    cluster.remove(registration("gone"))
    cluster.apply(registration("late"))
    assert cluster.serves("gone"), "the data plane goes on with what it has"
    following = cluster.controller(pod="controller-following")
    took_s = until(lambda: cluster.serves("late") and not cluster.serves("gone"))
    until(lambda: cluster.ready("late") == "True")
    assert took_s < PATIENCE_S
    following.end()


def test_of_two_controllers_one_writes_and_the_other_takes_over(cluster: Cluster, controller: Program) -> None:
    other = cluster.controller(pod="controller-other")
    cluster.apply(registration("two"))
    until(lambda: cluster.ready("two") == "True")
    assert "leading" not in other.log.read_text()
    controller.end()
    other.wait_for("leading")
    cluster.apply(registration("three"))
    until(lambda: cluster.ready("three") == "True")
    other.end()


def test_a_leader_that_was_frozen_writes_nothing_stale(cluster: Cluster, controller: Program) -> None:
    other = cluster.controller(pod="controller-thawing")
    controller.process.send_signal(signal.SIGSTOP)
    other.wait_for("leading")
    cluster.apply(registration("four"))
    until(lambda: cluster.ready("four") == "True")
    before = cluster.config()
    controller.process.send_signal(signal.SIGCONT)
    controller.wait_for("not leading any more")
    time.sleep(3)  # noqa: TID251  # long enough for whatever it had in hand
    assert cluster.config() == before
    assert cluster.ready("four") == "True"
    assert other.process.poll() is None
    other.end()


def test_the_api_server_goes_and_comes_back(cluster: Cluster, controller: Program) -> None:
    cluster.apply(registration("five"))
    until(lambda: cluster.serves("five"))
    cluster.api.server.kill()
    cluster.api.server.wait()
    time.sleep(3)  # noqa: TID251  # away
    assert cluster.serves("five")
    cluster.api.start_server()
    cluster.apply(registration("six"))
    until(lambda: cluster.serves("six"))
    until(lambda: cluster.ready("six") == "True")
    assert controller.process.poll() is None


@pytest.mark.parametrize(
    "how", [pytest.param("delete", id="deleted"), pytest.param("", id="emptied"), pytest.param("*", id="garbage")]
)
def test_a_damaged_configuration_harms_nobody_and_is_mended(cluster: Cluster, controller: Program, how: str) -> None:
    cluster.apply(registration("seven"))
    until(lambda: cluster.serves("seven"))
    secret = ("secret", "mcp-gateway-config", "-n", SYSTEM)
    if how == "delete":
        cluster.kubectl("delete", *secret)
    else:
        data = {"data": {"config.json.gz": base64.b64encode(how.encode()).decode()}}
        cluster.kubectl("patch", *secret, "-p", json.dumps(data))
    assert cluster.serves("seven")
    cluster.apply(registration("eight"))
    until(lambda: cluster.serves("eight"))
    assert cluster.serves("seven")
    cluster.remove(registration("eight"))
    until(lambda: not cluster.serves("eight"))


def test_an_idle_cluster_is_not_written_to(cluster: Cluster, controller: Program) -> None:
    until(lambda: cluster.ready("seven") == "True")
    time.sleep(2)  # noqa: TID251  # whatever is left to do

    def versions() -> str:
        kinds = "mcpsr,mcpge,mcpvs,httproutes,secrets"
        path = "jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.resourceVersion} {end}"
        return cluster.kubectl("get", kinds, "-A", "-o", path)

    before = versions()
    time.sleep(6)  # noqa: TID251  # three renewals of the Lease
    assert versions() == before
