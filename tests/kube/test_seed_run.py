"""The procedure for registering a server, command by command as it is written, on a cluster with our manifests."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from mcp_gateway.cli import main
from tests.support.kube.installation import ROOT, Installation, Program
from tests.support.kube.shell import HOST, Shell

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.covering, pytest.mark.timeout(180)]

PROCEDURE: Final = (ROOT / "tests" / "kube" / "seed" / "procedure.txt").read_text()
AT_ONCE_S: Final = 10.0
"""What takes well below two seconds on an idle machine."""


def commands(text: str) -> list[str]:
    """Every command of the procedure, with its here-document or its continued lines."""
    found: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if not re.match(r"(kubectl|curl|SESSION_ID=|echo|rm) ?", line):
            continue
        command = [line]
        if "<<EOF" in line:
            for more in lines:
                command.append(more)
                if more == "EOF":
                    break
        while command[-1].endswith("\\"):
            command.append(next(lines))
        found.append("\n".join(command))
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Installation]:
    with Installation() as made:
        made.kubectl("apply", "--server-side", "--validate=strict", "-k", str(ROOT / "manifests/samples/seed"))
        yield made


@pytest.fixture(scope="module")
def programs(cluster: Installation) -> Iterator[tuple[Program, str]]:
    controller = cluster.controller()
    data_plane, where = cluster.data_plane()
    cluster.server("mcp-api-key-server", "mcp-test", 9090)
    with cluster.kubelet(mcp_gateway_controller=controller, mcp_gateway_broker_router=data_plane):
        yield data_plane, where
    # In good order: what is killed cannot say which of its lines have run.
    controller.end()
    data_plane.end()


def test_every_command_of_the_procedure_is_found() -> None:
    kinds = [command.split()[0] for command in commands(PROCEDURE)]
    assert kinds[:6] == ["kubectl"] * 6
    assert [command.split()[1] for command in commands(PROCEDURE)[:5]] == ["apply", "wait", "apply", "apply", "apply"]
    assert len(kinds) == 13


def test_the_procedure_works_as_it_is_written(cluster: Installation, programs: tuple[Program, str]) -> None:
    shell = Shell(cluster, programs[1])
    extension, wait, grant, route, registration, listed, controller_log, broker_log, *curl = commands(PROCEDURE)
    shell.run(extension)
    waiting = shell.begin(wait)  # the text has the wait before the grant that it waits for
    _until(lambda: _ready(cluster, "mcpge/mcp-extension")[1] == "ReferenceGrantRequired")
    status, _, message = _ready(cluster, "mcpge/mcp-extension")
    assert status == "False"
    assert "ReferenceGrant" in message
    assert "gateway-system" in message
    assert waiting.poll() is None
    granted_at = time.monotonic()
    shell.run(grant)
    assert waiting.wait(AT_ONCE_S) == 0
    assert time.monotonic() - granted_at < AT_ONCE_S
    shell.run(route)
    shell.run(registration)
    _until(lambda: _ready(cluster, "mcpsr/my-mcp-server")[0] == "True")
    row = next(line.split() for line in shell.run(listed).splitlines() if "my-mcp-server" in line)
    assert row[:7] == ["mcp-test", "my-mcp-server", "myserver_", "mcp-api-key-server-route", "/mcp", "True", "3"]
    assert "controller started" in shell.run(controller_log)
    assert "server=mcp-test/my-mcp-server tools=3" in shell.run(broker_log)
    said = shell.run("\n".join(curl))
    assert '"protocolVersion":"2025-06-18"' in said
    assert "MCP Session ID: 1." in said
    assert '"name": "myserver_add"' in said


def test_a_registered_tool_can_be_called(cluster: Installation, programs: tuple[Program, str]) -> None:
    answer = cluster.ask(
        programs[1],
        f"{HOST}:8001",
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {
                "name": "myserver_add",
                "arguments": {"a": 2, "b": 3},
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            },
        },
        **{"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "myserver_add"},
    )
    assert '"sum": 5' in str(answer).replace("'", '"')


def test_what_was_compiled_can_be_looked_at(cluster: Installation, programs: tuple[Program, str]) -> None:
    done = CliRunner().invoke(main, ["config", "show"], env={"KUBECONFIG": cluster.api.kubeconfig})
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert [server["name"] for server in shown["servers"]] == ["mcp-test/my-mcp-server"]
    assert shown["sessions"] == {"signingKeys": ["[hidden]"]}


def test_the_log_of_neither_program_has_a_secret(cluster: Installation, programs: tuple[Program, str]) -> None:
    """Invariant 3."""
    key = cluster.kubectl(
        *("get", "secret", "mcp-gateway-session-signing-key", "-n", "mcp-system", "-o", "jsonpath={.data.key}")
    )
    assert len(key) >= 43
    for log in Path(cluster.home).glob("*.log"):
        assert key not in log.read_text(errors="replace")


def _ready(cluster: Installation, what: str) -> tuple[str, str, str]:
    """Status, reason and message of Ready."""
    path = "{range .status.conditions[?(@.type=='Ready')]}{.status}|{.reason}|{.message}{end}"
    said = cluster.kubectl("get", what, "-n", "mcp-test", "-o", f"jsonpath={path}")
    status, _, rest = said.partition("|")
    reason, _, message = rest.partition("|")
    return status, reason, message


def _until(true: "object") -> None:
    assert callable(true)
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)  # noqa: TID251  # outside of any loop
