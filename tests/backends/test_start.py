"""How long a server may take to come up, and what is known of it meanwhile."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.start import LONGEST_S, WORDS_CHARS, Start
from mcp_gateway.backends.status import status_of
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.errors import BackendTimeout, Executed, Limit
from mcp_gateway.routing.snapshot import Health
from mcp_gateway.values import JsonObject
from tests.support.scripted_link import ASKABLE, CALL, ScriptedBackend, caller, deaf, ready, running, server


def told(backend: Backend) -> JsonObject:
    return status_of(backend, lambda at: at)


@asynccontextmanager
async def writing(scripted: ScriptedBackend, every_s: float) -> AsyncIterator[None]:
    """What the process does to standard error during the block."""

    async def write() -> None:
        while True:
            await trio.sleep(every_s)
            scripted.stderr(b"Downloading 1 %\rDownloading 2 %\r")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        yield
        nursery.cancel_scope.cancel("written enough")


async def test_a_process_that_needs_long_comes_up_at_its_first_start(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", connect_s=59.0)
    async with running(scripted) as backend:
        await ready(backend)
        assert len(scripted.attempts) == 1
        assert backend.supervisor.machine.last_error == ""


async def test_a_process_that_says_nothing_is_given_up_after_its_limit(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", connect_s=1000.0)
    async with running(scripted, timeouts=Timeouts(start_s=20.0)) as backend:
        await trio.sleep(20.1)
        assert "start limit of 20 s reached" in backend.supervisor.machine.last_error


async def test_a_process_that_writes_to_stderr_is_waited_for(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", connect_s=LONGEST_S - 1.0)
    async with running(scripted) as backend, writing(scripted, every_s=59.0):
        await ready(backend)
        assert len(scripted.attempts) == 1
        assert backend.supervisor.machine.last_error == ""


async def test_a_process_that_only_writes_is_given_up_in_the_end(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", connect_s=1000.0)
    async with running(scripted) as backend, writing(scripted, every_s=10.0):
        await trio.sleep(LONGEST_S - 1.0)
        assert backend.supervisor.machine.last_error == ""
        await trio.sleep(2.0)
        assert "start limit of 300 s reached" in backend.supervisor.machine.last_error


async def test_a_configured_limit_above_the_longest_is_kept(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", connect_s=400.0)
    async with running(scripted, timeouts=Timeouts(start_s=500.0)) as backend:
        await ready(backend)
        assert len(scripted.attempts) == 1


async def test_what_is_written_later_changes_nothing(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    async with running(scripted, timeouts=Timeouts(start_s=1.0)) as backend, writing(scripted, every_s=0.5):
        await trio.sleep(10.0)
        assert backend.snapshot.health is Health.READY
        assert (told(backend)["starting_since_unix_s"], told(backend)["stderr"]) == (None, "Downloading 2 %")


async def test_a_server_over_http_has_the_limit_of_connecting(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    start = Start.of(server(scripted))
    scripted.connect_s = 1000.0
    with pytest.raises(BackendTimeout) as late:
        async with start.link(scripted, await ScriptedBackend().detect(), ASKABLE, deaf):
            pytest.fail("opened")
    assert (late.value.limit, late.value.after_s, late.value.executed) == (Limit.CONNECT, 5.0, Executed.NO)


# --- nobody waits for it -------------------------------------------------------------------------------------------


async def test_a_process_that_needs_long_is_starting_and_holds_nobody_up(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", connect_s=40.0)
    async with running(scripted) as backend:
        began_at = trio.current_time()
        await trio.sleep(1.0)
        assert not backend.supervisor.builder.first_answer.is_set()  # it may come up as quickly as others
        assert (told(backend)["state"], told(backend)["stderr"]) == ("starting", None)
        scripted.stderr(b"Installed 30 packages\n\x1b[1mBuilding wheel\x1b[0m\n\n")
        await trio.sleep(5.0)
        assert backend.supervisor.builder.first_answer.is_set()
        assert not backend.supervisor.builder.settled.is_set()  # the generation before goes on serving
        report = told(backend)
        assert (report["state"], report["stderr"]) == ("starting", "Building wheel")
        assert report["starting_since_unix_s"] == began_at
        await ready(backend)
        assert (told(backend)["state"], told(backend)["starting_since_unix_s"]) == ("ready", None)


async def test_a_server_that_was_ready_keeps_its_state_while_its_process_starts_again(
    autojump_clock: MockClock,
) -> None:
    scripted = ScriptedBackend(transport="stdio")
    async with running(scripted) as backend:
        await ready(backend)
        scripted.connect_s = 40.0
        scripted.links[-1].die("its process exited with code 1")
        await trio.sleep(10.0)
        assert told(backend)["state"] == "degraded"
        assert told(backend)["starting_since_unix_s"] is not None
        answer = await backend.exchange(caller(), CALL, deaf)  # waits for it, under its own deadline
        assert b"content" in answer.raw


async def test_a_server_over_http_is_never_starting(autojump_clock: MockClock) -> None:
    async with running(ScriptedBackend(connect_s=4.0)) as backend:
        await trio.sleep(1.0)
        assert (told(backend)["state"], told(backend)["starting_since_unix_s"]) == ("connecting", None)


async def test_the_process_of_a_client_may_take_as_long(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    async with running(scripted) as backend:
        await ready(backend)
        scripted.connect_s = 50.0
        began_at = trio.current_time()
        await backend.link_for(caller("session", ASKABLE))
        assert trio.current_time() - began_at >= 50.0


# --- its last words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunks, said",
    [
        pytest.param([], "", id="nothing"),
        pytest.param([b"\n \r\n"], "", id="blank lines"),
        pytest.param([b"one\ntwo\n"], "two", id="the last line"),
        pytest.param([b"one\ntw", b"o"], "two", id="a line in pieces"),
        pytest.param([b"10 %\r20 %\r"], "20 %", id="a progress bar"),
        pytest.param([b"\x1b[2K\x1b[1;32mdone\x1b[0m\x07\n"], "done", id="control characters"),
        pytest.param([b"caf\xe9\n"], "caf\N{REPLACEMENT CHARACTER}", id="not UTF-8"),
        pytest.param([b"x" * 5000], "x" * WORDS_CHARS, id="a line without end"),
        pytest.param([b"y" * 100_000 + b"\nlast\n"], "last", id="a flood"),
    ],
)
async def test_the_last_line_of_stderr_is_kept(chunks: list[bytes], said: str) -> None:
    start = Start.of(server(ScriptedBackend(transport="stdio")))
    for chunk in chunks:
        start.heard(chunk)
    assert start.said == said
