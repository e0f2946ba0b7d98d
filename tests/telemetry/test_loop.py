"""The event loop's lag and its task tree."""

import trio
from trio.testing import MockClock

from mcp_gateway.telemetry.loop import TREE_TASKS, sample_loop, task_tree
from mcp_gateway.telemetry.metrics import Metrics


async def test_the_loop_is_sampled_until_cancelled(autojump_clock: MockClock) -> None:
    metrics = Metrics()
    with trio.move_on_after(1.1):
        await sample_loop(metrics, period_s=0.25)
    text = metrics.render().decode()
    assert "mcp_gateway_loop_lag_seconds_count 4.0" in text
    assert "mcp_gateway_tasks 0.0" not in text


async def sleeper() -> None:
    await trio.sleep_forever()


async def test_the_tree_shows_names_nesting_and_where_tasks_wait() -> None:
    async def parent() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(sleeper, name="backend:time")
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(parent, name="the parent")
        await trio.testing.wait_all_tasks_blocked()
        lines = task_tree().splitlines()
        nursery.cancel_scope.cancel("done")
    above = next(line for line in lines if "the parent" in line)
    below = next(line for line in lines if "backend:time" in line)
    assert lines.index(below) == lines.index(above) + 1
    assert len(below) - len(below.lstrip()) == len(above) - len(above.lstrip()) + 2
    assert "sleeper" in below
    assert "trio._core" not in below


async def test_a_crowd_of_one_name_is_counted_not_shown() -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(sleeper, name="call")
        await trio.testing.wait_all_tasks_blocked()
        text = task_tree()
        nursery.cancel_scope.cancel("done")
    assert text.count("call  [") == 20
    assert "(and 30 more call)" in text


async def test_the_tree_is_bounded() -> None:
    async with trio.open_nursery() as nursery:
        for number in range(TREE_TASKS + 10):
            nursery.start_soon(sleeper, name=f"task {number}")
        await trio.testing.wait_all_tasks_blocked()
        text = task_tree()
        nursery.cancel_scope.cancel("done")
    assert text.endswith(f"(cut after {TREE_TASKS} tasks)\n")
    assert len(text) < 1_000_000
