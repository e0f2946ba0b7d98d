"""A thousand calls of one 2025 server that end in one instant: its backend is told of each, and nothing is left."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Mapping
from typing import Final

import pytest
import trio

from tests.support import load
from tests.support.gateway import Process, gateway_process
from tests.support.recorder import Recorder, recorder

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.timeout(90)]  # two thousand connections on a busy machine

CALLS: Final = 1000


def config(backend: Recorder) -> Mapping[str, object]:
    server = backend.entry("old", limits={"concurrency": CALLS}, timeouts={"call": "80s"})
    return {"servers": [server], "limits": {"inFlight": CALLS}, "drain": {"grace": "200ms"}}


async def drain(process: Process) -> None:
    """Let the gateway end, and look at what it says of that."""
    os.kill(process.process.pid, signal.SIGTERM)
    with trio.fail_after(load.stretched(20)):
        assert await process.process.wait() == 0
    assert "left=0" in process.log.decode()
    assert "Traceback" not in process.log.decode()


async def test_a_drain_tells_the_backend_of_a_thousand_calls() -> None:
    async with recorder() as backend, gateway_process(config(backend)) as process, trio.open_nursery() as nursery:
        async with process.client2025("2025-03-26") as client:
            await client.initialize()

            async def batch(first: int) -> None:
                """A hundred calls on one connection."""
                call = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "old_hang", "arguments": {}}}
                await client.post([call | {"id": f"call-{number}"} for number in range(first, first + 100)])

            for first in range(0, CALLS, 100):
                nursery.start_soon(batch, first)
            await backend.until_arrived(CALLS)
            await drain(process)
        assert Counter(one.how for one in backend.told) == {"notice": CALLS}
        assert {one.reason for one in backend.told} == {"gateway is shutting down"}


async def test_a_thousand_clients_that_leave_cancel_their_calls() -> None:
    async with recorder() as backend, gateway_process(config(backend)) as process, trio.open_nursery() as nursery:
        async with process.client2026() as client:

            async def call() -> None:
                with contextlib.suppress(trio.ClosedResourceError):  # the client hangs up
                    await client.start("tools/call", name="old_hang", arguments={})

            for _ in range(CALLS):
                nursery.start_soon(call)
            await backend.until_arrived(CALLS)
            client.hang_up()
            with trio.fail_after(load.stretched(20)):
                await backend.until_told(CALLS)
        assert Counter(one.how for one in backend.told) == {"notice": CALLS}
        assert {one.reason for one in backend.told} == {"client disconnected"}
        await drain(process)
