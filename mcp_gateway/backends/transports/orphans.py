"""Orphans: processes that others have left behind, and that are ours to reap as process 1 of a container.

Owns which children are our own, and the reaping of all others. Deliberately ends nobody: an orphan
may go on for as long as it likes. Invariant: the exit status of a child that this process has
started is never taken, because one call that asks for any child (``waitpid(-1)``) is never made.

Stdio servers start browsers, language servers, shells; what outlives its parent becomes a child of process 1. There
its remains would stay until the gateway ends, and with them a place in the table of processes.
"""

import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import Final

import attrs
import trio

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
"""Between two looks while an ended child of our own, for which somebody else waits, stands before the others."""
_PR_GET_CHILD_SUBREAPER: Final = 37


@attrs.define(eq=False)
class Offspring:
    """The processes that we have started and not yet reaped."""

    _pids: set[int] = attrs.field(factory=set)
    _starting: int = 0

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """While it lasts a child may exist of which nobody knows the pid yet, so any may be ours."""
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1

    def add(self, pid: int) -> None:
        """A child was started; to be called within ``starting``."""
        self._pids.add(pid)

    def reaped(self, pid: int) -> None:
        """The pid may soon be another's."""
        self._pids.discard(pid)

    def may_hold(self, pid: int) -> bool:
        """Whether a child may be one of these."""
        return self._starting > 0 or pid in self._pids


OWN: Final = Offspring()
"""One for the process, as its children are."""


def inherits() -> bool:
    """Whether orphans become children of this process: it is process 1, or who started it made it a subreaper."""
    if os.getpid() == 1:
        return True
    if sys.platform != "linux":
        return False
    found = ctypes.c_int(0)
    failed: int = ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0)
    return not failed and found.value == 1


async def reap() -> None:
    """Reap every orphan that has ended, or ends, until cancelled; only in the main thread."""
    with trio.open_signal_receiver(signal.SIGCHLD) as endings:
        await _reap_all()
        async for _ in endings:
            await _reap_all()


async def _reap_all() -> None:
    pause_s = FIRST_PAUSE_S
    while (pid := _ended()) is not None:
        if _is_orphan(pid):
            _take(pid)
            pause_s = FIRST_PAUSE_S
            await trio.lowlevel.checkpoint()
        else:  # who started it is about to ask how it ended
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _ended() -> int | None:
    """A child that has ended, left as it is; None: there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None


def _take(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # its group was asked for meanwhile
        os.waitpid(pid, os.WNOHANG)
    logger.debug("orphan reaped", extra={"pid": pid})


def _is_orphan(pid: int) -> bool:
    """Stdio servers lead sessions of their own, so what they leave is in another than ours.

    In ours are the children of libraries, which wait for them.
    """
    if OWN.may_hold(pid):
        return False
    try:
        return os.getsid(pid) != os.getsid(0)
    except ProcessLookupError:  # reaped in this moment
        return False
