"""``input_required`` of 2026 backends and 2025 clients: who is asked, where, and what becomes of open questions."""

import orjson
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Answer, Hear, Inbound, Outgoing
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.gateway.server_requests import MAX_OPEN
from mcp_gateway.protocol.eras import V2026_07_28
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, Session, message, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink

FORM: JsonObject = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}
SAMPLE: JsonObject = {"messages": [], "maxTokens": 1}
ELICIT: JsonObject = {"method": "elicitation/create", "params": FORM}
SAMPLING: JsonObject = {"method": "sampling/createMessage", "params": SAMPLE}
ROOTS: JsonObject = {"method": "roots/list"}
URL: JsonObject = {"method": "elicitation/create", "params": {"mode": "url", "url": "https://x/", "message": "m"}}
ABLE: JsonObject = {"elicitation": {}, "sampling": {}, "roots": {}}
READ: JsonObject = {"name": "read", "arguments": {"a": 1}}


def asking(requests: JsonObject, state: JsonValue = "s-1") -> ScriptedBackend:
    """A 2026 backend that asks once and then says what it got."""

    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        if "inputResponses" not in params:
            return {"resultType": "input_required", "inputRequests": requests, "requestState": state}
        return {"resultType": "complete", "content": [], "got": params["inputResponses"]}

    return ScriptedBackend(era=V2026_07_28, handlers={"tools/call": handle})


def questions(reply: RecordedReply) -> list[Message]:
    return [one for one in reply.messages if "method" in one and "id" in one]


def taken_back(reply: RecordedReply) -> list[JsonValue]:
    """The ids of the questions that need not be answered any more."""
    notices: list[Message] = [one for one in reply.messages if one.get("method") == "notifications/cancelled"]
    return [one["params"]["requestId"] for one in notices]


async def asked(reply: RecordedReply, count: int) -> list[Message]:
    await reply.until(lambda: len(questions(reply)) == count)
    return questions(reply)


async def over(reply: RecordedReply) -> RecordedReply:
    await reply.until(lambda: reply.closed)
    return reply


def nothing_open(where: ScriptedGateway) -> None:
    assert all(len(session.questions) == 0 and not session.calls for session in where.gateway.context.sessions)
    assert len(where.gateway.calls.in_flight) == 0


# --- who is asked what -----------------------------------------------------------------------------------------------

UNDECLARED = [
    pytest.param({"k": ROOTS}, {"sampling": {}}, {"roots": {}}, id="roots"),
    pytest.param({"k": SAMPLING}, {"roots": {}}, {"sampling": {}}, id="sampling"),
    pytest.param({"k": ELICIT}, {"roots": {}}, {"elicitation": {"form": {}}}, id="elicitation"),
    pytest.param({"k": URL}, {"elicitation": {}}, {"elicitation": {"url": {}}}, id="url of a client with forms"),
    pytest.param({"k": ELICIT}, {"elicitation": {"url": {}}}, {"elicitation": {"form": {}}}, id="form, but URLs only"),
    pytest.param(
        {"k": {"method": "elicitation/create", "params": {"mode": "voice"}}},
        {"elicitation": {"form": {}, "url": {}}},
        {"elicitation": {"voice": {}}},
        id="a mode of tomorrow",
    ),
    pytest.param(
        {"k": {"method": "sampling/createMessage", "params": {**SAMPLE, "tools": []}}},
        {"sampling": {}},
        {"sampling": {"tools": {}}},
        id="sampling with tools",
    ),
    pytest.param({"a": ELICIT, "k": ROOTS}, {"elicitation": {}}, {"roots": {}}, id="the second of two"),
]


@pytest.mark.parametrize("requests, declared, needed", UNDECLARED)
async def test_nobody_is_asked_anything_when_one_question_was_not_declared(
    autojump_clock: MockClock, requests: JsonObject, declared: JsonObject, needed: JsonObject
) -> None:
    backend = asking(requests)
    async with scripted_gateway(backend) as where:
        old = await (await where.session(**declared)).call("read")  # type: ignore[arg-type]  # its keys are names
        assert (old.status, old.error["code"], questions(old)) == (200, -32601, [])
        new = await where.modern("tools/call", READ, capabilities=declared)
        assert (new.status, new.error["code"]) == (400, -32021)
        assert new.error["data"] == {"requiredCapabilities": needed}
        assert backend.asked("tools/call") == 2


async def test_a_question_reaches_the_client_with_the_bytes_it_came_in(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = b'{"z":1.50,"message":"?","a":[1e400,123456789012345678901234567890],"x-vendor":{"b":1,"a":2}}'
    honest = ScriptedLink.exchange

    async def exchange(self: ScriptedLink, outgoing: Outgoing, hear: Hear) -> Answer:
        answer = await honest(self, outgoing, hear)
        return Answer(raw=answer.raw.replace(b'"PARAMS"', params))

    monkeypatch.setattr(ScriptedLink, "exchange", exchange)
    backend = asking({"k": ELICIT})

    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        request: JsonObject = {"method": "elicitation/create", "params": "PARAMS"}
        return {"resultType": "input_required", "inputRequests": {"k": request}}

    backend.handlers["tools/call"] = handle
    async with scripted_gateway(backend) as where:
        session = await where.session(elicitation={})
        reply = session.begin("tools/call", READ)
        await reply.until(lambda: len(reply.events) == 2)
        assert b'"params":' + params in reply.events[1].data


# --- answers ---------------------------------------------------------------------------------------------------------


async def test_answers_count_once_in_any_order_and_of_the_asked_session_only(autojump_clock: MockClock) -> None:
    backend = asking({"e": ELICIT, "s": SAMPLING, "r": ROOTS})
    async with scripted_gateway(backend) as where:
        session, other = await where.session(**ABLE), await where.session(**ABLE)  # type: ignore[arg-type]
        reply = session.begin("tools/call", READ)
        e, s, r = (one["id"] for one in await asked(reply, 3))
        await other.respond(e, result={"action": "accept"})
        results: list[tuple[JsonValue, JsonObject]] = [(r, {"roots": []}), (r, {"roots": ["x"]}), (s, {"role": "x"})]
        for request_id, result in results:
            assert (await session.respond(request_id, result=result)).status == 202
        await trio.sleep(1)
        assert not reply.closed
        await session.respond(e, result={"action": "decline"})
        assert (await over(reply)).result["got"] == {"e": {"action": "decline"}, "s": {"role": "x"}, "r": {"roots": []}}
        assert taken_back(reply) == []
        assert (await session.respond(e, result={})).status == 202  # too late, and nobody minds


async def test_a_refused_question_fails_the_call_and_takes_the_others_back(autojump_clock: MockClock) -> None:
    backend = asking({"e": ELICIT, "s": SAMPLING, "r": ROOTS})
    async with scripted_gateway(backend) as where:
        session = await where.session(**ABLE)  # type: ignore[arg-type]  # its keys are names
        reply = session.begin("tools/call", READ)
        e, s, r = (one["id"] for one in await asked(reply, 3))
        await session.respond(s, error={"code": -1, "message": "no"})
        assert (await over(reply)).error == {"code": -1, "message": "no"}
        assert set(taken_back(reply)) == {e, r}
        assert reply.messages[-1] == reply.answer
        nothing_open(where)
        assert backend.asked("tools/call") == 1


async def test_a_round_that_finds_the_client_too_busy_asks_nothing_more(autojump_clock: MockClock) -> None:
    backend = asking({f"r{number}": ROOTS for number in range(MAX_OPEN)})
    async with scripted_gateway(backend) as where:
        session = await where.session(roots={})
        first = session.begin("tools/call", READ)
        await asked(first, MAX_OPEN)
        second = await session.ask("tools/call", READ)
        assert (second.error["code"], questions(second), taken_back(second)) == (-32603, [], [])
        for one in questions(first):
            await session.respond(one["id"], result={"roots": []})
        assert "result" in (await over(first)).answer


@pytest.mark.parametrize("state, sent", [("s-1", "s-1"), ({"odd": [1]}, {"odd": [1]}), (None, "absent")])
async def test_the_state_is_echoed_exactly_and_never_made_up(
    autojump_clock: MockClock, state: JsonValue, sent: JsonValue
) -> None:
    backend = asking({"r": ROOTS}, state)
    async with scripted_gateway(backend) as where:
        session = await where.session(**ABLE)  # type: ignore[arg-type]  # its keys are names
        reply = session.begin("tools/call", READ)
        (one,) = await asked(reply, 1)
        await session.respond(one["id"], result={"roots": []})
        await over(reply)
        last: Message = [params for link in backend.links for method, params in link.asked if method == "tools/call"][1]
        assert last.get("requestState", "absent") == sent
        assert {key: last[key] for key in ("name", "arguments", "inputResponses")} == {
            **READ,
            "inputResponses": {"r": {"roots": []}},
        }


async def test_the_last_round_asks_nobody(autojump_clock: MockClock) -> None:
    async def endless(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"resultType": "input_required", "inputRequests": {"r": ROOTS}}

    backend = ScriptedBackend(era=V2026_07_28, handlers={"tools/call": endless})
    async with scripted_gateway(backend) as where:
        session = await where.session(roots={})
        reply = session.begin("tools/call", READ)
        for number in range(1, 10):
            await session.respond((await asked(reply, number))[-1]["id"], result={"roots": []})
        error: Message = (await over(reply)).error
        assert error["data"]["reason"] == "backend_protocol"
        assert (backend.asked("tools/call"), len(questions(reply))) == (10, 9)


# --- how a call ends with its question open --------------------------------------------------------------------------


async def test_a_client_that_never_answers_is_told_when_it_need_not_any_more(autojump_clock: MockClock) -> None:
    async with scripted_gateway(asking({"r": ROOTS}), timeouts=Timeouts(call_s=3, input_s=20)) as where:
        session = await where.session(roots={})
        reply = await session.ask("tools/call", READ)
        error: Message = reply.error
        assert error["data"]["limit"] == "input"
        assert taken_back(reply) == [questions(reply)[0]["id"]]
        nothing_open(where)


async def test_a_2025_backend_whose_call_ends_takes_its_question_back_too(autojump_clock: MockClock) -> None:
    raw = b'{"jsonrpc":"2.0","id":"q","method":"roots/list"}'

    async def impatient(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(Inbound(method="roots/list", params={}, raw=raw, id_raw=b'"q"'))
        await trio.sleep(1)
        if params["arguments"]:
            link.forgotten = True
            link.die("crashed")
            await trio.sleep_forever()
        return {"content": []}

    backend = ScriptedBackend(handlers={"tools/call": impatient})
    async with scripted_gateway(backend) as where:
        session = await where.session(roots={})
        both: list[JsonObject] = [{}, {"crash": True}]
        for arguments in both:
            reply = await session.ask("tools/call", {"name": "read", "arguments": arguments})
            assert ("error" in reply.answer) == bool(arguments)
            assert taken_back(reply) == [questions(reply)[0]["id"]]
            nothing_open(where)


async def test_a_cancel_between_two_rounds_stops_and_tells_the_backend_nothing(autojump_clock: MockClock) -> None:
    backend = asking({"r": ROOTS})
    async with scripted_gateway(backend) as where:
        session = await where.session(roots={})
        reply = session.begin("tools/call", READ, request_id="mine")
        (one,) = await asked(reply, 1)
        await session.cancel("mine")
        await over(reply)
        assert [one for one in reply.messages if "method" not in one] == []
        await session.respond(one["id"], result={"roots": []})
        await trio.sleep(1)
        assert (backend.asked("tools/call"), sum(link.cancelled for link in backend.links)) == (1, 0)
        nothing_open(where)


async def test_the_end_of_the_session_ends_the_call_with_its_question(autojump_clock: MockClock) -> None:
    backend = asking({"r": ROOTS})
    async with scripted_gateway(backend) as where:
        session = await where.session(roots={})
        reply = session.begin("tools/call", READ)
        (one,) = await asked(reply, 1)
        assert (await session.end()).status in {200, 204}
        await over(reply)
        assert (await session.respond(one["id"], result={"roots": []})).status == 404
        assert backend.asked("tools/call") == 1
        assert len(where.gateway.calls.in_flight) == 0


async def test_a_client_that_lost_its_stream_answers_after_the_resume(autojump_clock: MockClock) -> None:
    backend = asking({"r": ROOTS})
    async with scripted_gateway(backend) as where:
        session = await where.session(roots={})
        call = session.begin("tools/call", READ, request_id="mine")
        await asked(call, 1)
        call.leave()
        await trio.sleep(30)
        resumed = session.stream(Last_Event_ID=call.events[-1].event_id or "")
        await wait_all_tasks_blocked()
        assert questions(resumed) == []  # it was delivered before
        await session.respond(questions(call)[0]["id"], result={"roots": []})
        await over(resumed)
        assert (resumed.answer["id"], resumed.result["got"]) == ("mine", {"r": {"roots": []}})


async def test_a_question_that_was_asked_while_nobody_listened_is_replayed(autojump_clock: MockClock) -> None:
    backend = asking({"r": ROOTS})
    first = backend.handlers["tools/call"]

    async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(5)
        return await first(link, params, hear)

    backend.handlers["tools/call"] = slow
    async with scripted_gateway(backend) as where:
        session = await where.session(roots={})
        call = session.begin("tools/call", READ, request_id="mine")
        await call.until(lambda: call.events)  # the priming event
        call.leave()
        await trio.sleep(20)
        resumed = session.stream(Last_Event_ID=call.events[0].event_id or "")
        (one,) = await asked(resumed, 1)
        await session.respond(one["id"], result={"roots": []})
        assert (await over(resumed)).result["got"] == {"r": {"roots": []}}


# --- clients that have no stream of the call's own -------------------------------------------------------------------


async def refused(reply: RecordedReply) -> None:
    error: Message = (await over(reply)).error
    assert (error["code"], error["message"]) == (-32601, "the client has no stream to be asked on")


async def test_a_client_that_takes_json_only_is_asked_on_its_get_stream_or_not_at_all(
    autojump_clock: MockClock,
) -> None:
    backend = asking({"r": ROOTS})
    async with scripted_gateway(backend) as where:
        session = await where.session(roots={})
        await refused(await session.ask("tools/call", READ, Accept="application/json"))
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        call = session.begin("tools/call", READ, Accept="application/json")
        (one,) = await asked(stream, 1)
        await session.respond(one["id"], result={"roots": []})
        assert (await over(call)).result["got"] == {"r": {"roots": []}}


async def batch(session: Session, where: ScriptedGateway) -> RecordedReply:
    calls = b",".join(message("tools/call", READ, request_id) for request_id in ("one", "two"))
    return where.begin("POST", headers=session.headers(), body=b"[%b]" % calls)


async def test_calls_of_a_batch_are_asked_about_on_the_get_stream(autojump_clock: MockClock) -> None:
    async with scripted_gateway(asking({"r": ROOTS})) as where:
        session = await where.session("2025-03-26", roots={})
        unheard = await over(await batch(session, where))
        assert [one["error"]["code"] for one in orjson.loads(unheard.body or b"")] == [-32601, -32601]
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        reply = await batch(session, where)
        for one in await asked(stream, 2):
            await session.respond(one["id"], result={"roots": []})
        answers: list[Message] = orjson.loads((await over(reply)).body or b"")
        assert [(one["id"], one["result"]["got"]) for one in answers] == [
            ("one", {"r": {"roots": []}}),
            ("two", {"r": {"roots": []}}),
        ]


# --- where a result must not be interim ------------------------------------------------------------------------------


async def test_a_completion_that_wants_input_is_its_backends_fault(autojump_clock: MockClock) -> None:
    async def prompts(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"prompts": [{"name": "ask"}]}

    backend = asking({"r": ROOTS})
    backend.handlers |= {"prompts/list": prompts, "completion/complete": backend.handlers["tools/call"]}
    backend.capabilities = {"tools": {}, "prompts": {}, "completions": {}}
    params: JsonObject = {"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "a", "value": ""}}
    async with scripted_gateway(backend) as where:
        session = await where.session(roots={})
        old = await session.ask("completion/complete", params)
        new = await where.modern("completion/complete", params, capabilities=ABLE)
        for reply in (old, new):
            error: Message = reply.error
            assert error["data"] == {"server": "files", "reason": "backend_protocol", "executed": "yes"}
        assert backend.asked("completion/complete") == 2
