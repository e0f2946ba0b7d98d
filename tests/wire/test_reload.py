"""A changed file, seen by a running program: effective within a second, as a difference, and never for the worse."""

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.support import load
from tests.support.gateway import Process, gateway_process
from tests.support.raw_client import Message, connect2025
from tests.support.recorder import recorder

pytestmark = [pytest.mark.wire, pytest.mark.slow]

PROMISED_S = 1.0
MARGIN_S = 0.5
"""For a busy machine: the test's own looking, and starting to talk to a new server."""


async def status_of(process: Process) -> Message:
    async with connect2025(f"{process.admin_url}/status") as client:
        found: Message = (await client.http("GET")).json
        return found


async def metric(process: Process, name: str) -> float:
    async with connect2025(f"{process.admin_url}/metrics") as client:
        lines = (await client.http("GET")).raw.decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def replace(process: Process, text: str) -> None:
    """Write the configuration anew, as editors and Kubernetes do: beside it, then renamed."""
    beside = process.config.with_suffix(".new")
    beside.write_text(text)
    beside.rename(process.config)


async def within_promise(holds: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(load.stretched(PROMISED_S + MARGIN_S)):
        while True:
            if await holds():
                return
            await trio.sleep(0.02)  # another process: it can only be asked again


@pytest.mark.timeout(40)  # a removed server's calls may go on for 10 s
async def test_a_changed_file_changes_only_what_changed() -> None:
    async with recorder() as backend, trio.open_nursery() as nursery:
        kept = backend.entry("old")
        gone = {**backend.entry("new"), "name": "gone"}
        added = {**backend.entry("new"), "name": "added"}
        answered, answers = trio.open_memory_channel[tuple[str, Message]](2)
        async with gateway_process({"servers": [kept, gone]}) as process, process.client2025() as client:
            await client.initialize()
            assert "gone_hang" in await client.list()
            await client.call("old_echo")
            sessions = set(backend.sessions)

            async def call(tool: str) -> None:
                answered.send_nowait((tool, await client.call(tool, {"x": 1})))

            nursery.start_soon(call, "old_wait")
            nursery.start_soon(call, "gone_hang")
            await backend.until_arrived(2)
            stream = await client.stream()
            await stream.next_event()
            spoken = len(backend.server.requests)

            replace(process, json.dumps({"servers": [kept, added]}))

            async def is_listed() -> bool:
                names = await client.list()
                return "added_echo" in names and "gone_echo" not in names

            removed_at, removed_real_s = trio.current_time(), time.monotonic()
            await within_promise(is_listed)
            assert (await client.call("added_echo", {"x": 2}))["result"]["content"][0]["text"] == "new:2"
            assert "error" in await client.call("gone_echo")
            with trio.fail_after(load.stretched(2)):
                assert (await stream.next() or {})["method"] == "notifications/tools/list_changed"
            # The server that stayed has not been asked anything, and keeps its sessions and its call.
            news = [request for request in backend.server.requests[spoken:] if "/old/" in request.target]
            assert [request.json["method"] for request in news if request.body] == []
            assert backend.sessions == sessions
            backend.release.set()
            with trio.fail_after(load.stretched(2)):
                tool, answer = await answers.receive()
            assert (tool, answer["result"]["content"][0]["text"]) == ("old_wait", "old:1")
            status = await status_of(process)
            assert [server["name"] for server in status["servers"]] == ["old", "added"]
            assert status["configuration"]["generation"] == 2

            # What went and what came may be announced apart, but nothing more; and the call of the server that went
            # ends with its grace.
            with trio.move_on_after(1):
                assert (await stream.next() or {})["method"] == "notifications/tools/list_changed"
                raise AssertionError(await stream.next())
            with trio.fail_after(removed_at + 12 - trio.current_time()):
                await backend.until_told(1)
                _, answer = await answers.receive()
            assert time.monotonic() > removed_real_s + 9  # the gateway's clock is not the test's
            error = answer["error"]
            assert (error["code"], error["data"]["reason"]) == (-33410, "backend_removed")
            assert error["data"]["executed"] == "unknown"
            assert [told.how for told in backend.told] == ["closed"]
            assert await process.stop() == 0


@pytest.mark.parametrize(
    "bad, why",
    [
        pytest.param("servers: [{name: x, url: 'ftp://x'}]\nnonsense: 1\n", "nonsense", id="mistakes"),
        pytest.param("{servers: [", "", id="half written"),
        pytest.param(None, "", id="no file"),
    ],
)
async def test_a_bad_file_changes_nothing_and_is_seen(bad: str | None, why: str) -> None:
    async with recorder() as backend:
        good = {"servers": [backend.entry("new")]}
        async with gateway_process(good) as process, process.client2025() as client:
            await client.initialize()
            text = process.config.read_text()
            if bad is None:
                process.config.unlink()
            else:
                replace(process, bad)

            async def is_refused() -> bool:
                return (await status_of(process))["configuration"]["error"] is not None

            await within_promise(is_refused)
            configuration = (await status_of(process))["configuration"]
            assert why in configuration["error"]
            assert configuration["generation"] == 1
            assert await metric(process, "mcp_gateway_configuration_last_reload_successful") == 0
            assert await metric(process, "mcp_gateway_configuration_generation") == 1
            assert b"configuration refused, the last good one stays in force" in process.log
            assert (await client.call("new_echo", {"x": 1}))["result"]["content"][0]["text"] == "new:1"
            assert await ready(process)

            replace(process, text.replace('"servers"', '"instructions": "back", "servers"'))

            async def is_well() -> bool:
                told = (await client.initialize())["instructions"]
                return told == "back" and (await status_of(process))["configuration"]["error"] is None

            await within_promise(is_well)
            assert await metric(process, "mcp_gateway_configuration_last_reload_successful") == 1
            assert await metric(process, "mcp_gateway_configuration_generation") == 2
            assert await process.stop() == 0


async def ready(process: Process) -> bool:
    async with connect2025(f"{process.admin_url}/readyz") as client:
        return (await client.http("GET")).status == 200


async def test_a_secret_in_a_file_that_changes_is_taken_over(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("Bearer one")
    async with recorder() as backend:
        config = {"servers": [backend.entry("new", credential={"file": str(token)})]}
        async with gateway_process(config) as process, process.client2026() as modern:
            await modern.call("new_echo")
            token.write_text("Bearer two")

            async def is_new() -> bool:
                await modern.call("new_echo")
                return backend.server.requests[-1].headers["authorization"] == "Bearer two"

            await within_promise(is_new)
            assert await process.stop() == 0
            assert b"Bearer" not in process.log
