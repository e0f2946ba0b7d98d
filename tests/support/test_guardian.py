"""A run of the tests that is killed leaves nothing behind."""

import os
import signal
import sys

import trio

from tests.support.leftovers import alive

RUN = """
import subprocess, sys, time
from tests.support import guardian
guardian.begin()
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


async def test_what_a_killed_run_has_started_is_ended() -> None:
    command = [sys.executable, "-c", RUN]
    run = await trio.lowlevel.open_process(command, stdout=-1, env={**os.environ, "PYTHONPATH": "."})
    assert run.stdout is not None
    async with run.stdout:
        child = int(await run.stdout.receive_some())
        assert alive([child])
        run.send_signal(signal.SIGKILL)
        await run.wait()
        while alive([child]):  # noqa: ASYNC110  # nobody tells of a process that is not ours
            await trio.sleep(0.02)


async def test_while_a_run_lives_nothing_of_it_is_ended() -> None:
    command = [sys.executable, "-c", RUN]
    run = await trio.lowlevel.open_process(command, stdout=-1, env={**os.environ, "PYTHONPATH": "."})
    assert run.stdout is not None
    async with run.stdout:
        child = int(await run.stdout.receive_some())
        await trio.sleep(0.5)
        assert alive([child])
        run.kill()
        await run.wait()
