"""Calls through a Backend: sessions that are lost, and what failed calls say of its health."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import (
    BackendDown,
    BackendGone,
    BackendProtocol,
    BackendSessionLost,
    Executed,
)
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28
from mcp_gateway.routing.snapshot import Health
from mcp_gateway.values import JsonObject
from tests.support.backend_calls import HOUR, slow
from tests.support.scripted_link import (
    ASKABLE,
    CALL,
    Refusal,
    ScriptedBackend,
    ScriptedLink,
    caller,
    deaf,
    ready,
    running,
)


def state(backend: Backend) -> Health:
    return backend.snapshot.health


# --- lost, repeated ---


async def test_a_lost_session_is_opened_anew_once_and_the_call_repeated(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.exchange(caller("a"), CALL, deaf)
        scripted.links[1].forgotten = True
        await backend.exchange(caller("a"), CALL, deaf)
        assert len(scripted.links) == 3
        assert state(backend) is Health.READY


async def test_a_session_that_is_lost_twice_is_an_error(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()

    async def forget(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise BackendSessionLost(backend=scripted.key)

    scripted.handlers["tools/call"] = forget
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        with pytest.raises(BackendSessionLost):
            await backend.exchange(caller("a"), CALL, deaf)
        assert scripted.asked("tools/call") == 2


async def test_a_call_that_may_have_run_is_never_repeated(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")

    async def crash(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        link.die("exit status 1")
        await trio.sleep_forever()
        raise AssertionError

    scripted.handlers["tools/call"] = crash
    async with running(scripted) as backend:
        await ready(backend)
        with pytest.raises(BackendGone):
            await backend.exchange(caller("a"), CALL, deaf)
        assert scripted.asked("tools/call") == 1


async def test_a_session_that_is_lost_with_a_call_under_way_repeats_nothing(autojump_clock: MockClock) -> None:
    """Its stream broke, and the backend that came back knows neither the stream nor the session."""
    scripted = ScriptedBackend()

    async def lose(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise BackendSessionLost(backend=scripted.key, executed=Executed.UNKNOWN)

    scripted.handlers["tools/call"] = lose
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        with pytest.raises(BackendSessionLost) as caught:
            await backend.exchange(caller("a"), CALL, deaf)
        assert caught.value.executed is Executed.UNKNOWN
        assert scripted.asked("tools/call") == 1
        del scripted.handlers["tools/call"]
        await backend.exchange(caller("a"), CALL, deaf)  # in a session of its own


async def test_a_session_lost_while_its_call_queued_is_replaced(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(handlers={"tools/call": slow(2)})
    async with running(scripted, limits=BackendLimits(concurrency=1), health=HOUR) as backend:
        await ready(backend)
        await backend.link_for(caller("b"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.exchange, caller("a"), CALL, deaf)
            await trio.sleep(1)
            nursery.start_soon(backend.exchange, caller("b"), CALL, deaf)
            await trio.sleep(0.5)
            scripted.links[1].dead = "reset"
        assert len(scripted.links) == 4


async def test_an_own_process_that_exits_is_started_again_for_the_next_call(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    async with running(scripted) as backend:
        await ready(backend)
        await backend.exchange(caller("a", ASKABLE), CALL, deaf)
        scripted.links[1].die("exit status 1")
        await wait_all_tasks_blocked()
        assert backend.sessions == 0
        await backend.exchange(caller("a", ASKABLE), CALL, deaf)
        assert len(scripted.links) == 3
        assert state(backend) is Health.READY


# --- health and calls ---


async def test_an_open_circuit_refuses_at_once_with_the_reason_and_a_hint(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted) as backend:
        await ready(backend)
        await backend.exchange(caller("a"), CALL, deaf)
        scripted.up = False
        scripted.break_streams()
        await trio.sleep(20)
        began_at = trio.current_time()
        for refused in (backend.exchange(caller("a"), CALL, deaf), backend.link_for(caller("a"))):
            with pytest.raises(BackendDown, match="connection refused") as caught:
                await refused
            assert caught.value.retry_after_ms is not None
        with pytest.raises(BackendDown):
            backend.check_open()
        assert trio.current_time() == began_at


async def test_calls_that_fail_side_by_side_are_one_failure(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()

    async def broken(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(1)
        raise BackendGone(backend=scripted.key, why="reset")

    scripted.handlers["tools/call"] = broken
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)

        async def call() -> None:
            with pytest.raises(BackendGone):
                await backend.exchange(caller("a"), CALL, deaf)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(call)
        assert backend.supervisor.machine.failures <= 1
        await trio.sleep(1)
        assert state(backend) is Health.READY  # the probe that they caused was answered


async def test_calls_that_fail_one_after_the_other_open_the_circuit(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.link_for(caller("a"))
        scripted.up = False
        with pytest.raises(BackendGone):
            await backend.exchange(caller("a"), CALL, deaf)
        await trio.sleep(3)
        assert state(backend) is Health.DOWN


async def test_an_answer_ends_a_row_of_failures(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        backend.supervisor.machine.failed(trio.current_time(), "reset")
        await backend.exchange(caller("a"), CALL, deaf)
        assert backend.supervisor.machine.failures == 0


async def test_deadlines_cancels_and_errors_of_calls_are_no_failures(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)

        async def refuse(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
            raise Refusal(-32602)

        scripted.handlers["tools/call"] = refuse
        await backend.exchange(caller("a"), CALL, deaf)
        scripted.handlers["tools/call"] = slow(100)
        with trio.move_on_after(1):
            await backend.exchange(caller("a"), CALL, deaf)
        assert scripted.links[1].cancelled == 1
        assert backend.supervisor.machine.last_error_at is None


async def test_a_modern_backend_that_answers_400_is_looked_at_again(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(era=V2026_07_28)
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        link = await backend.link_for(caller("a"))
        scripted.era = V2025_11_25
        assert isinstance(link, ScriptedLink)
        backend.supervisor.surprised()
        backend.supervisor.surprised()
        await trio.sleep(3)
        await ready(backend)
        assert backend.snapshot.era is V2025_11_25
        assert link.closed or backend.sessions == 0


async def test_a_session_that_cannot_be_initialized_any_more_makes_us_ask_for_the_era_again(
    autojump_clock: MockClock,
) -> None:
    scripted = ScriptedBackend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        scripted.era = V2026_07_28
        with pytest.raises(BackendProtocol):
            await backend.link_for(caller("a"))
        assert backend.sessions == 0
