"""Starting the little stdio servers, and looking for what they left behind."""

import os
import sys
from pathlib import Path
from typing import Final

from mcp_gateway.config.spec import StdioTarget

ROOT: Final = Path(__file__).parents[2]


def server(name: str, *args: str | Path, env: tuple[tuple[str, str], ...] = ()) -> StdioTarget:
    """How to start ``tests/support/stdio_servers/<name>.py``; -S saves the start-up the scan of site-packages."""
    module = f"tests.support.stdio_servers.{name}"
    command = (sys.executable, "-S", "-u", "-m", module, *map(str, args))
    return StdioTarget(command=command, env=env, cwd=str(ROOT))


def running(session: int) -> list[int]:
    """The pids of a session that run (zombies do not); a child of ours leads a session of its own."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # gone meanwhile
                continue
            state, _, _, sid = stat.rpartition(")")[2].split()[:4]
            if int(sid) == session and state != "Z":
                found.append(int(entry.name))
    return found


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def running_with(marker: str | Path) -> list[int]:
    """The pids of processes that have ``marker`` among their words: children before they are known, grandchildren."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:  # gone meanwhile
                continue
            if str(marker).encode() in words:
                found.append(int(entry.name))
    return found


def unreaped() -> list[int]:
    """The pids of our own children that have ended and were not asked how."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # gone meanwhile
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) == os.getpid():
                found.append(int(entry.name))
    return found
