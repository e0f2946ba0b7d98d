"""Calls through a Backend: whose link, which slot, what is repeated, how it all ends."""

from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.backend import REMOVED, Backend
from mcp_gateway.backends.caller import may_be_asked
from mcp_gateway.backends.transports.base import Answer, ClientIdentity, Hear, Inbound
from mcp_gateway.config.spec import BackendLimits, HealthSpec, Timeouts
from mcp_gateway.errors import (
    BackendDown,
    BackendGone,
    BackendProtocol,
    BackendSessionLost,
    BackendTimeout,
    Executed,
    Overload,
)
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28
from mcp_gateway.routing.snapshot import Health
from mcp_gateway.values import JsonObject
from tests.support.scripted_link import (
    ASKABLE,
    CALL,
    Refusal,
    ScriptedBackend,
    ScriptedLink,
    caller,
    deaf,
    notice,
    question,
    ready,
    running,
)

HOUR = HealthSpec(interval_s=3600.0)


def slow(seconds: float) -> Callable[[ScriptedLink, JsonObject, Hear], Awaitable[JsonObject]]:
    async def handler(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(seconds)
        return {"content": []}

    return handler


def state(backend: Backend) -> Health:
    return backend.snapshot.health


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


async def test_a_modern_process_is_shared_by_all(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", era=V2026_07_28)
    async with running(scripted) as backend:
        await ready(backend)
        await backend.exchange(caller("c", ASKABLE), CALL, deaf)
        assert len(scripted.links) == 1


async def test_at_the_bound_of_processes_callers_share_and_status_counts_it(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    async with running(scripted, limits=BackendLimits(processes=2)) as backend:
        await ready(backend)
        for session in ("a", "b", "c"):
            await backend.exchange(caller(session, ASKABLE), CALL, deaf)
        assert len(scripted.links) == 3
        assert backend.shared_for_lack == 1
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


# --- messages ---


async def test_what_comes_with_a_call_is_passed_on_but_pings_and_changed_lists(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()

    async def chatty(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(notice("notifications/progress", progress=1))
        await hear(notice("notifications/tools/list_changed"))
        await hear(question("ping"))
        await hear(question("elicitation/create"))
        return {"content": []}

    scripted.handlers["tools/call"] = chatty
    heard: list[str] = []

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound.method)

    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.exchange(caller("a"), CALL, hear)
        assert heard == ["notifications/progress", "elicitation/create"]
        assert len(scripted.links[1].said) == 1
        await trio.sleep(2)
        assert scripted.asked("tools/list") == 2
        await backend.respond(caller("a"), b'{"id":"q1"}')
        assert scripted.links[1].said[-1] == b'{"id":"q1"}'
        with pytest.raises(BackendSessionLost):
            await backend.respond(caller("b"), b"{}")


async def test_an_answer_on_a_shared_pipe_goes_out_on_it(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    async with running(scripted) as backend:
        with pytest.raises(BackendSessionLost):
            await backend.respond(caller("a"), b"{}")
        await ready(backend)
        await backend.respond(caller("a"), b"{}")
        assert scripted.links[0].said == [b"{}"]


async def test_the_clients_stream_opens_and_closes_the_upstream_one(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    heard: list[str] = []

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound.method)

    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        backend.set_stream("a", hear)
        assert len(scripted.links) == 1  # a stream opens no session
        await backend.exchange(caller("a"), CALL, deaf)
        await wait_all_tasks_blocked()
        await scripted.links[1].say(notice("notifications/message", level="info"))
        await scripted.links[1].say(question("ping"))
        await scripted.links[1].say(question("roots/list"))
        await wait_all_tasks_blocked()
        assert heard == ["notifications/message", "roots/list"]
        backend.set_stream("a", None)
        await wait_all_tasks_blocked()
        assert scripted.links[1].stream is None
        backend.set_stream("a", hear)
        backend.set_stream("a", hear)
        await wait_all_tasks_blocked()
        assert scripted.asked("GET") == 3
        await trio.sleep(400)
        assert not scripted.links[1].closed  # a session with a stream is in use


async def test_a_first_call_waits_for_the_stream_that_its_client_wants(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    scripted.handlers["tools/call"] = _stream_must_be_open
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        backend.set_stream("a", deaf)
        await backend.exchange(attrs.evolve(caller("a"), wants_stream=True), CALL, deaf)


async def test_a_session_lost_on_its_stream_is_forgotten(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        backend.set_stream("a", deaf)
        await backend.link_for(caller("a"))
        await wait_all_tasks_blocked()
        scripted.links[1].forgotten = True
        stream = scripted.links[1].stream
        assert stream is not None
        stream.close()
        await trio.sleep(5)
        assert backend.sessions == 0


async def test_unattributed_messages_of_an_own_process_go_to_its_clients_stream(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    heard: list[str] = []

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound.method)

    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.link_for(caller("a", ASKABLE))
        await scripted.links[1].say(question("sampling/createMessage"))  # nobody there to ask
        await scripted.links[1].say(notice("notifications/message"))
        backend.set_stream("a", hear)
        await scripted.links[1].say(question("sampling/createMessage"))
        assert heard == ["sampling/createMessage"]
        assert len(scripted.links[1].said) == 1


# --- parked calls, retirement ---


async def test_a_parked_call_outlives_the_request_that_began_it(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(handlers={"tools/call": slow(5)})
    answers: list[Answer] = []
    async with running(scripted) as backend:
        await ready(backend)

        async def parked() -> None:
            answers.append(await backend.exchange(caller(identity=ASKABLE), CALL, deaf))

        backend.start_in_session(caller(identity=ASKABLE), "parked:tools/call", parked)
        cancelled = backend.start_in_session(caller(identity=ASKABLE), "parked:tools/call", trio.sleep_forever)
        await trio.sleep(6)
        assert len(answers) == 1
        cancelled.cancel("enough")
        await wait_all_tasks_blocked()


async def test_a_retired_backend_finishes_its_calls_and_takes_no_new_ones(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(handlers={"tools/call": slow(50)})
    async with running(scripted) as backend:
        await ready(backend)
        done = trio.Event()

        async def call() -> None:
            with backend.call_scope():
                await backend.exchange(caller("a"), CALL, deaf)
                done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.sleep(1)
            backend.retire()
            assert backend.retiring
            with pytest.raises(BackendDown, match=REMOVED):
                backend.check_open()
            await done.wait()
        await backend.gone.wait()
        assert trio.current_time() == pytest.approx(50, abs=1)
        with pytest.raises(BackendDown):
            await backend.exchange(caller("a"), CALL, deaf)
        with pytest.raises(BackendDown):
            backend.start_in_session(caller("a"), "late", trio.sleep_forever)
        with pytest.raises(BackendSessionLost):
            await backend.respond(caller("a"), b"{}")
        backend.end_session("a")
        backend.set_stream("a", None)
        assert backend.sessions == backend.links == 0


async def test_removal_gives_calls_their_grace_and_then_cancels_them_with_the_reason(
    autojump_clock: MockClock,
) -> None:
    scripted = ScriptedBackend(handlers={"tools/call": slow(500)})
    async with running(scripted) as backend:
        await ready(backend)
        scopes: list[trio.CancelScope] = []

        async def call() -> None:
            with backend.call_scope() as scope:
                scopes.append(scope)
                await backend.exchange(caller("a"), CALL, deaf)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            backend.start_in_session(caller("a"), "parked", trio.sleep_forever)
            await trio.sleep(1)
            began_at = trio.current_time()
            backend.retire(100)
            backend.retire(10)
            await backend.gone.wait()
        assert trio.current_time() - began_at == pytest.approx(10, abs=0.1)
        assert scopes[0].cancelled_caught
        assert scripted.links[1].cancelled == 1


async def test_a_retiring_backend_publishes_nothing_and_does_not_reconnect(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", handlers={"tools/call": slow(30)})
    async with running(scripted) as backend:
        await ready(backend)
        shot = backend.snapshot
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(BackendGone):
                    await backend.exchange(caller("a"), CALL, deaf)

            nursery.start_soon(call)
            await trio.sleep(1)
            backend.retire()
            scripted.links[0].die("exit status 1")
        await backend.gone.wait()
        assert backend.snapshot is shot
        assert len(scripted.links) == 1


async def test_closing_is_bounded_however_long_goodbyes_take(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(goodbye_s=100)
    async with running(scripted, timeouts=Timeouts()) as backend:
        await ready(backend)
        for session in "abcdef":
            await backend.link_for(caller(session))
        began_at = trio.current_time()
        backend.close("test")
        await backend.gone.wait()
        assert trio.current_time() - began_at <= 2.1


async def _stream_must_be_open(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.lowlevel.checkpoint()
    assert link.stream is not None
    return {"content": []}
