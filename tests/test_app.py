"""The program inside another one, as the demo runs it: what it holds while it runs, and that it leaves nothing."""

import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
import trio

from mcp_gateway import app
from mcp_gateway.app import Addresses, Drain, Options
from mcp_gateway.config.watch import FileSource
from mcp_gateway.errors import ConfigError
from mcp_gateway.front.server import BindError
from tests.support.raw_client import connect2025

pytestmark = pytest.mark.wire


def options(
    folder: Path, config: Mapping[str, object], bind: str = "127.0.0.1:0", admin_bind: str = "127.0.0.1:0"
) -> Options:
    file = folder / "gateway.yaml"
    file.write_text(orjson.dumps(config).decode())
    source = FileSource(path=file, environ={})
    return Options(source=source, bind=bind, admin_bind=admin_bind, log_level="error")


def timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_the_second_signal_is_not_the_first() -> None:
    drain = Drain()
    for _ in range(3):
        drain.signalled()
        assert drain.begun.is_set()
        if not drain.hurried.is_set():
            drain.signalled()
    assert drain.hurried.is_set()
    assert not drain.closing.is_set()


async def test_a_signal_ends_it_with_code_zero_and_nothing_goes_on(tmp_path: Path) -> None:
    codes: list[int] = []
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def run(task_status: trio.TaskStatus[Addresses]) -> None:
        codes.append(await app.serve(options(tmp_path, {"servers": []}), task_status=task_status))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            where = await nursery.start(run)
            assert where.public != where.admin
            async with connect2025(f"http://{where.public}/mcp") as client:
                assert (await client.initialize())["serverInfo"]["name"] == "mcp-gateway"
                os.kill(os.getpid(), signal.SIGTERM)
    assert codes == [0]
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    with trio.fail_after(2):
        while any(timer.is_alive() for timer in timers()):  # noqa: ASYNC110  # a thread has no event of ours
            await trio.sleep(0.01)


async def test_it_can_be_cancelled_like_anything_else(tmp_path: Path) -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            where = await nursery.start(app.serve, options(tmp_path, {"servers": []}))
            async with connect2025(f"http://{where.public}/mcp") as client:
                await client.initialize()
                await client.stream()
                nursery.cancel_scope.cancel("test")
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_what_cannot_be_served_is_said_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        await app.serve(options(tmp_path, {"servers": [], "nonsense": 1}))
    async with trio.open_nursery() as nursery:
        where = await nursery.start(app.serve, options(tmp_path, {"servers": []}))
        for bind in ({"bind": where.public}, {"admin_bind": where.public}):
            with pytest.raises(BindError, match="in use"):
                await app.serve(options(tmp_path, {"servers": []}, **bind))
        nursery.cancel_scope.cancel("test over")
