"""A stdio server that has to download itself: it comes up at its first start, and holds nobody up until then."""

import sys
from pathlib import Path

import pytest

from tests.support.bystanders import quick, status_of, until_state
from tests.support.children import ROOT
from tests.support.gateway import running_gateway
from tests.support.raw_client import Message

pytestmark = pytest.mark.wire


def entry(done: Path) -> Message:
    command = [sys.executable, "-S", "-u", "-m", "tests.support.stdio_servers.downloads_first", str(done)]
    return {"name": "slow", "command": command, "cwd": str(ROOT), "timeouts": {"connect": "300ms", "start": "30s"}}


async def test_a_server_that_downloads_itself_comes_up_at_its_first_start_and_holds_nobody_up(tmp_path: Path) -> None:
    done = tmp_path / "done"
    async with running_gateway([entry(done)]) as running, running.client2025() as client:  # which is ready
        await client.initialize()
        with quick("tools/list"):
            assert await client.list() == []
        await until_state(running, "slow", "starting")
        while (told := await status_of(running, "slow"))["stderr"] is None:
            pass
        assert (told["stderr"], told["failures"], told["last_error"]) == ("Downloading numpy", 0, None)
        stream = await client.stream()
        done.touch()
        message = await stream.next()
        while message is not None and message.get("method") != "notifications/tools/list_changed":
            message = await stream.next()
        assert message is not None
        assert await client.list() == ["slow_add"]
        assert "result" in await client.call("slow_add")
        told = await status_of(running, "slow")
        assert (told["state"], told["restarts"], told["starting_since_unix_s"]) == ("ready", 0, None)
    assert done.with_suffix(".starts").read_text() == "started\n"
