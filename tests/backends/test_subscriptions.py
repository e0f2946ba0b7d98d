"""Resource subscriptions: counted, shared, renewed with every connection."""

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends import subscriptions
from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import HealthSpec, Timeouts
from mcp_gateway.errors import BackendGone, BackendRefused, BackendTimeout, Overload
from mcp_gateway.protocol.eras import V2026_07_28
from mcp_gateway.values import JsonObject
from tests.support.scripted_link import (
    Refusal,
    ScriptedBackend,
    ScriptedLink,
    caller,
    deaf,
    notice,
    ready,
    running,
)

HOUR = HealthSpec(interval_s=3600.0)
RESOURCES: JsonObject = {"resources": {"subscribe": True, "listChanged": True}}
URI = "file:///a"


def legacy() -> ScriptedBackend:
    return ScriptedBackend(capabilities=RESOURCES)


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
        for _ in range(3):
            await backend.subscriptions.subscribe(URI)
        assert scripted.asked("resources/subscribe") == 1
        for _ in range(2):
            backend.subscriptions.unsubscribe(URI)
        await wait_all_tasks_blocked()
        assert scripted.asked("resources/unsubscribe") == 0
        backend.subscriptions.unsubscribe(URI)
        await wait_all_tasks_blocked()
        assert scripted.asked("resources/unsubscribe") == 1
        assert backend.subscriptions.uris == frozenset()
        backend.subscriptions.unsubscribe("never subscribed")


async def test_updates_are_told_by_uri(autojump_clock: MockClock) -> None:
    for scripted in (legacy(), modern(), ScriptedBackend(transport="stdio", capabilities=RESOURCES)):
        told: list[str] = []
        async with running(scripted, health=HOUR) as backend:
            backend.subscriptions.updated = told.append
            await ready(backend)
            await backend.subscriptions.subscribe(URI)
            await trio.sleep(1)
            await scripted.shout(notice("notifications/resources/updated", uri=URI))
            await scripted.shout(notice("notifications/resources/updated", uri=3))
            await wait_all_tasks_blocked()
        assert told == [URI]


async def test_a_new_session_subscribes_everything_again(autojump_clock: MockClock) -> None:
    scripted = legacy()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(URI)
        await backend.subscriptions.subscribe("file:///b")
        scripted.forget_sessions()
        scripted.break_streams()
        await trio.sleep(3)
        again = [params["uri"] for method, params in scripted.links[-1].asked if method == "resources/subscribe"]
        assert sorted(str(uri) for uri in again) == [URI, "file:///b"]


async def test_a_refusal_after_a_reconnect_costs_no_other_uri(autojump_clock: MockClock) -> None:
    scripted = legacy()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(URI)
        await backend.subscriptions.subscribe("file:///b")
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
            await backend.subscriptions.subscribe(URI)
        assert backend.subscriptions.uris == frozenset()


async def test_a_late_subscription_is_an_error_and_a_late_unsubscription_is_not(autojump_clock: MockClock) -> None:
    scripted = legacy()
    async with running(scripted, health=HOUR, timeouts=Timeouts(list_s=1)) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(URI)
        scripted.silent = True
        with pytest.raises(BackendTimeout):
            await backend.subscriptions.subscribe("file:///b")
        backend.subscriptions.unsubscribe(URI)
        assert backend.subscriptions.uris == frozenset()


async def test_a_cancelled_subscriber_is_not_counted(autojump_clock: MockClock) -> None:
    scripted = legacy()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        scripted.silent = True
        with trio.move_on_after(1):
            await backend.subscriptions.subscribe(URI)
        assert backend.subscriptions.uris == frozenset()


async def test_without_a_connection_the_wish_is_kept_for_the_next_one(autojump_clock: MockClock) -> None:
    scripted = legacy()
    scripted.up = False
    async with running(scripted, health=HOUR) as backend:
        await backend.subscriptions.subscribe(URI)
        scripted.up = True
        await ready(backend)
        await wait_all_tasks_blocked()
        assert scripted.asked("resources/subscribe") == 1


async def test_a_backend_without_the_capability_is_not_asked(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(URI)
        assert scripted.asked("resources/subscribe") == 0


async def test_the_number_of_uris_is_bounded(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MAX_URIS", 2)
    async with running(legacy(), health=HOUR) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe("a:1")
        await backend.subscriptions.subscribe("a:2")
        await backend.subscriptions.subscribe("a:2")
        with pytest.raises(Overload):
            await backend.subscriptions.subscribe("a:3")


async def test_a_connection_lost_between_is_no_trap(autojump_clock: MockClock) -> None:
    scripted = legacy()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        scripted.up = False
        with pytest.raises(BackendGone):
            await backend.subscriptions.subscribe(URI)


# --- modern ---


async def test_a_modern_backend_gets_one_listen_stream_with_the_union(autojump_clock: MockClock) -> None:
    scripted = modern()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        for uri in ("a:1", "a:2", "a:3"):
            await backend.subscriptions.subscribe(uri)
        await trio.sleep(1)
        backend.subscriptions.unsubscribe("a:2")
        await trio.sleep(1)
        assert wanted(scripted) == [None, ["a:1", "a:2", "a:3"], ["a:1", "a:3"]]
        assert scripted.links[0].in_flight == 1  # the earlier streams have been left
        assert scripted.asked("resources/subscribe") == 0


async def test_a_modern_backend_that_announces_nothing_gets_no_stream(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(era=V2026_07_28, capabilities={"tools": {}})
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        assert scripted.asked("subscriptions/listen") == 0
        assert not backend.subscriptions.live


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
        assert backend.subscriptions.live


async def test_a_listen_stream_that_is_refused_is_tried_with_growing_pauses(autojump_clock: MockClock) -> None:
    scripted = modern()
    scripted.handlers["subscriptions/listen"] = refuse
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await trio.sleep(60)
        assert 5 <= scripted.asked("subscriptions/listen") <= 9


async def test_a_successor_takes_the_subscribers_over(autojump_clock: MockClock) -> None:
    first, second = legacy(), legacy()
    async with running(first, health=HOUR) as old, running(second, health=HOUR) as new:
        await ready(old)
        await ready(new)
        await old.subscriptions.subscribe(URI)
        old.set_stream("a", deaf)
        new.succeed(old)
        await trio.sleep(1)
        assert second.asked("resources/subscribe") == 1
        await new.link_for(caller("a"))
        await wait_all_tasks_blocked()
        assert second.links[1].stream is not None


async def test_a_modern_subscription_is_in_force_once_the_backend_has_acknowledged_it(
    autojump_clock: MockClock,
) -> None:
    scripted = modern()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await backend.subscriptions.subscribe(URI)
        assert wanted(scripted) == [None]
        await backend.subscriptions.in_force(URI)
        assert wanted(scripted) == [None, [URI]]
        await backend.subscriptions.in_force(URI)  # at once
        await backend.subscriptions.in_force("file:///nobody-subscribed")


async def test_nobody_waits_for_a_subscription_whose_connection_is_lost(autojump_clock: MockClock) -> None:
    scripted = modern()

    async def never(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(math.inf)
        return {}

    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        scripted.handlers["subscriptions/listen"] = never
        await backend.subscriptions.subscribe(URI)
        with trio.fail_after(subscriptions.GATHER_S + 2.0):  # sooner than the stream is given up for slow
            async with trio.open_nursery() as nursery:
                nursery.start_soon(backend.subscriptions.in_force, URI)
                await trio.sleep(subscriptions.GATHER_S + 1.0)
                assert len(nursery.child_tasks) == 1
                backend.close("removed")
