"""What stdio servers leave behind is reaped where it becomes the gateway's own: in a container, as process 1.

Twice: in a PID namespace, where the gateway is process 1, and as a subreaper, where no namespaces are allowed.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import trio

from mcp_gateway.backends.transports import orphans
from tests.support import leftovers, load
from tests.support.children import ROOT
from tests.support.gateway import Process, gateway_process
from tests.support.raw_client import connect2025

pytestmark = [
    pytest.mark.wire,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for orphans in /proc"),
]

NAMESPACE: Final = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
SUBREAPER: Final = (
    sys.executable,
    "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])",
)
PATIENCE_S: Final = 10.0


def namespace() -> tuple[str, ...]:
    if shutil.which(NAMESPACE[0]) is None:
        pytest.skip("no program unshare on this machine")
    tried = subprocess.Popen([*NAMESPACE, "true"], stderr=subprocess.PIPE, text=True)
    _, why = tried.communicate(timeout=PATIENCE_S)
    if tried.returncode:
        pytest.skip(f"no PID namespace here: {why.strip()}")
    return NAMESPACE


def subreaper() -> tuple[str, ...]:
    return SUBREAPER


def gateway_pid(running: Process, before: tuple[str, ...]) -> int:
    """As seen from here: in a namespace it is the child of what made that."""
    pid = running.process.pid
    if before is NAMESPACE:
        (pid,) = leftovers.children(pid)
    return pid


def remains(parent: int) -> list[int]:
    """The children that have ended and were not asked how."""
    return [process.pid for process in leftovers.processes() if process.parent == parent and process.zombie]


STATUS_S = 2.0
"""Within so long status says what the gateway has seen."""


async def eventually(condition: Callable[[], bool]) -> None:
    with trio.fail_after(load.stretched(PATIENCE_S)):
        while not condition():  # noqa: ASYNC110  # what other processes do gives no event
            await trio.sleep(0.02)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", [namespace, subreaper])
async def test_orphans_of_stdio_servers_are_reaped_and_their_own_exits_are_known(
    tmp_path: Path, how: Callable[[], tuple[str, ...]]
) -> None:
    before, marks = how(), tmp_path / "marks"
    marks.mkdir()
    command = [sys.executable, "-S", "-u", "-m", "tests.support.stdio_servers.leaves_orphans", str(marks)]
    config = {"servers": [{"name": "it", "command": command, "cwd": str(ROOT)}]}
    async with gateway_process(config, before=before) as running:
        pid = gateway_pid(running, before)
        async with running.client2025() as client:
            await client.initialize()
            for _ in range(3):
                assert "result" in await client.call("it_leave")
                await eventually(lambda: len(list(marks.iterdir())) == 2)
                await eventually(lambda: remains(pid) == [])
                for mark in marks.iterdir():
                    mark.unlink()
            answer = await client.call("it_exit")
            assert "its process exited with code 7" in answer["error"]["message"]
        async with connect2025(f"{running.admin_url}/status") as admin:
            with trio.fail_after(load.stretched(STATUS_S)):
                while b"exited with code 7" not in (await admin.http("GET")).raw:  # noqa: ASYNC110  # another process
                    await trio.sleep(0.02)


def test_a_usual_process_inherits_nothing() -> None:
    assert not orphans.inherits()
