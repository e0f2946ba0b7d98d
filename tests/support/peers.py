"""Start the servers of other makers for a test, and stop them for certain.

Owns the processes: each runs in a process group of its own and is ended with the block that started it. Deliberately
knows no protocol: a peer is an address or a command. Invariant: a program that this machine lacks skips the test with
one line, unless ``MCP_GATEWAY_REQUIRE`` names what is missing; then the test fails.
"""

import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any, Final, TypeAlias

import attrs
import pytest
import trio

from tests.support.kube import assets as kube_assets

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PEERS: Final = ROOT / ".peers"
SERVERS: Final = ROOT / "tests" / "peers" / "servers"
CLIENTS: Final = ROOT / "tests" / "peers" / "clients"

START_S: Final = 15.0
"""Importing an SDK takes 1.3 s of CPU; a busy machine of two cores stretches that a lot."""

STOP_S: Final = 3.0
"""From the polite signal to the last one."""

_LISTENING: Final = re.compile(rb"listening on (\d+)\s")

Command: TypeAlias = Sequence[str | Path]


@attrs.frozen(kw_only=True)
class Peer:
    """A server that runs and accepts connections."""

    name: str
    port: int
    path: str
    process: trio.Process = attrs.field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"


def require(name: str) -> None:
    """Go on only if this machine has what a test needs.

    Args:
        name: one of ``peers``, ``node``, ``registry``, ``nginx``, ``browser``, ``redis``, ``kube``, ``helm``.
    Raises:
        pytest.skip.Exception: it is missing.
        pytest.fail.Exception: it is missing, and ``MCP_GATEWAY_REQUIRE`` (a list with commas) says that it must not be.
    """
    missing = NEEDS[name]()
    if missing is None:
        return
    if _required(name):
        pytest.fail(f"{name} is required here: {missing}", pytrace=False)
    pytest.skip(f"{name}: {missing}")


def _required(name: str) -> bool:
    return COMES_WITH.get(name, name) in os.environ.get("MCP_GATEWAY_REQUIRE", "").replace(" ", "").split(",")


def _lacks_peers() -> str | None:
    built = all((PEERS / name / ".stamp").is_file() for name in ("mcp1", "fastmcp", "uv"))
    return None if built else "run `just peers` first"


def _lacks_node() -> str | None:
    if not (PEERS / "npm" / ".stamp").is_file():
        return "run `just peers` first"
    return None if _find_node() else "no Node.js on this machine"


def _lacks_program(*names: str) -> Callable[[], str | None]:
    def look() -> str | None:
        return next((f"no program {name} on this machine" for name in names if shutil.which(name) is None), None)

    return look


NEEDS: Final[Mapping[str, Callable[[], str | None]]] = {
    "peers": _lacks_peers,
    "node": _lacks_node,
    "registry": lambda: None if _required("registry") else "tests download packages only where this is required",
    "nginx": _lacks_program("nginx"),
    "browser": lambda: None if find_browser() else "no program chromium or google-chrome on this machine",
    "redis": _lacks_program("redis-server"),
    "kube": kube_assets.missing,
    "helm": lambda: kube_assets.missing("helm"),
}
"""What a test may need, also as a marker: what this machine lacks of it, or None."""

COMES_WITH: Final = {"helm": "kube"}
"""What is required because something else is: one recipe makes both."""


def find_browser() -> str | None:
    """A browser that can run without a window."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def _find_node() -> str | None:
    pinned = PEERS / "npm" / "node_modules" / ".bin" / "node"
    return str(pinned) if pinned.exists() else shutil.which("node")


def python_of(environment: str) -> Path:
    """The interpreter of a peer's environment: ``mcp1`` or ``fastmcp``."""
    require("peers")
    return PEERS / environment / "bin" / "python"


def node() -> str:
    """Node.js in the version that the peers are pinned to."""
    require("node")
    found = _find_node()
    assert found is not None
    return found


def npm_package(name: str) -> Path:
    """The folder of a peer's npm package."""
    require("node")
    return PEERS / "npm" / "node_modules" / name


def mcp1_command(*flags: str) -> Command:
    """A server on the SDK's first major version; see ``tests/peers/servers/mcp1_server.py`` for the flags."""
    return [python_of("mcp1"), SERVERS / "mcp1_server.py", *flags]


def mcp2_command(*flags: str) -> Command:
    """A server on the SDK's second major version, in our own environment."""
    return [sys.executable, SERVERS / "mcp2_server.py", *flags]


def fastmcp4_command(*flags: str) -> Command:
    """A server on another maker's framework."""
    return [python_of("fastmcp"), SERVERS / "fastmcp4_server.py", *flags]


def one_way_command(*flags: str) -> Command:
    """A server whose tools ask in one way only; ``--fastmcp``: on another maker's framework."""
    python = python_of("fastmcp") if "--fastmcp" in flags else sys.executable
    return [python, SERVERS / "one_way_server.py", *flags]


def time_command() -> Command:
    """The reference server that tells the time, over stdio."""
    return [python_of("mcp1"), "-m", "mcp_server_time", "--local-timezone", "UTC"]


def git_command(repository: Path) -> Command:
    """The reference server for one git repository, over stdio."""
    return [python_of("mcp1"), "-m", "mcp_server_git", "--repository", repository]


def everything_command(transport: str = "stdio") -> Command:
    """The reference server with every feature; ``transport``: stdio, sse or streamableHttp."""
    return [node(), npm_package("@modelcontextprotocol/server-everything") / "dist" / "index.js", transport]


@asynccontextmanager
async def mcp1_server(*flags: str) -> AsyncIterator[Peer]:
    async with start("mcp1", mcp1_command(*flags), path=_path(flags)) as peer:
        yield peer


@asynccontextmanager
async def mcp1_tasks_server(*flags: str) -> AsyncIterator[Peer]:
    """A server on the SDK's first major version whose tools run as tasks."""
    async with start("mcp1 tasks", [python_of("mcp1"), SERVERS / "mcp1_tasks_server.py", *flags]) as peer:
        yield peer


@asynccontextmanager
async def mcp2_tasks_server() -> AsyncIterator[Peer]:
    """A server on the SDK's second major version with the tasks extension of 2026-07-28."""
    async with start("mcp2 tasks", [sys.executable, SERVERS / "mcp2_tasks_server.py"]) as peer:
        yield peer


@asynccontextmanager
async def mcp2_server(*flags: str) -> AsyncIterator[Peer]:
    async with start("mcp2", mcp2_command(*flags), path=_path(flags)) as peer:
        yield peer


@asynccontextmanager
async def fastmcp4_server(*flags: str) -> AsyncIterator[Peer]:
    async with start("fastmcp4", fastmcp4_command(*flags), path=_path(flags)) as peer:
        yield peer


@asynccontextmanager
async def one_way_server(*flags: str) -> AsyncIterator[Peer]:
    async with start("one way", one_way_command(*flags)) as peer:
        yield peer


@asynccontextmanager
async def everything_server(transport: str = "streamableHttp") -> AsyncIterator[Peer]:
    """The reference server over HTTP; a preloaded shim makes it listen on the loopback interface only."""
    environment = {"PORT": "0", "NODE_OPTIONS": f"--require={SERVERS / 'bind_local.cjs'}"}
    path = "/sse" if transport == "sse" else "/mcp"
    async with start("everything", everything_command(transport), path=path, environment=environment) as peer:
        yield peer


@asynccontextmanager
async def together(*starters: AbstractAsyncContextManager[Peer]) -> AsyncIterator[list[Peer]]:
    """Start several servers at the same time, which on two cores takes half as long; gives them in the same order."""
    found: dict[int, Peer] = {}
    over = trio.Event()

    async def hold(
        starter: AbstractAsyncContextManager[Peer], task_status: trio.TaskStatus[Peer] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with starter as peer:
            task_status.started(peer)
            await over.wait()

    async with trio.open_nursery() as nursery:

        async def begin(place: int, starter: AbstractAsyncContextManager[Peer]) -> None:
            found[place] = await nursery.start(hold, starter)

        async with trio.open_nursery() as beginning:
            for place, starter in enumerate(starters):
                beginning.start_soon(begin, place, starter)
        try:
            yield [found[place] for place in range(len(starters))]
        finally:
            over.set()


def _path(flags: Sequence[str]) -> str:
    return "/sse" if "--sse" in flags else "/mcp"


@asynccontextmanager
async def start(
    name: str,
    command: Command,
    *,
    path: str = "/mcp",
    environment: Mapping[str, str] | None = None,
    within_s: float = START_S,
) -> AsyncIterator[Peer]:
    """Run a server for as long as the block lives; it says ``listening on PORT`` when it accepts connections.

    Raises:
        RuntimeError: it ended or was silent for too long; the text has the end of what it complained about.
    """
    with tempfile.TemporaryFile() as complaints:
        process = await trio.lowlevel.open_process(
            [str(word) for word in command],
            stdout=PIPE,
            stderr=complaints,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            start_new_session=True,  # a process group of its own, so that children end with it
        )
        try:
            async with trio.open_nursery() as nursery:
                port = await nursery.start(_watch, name, process, complaints, within_s)
                yield Peer(name=name, port=port, path=path, process=process)
                nursery.cancel_scope.cancel("the peer is not needed any more")
        finally:
            with trio.move_on_after(2 * STOP_S, shield=True):
                await stop(process)


async def _watch(
    name: str,
    process: trio.Process,
    complaints: IO[bytes],
    within_s: float,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Find the port in what the server prints, then keep reading, so that it never blocks on a full pipe."""
    assert process.stdout is not None
    printed = b""
    with trio.move_on_after(within_s) as patience:
        async for chunk in process.stdout:
            printed = printed[-10_000:] + chunk
            if patience.deadline < float("inf") and (found := _LISTENING.search(printed)):
                patience.deadline = float("inf")
                task_status.started(int(found[1]))
    if patience.deadline < float("inf"):
        complaints.seek(0)
        tail = complaints.read()[-2000:].decode(errors="replace")
        why = "was silent" if patience.cancelled_caught else "ended"
        raise RuntimeError(f"peer {name} {why} before it accepted connections:\n{tail}")


@attrs.frozen(kw_only=True)
class Heard:
    """What a client of another maker got; a result is its JSON, or ``{"error": {"code", "message", "data"}}``."""

    version: str | None
    tools: list[str]
    results: list[dict[str, Any]]
    progress: list[float]
    logs: list[Any]


async def ts1_client(url: str, *calls: tuple[str, object], cancel_after_ms: int | None = None) -> Heard:
    """Call tools with the TypeScript SDK's first major version; legacy only."""
    return await _run_client([node(), CLIENTS / "ts_client.cjs", "v1", url, "legacy"], calls, cancel_after_ms)


async def ts2_client(
    url: str, *calls: tuple[str, object], mode: str = "auto", cancel_after_ms: int | None = None
) -> Heard:
    """Call tools with the TypeScript SDK's second major version; ``mode``: auto, legacy or a modern revision."""
    return await _run_client([node(), CLIENTS / "ts_client.cjs", "v2", url, mode], calls, cancel_after_ms)


async def mcp1_client(url: str, *calls: tuple[str, object], cancel_after_ms: int | None = None) -> Heard:
    """Call tools with the Python SDK's first major version; legacy only. An address that ends in /sse is HTTP+SSE."""
    return await _run_client([python_of("mcp1"), CLIENTS / "mcp1_client.py", url], calls, cancel_after_ms)


async def _run_client(command: Command, calls: Sequence[tuple[str, object]], cancel_after_ms: int | None) -> Heard:
    """Each client says the same with one JSON object; it answers what servers ask: blue, hello, file:///tmp."""
    words = [str(word) for word in command]
    for tool, arguments in calls:
        words += [tool, json.dumps(arguments)]
    environment = dict(os.environ)
    if cancel_after_ms is not None:
        environment["MCP_CANCEL_AFTER_MS"] = str(cancel_after_ms)
    done = await trio.run_process(words, capture_stdout=True, capture_stderr=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"client ended with {done.returncode}:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return Heard(**json.loads(done.stdout))


async def stop(process: trio.Process) -> None:
    """End a process and its children: politely, then for certain."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        with trio.move_on_after(STOP_S):
            await process.wait()
            break
    await process.wait()
    if process.stdout is not None:
        await process.stdout.aclose()
