"""The end of the program, phase by phase, as a process manager and the clients see it (design 3.4)."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
import trio

from tests.support import children, leftovers
from tests.support.front import Wire
from tests.support.gateway import Process, gateway_process
from tests.support.nasty import Entry
from tests.support.raw_client import Client2025, Exchange, Message, connect2025
from tests.support.recorder import recorder

pytestmark = [pytest.mark.wire, pytest.mark.slow]


def little(module: str, marker: str) -> Entry:
    """A small stdio server; ``marker`` is a word of its command line."""
    return {"name": "little", "command": [sys.executable, "-S", "-m", module, marker], "cwd": str(children.ROOT)}


async def get(url: str) -> tuple[int, str]:
    async with connect2025(url) as client:
        exchange = await client.http("GET")
        return exchange.status, exchange.raw.decode()


def terminate(process: Process, number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(process.process.pid, number)


async def exit_code(process: Process, within_s: float) -> int:
    with trio.fail_after(within_s):
        return await process.process.wait()


async def refuses(url: str) -> bool:
    """Whether nobody listens there any more."""
    where = urlsplit(url)
    try:
        stream = await trio.open_tcp_stream(where.hostname or "", where.port or 0)
    except OSError:
        return True
    await stream.aclose()
    return False


async def until_refused(url: str) -> None:
    while True:
        if await refuses(url):
            return
        await trio.sleep(0.02)  # another process: it can only be asked again


def drained(process: Process) -> str:
    """The report line of the drain."""
    found = [line for line in process.log.decode().splitlines() if " drained " in line]
    assert len(found) == 1, process.log.decode()
    assert "Traceback" not in process.log.decode()
    return found[0]


@asynccontextmanager
async def session(process: Process, version: str = "2025-11-25") -> AsyncIterator[Client2025]:
    async with process.client2025(version) as client:
        await client.initialize()
        yield client


async def test_the_drain_goes_phase_by_phase_and_loses_no_call(tmp_path: Path) -> None:
    marker = str(tmp_path / "heard")
    async with recorder() as backend, trio.open_nursery() as nursery:
        config = {
            "servers": [*backend.entries(), little("mcp_gateway.demo.stdio_server", marker)],
            "drain": {"settle": "1s", "grace": "10s"},
        }
        async with gateway_process(config) as process, session(process) as client, process.client2026() as modern:
            assert len(children.running_with(marker)) == 1
            answered, answers = trio.open_memory_channel[tuple[str, Exchange]](2)

            async def call(name: str) -> None:
                who = client if name == "old" else modern
                exchange = await who.start("tools/call", name=f"{name}_wait", arguments={"x": name})
                answered.send_nowait((name, exchange))

            events, listening = await client.stream(), await modern.listen(toolsListChanged=True)
            assert (await events.next_event() or {}).keys() == {"id", "retry", "data"}
            assert (await listening.next() or {})["method"] == "notifications/subscriptions/acknowledged"
            nursery.start_soon(call, "old")
            nursery.start_soon(call, "new")
            await backend.until_arrived(2)

            # Phase 1: not ready any more, but everything is served, and connections are not kept.
            terminate(process)
            while (await get(f"{process.admin_url}/readyz"))[0] == 200:
                pass
            public = process.url.removesuffix("/mcp")
            assert await get(f"{public}/readyz") == (503, "not ready: draining\n")
            assert (await get(f"{public}/healthz"))[0] == 200
            async with session(process) as late:
                answer = await late.start("tools/call", name="new_echo", arguments={"x": 1})
                assert (await answer.response())["result"]["content"][0]["text"] == "new:1"
                assert answer.headers["connection"] == "close"

            # Phase 2: nobody new; streams end in their era's way and say when to come back.
            with trio.fail_after(3):
                await until_refused(process.url)
                ending = await events.next_event()
                assert ending is not None
                assert ending["retry"] == "1000"
                assert await events.next_event() is None
                notice, result = await listening.all()
            assert notice["method"] == "notifications/cancelled"
            assert notice["params"]["requestId"] == result["id"]
            assert result["result"]["resultType"] == "complete"
            status = orjson.loads((await get(f"{process.admin_url}/status"))[1])
            assert (status["draining"], status["totals"]["in_flight"]) == (True, 2)

            # Phase 3: running calls finish. Phase 5: backends hear goodbye. Phase 6: admin last.
            assert process.process.poll() is None
            backend.release.set()
            assert await exit_code(process, 5) == 0
            with trio.fail_after(2):
                for _ in range(2):
                    name, exchange = await answers.receive()
                    assert (await exchange.response())["result"]["content"][0]["text"] == f"{name}:{name}"
            assert "cancelled=0 left=0" in drained(process)
            assert (backend.told, backend.sessions) == ([], set())
            assert await refuses(process.admin_url)
            assert children.running_with(marker) == []


async def test_calls_that_outlive_the_grace_are_cancelled_and_both_sides_learn_why() -> None:
    answers: list[Message] = []
    async with recorder() as backend, trio.open_nursery() as nursery:
        config = {"servers": backend.entries(), "drain": {"grace": "300ms"}}
        async with gateway_process(config) as process, session(process) as client, process.client2026() as modern:

            async def call(who: str, server: str) -> None:
                caller = client if who == "client" else modern
                answers.append(await caller.call(f"{server}_hang"))

            for who in ("client", "modern"):
                for server in ("old", "new"):
                    nursery.start_soon(call, who, server)
            await backend.until_arrived(4)
            terminate(process)
            began_at = trio.current_time()
            assert await exit_code(process, 4) == 0
            assert trio.current_time() - began_at > 0.3
            assert "cancelled=4 left=0" in drained(process)
    expected = {"reason": "draining", "executed": "unknown", "retryAfterMs": 1000}
    errors = sorted((answer["error"] for answer in answers), key=lambda error: str(error["data"]["server"]))
    assert [error["data"] for error in errors] == [
        {"server": server, **expected} for server in ("new", "new", "old", "old")
    ]
    assert {error["code"] for error in errors} == {-33530}
    how = sorted((told.server, told.how, told.reason) for told in backend.told)
    assert how == [("new", "closed", "")] * 2 + [("old", "notice", "gateway is shutting down")] * 2


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_hastens_the_end(second: signal.Signals) -> None:
    answers: list[Message] = []
    async with recorder() as backend, trio.open_nursery() as nursery:
        config = {"servers": backend.entries(), "drain": {"settle": "30s", "grace": "30s"}}
        async with gateway_process(config) as process, session(process) as client:

            async def call() -> None:
                answers.append(await client.call("old_hang"))

            nursery.start_soon(call)
            await backend.until_arrived(1)
            terminate(process)
            while (await get(f"{process.admin_url}/readyz"))[0] == 200:
                pass
            terminate(process, second)
            assert await exit_code(process, 3) == 0
            assert "cancelled=1 left=0" in drained(process)
    assert answers[0]["error"]["data"]["reason"] == "draining"
    assert [told.how for told in backend.told] == ["notice"]


async def test_an_answer_that_is_on_its_way_when_the_drain_begins_arrives_whole() -> None:
    async with recorder() as backend:
        config = {"servers": [backend.entry("new")], "drain": {"grace": "15s"}}
        async with gateway_process(config) as process, process.client2026() as modern:
            wire = await ask_for(process, modern.url, mib=16)
            status, headers = await wire.head()
            assert status == 200
            terminate(process)
            await until_refused(process.url)
            size, got = int(headers["content-length"]), len(wire.rest)
            assert size > 16 * 2**20
            while got < size:
                with trio.fail_after(2):
                    chunk = await wire.stream.receive_some(2**20)
                assert chunk, f"cut after {got} of {size} bytes"
                got += len(chunk)
                await trio.sleep(0.005)  # a client on a slow line
            assert await exit_code(process, 3) == 0
            assert "cancelled=0" in drained(process)
            await wire.close()


async def ask_for(process: Process, url: str, mib: int) -> Wire:
    """Call the backend's ``big`` on a connection whose answer is left to the test to read."""
    where = urlsplit(url)
    wire = Wire(await trio.open_tcp_stream(where.hostname or "", where.port or 0))
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "slow", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "new_big", "arguments": {"mib": mib}, "_meta": meta}
    mirrored = ("MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: new_big")
    await wire.post(
        orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}),
        "/mcp",
        "Content-Type: application/json",
        *mirrored,
    )
    return wire


async def test_a_client_that_does_not_read_cannot_keep_the_process_alive() -> None:
    async with recorder() as backend:
        config = {"servers": [backend.entry("new")], "drain": {"grace": "500ms"}}
        async with gateway_process(config) as process:
            wires = [await ask_for(process, process.url, mib=16) for _ in range(3)]
            for wire in wires:
                await wire.head()  # and not a byte more
            terminate(process)
            assert await exit_code(process, 5) == 0
            assert "left=0" in drained(process)
            for wire in wires:
                await wire.close()


async def test_a_client_that_reads_no_stream_cannot_keep_the_process_alive() -> None:
    async with recorder() as backend:
        config = {"servers": backend.entries(), "drain": {"grace": "500ms"}}
        async with gateway_process(config) as process, session(process) as client, process.client2026() as modern:
            await client.stream()
            await modern.listen(toolsListChanged=True)
            terminate(process)
            assert await exit_code(process, 3) == 0
            drained(process)


@pytest.mark.parametrize("name", ["ignores_term", "forks_grandchild"])
async def test_processes_that_do_not_want_to_end_are_ended_with_their_children(name: str, tmp_path: Path) -> None:
    marker = str(tmp_path / "grandchild")
    async with gateway_process({"servers": [little(f"tests.support.stdio_servers.{name}", marker)]}) as process:
        started = leftovers.children(process.process.pid)
        assert len(started) == 1
        terminate(process)
        assert await exit_code(process, 6) == 0
        drained(process)
    assert leftovers.alive(started) == set()
    assert children.running_with(marker) == []


async def test_a_signal_while_the_first_discovery_hangs_ends_the_program_at_once() -> None:
    async def mute(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, mute, 0)
        port = listeners[0].socket.getsockname()[1]
        config = {"servers": [{"name": "mute", "url": f"http://127.0.0.1:{port}/mcp"}]}
        async with gateway_process(config, wait=False) as process:
            assert (await get(f"{process.admin_url}/readyz"))[0] == 503
            terminate(process, signal.SIGINT)
            assert await exit_code(process, 3) == 0
            drained(process)
        nursery.cancel_scope.cancel("test over")
