"""What a run of the tests has started ends with it, even if the run itself is killed.

Owns one small process beside each run. Deliberately knows none of the others: whatever has inherited the run's mark in
its environment is killed when the run is gone, however it went. Invariant: while the run lives it does nothing.
"""

import contextlib
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Final

MARK: Final = "MCP_GATEWAY_TEST_RUN"


def begin() -> None:
    """Mark this process and what it will start, and have it looked after."""
    os.environ[MARK] = mark = secrets.token_hex(8)
    read, _ = os.pipe()
    environ = {name: value for name, value in os.environ.items() if name != MARK}
    # The other end is inherited by no child (PEP 446), so the guardian reads its end when this process is gone. It has
    # a session of its own: a Ctrl-C does not end it first.
    words = [sys.executable, "-S", __file__, mark]
    os.posix_spawn(words[0], words, environ, file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)], setsid=True)
    os.close(read)


def end_those_marked(mark: str) -> None:
    """Kill every process that has inherited a mark, until there is none."""
    wanted = f"{MARK}={mark}".encode()
    while found := [pid for pid in _pids() if wanted in _environment(pid)]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _environment(pid: int) -> list[bytes]:
    """Empty: it is gone, a zombie, or somebody else's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


if __name__ == "__main__":
    sys.stdin.read()
    end_those_marked(sys.argv[1])
