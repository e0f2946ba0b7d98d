"""Sessions that a server may have lost without saying so: asked, replaced once another one stands, told again.

What a server that was restarted says with its answers is ``ScriptedBackend.unknown``; the table of answers is in
``transports/test_session_sign.py``, and the same on real sockets in ``tests/wire/test_lost_sessions.py``.
"""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends import losses
from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.caller import SessionKey
from mcp_gateway.backends.losses import Losses
from mcp_gateway.backends.transports.base import Hear, Inbound
from mcp_gateway.errors import (
    BackendAuth,
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendSessionLost,
    Executed,
    GatewayError,
)
from mcp_gateway.routing.snapshot import Health
from mcp_gateway.values import BackendKey, JsonObject
from tests.support.backend_calls import HOUR, slow, wish
from tests.support.scripted_link import (
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
    same_pause,
)

KEY = BackendKey("files")
A = caller("a")
URI = "file:///a"


def unauthorized() -> BackendAuth:
    return BackendAuth(backend=KEY, status=401)


def no_session() -> Refusal:
    """An error with the id of our request, as a tool could make it too."""
    return Refusal(-32600, "Session not found")


def broken() -> BackendProtocol:
    return BackendProtocol(backend=KEY, why="HTTP 400 without a JSON-RPC answer", status=400)


async def begun(backend: Backend) -> None:
    """Ready, and the session of A has worked."""
    await ready(backend)
    await backend.exchange(A, CALL, deaf)


def calls(link: ScriptedLink) -> int:
    return link.methods().count("tools/call")


async def test_a_401_passes_unchanged_and_the_session_is_replaced_behind_it(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(unknown=unauthorized)
    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.forget_sessions()
        with pytest.raises(BackendAuth):
            await backend.exchange(A, CALL, deaf)
        await backend.exchange(A, CALL, deaf)  # waits for what is being found out
        old, new = scripted.links[1:3]
        assert (old.methods(), new.methods()) == (["tools/call", "tools/call", "ping"], ["tools/call"])
        await wait_all_tasks_blocked()
        assert (old.closed, new.closed) == (True, False)
        await trio.sleep(2)  # the gateway's own session was asked, too, and is another one
        assert backend.snapshot.health is Health.READY


async def test_an_error_with_our_id_is_the_clients_and_executed_once(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(unknown=no_session)
    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.forget_sessions()
        answer = await backend.exchange(A, CALL, deaf)
        assert b"Session not found" in answer.raw
        assert b"result" in (await backend.exchange(A, CALL, deaf)).raw
        assert [calls(link) for link in scripted.links[1:3]] == [2, 1]


async def test_a_tool_that_answers_session_expired_is_executed_once_and_keeps_its_session(
    autojump_clock: MockClock,
) -> None:
    scripted = ScriptedBackend()

    async def expired(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(-32000, "session expired")

    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.handlers["tools/call"] = expired
        for number in range(1, 11):
            assert b"session expired" in (await backend.exchange(A, CALL, deaf)).raw
            assert calls(scripted.links[1]) == number + 1
        await trio.sleep(60)
        assert len(scripted.links) == 2
        assert not scripted.links[1].closed


async def test_a_session_is_asked_once_a_second_at_most(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()

    async def expired(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(-32000, "session expired")

    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.handlers["tools/call"] = expired
        for _number in range(100):
            await backend.exchange(A, CALL, deaf)
            await trio.sleep(0.1)
        assert 9 <= scripted.links[1].methods().count("ping") <= 11


@pytest.mark.parametrize("in_a_row, pings", [(2, 0), (3, 1)])
async def test_three_requests_in_a_row_that_failed_have_the_session_asked(
    in_a_row: int, pings: int, autojump_clock: MockClock
) -> None:
    scripted = ScriptedBackend(unknown=broken)
    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.links[1].forgotten = True
        for _number in range(in_a_row):
            with pytest.raises(BackendProtocol):
                await backend.exchange(A, CALL, deaf)
        await trio.sleep(1)
        assert scripted.links[1].methods().count("ping") == pings
        assert len(scripted.links) == 2 + pings


async def test_as_long_as_no_other_session_stands_the_old_one_is_kept(autojump_clock: MockClock) -> None:
    """A credential has expired, and comes back: it costs no state."""
    scripted = ScriptedBackend(unknown=unauthorized)
    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.links[1].forgotten, scripted.on_initialize = True, unauthorized
        for _number in range(60):
            with pytest.raises(BackendAuth):
                await backend.exchange(A, CALL, deaf)
            await trio.sleep(1)
        assert scripted.links[1].methods().count("ping") <= 7  # with growing pauses
        scripted.links[1].forgotten, scripted.on_initialize = False, lambda: None
        await backend.exchange(A, CALL, deaf)
        await trio.sleep(60)
        await backend.exchange(A, CALL, deaf)
        assert len(scripted.links) == 2
        assert not scripted.links[1].closed


async def test_calls_that_run_go_on_in_the_session_that_was_replaced(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(unknown=unauthorized)
    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.handlers["tools/call"] = slow(100)
        done: list[float] = []

        async def call() -> None:
            await backend.exchange(A, CALL, deaf)
            done.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.sleep(1)
            scripted.links[1].forgotten = True
            with pytest.raises(BackendAuth):
                await backend.exchange(A, CALL, deaf)
            nursery.start_soon(call)
            await trio.sleep(10)
            assert [link.in_flight for link in scripted.links[1:]] == [1, 1]
        assert len(done) == 2
        await trio.sleep(1)
        assert [link.closed for link in scripted.links] == [False, True, False]


async def test_a_question_is_answered_in_the_session_that_asked_it(autojump_clock: MockClock) -> None:
    """Also when its caller uses another one by then."""
    scripted = ScriptedBackend(unknown=unauthorized)
    asked: list[Inbound] = []

    async def hear(inbound: Inbound) -> None:
        asked.append(inbound)

    async def asking(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(question("roots/list"))
        while not link.said:  # noqa: ASYNC110  # the clock is virtual
            await trio.sleep(1)
        return {"content": []}

    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.handlers["tools/call"] = asking
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.exchange, A, CALL, hear)
            await trio.sleep(1)
            del scripted.handlers["tools/call"]
            scripted.links[1].forgotten = True
            with pytest.raises(BackendAuth):
                await backend.exchange(A, CALL, deaf)
            await backend.exchange(A, CALL, deaf)
            await asked[0].respond(b"{}")
        old, new = scripted.links[1:3]
        assert (old.said, new.said) == ([b"{}"], [])


async def test_the_stream_of_a_replaced_session_does_not_keep_it(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(unknown=unauthorized)
    heard: list[str] = []

    async def hear(inbound: object) -> None:
        heard.append("heard")

    async with running(scripted, health=HOUR) as backend:
        backend.set_stream("a", hear)
        await begun(backend)
        scripted.links[1].forgotten = True
        with pytest.raises(BackendAuth):
            await backend.exchange(A, CALL, deaf)
        await trio.sleep(1)
        old, new = scripted.links[1:]
        assert (old.closed, new.closed) == (True, False)
        await new.say(notice("notifications/message"))
        await wait_all_tasks_blocked()
        assert heard == ["heard"]


async def test_sixty_four_calls_at_once_open_one_session(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.forget_sessions()
        scripted.connect_s = 1.0
        async with trio.open_nursery() as nursery:
            for _number in range(64):
                nursery.start_soon(backend.exchange, A, CALL, deaf)
        assert len(scripted.links) == 3
        assert calls(scripted.links[2]) == 64


@pytest.mark.parametrize("unknown", [unauthorized, broken, no_session])
async def test_sixty_four_calls_that_fail_at_once_open_one_session(
    unknown: Callable[[], GatewayError | Refusal], autojump_clock: MockClock
) -> None:
    scripted = ScriptedBackend(unknown=unknown)
    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.links[1].forgotten = True

        async def call() -> None:
            try:
                await backend.exchange(A, CALL, deaf)
            except BackendError:
                return

        async with trio.open_nursery() as nursery:
            for _number in range(64):
                nursery.start_soon(call)
        await backend.exchange(A, CALL, deaf)
        assert len(scripted.links) == 3
        assert scripted.links[1].methods().count("ping") == 1


async def test_a_server_that_forgets_at_once_is_asked_twice_per_call_and_initialized_every_five_seconds(
    autojump_clock: MockClock,
) -> None:
    scripted = ScriptedBackend()

    async def forget(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise BackendSessionLost(backend=KEY)

    scripted.handlers["tools/call"] = forget
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        before, called = trio.current_time(), 0
        while trio.current_time() < before + 120:
            with pytest.raises(BackendSessionLost) as caught:
                await backend.exchange(A, CALL, deaf)
            called += 1
            assert caught.value.executed is Executed.NO
        assert scripted.asked("tools/call") == 2 * called
        assert len(scripted.links) - 1 <= 30
        del scripted.handlers["tools/call"]
        began_at = trio.current_time()
        await backend.exchange(A, CALL, deaf)
        assert trio.current_time() - began_at <= 5
        scripted.links[-1].forgotten = True  # once a session has worked, its loss costs no pause
        began_at = trio.current_time()
        await backend.exchange(A, CALL, deaf)
        assert trio.current_time() == began_at


def test_losses_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "MAX_KEYS", 2)

    async def main() -> list[float]:
        known = Losses()
        for name in ("a", "a", "b", "c"):
            known.note(SessionKey(session=name), fruitful=False)
        known.note(SessionKey(session="b"), fruitful=True)
        known.forget(SessionKey(session="nobody"))
        return [known.next_at(SessionKey(session=name), same_pause) - trio.current_time() for name in "abc"]

    assert trio.run(main, clock=MockClock()) == pytest.approx([float("-inf"), float("-inf"), 0.5])


async def test_other_sessions_are_asked_before_their_next_use(autojump_clock: MockClock) -> None:
    """A server that was restarted and answers 401: the loss of one session spares the others their failing call."""
    scripted = ScriptedBackend(unknown=unauthorized)
    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        await backend.exchange(caller("b"), CALL, deaf)
        await backend.exchange(caller(), CALL, deaf)
        scripted.forget_sessions()
        with pytest.raises(BackendAuth):
            await backend.exchange(A, CALL, deaf)
        await trio.sleep(2)
        for who in (A, caller("b"), caller()):
            await backend.exchange(who, CALL, deaf)
        assert [link.methods()[1:] for link in scripted.links[2:4]] == [["ping"], ["ping"]]
        await trio.sleep(2)
        for who in (A, caller("b"), caller()):
            await backend.exchange(who, CALL, deaf)
        assert len(scripted.open_links) == 4


async def test_a_session_that_stands_is_asked_once_when_another_was_lost(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(unknown=unauthorized)
    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        await backend.exchange(caller("b"), CALL, deaf)
        await trio.sleep(1)
        scripted.links[1].forgotten = True
        with pytest.raises(BackendAuth):
            await backend.exchange(A, CALL, deaf)
        await trio.sleep(2)
        for _number in range(3):
            await backend.exchange(caller("b"), CALL, deaf)
        assert scripted.links[2].methods() == ["tools/call", "ping", "tools/call", "tools/call", "tools/call"]


async def test_the_gateways_own_session_that_was_lost_has_the_others_asked(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(unknown=unauthorized)
    async with running(scripted) as backend:
        await begun(backend)
        scripted.forget_sessions()
        await trio.sleep(40)  # its next probe is refused
        await backend.exchange(A, CALL, deaf)
        assert scripted.links[1].methods() == ["tools/call", "ping"]


async def test_the_gateways_own_session_is_lost_when_the_answer_to_its_ping_says_so(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(unknown=no_session)
    async with running(scripted) as backend:
        await ready(backend)
        scripted.forget_sessions()
        await trio.sleep(35)
        assert [link.closed for link in scripted.links] == [True, False]
        assert backend.supervisor.machine.last_error == ""


async def test_a_client_that_leaves_while_its_session_is_replaced_leaves_nothing(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(unknown=unauthorized)
    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.links[1].forgotten, scripted.connect_s = True, 2.0
        with pytest.raises(BackendAuth):
            await backend.exchange(A, CALL, deaf)
        await trio.sleep(1)
        backend.end_session("a")
        await trio.sleep(5)
        assert len(scripted.open_links) == 1
        assert (backend.sessions, backend.links) == (0, 0)


async def test_a_session_that_is_lost_for_certain_while_it_is_replaced_has_one_successor(
    autojump_clock: MockClock,
) -> None:
    scripted = ScriptedBackend(unknown=unauthorized)
    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.links[1].forgotten, scripted.connect_s = True, 2.0
        with pytest.raises(BackendAuth):
            await backend.exchange(A, CALL, deaf)
        await trio.sleep(1)
        scripted.unknown = None
        assert backend.reach.sessions is not None
        upstream = backend.reach.sessions.find(A.key)
        assert upstream is not None
        backend.reach.sessions.forget_link(upstream, patience_s=0.0)
        await backend.exchange(A, CALL, deaf)
        await trio.sleep(5)
        assert len(scripted.links) == 3
        assert not scripted.links[2].closed


async def test_a_ping_that_finds_the_session_lost_needs_no_second_look(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(unknown=unauthorized)
    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.links[1].forgotten = True

        async def gone(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
            raise BackendSessionLost(backend=KEY)

        scripted.handlers["ping"] = gone
        with pytest.raises(BackendAuth):
            await backend.exchange(A, CALL, deaf)
        scripted.unknown = lambda: BackendSessionLost(backend=KEY)
        await backend.exchange(A, CALL, deaf)
        assert [link.closed for link in scripted.links[1:]] == [True, False]


@pytest.mark.parametrize(
    "answer, stands",
    [
        pytest.param(Refusal(-32601, "no such method"), True, id="who knows no ping lives"),
        pytest.param(Refusal(-32000, "not initialized"), False, id="words about the session"),
        pytest.param(BackendGone(backend=KEY, why="reset"), False, id="a broken connection"),
    ],
)
async def test_what_the_answer_to_the_ping_means(answer: Exception, stands: bool, autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(unknown=unauthorized)

    async def pinged(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise answer

    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.handlers["ping"] = pinged

        async def refuse(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
            raise unauthorized()

        scripted.handlers["tools/call"] = refuse
        with pytest.raises(BackendAuth):
            await backend.exchange(A, CALL, deaf)
        await trio.sleep(0.5)
        assert scripted.links[1].closed is not stands


async def test_a_ping_that_is_not_answered_is_waited_for_as_long_as_a_connection(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(unknown=unauthorized)

    async def pinged(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep_forever()
        raise AssertionError

    async def refuse(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise unauthorized()

    async with running(scripted, health=HOUR) as backend:
        await begun(backend)
        scripted.handlers |= {"ping": pinged, "tools/call": refuse}
        with pytest.raises(BackendAuth):
            await backend.exchange(A, CALL, deaf)
        del scripted.handlers["tools/call"]
        began_at = trio.current_time()
        await backend.exchange(A, CALL, deaf)
        assert trio.current_time() - began_at == pytest.approx(5.0)
        assert calls(scripted.links[2]) == 1


async def test_subscriptions_are_told_to_the_session_that_replaces_theirs(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(unknown=unauthorized, capabilities={"tools": {}, "resources": {"subscribe": True}})
    told: list[str] = []
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish(URI, told))
        scripted.links[1].forgotten = True
        with pytest.raises(BackendAuth):
            await backend.exchange(A, CALL, deaf)
        await trio.sleep(1)
        old, new = scripted.links[1:]
        assert (old.closed, new.methods()) == (True, ["resources/subscribe"])
        await new.say(notice("notifications/resources/updated", uri=URI))
        await wait_all_tasks_blocked()
        assert told == [f"a:{URI}"]
