"""Tasks of other makers' servers and clients: the same directly and through the gateway."""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeAlias

import pytest
import trio

from tests.support import peers
from tests.support.gateway import running_gateway

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.timeout(90), pytest.mark.peers]

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
    async with start() as peer, running_gateway([{"name": "peer", "url": peer.url, "prefix": "peer_"}]) as where:
        told: dict[str, dict[str, Any]] = {}
        async with trio.open_nursery() as nursery:

            async def ask(name: str, url: str, tool: str) -> None:
                told[name] = await run(client(), url, tool, call[1])

            nursery.start_soon(ask, "directly", peer.url, call[0])
            nursery.start_soon(ask, "through", where.url, f"peer_{call[0]}")
    assert told["through"] == told["directly"]
    assert told["through"]["asked"] != []


@pytest.mark.node
async def test_a_task_of_a_process_is_that_of_the_same_server_over_http() -> None:
    server = {"name": "peer", "command": [str(word) for word in peers.everything_command()], "prefix": "peer_"}
    async with peers.everything_server() as peer, running_gateway([server]) as where:
        directly = await run(typescript_client(), peer.url, *RESEARCH)
        through = await run(typescript_client(), where.url, f"peer_{RESEARCH[0]}", RESEARCH[1])
    assert through == directly
