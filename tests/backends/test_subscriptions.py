"""Resource subscriptions that all callers share: counted, and renewed with every connection of the gateway's own.

``test_session_subscriptions`` has those of callers with an upstream session of their own.
"""

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends import notices, subscription
from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.errors import BackendGone, BackendRefused, BackendTimeout, Overload
from mcp_gateway.protocol.eras import V2026_07_28
from mcp_gateway.values import JsonObject
from tests.support.backend_calls import HOUR, wish
from tests.support.scripted_link import Refusal, ScriptedBackend, ScriptedLink, notice, ready, running

RESOURCES: JsonObject = {"resources": {"subscribe": True, "listChanged": True}}
URI = "file:///a"


def legacy() -> ScriptedBackend:
    """Without session ids: nobody has a session of his own there."""
    return ScriptedBackend(capabilities=RESOURCES, sessionless=True)


def modern() -> ScriptedBackend:
    return ScriptedBackend(era=V2026_07_28, capabilities=RESOURCES)


async def refuse(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    raise Refusal(-32002, "no such resource")


def wanted(scripted: ScriptedBackend) -> list[object]:
    """What each listen stream asked for."""
    asked = [params for method, params in scripted.links[-1].asked if method == "subscriptions/listen"]
    filters = [params["notifications"] for params in asked]
    return [entry.get("resourceSubscriptions") for entry in filters if isinstance(entry, dict)]


async def test_only_the_first_subscriber_and_the_last_are_told_upstream(autojump_clock: MockClock) -> None:
    scripted = legacy()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        wishes = [wish(URI, session=session) for session in ("a", "b", "c")]
        for one in wishes:
            await backend.subscriptions.subscribe(one)
        assert scripted.asked("resources/subscribe") == 1
        for one in wishes[:2]:
            one.drop()
        await wait_all_tasks_blocked()
        assert scripted.asked("resources/unsubscribe") == 0
        wishes[2].drop()
        await wait_all_tasks_blocked()
        assert scripted.asked("resources/unsubscribe") == 1
        assert backend.subscriptions.uris == frozenset()
        assert len(scripted.links) == 1  # the gateway's own
        wishes[2].drop()  # nothing more


async def test_updates_are_told_by_uri(autojump_clock: MockClock) -> None:
    for scripted in (legacy(), modern(), ScriptedBackend(transport="stdio", capabilities=RESOURCES)):
        told: list[str] = []
        async with running(scripted, health=HOUR) as backend:
            await ready(backend)
            await backend.subscriptions.subscribe(wish(URI, told))
            await backend.subscriptions.subscribe(wish("file:///b", told, session="b"))
            await trio.sleep(1)
            await scripted.shout(notice("notifications/resources/updated", uri=URI))
            await scripted.shout(notice("notifications/resources/updated", uri=3))
            await wait_all_tasks_blocked()
        assert told == [f"a:{URI}"]


async def test_a_new_session_subscribes_everything_again(autojump_clock: MockClock) -> None:
    scripted = legacy()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish(URI))
        await backend.subscriptions.subscribe(wish("file:///b"))
        scripted.forget_sessions()
        scripted.break_streams()
        await trio.sleep(3)
        again = [params["uri"] for method, params in scripted.links[-1].asked if method == "resources/subscribe"]
        assert sorted(str(uri) for uri in again) == [URI, "file:///b"]


async def test_a_refusal_after_a_reconnect_costs_no_other_uri(autojump_clock: MockClock) -> None:
    scripted = legacy()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish(URI))
        await backend.subscriptions.subscribe(wish("file:///b"))
        scripted.handlers["resources/subscribe"] = refuse
        scripted.forget_sessions()
        scripted.break_streams()
        await trio.sleep(3)
        assert scripted.links[-1].methods().count("resources/subscribe") == 2


async def test_a_refused_subscription_is_not_counted(autojump_clock: MockClock) -> None:
    scripted = legacy()
    scripted.handlers["resources/subscribe"] = refuse
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        with pytest.raises(BackendRefused):
            await backend.subscriptions.subscribe(wish(URI))
        assert backend.subscriptions.uris == frozenset()


async def test_a_late_subscription_is_an_error_and_a_late_unsubscription_is_not(autojump_clock: MockClock) -> None:
    scripted = legacy()
    async with running(scripted, health=HOUR, timeouts=Timeouts(list_s=1)) as backend:
        await ready(backend)
        first = wish(URI)
        await backend.subscriptions.subscribe(first)
        scripted.silent = True
        with pytest.raises(BackendTimeout):
            await backend.subscriptions.subscribe(wish("file:///b"))
        first.drop()
        assert backend.subscriptions.uris == frozenset()


async def test_a_cancelled_subscriber_is_not_counted(autojump_clock: MockClock) -> None:
    scripted = legacy()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        scripted.silent = True
        with trio.move_on_after(1):
            await backend.subscriptions.subscribe(wish(URI))
        assert backend.subscriptions.uris == frozenset()


async def test_without_a_connection_the_wish_is_kept_for_the_next_one(autojump_clock: MockClock) -> None:
    scripted = legacy()
    scripted.up = False
    async with running(scripted, health=HOUR) as backend:
        await backend.subscriptions.subscribe(wish(URI))
        scripted.up = True
        await ready(backend)
        await wait_all_tasks_blocked()
        assert scripted.asked("resources/subscribe") == 1


async def test_a_backend_that_does_not_say_that_it_can_is_asked(autojump_clock: MockClock) -> None:
    """The first major version of the Python SDK says that it cannot, whatever its server can."""
    scripted = ScriptedBackend(sessionless=True, capabilities={"resources": {"subscribe": False}})
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish(URI))
        assert scripted.asked("resources/subscribe") == 1


async def test_what_was_given_up_is_undone_at_the_backend(autojump_clock: MockClock) -> None:
    """It may have been heard: a backend that keeps what nobody wants would tell for ever."""
    scripted = legacy()

    async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(10)
        return {}

    scripted.handlers["resources/subscribe"] = slow
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        with trio.move_on_after(1):
            await backend.subscriptions.subscribe(wish(URI))
        await wait_all_tasks_blocked()
        assert [params["uri"] for method, params in scripted.links[0].asked if method == "resources/unsubscribe"] == [
            URI
        ]


async def test_the_number_of_uris_is_bounded(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "MAX_URIS", 2)
    async with running(legacy(), health=HOUR) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(wish("a:1"))
        await backend.subscriptions.subscribe(wish("a:2"))
        await backend.subscriptions.subscribe(wish("a:2"))
        with pytest.raises(Overload):
            await backend.subscriptions.subscribe(wish("a:3"))


async def test_what_is_taken_over_is_bounded_too(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "MAX_URIS", 1)
    scripted = legacy()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        wishes = [wish("a:1"), wish("a:2")]
        for one in wishes:
            backend.subscriptions.adopt(one)
        await wait_all_tasks_blocked()
        assert backend.subscriptions.uris == {"a:1"}
        assert wishes[1].kept_in is None
        assert scripted.asked("resources/subscribe") == 1


async def test_a_connection_lost_between_is_no_trap(autojump_clock: MockClock) -> None:
    scripted = legacy()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        scripted.up = False
        with pytest.raises(BackendGone):
            await backend.subscriptions.subscribe(wish(URI))


# --- modern ---


async def test_a_modern_backend_gets_one_listen_stream_with_the_union(autojump_clock: MockClock) -> None:
    scripted = modern()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        wishes = [wish(uri) for uri in ("a:1", "a:2", "a:3")]
        for one in wishes:
            await backend.subscriptions.subscribe(one)
        await trio.sleep(1)
        wishes[1].drop()
        await trio.sleep(1)
        assert wanted(scripted) == [None, ["a:1", "a:2", "a:3"], ["a:1", "a:3"]]
        assert scripted.links[0].in_flight == 1  # the earlier streams have been left
        assert scripted.asked("resources/subscribe") == 0


async def test_a_modern_backend_that_announces_nothing_gets_no_stream(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(era=V2026_07_28, capabilities={"tools": {}})
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        assert scripted.asked("subscriptions/listen") == 0
        assert not backend.supervisor.notices.live


async def test_a_modern_backend_that_cannot_listen_is_left_in_peace(autojump_clock: MockClock) -> None:
    scripted = modern()

    async def unknown(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(-32601)

    scripted.handlers["subscriptions/listen"] = unknown
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await trio.sleep(100)
        assert scripted.asked("subscriptions/listen") == 1


async def test_a_listen_stream_that_ends_is_opened_again_and_the_lists_are_read(autojump_clock: MockClock) -> None:
    scripted = modern()
    scripted.capabilities = {"tools": {"listChanged": True}}
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await trio.sleep(5)
        scripted.break_streams()
        await trio.sleep(5)
        assert scripted.asked("subscriptions/listen") == 2
        assert scripted.asked("tools/list") == 2
        await trio.sleep(60)
        scripted.break_streams()
        await trio.sleep(1)
        assert backend.supervisor.notices.live


async def test_a_listen_stream_that_is_refused_is_tried_with_growing_pauses(autojump_clock: MockClock) -> None:
    scripted = modern()
    scripted.handlers["subscriptions/listen"] = refuse
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await trio.sleep(60)
        assert 5 <= scripted.asked("subscriptions/listen") <= 9


async def test_a_modern_subscription_is_in_force_once_the_backend_has_acknowledged_it(
    autojump_clock: MockClock,
) -> None:
    scripted = modern()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        one = wish(URI)
        await backend.subscriptions.subscribe(one)
        assert wanted(scripted) == [None]
        await backend.subscriptions.in_force(one)
        assert wanted(scripted) == [None, [URI]]
        await backend.subscriptions.in_force(one)  # at once
        one.drop()
        await backend.subscriptions.in_force(one)  # nobody's


async def test_nobody_waits_for_a_subscription_whose_connection_is_lost(autojump_clock: MockClock) -> None:
    scripted = modern()

    async def never(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(math.inf)
        return {}

    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        scripted.handlers["subscriptions/listen"] = never
        one = wish(URI)
        await backend.subscriptions.subscribe(one)
        with trio.fail_after(notices.GATHER_S + 2.0):  # sooner than the stream is given up for slow
            async with trio.open_nursery() as nursery:
                nursery.start_soon(backend.subscriptions.in_force, one)
                await trio.sleep(notices.GATHER_S + 1.0)
                assert len(nursery.child_tasks) == 1
                backend.close("removed")
