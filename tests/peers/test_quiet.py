"""Servers that close idle connections, as uvicorn does after 5 s: a pause between two calls costs neither of them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

import pytest
import trio

from tests.support import peers
from tests.support.gateway import running_gateway

pytestmark = [pytest.mark.wire, pytest.mark.slow]

PAUSES_S: Final = (4.8, 4.95, 5.0, 5.05, 5.2, 5.6)
Start: TypeAlias = Callable[[], AbstractAsyncContextManager[peers.Peer]]


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(lambda: peers.mcp1_server(), id="mcp 1, events", marks=pytest.mark.peers),
        pytest.param(lambda: peers.mcp1_server("--json"), id="mcp 1, JSON", marks=pytest.mark.peers),
        pytest.param(lambda: peers.mcp2_server(), id="mcp 2"),
    ],
)
async def test_a_pause_around_the_servers_keep_alive_costs_no_call(start: Start) -> None:
    async with start() as peer:
        servers = [{"name": f"s{number}", "url": peer.url} for number in range(len(PAUSES_S))]  # a pool each
        async with running_gateway(servers) as running, running.client2025() as client:
            await client.initialize()

            async def pause(name: str, pause_s: float) -> None:
                for _ in range(2):
                    answer = await client.call(f"{name}_add", {"a": 2, "b": 3})
                    assert answer["result"]["structuredContent"] == {"result": 5}, (name, pause_s)
                    await trio.sleep(pause_s)
                    pause_s = 0.0

            async with trio.open_nursery() as nursery:
                for number, pause_s in enumerate(PAUSES_S):
                    nursery.start_soon(pause, f"s{number}", pause_s)
            lost = b"kept_connections_lost_total{"
            assert lost not in running.metrics.render()
