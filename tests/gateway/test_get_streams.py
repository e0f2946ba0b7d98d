"""GET streams of 2025 clients: what is lost, doubled or late when streams break and change hands."""

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import GatewayLimits, GatewaySpec, HttpSpec
from mcp_gateway.gateway.mailbox import MAX_MESSAGES, Mailbox
from mcp_gateway.gateway.session import LegacyWording
from mcp_gateway.values import JsonObject
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, message, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, notice

NOTE = message("notifications/message", {"level": "info", "data": "x"})


def mailbox(where: ScriptedGateway) -> Mailbox:
    (live,) = where.gateway.context.sessions
    return live.mailbox


async def stalled(where: ScriptedGateway, stream: RecordedReply) -> trio.Event:
    """A stream whose client has stopped to read, with a message on its way."""
    await stream.until(lambda: stream.opened)
    await wait_all_tasks_blocked()
    stream.stall = trio.Event()
    mailbox(where).post(NOTE)
    await wait_all_tasks_blocked()
    return stream.stall


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_what_could_not_be_sent_goes_to_the_next_stream_at_once(autojump_clock: MockClock, how: str) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session("2024-11-05")
        first = session.stream()
        stall = await stalled(where, first)
        second = session.stream()
        await second.until(lambda: second.opened)
        await wait_all_tasks_blocked()
        began_at = trio.current_time()
        if how == "cancelled":
            first.leave()
        else:
            first.gone = True
            stall.set()
        await second.until(lambda: second.messages)
        assert trio.current_time() == began_at
        assert first.messages == []


async def test_what_could_not_be_sent_on_a_resumable_stream_comes_once(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session("2025-11-25")
        first = session.stream()
        await stalled(where, first)
        first.leave()
        await wait_all_tasks_blocked()
        other = session.stream()
        await other.until(lambda: other.events)
        resumed = session.stream(Last_Event_ID=str(first.events[-1].event_id))
        await resumed.until(lambda: resumed.messages)
        await trio.sleep(1)
        assert (len(resumed.messages), len(other.messages)) == (1, 0)


async def test_backends_follow_the_session_when_its_streams_change_hands(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend()
    async with scripted_gateway(backend) as where:
        session = await where.session("2025-06-18")
        await session.call("read")
        own = backend.open_links[1]
        first, second = session.stream(), session.stream()
        first.leave()  # before it was open
        await second.until(lambda: second.opened)
        await wait_all_tasks_blocked()
        assert own.stream is not None
        second.leave()
        await wait_all_tasks_blocked()
        assert own.stream is None


async def test_a_client_that_left_is_noticed_by_the_comment(autojump_clock: MockClock) -> None:
    spec = GatewaySpec(http=HttpSpec(keep_alive_s=2), limits=GatewayLimits())
    async with scripted_gateway(ScriptedBackend(), spec=spec) as where:
        session = await where.session("2025-06-18")
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        stream.gone = True
        await trio.sleep(3)
        assert where.gateway.streams == 0


def test_invariant_7_a_message_is_put_back_only_where_there_is_room() -> None:
    box = Mailbox(LegacyWording())
    box.post(b"first")
    taken = box.take()
    assert taken == b"first"
    for number in range(MAX_MESSAGES):
        box.post(b"%d" % number)
    box.put_back(taken)
    assert box.take() == b"0"
    assert box.dropped == 1


# --- resuming and what is kept for it ---


async def answer_late(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    for number in range(3):
        await hear(notice("notifications/message", level="info", data=number))
        await trio.sleep(5)
    return {"content": []}


async def test_a_resumed_call_is_heard_on_one_connection_only(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": answer_late})) as where:
        session = await where.session()
        first = session.begin("tools/call", {"name": "read"})
        await first.until(lambda: first.messages)
        resumed = session.stream(Last_Event_ID=str(first.events[-1].event_id))
        await resumed.until(lambda: resumed.messages)
        again = session.stream(Last_Event_ID=str(resumed.events[-1].event_id))
        await again.until(lambda: again.closed)
        assert [len(reply.messages) for reply in (first, resumed, again)] == [1, 1, 2]
        assert again.result == {"content": []}
        await wait_all_tasks_blocked()
        assert first.closed
        assert resumed.closed


async def test_invariant_7_ended_sessions_keep_nothing_for_a_resume(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": answer_late})) as where:
        session = await where.session()
        (live,) = where.gateway.context.sessions
        replies = [
            session.begin("tools/call", {"name": "read"}),
            session.begin("prompts/list", request_id="p", Accept="text/event-stream"),
        ]
        await trio.sleep(2)
        late = live.replay.open()
        assert live.replay.budget.used_bytes > 0
        await session.end()
        await replies[0].until(lambda: replies[0].closed)
        late.append(b"after the end")
        live.replay.open().append(b"after the end")
        assert live.replay.budget.used_bytes == 0
        assert replies[0].error["data"]["reason"] == "cancelled"  # type: ignore[index,call-overload]  # raw JSON


async def test_invariant_7_old_events_of_a_quiet_session_leave_room_for_others(autojump_clock: MockClock) -> None:
    limits = GatewayLimits(replay_age_s=60)
    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": answer_late}), limits=limits) as where:
        session = await where.session()
        await session.call("read")
        (live,) = where.gateway.context.sessions
        assert live.replay.budget.used_bytes > 0
        await trio.sleep(70)
        assert live.replay.budget.used_bytes == 0


@pytest.mark.parametrize("how", ["removed", "disabled"])
async def test_a_server_that_is_there_again_speaks_on_the_streams_that_are_open(
    autojump_clock: MockClock, how: str
) -> None:
    backend = ScriptedBackend()
    async with scripted_gateway(backend) as where:
        present = where.spec.value
        off = tuple(attrs.evolve(server, enabled=False) for server in present.servers) if how == "disabled" else ()
        session = await where.session()
        await session.call("read")
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        for spec in (attrs.evolve(present, servers=off), present):
            where.spec.set(spec)
            await where.fleet.apply(spec)
            await trio.sleep(20)
        await session.call("read")  # opens its session there
        await backend.shout(notice("notifications/message", level="info", data="back"))
        await stream.until(
            lambda: any(one.get("params") == {"level": "info", "data": "back"} for one in stream.messages)
        )
