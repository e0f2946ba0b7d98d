"""The example servers are real ones, and the demo leaves nothing behind."""

# ruff: noqa: ASYNC240  # looking into a temporary folder keeps nobody waiting

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import trio

from mcp_gateway.client import BadAnswer, Refused, open_client
from mcp_gateway.config.file import read_spec
from mcp_gateway.demo import http_server, run, stdio_server
from mcp_gateway.values import JsonObject, JsonValue

pytestmark = pytest.mark.wire

JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
INITIALIZE: JsonObject = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


@asynccontextmanager
async def calc() -> AsyncIterator[str]:
    """The HTTP server, for as long as the block lives."""
    async with trio.open_nursery() as nursery:
        url: str = await nursery.start(http_server.serve, "127.0.0.1:0")
        yield url
        nursery.cancel_scope.cancel("the test is over")


@asynccontextmanager
async def session(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client in an initialized 2025 session."""
    async with httpx2.AsyncClient(base_url=url, headers=JSON, trust_env=False) as http:
        hello = await http.post(url, json=INITIALIZE)
        assert hello.json()["result"]["protocolVersion"] == "2025-06-18"
        http.headers["Mcp-Session-Id"] = hello.headers["mcp-session-id"]
        yield http


def rpc(method: str, request_id: int | None = 2, **params: JsonValue) -> JsonObject:
    message: JsonObject = {"jsonrpc": "2.0", "method": method, "params": params}
    return message if request_id is None else {**message, "id": request_id}


# --- the HTTP server -----------------------------------------------------------------------------------------------


async def test_our_client_finds_and_calls_the_tools_of_the_http_server() -> None:
    heard: list[JsonValue] = []
    async with calc() as url, open_client(url) as client:
        assert client.era.modern
        assert client.connection.hello.server_info == {"name": "calc", "version": "1.0.0"}
        tools = await client.tools()
        assert [tool["name"] for tool in tools] == ["add", "echo", "countdown"]
        answer = await client.call("add", {"a": 1, "b": 2.5}, tools[0]["inputSchema"], lambda *_: None)
        assert (answer["structuredContent"], answer["isError"]) == ({"sum": 3.5}, False)
        arguments: JsonObject = {"from": 2, "interval_ms": 1}
        answer = await client.call("countdown", arguments, None, lambda _, params: heard.append(params["progress"]))
        assert answer["content"] == [{"type": "text", "text": "lift-off"}]
        assert heard == [0, 1]


@pytest.mark.parametrize(
    "name, arguments, text",
    [
        ("add", {"a": "1", "b": 2}, "a and b must be numbers"),
        ("add", {"a": 10**400, "b": 1.5}, "the sum is too large"),
        ("add", {"a": 1, "b": 2}, "3"),
        ("echo", {"text": "hä"}, "hä"),
        ("echo", {}, "text must be a string"),
        ("countdown", {"from": 0}, "from must be a whole number from 1 to 1000"),
        ("countdown", {"interval_ms": "x"}, "interval_ms must be a whole number from 1 to 60000"),
    ],
)
async def test_tools_say_what_is_wrong(name: str, arguments: JsonObject, text: str) -> None:
    async with calc() as url, open_client(url) as client:
        answer = await client.call(name, arguments, None, lambda *_: None)
        assert answer["content"] == [{"type": "text", "text": text}]


async def test_an_unknown_tool_and_an_unknown_method_are_errors() -> None:
    async with calc() as url, open_client(url) as client:
        with pytest.raises(Refused, match="-32602"):
            await client.call("nope", {}, None, lambda *_: None)
        for method in ("nope", "ping"):
            with pytest.raises(Refused, match="-32601"):
                await client.request(method, {})


async def test_a_2025_client_has_a_session_from_initialize_to_delete() -> None:
    async with calc() as url, session(url) as http:
        assert (await http.post(url, json=rpc("notifications/initialized", None))).status_code == 202
        assert (await http.post(url, json=rpc("ping"))).json()["result"] == {}
        assert len((await http.post(url, json=rpc("tools/list"))).json()["result"]["tools"]) == 3
        assert (await http.post(url, json=rpc("nope"))).json()["error"]["code"] == -32601
        assert (await http.get(url)).status_code == 405
        assert (await http.delete(url)).status_code == 204
        assert (await http.post(url, json=rpc("ping"))).status_code == 404
        del http.headers["Mcp-Session-Id"]
        assert (await http.post(url, json=rpc("ping"))).status_code == 400


async def test_the_oldest_session_goes_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_SESSIONS", 1)
    async with calc() as url, session(url) as first, session(url) as second:
        assert (await first.post(url, json=rpc("ping"))).status_code == 404
        assert (await second.post(url, json=rpc("ping"))).status_code == 200


@pytest.mark.parametrize("accept", ["application/json", "application/json, text/event-stream"])
async def test_a_cancelled_2025_call_ends_without_an_answer(accept: str) -> None:
    async with calc() as url, session(url) as http:
        http.headers["Accept"] = accept
        slow = rpc("tools/call", 5, name="countdown", arguments={"interval_ms": 60_000}, _meta={"progressToken": "p"})
        answers: list[httpx2.Response] = []

        async def call() -> None:
            answers.append(await http.post(url, json=slow))

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                notice = rpc("notifications/cancelled", None, requestId=5)
                while not answers:
                    assert (await http.post(url, json=notice)).status_code == 202
                    await trio.sleep(0.02)
        assert "lift-off" not in answers[0].text


async def test_a_modern_client_that_leaves_has_cancelled_and_the_server_goes_on() -> None:
    async with calc() as url:
        with trio.move_on_after(0.2):
            async with open_client(url) as client:
                await client.call("countdown", {"interval_ms": 60_000}, None, lambda *_: None)
        async with open_client(url) as client:
            assert len(await client.tools()) == 3


@pytest.mark.parametrize(
    "content, status, code",
    [
        pytest.param(b"{nope", 400, -32700, id="no JSON"),
        pytest.param(b"[]", 400, -32600, id="array"),
        pytest.param(b" " * (2**20 + 1), 413, -32600, id="too large"),
    ],
)
async def test_bad_bodies_are_refused(content: bytes, status: int, code: int) -> None:
    async with calc() as url, httpx2.AsyncClient(headers=JSON, trust_env=False) as http:
        answer = await http.post(url, content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert (await http.post(url.replace("/mcp", "/nope"), content=b"{}")).status_code == 404


@pytest.mark.parametrize(
    "version, headers, code",
    [
        pytest.param(None, {"Mcp-Method": "ping"}, -32602, id="no metadata"),
        pytest.param("2026-07-28", {"Mcp-Method": "tools/list"}, -32020, id="another method"),
        pytest.param("2026-07-28", {"Mcp-Method": "ping", "MCP-Protocol-Version": "2025-11-25"}, -32020, id="versions"),
        pytest.param("2027-01-01", {"Mcp-Method": "ping", "MCP-Protocol-Version": "2027-01-01"}, -32022, id="future"),
    ],
)
async def test_modern_requests_are_checked(version: str | None, headers: dict[str, str], code: int) -> None:
    meta: JsonObject = {"io.modelcontextprotocol/clientCapabilities": {}}
    if version is not None:
        meta["io.modelcontextprotocol/protocolVersion"] = version
    async with calc() as url, httpx2.AsyncClient(headers=JSON, trust_env=False) as http:
        given = {"MCP-Protocol-Version": "2026-07-28", **headers}
        answer = await http.post(url, json=rpc("ping", _meta=meta), headers=given)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
        notice = await http.post(url, json=rpc("notifications/x", None, _meta=meta), headers=given)
        assert notice.status_code == 202


def test_a_taken_port_is_one_line_and_exit_code_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        done = program("-m", "mcp_gateway.demo.http_server", "--bind", bind).communicate(timeout=15)
    assert done[1] == f"cannot listen on {bind}: Address already in use\n"


def program(*args: str) -> "subprocess.Popen[str]":
    """A child process of this interpreter, with pipes."""
    return subprocess.Popen(
        [sys.executable, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_http_server_runs_by_itself_and_ctrl_c_ends_it() -> None:
    server = program("-m", "mcp_gateway.demo.http_server", "--bind", "127.0.0.1:0")
    assert server.stdout is not None
    assert server.stdout.readline().startswith("listening on http://127.0.0.1:")
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=5)
    assert (server.returncode, errors) == (0, "")


# --- the stdio server ----------------------------------------------------------------------------------------------


def answers(*messages: JsonValue) -> list[JsonObject]:
    """What the stdio server writes for these lines."""
    out = io.BytesIO()
    lines = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
    stdio_server.serve(io.BytesIO(lines), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_the_stdio_server_shakes_hands_and_lists_its_tools() -> None:
    hello, older, tools, ping = answers(
        rpc("initialize", 1, protocolVersion="2030-01-01"),
        rpc("initialize", 2, protocolVersion="2024-11-05"),
        rpc("tools/list", 3),
        {"jsonrpc": "2.0", "id": "4", "method": "ping"},
    )
    assert isinstance(hello["result"], dict)
    assert hello["result"]["protocolVersion"] == "2025-11-25"
    assert isinstance(older["result"], dict)
    assert older["result"]["protocolVersion"] == "2024-11-05"
    assert isinstance(tools["result"], dict)
    assert [tool["name"] for tool in stdio_server.TOOLS] == ["now", "roll_dice"]
    assert tools["result"]["tools"] == list(stdio_server.TOOLS)
    assert ping == {"jsonrpc": "2.0", "id": "4", "result": {}}


@pytest.mark.parametrize(
    "name, arguments, text",
    [
        ("now", {}, "+00:00"),
        ("now", {"timezone": "Europe/Berlin"}, ":"),
        ("now", {"timezone": "../../etc/passwd"}, "there is no timezone"),
        ("now", {"timezone": "Europe"}, "there is no timezone"),
        ("roll_dice", {}, ""),
        ("roll_dice", {"count": 2}, " = "),
        ("roll_dice", {"sides": "6"}, "sides and count must be whole numbers"),
        ("roll_dice", {"count": 10**9}, "sides must be 2 to 1000, count 1 to 100"),
    ],
)
def test_the_stdio_tools_answer(name: str, arguments: JsonObject, text: str) -> None:
    (answer,) = answers(rpc("tools/call", 1, name=name, arguments=arguments))
    assert text in json.dumps(answer["result"])


def test_the_stdio_server_answers_each_request_once_and_nothing_else() -> None:
    found = answers(
        rpc("notifications/initialized", None),
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        5,
        rpc("server/discover", 2),
        rpc("tools/call", 3, name="nope"),
        rpc("tools/call", 4, name="now", arguments=[]),
    )
    codes = [error["code"] for answer in found if isinstance(error := answer["error"], dict)]
    assert ([answer["id"] for answer in found], codes) == ([2, 3, 4], [-32601, -32602, -32602])


def test_the_stdio_server_survives_lines_that_are_no_json_and_ends_with_its_input() -> None:
    server = program("-m", "mcp_gateway.demo.stdio_server")
    out, errors = server.communicate(f"\nnope\n{'[' * 100_000}\n{json.dumps(rpc('ping', 1))}\n", timeout=15)
    assert [json.loads(line)["id"] for line in out.splitlines()] == [None, None, 1]
    assert (server.returncode, errors) == (0, "")


# --- the demo ------------------------------------------------------------------------------------------------------


def test_the_demo_configuration_is_a_good_one() -> None:
    def no_files(path: str) -> bytes:
        raise FileNotFoundError(path)

    spec = read_spec(run.configuration("http://127.0.0.1:9001/mcp"), "demo", {}, no_files)
    assert [server.key for server in spec.servers] == ["calc", "clock"]


def test_a_taken_port_gives_the_next_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = run.free_bind(f"127.0.0.1:{port}", besides=f"127.0.0.1:{port + 1}")
        assert int(found.rpartition(":")[2]) > port + 1
    assert run.free_bind("127.0.0.1:0") == "127.0.0.1:0"
    assert run.free_bind("192.0.2.1:65535") == "192.0.2.1:65535"  # not ours: the gateway will say so


@pytest.mark.timeout(60)
async def test_the_demo_serves_both_servers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "mcp_gateway.cli", "demo", "--bind", bind, "--admin-bind", "127.0.0.1:0"]
        process = await trio.lowlevel.open_process(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
        )
        assert process.stdout is not None
        assert process.stderr is not None
        told = ""
        with trio.fail_after(30):
            while "Ctrl-C ends everything" not in told:
                chunk = await process.stdout.receive_some()
                assert chunk, (await process.stderr.receive_some()).decode()
                told += chunk.decode()
    url = next(line.split()[1] for line in told.splitlines() if line.strip().startswith("MCP "))
    assert f"curl -s {url}" in told
    assert list(tmp_path.glob("mcp-gateway-demo-*/gateway.yaml"))
    async with open_client(url) as client:
        assert [tool["name"] for tool in await client.tools()] == [
            "calc_add",
            "calc_echo",
            "calc_countdown",
            "clock_now",
            "clock_roll_dice",
        ]
        answer = await client.call("clock_now", {}, None, lambda *_: None)
        assert not answer.get("isError")
    process.send_signal(signal.SIGINT)
    with trio.fail_after(2):
        assert await process.wait() == 0
    errors = b"".join([chunk async for chunk in process.stderr])
    assert errors.decode().splitlines()[0].startswith(f"{bind} is taken, using 127.0.0.1:")
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Exception, match="cannot reach"):
        async with open_client(url):
            pytest.fail("it still listens")


async def test_the_first_command_waits_for_the_first_discovery_but_not_for_a_gateway_that_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    with trio.fail_after(2):
        await run.until_ready(url)


async def test_a_server_that_is_no_mcp_server_is_told_apart() -> None:
    async with calc() as url:
        with pytest.raises(BadAnswer, match="does not speak MCP"):
            async with open_client(url.replace("/mcp", "/nope")):
                pytest.fail("it spoke MCP")
