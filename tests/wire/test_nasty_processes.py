"""Nasty child processes, each among nine good servers; nothing of their families is left."""

import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from mcp_gateway.values import BackendKey
from tests.support.bystanders import initialized, nine_and, nobody_notices, said, status_of
from tests.support.children import ROOT, running_with
from tests.support.gateway import Running
from tests.support.raw_client import Message

pytestmark = [
    pytest.mark.brisk,
    pytest.mark.wire,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for orphans in /proc"),
]

OK: Final[Message] = {}
LATE: Final = {"reason": "backend_timeout", "executed": "unknown", "limit": "call"}
GONE: Final = {"reason": "backend_gone", "executed": "unknown"}
BROKEN: Final = {"reason": "backend_protocol", "executed": "yes"}
LARGE: Final = {"reason": "too_large", "executed": "yes", "limit": "limits.responseBytes"}

AT_CALLS: Final = [
    ("floods stderr", OK),
    ("floods stderr without a line end", OK),
    ("floods stdout with junk", OK),
    ("floods stdout with notices", OK),
    ("ignores TERM", OK),
    ("forks", OK),
    ("prints junk", OK),
    ("answers twice", OK),
    ("answers the next call too", OK),
    ("never answers", LATE),
    ("answers with a wrong id", LATE),
    ("answers with a text id", LATE),
    ("answers without an id", LATE),
    ("sends half a message", BROKEN),
    ("dies", GONE),
    ("dies in the middle of a line", GONE),
    ("sends a line of 64 MiB", LARGE),
    ("sends a line without end", LARGE),
]
FROM_THE_START: Final = [
    ("is mute", "start limit of 1 s reached"),
    ("exits", "exited with code 3"),
    ("closes its output", "it closed its output"),
    ("speaks no JSON", "start limit of 1 s reached"),
]


@pytest.mark.parametrize("misdeed, expected", AT_CALLS, ids=[misdeed for misdeed, _ in AT_CALLS])
async def test_a_call_of_a_nasty_process_ends_precisely_and_nobody_else_notices(
    misdeed: str, expected: Message
) -> None:
    async with among_nine(misdeed) as running, initialized(running) as client:
        with trio.fail_after(5.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(nobody_notices, running, {"bad_echo"})
                answer = await client.call("bad_echo")
        if expected:
            assert answer["error"]["data"] == {"server": "bad", **expected}
        else:
            assert answer["result"]["content"][0]["text"] == "hello"
            answer = await client.call("bad_echo")
            assert answer["result"]["content"][0]["text"] == "hello"
        await nobody_notices(running, {"bad_echo"})


@pytest.mark.parametrize("misdeed, why", FROM_THE_START, ids=[misdeed for misdeed, _ in FROM_THE_START])
async def test_a_process_that_is_nasty_from_the_start_is_down_with_the_reason(misdeed: str, why: str) -> None:
    async with among_nine(misdeed, start="1s") as running:
        await nobody_notices(running, set())
        told = await status_of(running, "bad")
        assert told["state"] == "down"
        assert why in said(told)
        await nobody_notices(running, set())


async def test_a_command_that_is_not_there_is_down_with_the_reason() -> None:
    async with nine_and([{"name": "bad", "command": ["/nowhere/at/all"], "health": {"failures": 1}}]) as running:
        told = await status_of(running, "bad")
        assert told["state"] == "down"
        assert "command '/nowhere/at/all' was not found" in said(told)
        await nobody_notices(running, set())


@pytest.mark.parametrize("misdeed", ["ignores TERM", "forks", "floods stderr"])
async def test_a_removed_process_is_gone_with_its_family_while_the_gateway_goes_on(misdeed: str) -> None:
    mark = uuid.uuid4().hex
    async with among_nine(misdeed, mark=mark) as running:
        assert running_with(mark)
        bad = running.fleet.get(BackendKey("bad"))
        assert bad is not None
        await running.reload({"servers": []})
        with trio.fail_after(4.0):
            await bad.gone.wait()
        assert running_with(mark) == []


@asynccontextmanager
async def among_nine(misdeed: str, start: str = "5s", mark: str = "") -> AsyncIterator[Running]:
    """A gateway with one nasty process and nine good servers; afterwards nothing of the process is left."""
    mark = mark or uuid.uuid4().hex
    command = [sys.executable, "-S", "-u", "-m", "tests.support.stdio_servers.villain", misdeed, mark]
    entry: Message = {
        "name": "bad",
        "command": command,
        "cwd": str(ROOT),
        "timeouts": {"start": start, "call": "500ms", "list": "2s"},
        "limits": {"responseBytes": "1MiB"},
        "health": {"interval": "1s", "failures": 1 if start == "1s" else 3},
    }
    async with nine_and([entry]) as running:
        yield running
    assert running_with(mark) == []
