"""What the gateway says went wrong, as the SDKs of both makes give it to an agent: code, message and data intact."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import attrs
import orjson
import pytest
import trio
from mcp import MCPError
from mcp.client.client import Client, ConnectMode

from mcp_gateway.gateway.call.deadline import Cause
from mcp_gateway.routing.snapshot import Health
from mcp_gateway.values import BackendKey
from tests.support import peers
from tests.support.gateway import Config, Running, running_gateway
from tests.support.raw_http import RawConnection, RawRequest, result, serve_raw

pytestmark = [pytest.mark.wire, pytest.mark.slow]

Ask: TypeAlias = Callable[[str, list[str]], Awaitable[list[dict[str, Any]]]]
"""Calls tools at an address, one after the other; the error of each."""

BOUND: Final = 65536
HELLO: Final = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "scripted", "version": "1"},
}


@attrs.define(eq=False)
class Scripted:
    """A backend whose tools never end well."""

    hanging: trio.Event = attrs.field(factory=trio.Event)
    """Somebody calls ``hang``."""

    async def serve(self, connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.method != "POST":
                await connection.send_json(b"", status="405 Method Not Allowed")
            elif "id" not in request.json:
                await connection.send_json(b"", status="202 Accepted")
            else:
                await self._answer(connection, request)

    async def _answer(self, connection: RawConnection, request: RawRequest) -> None:
        match request.json["method"]:
            case "initialize":
                await connection.send_json(result(request.rpc_id, orjson.dumps(HELLO)))
            case "tools/list":
                tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("wait", "hang", "flood")]
                await connection.send_json(result(request.rpc_id, orjson.dumps({"tools": tools})))
            case "tools/call" if b'"flood"' in request.body:
                content = [{"type": "text", "text": "x" * 2 * BOUND}]
                await connection.send_json(result(request.rpc_id, orjson.dumps({"content": content})))
            case "tools/call":
                if b'"hang"' in request.body:
                    self.hanging.set()
                await connection.gone()
            case _:
                error = {"code": -32601, "message": "no such method"}
                answer = {"jsonrpc": "2.0", "id": request.rpc_id, "error": error}
                await connection.send_json(orjson.dumps(answer))


@asynccontextmanager
async def scene() -> AsyncIterator[str]:
    """A gateway in front of a backend that lives and one that has died; gives its address."""
    scripted, die = Scripted(), trio.Event()

    async def live_for_a_while(task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        async with serve_raw(scripted.serve) as dead:
            task_status.started(dead.url)
            await die.wait()

    async with serve_raw(scripted.serve) as living, trio.open_nursery() as nursery:
        health = {"interval": "100ms", "failures": 1, "graceWhenDown": "30s"}
        servers: list[Config] = [
            {"name": "live", "url": living.url, "limits": {"responseBytes": BOUND}, "timeouts": {"call": "300ms"}},
            {"name": "calm", "url": living.url, "timeouts": {"call": "30s"}},
            {"name": "dead", "url": await nursery.start(live_for_a_while), "health": health},
        ]
        async with running_gateway(servers) as running:
            die.set()
            await circuit_opens(running)
            nursery.start_soon(cancel_what_hangs, running, scripted)  # noqa: ASYNC111  # nothing hangs once that has ended
            yield running.url
        nursery.cancel_scope.cancel("test over")


async def circuit_opens(running: Running) -> None:
    """Wait until the gateway knows that the backend has died."""
    version, snapshots = running.fleet.snapshots.version, running.fleet.snapshots.value
    while snapshots[BackendKey("dead")].health is not Health.DOWN:
        version, snapshots = await running.fleet.snapshots.changed(version)


async def cancel_what_hangs(running: Running, scripted: Scripted) -> None:
    """Cancel as a client does that goes on listening."""
    await scripted.hanging.wait()
    running.gateway.calls.cut_all(Cause.MESSAGE)


EXPECTED: Final = {
    "live_nothing": (-32602, "Unknown tool: live_nothing", None),
    "live_wait": (
        -33504,
        "server 'live' did not answer: call limit of 0.3 s reached",
        {"server": "live", "reason": "backend_timeout", "executed": "unknown", "limit": "call"},
    ),
    "live_flood": (
        -33413,
        "server 'live' sent more than limits.responseBytes = 65536 bytes",
        {"server": "live", "reason": "too_large", "executed": "unknown", "limit": "limits.responseBytes"},
    ),
    "dead_wait": (-33503, "server 'dead' is down", {"server": "dead", "reason": "backend_down", "executed": "no"}),
    "calm_hang": (
        -33499,
        "call ended: cancelled by the client",
        {"server": "calm", "reason": "cancelled", "executed": "unknown"},
    ),
}


def of_second_sdk(mode: ConnectMode) -> Ask:
    async def ask(url: str, tools: list[str]) -> list[dict[str, Any]]:
        errors = []
        async with Client(url, mode=mode) as client:
            for tool in tools:
                with pytest.raises(MCPError) as caught:
                    await client.call_tool(tool, {})
                errors.append(caught.value.error.model_dump(mode="json"))
        return errors

    return ask


def of_process(run: Callable[..., Awaitable[peers.Heard]], **options: str) -> Ask:
    async def ask(url: str, tools: list[str]) -> list[dict[str, Any]]:
        heard = await run(url, *((tool, {}) for tool in tools), **options)
        return [result["error"] for result in heard.results]

    return ask


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(of_second_sdk("2026-07-28"), id="mcp 2, modern"),
        pytest.param(of_second_sdk("legacy"), id="mcp 2, legacy"),
        pytest.param(of_process(peers.mcp1_client), id="mcp 1", marks=pytest.mark.peers),
        pytest.param(of_process(peers.ts1_client), id="TypeScript 1", marks=pytest.mark.node),
        pytest.param(of_process(peers.ts2_client), id="TypeScript 2, modern", marks=pytest.mark.node),
        pytest.param(of_process(peers.ts2_client, mode="legacy"), id="TypeScript 2, legacy", marks=pytest.mark.node),
    ],
)
async def test_an_error_of_the_gateway_reaches_the_agent_whole(ask: Ask) -> None:
    async with scene() as url:
        errors = dict(zip(EXPECTED, await ask(url, list(EXPECTED)), strict=True))
    for tool, (code, message, data) in EXPECTED.items():
        got = errors[tool]
        assert got["code"] == code
        assert message in got["message"]  # the TypeScript SDK adds the code in front
        if data is None:
            assert got["data"] is None
        else:
            assert {**got["data"], **data} == got["data"]
