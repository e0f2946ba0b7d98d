"""Start everyday servers with cold caches behind a gateway, and count the calls that fail.

Owns five servers as people configure them: three that ``uvx`` and ``npx`` download first, FastMCP 4 and an mcp 1.30
server, each on uvicorn. A round is: up, called, idle, called, restarted, called; each time by a 2025 client that keeps
its session and by a 2026 client. Deliberately patient while a server comes up and without mercy for a call. Invariant:
each round begins with empty caches and a gateway of its own.

Usage: ``python -m tests.peers.cold_starts [--rounds N] [--idle S] [NAME ...]``; exits with 1 if a call failed.
Needs the package registries.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import trio

from tests.support import peers
from tests.support.gateway import Process, gateway_process
from tests.support.leftovers import processes
from tests.support.raw_client import Client2025, connect2025

ROUNDS: Final = 20
IDLE_S: Final = 10.0
"""Longer than uvicorn keeps an idle connection (5 s)."""
UP_S: Final = 180.0
"""For downloading and starting; what counts is that the gateway waits, not for how long."""
CALL_S: Final = 30.0
POLL_S: Final = 0.1
"""Of what happens in other processes, which can only be looked at again."""

Restart: TypeAlias = Callable[[Process], Awaitable[None]]


@attrs.frozen(kw_only=True)
class Started:
    """A server as the gateway's configuration has it, and how it is restarted."""

    entry: Mapping[str, Any]
    restart: Restart


Start: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Started]]


@attrs.frozen(kw_only=True)
class Everyday:
    """One server, and a call that it must answer."""

    tool: str
    arguments: Mapping[str, object]
    start: Start
    """Given an empty folder for its caches."""


@attrs.define(kw_only=True)
class Round:
    """How one round went; times in seconds."""

    name: str
    up_s: float = 0.0
    again_s: float = 0.0
    """From the server's new beginning until the gateway said that it is ready again."""
    calls: int = 0
    failed: list[str] = attrs.field(factory=list)


def downloaded(*command: str, caches: Mapping[str, str]) -> Start:
    """A server that a package manager downloads and starts on a pipe, with caches of its own."""

    @asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[Started]:
        environment = {name: str(folder / part) for name, part in caches.items()}
        words = [word.replace("FOLDER", str(folder)) for word in command]
        programs = f"{peers.PEERS / 'uv' / 'bin'}:{os.environ['PATH']}"
        env = {**environment, "PATH": programs, "UV_PYTHON_DOWNLOADS": "never"}
        yield Started(entry={"command": words, "env": env}, restart=kill_children)

    return start


async def kill_children(gateway: Process) -> None:
    """End the server's processes as a crash does, and wait until the gateway has noticed."""
    before = children_of(gateway.process.pid)
    assert before, "no process runs"
    for pid in before:
        os.killpg(pid, signal.SIGKILL)
    with trio.fail_after(UP_S):
        while not (now := children_of(gateway.process.pid)) or set(now) & set(before):  # noqa: ASYNC110  # see above
            await trio.sleep(POLL_S)


def children_of(parent: int) -> list[int]:
    """The servers that a gateway has started; each leads a group of its own."""
    return [process.pid for process in processes() if process.parent == parent and not process.zombie]


@attrs.define(eq=False, kw_only=True)
class Life:
    """A server that runs until it is told to end."""

    peer: peers.Peer
    over: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)


def served(command: Callable[[str], peers.Command]) -> Start:
    """A server on uvicorn, started anew on the same port; its byte code is compiled each time."""

    @asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[Started]:
        async def live(port: str, task_status: trio.TaskStatus[Life] = trio.TASK_STATUS_IGNORED) -> None:
            environment = {"PYTHONPYCACHEPREFIX": str(folder)}
            async with peers.start("cold", command(port), environment=environment, within_s=UP_S) as peer:
                life = Life(peer=peer)
                task_status.started(life)
                await life.over.wait()
            life.ended.set()

        async with trio.open_nursery() as nursery:
            life: Life = await nursery.start(live, "0")

            async def restart(gateway: Process) -> None:
                nonlocal life
                life.over.set()
                await life.ended.wait()
                life = await nursery.start(live, str(life.peer.port))

            yield Started(entry={"url": life.peer.url}, restart=restart)
            life.over.set()

    return start


EVERYDAY: Final[Mapping[str, Everyday]] = {
    "time": Everyday(
        tool="get_current_time",
        arguments={"timezone": "UTC"},
        start=downloaded("uvx", "mcp-server-time", "--local-timezone", "UTC", caches={"UV_CACHE_DIR": "uv"}),
    ),
    "everything": Everyday(
        tool="echo",
        arguments={"message": "hello"},
        start=downloaded("npx", "-y", "@modelcontextprotocol/server-everything", caches={"npm_config_cache": "npm"}),
    ),
    "filesystem": Everyday(
        tool="list_allowed_directories",
        arguments={},
        start=downloaded(
            "npx", "-y", "@modelcontextprotocol/server-filesystem", "FOLDER", caches={"npm_config_cache": "npm"}
        ),
    ),
    "fastmcp4": Everyday(
        tool="echo", arguments={"text": "hello"}, start=served(lambda port: peers.fastmcp4_command("--port", port))
    ),
    "mcp1": Everyday(
        tool="echo", arguments={"text": "hello"}, start=served(lambda port: peers.mcp1_command("--port", port))
    ),
}


async def play(name: str, idle_s: float) -> Round:
    """One round of one server."""
    everyday, found = EVERYDAY[name], Round(name=name)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with everyday.start(Path(folder)) as started:
            config = {"servers": [{"name": name, "prefix": "", **started.entry}]}
            begun = time.monotonic()
            async with gateway_process(config, wait=False) as gateway, connect2025(gateway.url) as session:
                await until_ready(gateway)
                found.up_s = time.monotonic() - begun
                await session.initialize()
                await call(gateway, session, everyday, found, "up")
                await trio.sleep(idle_s)
                await call(gateway, session, everyday, found, "after idling")
                await started.restart(gateway)
                begun = time.monotonic()
                await until_ready(gateway)
                found.again_s = time.monotonic() - begun
                await call(gateway, session, everyday, found, "after a restart")
    return found


async def until_ready(gateway: Process) -> None:
    """Wait until the gateway says that its server can be called."""
    with trio.fail_after(UP_S):
        async with connect2025(f"{gateway.admin_url}/status") as status:
            while True:
                server = (await status.http("GET")).json["servers"][0]
                if server["state"] == "ready" and server["listed"]:
                    return
                await trio.sleep(POLL_S)


async def call(gateway: Process, session: Client2025, everyday: Everyday, found: Round, when: str) -> None:
    """Call the tool by clients of both eras, and note what is no result."""
    async with gateway.client2026() as modern:
        for era, client in (("2025", session), ("2026", modern)):
            found.calls += 1
            with trio.move_on_after(CALL_S) as patience:
                answer = await client.call(everyday.tool, dict(everyday.arguments))
                if "result" not in answer or answer["result"].get("isError"):
                    found.failed.append(f"{when}, a {era} client: {answer.get('error') or answer['result']}")
            if patience.cancelled_caught:
                found.failed.append(f"{when}, a {era} client: no answer within {CALL_S:g} s")


async def play_all(names: Sequence[str], rounds: int, idle_s: float) -> list[Round]:
    """All rounds: of each server one after the other, of all servers beside each other."""
    found: list[Round] = []

    async def play_rounds(name: str) -> None:
        for _ in range(rounds):
            one = await play(name, idle_s)
            found.append(one)
            for failure in one.failed:
                print(f"{name}: {failure}", flush=True)

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(play_rounds, name)
    return found


def show(found: Sequence[Round], names: Sequence[str]) -> None:
    for name in names:
        own = [one for one in found if one.name == name]
        failed, calls = sum(len(one.failed) for one in own), sum(one.calls for one in own)
        up, again = (sorted(getattr(one, field) for one in own) for field in ("up_s", "again_s"))
        print(
            f"{name}: {len(own)} rounds, {failed} of {calls} calls failed; up after {up[0]:.1f} to {up[-1]:.1f} s, "
            f"again after {again[0]:.1f} to {again[-1]:.1f} s"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Start servers with cold caches and count calls that fail.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--idle", type=float, default=IDLE_S, metavar="S", help="seconds without a call")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EVERYDAY)}; default: all")
    options = parser.parse_args()
    names = options.names or list(EVERYDAY)
    if unknown := set(names) - EVERYDAY.keys():
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    found = trio.run(play_all, names, options.rounds, options.idle)
    show(found, names)
    return 1 if any(one.failed for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
