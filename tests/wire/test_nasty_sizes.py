"""What one nasty server can make the gateway's process remember: never much more than twice the configured bound."""

import sys
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.support import nasty
from tests.support.children import ROOT
from tests.support.gateway import gateway_process
from tests.support.nasty import MIB, Misdeed, calls, villains
from tests.support.raw_client import Message

pytestmark = [
    pytest.mark.brisk,
    pytest.mark.wire,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak of memory in /proc"),
]

BOUND_MIB: Final = 8
GROWTH_MIB: Final = 2 * BOUND_MIB + 6
"""Twice: what came, and its copy as one piece. The rest is the allocator's and the socket's."""
LIMITS: Final[Message] = {
    "limits": {"responseBytes": f"{BOUND_MIB}MiB", "eventBytes": f"{BOUND_MIB}MiB"},
    "timeouts": {"call": "4s", "list": "5s", "connect": "5s"},
    "health": {"interval": "60s"},
}


@pytest.mark.parametrize(
    "misdeed, reason",
    [
        pytest.param(nasty.a_hundred_megabytes, "too_large", id="100 MB"),
        pytest.param(nasty.a_hundred_megabytes_unannounced, "too_large", id="100 MB in chunks"),
        pytest.param(nasty.a_line_of_64_mib, "too_large", id="a line of 64 MiB"),
        pytest.param(nasty.an_endless_event, "too_large", id="an event of short lines"),
        pytest.param(nasty.an_endless_head, "backend_protocol", id="an endless head"),
    ],
)
async def test_memory_stays_within_twice_the_bound_over_http(misdeed: Misdeed, reason: str) -> None:
    async with villains(misdeed, when=calls, names=["new"]) as bad:
        await measure({**bad.entries[0], **LIMITS}, "new_echo", reason)


async def test_memory_stays_within_twice_the_bound_over_a_pipe() -> None:
    villain = "tests.support.stdio_servers.villain"
    command = [sys.executable, "-S", "-u", "-m", villain, "sends a line of 64 MiB"]
    await measure({"name": "bad", "command": command, "cwd": str(ROOT), **LIMITS}, "bad_echo", "too_large")


async def measure(entry: Message, tool: str, reason: str) -> None:
    """Call the tool a few times, one after the other, and see how far the peak of memory went up."""
    async with gateway_process({"servers": [entry]}) as running, running.client2025() as client:
        await client.initialize()
        await client.list()
        before = reset_peak(running.process.pid)
        with trio.fail_after(15.0):
            for _ in range(3):
                assert (await client.call(tool))["error"]["data"]["reason"] == reason
        grown = peak(running.process.pid) - before
        assert grown <= GROWTH_MIB * MIB, f"{grown / MIB:.1f} MiB"


def reset_peak(pid: int) -> int:
    """Forget the highest resident size; the present one in bytes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return field(pid, "VmRSS")


def peak(pid: int) -> int:
    """The highest resident size since then, in bytes."""
    return field(pid, "VmHWM")


def field(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kilobytes) * 1024
