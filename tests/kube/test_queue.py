"""What is worked on next, and what a bucket lets through."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.kube.queue import CEILING_S, Bucket, WorkQueue


def test_items_come_when_they_are_due_the_urgent_ones_first() -> None:
    queue: WorkQueue[str] = WorkQueue()
    assert (queue.take(0.0), queue.next_at(), len(queue)) == (None, math.inf, 0)
    queue.add("later", 5.0)
    queue.add("plain", 1.0, 2)
    queue.add("urgent", 1.5, 1)
    assert queue.take(0.9) is None
    assert queue.next_at() == 1.0
    assert [queue.take(2.0), queue.take(2.0), queue.take(2.0)] == ["urgent", "plain", None]
    assert len(queue) == 3


def test_an_item_that_is_asked_for_twice_is_done_once_at_the_earlier_time() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a", 5.0, 3)
    queue.add("a", 9.0, 1)
    queue.add("a", 2.0, 2)
    assert queue.take(2.0) == "a"
    queue.done("a", 2.0)
    assert queue.take(99.0) is None


def test_what_is_asked_for_meanwhile_is_done_once_more_and_not_at_the_same_time() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a", 0.0)
    assert queue.take(0.0) == "a"
    queue.add("a", 0.0)
    queue.add("a", 0.0)
    assert queue.take(0.0) is None
    queue.done("a", 1.0)
    assert queue.take(1.0) == "a"
    queue.done("a", 1.0)
    assert queue.take(1.0) is None


def test_failures_wait_longer_and_longer_whatever_asks_for_them() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a", 0.0)
    now_at, pauses = 0.0, []
    for _ in range(12):
        assert queue.take(now_at) == "a"
        queue.add("a", now_at)
        pauses.append(queue.failed("a", now_at))
        queue.add("a", now_at)
        assert queue.take(now_at) is None
        now_at += pauses[-1]
    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    assert pauses[-1] == CEILING_S
    assert queue.take(now_at) == "a"
    queue.done("a", now_at)
    queue.add("a", now_at)
    assert queue.take(now_at) == "a"
    assert queue.failed("a", now_at, at_least_s=7.0) == 7.0


def test_one_items_failures_delay_no_other() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("bad", 0.0)
    assert queue.take(0.0) == "bad"
    queue.failed("bad", 0.0, at_least_s=100.0)
    queue.add("good", 0.0)
    assert queue.take(0.0) == "good"
    queue.clear()
    assert queue.take(1000.0) is None


@given(
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "take", "done", "fail"])), max_size=100)
)
def test_nothing_is_worked_on_twice_at_once_and_nothing_is_lost(steps: list[tuple[str, str]]) -> None:
    queue: WorkQueue[str] = WorkQueue()
    running: set[str] = set()
    owed: set[str] = set()
    for now_at, (item, verb) in enumerate(steps):
        if verb == "add":
            queue.add(item, now_at)
            owed.add(item)
        elif verb == "take":
            taken = queue.take(now_at)
            if taken is not None:
                assert taken not in running
                running.add(taken)
                owed.discard(taken)
        elif item in running:
            running.discard(item)
            if verb == "done":
                queue.done(item, now_at)
            else:
                queue.failed(item, now_at)
                owed.add(item)
    for item in tuple(running):
        queue.done(item, 200.0)
    while (left := queue.take(math.inf)) is not None:
        owed.discard(left)
        queue.done(left, 200.0)
    assert owed == set()


def test_a_bucket_lets_a_burst_through_and_then_one_by_one() -> None:
    bucket = Bucket(burst=2.0, per_s=4.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.25, 0.5]
    assert not bucket.take_now(0.5)
    assert bucket.take_now(0.75)
    assert not bucket.take_now(0.75)
    assert [bucket.take_now(100.0) for _ in range(3)] == [True, True, False]
