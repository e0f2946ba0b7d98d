"""Reference 1.4, arrays of 2025-03-26: one answer for each request, whatever else is in them."""

import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.protocol.jsonrpc import MAX_BATCH
from mcp_gateway.values import JsonObject, JsonValue
from tests.conformance.rule_steps import CALL
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, Session, message, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, question, tool

PING = message("ping", None, 1)
NOTE = message("notifications/initialized")
ANSWER = orjson.dumps({"jsonrpc": "2.0", "id": "nobody's", "result": {}})
INVALID = -32600


async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep(30)
    return {"content": []}


def call(request_id: JsonValue, name: str = "read") -> bytes:
    return message(CALL, {"name": name}, request_id)


def array(*messages: bytes) -> bytes:
    return b"[%b]" % b",".join(messages)


async def send(session: Session, body: bytes, **headers: str) -> RecordedReply:
    return await session.where.send("POST", headers=session.headers(**headers), body=body)


def answers(reply: RecordedReply) -> list[Message]:
    found: list[Message] = orjson.loads(reply.body or b"[]")
    return found


@pytest.mark.parametrize(
    "body", [array(NOTE), array(NOTE, NOTE), array(ANSWER), array(ANSWER, NOTE), b" \n" + array(NOTE)]
)
async def test_s1_4_an_array_without_requests_is_202(autojump_clock: MockClock, body: bytes) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await send(await where.session("2025-03-26"), body)
        assert (reply.status, reply.body) == (202, b"")


@pytest.mark.parametrize(
    "body, code",
    [
        pytest.param(b"[]", INVALID, id="empty"),
        pytest.param(array(*[PING] * (MAX_BATCH + 1)), INVALID, id="too many"),
        pytest.param(b"[", -32700, id="half"),
        pytest.param(b"[" * 200 + b"]" * 200, -32700, id="too deep"),
        pytest.param(array(PING) + b" {}", -32700, id="something behind"),
    ],
)
async def test_s1_4_what_is_no_batch_is_refused_as_a_whole(autojump_clock: MockClock, body: bytes, code: int) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await send(await where.session("2025-03-26"), body)
        error: Message = reply.error
        assert (reply.status, error["code"]) == (400, code)


async def test_s1_4_a_bad_element_is_answered_by_itself(autojump_clock: MockClock) -> None:
    elements = [b"[%b]" % PING, b"1", b'{"jsonrpc":"2.0","id":null,"method":"ping"}', b"{}", PING, NOTE]
    async with scripted_gateway(ScriptedBackend()) as where:
        found = answers(await send(await where.session("2025-03-26"), array(*elements)))
        assert [(one["id"], one.get("error", {}).get("code")) for one in found] == [(None, INVALID)] * 4 + [(1, None)]


async def test_s1_4_one_answer_for_each_request_of_a_mixed_batch_in_their_order(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(tools=[tool("read"), tool("slow")])

    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return await slow(link, params, hear) if params["name"] == "slow" else {"content": []}

    backend.handlers[CALL] = handle
    body = array(call("a", "slow"), NOTE, PING, ANSWER, call("b"), message("no/such", None, 2.5), call("c", "nobody"))
    async with scripted_gateway(backend) as where:
        reply = await send(await where.session("2025-03-26"), body, Accept="application/json, text/event-stream")
        found = answers(reply)
        assert [one["id"] for one in found] == ["a", 1, "b", None, "c"]
        assert ["result" in one for one in found] == [True, True, True, False, False]


async def test_s1_4_an_id_that_is_in_a_batch_twice_is_answered_twice_but_served_once(
    autojump_clock: MockClock,
) -> None:
    backend = ScriptedBackend(handlers={CALL: slow})
    async with scripted_gateway(backend) as where:
        session = await where.session("2025-03-26")
        found = answers(await send(session, array(call(1), call(1), call("1"))))
        assert sorted(str("result" in one) for one in found) == ["False", "True", "True"]
        assert [one["id"] for one in found] == [1, 1, "1"]
        assert backend.asked(CALL) == 2


@pytest.mark.parametrize("where_from", ["inside", "outside"])
async def test_s1_4_a_request_of_a_batch_can_be_cancelled_and_its_place_is_kept(
    autojump_clock: MockClock, where_from: str
) -> None:
    """HTTP wants an answer for it; the others have theirs."""
    cancel = message("notifications/cancelled", {"requestId": "a"})
    backend = ScriptedBackend(handlers={CALL: slow})
    async with scripted_gateway(backend) as where:
        session = await where.session("2025-03-26")
        inside = [cancel] if where_from == "inside" else []
        reply = where.begin("POST", headers=session.headers(), body=array(call("a"), PING, *inside, call("b")))
        await trio.sleep(1)
        if where_from == "outside":
            await session.cancel("a")
        await reply.until(lambda: reply.closed)
        found = answers(reply)
        assert [one["id"] for one in found] == ["a", 1, "b"]
        if "error" in found[0]:  # inside, the notice may come before its request, and is then about nothing
            assert found[0]["error"]["code"] == -33499
        assert where_from == "inside" or "error" in found[0]
        assert "result" in found[2]


async def test_s1_4_a_session_that_is_ended_answers_the_batch_that_runs(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={CALL: slow})) as where:
        session = await where.session("2025-03-26")
        reply = where.begin("POST", headers=session.headers(), body=array(call("a"), call("b")))
        await trio.sleep(1)
        assert (await session.end()).status == 204
        await reply.until(lambda: reply.closed)
        assert [(one["id"], one["error"]["code"]) for one in answers(reply)] == [("a", -33499), ("b", -33499)]
        assert len(where.gateway.calls.in_flight) == 0


async def test_s1_4_a_batch_of_answers_answers(autojump_clock: MockClock) -> None:
    """Questions go to the GET stream; both answers come in one array."""

    async def ask(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(question("roots/list", b"1"))
        await hear(question("roots/list", b"2"))
        while len(link.said) < 2:  # noqa: ASYNC110  # the clock is virtual
            await trio.sleep(0.01)
        return {"content": [], "said": sorted(orjson.loads(one)["id"] for one in link.said)}

    async with scripted_gateway(ScriptedBackend(handlers={CALL: ask})) as where:
        session = await where.session("2025-03-26", roots={})
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        reply = where.begin("POST", headers=session.headers(), body=array(call("a")))
        await stream.until(lambda: len(stream.messages) == 2)
        replies = [orjson.dumps({"jsonrpc": "2.0", "id": one["id"], "result": {}}) for one in stream.messages]
        assert (await send(session, array(*replies))).status == 202
        await reply.until(lambda: reply.closed)
        (answer,) = answers(reply)
        assert answer["result"]["said"] == [1, 2]


async def test_s1_4_modern_metadata_in_a_batch_makes_it_no_modern_request(autojump_clock: MockClock) -> None:
    meta: JsonObject = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
    async with scripted_gateway(ScriptedBackend()) as where:
        body = array(message("tools/list", meta, 1))
        assert (await where.send("POST", body=body)).status == 400  # a session is missing
        (answer,) = answers(await send(await where.session("2025-03-26"), body))
        assert "resultType" not in answer["result"]
