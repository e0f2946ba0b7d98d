"""Tests of ``orphans``: nobody's exit status is taken but an orphan's."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from mcp_gateway.backends.transports import orphans
from mcp_gateway.backends.transports.orphans import OWN
from tests.support.children import is_zombie

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for zombies in /proc")

LOOKS_S = 5 * orphans.FIRST_PAUSE_S
"""Long enough for several looks."""


def ending(code: int, *, session: bool = True) -> subprocess.Popen[bytes]:
    """A child that has ended, and for which nobody has waited."""
    process = subprocess.Popen(["sh", "-c", f"exit {code}"], start_new_session=session)
    while not is_zombie(process.pid):
        pass
    return process


@asynccontextmanager
async def reaping() -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(orphans.reap)
        yield
        nursery.cancel_scope.cancel("the test is over")


async def reaped(process: subprocess.Popen[bytes]) -> None:
    with trio.fail_after(5):
        while is_zombie(process.pid):  # noqa: ASYNC110  # it is taken by nobody who could tell
            await trio.sleep(0.01)
    process.returncode = 0  # nobody will ever know


async def test_a_child_that_nobody_here_started_is_reaped() -> None:
    before = ending(3)
    async with reaping():
        await reaped(before)
        await reaped(ending(3))  # and one that ends later


async def test_a_child_of_our_own_is_left_to_who_waits_for_it() -> None:
    with OWN.starting():
        own = ending(7)
        OWN.add(own.pid)
    async with reaping():
        await trio.sleep(LOOKS_S)
        assert is_zombie(own.pid)
        stranger = ending(3)
        assert own.wait() == 7
        OWN.reaped(own.pid)
        await reaped(stranger)  # which stood behind it


async def test_while_a_child_is_being_started_any_may_be_it() -> None:
    async with reaping():
        with OWN.starting():
            own = ending(7)
            await trio.sleep(LOOKS_S)
            OWN.add(own.pid)
        await trio.sleep(LOOKS_S)
        assert own.wait() == 7
        OWN.reaped(own.pid)


async def test_a_child_of_a_library_is_left_to_it() -> None:
    """It is in our session, which stdio servers are not."""
    child = ending(7, session=False)
    async with reaping():
        await trio.sleep(LOOKS_S)
    assert child.wait() == 7


def test_a_number_that_was_reaped_may_be_anothers() -> None:
    OWN.add(123456789)
    assert OWN.may_hold(123456789)
    OWN.reaped(123456789)
    assert not OWN.may_hold(123456789)
