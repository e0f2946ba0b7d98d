"""Subscriptions of callers who have an upstream session of their own: kept there, heard there, told again."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import BackendLimits, Timeouts
from mcp_gateway.errors import BackendDown, BackendRefused, BackendSessionLost, BackendTimeout, Overload
from mcp_gateway.protocol.eras import V2026_07_28
from mcp_gateway.values import JsonObject
from tests.support.backend_calls import HOUR, wish
from tests.support.scripted_link import (
    ASKABLE,
    CALL,
    Refusal,
    ScriptedBackend,
    ScriptedLink,
    caller,
    deaf,
    notice,
    ready,
    running,
)

URI = "file:///a"
UPDATED = "notifications/resources/updated"
RESOURCES: JsonObject = {"resources": {"subscribe": True}}


def scripted_backend(**more: object) -> ScriptedBackend:
    return ScriptedBackend(capabilities=RESOURCES, **more)  # type: ignore[arg-type]  # attributes of its


def subscribed(link: ScriptedLink) -> list[object]:
    """What this link was told, in order; an unsubscription has a minus."""
    told = [(method, params["uri"]) for method, params in link.asked if method.endswith("subscribe")]
    return [uri if method == "resources/subscribe" else f"-{uri}" for method, uri in told]


async def update(link: ScriptedLink, uri: str = URI) -> None:
    await link.say(notice(UPDATED, uri=uri))
    await wait_all_tasks_blocked()


async def test_a_caller_hears_on_its_own_session_and_nobody_else_does(autojump_clock: MockClock) -> None:
    scripted = scripted_backend()
    told: list[str] = []
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        for session in ("a", "b"):
            await backend.subscriptions.subscribe(wish(URI, told, session=session))
        own, first, second = scripted.links
        assert [subscribed(link) for link in scripted.links] == [[], [URI], [URI]]
        await update(first)
        assert told == [f"a:{URI}"]
        await update(second)
        assert told == [f"a:{URI}", f"b:{URI}"]
        await update(own)
        await update(second, "file:///other")
        assert len(told) == 2


async def test_a_backend_that_tells_every_session_tells_each_subscriber_once(autojump_clock: MockClock) -> None:
    scripted = scripted_backend()
    told: list[str] = []
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.link_for(caller("unsubscribed"))
        for session in ("a", "b", None):
            await backend.subscriptions.subscribe(wish(URI, told, session=session))
        await scripted.shout(notice(UPDATED, uri=URI))
        await wait_all_tasks_blocked()
        assert sorted(told) == [f"None:{URI}", f"a:{URI}", f"b:{URI}"]


async def test_modern_callers_who_are_alike_share_one_subscription(autojump_clock: MockClock) -> None:
    scripted = scripted_backend()
    told: list[str] = []
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        wishes = [wish(URI, told, session=None) for _ in range(2)]
        for one in (*wishes, wish(URI, told, session=None, identity=ASKABLE)):
            await backend.subscriptions.subscribe(one)
        assert [subscribed(link) for link in scripted.links[1:]] == [[URI], [URI]]
        await update(scripted.links[1])
        assert len(told) == 2
        wishes[0].drop()
        await wait_all_tasks_blocked()
        assert subscribed(scripted.links[1]) == [URI]
        wishes[1].drop()
        await wait_all_tasks_blocked()
        assert [subscribed(link) for link in scripted.links[1:]] == [[URI, f"-{URI}"], [URI]]


async def test_a_session_with_a_subscriber_is_in_use_and_hears_its_stream(autojump_clock: MockClock) -> None:
    scripted = scripted_backend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        one = wish(URI)
        await backend.subscriptions.subscribe(one)
        session = scripted.links[1]
        await trio.sleep(1000)
        assert (session.stream is not None, session.closed) == (True, False)
        one.drop()
        await wait_all_tasks_blocked()
        assert (session.stream is not None, session.closed) == (False, False)
        assert subscribed(session) == [URI, f"-{URI}"]
        assert backend.subscriptions.uris == frozenset()
        await trio.sleep(400)
        assert session.closed


async def test_the_stream_stays_for_whoever_wants_it_still(autojump_clock: MockClock) -> None:
    scripted = scripted_backend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        one = wish(URI)
        backend.set_stream("a", deaf)
        await backend.subscriptions.subscribe(one)
        backend.set_stream("a", None)
        await wait_all_tasks_blocked()
        assert scripted.links[1].stream is not None
        backend.set_stream("a", deaf)
        one.drop()
        await wait_all_tasks_blocked()
        assert scripted.links[1].stream is not None
        assert scripted.asked("GET") == 1


async def test_an_update_beside_an_answer_is_heard(autojump_clock: MockClock) -> None:
    async def touch(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(notice(UPDATED, uri=URI))
        return {"content": []}

    scripted = scripted_backend(streams=False, handlers={"tools/call": touch})
    told: list[str] = []
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish(URI, told))
        await backend.exchange(caller("b"), CALL, deaf)
        assert told == []
        await backend.exchange(caller("a"), CALL, deaf)
        assert told == [f"a:{URI}"]


@pytest.mark.parametrize("streams", [pytest.param(True, id="on its stream"), pytest.param(False, id="by a call")])
async def test_a_lost_session_is_opened_and_told_again(autojump_clock: MockClock, streams: bool) -> None:
    scripted = scripted_backend(streams=streams)
    told: list[str] = []
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        for uri in (URI, "file:///b"):
            await backend.subscriptions.subscribe(wish(uri, told))
        lost = scripted.links[1]
        lost.forgotten = True
        if lost.stream is not None:
            lost.stream.close()
            await trio.sleep(1)
        else:
            await backend.exchange(caller("a"), CALL, deaf)
        await wait_all_tasks_blocked()
        assert lost.closed
        assert subscribed(scripted.links[2]) == [URI, "file:///b"]
        assert len(scripted.links) == 3
        await backend.exchange(caller("a"), CALL, deaf)
        await update(scripted.links[2])
        assert told == ([f"a:{URI}"] if streams else [])


async def test_a_session_lost_at_the_subscription_is_opened_anew_once(autojump_clock: MockClock) -> None:
    scripted = scripted_backend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.link_for(caller("a"))
        scripted.links[1].forgotten = True
        await backend.subscriptions.subscribe(wish(URI))
        assert subscribed(scripted.links[2]) == [URI]

        async def lost(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
            raise BackendSessionLost(backend=backend.key)

        scripted.handlers["resources/subscribe"] = lost
        with pytest.raises(BackendSessionLost):
            await backend.subscriptions.subscribe(wish("file:///b"))
        assert "file:///b" not in backend.subscriptions.uris


async def test_a_backend_that_comes_back_is_told_again(autojump_clock: MockClock) -> None:
    scripted = scripted_backend()
    told: list[str] = []
    async with running(scripted) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish(URI, told))
        scripted.up = False
        scripted.forget_sessions()
        scripted.break_streams()
        await trio.sleep(200)
        assert backend.supervisor.machine.open
        tries = len(scripted.attempts)
        scripted.up = True
        await ready(backend)
        await trio.sleep(2)
        session = scripted.links[-1]
        assert (subscribed(session), scripted.links[-2].identity) == ([URI], scripted.links[0].identity)
        assert len(scripted.attempts) - tries <= 4
        await update(session)
        assert told == [f"a:{URI}"]


async def test_subscribing_at_a_backend_that_is_down_says_so(autojump_clock: MockClock) -> None:
    scripted = scripted_backend()
    async with running(scripted) as backend:
        await ready(backend)
        scripted.up = False
        scripted.break_streams()
        await trio.sleep(200)
        with pytest.raises(BackendDown):
            await backend.subscriptions.subscribe(wish(URI))
        assert backend.subscriptions.uris == frozenset()


async def refuse(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    raise Refusal(-32002, "no such resource")


async def test_a_refused_subscription_holds_no_session(autojump_clock: MockClock) -> None:
    scripted = scripted_backend(handlers={"resources/subscribe": refuse})
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        with pytest.raises(BackendRefused):
            await backend.subscriptions.subscribe(wish(URI))
        await wait_all_tasks_blocked()
        assert backend.subscriptions.uris == frozenset()
        assert scripted.links[1].stream is None
        assert scripted.asked("resources/unsubscribe") == 0
        await trio.sleep(400)
        assert backend.sessions == 0


@pytest.mark.parametrize("how", ["late", "cancelled"])
async def test_a_subscription_that_was_given_up_is_undone(autojump_clock: MockClock, how: str) -> None:
    async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(10)
        return {}

    scripted = scripted_backend(handlers={"resources/subscribe": slow})
    async with running(scripted, health=HOUR, timeouts=Timeouts(list_s=2)) as backend:
        await ready(backend)
        if how == "late":
            with pytest.raises(BackendTimeout):
                await backend.subscriptions.subscribe(wish(URI))
        else:
            with trio.move_on_after(1):
                await backend.subscriptions.subscribe(wish(URI))
        assert backend.subscriptions.uris == frozenset()
        await wait_all_tasks_blocked()
        assert subscribed(scripted.links[1]) == [URI, f"-{URI}"]


async def test_a_wish_that_comes_while_the_last_one_leaves_is_kept(autojump_clock: MockClock) -> None:
    async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(1)
        return {}

    scripted = scripted_backend(handlers={"resources/unsubscribe": slow})
    told: list[str] = []
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        one = wish(URI)
        await backend.subscriptions.subscribe(one)
        one.drop()
        await wait_all_tasks_blocked()
        await backend.subscriptions.subscribe(wish(URI, told))
        await trio.sleep(5)
        assert subscribed(scripted.links[1]) == [URI, f"-{URI}", URI]
        await update(scripted.links[1])
        assert told == [f"a:{URI}"]


# --- bounds ---


async def test_invariant_7_sessions_with_subscribers_are_not_evicted(autojump_clock: MockClock) -> None:
    scripted = scripted_backend()
    async with running(scripted, health=HOUR, limits=BackendLimits(upstream_sessions=2)) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish(URI, session="a"))
        await backend.link_for(caller("b"))
        await backend.subscriptions.subscribe(wish(URI, session="c"))  # "b" has made room
        assert scripted.links[2].closed
        with pytest.raises(Overload):
            await backend.subscriptions.subscribe(wish(URI, session="d"))
        with pytest.raises(Overload):
            await backend.exchange(caller("d"), CALL, deaf)
        assert backend.sessions == 2


async def test_the_end_of_the_client_session_ends_all(autojump_clock: MockClock) -> None:
    scripted = scripted_backend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        one = wish(URI)
        await backend.subscriptions.subscribe(one)
        one.drop()
        backend.end_session("a")
        await wait_all_tasks_blocked()
        assert (backend.sessions, backend.links, backend.subscriptions.uris) == (0, 0, frozenset())
        assert len(scripted.links) == 2
        assert subscribed(scripted.links[1]) == [URI]  # the end of the session says it all


# --- pipes ---


async def test_a_caller_with_a_process_of_its_own_hears_on_it(autojump_clock: MockClock) -> None:
    scripted = scripted_backend(transport="stdio")
    told: list[str] = []
    async with running(scripted, health=HOUR, limits=BackendLimits(processes=1)) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish(URI, told, session="shared"))
        await backend.subscriptions.subscribe(wish(URI, told, session="own", identity=ASKABLE))
        await backend.subscriptions.subscribe(wish(URI, told, session="lacking", identity=ASKABLE))
        shared, own = scripted.links
        assert (subscribed(shared), subscribed(own)) == ([URI], [URI])
        await update(own)
        assert told == [f"own:{URI}"]
        told.clear()
        await update(shared)
        assert sorted(told) == [f"lacking:{URI}", f"shared:{URI}"]


async def test_a_process_that_ends_is_started_and_told_again(autojump_clock: MockClock) -> None:
    scripted = scripted_backend(transport="stdio")
    told: list[str] = []
    async with running(scripted, health=HOUR, limits=BackendLimits(processes=1)) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish(URI, told, identity=ASKABLE))
        scripted.links[1].die("exit 1")
        await wait_all_tasks_blocked()
        assert subscribed(scripted.links[2]) == [URI]
        await update(scripted.links[2])
        assert told == [f"a:{URI}"]


async def test_a_process_that_cannot_be_had_again_leaves_its_subscriber_to_the_shared_one(
    autojump_clock: MockClock,
) -> None:
    scripted = scripted_backend(transport="stdio")
    told: list[str] = []
    async with running(scripted, health=HOUR, limits=BackendLimits(processes=1)) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish(URI, told, identity=ASKABLE))
        backend.end_session("a")
        await backend.link_for(caller("quicker", ASKABLE))
        await wait_all_tasks_blocked()
        assert subscribed(scripted.links[0]) == [URI]
        await update(scripted.links[0])
        assert told == [f"a:{URI}"]


# --- a backend that becomes another one ---


async def test_subscriptions_follow_a_backend_into_another_era(autojump_clock: MockClock) -> None:
    scripted = scripted_backend()
    told: list[str] = []
    async with running(scripted) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish(URI, told))
        scripted.era = V2026_07_28
        scripted.forget_sessions()
        scripted.break_streams()
        await trio.sleep(100)
        listening = [params for link in scripted.links for method, params in link.asked if "listen" in method]
        assert [params["notifications"] for params in listening] == [{"resourceSubscriptions": [URI]}]
        await scripted.shout(notice(UPDATED, uri=URI))
        await wait_all_tasks_blocked()
        assert told == [f"a:{URI}"]


async def test_subscriptions_move_when_a_backend_begins_to_give_sessions(autojump_clock: MockClock) -> None:
    scripted = scripted_backend(sessionless=True)
    told: list[str] = []
    async with running(scripted) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish(URI, told))
        assert subscribed(scripted.links[0]) == [URI]
        scripted.sessionless = False
        scripted.links[0].die("restart")
        await trio.sleep(60)
        (session,) = [link for link in scripted.open_links if subscribed(link)]
        assert session is not scripted.links[0]
        await scripted.shout(notice(UPDATED, uri=URI))
        await wait_all_tasks_blocked()
        assert told == [f"a:{URI}"]


async def test_a_wish_without_a_backend_yet_is_kept_for_its_first_session(autojump_clock: MockClock) -> None:
    scripted = scripted_backend(up=False)
    async with running(scripted) as backend:
        await backend.subscriptions.subscribe(wish(URI))
        scripted.up = True
        await ready(backend)
        await wait_all_tasks_blocked()
        assert [subscribed(link) for link in scripted.links] == [[], [URI]]


async def test_another_generation_takes_over_what_the_earlier_one_kept(autojump_clock: MockClock) -> None:
    first, second = scripted_backend(), scripted_backend()
    told: list[str] = []
    async with running(first, health=HOUR) as old, running(second, health=HOUR) as new:
        await ready(old)
        await ready(new)
        one = wish(URI, told)
        await old.subscriptions.subscribe(one)
        old.set_stream("a", deaf)
        new.set_stream("a", deaf)
        new.subscriptions.adopt(one)
        await wait_all_tasks_blocked()
        assert subscribed(first.links[1]) == [URI, f"-{URI}"]
        assert subscribed(second.links[1]) == [URI]
        assert second.links[1].stream is not None
        for scripted in (first, second):
            await scripted.shout(notice(UPDATED, uri=URI))
        await wait_all_tasks_blocked()
        assert told == [f"a:{URI}"]
