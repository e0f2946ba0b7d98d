"""docs/kubernetes.md does what it says: every command of it, in order, on a real API server with both programs running.

What the text marks as ``text`` needs a container engine or a kubelet and is left out.
"""

import json
import shutil
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.kube.documentation import SECTIONS, TEXT, blocks, script
from tests.support.kube.installation import CONTROLLER, DATA_PLANE, ROOT, SYSTEM, Installation, Program
from tests.support.kube.shell import Shell

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Installation]:
    with Installation() as made:
        made.api.start_controllers("namespace-controller")
        yield made


@pytest.fixture(scope="module")
def controller(cluster: Installation) -> Program:
    return cluster.controller()


@pytest.fixture(scope="module")
def shell(cluster: Installation, controller: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Beside a copy of the manifests, for what the text writes there."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "manifests", folder / "manifests")
    data_plane, where = cluster.data_plane()
    rolled_out = {
        "observedGeneration": 99,
        **dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), 1),
    }
    for name in (CONTROLLER, DATA_PLANE):  # what a controller of Kubernetes and a kubelet would say
        status = json.dumps({"status": rolled_out})
        cluster.kubectl("patch", "deployment", name, "-n", SYSTEM, "--subresource=status", "-p", status)
    with cluster.kubelet(mcp_gateway_controller=controller, mcp_gateway_broker_router=data_plane):
        reader = Shell(cluster, where, folder)
        reader.run(script("Install"))
        reader.run("kubectl apply -k manifests/samples/seed")
        cluster.server("mcp-api-key-server", "mcp-test", 9090)
        yield reader


def test_a_server_is_registered_and_served_and_a_new_key_ends_no_session(shell: Shell) -> None:
    shell.run(script("Register a server"))
    rotate, forget, replace = blocks("Rotate the signing key")
    said = shell.run("".join([script("Verify"), rotate, _SETTLE, _LIST, forget, _SETTLE, _LIST]))
    verified, *later = said.split("HTTP ")
    assert "Discovered tools" in verified
    assert '"myserver_add"' in verified
    assert [one[:3] for one in later] == ["200", "404"]  # a key that is forgotten ends what it has signed
    key = "kubectl -n mcp-system get secret mcp-gateway-session-signing-key -o jsonpath='{.data.key}'\n"
    before, *_, after = shell.run(f"{key} echo; {replace} {_SETTLE} {key}").split()
    assert len(after) == len(before)
    assert after != before


_SETTLE: Final = "sleep 3\n"
_LIST: Final = """
curl -sS -o list.json -w 'HTTP %{http_code}\\n' -H 'Content-Type: application/json' -H "Mcp-Session-Id: $SESSION_ID" \
  -d '{"jsonrpc": "2.0", "id": 3, "method": "tools/list"}' http://mcp.127-0-0-1.sslip.io:8001/mcp
"""


@pytest.mark.parametrize("title", ["Troubleshoot", "Tenants", "Several instances", "Upgrade"])
def test_the_commands_of_a_section_work_as_they_are_written(shell: Shell, title: str) -> None:
    assert shell.run(script(title))


def test_the_question_for_events_finds_those_of_the_controller(shell: Shell) -> None:
    (question,) = [line for line in script("Troubleshoot").splitlines() if line.startswith("kubectl get events")]
    assert "3 tools are served" in shell.run(question)


def test_every_command_is_in_a_section_that_is_run() -> None:
    run = {
        "Install",
        "Install with Helm",
        "Register a server",
        "Verify",
        "Troubleshoot",
        "Tenants",
        "Several instances",
    }
    run |= {"Rotate the signing key", "Upgrade", "Uninstall"}
    assert {title for title, body in SECTIONS if "```sh" in body} == run
    assert "```bash" not in TEXT


def test_after_uninstalling_nothing_is_left(shell: Shell, controller: Program) -> None:
    shell.run("kubectl delete pods --all -n mcp-system --force --grace-period=0")  # no kubelet would confirm their end
    objects, rest = blocks("Uninstall")
    shell.run(objects)
    controller.end()  # as a kubelet does when the Deployment is scaled
    assert "instance default on routes, Gateways and grants" in shell.run(rest)
    assert_nothing_is_left(shell)


@pytest.mark.helm
def test_with_helm_it_comes_and_goes_as_well(shell: Shell) -> None:
    install, upgrade, uninstall = blocks("Install with Helm")
    shell.run(install)
    assert "restricted" in shell.run("kubectl get namespace mcp-system -o jsonpath={.metadata.labels}")
    shell.run(upgrade)
    assert shell.run("kubectl get deployment -n mcp-system mcp-gateway-controller -o jsonpath={.spec.replicas}") == "2"
    shell.run(uninstall)
    shell.run("kubectl delete namespace mcp-system")
    assert_nothing_is_left(shell)


def assert_nothing_is_left(shell: Shell) -> None:
    left = shell.run("kubectl get namespaces,crd,clusterroles,clusterrolebindings -o name")
    assert "mcp-system" not in left
    assert "mcp.kagenti.com" not in left
    assert "/mcp-gateway-" not in left
