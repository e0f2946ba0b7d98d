"""One request's answer: JSON or a stream, exactly one, whatever happens at once."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.gateway.batch import PartReply
from mcp_gateway.gateway.outlet import HEADERS_AFTER_S, Accepts, Outlet
from mcp_gateway.protocol.eras import V2025_06_18, V2025_11_25, V2026_07_28
from tests.support.scripted_gateway import RecordedReply


def outlet(reply: RecordedReply, *, json: bool = True, sse: bool = True) -> Outlet:
    return Outlet(reply=reply, era=V2025_06_18, accepts=Accepts(json=json, sse=sse))


async def test_invariant_1_the_second_end_of_a_request_changes_nothing(autojump_clock: MockClock) -> None:
    for json in (True, False):
        reply = RecordedReply()
        one = outlet(reply, json=json)
        await one.finish(200, b'{"first":1}')
        await one.finish(200, b'{"second":2}')
        await one.abandon(200, b'{"third":3}')
        assert not await one.send(b'{"late":1}')
        await one.tick(trio.current_time())
        assert reply.messages == [{"first": 1}]
        assert reply.comments == 0


async def test_who_takes_only_json_is_told_nothing_in_between(autojump_clock: MockClock) -> None:
    reply = RecordedReply()
    one = outlet(reply, sse=False)
    assert not await one.send(b"{}")
    await one.tick(trio.current_time())
    await one.finish(200, b'{"a":1}')
    assert (reply.opened, reply.body) == (False, b'{"a":1}')


async def test_who_takes_only_a_stream_gets_the_answer_on_one(autojump_clock: MockClock) -> None:
    reply = RecordedReply()
    one = outlet(reply, json=False)
    await one.abandon(200, b'{"a":1}')
    assert reply.opened
    assert reply.closed
    assert reply.messages == [{"a": 1}]


@pytest.mark.parametrize("end", ["finish", "abandon"])
async def test_an_end_waits_for_what_is_being_sent_and_nothing_follows_it(autojump_clock: MockClock, end: str) -> None:
    reply = RecordedReply()
    reply.stall = trio.Event()
    one = outlet(reply)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.send, b'{"first":1}')
        await wait_all_tasks_blocked()
        nursery.start_soon(one.finish if end == "finish" else one.abandon, 200, b'{"answer":1}')
        await wait_all_tasks_blocked()
        nursery.start_soon(one.send, b'{"second":1}')
        nursery.start_soon(one.finish, 200, b'{"again":1}')
        nursery.start_soon(one.abandon, 200, b'{"again":1}')
        nursery.start_soon(one.tick, trio.current_time())
        await wait_all_tasks_blocked()
        reply.stall.set()
    assert reply.messages == [{"first": 1}, *([{"answer": 1}] if end == "finish" else [])]
    assert reply.closed


async def test_an_answer_that_overtakes_a_message_is_the_last_word(autojump_clock: MockClock) -> None:
    reply = RecordedReply()
    one = outlet(reply)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.send, b'{"late":1}')
        nursery.start_soon(one.finish, 200, b'{"answer":1}')
    assert reply.messages[-1] == {"answer": 1}


async def test_a_client_that_left_is_sent_nothing(autojump_clock: MockClock) -> None:
    for era in (V2025_11_25, V2026_07_28):
        reply = RecordedReply()
        one = Outlet(reply=reply, era=era)
        one.leave()
        assert not await one.send(b"{}")
        await one.tick(trio.current_time())
        await one.finish(200, b"{}")
        assert not reply.opened


async def test_headers_come_before_proxies_lose_patience(autojump_clock: MockClock) -> None:
    reply = RecordedReply()
    one = Outlet(reply=reply, era=V2025_06_18)
    assert one.due_at - trio.current_time() == HEADERS_AFTER_S
    await one.tick(one.due_at)
    assert (reply.opened, reply.comments) == (True, 1)


async def test_a_part_of_a_batch_has_no_stream(autojump_clock: MockClock) -> None:
    part = PartReply(RecordedReply())
    assert not await part.open(200, ())
    assert not await part.event(b"{}")
    assert not await part.comment()
    await part.close()
    assert part.body == b""
