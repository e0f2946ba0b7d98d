"""Tests of ``inbox``: bounded, in order, the outcome never lost."""

from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.backends.transports.base import Answer, Inbound
from mcp_gateway.backends.transports.inbox import Inbox
from mcp_gateway.errors import BackendGone
from mcp_gateway.values import BackendKey

GONE = BackendGone(backend=BackendKey("files"), why="exited")


def notice(number: int = 0, *, size: int = 10) -> Inbound:
    return Inbound(method="notifications/message", params={"n": number}, raw=b"x" * size)


def progress(number: int) -> Inbound:
    return Inbound(method="notifications/progress", params={"n": number}, raw=b"x" * 10)


def request(number: int = 0) -> Inbound:
    return Inbound(method="roots/list", params={"n": number}, raw=b"x" * 10, id_raw=b"1")


MAKERS: dict[str, Callable[[int], Inbound]] = {"notice": notice, "progress": progress, "request": request}


def drain(box: Inbox) -> list[Inbound]:
    found: list[Inbound] = []
    while (message := box.next()) is not None:
        found.append(message)
    return found


def test_at_the_bound_the_oldest_progress_goes_first() -> None:
    box = Inbox(messages=3)
    kept = [notice(), progress(1), progress(2), progress(3)]
    assert all(box.put(message) for message in kept)
    assert drain(box) == [kept[0], kept[2], kept[3]]
    assert box.dropped == 1


def test_without_progress_the_oldest_notification_goes() -> None:
    box = Inbox(messages=2)
    kept = [request(), notice(1), notice(2)]
    assert all(box.put(message) for message in kept)
    assert drain(box) == [kept[0], kept[2]]


def test_when_only_requests_wait_a_notification_is_dropped_and_a_request_refused() -> None:
    box = Inbox(messages=1)
    assert box.put(request(1))
    assert box.put(notice())
    assert not box.put(request(2))
    assert drain(box) == [request(1)]
    assert box.dropped == 1


def test_bytes_are_bounded_too_but_one_message_always_fits() -> None:
    box = Inbox(message_bytes=100)
    assert box.put(notice(1, size=1000))
    assert box.put(notice(2, size=60))
    assert box.put(notice(3, size=60))
    assert drain(box) == [notice(3, size=60)]
    assert box.dropped == 2


@given(
    kinds=st.lists(st.sampled_from(["notice", "progress", "request"]), max_size=60),
    bound=st.integers(1, 6),
)
def test_order_is_kept_and_accepted_requests_are_never_lost(kinds: list[str], bound: int) -> None:
    box = Inbox(messages=bound)
    accepted: list[Inbound] = []
    for number, kind in enumerate(kinds):
        message = MAKERS[kind](number)
        if box.put(message):
            accepted.append(message)
        else:
            assert message.id_raw is not None
        assert box.queued <= bound
    got = drain(box)
    assert got == [message for message in accepted if message in got]
    assert [message for message in accepted if message.id_raw] == [message for message in got if message.id_raw]
    assert len(accepted) - len(got) == box.dropped


async def test_the_first_outcome_stays() -> None:
    box = Inbox()
    answer = Answer(raw=b"{}")
    box.settle(answer)
    box.fail(GONE)
    box.settle(Answer(raw=b"[]"))
    assert box.outcome is answer


async def test_a_failure_cancels_the_hearing() -> None:
    box = Inbox()
    with trio.CancelScope() as box.hearing:
        box.fail(GONE)
        await trio.sleep_forever()
    assert box.outcome is GONE


@pytest.mark.parametrize("early", [True, False], ids=["before the wait", "during the wait"])
async def test_changed_wakes_for_messages_and_outcomes(early: bool, nursery: trio.Nursery) -> None:
    acts: list[Callable[[Inbox], object]] = [
        lambda box: box.put(notice()),
        lambda box: box.settle(Answer(raw=b"{}")),
        lambda box: box.fail(GONE),
    ]
    for act in acts:
        box = Inbox()
        if early:
            act(box)
        else:
            nursery.start_soon(box.changed)
            await trio.testing.wait_all_tasks_blocked()
            act(box)
        with trio.fail_after(1):
            await box.changed()
