"""Starting the little stdio servers, and looking for what they left behind."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

from mcp_gateway.config.spec import StdioTarget
from tests.support.leftovers import pids, processes

ROOT: Final = Path(__file__).parents[2]


def server(name: str, *args: str | Path, env: tuple[tuple[str, str], ...] = ()) -> StdioTarget:
    """How to start ``tests/support/stdio_servers/<name>.py``; -S saves the start-up the scan of site-packages."""
    module = f"tests.support.stdio_servers.{name}"
    command = (sys.executable, "-S", "-u", "-m", module, *map(str, args))
    return StdioTarget(command=command, env=env, cwd=str(ROOT))


def running(session: int) -> list[int]:
    """The pids of a session that run (zombies do not); a child of ours leads a session of its own."""
    return [process.pid for process in processes() if process.session == session and not process.zombie]


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and nobody has asked how."""
    return any(process.zombie for process in processes() if process.pid == pid)


def running_with(marker: str | Path) -> list[int]:
    """The pids of processes that have ``marker`` among their words: children before they are known, grandchildren."""
    found: list[int] = []
    for pid in pids():
        with contextlib.suppress(OSError):  # gone meanwhile
            if str(marker).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def unreaped() -> list[int]:
    """The pids of our own children that have ended and were not asked how."""
    return [process.pid for process in processes() if process.parent == os.getpid() and process.zombie]
