"""Tests of ``pipe``: one reader, many exchanges, nobody waits for anybody else."""

import json
from collections.abc import Sequence

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import GOODBYE_S, Inbound
from mcp_gateway.backends.transports.pipe import CONTROL_EXCHANGES
from mcp_gateway.errors import (
    BackendBusy,
    BackendGone,
    BackendTooLarge,
    Executed,
)
from tests.support.pipe_links import LIMITS, Asked, Ear, linked, outgoing, settled
from tests.support.scripted_pipe import KEY, ScriptedPipe
from tests.support.tally import Tally


async def test_answers_find_their_exchanges_in_any_order(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        asked = [Asked(nursery, link) for _ in range(3)]
        sent = await pipe.heard(3)
        for message in reversed(sent):
            pipe.say(id=message["id"], result={"for": message["id"]})
        await settled()
        got = [json.loads(one.answer.raw)["result"]["for"] for one in asked if one.answer]
        assert got == [one.id for one in asked]
        assert link.in_flight == 0
        assert not link.lost


@given(order=st.permutations(range(3)), noise=st.lists(st.sampled_from([b"[]", b"{", b"1", b'{"a":1}']), max_size=5))
def test_any_order_and_any_noise_give_each_exchange_its_own_answer(order: Sequence[int], noise: list[bytes]) -> None:
    async def main() -> None:
        pipe = ScriptedPipe()
        async with linked(pipe) as link, trio.open_nursery() as nursery:
            asked = [Asked(nursery, link) for _ in range(3)]
            sent = await pipe.heard(3)
            assert len(sent) == 3
            for index in order:
                pipe.feed(*noise)
                pipe.say(id=asked[index].id, result=index)
            await settled()
            assert [json.loads(one.answer.raw)["result"] for one in asked if one.answer] == [0, 1, 2]
            assert link.junk == 3 * len(noise)

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_progress_is_heard_in_order_before_the_answer(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        asked = Asked(nursery, link)
        (sent,) = await pipe.heard(1)
        for done in (1, 2, 3):
            pipe.say(method="notifications/progress", params={"progressToken": sent["id"], "progress": done})
        pipe.say(id=sent["id"], result={})
        await asked.done.wait()
        assert [message.params["progress"] for message in asked.ear.heard] == [1, 2, 3]
        assert asked.answer is not None


async def test_waiting_for_a_task_takes_no_place_from_calls(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        for _ in range(LIMITS.concurrency):
            Asked(nursery, link, task="t")
        await pipe.heard(LIMITS.concurrency)
        asked = Asked(nursery, link)
        sent = (await pipe.heard(LIMITS.concurrency + 1))[-1]
        pipe.say(id=sent["id"], result={})
        await asked.done.wait()
        assert asked.answer is not None


async def test_progress_of_a_call_that_became_a_task_goes_on_after_its_answer(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe, beside = ScriptedPipe(), Ear()
    async with linked(pipe, unattributed=beside) as link:
        asked = Asked(nursery, link)
        (sent,) = await pipe.heard(1)
        token = f'task:{sent["id"]}:"mine"'
        pipe.say(method="notifications/progress", params={"progressToken": token, "progress": 1})
        pipe.say(id=sent["id"], result={"task": {}})
        await asked.done.wait()
        pipe.say(method="notifications/progress", params={"progressToken": token, "progress": 2})
        await settled()
        assert [message.params["progress"] for message in asked.ear.heard] == [1]
        assert [message.params["progress"] for message in beside.heard] == [2]
        assert link.late == 0


async def test_a_receiver_that_never_returns_holds_up_nobody_else(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        stuck = Asked(nursery, link, Ear(deaf=True))
        (first,) = await pipe.heard(1)
        for done in range(1000):
            pipe.say(method="notifications/progress", params={"progressToken": first["id"], "progress": done})
        other = Asked(nursery, link)
        second = (await pipe.heard(2))[1]
        pipe.say(id=second["id"], result={})
        await other.done.wait()
        assert other.answer is not None
        assert not stuck.done.is_set()
        stuck.scope.cancel("test")


async def test_late_unknown_and_repeated_answers_are_counted_and_dropped(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe = ScriptedPipe()
    ear = Ear()
    tally = Tally()
    async with linked(pipe, unattributed=ear, observer=tally) as link:
        asked = Asked(nursery, link)
        await pipe.heard(1)
        pipe.say(id=1, result={"first": True})
        pipe.say(id=1, result={"first": False})
        pipe.say(id="1", result={})
        pipe.say(id=99, error={"code": 1, "message": ""})
        pipe.say(id=None, error={"code": -32700, "message": "parse error"})
        pipe.say(method="notifications/progress", params={"progressToken": 1, "progress": 1})
        await settled()
        assert asked.answer is not None
        assert json.loads(asked.answer.raw)["result"] == {"first": True}
        assert link.late == 5
        assert tally.late == [KEY]  # an id that we never gave is no answer to anything
        assert ear.heard == []


async def test_a_cancelled_exchange_tells_the_backend_why(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        asked = Asked(nursery, link)
        await pipe.heard(1)
        asked.scope.cancel("the client has left")
        notice = (await pipe.heard(2))[1]
        assert notice["method"] == "notifications/cancelled"
        assert notice["params"] == {"requestId": 1, "reason": "the client has left"}
        pipe.say(id=1, result={})
        await settled()
        assert asked.done.is_set()
        assert link.late == 1


async def test_a_deadline_says_so(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        with trio.move_on_after(1.0):
            await link.exchange(outgoing(), Ear())
        notice = (await pipe.heard(2))[1]
        assert notice["params"] == {"requestId": 1, "reason": "deadline"}


@pytest.mark.parametrize("grouped", [True, False], ids=["in a group", "bare"])
async def test_a_receiver_that_fails_ends_the_exchange_and_the_backend_is_told(
    autojump_clock: MockClock, nursery: trio.Nursery, grouped: bool
) -> None:
    pipe = ScriptedPipe()

    async def hear(message: Inbound) -> None:
        if grouped:
            raise ExceptionGroup("two", [ValueError("a"), ValueError("b")])
        raise ValueError("a")

    async def speak() -> None:
        await pipe.heard(1)
        pipe.say(method="notifications/progress", params={"progressToken": 1, "progress": 1})

    async with linked(pipe) as link:
        nursery.start_soon(speak)
        with pytest.raises((ValueError, ExceptionGroup)):
            await link.exchange(outgoing(), hear)
        notice = (await pipe.heard(2))[1]
        assert notice["params"] == {"requestId": 1, "reason": "the gateway could not relay the answer"}


async def test_initialize_is_left_without_a_notice(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        with trio.move_on_after(1.0):
            await link.exchange(outgoing(cancellable=False), Ear())
        assert len(pipe.sent) == 1


async def test_a_backend_that_does_not_read_delays_a_cancelled_call_by_no_more_than_the_goodbye(
    autojump_clock: MockClock,
) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        began_at = trio.current_time()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.exchange, outgoing(), Ear())
                await pipe.heard(1)
                pipe.sends = False
                scope.cancel("test")
        assert trio.current_time() - began_at == pytest.approx(GOODBYE_S)


async def test_a_call_that_was_not_handed_over_leaves_silently(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe(sends=False)
    async with linked(pipe) as link:
        with trio.move_on_after(1.0):
            await link.exchange(outgoing(), Ear())
        assert trio.current_time() == pytest.approx(1.0)
        assert pipe.sent == []
        assert link.in_flight == 0


async def test_control_messages_wait_for_a_place_and_calls_do_not(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        asked = [Asked(nursery, link, control=True) for _ in range(CONTROL_EXCHANGES)]
        await settled()
        Asked(nursery, link, control=True)
        await settled()
        assert len(pipe.sent) == CONTROL_EXCHANGES
        Asked(nursery, link)
        await settled()
        assert len(pipe.sent) == CONTROL_EXCHANGES + 1
        asked[0].scope.cancel("test")
        await settled()
        assert [json.loads(frame)["method"] for frame in pipe.sent[-2:]] == ["notifications/cancelled", "tools/call"]


async def test_the_end_of_the_pipe_fails_everybody_at_once(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe, lost = ScriptedPipe(), list[str]()
    async with linked(pipe, lost=lost) as link:
        asked = [Asked(nursery, link), Asked(nursery, link, Ear(deaf=True))]
        await pipe.heard(2)
        pipe.say(method="notifications/progress", params={"progressToken": asked[1].id, "progress": 1})
        await settled()
        pipe.end("its process exited with code 3")
        await settled()
        for one in asked:
            assert isinstance(one.error, BackendGone)
            assert one.error.executed is Executed.UNKNOWN
            assert "exited with code 3" in str(one.error)
        assert asked[0].error is not asked[1].error
        assert link.lost
        assert lost == ["its process exited with code 3"]
        assert await link.gone() == lost[0]
        for use in (link.exchange(outgoing(), Ear()), link.notify(b"{}")):
            with pytest.raises(BackendGone) as caught:
                await use
            assert caught.value.executed is Executed.NO
        assert pipe.closed == 1


async def test_a_call_still_being_handed_over_at_the_end_was_not_executed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe = ScriptedPipe(sends=False)
    async with linked(pipe) as link:
        box = Asked(nursery, link)
        await settled()
        pipe.end("gone")
        await settled()
        assert link.in_flight == 0
        box.scope.cancel("test")


async def test_an_end_that_is_no_loss_of_connection_keeps_its_sentence(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        pipe._in.send_nowait(BackendTooLarge(backend=KEY, limit="limits.eventBytes", bound=5))
        assert "limits.eventBytes = 5" in await link.gone()


async def test_closing_is_idempotent_and_tells_the_owner_nothing_new(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe, lost = ScriptedPipe(), list[str]()
    async with linked(pipe, lost=lost) as link:
        asked = Asked(nursery, link)
        await pipe.heard(1)
        await link.aclose()
        await link.aclose()
        await asked.done.wait()
        assert isinstance(asked.error, BackendGone)
        assert link.lost
    assert lost == []


async def test_a_send_that_was_refused_before_execution_is_not_cancelled_at_the_backend(
    autojump_clock: MockClock,
) -> None:
    class Busy(ScriptedPipe):
        async def send(self, frame: bytes, handed: object, *, control: bool = False) -> None:
            assert callable(handed)
            handed()
            self.sent.append(frame)
            raise BackendBusy(backend=KEY, status=503)

    pipe = Busy()
    async with linked(pipe) as link:
        with pytest.raises(BackendBusy):
            await link.exchange(outgoing(), Ear())
    assert len(pipe.sent) == 1


async def test_a_notice_that_cannot_be_delivered_is_forgotten(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        with trio.move_on_after(1.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.exchange, outgoing(), Ear())
                await pipe.heard(1)
                pipe.closed = 1
        assert trio.current_time() == pytest.approx(1.0)
