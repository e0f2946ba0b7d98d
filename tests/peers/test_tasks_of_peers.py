"""Tasks of other makers' servers and clients: the same directly and through the gateway."""

import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, TypeAlias

import mcp_types as types
import pytest
import trio
from mcp.client.client import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim

from tests.support import peers
from tests.support.gateway import running_gateway

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.timeout(180)]

Start: TypeAlias = Callable[[], AbstractAsyncContextManager[peers.Peer]]

RESEARCH: Final = ("simulate-research-query", {"topic": "python", "ambiguous": True})
PAINT: Final = ("paint", {"ask": True})


async def run(command: peers.Command, url: str, tool: str, given: object) -> dict[str, Any]:
    words = [str(word) for word in (*command, url, tool, json.dumps(given))]
    done = await trio.run_process(words, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def python_client() -> peers.Command:
    return [peers.python_of("mcp1"), peers.CLIENTS / "mcp1_tasks.py"]


def typescript_client() -> peers.Command:
    return [peers.node(), peers.CLIENTS / "ts_tasks.cjs"]


@pytest.mark.peers
@pytest.mark.node
@pytest.mark.parametrize("client", [python_client, typescript_client], ids=["Python", "TypeScript"])
@pytest.mark.parametrize(
    "start, call",
    [
        pytest.param(peers.everything_server, RESEARCH, id="server-everything"),
        pytest.param(peers.mcp1_tasks_server, PAINT, id="mcp1"),
    ],
)
async def test_a_task_is_the_same_directly_and_through_the_gateway(
    client: Callable[[], peers.Command], start: Start, call: tuple[str, object]
) -> None:
    # One after the other, and without a survey: all sessions of mcp 1.30 share what runs its tasks, and the end of
    # any one of them stops it.
    server = {"name": "peer", "prefix": "peer_", "survey": "off"}
    told: dict[str, dict[str, Any]] = {}
    async with start() as peer:
        told["directly"] = await run(client(), peer.url, *call)
        async with running_gateway([{**server, "url": peer.url}]) as where:
            told["through"] = await run(client(), where.url, f"peer_{call[0]}", call[1])
    assert told["through"] == told["directly"]
    assert told["through"]["asked"] != []


@pytest.mark.node
@pytest.mark.parametrize("transport", ["stdio", "sse"])
async def test_a_task_over_a_pipe_is_that_of_the_same_server_over_http(transport: str) -> None:
    async with peers.everything_server() as peer, peers.everything_server("sse") as older:
        directly = await run(typescript_client(), peer.url, *RESEARCH)
        command = [str(word) for word in peers.everything_command()]
        server = {"command": command} if transport == "stdio" else {"url": older.url}
        async with running_gateway([{"name": "peer", "prefix": "peer_", **server}]) as where:
            through = await run(typescript_client(), where.url, f"peer_{RESEARCH[0]}", RESEARCH[1])
    assert through == directly


@pytest.mark.peers
@pytest.mark.parametrize("flags, knows", [(["--own-ids"], True), ([], False)], ids=["by its id", "by the session"])
async def test_after_a_restart_of_the_gateway_a_server_knows_a_task_by_its_id_alone(
    flags: list[str], knows: bool
) -> None:
    async with peers.mcp1_tasks_server(*flags) as peer:
        server = {"name": "peer", "prefix": "peer_", "url": peer.url}
        async with running_gateway([server]) as where, where.client2025() as client:
            await client.initialize()
            begun = await client.ask("tools/call", name="peer_paint", arguments={}, task={"ttl": 60_000})
            assert "task" in begun.get("result", {}), begun
            headers = dict(client.headers)
        async with running_gateway([server]) as where, where.client2025() as client:
            client.headers |= headers
            found = await client.ask("tasks/get", taskId=begun["result"]["task"]["taskId"])
    assert found.get("error", {}).get("code") == (None if knows else -32602)


@pytest.mark.node
async def test_waiting_for_a_result_over_http_takes_no_place_from_calls() -> None:
    limits = {"concurrency": 1}
    async with (
        peers.everything_server() as peer,
        running_gateway([{"name": "peer", "prefix": "", "url": peer.url, "limits": limits}]) as where,
        where.client2025() as client,
        where.client2025() as other,
    ):
        await client.initialize(elicitation={})
        await other.initialize()
        begun = await client.ask("tools/call", name=RESEARCH[0], arguments=RESEARCH[1], task={"ttl": 60_000})
        waiting = await client.start("tasks/result", taskId=begun["result"]["task"]["taskId"])
        asked = await waiting.next()  # and nobody answers
        assert asked is not None
        assert asked["method"] == "elicitation/create"
        echoed = await other.call("echo", {"message": "hello"})
        assert "hello" in str(echoed["result"])


# --- the extension of 2026-07-28 -------------------------------------------------------------------------------------

SCENARIOS: Final = (
    *("lifecycle", "capability-negotiation", "wire-fields", "request-state-removal", "mrtr-input"),
    *("request-headers", "dispatch-and-envelope", "required-task-error", "mrtr-composition"),
)
"""Of the conformance suite. Directly the server fails a check of ``request-headers``: the SDK compares no ``Mcp-Name``
of an extension's methods."""
_VERDICT: Final = re.compile(r"^Passed: (\d+)/(\d+), (\d+) failed", re.MULTILINE)


@pytest.mark.node
async def test_the_conformance_suites_scenarios_of_the_extension_pass_through_the_gateway() -> None:
    suite = peers.npm_package("@modelcontextprotocol/conformance") / "dist" / "index.js"
    failed: dict[str, str] = {}

    async def run(url: str, name: str, places: trio.CapacityLimiter) -> None:
        async with places:
            words = [peers.node(), suite, "server", "--url", url, "--scenario", f"tasks-{name}"]
            done = await trio.run_process([str(word) for word in words], capture_stdout=True, check=False)
        verdict = _VERDICT.search(done.stdout.decode(errors="replace"))
        if verdict is None or verdict[3] != "0" or verdict[1] != verdict[2] or verdict[1] == "0":
            failed[name] = done.stdout.decode(errors="replace")

    async with (
        peers.mcp2_tasks_server() as peer,
        running_gateway([{"name": "peer", "url": peer.url, "prefix": ""}]) as where,
    ):
        places = trio.CapacityLimiter(2)
        async with trio.open_nursery() as nursery:
            for name in SCENARIOS:
                nursery.start_soon(run, where.url, name, places)
    assert failed == {}


class CreatedTask(types.Result):
    """What a call answers instead of its result."""

    result_type: Literal["task"] = "task"
    task_id: str


class ShownTask(types.Result):
    """What ``tasks/get`` answers."""

    task_id: str
    status: str
    result: dict[str, Any] | None = None
    input_requests: dict[str, Any] | None = None


class About(types.RequestParams):
    task_id: str
    input_responses: dict[str, Any] | None = None


class GetTask(types.Request[About, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: About
    name_param = "taskId"


class UpdateTask(types.Request[About, Literal["tasks/update"]]):
    method: Literal["tasks/update"] = "tasks/update"
    params: About
    name_param = "taskId"


class Polling(ClientExtension):
    """The extension as a user of the SDK would write it: a call that became a task is polled to its end."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.seen: list[str] = []

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return (ResultClaim(result_type="task", model=CreatedTask, resolve=self.resolve),)

    async def resolve(self, created: CreatedTask, context: ClaimContext) -> types.CallToolResult:
        while True:
            about = About(task_id=created.task_id)
            shown = await context.session.send_request(GetTask(params=about), ShownTask)
            assert shown.task_id == created.task_id
            if shown.status not in self.seen:
                self.seen.append(shown.status)
            if shown.status == "input_required":
                self.asked += list(shown.input_requests or {})
                answers = {key: {"action": "accept", "content": {"value": key}} for key in shown.input_requests or {}}
                told = About(task_id=created.task_id, input_responses=answers)
                await context.session.send_request(UpdateTask(params=told), types.EmptyResult)
            elif shown.result is not None:
                return types.CallToolResult.model_validate(shown.result)
            await trio.sleep(0.05)


async def polled(url: str, prefix: str = "") -> tuple[Any, ...]:
    extension = Polling()
    async with Client(url, mode="2026-07-28", extensions=[extension]) as client:
        slow = await client.call_tool(f"{prefix}slow_compute", {"seconds": 0.5, "label": "x"})
        many = await client.call_tool(f"{prefix}multi_input", {})
        now = await client.call_tool(f"{prefix}greet", {"name": "you"})
    texts = [one.content[0].text for one in (slow, many, now) if isinstance(one.content[0], types.TextContent)]
    return texts, extension.asked, extension.seen


async def test_the_sdks_client_resolves_tasks_the_same_directly_and_through_the_gateway() -> None:
    server = {"name": "peer", "prefix": "peer_"}
    async with peers.mcp2_tasks_server() as peer, running_gateway([{**server, "url": peer.url}]) as where:
        directly = await polled(peer.url)
        assert await polled(where.url, "peer_") == directly
    assert directly[0][0] == "computed x"
    assert directly[1] == ["first", "second"]
    assert set(directly[2]) == {"working", "input_required", "completed"}
