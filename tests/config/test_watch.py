"""A changed file takes effect within a second; a bad one changes nothing but the status."""

# ruff: noqa: ASYNC240  # writing a few bytes into a temporary folder keeps nobody waiting

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from mcp_gateway.cell import Cell
from mcp_gateway.config.file import load
from mcp_gateway.config.source import ConfigStatus, Configuration, settle
from mcp_gateway.config.spec import GatewaySpec, HttpTarget, SessionsSpec
from mcp_gateway.config.watch import FileSource

INTERVAL_S = 0.02
PROMISE_S = 1.0
NOW_UNIX_S = 1_800_000_000.0


def configuration(*names: str) -> str:
    return "servers:" + ("".join(f"\n  - {{name: {name}, url: 'http://127.0.0.1/{name}'}}" for name in names) or " []")


@attrs.define
class Watched:
    """A running watcher and what it watches."""

    path: Path
    cell: Cell[GatewaySpec]
    status: Cell[ConfigStatus]

    def names(self) -> list[str]:
        return [server.key for server in self.cell.value.servers]

    async def until(self, fits: Callable[[], bool]) -> None:
        """Wait for the next states of both cells, for as long as the design promises."""
        with trio.fail_after(PROMISE_S):
            while not fits():
                await self.status.changed(self.status.version)

    async def unchanged(self) -> None:
        """Let the watcher look several times, and see that nothing happens."""
        before = self.cell.value, self.status.value
        await trio.sleep(INTERVAL_S * 6)
        assert (self.cell.value, self.status.value) == before


@asynccontextmanager
async def watching(path: Path, interval_s: float = INTERVAL_S) -> AsyncIterator[Watched]:
    watched = Watched(path, Cell(load(path, {})), Cell(ConfigStatus(loaded_at_unix_s=0.0)))
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            configuration = Configuration(
                source=str(path), spec=watched.cell, status=watched.status, wall_clock=lambda: NOW_UNIX_S
            )
            await FileSource(path=path, environ={}, interval_s=interval_s).follow(configuration)

        nursery.start_soon(watch)
        yield watched
        nursery.cancel_scope.cancel("the test is over")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(configuration("a"))
    return path


async def test_an_unchanged_file_changes_nothing(config: Path) -> None:
    async with watching(config) as watched:
        await watched.unchanged()
        os.utime(config, (1, 1))
        await watched.unchanged()


async def test_a_rewritten_file_takes_effect(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with watching(config) as watched:
        config.write_text(configuration("a", "b"))
        await watched.until(lambda: watched.names() == ["a", "b"])
        assert watched.status.value == ConfigStatus(generation=2, loaded_at_unix_s=NOW_UNIX_S)
    assert [record.message for record in caplog.records] == ["configuration loaded"]


async def test_what_is_ignored_of_a_file_shows_in_the_status(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with watching(config) as watched:
        config.write_text('{"mcpServers": {"a": {"url": "http://a", "timeout": 60}}}')
        await watched.until(lambda: watched.status.value.generation == 2)
        (note,) = watched.status.value.notes
        assert note.startswith("line 1: mcpServers.a.timeout: is ignored")
        config.write_text(configuration("a"))
        await watched.until(lambda: watched.status.value.generation == 3)
        assert watched.status.value.notes == ()
    assert [record.message for record in caplog.records if "ignored" in record.message] == ["settings are ignored"]


async def test_the_usual_interval_keeps_the_promise(config: Path) -> None:
    async with watching(config, interval_s=0.25) as watched:
        await trio.sleep(INTERVAL_S)
        config.write_text(configuration("b"))
        await watched.until(lambda: watched.names() == ["b"])


async def test_a_change_before_the_first_look_is_not_missed(config: Path) -> None:
    async with watching(config) as watched:
        config.write_text(configuration("b"))
        await watched.until(lambda: watched.names() == ["b"])


async def test_an_atomic_rename_takes_effect(config: Path) -> None:
    async with watching(config) as watched:
        fresh = config.with_suffix(".new")
        fresh.write_text(configuration("b"))
        fresh.rename(config)
        await watched.until(lambda: watched.names() == ["b"])


async def test_the_symlink_swap_of_a_kubernetes_volume_takes_effect(tmp_path: Path) -> None:
    for version, name in (("..1", "a"), ("..2", "b")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "gateway.yaml").write_text(configuration(name))
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "gateway.yaml"
    path.symlink_to("..data/gateway.yaml")
    async with watching(path) as watched:
        assert watched.names() == ["a"]
        (tmp_path / "..tmp").symlink_to("..2")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        await watched.until(lambda: watched.names() == ["b"])


async def test_a_bad_file_keeps_the_last_good_one_and_says_so(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(config) as watched:
        config.write_text("servers: [{name: a}]")
        await watched.until(lambda: watched.status.value.error is not None)
        assert watched.status.value.error == f"{config}: line 1: servers[0]: needs either url or command"
        assert watched.names() == ["a"]
        await watched.unchanged()
        config.write_text(configuration("a"))
        await watched.until(lambda: watched.status.value.error is None)
        assert watched.status.value == ConfigStatus(loaded_at_unix_s=0.0)
    assert [record.message for record in caplog.records] == ["configuration refused, the last good one stays in force"]


@pytest.mark.parametrize("content", [b"", b"servers:\n  - name: a", b"servers:\n"])
async def test_a_half_written_file_keeps_the_last_good_one(config: Path, content: bytes) -> None:
    async with watching(config) as watched:
        config.write_bytes(content)
        await watched.until(lambda: watched.status.value.error is not None)
        assert watched.names() == ["a"]


async def test_a_file_that_is_still_growing_is_not_taken(config: Path) -> None:
    async with watching(config, interval_s=0.1) as watched:
        for count in range(1, 15):  # each is good YAML, and only the last is what the user wants
            config.write_text(configuration(*(f"s{index}" for index in range(count))))
            await trio.sleep(INTERVAL_S)
            assert watched.names() in (["a"], ["s0"])  # s0: it stood there at the first look
        await watched.until(lambda: len(watched.names()) == 14)


async def test_a_deleted_file_keeps_the_last_good_one(config: Path) -> None:
    async with watching(config) as watched:
        config.unlink()
        await watched.until(lambda: "No such file" in (watched.status.value.error or ""))
        config.write_text(configuration("b"))
        await watched.until(lambda: watched.names() == ["b"])


async def test_a_changed_credential_file_takes_effect(config: Path) -> None:
    token = config.with_name("token")
    token.write_text("one")
    config.write_text("servers: [{name: a, url: 'http://a', credential: {file: token}}]")

    def credential(watched: Watched) -> str | None:
        target = watched.cell.value.servers[0].target
        return target.credential if isinstance(target, HttpTarget) else None

    async with watching(config) as watched:
        token.write_text("two")
        await watched.until(lambda: credential(watched) == "two")
        token.unlink()
        await watched.until(lambda: "cannot read file token" in (watched.status.value.error or ""))
        assert credential(watched) == "two"
        token.write_text("three")
        await watched.until(lambda: credential(watched) == "three")


async def test_sighup_takes_the_file_at_once(config: Path) -> None:
    async with watching(config, interval_s=60.0) as watched:
        await trio.sleep(INTERVAL_S * 2)
        config.write_text(configuration("b"))
        os.kill(os.getpid(), signal.SIGHUP)
        await watched.until(lambda: watched.names() == ["b"])


def test_without_the_main_thread_there_is_no_sighup_but_the_file_is_watched(config: Path) -> None:
    async def main() -> None:
        async with watching(config) as watched:
            config.write_text(configuration("b"))
            await watched.until(lambda: watched.names() == ["b"])

    async def elsewhere() -> None:
        await trio.to_thread.run_sync(trio.run, main)

    trio.run(elsewhere)


def test_another_session_store_waits_for_a_restart() -> None:
    running = GatewaySpec(instructions="old")
    wanted = GatewaySpec(instructions="new", sessions=SessionsSpec(store="redis://a", idle_s=1.0))
    assert settle(running, wanted) == (
        GatewaySpec(instructions="new", sessions=SessionsSpec(idle_s=1.0)),
        ("sessions.store",),
    )
    assert settle(running, running) == (running, ())


async def test_what_waits_for_a_restart_shows_in_the_status(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    running = attrs.evolve(load(config, {}), sessions=SessionsSpec(store="redis://a"))
    cell, status = Cell(running), Cell(ConfigStatus(loaded_at_unix_s=0.0))
    async with trio.open_nursery() as nursery:
        source = FileSource(path=config, environ={}, interval_s=INTERVAL_S)
        nursery.start_soon(source.follow, Configuration(source="test", spec=cell, status=status))
        with trio.fail_after(PROMISE_S):
            await status.changed(status.version)
        assert status.value == ConfigStatus(loaded_at_unix_s=0.0, restart_needed=("sessions.store",))
        assert cell.value == running
        nursery.cancel_scope.cancel("the test is over")
    assert [record.message for record in caplog.records] == ["settings wait for a restart"]
