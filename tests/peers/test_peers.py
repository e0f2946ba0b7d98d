"""The peers themselves: each starts, answers an independent client and is gone after its block."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import pytest
import trio
from mcp.client.client import Client
from mcp.client.sse import sse_client

from tests.support import peers

pytestmark = [pytest.mark.wire, pytest.mark.slow]

Start: TypeAlias = Callable[[], AbstractAsyncContextManager[peers.Peer]]

OURS = {"echo", "add", "slow", "journal", "ask", "sample", "roots", "logs"}


@pytest.mark.parametrize(
    "start, version",
    [
        pytest.param(lambda: peers.mcp1_server(), "2025-11-25", id="mcp1", marks=pytest.mark.peers),
        pytest.param(
            lambda: peers.mcp1_server("--stateless", "--json"),
            "2025-11-25",
            id="mcp1 without sessions",
            marks=pytest.mark.peers,
        ),
        pytest.param(lambda: peers.mcp2_server(), "2026-07-28", id="mcp2"),
        pytest.param(lambda: peers.fastmcp4_server(), "2026-07-28", id="fastmcp4", marks=pytest.mark.peers),
    ],
)
async def test_peer_serves_the_tools_that_tests_use(start: Start, version: str) -> None:
    async with start() as peer, Client(peer.url) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} >= OURS
        assert client.protocol_version == version
        result = await client.call_tool("add", {"a": 2, "b": 3})
        assert result.structured_content == {"result": 5}


Ask: TypeAlias = Callable[..., Awaitable[peers.Heard]]


@pytest.mark.parametrize(
    "ask, version",
    [
        pytest.param(peers.ts1_client, "2025-11-25", id="TypeScript 1", marks=pytest.mark.node),
        pytest.param(peers.ts2_client, "2026-07-28", id="TypeScript 2", marks=pytest.mark.node),
        pytest.param(peers.mcp1_client, "2025-11-25", id="Python 1", marks=pytest.mark.peers),
    ],
)
async def test_client_calls_and_answers_what_it_is_asked(ask: Ask, version: str) -> None:
    async with peers.mcp2_server() as peer:
        heard = await ask(peer.url, ("ask", {}), ("sample", {}), ("roots", {}), ("slow", {"seconds": 0.1, "steps": 2}))
    assert heard.version == version
    assert set(heard.tools) >= OURS
    said = [result["content"][0]["text"] for result in heard.results]
    assert said == ["accept: blue", "hello from the client", "file:///tmp", "slow done"]
    assert heard.progress[-3:] == [0, 1, 2]


@pytest.mark.node
async def test_journal_tells_of_a_call_that_its_client_cancelled() -> None:
    async with peers.mcp2_server() as peer:
        await peers.ts2_client(peer.url, ("slow", {"seconds": 30, "label": "long"}), cancel_after_ms=300)
        heard = await peers.ts2_client(peer.url, ("journal", {}))
    journal = heard.results[0]["structuredContent"]
    assert list(journal["cancelled"]) == ["long"]
    assert journal["finished"] == {}


@pytest.mark.peers
async def test_peer_speaks_the_oldest_transport() -> None:
    async with peers.mcp1_server("--sse") as peer, Client(sse_client(peer.url)) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} >= OURS


@pytest.mark.node
async def test_everything_server_listens_on_the_loopback_interface() -> None:
    async with peers.everything_server() as peer, Client(peer.url) as client:
        assert "echo" in {tool.name for tool in (await client.list_tools()).tools}


async def test_peer_is_gone_after_its_block() -> None:
    async with peers.mcp2_server() as peer:
        pass
    assert peer.process.returncode is not None
    with pytest.raises(OSError, match=r"failed|refused"):
        await trio.open_tcp_stream("127.0.0.1", peer.port)


async def test_peer_that_cannot_start_says_why() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="no such option")):
        async with peers.start("broken", ["/bin/sh", "-c", "echo no such option >&2"]):
            pass
