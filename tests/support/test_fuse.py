"""A test that hangs is ended by its fuse, with every process that it has started; a busy machine is given time."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.support import peers
from tests.support.leftovers import alive, processes

HANGS: Final = '''
import pathlib, subprocess, sys, time
import pytest, trio

CHILD = """
import os, subprocess, sys
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
os.write(1, b"%d %d" % (os.getpid(), grandchild.pid))
grandchild.wait()
"""

async def started():
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, start_new_session=True
    )
    pathlib.Path("pids").write_bytes(await process.stdout.receive_some())
    return process

@pytest.mark.timeout(3)
async def test_that_waits():
    process = await started()
    try:
        await trio.sleep_forever()
    finally:
        await process.wait()

@pytest.mark.timeout(3)
async def test_that_computes():
    process = await started()
    while True:
        pass

@pytest.mark.timeout(1)
async def test_that_is_slow():
    await trio.sleep(1.5)
'''


async def run(folder: Path, name: str, busy: str = "1") -> tuple[int, str]:
    """Run one of the tests above with the fuse; its exit code and what it printed.

    Args:
        busy: how busy the machine is taken to be.
    """
    (folder / "test_hangs.py").write_text(HANGS)
    (folder / "plugin.py").write_text(f"from tests.support import load\nload.factor = lambda: {busy}\n")
    words = ["-p", "plugin", "-p", "tests.support.fuse", "-c", "/dev/null", "--rootdir", ".", "-o", "trio_mode=true"]
    done = await trio.run_process(
        [sys.executable, "-m", "pytest", *words, "-p", "no:cacheprovider", "test_hangs.py", "-k", name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}:{peers.ROOT}"},
        capture_stdout=True,
        check=False,
    )
    return done.returncode, done.stdout.decode()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A folder; whatever is left of the processes that are named there is killed."""
    yield tmp_path
    for pid in pids(tmp_path):
        if pid in alive([pid]):
            os.kill(pid, 9)


def pids(folder: Path) -> list[int]:
    file = folder / "pids"
    return [int(word) for word in file.read_text().split()] if file.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["waits", "computes"])
async def test_a_test_that_hangs_is_ended_and_its_processes_too(own: Path, name: str) -> None:
    code, printed = await run(own, name)
    assert code == 1, printed
    assert "Timeout" in printed
    child, grandchild = pids(own)
    running = {process.pid for process in processes() if not process.zombie}
    assert running & {child, grandchild} == set()


@pytest.mark.slow
async def test_a_busy_machine_is_given_more_time(own: Path) -> None:
    code, printed = await run(own, "slow")
    assert code == 1, printed
    code, printed = await run(own, "slow", busy="3")
    assert code == 0, printed
