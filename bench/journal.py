"""What a scripted backend saw of each hanging call, and when.

Owns the file that backends append to and the benchmark reads. Deliberately standard library only: the stdio backend
starts without site-packages. Invariant: a line is written with one ``write`` as soon as the thing is seen, and its time
is this machine's CLOCK_MONOTONIC, which all processes share.
"""

import os
import time
from pathlib import Path

BEGAN = "began"
NOTICE = "notice"
"""``notifications/cancelled`` with the call's id came."""
CLOSED = "closed"
"""The call's connection, or the pipe, was closed."""


class Journal:
    """The writing end; several processes may write to one file."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, number: int, what: str) -> None:
        """Write that ``what`` has just happened to the call of this number."""
        os.write(self._fd, b"%d %b %d\n" % (number, what.encode(), time.monotonic_ns()))


Seen = dict[int, dict[str, int]]
"""Per call, the first time of each thing in nanoseconds."""


def read(path: Path) -> Seen:
    """All that was seen so far; a file that is not there is empty."""
    seen: Seen = {}
    if path.exists():
        for line in path.read_text().splitlines():
            number, what, at_ns = line.split()
            seen.setdefault(int(number), {}).setdefault(what, int(at_ns))
    return seen
