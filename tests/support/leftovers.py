"""What a process holds: children, sockets, CPU time; read from ``/proc``.

Owns nothing. Deliberately does not wait: the tests do. Invariant: what has gone between two reads is left out.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@attrs.frozen(kw_only=True)
class Process:
    """One line of the table of processes."""

    pid: int
    zombie: bool
    parent: int
    session: int
    started_s: float
    """On the clock that counts from the machine's start, suspended times included."""


def pids() -> Iterator[int]:
    """Every process of the machine."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def processes() -> Iterator[Process]:
    """Every process of the machine, as it is now."""
    for pid in pids():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:  # gone meanwhile
            continue
        fields = stat.rpartition(")")[2].split()  # proc(5): the third and the following ones
        yield Process(
            pid=pid,
            zombie=fields[0] == "Z",
            parent=int(fields[1]),
            session=int(fields[3]),
            started_s=int(fields[19]) / _TICKS_PER_S,
        )


def children(of: int | None = None) -> set[int]:
    """The pids of a process's own children, zombies included; of this process by default."""
    parent = os.getpid() if of is None else of
    return {process.pid for process in processes() if process.parent == parent}


def alive(pids: Iterable[int]) -> set[int]:
    """Those of some processes that exist, zombies included."""
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def sockets(of: int | None = None) -> set[str]:
    """The sockets that a process has open; of this process by default."""
    found: set[str] = set()
    for entry in Path(f"/proc/{os.getpid() if of is None else of}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:  # gone meanwhile
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def cpu_s(of: int | None = None) -> float:
    """The CPU time that a process has used, in seconds of 10 ms resolution; of this process by default."""
    stat = Path(f"/proc/{os.getpid() if of is None else of}/stat").read_text()
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def rss_bytes(of: int | None = None) -> int:
    """The resident memory of a process; of this process by default."""
    pages = Path(f"/proc/{os.getpid() if of is None else of}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
