"""Cancel at every await of the backends that holds something; afterwards nothing is held."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.fleet import open_fleet
from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import BackendLimits, GatewaySpec
from mcp_gateway.errors import BackendError
from mcp_gateway.values import JsonObject
from tests.support.backend_calls import wish
from tests.support.cancel_at import cancelled_at
from tests.support.first_discovery import first_discovery
from tests.support.scripted_link import (
    ASKABLE,
    CALL,
    ScriptedBackend,
    ScriptedLink,
    caller,
    deaf,
    ready,
    running,
    same_pause,
    server,
)

WHOLE = 4.5
"""Connect 1 s, answer 2 s, and a bit: every await of a call lies within."""
SUBSCRIPTION = ("resources/subscribe", "resources/unsubscribe")
STEPS = [step * 0.25 for step in range(int(WHOLE / 0.25) + 1)]


async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep(2)
    return {"content": []}


def nothing_held(backend: Backend) -> None:
    assert (backend.in_flight, backend.queued) == (0, 0)


@pytest.mark.parametrize("at_s", STEPS)
@pytest.mark.parametrize("transport", ["streamable-http", "stdio"])
async def test_a_call_cancelled_anywhere_gives_its_slot_and_its_link_back(
    autojump_clock: MockClock, transport: str, at_s: float
) -> None:
    scripted = ScriptedBackend(transport=transport, handlers={"tools/call": slow})
    async with running(scripted, limits=BackendLimits(concurrency=1)) as backend:
        await ready(backend)
        scripted.connect_s = 1.0
        who = caller("a", ASKABLE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.exchange, caller("other"), CALL, deaf)
            await wait_all_tasks_blocked()
            with trio.move_on_after(at_s):
                with backend.call_scope():
                    await backend.exchange(who, CALL, deaf)
        await trio.sleep(3)
        nothing_held(backend)
        for link in scripted.links:
            assert link.in_flight == 0
        began_at = trio.current_time()
        await backend.exchange(who, CALL, deaf)  # the one slot is free
        assert trio.current_time() - began_at < 3.5


@pytest.mark.parametrize("at_s", [step * 0.2 for step in range(16)])
@pytest.mark.parametrize("transport", ["streamable-http", "stdio"])
async def test_a_backend_closed_anywhere_in_its_life_leaves_no_link(
    autojump_clock: MockClock, transport: str, at_s: float
) -> None:
    scripted = ScriptedBackend(transport=transport, connect_s=0.5, handlers={"tools/list": slow, "tools/call": slow})

    async def call(backend: Backend) -> None:
        ended = False
        while not ended:
            try:
                await backend.exchange(caller("a", ASKABLE), CALL, deaf)
            except BackendError:
                ended = True

    async with trio.open_nursery() as nursery:
        async with running(scripted) as backend:
            nursery.start_soon(call, backend)  # noqa: ASYNC111  # that it survives its backend is the test
            await trio.sleep(at_s)
        nursery.cancel_scope.cancel("closed")
    nothing_held(backend)
    assert scripted.open_links == []


@pytest.mark.parametrize("at_s", [step * 0.25 for step in range(14)])
async def test_a_fleet_cancelled_anywhere_leaves_no_link(autojump_clock: MockClock, at_s: float) -> None:
    one, two = ScriptedBackend(connect_s=1.0), ScriptedBackend(connect_s=1.0, goodbye_s=100.0)
    places = {"one": one, "two": two}
    with trio.move_on_after(at_s):
        async with open_fleet(connectors=lambda spec: places[spec.prefix or "one"], jitter=same_pause) as fleet:
            await fleet.apply(GatewaySpec(servers=(server(one),)))
            await first_discovery(fleet)
            backend = fleet.get(one.key)
            assert backend is not None
            await backend.link_for(caller("a"))
            await trio.sleep_forever()
    assert one.open_links == []


@pytest.mark.parametrize("at_s", [0.0, 0.5, 1.0, 1.5, 2.5])
async def test_those_who_wait_for_a_link_when_the_backend_ends_are_told(autojump_clock: MockClock, at_s: float) -> None:
    scripted = ScriptedBackend()
    async with running(scripted) as backend:
        await ready(backend)
        scripted.connect_s = 2.0
        told: list[Exception] = []

        async def wait() -> None:
            try:
                await backend.link_for(caller("a"))
            except Exception as error:  # noqa: BLE001  # whatever it is, it is the point that it comes
                told.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
            await trio.sleep(at_s)
            backend.close("test")
        assert len(told) == (3 if at_s < 2.0 else 0)


@pytest.mark.parametrize("step", range(1, 9))
@pytest.mark.parametrize("transport", ["streamable-http", "stdio"])
async def test_a_subscriber_cancelled_anywhere_leaves_nothing_subscribed(
    autojump_clock: MockClock, transport: str, step: int
) -> None:
    scripted = ScriptedBackend(transport=transport, capabilities={"resources": {"subscribe": True}})
    scripted.handlers["resources/subscribe"] = slow
    async with running(scripted) as backend:
        await ready(backend)
        scripted.connect_s = 1.0
        one = wish("a:1", session="a", identity=ASKABLE)
        reached = await cancelled_at(step, lambda: backend.subscriptions.subscribe(one))
        assert reached == (one.kept_in is None)
        one.drop()
        await trio.sleep(5)
        assert (backend.subscriptions.uris, backend.subscriptions._kept) == (frozenset(), {})
        assert [link.in_flight for link in scripted.links] == [0] * len(scripted.links)
        asked = [link.methods().count(method) for link in scripted.links[1:] for method in SUBSCRIPTION]
        assert asked in ([], [0, 0], [1, 1]), "what was told is undone"
        await backend.subscriptions.subscribe(wish("a:1", session="a", identity=ASKABLE))
        assert backend.subscriptions.uris == {"a:1"}


async def test_a_subscriber_cancelled_at_the_lock_leaves_it_free(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(capabilities={"resources": {"subscribe": True}}, sessionless=True)

    async def slow_answer(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(2)
        return {}

    scripted.handlers["resources/subscribe"] = slow_answer
    async with running(scripted) as backend:
        await ready(backend)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.subscriptions.subscribe, wish("a:1"))
            await trio.sleep(0.5)
            with trio.move_on_after(0.5):
                await backend.subscriptions.subscribe(wish("a:2"))
        await backend.subscriptions.subscribe(wish("a:3"))
        assert backend.subscriptions.uris == {"a:1", "a:3"}
