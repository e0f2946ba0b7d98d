"""The command line: what it prints, how it exits, and what it does not load."""

import importlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import pytest
import trio
from click.testing import CliRunner, Result

from mcp_gateway import __version__, cli
from mcp_gateway.cli import main, user_errors
from mcp_gateway.demo.run import until_ready
from mcp_gateway.errors import ConfigError, ConfigMistake
from mcp_gateway.front.server import BindError
from mcp_gateway.values import JsonObject


def run(*args: str) -> Result:
    """Run a command in this process; a traceback of ours fails the test."""
    result = CliRunner().invoke(main, args)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def calc() -> Iterator[str]:
    """The URL of the example server, in a process of its own."""
    command = [sys.executable, "-m", "mcp_gateway.demo.http_server", "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.send_signal(signal.SIGINT)


# --- help and usage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["serve"], ["check"], ["demo"], ["tools"], ["call"], ["status"]])
def test_help_tells_the_exit_codes(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    for code in ("0  it worked", "1  the operation failed", "2  bad usage or configuration", "3  an address cannot be"):
        assert code in result.stdout


def test_the_version_is_the_package_s() -> None:
    assert run("--version").stdout == f"mcp-gateway, version {__version__}\n"


@pytest.mark.parametrize(
    "args, what",
    [
        pytest.param(["serve"], "give either --config FILE or --kubernetes", id="no config"),
        pytest.param(["serve", "--config", "x", "--bind", "8080"], "is not HOST:PORT", id="no host"),
        pytest.param(["serve", "--config", "x", "--bind", "a:99999"], "is not HOST:PORT", id="port too large"),
        pytest.param(
            ["serve", "--config", "x", "--admin-bind", "::1:80"], "is not HOST:PORT", id="IPv6 without brackets"
        ),
        pytest.param(["serve", "--config", "x", "--log-level", "loud"], "'loud' is not one of", id="log level"),
        pytest.param(["call", "http://a", "x", "--arg", "novalue"], "'novalue' is not name=value", id="argument"),
        pytest.param(["call", "http://a", "x", "--json", "{nope"], "--json: not valid JSON", id="no JSON"),
        pytest.param(["call", "http://a", "x", "--json", "[]"], "--json: must be a JSON object", id="array"),
        pytest.param(["tools", "http://a", "--timeout", "5"], "is not a duration", id="duration"),
        pytest.param(["tools", "http://a", "--timeout", "0s"], "is not a duration", id="no time at all"),
        pytest.param(["tools", "http://a", "--header", "nope"], "a header is 'Name: value'", id="header"),
        pytest.param(["tools", "http://a", "--header", "a: b\nc: d"], "a header is 'Name: value'", id="two lines"),
        pytest.param(["nope"], "No such command 'nope'", id="command"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(args: list[str], what: str) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert what in result.stderr.splitlines()[-1]


# --- check ---------------------------------------------------------------------------------------------------------


def test_check_shows_the_servers_of_a_good_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "servers:\n"
        "  - {name: time, url: 'http://127.0.0.1:9001/mcp?key=hunter2'}\n"
        "  - {name: files, command: [uvx, files], state: disabled, prefix: ''}\n"
    )
    result = run("check", str(file))
    assert result.exit_code == 0
    *table, summary = result.stdout.splitlines()
    assert [line.split() for line in table] == [
        ["SERVER", "PREFIX", "TARGET"],
        ["time", "time_", "http://127.0.0.1:9001/mcp"],
        ["files", "uvx", "(disabled)"],
    ]
    assert summary == f"{file}: OK, 2 servers"


def test_check_says_what_it_ignores(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"mcpServers": {"a": {"command": "x",\n"timeout": 60}}}')
    result = run("check", str(file))
    assert result.exit_code == 0
    *_, note, summary = result.stdout.splitlines()
    assert note.startswith(f"{file}: line 2: mcpServers.a.timeout: is ignored: nothing says whether it means seconds")
    assert summary == f"{file}: OK, 1 server"


def test_check_prints_every_mistake_at_once(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("servers:\n  - {name: a}\n  - {name: b, url: 'ftp://b'}\nauth: {}\n")
    result = run("check", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.partition(": must")[0] for line in result.stderr.splitlines()] == [
        f"{file}: line 2: servers[0]: needs either url or command",
        f"{file}: line 3: servers[1].url",
        f"{file}: line 4: auth: auth is reserved; this version has no authorization of clients yet",
    ]


@pytest.mark.parametrize("command", [["check"], ["serve", "--config"]])
def test_a_missing_file_is_one_line(tmp_path: Path, command: list[str]) -> None:
    missing = tmp_path / "nope.yaml"
    result = run(*command, str(missing))
    assert result.exit_code == 2
    assert result.stderr == f"{missing}: (top level): cannot read the file: No such file or directory\n"


# --- serve ---------------------------------------------------------------------------------------------------------


def test_serve_refuses_a_taken_port_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("servers: []")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("serve", "--config", str(file), "--bind", bind, "--admin-bind", "127.0.0.1:0")
    assert result.exit_code == 3
    assert result.stderr == f"cannot listen on {bind}: the address is in use\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.wire
def test_serve_runs_until_it_is_told_to_stop(tmp_path: Path, calc: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"servers: [{{name: calc, url: '{calc}'}}]\ndrain: {{grace: 1s}}\n")
    bind, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    options = ["--config", str(file), "--bind", bind, "--admin-bind", admin, "--log-format", "json"]
    command = [sys.executable, "-m", "mcp_gateway.cli", "serve", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "Discovered tools" not in (line := process.stderr.readline()):
            assert line, "it ended"
        trio.run(until_ready, f"http://{bind}")  # what was discovered is routed a moment later
        answer = run(
            "call", f"http://{bind}/mcp", "calc_add", "--arg", "a=1", "--arg", "b=2", "--header", "X-Team: red"
        )
        assert (answer.exit_code, answer.stdout, answer.stderr) == (0, "3\n", "")
        status = run("status", f"http://{admin}")
        assert status.stdout.splitlines()[1].split()[:4] == ["calc", "ready", "2026-07-28", "3"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=5)
        assert process.returncode == 0


def test_errors_in_groups_are_told_once_each_with_the_gravest_code() -> None:
    mistake = ConfigError(source="x.yaml", mistakes=(ConfigMistake(path="a", line=1, what="unknown key"),))
    taken = BindError(address="127.0.0.1:1", why="the address is in use")
    with pytest.raises(click.ClickException) as failed, user_errors():
        raise ExceptionGroup("outer", [mistake, ExceptionGroup("inner", [taken, mistake])])
    assert failed.value.exit_code == 3
    assert failed.value.message.splitlines() == [str(mistake), str(taken)]


def test_an_interrupt_in_a_group_is_an_exit_and_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(click.exceptions.Exit) as left, user_errors():
        raise BaseExceptionGroup("", [KeyboardInterrupt()])
    assert left.value.exit_code == 130
    with pytest.raises(BaseExceptionGroup), user_errors():
        raise BaseExceptionGroup("", [KeyboardInterrupt(), TypeError("a bug")])


def test_the_gateway_and_the_command_line_load_nothing_optional() -> None:
    code = """\
import sys, mcp_gateway.cli as cli
early = {name for name in ("httpx2", "quart", "hypercorn", "rich.table") if name in sys.modules}
cli.optional("app")
heavy = ("kubernetes", "coredis", "redis", "cryptography", "opentelemetry")
late = {name for name in sys.modules if name.partition(".")[0] in heavy}
sys.exit(f"loaded {early | late}" if early | late else 0)
"""
    done = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert done.communicate(timeout=15)[1] == ""
    assert done.returncode == 0


# --- the client ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["tools"], ["call", "add"], ["status"]])
def test_a_refused_connection_is_one_line_and_exit_code_3(nobody: str, command: list[str]) -> None:
    name, *rest = command
    result = run(name, f"http://{nobody}/mcp", *rest)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"cannot reach http://{nobody}/mcp")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["tools", "status"])
@pytest.mark.parametrize("url", ["127.0.0.1:1/mcp", "ftp://a/", "http://[::1", "http://a:99999", ""])
def test_a_bad_url_is_one_line_and_exit_code_3(command: str, url: str) -> None:
    result = run(command, url)
    assert (result.exit_code, len(result.stderr.splitlines())) == (3, 1)


@pytest.mark.wire
def test_tools_prints_a_table_or_json(calc: str) -> None:
    table = run("tools", calc)
    assert table.exit_code == 0
    assert [line.split()[:2] for line in table.stdout.splitlines()[:3]] == [
        ["TOOL", "ARGUMENTS"],
        ["add", "a*"],
        ["echo", "text*"],
    ]
    tools = json.loads(run("tools", calc, "--output", "json").stdout)
    assert [tool["name"] for tool in tools] == ["add", "echo", "countdown"]


@pytest.mark.wire
@pytest.mark.parametrize(
    "args, stdout",
    [
        pytest.param(["add", "--arg", "a=1", "--arg", "b=2.5"], "3.5\n", id="numbers from the schema"),
        pytest.param(["add", "--json", '{"a": 1, "b": 1}', "--arg", "b=2"], "3\n", id="an argument wins over JSON"),
        pytest.param(["echo", "--arg", "text=5"], "5\n", id="text from the schema"),
        pytest.param(["echo", "--arg", "text=a=b"], "a=b\n", id="the first = counts"),
        pytest.param(["countdown", "--json", '{"from": 1, "interval_ms": 1}'], "lift-off\n", id="JSON"),
    ],
)
def test_call_prints_the_result(calc: str, args: list[str], stdout: str) -> None:
    result = run("call", calc, *args)
    assert (result.exit_code, result.stdout) == (0, stdout)


@pytest.mark.wire
def test_call_prints_progress_beside_the_result(calc: str) -> None:
    args = ["--json", '{"from": 2, "interval_ms": 1}', "--output", "json"]
    result = run("call", calc, "countdown", *args)
    assert json.loads(result.stdout)["content"] == [{"type": "text", "text": "lift-off"}]
    assert result.stderr == "0/2 2\n1/2 1\n"


@pytest.mark.wire
@pytest.mark.parametrize(
    "args, code, stderr",
    [
        pytest.param(["echo"], 1, "the tool failed\n", id="tool error"),
        pytest.param(["echo", "--arg", "other={nope"], 1, "the tool failed\n", id="no schema, no JSON: text"),
        pytest.param(
            ["nope"], 1, "the server answered error -32602: unknown tool or bad arguments\n", id="unknown tool"
        ),
    ],
)
def test_a_failed_call_is_exit_code_1(calc: str, args: list[str], code: int, stderr: str) -> None:
    result = run("call", calc, *args)
    assert (result.exit_code, result.stderr) == (code, stderr)


@pytest.mark.wire
def test_a_call_that_takes_too_long_is_given_up(calc: str) -> None:
    result = run("call", calc, "countdown", "--timeout", "300ms")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1] == f"cannot reach {calc}: no answer within 0.3 s"


@pytest.mark.wire
def test_ctrl_c_during_a_call_ends_it_quietly(calc: str) -> None:
    command = [sys.executable, "-m", "mcp_gateway.cli", "call", calc, "countdown"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "0/5 5\n"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=5)
    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr


# --- status --------------------------------------------------------------------------------------------------------


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that gives one answer to every GET."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            found = self.path == "/status"
            self.send_response(status if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        log_message: Callable[..., None] = staticmethod(lambda *_: None)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


STATUS: JsonObject = {
    "ready": False,
    "why": "first discovery is not done",
    "configuration": {
        "error": "x.yaml: line 1: a: unknown key",
        "restart_needed": ["sessions.store"],
        "notes": ["line 2: a\x07"],
    },
    "servers": [
        {
            "name": "time",
            "state": "ready",
            "protocol": "2026-07-28",
            "counts": {"tools": 3, "prompts": 0, "resources": 1},
            "last_error": None,
        },
        {
            "name": "files",
            "state": "down",
            "protocol": None,
            "last_error": {"message": "refused\x1b[31m", "at_unix_s": 1},
        },
        {"name": "slow", "state": "starting", "last_error": None, "stderr": "Downloading\x07 numpy"},
        "nonsense",
    ],
}


@pytest.mark.wire
def test_status_prints_a_table_and_what_needs_a_person() -> None:
    with answering(200, json.dumps(STATUS).encode()) as url:
        result = run("status", f"{url}/")
        assert json.loads(run("status", url, "--output", "json").stdout) == STATUS
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["SERVER", "STATE", "PROTOCOL", "TOOLS", "PROMPTS", "RESOURCES", "LAST", "ERROR"],
        ["time", "ready", "2026-07-28", "3", "0", "1"],
        ["files", "down", "refused\N{REPLACEMENT CHARACTER}[31m"],
        ["slow", "starting", "Downloading\N{REPLACEMENT CHARACTER}", "numpy"],
    ]
    assert result.stderr.splitlines() == [
        "not ready: first discovery is not done",
        "the configuration file is refused:",
        "x.yaml: line 1: a: unknown key",
        "waiting for a restart: sessions.store",
        "line 2: a\N{REPLACEMENT CHARACTER}",
    ]


@pytest.mark.wire
@pytest.mark.parametrize(
    "status, body", [(404, b"{}"), (200, b"<html>"), (200, b"[]"), (200, b'{"servers": {}}')], ids=str
)
def test_status_of_something_else(status: int, body: bytes) -> None:
    with answering(status, body) as url:
        result = run("status", url)
    if body.startswith(b'{"'):
        assert (result.exit_code, result.stderr) == (0, "")
    else:
        assert result.exit_code == 1
        assert result.stderr == f"{url}/status is no gateway's status (HTTP {status})\n"


@pytest.mark.parametrize(
    "namespace", [pytest.param("kubernetes", id="the package"), pytest.param("yaml", id="another")]
)
def test_a_missing_package_of_an_extra_is_named(monkeypatch: pytest.MonkeyPatch, namespace: str) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(name=f"{namespace}.client")

    monkeypatch.setattr(importlib, "import_module", missing)
    if namespace == "kubernetes":
        with pytest.raises(cli.BadConfiguration, match=r"pip install 'mcp-gateway\[kube\]'"):
            cli.optional("controller")
    else:
        with pytest.raises(ModuleNotFoundError):
            cli.optional("controller")


def test_a_controller_without_a_cluster_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    result = CliRunner().invoke(cli.main, ["controller", "--admin-bind", "127.0.0.1:0"])
    assert result.exit_code == 2
    assert "set KUBECONFIG" in result.stderr
