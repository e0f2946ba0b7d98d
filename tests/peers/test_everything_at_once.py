"""Servers of every make and transport behind one gateway at once, used by clients of both eras at the same time."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from mcp.client.client import Client, ConnectMode
from mcp.client.sse import sse_client

from mcp_gateway.values import BackendKey
from tests.support import peers
from tests.support.gateway import Config, Running, running_gateway

pytestmark = [
    pytest.mark.wire,
    pytest.mark.slow,
    pytest.mark.peers,
    pytest.mark.node,
    pytest.mark.timeout(60),  # seven servers start on two cores
]

TIME: Final = {"get_current_time", "convert_time"}
GIT: Final = {
    "git_status", "git_diff_unstaged", "git_diff_staged", "git_diff", "git_commit", "git_add", "git_reset", "git_log",
    "git_create_branch", "git_checkout", "git_show", "git_branch",
}  # fmt: skip
NOON: Final = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
ASKING: Final = {
    "get-roots-list", "trigger-elicitation-request", "trigger-sampling-request", "trigger-url-elicitation",
}  # fmt: skip
"""Of server-everything, for clients that can be asked things."""
SUM: Final = {"a": 2, "b": 3}
STRUCTURED: Final = {"content": [{"type": "text", "text": "5"}], "structuredContent": {"result": 5}}


@attrs.frozen(kw_only=True)
class Stage:
    """A gateway with everything behind it."""

    running: Running
    names: set[str]
    """Every tool that it has to list: each server's own answer to a client that declares nothing, with its prefix."""
    asking: set[str]
    """And to clients that can be asked things."""
    repository: Path

    @property
    def calls(self) -> dict[str, dict[str, object]]:
        """One call to each server."""
        return {
            "time_convert_time": dict(NOON),
            "git_git_status": {"repo_path": str(self.repository)},
            "everything_get-sum": dict(SUM),
            "oldest_echo": {"message": "through the oldest transport"},
            "fast_add": dict(SUM),
            "one_add": dict(SUM),
            "two_add": dict(SUM),
        }


@asynccontextmanager
async def stage(repository: Path) -> AsyncIterator[Stage]:
    git = ["git", "-C", str(repository)]
    await trio.run_process([*git, "init", "--quiet", "--initial-branch=main"])
    (repository / "notes.txt").write_text("not in the index yet")
    starters = [
        peers.everything_server(),
        peers.everything_server("sse"),
        peers.fastmcp4_server(),
        peers.mcp1_server(),
        peers.mcp2_server(),
    ]
    async with peers.together(*starters) as (everything, oldest, fast, one, two):
        over_http = {"everything": everything, "fast": fast, "one": one, "two": two}
        names = {f"time_{name}" for name in TIME} | {f"git_{name}" for name in GIT}
        names |= await listed(Client(sse_client(oldest.url)), "oldest_")
        for name, peer in over_http.items():
            names |= await listed(Client(peer.url), f"{name}_")
        servers: list[Config] = [
            {"name": "time", "command": [str(word) for word in peers.time_command()]},
            {"name": "git", "command": [str(word) for word in peers.git_command(repository)]},
            {"name": "oldest", "url": oldest.url},
            *({"name": name, "url": peer.url} for name, peer in over_http.items()),
        ]
        async with running_gateway(servers) as running:
            await surveyed(running, "everything", "oldest")
            asking = names | {f"{name}_{tool}" for name in ("everything", "oldest") for tool in ASKING}
            yield Stage(running=running, names=names, asking=asking, repository=repository)


async def surveyed(running: Running, *names: str) -> None:
    """Wait until it is known what these servers list only to some clients, which on a pipe takes a while."""
    with trio.fail_after(20):
        for name in names:
            while running.fleet.status(BackendKey(name))["for_some_clients"] != len(ASKING):  # noqa: ASYNC110  # a status
                await trio.sleep(0.05)
        await running.gateway.table_built()


async def listed(connection: Client, prefix: str) -> set[str]:
    async with connection as client:
        return {prefix + tool.name for tool in (await client.list_tools()).tools}


def check(results: Mapping[str, dict[str, Any]]) -> None:
    """Compare what each server said with what it had to say."""
    texts = {name: result["content"][0]["text"] for name, result in results.items()}
    assert json.loads(texts["time_convert_time"])["target"]["datetime"].endswith("T21:00:00+09:00")
    assert "notes.txt" in texts["git_git_status"]
    assert texts["everything_get-sum"] == "The sum of 2 and 3 is 5."
    assert texts["oldest_echo"] == "Echo: through the oldest transport"
    for name in ("fast_add", "one_add", "two_add"):
        assert {key: results[name][key] for key in STRUCTURED} == STRUCTURED
    assert not any(result.get("isError") for result in results.values())


async def use(scene: Stage, mode: ConnectMode, version: str) -> None:
    """List, then call every server at the same time, with the second major version of the SDK."""
    results: dict[str, dict[str, Any]] = {}
    async with Client(scene.running.url, mode=mode) as client, trio.open_nursery() as nursery:
        assert client.protocol_version == version
        tools = [tool.name for tool in (await client.list_tools()).tools]
        shown = scene.names if mode == "legacy" else scene.asking  # a 2026 list is the same for everybody
        assert set(tools) == shown
        assert len(tools) == len(shown)

        async def call(name: str, arguments: dict[str, object]) -> None:
            result = await client.call_tool(name, arguments)
            results[name] = result.model_dump(mode="json", by_alias=True, exclude_none=True)

        for name, arguments in scene.calls.items():
            nursery.start_soon(call, name, arguments)
    check(results)


async def use_first_sdk(scene: Stage, url: str, version: str) -> None:
    """The same, one call after the other, with the first major version of the SDK."""
    heard = await peers.mcp1_client(url, *scene.calls.items())
    assert heard.version == version
    assert set(heard.tools) == scene.asking
    check(dict(zip(scene.calls, heard.results, strict=True)))


async def test_every_server_is_listed_and_called_by_every_client_at_once(tmp_path: Path) -> None:
    async with stage(tmp_path) as scene, trio.open_nursery() as nursery:
        nursery.start_soon(use, scene, "2026-07-28", "2026-07-28")
        nursery.start_soon(use, scene, "legacy", "2025-11-25")
        nursery.start_soon(use_first_sdk, scene, scene.running.url, "2025-11-25")
        nursery.start_soon(use_first_sdk, scene, scene.running.sse_url, "2025-11-25")
