"""How many connections a listener serves at once.

Owns the count of open client connections, and the file descriptor limit that
bounds it. Deliberately no sockets. Invariant: ``open`` never exceeds ``bound``
by an ``enter`` that returned True; every such ``enter`` has one ``leave``.
"""

import logging
import sys
from typing import Final

import attrs

if sys.platform != "win32":  # which has no such limits
    import resource

logger = logging.getLogger(__name__)

RESERVED_FDS: Final = 256
"""Descriptors kept for backends, files, the admin listener and refusals (docs/configuration.md)."""


@attrs.define(eq=False)
class Admission:
    """A counter with a bound. The bound may be moved while connections are open; none is cut for it."""

    bound: int
    open: int = 0
    refused: int = 0

    def enter(self) -> bool:
        """Take a place; False (counted as refused) when there is none."""
        if self.open >= self.bound:
            self.refused += 1
            return False
        self.open += 1
        return True

    def leave(self) -> None:
        """Give the place back."""
        self.open -= 1


def raise_fd_limit() -> int | None:
    """Raise the soft limit of open files to the hard one; return the limit in force, None where there is none."""
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft not in (hard, resource.RLIM_INFINITY):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as exc:  # macOS refuses "unlimited"
            logger.warning("open files limit not raised", extra={"soft": soft, "hard": hard, "why": str(exc)})
        else:
            soft = hard
    return None if soft == resource.RLIM_INFINITY else soft


def cap_connections(wanted: int, fd_limit: int | None) -> int:
    """The bound that the descriptor limit leaves room for, at least 1; says so in the log when it is lower."""
    if fd_limit is None:
        return wanted
    room = max(1, fd_limit - RESERVED_FDS)
    if wanted <= room:
        return wanted
    logger.warning(
        "connections capped by the open files limit",
        extra={"limits.connections": wanted, "bound": room, "open_files": fd_limit},
    )
    return room
