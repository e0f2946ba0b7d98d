"""The latest value wins, and nobody is woken for nothing (docs/decisions/007)."""

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.cell import Cell

STEPS = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40)
"""What is set, and whether the readers get a turn after it."""


@given(first=st.integers(0, 3), steps=STEPS, readers=st.integers(1, 3))
def test_every_reader_ends_with_the_last_value_and_wakes_only_for_changes(
    first: int, steps: list[tuple[int, bool]], readers: int
) -> None:
    async def main() -> None:
        cell = Cell(first)
        seen: list[list[tuple[int, int]]] = [[] for _ in range(readers)]

        async def read(mine: list[tuple[int, int]]) -> None:
            version = cell.version
            while True:
                version, value = await cell.changed(version)
                mine.append((version, value))

        async with trio.open_nursery() as nursery:
            for mine in seen:
                nursery.start_soon(read, mine)
            await wait_all_tasks_blocked()
            changes, before = 0, first
            for value, turn in steps:
                changes += value != before
                before = value
                cell.set(value)
                if turn:
                    await wait_all_tasks_blocked()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel("test over")
        assert cell.value == before
        for mine in seen:
            versions = [version for version, _ in mine]
            assert versions == sorted(set(versions)), "each version wakes a reader once"
            assert len(mine) <= changes
            assert (mine[-1] == (cell.version, before)) if changes else not mine

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_who_is_behind_gets_the_last_value_at_once(autojump_clock: MockClock) -> None:
    cell = Cell("a")
    behind = cell.version
    cell.set("b")
    cell.set("c")
    assert await cell.changed(behind) == (cell.version, "c")


async def test_a_reader_that_is_cancelled_holds_up_nobody(autojump_clock: MockClock) -> None:
    cell = Cell(0)
    with trio.move_on_after(1) as scope:
        await cell.changed(cell.version)
    assert scope.cancelled_caught
    cell.set(1)
    assert cell.value == 1
