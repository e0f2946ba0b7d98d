"""Reference 1.4, 1.5 and 1.10: messages at the wrong time, twice, or about somebody else's, in 2025 sessions."""

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import GatewayLimits
from mcp_gateway.protocol.eras import V2025_11_25
from mcp_gateway.values import JsonObject, JsonValue
from tests.conformance.rule_steps import CALL, complete, error_of
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, message, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, notice

READ: JsonObject = {"name": "read"}


async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep(20)
    return {"content": []}


async def over(reply: RecordedReply) -> RecordedReply:
    await reply.until(lambda: reply.closed)
    return reply


@pytest.mark.parametrize("request_id", ["1", 1.0, True, None, [1], {"id": 1}, 2, "", -1])
async def test_s1_10_a_cancellation_of_another_id_or_type_is_ignored_with_202(
    autojump_clock: MockClock, request_id: JsonValue
) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={CALL: slow})) as where:
        session = await where.session()
        call = session.begin(CALL, READ, request_id=1)
        await trio.sleep(0.5)
        wrong: list[JsonObject] = [{"requestId": request_id}, {}, {"request_id": 1}]
        for params in wrong:
            assert (await session.tell("notifications/cancelled", params)).status == 202
        assert "result" in (await over(call)).answer


async def test_s1_10_a_cancellation_may_come_too_early_too_late_and_twice(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(handlers={CALL: slow})
    async with scripted_gateway(backend) as where:
        session = await where.session("2025-06-18")
        assert (await session.cancel(1)).status == 202
        assert "result" in (await session.ask(CALL, READ, request_id=1)).answer
        assert (await session.cancel(1)).status == 202
        call = session.begin(CALL, READ, request_id=1)  # the id is free again
        await trio.sleep(0.5)
        for _ in range(2):
            assert (await session.cancel(1)).status == 202
        assert error_of(await over(call))["code"] == -33499
        assert sum(link.cancelled for link in backend.links) == 1


async def test_s1_10_invariant_4_nobody_cancels_what_another_session_asked(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={CALL: slow})) as where:
        mine, other = await where.session(), await where.session()
        calls = [session.begin(CALL, READ, request_id="same") for session in (mine, other)]
        await trio.sleep(0.5)
        await mine.cancel("same")
        first, second = [await over(call) for call in calls]
        assert ("error" in first.answer, "result" in second.answer) == (True, True)


async def test_s1_10_a_progress_token_used_by_two_calls_is_each_calls_own(autojump_clock: MockClock) -> None:
    async def works(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        meta, arguments = params["_meta"], params["arguments"]
        assert isinstance(meta, dict)
        assert isinstance(arguments, dict)
        await hear(notice("notifications/progress", progressToken=meta["progressToken"], progress=arguments["n"]))
        return {"content": []}

    async with scripted_gateway(ScriptedBackend(handlers={CALL: works})) as where:
        session = await where.session()
        for number in (1, 2):
            params: JsonObject = {**READ, "arguments": {"n": number}, "_meta": {"progressToken": "same"}}
            reply = await session.ask(CALL, params)
            said: Message = reply.messages[0]
            assert said["params"] == {"progressToken": "same", "progress": number}


async def test_s1_4_a_session_ends_once_and_with_all_that_runs_in_it(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={CALL: slow})) as where:
        session = await where.session()
        call, stream = session.begin(CALL, READ), session.stream()
        await stream.until(lambda: stream.events)
        assert [(await session.end()).status for _ in range(2)] == [204, 404]
        await over(stream)
        assert error_of(await over(call))["code"] == -33499
        assert (await session.ask("ping")).status == 404
        assert (await session.cancel(1)).status == 404
        assert (len(where.gateway.calls.in_flight), where.gateway.streams) == (0, 0)


async def test_s1_5_a_second_initialize_is_another_session_and_harms_none(autojump_clock: MockClock) -> None:
    hello: JsonObject = {"protocolVersion": "2025-03-26", "capabilities": {}}
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session("2025-11-25", roots={})
        for version in ("2025-11-25", "1999-01-01"):
            again = await where.send(
                "POST",
                headers=session.headers(MCP_Protocol_Version=version),
                body=message("initialize", hello, 1),
            )
            assert again.result["protocolVersion"] == "2025-03-26"
            assert again.header(b"mcp-session-id") not in (None, session.id)
        assert "result" in (await session.call("read")).answer
        last_used = list(where.gateway.context.sessions)[-1]
        assert (last_used.era.version, last_used.capabilities) == ("2025-11-25", {"roots": {}})


async def test_s1_5_initialize_as_a_notification_opens_nothing(autojump_clock: MockClock) -> None:
    hello: JsonObject = {"protocolVersion": "2025-11-25", "capabilities": {}}
    async with scripted_gateway(ScriptedBackend()) as where:
        assert (await where.send("POST", body=message("initialize", hello))).status == 400
        assert len(where.gateway.context.sessions) == 0


async def test_s1_4_one_more_stream_ends_the_oldest_and_a_resume_counts_as_one(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(handlers={CALL: slow})
    async with scripted_gateway(backend, limits=GatewayLimits(streams_per_session=2)) as where:
        session = await where.session()
        call = session.begin(CALL, READ, request_id="call")
        await call.until(lambda: call.events)
        call.leave()
        one = session.stream()
        await one.until(lambda: one.events)
        two = session.stream()
        await two.until(lambda: two.events)
        resumed = session.stream(Last_Event_ID=call.events[0].event_id or "")
        await over(one)
        assert (two.closed, where.gateway.streams) == (False, 2)
        assert (await over(resumed)).answer["id"] == "call"
        assert two.messages == []


@pytest.mark.parametrize("wrong", ["another session's", "not yet sent", "no number", "signed", "garbage", "long"])
async def test_s1_4_an_event_id_that_is_not_of_this_session_resumes_nothing(
    autojump_clock: MockClock, wrong: str
) -> None:
    backend = ScriptedBackend(handlers={CALL: slow})
    async with scripted_gateway(backend) as where:
        session, other = await where.session(), await where.session()
        call = session.begin(CALL, READ)
        await call.until(lambda: call.events)
        good = call.events[0].event_id or ""
        stream, _, _ = good.rpartition("-")
        said = {
            "not yet sent": f"{stream}-1",
            "no number": f"{stream}-x",
            "signed": f"{stream}-+0",
            "garbage": "\u2603",
            "long": "9" * 10_000,
        }.get(wrong, good)
        reply = (other if wrong == "another session's" else session).stream(Last_Event_ID=said)
        await over(reply)
        assert (reply.status, reply.messages[0]["id"]) == (400, None)
        assert "result" in (await over(call)).answer


async def test_s1_4_a_2024_client_has_nothing_to_resume(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        stream = (await where.session("2024-11-05")).stream(Last_Event_ID="x-0-0")
        await stream.until(lambda: stream.opened)
        await trio.sleep(1)
        assert (stream.status, stream.events) == (200, [])


async def test_s1_1_unsubscribing_from_what_nobody_subscribed_is_no_error_and_unknown_resources_are_told(
    autojump_clock: MockClock,
) -> None:
    async with scripted_gateway(complete(V2025_11_25), prefixes={"files": "f_"}) as where:
        session = await where.session()
        known = await session.ask("resources/unsubscribe", {"uri": "memo://files/one"})
        assert known.result == {}
        asked: list[JsonObject] = [{"uri": "memo://nobody/x"}, {"uri": 7}, {}]
        for method in ("resources/subscribe", "resources/unsubscribe"):
            for params in asked:
                error = error_of(await session.ask(method, params))
                assert error["code"] == (-32002 if params.get("uri") == "memo://nobody/x" else -32602)
