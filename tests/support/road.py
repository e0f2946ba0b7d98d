"""What of the product is entered between two moments, and how deep its waits are nested.

Owns the counting, by the interpreter's own profile hook. Deliberately judges nothing. Invariant: nothing is counted
before ``begins`` is entered, nor in another task than the one that entered it.
"""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import attrs
import trio

import mcp_gateway

PACKAGE: Final = Path(mcp_gateway.__file__).parent


@attrs.define(eq=False)
class Road:
    """The modules in the order of their first entry, and the deepest wait for a socket."""

    begins: str
    """The name of the function of ours with which it begins."""
    modules: dict[str, None] = attrs.field(factory=dict)
    deepest: int = 0
    """Own coroutines nested at a wait for a socket."""
    _task: trio.lowlevel.Task | None = None

    def note(self, frame: FrameType, event: str, argument: object) -> None:
        """A ``sys.setprofile`` function."""
        if event != "call":
            return
        name = frame.f_code.co_name
        if self._task is None and name == self.begins and _own(frame):
            self._task = trio.lowlevel.current_task()
        if self._task is None:
            return
        if _own(frame) and trio.lowlevel.current_task() is self._task:
            self.modules[str(Path(frame.f_code.co_filename).relative_to(PACKAGE))] = None
        elif name == "wait_readable" and trio.lowlevel.current_task() is self._task:
            self.deepest = max(self.deepest, _nested(frame))


def _own(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(f"{PACKAGE}/")


def _nested(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        depth += _own(frame) and bool(frame.f_code.co_flags & inspect.CO_COROUTINE)
        frame = frame.f_back
    return depth


@contextmanager
def watched(begins: str) -> Iterator[Road]:
    """Count inside the block."""
    road = Road(begins)
    sys.setprofile(road.note)
    try:
        yield road
    finally:
        sys.setprofile(None)
