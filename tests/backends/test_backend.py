"""Calls through a Backend: whose link, which slot, what is repeated, how it all ends."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.caller import may_be_asked
from mcp_gateway.backends.transports.base import ClientIdentity
from mcp_gateway.config.spec import BackendLimits, HealthSpec
from mcp_gateway.errors import (
    BackendGone,
    BackendTimeout,
    Executed,
    Overload,
)
from mcp_gateway.protocol.eras import V2026_07_28
from tests.support.backend_calls import slow
from tests.support.scripted_link import (
    ASKABLE,
    CALL,
    ScriptedBackend,
    caller,
    deaf,
    ready,
    running,
)

# --- whose link ---


async def test_each_client_session_has_its_own_upstream_session_with_its_own_identity(
    autojump_clock: MockClock,
) -> None:
    scripted = ScriptedBackend()
    alice = ClientIdentity(capabilities=b'{"roots":{}}', info=b'{"name":"alice"}', version="2025-06-18")
    async with running(scripted) as backend:
        await ready(backend)
        for _ in range(3):
            await backend.exchange(caller("a", alice), CALL, deaf)
            await backend.exchange(caller("b"), CALL, deaf)
        assert len(scripted.links) == 3
        assert scripted.links[1].identity is alice
        assert backend.sessions == 2


async def test_modern_clients_share_by_principal_capabilities_and_version(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted) as backend:
        await ready(backend)
        for who in (
            caller(),
            caller(),
            caller(subject="bob"),
            caller(identity=ASKABLE),
            caller(identity=ClientIdentity(version="2025-06-18")),
        ):
            await backend.exchange(who, CALL, deaf)
        assert backend.sessions == 4


@pytest.mark.parametrize(
    "scripted",
    [
        pytest.param(ScriptedBackend(era=V2026_07_28), id="modern"),
        pytest.param(ScriptedBackend(sessionless=True), id="no session ids"),
    ],
)
async def test_a_stateless_backend_has_one_link_for_everybody(
    autojump_clock: MockClock, scripted: ScriptedBackend
) -> None:
    async with running(scripted) as backend:
        await ready(backend)
        for who in (caller("a"), caller("b"), caller(identity=ASKABLE)):
            await backend.exchange(who, CALL, deaf)
        assert backend.sessions == 1
        await backend.respond(caller("a"), b"{}")


@pytest.mark.parametrize("transport", ["stdio", "sse"])
async def test_clients_that_cannot_be_asked_share_the_pipe_and_others_have_their_own(
    autojump_clock: MockClock, transport: str
) -> None:
    scripted = ScriptedBackend(transport=transport)
    async with running(scripted) as backend:
        await ready(backend)
        await backend.exchange(caller("a"), CALL, deaf)
        await backend.exchange(caller("b"), CALL, deaf)
        assert len(scripted.links) == 1
        await backend.exchange(caller("c", ASKABLE), CALL, deaf)
        await backend.exchange(caller("c", ASKABLE), CALL, deaf)
        assert len(scripted.links) == 2
        assert scripted.links[1].identity is ASKABLE
        assert [link.shared for link in scripted.links] == [True, False]


@pytest.mark.parametrize("session", [None, "c"])
async def test_a_modern_process_is_shared_by_all(autojump_clock: MockClock, session: str | None) -> None:
    scripted = ScriptedBackend(transport="stdio", era=V2026_07_28)
    async with running(scripted) as backend:
        await ready(backend)
        await backend.exchange(caller(session, ASKABLE), CALL, deaf)
        assert len(scripted.links) == 1


async def test_at_the_bound_of_processes_callers_share_and_status_counts_it(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    async with running(scripted, limits=BackendLimits(processes=2)) as backend:
        await ready(backend)
        for session in ("a", "b", "c"):
            await backend.exchange(caller(session, ASKABLE), CALL, deaf)
        assert len(scripted.links) == 3
        assert backend.reach.shared_for_lack == 1
        assert scripted.links[0].methods()[-1] == "tools/call"


@pytest.mark.parametrize(
    "capabilities, asked",
    [
        (b"{}", False),
        (b'{"tools":{}}', False),
        (b'{"elicitation":{}}', True),
        (b'{"roots":{}}', True),
        (b'{"sampling":{}}', True),
        (b"[]", False),
        (b"nonsense", False),
    ],
)
def test_who_declares_sampling_elicitation_or_roots_may_be_asked(capabilities: bytes, asked: bool) -> None:
    assert may_be_asked(capabilities) is asked


# --- opening ---


async def test_those_who_wait_for_one_session_share_its_opening_and_its_failure(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(connect_s=0.5)
    failures: list[BackendGone] = []
    async with running(scripted, health=HealthSpec(failures=100)) as backend:
        await ready(backend)
        scripted.up = False

        async def call() -> None:
            with pytest.raises(BackendGone) as caught:
                await backend.link_for(caller("a"))
            failures.append(caught.value)

        before = len(scripted.attempts)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(call)
        opened = [at for at in scripted.attempts[before:] if at == scripted.attempts[before]]
        assert len(opened) == 1
        assert len({id(failure) for failure in failures}) == 5
        scripted.up = True
        await backend.link_for(caller("a"))  # the failure was not cached


async def test_a_caller_that_leaves_does_not_disturb_the_opening(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted) as backend:
        await ready(backend)
        scripted.connect_s = 2.0
        with trio.move_on_after(1):
            await backend.link_for(caller("a"))
        await backend.link_for(caller("a"))
        assert trio.current_time() == pytest.approx(2.0, abs=0.3)
        assert len(scripted.links) == 2


async def test_opening_has_the_connect_limit_whatever_the_callers_deadline(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted) as backend:
        await ready(backend)
        scripted.connect_s = 100.0
        with pytest.raises(BackendTimeout) as caught:
            await backend.link_for(caller("a"))
        assert (caught.value.limit.value, caught.value.executed) == ("connect", Executed.NO)
        assert backend.sessions == backend.links == 0


async def test_a_call_before_the_first_connection_waits_for_it(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(connect_s=1.0)
    async with running(scripted) as backend:
        await backend.exchange(caller("a"), CALL, deaf)


async def test_a_call_that_waits_for_the_connection_learns_of_its_failure(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", up=False, connect_s=1.0)
    async with running(scripted) as backend:
        with pytest.raises(BackendGone, match="connection refused"):
            await backend.exchange(caller("a"), CALL, deaf)
        assert trio.current_time() == pytest.approx(1.0)


async def test_a_call_waits_for_a_restart_that_is_near(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    async with running(scripted) as backend:
        await ready(backend)
        scripted.links[0].die("exit status 1")
        await trio.sleep(0.01)
        await backend.exchange(caller("a"), CALL, deaf)
        assert len(scripted.links) == 2


async def test_a_call_does_not_wait_for_a_restart_that_is_far(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    async with running(scripted, health=HealthSpec(failures=100)) as backend:
        await ready(backend)
        scripted.up = False
        scripted.links[0].die("exit status 1")
        await trio.sleep(20)
        with pytest.raises(BackendGone) as caught:
            await backend.exchange(caller("a"), CALL, deaf)
        assert caught.value.executed is Executed.NO
        assert caught.value.retry_after_ms is not None
        assert caught.value.retry_after_ms > 5000


# --- bounds and unused links ---


async def test_the_longest_unused_session_makes_room(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted, limits=BackendLimits(upstream_sessions=2)) as backend:
        await ready(backend)
        for session in ("a", "b", "a", "c"):
            await backend.exchange(caller(session), CALL, deaf)
            await trio.sleep(1)
        assert [link.closed for link in scripted.links[1:]] == [False, True, False]


async def test_sessions_that_are_all_in_use_refuse_a_newcomer(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(handlers={"tools/call": slow(10)})
    async with running(scripted, limits=BackendLimits(upstream_sessions=1)) as backend:
        await ready(backend)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.exchange, caller("a"), CALL, deaf)
            await trio.sleep(1)
            with pytest.raises(Overload, match=r"limits\.upstreamSessions"):
                await backend.exchange(caller("b"), CALL, deaf)


async def test_a_session_unused_for_five_minutes_is_closed_and_a_used_one_is_not(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(handlers={"tools/call": slow(400)})
    async with running(scripted) as backend:
        await ready(backend)
        await backend.link_for(caller("idle"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.exchange, caller("busy"), CALL, deaf)
            await trio.sleep(301)
            assert [link.closed for link in scripted.links[1:]] == [True, False]
        await trio.sleep(301)
        assert backend.sessions == 0


async def test_the_end_of_a_client_session_closes_its_link_alone(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(goodbye_s=1.0)
    async with running(scripted) as backend:
        await ready(backend)
        await backend.exchange(caller("a"), CALL, deaf)
        await backend.exchange(caller("b"), CALL, deaf)
        began_at = trio.current_time()
        backend.end_session("a")
        backend.end_session("never seen")
        assert trio.current_time() == began_at  # the goodbye is in the background
        await trio.sleep(0.1)
        assert [link.closed for link in scripted.links[1:]] == [True, False]
        assert (backend.sessions, backend.links) == (1, 2)


async def test_a_session_that_ends_while_opening_is_closed_as_soon_as_it_is_open(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted) as backend:
        await ready(backend)
        scripted.connect_s = 2.0
        with trio.move_on_after(1):
            await backend.link_for(caller("a"))
        backend.end_session("a")
        await trio.sleep(2)
        assert backend.links == 0


# --- slots ---


async def test_calls_beyond_concurrency_wait_in_order_and_are_told(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(handlers={"tools/call": slow(1)})
    order: list[int] = []
    queued: list[int] = []
    async with running(scripted, limits=BackendLimits(concurrency=2)) as backend:
        await ready(backend)

        async def call(number: int) -> None:
            await backend.exchange(caller("a"), CALL, deaf, lambda: queued.append(number))
            order.append(number)

        await backend.link_for(caller("a"))
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(call, number)
                await wait_all_tasks_blocked()
            assert (backend.in_flight, backend.queued) == (6, 4)
        assert [set(order[at : at + 2]) for at in (0, 2, 4)] == [{0, 1}, {2, 3}, {4, 5}]
        assert queued == [2, 3, 4, 5]
        assert (backend.in_flight, backend.queued) == (0, 0)


async def test_a_call_cancelled_in_the_queue_is_dropped_silently(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(handlers={"tools/call": slow(10)})
    async with running(scripted, limits=BackendLimits(concurrency=1)) as backend:
        await ready(backend)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.exchange, caller("a"), CALL, deaf)
            await trio.sleep(1)
            with trio.move_on_after(2):
                await backend.exchange(caller("a"), CALL, deaf)
            assert scripted.asked("tools/call") == 1
            assert backend.queued == 0
