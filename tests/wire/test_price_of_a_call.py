"""What a call costs, in counts that no busy machine moves: dials, descriptors, places, and functions of ours.

Clients and backends are in this process too, so that everything can be counted; only what is the gateway's is.
"""

import contextlib
import itertools
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Final, TypeAlias

import attrs
import orjson
import pytest
import trio

import mcp_gateway
from mcp_gateway.values import BackendKey
from tests.support.front import Wire
from tests.support.gateway import Running, running_gateway
from tests.support.leftovers import sockets
from tests.support.raw_client import Client2025, Client2026
from tests.support.recorder import Recorder, recorder

pytestmark = pytest.mark.wire

PACKAGE: Final = f"{Path(mcp_gateway.__file__).parent}/"
CALLS: Final = 1000
TOGETHER: Final = 100
"""Calls that are aborted at once; also all that a backend may have, so that a place that is lost is missed."""
COUNTED: Final = 60
PATIENCE_S: Final = 15.0
META: Final = "io.modelcontextprotocol/"
FUNCTIONS: Final = {("2025", "old"): 259, ("2025", "new"): 298, ("2026", "old"): 312, ("2026", "new"): 322}
"""Functions and coroutine steps of ours in one call, as counted with Python 3.11; what lowers one may lower it here."""
MARGIN: Final = 1.05

Ask: TypeAlias = Callable[[], Awaitable[None]]


@attrs.define(eq=False)
class Count:
    """How often functions of ours were called; a step of a coroutine counts as a call."""

    calls: int = 0

    def note(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            self.calls += 1


def caller(stream: trio.SocketStream, client: Client2025 | Client2026, tool: str) -> Ask:
    """Calls ``tool`` again and again on one connection, and looks at each answer."""
    wire = Wire(stream)
    numbers, headers, more = itertools.count(1000), dict(client.headers), dict[str, object]()
    if isinstance(client, Client2026):
        headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}
        more = {"_meta": {META + "protocolVersion": "2026-07-28", META + "clientCapabilities": {}}}
    headers |= {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    lines = [f"{name}: {value}" for name, value in headers.items()]

    async def ask() -> None:
        number = next(numbers)
        params = {"name": tool, "arguments": {"x": number}, **more}
        body = orjson.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
        await wire.post(body, "/mcp", *lines)
        status, _, answer = await wire.answer()
        found = orjson.loads(answer)
        assert (status, found["id"]) == (200, number)
        assert found["result"]["content"][0]["text"] == f"{tool.partition('_')[0]}:{number}"

    return ask


@asynccontextmanager
async def calling(running: Running, era: str, tool: str) -> AsyncIterator[Ask]:
    """``caller`` for a client of that era."""
    host, _, port = running.url.removeprefix("http://").removesuffix("/mcp").rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    if era == "2025":
        async with stream, running.client2025() as client:
            await client.initialize()
            yield caller(stream, client, tool)
    else:
        async with stream, running.client2026() as modern:
            yield caller(stream, modern, tool)


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("era,server", FUNCTIONS)
async def test_a_thousand_calls_one_after_the_other_go_over_one_connection(era: str, server: str) -> None:
    async with recorder() as backend, running_gateway([backend.entry(server)]) as running:
        async with calling(running, era, f"{server}_echo") as ask:
            for _ in range(CALLS):
                await ask()
        calls = [each.connection for each in backend.server.requests if b'"tools/call"' in each.body]
        assert len(calls) == CALLS
        assert len(set(calls)) == 1


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize("server", ["old", "new"])
async def test_a_thousand_aborted_calls_leave_no_descriptor_and_no_place_behind(server: str) -> None:
    """Each batch takes every place that the backend has, so a batch would not arrive whole if one were lost."""
    async with recorder() as backend:
        entry = backend.entry(server, limits={"concurrency": TOGETHER})
        async with running_gateway([entry]) as running:
            key = BackendKey(server)
            kept = running.fleet.get(key)
            assert kept is not None
            baseline = 0
            for batch in range(CALLS // TOGETHER + 1):
                if batch == 1:
                    baseline = len(sockets())  # after the first one: what is opened once is open
                await aborted(running, backend, f"{server}_hang", (batch + 1) * TOGETHER)
                await until(lambda: kept.in_flight == 0)
            await until(lambda: len(sockets()) <= baseline)
            assert kept.queued == 0


async def aborted(running: Running, backend: Recorder, tool: str, told: int) -> None:
    """As many calls as there are places, whose clients leave when all have arrived."""
    async with running.client2026() as client, trio.open_nursery() as nursery:

        async def call() -> None:
            with contextlib.suppress(trio.ClosedResourceError):  # the client hangs up
                await client.start("tools/call", name=tool, arguments={})

        for _ in range(TOGETHER):
            nursery.start_soon(call)
        with trio.fail_after(PATIENCE_S):
            await backend.until_arrived(told)
            client.hang_up()
            await backend.until_told(told)


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # the kernel closes what both sides have left
            await trio.sleep(0.01)


@pytest.mark.parametrize("era,server", FUNCTIONS)
async def test_a_call_is_no_more_functions_than_it_was(era: str, server: str) -> None:
    async with recorder() as backend, running_gateway([backend.entry(server)]) as running:
        async with calling(running, era, f"{server}_echo") as ask:
            counts = []
            for _ in range(COUNTED):
                count = Count()
                sys.setprofile(count.note)
                try:
                    await ask()
                finally:
                    sys.setprofile(None)
                counts.append(count.calls)
        assert statistics.median(counts) <= FUNCTIONS[era, server] * MARGIN, Counter(counts)
