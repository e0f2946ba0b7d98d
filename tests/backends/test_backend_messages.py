"""Calls through a Backend: what comes beside answers, and how calls end when the backend goes."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.backend import REMOVED
from mcp_gateway.backends.transports.base import Answer, Hear, Inbound
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.errors import (
    BackendDown,
    BackendGone,
    BackendSessionLost,
)
from mcp_gateway.values import JsonObject
from tests.support.backend_calls import HOUR, slow
from tests.support.scripted_link import (
    ASKABLE,
    CALL,
    ScriptedBackend,
    ScriptedLink,
    caller,
    deaf,
    notice,
    question,
    ready,
    running,
)

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
        await backend.exchange(caller("a"), CALL, deaf)


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
