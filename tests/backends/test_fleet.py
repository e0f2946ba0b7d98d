"""The fleet: generations come beside each other, and leave without cutting a call."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.connector import Connector
from mcp_gateway.backends.fleet import Fleet, full_jitter, open_fleet, same_backend
from mcp_gateway.config.spec import GatewaySpec, HttpTarget, ItemFilter, ServerSpec, StdioTarget
from mcp_gateway.protocol.eras import Family
from mcp_gateway.routing.snapshot import Health
from mcp_gateway.values import BackendKey
from tests.support.first_discovery import first_discovery
from tests.support.scripted_link import (
    CALL,
    ScriptedBackend,
    caller,
    deaf,
    ready,
    same_pause,
    server,
    tool,
)

A = BackendKey("a")
B = BackendKey("b")


@attrs.define(eq=False)
class World:
    """What runs at each address (url, or command): who connects there meets it."""

    places: dict[str, ScriptedBackend] = attrs.field(factory=dict)

    def connect(self, spec: ServerSpec) -> Connector:
        target = spec.target
        return self.places[target.url if isinstance(target, HttpTarget) else target.command[0]]

    def http(self, key: BackendKey, place: str) -> ServerSpec:
        scripted = self.places.setdefault(place, ScriptedBackend(key=key, tools=[tool(f"from-{place}")]))
        return attrs.evolve(server(scripted), target=HttpTarget(url=place))

    def stdio(self, key: BackendKey, place: str) -> ServerSpec:
        scripted = self.places.setdefault(
            place, ScriptedBackend(key=key, transport="stdio", tools=[tool(f"from-{place}")])
        )
        return attrs.evolve(server(scripted), target=StdioTarget(command=(place,)))


@asynccontextmanager
async def fleet_of(world: World, *servers: ServerSpec) -> AsyncIterator[Fleet]:
    async with open_fleet(connectors=world.connect, jitter=same_pause, wall_clock=lambda: 1_000_000.0) as fleet:
        await fleet.apply(GatewaySpec(servers=servers))
        await first_discovery(fleet)
        yield fleet
    assert [link for place in world.places.values() for link in place.open_links] == []


def served(fleet: Fleet) -> dict[str, list[str] | None]:
    shown = {key: shot.lists(Family.MODERN) for key, shot in fleet.snapshots.value.items()}
    return {
        key: None if lists is None else [item.name for listing in lists.values() for item in listing.items]
        for key, lists in shown.items()
    }


async def apply(fleet: Fleet, *servers: ServerSpec) -> None:
    await fleet.apply(GatewaySpec(servers=servers))


async def test_readiness_waits_until_every_backend_has_answered_or_failed(autojump_clock: MockClock) -> None:
    world = World()
    specs = world.http(A, "one"), world.http(B, "two")
    world.places["one"].connect_s = 2.0
    world.places["two"].connect_s = 100.0
    async with open_fleet(connectors=world.connect, jitter=same_pause) as fleet:
        assert not fleet.first_discovery_done()
        await apply(fleet, *specs)
        await trio.sleep(3)
        assert not fleet.first_discovery_done()
        await first_discovery(fleet)
        assert fleet.first_discovery_done()
        assert trio.current_time() == pytest.approx(5.0)


async def test_a_fleet_without_servers_is_ready(autojump_clock: MockClock) -> None:
    async with fleet_of(World()) as fleet:
        assert fleet.first_discovery_done()
        assert fleet.get(A) is None


async def test_one_hanging_backend_changes_nothing_for_another(autojump_clock: MockClock) -> None:
    world = World()
    specs = world.http(A, "one"), world.http(B, "two")
    world.places["one"].connect_s = 1000.0
    async with open_fleet(connectors=world.connect, jitter=same_pause) as fleet:
        await apply(fleet, *specs)
        backend = fleet.get(B)
        assert backend is not None
        await ready(backend)
        assert trio.current_time() < 0.1


async def test_an_equal_spec_changes_nothing(autojump_clock: MockClock) -> None:
    world = World()
    spec = world.http(A, "one")
    async with fleet_of(world, spec) as fleet:
        before = fleet.get(A)
        await apply(fleet, attrs.evolve(spec))
        assert fleet.get(A) is before
        assert len(world.places["one"].links) == 1


async def test_a_new_prefix_or_filter_keeps_the_backend_and_its_sessions(autojump_clock: MockClock) -> None:
    world = World()
    spec = world.http(A, "one")
    async with fleet_of(world, spec) as fleet:
        before = fleet.get(A)
        shown = attrs.evolve(spec, prefix="x_", tools=ItemFilter(exclude=("y",)), tags=("t",), hint="h", revision="2")
        assert same_backend(spec, shown)
        await apply(fleet, shown)
        assert fleet.get(A) is before
        assert before is not None
        assert before.spec is shown
        assert fleet.snapshots.value[A].revision == "2"


async def test_a_changed_backend_serves_until_its_successor_is_ready_and_no_tool_vanishes(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with fleet_of(world, world.http(A, "one")) as fleet:
        old = fleet.get(A)
        new_spec = world.http(A, "two")
        world.places["two"].connect_s = 3.0
        await apply(fleet, new_spec)
        await trio.sleep(2)
        assert fleet.get(A) is old
        assert served(fleet) == {"a": ["from-one"]}
        version = fleet.snapshots.version
        await trio.sleep(10)
        assert fleet.get(A) is not old
        assert served(fleet) == {"a": ["from-two"]}
        assert fleet.snapshots.version == version + 1
        assert world.places["one"].open_links == []


async def test_a_successor_that_cannot_be_reached_takes_over_when_that_is_clear(autojump_clock: MockClock) -> None:
    world = World()
    async with fleet_of(world, world.http(A, "one")) as fleet:
        spec = world.http(A, "two")
        world.places["two"].up = False
        await apply(fleet, spec)
        await trio.sleep(0.2)
        assert served(fleet) == {"a": ["from-one"]}
        await trio.sleep(10)
        assert served(fleet) == {"a": None}
        assert fleet.snapshots.value[A].health is Health.DOWN


async def test_running_calls_of_a_replaced_backend_keep_their_own_deadline(autojump_clock: MockClock) -> None:
    world = World()
    async with fleet_of(world, world.http(A, "one")) as fleet:
        world.places["one"].silent = False
        old = fleet.get(A)
        assert old is not None
        outcome: list[str] = []

        async def call() -> None:
            world.places["one"].silent = True
            with trio.move_on_after(60), old.call_scope() as scope:
                await old.exchange(caller("s"), CALL, deaf)
            outcome.append("cut" if scope.cancelled_caught else "deadline")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.sleep(0.1)
            await apply(fleet, world.http(A, "two"))
            await trio.sleep(1)
            assert fleet.status(A)["generations"] == 2
        assert outcome == ["deadline"]
        await trio.sleep(3)
        assert fleet.status(A)["generations"] == 1


async def test_calls_of_a_removed_backend_have_ten_seconds(autojump_clock: MockClock) -> None:
    world = World()
    async with fleet_of(world, world.http(A, "one"), world.http(B, "two")) as fleet:
        backend = fleet.get(A)
        assert backend is not None
        cut_at: list[float] = []

        async def call() -> None:
            world.places["one"].silent = True
            with backend.call_scope() as scope:
                await backend.exchange(caller("s"), CALL, deaf)
            assert scope.cancelled_caught
            cut_at.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.sleep(1)
            removed_at = trio.current_time()
            await apply(fleet, world.http(B, "two"))
            assert fleet.get(A) is None
            assert set(fleet.snapshots.value) == {B}
        assert cut_at[0] - removed_at == pytest.approx(10.0, abs=0.1)
        with pytest.raises(KeyError):
            fleet.status(A)


async def test_a_disabled_server_is_removed_and_says_so(autojump_clock: MockClock) -> None:
    world = World()
    spec = world.http(A, "one")
    async with fleet_of(world, spec) as fleet:
        await apply(fleet, attrs.evolve(spec, enabled=False))
        assert fleet.get(A) is None
        assert fleet.status(A)["state"] == "disabled"
        assert fleet.keys == (A,)
        await apply(fleet, spec)
        await first_discovery(fleet)
        assert served(fleet) == {"a": ["from-one"]}


async def test_a_second_change_overtakes_the_first(autojump_clock: MockClock) -> None:
    world = World()
    async with fleet_of(world, world.http(A, "one")) as fleet:
        second, third = world.http(A, "two"), world.http(A, "three")
        world.places["two"].connect_s = 4.0
        await apply(fleet, second)
        await trio.sleep(1)
        await apply(fleet, third)
        await trio.sleep(10)
        assert served(fleet) == {"a": ["from-three"]}
        assert fleet.status(A)["generations"] == 1


async def test_a_change_taken_back_keeps_the_old_backend(autojump_clock: MockClock) -> None:
    world = World()
    first = world.http(A, "one")
    async with fleet_of(world, first) as fleet:
        old = fleet.get(A)
        second = world.http(A, "two")
        world.places["two"].connect_s = 4.0
        await apply(fleet, second)
        await trio.sleep(1)
        await apply(fleet, attrs.evolve(second, prefix="p_"))
        await apply(fleet, attrs.evolve(first, revision="3"))
        await trio.sleep(10)
        assert fleet.get(A) is old
        assert fleet.snapshots.value[A].revision == "3"
        assert world.places["two"].open_links == []


async def test_a_backend_removed_while_it_is_replaced_leaves_nothing(autojump_clock: MockClock) -> None:
    world = World()
    async with fleet_of(world, world.http(A, "one")) as fleet:
        second = world.http(A, "two")
        world.places["two"].connect_s = 4.0
        await apply(fleet, second)
        await trio.sleep(1)
        await apply(fleet)
        await trio.sleep(12)
        assert [link for place in world.places.values() for link in place.open_links] == []


async def test_at_most_two_generations_of_a_process_live(autojump_clock: MockClock) -> None:
    world = World()
    async with fleet_of(world, world.stdio(A, "one")) as fleet:
        old = fleet.get(A)
        assert old is not None

        async def call() -> None:
            world.places["one"].silent = True
            with trio.move_on_after(40):
                await old.exchange(caller("s"), CALL, deaf)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.sleep(0.1)
            await apply(fleet, world.stdio(A, "two"))
            await trio.sleep(1)
            assert served(fleet) == {"a": ["from-two"]}
            await apply(fleet, world.stdio(A, "three"))
            await trio.sleep(20)
            assert world.places["three"].links == []
            assert len(world.places["one"].open_links) == 1
        await trio.sleep(5)
        assert served(fleet) == {"a": ["from-three"]}
        assert world.places["two"].open_links == []


async def test_each_backend_that_takes_a_seat_is_told_of(autojump_clock: MockClock) -> None:
    world = World()
    seated: list[Backend] = []
    async with fleet_of(world, world.http(A, "one")) as fleet:
        fleet.seated = seated.append
        await apply(fleet, world.http(A, "two"))
        await trio.sleep(1)
        changed = fleet.get(A)
        await apply(fleet)
        await apply(fleet, world.http(A, "one"))
        assert seated == [changed, fleet.get(A)]
        assert seated[0] is not seated[1]


async def test_status_tells_what_there_is_to_know(autojump_clock: MockClock) -> None:
    world = World()
    async with fleet_of(world, world.http(A, "one")) as fleet:
        backend = fleet.get(A)
        assert backend is not None
        await backend.exchange(caller("s"), CALL, deaf)
        status = fleet.status(A)
        assert (status["state"], status["protocol"], status["transport"]) == ("ready", "2025-11-25", "streamable-http")
        assert status["counts"] == {"tools": 1, "prompts": 0, "resources": 0, "templates": 0}
        assert (status["sessions"], status["in_flight"], status["restarts"]) == (1, 0, 0)
        assert (status["last_error"], status["next_try_unix_s"]) == (None, None)
        world.places["one"].up = False
        world.places["one"].break_streams()
        await trio.sleep(5)
        status = fleet.status(A)
        assert (status["state"], status["circuit"]) == ("down", "open")
        assert isinstance(status["next_try_unix_s"], float)
        assert status["next_try_unix_s"] > 1_000_000.0
        assert isinstance(status["last_error"], dict)
        assert "connection refused" in str(status["last_error"]["message"])


async def test_goodbye_says_it_to_all_at_once_within_two_seconds(autojump_clock: MockClock) -> None:
    world = World()
    keys = [BackendKey(f"k{i}") for i in range(5)]
    async with fleet_of(world, *(world.http(key, key) for key in keys)) as fleet:
        for key in keys:
            world.places[key].goodbye_s = 100.0
        late = world.http(keys[0], "late")
        world.places["late"].connect_s = 100.0
        await apply(fleet, late, *(world.http(key, key) for key in keys[1:]))
        began_at = trio.current_time()
        await fleet.goodbye()
        assert trio.current_time() - began_at <= 2.1


def test_full_jitter_stays_within_the_pause() -> None:
    assert all(0.0 <= full_jitter(3.0) <= 3.0 for _ in range(100))
