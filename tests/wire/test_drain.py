"""The end of the program, phase by phase, as a process manager and the clients see it (docs/operations.md)."""

import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
import trio

from tests.support import children, leftovers, load
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
    with trio.fail_after(load.stretched(within_s)):
        return await process.ended()


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
    """Wait until the listeners are closed: no call runs any more."""
    while True:
        if await refuses(url):
            return
        await trio.sleep(0.02)  # another process: it can only be asked again


async def until_nobody_new(process: Process) -> Exchange:
    """Wait for phase 2; how a client is turned away that would begin a session."""
    with trio.fail_after(load.stretched(3)):
        while True:
            async with process.client2025() as late:
                info = {"name": "late", "version": "1"}
                params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
                exchange = await late.post({"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": params})
            if exchange.status == 503:
                return exchange
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
            await until_nobody_new(process)
            with trio.fail_after(load.stretched(3)):
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
            with trio.fail_after(load.stretched(2)):
                for _ in range(2):
                    name, exchange = await answers.receive()
                    assert (await exchange.response())["result"]["content"][0]["text"] == f"{name}:{name}"
            assert "cancelled=0 left=0" in drained(process)
            assert (backend.told, backend.sessions) == ([], set())
            assert await refuses(process.admin_url)
            assert children.running_with(marker) == []


async def test_whatever_is_new_is_turned_away_in_its_eras_way() -> None:
    """A 5xx inside a session would end every running call of its client."""
    async with recorder() as backend, trio.open_nursery() as nursery:
        async with gateway_process({"servers": backend.entries()}) as process, session(process) as client:
            answers: list[Message] = []

            async def call() -> None:
                answers.append(await client.call("old_wait", {"x": 1}))

            nursery.start_soon(call)
            await backend.until_arrived(1)
            terminate(process)
            refused = await until_nobody_new(process)
            draining = {"reason": "draining", "executed": "no", "retryAfterMs": 1000}
            assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
            assert (refused.json["id"], refused.json["error"]["data"]) == (7, draining)

            async with process.client2026() as modern:
                for exchange in (await modern.start("tools/list", 8), await modern.listen(toolsListChanged=True)):
                    assert (exchange.status, exchange.headers["retry-after"]) == (503, "1")
                    assert exchange.json["error"]["data"] == draining
            assert (await client.stream()).status == 503
            async with connect2025(process.sse_url) as old:
                assert (await old.http("GET")).status == 503

            inside = await client.start("tools/call", 9, name="old_echo", arguments={})
            assert (inside.status, inside.json["id"], inside.json["error"]["code"]) == (200, 9, -33530)
            assert inside.json["error"]["data"] == draining
            assert (await client.ask("ping"))["result"] == {}
            assert backend.arrived == 1

            backend.release.set()
            assert await exit_code(process, 5) == 0
            assert "cancelled=0 left=0" in drained(process)
    assert answers[0]["result"]["content"][0]["text"] == "old:1"


ASKING = little("tests.support.stdio_servers.asking", "asking")


async def test_a_client_of_2025_answers_a_question_in_the_drain_and_gets_its_result() -> None:
    async with gateway_process({"servers": [ASKING]}) as process, process.client2025() as client:
        await client.initialize(elicitation={})
        exchange = await client.start("tools/call", name="little_ask", arguments={})
        question = await exchange.next() or {}
        assert question["method"] == "elicitation/create"
        terminate(process)
        await until_nobody_new(process)
        assert (await client.respond(question["id"], {"action": "accept", "content": {}})).status == 202
        assert (await exchange.response())["result"]["content"][0]["text"] == "accept"
        assert await exit_code(process, 5) == 0
        assert "cancelled=0 left=0" in drained(process)


async def test_a_client_of_http_and_sse_does_so_too() -> None:
    async with gateway_process({"servers": [ASKING]}) as process, connect2025(process.sse_url) as old:
        stream = await old.http("GET", headers={"Accept": "text/event-stream"})
        endpoint = (await stream.next_event() or {})["data"]
        async with connect2025(process.url.removesuffix("/mcp") + endpoint) as posts:
            params = {"protocolVersion": "2024-11-05", "capabilities": {"elicitation": {}}, "clientInfo": {}}
            await posts.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
            assert (await stream.response())["id"] == 0
            await posts.start("tools/call", 1, name="little_ask", arguments={})
            question = await stream.next() or {}
            assert question["method"] == "elicitation/create"
            terminate(process)
            await until_nobody_new(process)
            assert (await posts.start("tools/list", 2)).status == 202
            assert (await stream.response())["error"]["code"] == -33530
            assert (await posts.respond(question["id"], {"action": "decline"})).status == 202
            assert (await stream.response())["result"]["content"][0]["text"] == "decline"
            assert await stream.next() is None
            assert await exit_code(process, 5) == 0
            assert "cancelled=0 left=0" in drained(process)


async def test_a_client_of_2026_comes_back_to_its_parked_call_in_the_drain() -> None:
    async with gateway_process({"servers": [ASKING]}) as process, process.client2026(elicitation={}) as client:
        asked = (await client.call("little_ask"))["result"]
        assert asked["resultType"] == "input_required"
        terminate(process)
        await until_nobody_new(process)
        answers = {key: {"action": "accept"} for key in asked["inputRequests"]}
        retry = {"inputResponses": answers, "requestState": asked["requestState"]}
        assert (await client.call("little_ask", **retry))["result"]["content"][0]["text"] == "accept"
        assert await exit_code(process, 5) == 0
        assert "cancelled=0 left=0" in drained(process)


async def test_a_parked_call_that_nobody_comes_back_for_ends_with_the_grace() -> None:
    config = {"servers": [ASKING], "drain": {"grace": "300ms"}}
    async with gateway_process(config) as process, process.client2026(elicitation={}) as client:
        assert (await client.call("little_ask"))["result"]["resultType"] == "input_required"
        terminate(process)
        assert await exit_code(process, 3) == 0
        assert "cancelled=1 left=0" in drained(process)


@pytest.mark.parametrize("how", ["message", "DELETE"])
async def test_a_call_can_be_given_up_in_the_drain(how: str) -> None:
    async with recorder() as backend:
        config = {"servers": backend.entries()}
        async with gateway_process(config) as process, session(process) as client, trio.open_nursery() as nursery:
            nursery.start_soon(partial(client.start, "tools/call", 77, name="old_hang", arguments={}))
            await backend.until_arrived(1)
            terminate(process)
            await until_nobody_new(process)
            gone = await client.cancel(77) if how == "message" else await client.delete()
            assert gone.status == (202 if how == "message" else 204)
            with trio.fail_after(load.stretched(2)):
                await backend.until_told(1)
            assert (backend.told[0].how, backend.told[0].reason != "gateway is shutting down") == ("notice", True)
            assert await exit_code(process, 3) == 0
            assert "cancelled=0 left=0" in drained(process)


async def test_a_client_that_lost_its_connection_fetches_its_answer_in_the_drain() -> None:
    async with recorder() as backend:
        async with gateway_process({"servers": backend.entries()}) as process, session(process) as client:
            exchange = await client.start("tools/call", name="old_wait", arguments={"x": 5})
            priming = await exchange.next_event() or {}
            await exchange.hang_up()
            terminate(process)
            await until_nobody_new(process)
            resumed = await client.stream(priming["id"])
            assert resumed.status == 200
            backend.release.set()
            assert (await resumed.response())["result"]["content"][0]["text"] == "old:5"
            assert await exit_code(process, 5) == 0
            assert "cancelled=0 left=0" in drained(process)


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
            began_s = time.monotonic()  # the other process's time, whatever clock this one has
            assert await exit_code(process, 4) == 0
            assert time.monotonic() - began_s > 0.3
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
                with trio.fail_after(load.stretched(2)):
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
