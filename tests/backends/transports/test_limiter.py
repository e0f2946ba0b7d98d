"""Limiter are given in order and never lost."""

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.backends.transports.limiter import Limiter, Waiter


async def test_places_are_given_in_order_of_arrival() -> None:
    places = Limiter(limit=1)
    order: list[int] = []

    async def visitor(number: int) -> None:
        await places.enter()
        order.append(number)
        await trio.lowlevel.checkpoint()
        places.leave()

    await places.enter()
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(visitor, number)
            await trio.testing.wait_all_tasks_blocked()
        assert (places.waiting, places.taken) == (4, 1)
        assert not places.enter_now()
        places.leave()
    assert order == [0, 1, 2, 3]
    assert (places.waiting, places.taken) == (0, 0)


async def test_who_is_cancelled_in_the_queue_leaves_no_trace() -> None:
    places = Limiter(limit=1)
    await places.enter()
    with trio.move_on_after(0):
        await places.enter()
    assert (places.waiting, places.taken) == (0, 1)


async def test_a_place_given_in_the_moment_of_cancellation_goes_on_to_the_next() -> None:
    places = Limiter(limit=1)
    await places.enter()
    got: list[str] = []

    async def visitor(name: str, scope: trio.CancelScope) -> None:
        with scope:
            await places.enter()
            got.append(name)

    first, second = trio.CancelScope(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(visitor, "first", first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(visitor, "second", second)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        places.leave()  # "first" is next in the queue, and is cancelled before it runs
    assert "second" in got or first.cancelled_caught is False
    assert places.taken == 1
    assert places.waiting == 0


async def test_closing_lets_all_in() -> None:
    places = Limiter(limit=1)
    await places.enter()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(places.enter)
        await trio.testing.wait_all_tasks_blocked()
        places.close()
    assert places.waiting == 0
    assert places.enter_now()
    for _ in range(5):
        places.leave()
    assert places.taken == 0


async def test_who_is_withdrawn_sleeps_until_woken_and_may_queue_again() -> None:
    places = Limiter(limit=1)
    await places.enter()
    got: list[bool] = []

    async def visitor(waiter: Waiter) -> None:
        got.append(await places.enter(waiter))

    carried, again = Waiter(), Waiter()
    async with trio.open_nursery() as nursery:
        for waiter in (carried, again):
            nursery.start_soon(visitor, waiter)
            await trio.testing.wait_all_tasks_blocked()
            assert places.withdraw(waiter)
            assert not places.withdraw(waiter)
        places.leave()
        assert (places.taken, places.waiting) == (0, 0)
        carried.woken.set()
        await trio.testing.wait_all_tasks_blocked()
        assert got == [False]
        places.rejoin(again)  # there is room: it is in at once
        await trio.testing.wait_all_tasks_blocked()
        assert (got, places.taken) == ([False, True], 1)


async def test_who_queues_again_is_the_last() -> None:
    places = Limiter(limit=1)
    await places.enter()
    order: list[str] = []

    async def visitor(name: str, waiter: Waiter) -> None:
        await places.enter(waiter)
        order.append(name)
        places.leave()

    first = Waiter()
    async with trio.open_nursery() as nursery:
        for name, waiter in (("first", first), ("second", Waiter())):
            nursery.start_soon(visitor, name, waiter)
            await trio.testing.wait_all_tasks_blocked()
        places.withdraw(first)
        places.rejoin(first)
        assert places.waiting == 2
        places.leave()
    assert order == ["second", "first"]
    assert places.taken == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["stay", "cancel"])), max_size=20), st.integers(1, 3))
def test_the_limit_holds_and_nothing_is_lost(visits: list[tuple[int, str]], limit: int) -> None:
    async def main() -> None:
        places = Limiter(limit=limit)
        inside = 0

        async def visitor(stay_s: int, how: str) -> None:
            nonlocal inside
            with trio.move_on_after(1.5 if how == "cancel" else 100.0):
                await places.enter()
                inside += 1
                assert inside <= limit
                try:
                    await trio.sleep(stay_s)
                finally:
                    inside -= 1
                    places.leave()

        async with trio.open_nursery() as nursery:
            for stay_s, how in visits:
                nursery.start_soon(visitor, stay_s, how)
        assert (places.taken, places.waiting) == (0, 0)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
