"""What every test on real sockets is held to: it leaves no process and no socket behind (invariant 2).

Tasks need no look: pytest-trio runs each test in a ``trio.run`` of its own, which ends when its last task has.
"""

import gc
from collections.abc import Iterator

import pytest

from tests.support.leftovers import children, sockets


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Child processes (zombies too) and sockets are the same after a test as before."""
    processes, open_before = children(), sockets()
    yield
    assert children() <= processes
    if len(sockets()) > len(open_before):
        gc.collect()  # a failed test's traceback, and generators of the SDKs, keep some alive a little longer
    assert len(sockets()) <= len(open_before)
