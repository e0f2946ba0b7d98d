"""Servers whose tools ask in one way only: each client gets through the gateway what it gets directly.

The clients can be asked everything, unless it is said. What is compared is the answers and what the client was asked.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio
from mcp.client.client import ConnectMode

from tests.support import peers
from tests.support.gateway import running_gateway
from tests.support.script import Played, Step, play, play_mcp1

pytestmark = [
    pytest.mark.wire,
    pytest.mark.slow,
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

TOOLS: Final = ("push_elicitation", "push_sampling", "push_roots", "return_elicitation", "count", "count")
STEPS: Final[tuple[Step, ...]] = tuple(["call", name, {}] for name in TOOLS)
MAKERS: Final = (pytest.param((), id="Python SDK"), pytest.param(("--fastmcp",), id="FastMCP"))


@asynccontextmanager
async def through(url: str) -> AsyncIterator[str]:
    server = {"name": "peer", "url": url, "prefix": ""}
    async with running_gateway([server]) as where:
        yield where.url


@asynccontextmanager
async def in_front_of_a_process(*flags: str) -> AsyncIterator[str]:
    command = [str(word) for word in peers.one_way_command("--stdio", *flags)]
    slowly = {"connect": "30s"}  # a busy machine: who is not there by then is not waited for
    environment = {"PYTHONPATH": str(peers.SERVERS)}
    server = {"name": "peer", "command": command, "prefix": "", "env": environment, "timeouts": slowly}
    async with running_gateway([server]) as where:
        yield where.url


async def played(url: str, client: str) -> Played:
    if client == "mcp1":
        return (await play_mcp1([(url, STEPS)]))[0]
    mode: ConnectMode = "legacy" if client == "legacy" else "2026-07-28"
    return await play(url, STEPS, mode)


def texts(found: Played) -> list[str | None]:
    """What each tool said, and None where it failed."""

    def text(result: dict[str, Any]) -> str | None:
        failed = "error" in result or result.get("isError")
        return None if failed else str(result["content"][0]["text"])

    return [text(result) for result in found["results"]]


def asked(found: Played) -> dict[str, int]:
    return {kind: len(found["heard"].get(kind, ())) for kind in ("elicitation", "sampling", "roots")}


PUSHED: Final = ["accept: blue", "hello from the client", "file:///tmp", None, "1", "2"]
RETURNED: Final = [None, None, None, "accept: blue", "1", "1"]


@pytest.mark.parametrize("flags", MAKERS)
async def test_each_client_is_asked_as_directly(flags: tuple[str, ...]) -> None:
    async with peers.one_way_server(*flags) as peer, through(peer.url) as url:
        for client in ("legacy", "mcp1", "modern"):
            directly, found = await played(peer.url, client), await played(url, client)
            assert texts(found) == texts(directly) == (RETURNED if client == "modern" else PUSHED), client
            assert asked(found) == asked(directly), client


@pytest.mark.parametrize("flags", MAKERS)
async def test_without_session_ids_a_2025_client_is_asked_what_is_returned(flags: tuple[str, ...]) -> None:
    """Directly it cannot be asked anything there; bridged it can."""
    async with peers.one_way_server("--stateless", *flags) as peer, through(peer.url) as url:
        assert texts(await played(peer.url, "legacy"))[:4] == [None, None, None, None]
        for client in ("legacy", "modern"):
            found = await played(url, client)
            assert texts(found)[:4] == RETURNED[:4], client
            assert asked(found) == {"elicitation": 1, "sampling": 0, "roots": 0}, client


@pytest.mark.parametrize("flags", MAKERS)
async def test_a_process_of_its_own_asks_its_2025_client(flags: tuple[str, ...]) -> None:
    async with in_front_of_a_process(*flags) as url:
        assert texts(await played(url, "legacy")) == PUSHED
        assert texts(await played(url, "modern"))[:4] == RETURNED[:4]


@pytest.mark.parametrize("first", [True, False], ids=["mcp 1.30", "mcp 2.3"])
async def test_a_client_that_cannot_be_asked_is_refused_for_at_once(first: bool) -> None:
    """The question comes on the session's own stream, where nobody answered it before the call's deadline."""
    async with peers.mcp1_server() if first else peers.one_way_server() as peer:
        server = {"name": "peer", "url": peer.url, "prefix": "", "protocol": "2025-11-25"}
        async with running_gateway([server]) as where, where.client2026() as client:
            with trio.fail_after(5):  # of the 60 s that a call may take
                answer = await client.call("roots" if first else "push_roots")
            assert "error" in answer or answer["result"]["isError"] is True
