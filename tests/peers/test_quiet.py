"""Servers that close idle connections, as uvicorn and Node do after 5 s: a pause between two calls costs neither."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final, TypeAlias

import pytest
import trio

from tests.support import peers
from tests.support.gateway import running_gateway
from tests.support.raw_client import Client2025

pytestmark = [pytest.mark.wire, pytest.mark.slow]

PAUSES_S: Final = (4.8, 4.95, 5.0, 5.05, 5.2, 5.6)


Peers: TypeAlias = Mapping[str, AbstractAsyncContextManager[peers.Peer]]


def python() -> Peers:
    return {
        "mcp1-events": peers.mcp1_server(),
        "mcp1-json": peers.mcp1_server("--json"),
        "mcp1-sse": peers.mcp1_server("--sse"),
        "mcp2": peers.mcp2_server(),
        "fastmcp4": peers.fastmcp4_server(),
    }


def node() -> Peers:
    return {"everything": peers.everything_server(), "everything-sse": peers.everything_server("sse")}


@pytest.mark.parametrize(
    "servers, tool",
    [
        pytest.param(python, "add", id="Python", marks=pytest.mark.peers),
        pytest.param(node, "get-sum", id="Node", marks=pytest.mark.node),
    ],
)
@pytest.mark.timeout(60)
async def test_a_pause_around_the_servers_keep_alive_costs_no_call(servers: Callable[[], Peers], tool: str) -> None:
    async with AsyncExitStack() as stack:
        running_peers = {name: await stack.enter_async_context(peer) for name, peer in servers().items()}
        pauses_s = {
            f"{name}-{i}": (peer.url, pause_s)
            for name, peer in running_peers.items()
            for i, pause_s in enumerate(PAUSES_S)
        }
        entries = [{"name": name, "url": url} for name, (url, _) in pauses_s.items()]  # a pool each
        async with running_gateway(entries) as running, running.client2025() as client:
            await client.initialize()
            async with trio.open_nursery() as nursery:
                for name, (_, pause_s) in pauses_s.items():  # one by one: so an answer and its end come apart
                    await call(client, f"{name}_{tool}")
                    nursery.start_soon(call_after, pause_s, client, f"{name}_{tool}")
            assert b"kept_connections_lost_total{" not in running.metrics.render()


async def call(client: Client2025, tool: str, pause_s: float = 0.0) -> None:
    answer = await client.call(tool, {"a": 2, "b": 3})
    assert "result" in answer, (tool, pause_s, answer)


async def call_after(pause_s: float, client: Client2025, tool: str) -> None:
    await trio.sleep(pause_s)
    await call(client, tool, pause_s)
