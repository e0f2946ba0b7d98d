"""One request's answer: JSON or a stream, exactly one, whatever happens at once."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.gateway.call.response import HEADERS_AFTER_S, MAX_RETRY_MS, RETRY_MS, Accepts, ResponseStream
from mcp_gateway.gateway.faces.batch import PartReply
from mcp_gateway.gateway.replay import Replay, ReplayBudget
from mcp_gateway.protocol.eras import V2025_06_18, V2025_11_25, V2026_07_28, Era
from tests.support.scripted_gateway import RecordedReply


def outlet(reply: RecordedReply, *, json: bool = True, sse: bool = True) -> ResponseStream:
    return ResponseStream(reply=reply, era=V2025_06_18, accepts=Accepts(json=json, sse=sse))


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
        one = ResponseStream(reply=reply, era=era)
        one.leave()
        assert not await one.send(b"{}")
        await one.tick(trio.current_time())
        await one.finish(200, b"{}")
        assert not reply.opened


def kept() -> Replay:
    return Replay(budget=ReplayBudget(total_bytes=1000), session_bytes=1000, age_s=60)


@pytest.mark.parametrize(
    "wanted_ms, told_ms", [(None, RETRY_MS), (0, 0), (250, 250), (3_600_000, MAX_RETRY_MS)], ids=str
)
async def test_a_client_that_can_resume_polls_where_the_backend_is_polled(
    autojump_clock: MockClock, wanted_ms: int | None, told_ms: int
) -> None:
    reply, replay = RecordedReply(), kept()
    one = ResponseStream(reply=reply, era=V2025_11_25, replay=replay)
    await one.rest(wanted_ms)
    assert reply.closed
    assert [(event.data, event.retry_ms) for event in reply.events] == [(b"", told_ms)]
    assert await one.send(b'{"progress":1}')
    await one.rest(wanted_ms)  # the backend may do so again while its client is away
    await one.finish(200, b'{"answer":1}')
    found = replay.find(reply.events[0].event_id or "")
    assert found is not None
    log, seq = found
    assert [data for _, data in log.after(seq) or []] == [b'{"progress":1}', b'{"answer":1}']
    assert log.ended
    assert len(reply.events) == 1


async def test_an_open_stream_says_how_long_to_wait_before_it_rests(autojump_clock: MockClock) -> None:
    reply = RecordedReply()
    one = ResponseStream(reply=reply, era=V2025_11_25, replay=kept())
    await one.send(b'{"log":1}')
    await one.rest(50)
    assert [(event.data, event.retry_ms) for event in reply.events] == [
        (b"", RETRY_MS),
        (b'{"log":1}', None),
        (b"", 50),
    ]
    assert reply.closed


@pytest.mark.parametrize(
    "era, replay, sse",
    [
        pytest.param(V2025_06_18, True, True, id="before there was polling"),
        pytest.param(V2025_11_25, False, True, id="without a place to resume"),
        pytest.param(V2025_11_25, True, False, id="without streams"),
        pytest.param(V2026_07_28, False, True, id="2026"),
    ],
)
async def test_a_client_that_cannot_resume_waits_on_its_stream(
    autojump_clock: MockClock, era: Era, replay: bool, sse: bool
) -> None:
    reply = RecordedReply()
    one = ResponseStream(reply=reply, era=era, replay=kept() if replay else None, accepts=Accepts(sse=sse))
    await one.rest(50)
    assert not reply.closed
    await one.finish(200, b'{"answer":1}')
    assert reply.body == b'{"answer":1}'


async def test_nothing_rests_that_has_ended_or_whose_client_has_left(autojump_clock: MockClock) -> None:
    ended, left = RecordedReply(), RecordedReply()
    one = ResponseStream(reply=ended, era=V2025_11_25, replay=kept())
    await one.finish(200, b"{}")
    await one.rest(50)
    other = ResponseStream(reply=left, era=V2025_11_25, replay=kept())
    other.leave()
    await other.rest(50)
    assert (ended.events, ended.body) == ([], b"{}")
    assert not left.opened


async def test_an_answer_that_comes_while_a_stream_comes_to_rest_is_kept(autojump_clock: MockClock) -> None:
    reply, replay = RecordedReply(), kept()
    reply.stall = trio.Event()
    one = ResponseStream(reply=reply, era=V2025_11_25, replay=replay)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.rest, 50)
        await wait_all_tasks_blocked()
        nursery.start_soon(one.finish, 200, b'{"answer":1}')
        await wait_all_tasks_blocked()
        reply.stall.set()
    found = replay.find(reply.events[0].event_id or "")
    assert found is not None
    assert [data for _, data in found[0].after(found[1]) or []] == [b'{"answer":1}']


async def test_headers_come_before_proxies_lose_patience(autojump_clock: MockClock) -> None:
    reply = RecordedReply()
    one = ResponseStream(reply=reply, era=V2025_06_18)
    assert one.due_at - trio.current_time() == HEADERS_AFTER_S
    await one.tick(one.due_at)
    assert (reply.opened, reply.comments) == (True, 1)


async def test_a_part_of_a_batch_has_no_stream(autojump_clock: MockClock) -> None:
    part = PartReply()
    assert not await part.open(200, ())
    assert not await part.event(b"{}")
    assert not await part.comment()
    await part.close()
    assert part.body == b""
