"""Parked calls: what happens between ``input_required`` and the retry, and who is left behind."""

import attrs
import orjson
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Hear, Inbound
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.gateway.call import suspended
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, notice

FILES = BackendKey("files")
CAPABLE: JsonObject = {"roots": {}, "sampling": {}}
CALL: JsonObject = {"name": "read", "arguments": {"a": 1}}


def asked(method: str, request_id: JsonValue, params: bytes = b"{}") -> Inbound:
    raw = b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":%b}' % (orjson.dumps(request_id), method.encode(), params)
    return Inbound(method=method, params=orjson.loads(params), raw=raw, id_raw=orjson.dumps(request_id))


def retry(first: RecordedReply, **more: JsonValue) -> JsonObject:
    return CALL | {"inputResponses": {"k1": {"roots": []}}, "requestState": first.result["requestState"]} | more


async def call(where: ScriptedGateway, params: JsonObject = CALL, request_id: JsonValue = 1) -> RecordedReply:
    return await where.modern("tools/call", params, capabilities=CAPABLE, id=request_id)


def begin(where: ScriptedGateway, params: JsonObject = CALL) -> RecordedReply:
    return where.modern_soon("tools/call", params, capabilities=CAPABLE)


def parked(where: ScriptedGateway) -> int:
    return len(where.gateway.calls.suspended)


async def one_question(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    """Ask for the roots, and go on when the answer is there."""
    await hear(asked("roots/list", 1))
    while not link.said:  # noqa: ASYNC110  # the clock is virtual
        await trio.sleep(0.1)
    return {"content": [], "answer": orjson.loads(link.said[-1])}


async def test_a_client_that_leaves_while_its_answers_are_passed_on_leaves_no_call(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_reading(self: ScriptedLink, message: bytes) -> None:
        await trio.sleep(1000)

    backend = ScriptedBackend(handlers={"tools/call": one_question})
    async with scripted_gateway(backend) as where:
        first = await call(where)
        monkeypatch.setattr(ScriptedLink, "notify", not_reading)
        again = begin(where, retry(first))
        await wait_all_tasks_blocked()
        again.leave()
        await trio.sleep(5)
        assert parked(where) == 0
        assert where.fleet.get(FILES).in_flight == 0  # type: ignore[union-attr]  # it is configured


async def test_a_removed_backend_is_named_as_the_reason(autojump_clock: MockClock) -> None:
    async def hang(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(1000)
        return {}

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": hang})) as where:
        reply = begin(where)
        await wait_all_tasks_blocked()
        await where.fleet.apply(attrs.evolve(where.spec.value, servers=()))
        await reply.until(lambda: reply.closed)
        assert reply.error["data"]["reason"] == "backend_removed"  # type: ignore[index,call-overload]  # raw JSON
        assert parked(where) == 0


async def test_a_backend_that_just_left_parks_nothing(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        backend = where.fleet.get(FILES)
        assert backend is not None
        await call(where)
        backend._nursery = None  # between the link's answer and the start of the call
        reply = await call(where)
        assert reply.error["data"]["reason"] == "backend_down"  # type: ignore[index,call-overload]  # raw JSON
        assert parked(where) == 0


async def test_a_withdrawn_question_is_not_asked(autojump_clock: MockClock) -> None:
    async def change_of_mind(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(asked("roots/list", "a"))
        await hear(asked("roots/list", "b"))
        await hear(notice("notifications/cancelled", requestId="a"))
        await hear(notice("notifications/cancelled", requestId="never asked"))
        await trio.sleep(1)
        await hear(notice("notifications/cancelled", requestId="b"))
        await trio.sleep(40)
        await hear(asked("roots/list", "c"))
        await hear(notice("notifications/cancelled", requestId="c"))
        await trio.sleep(40)
        return {"content": []}

    backend = ScriptedBackend(handlers={"tools/call": change_of_mind})
    async with scripted_gateway(backend, timeouts=Timeouts(call_s=100, input_s=10)) as where:
        first = await call(where)
        assert list(first.result["inputRequests"]) == ["k2"]  # type: ignore[arg-type]  # raw JSON
        await trio.sleep(2)
        last = await call(where, retry(first), 2)
        assert last.result["resultType"] == "complete"  # the clock of the call went on
        assert last.answer["id"] == 2


@pytest.mark.parametrize("responses", [7, [], "k1", None])
async def test_answers_of_a_wrong_form_do_not_use_up_the_state(autojump_clock: MockClock, responses: JsonValue) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": one_question})) as where:
        first = await call(where)
        assert (await call(where, retry(first, inputResponses=responses))).error["code"] == -32602
        assert (await call(where, retry(first))).result["resultType"] == "complete"


async def test_a_retry_without_answers_is_asked_again(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": one_question})) as where:
        first = await call(where)
        again = await call(where, CALL | {"requestState": first.result["requestState"]})
        assert again.result["inputRequests"] == first.result["inputRequests"]
        assert (await call(where, retry(again))).result["resultType"] == "complete"


async def test_a_question_that_cannot_be_passed_on_is_its_backends_fault(autojump_clock: MockClock) -> None:
    async def hostile(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(asked("sampling/createMessage", 1, b'{"task":1,"task":2}'))
        return {}

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": hostile})) as where:
        reply = await call(where)
        assert reply.error["data"] == {"server": "files", "reason": "backend_protocol", "executed": "unknown"}
        assert parked(where) == 0


async def test_invariant_7_questions_and_parked_calls_are_bounded(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspended, "MAX_SUSPENDED", 1)
    monkeypatch.setattr(suspended, "MAX_QUESTIONS", 2)

    async def curious(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(notice("notifications/message", level="info", data="x"))
        for number in range(3):
            await hear(asked("roots/list", number))
        await hear(asked("ping", "p"))
        await trio.sleep(1000)
        return {}

    backend = ScriptedBackend(handlers={"tools/call": curious})
    async with scripted_gateway(backend, timeouts=Timeouts(input_s=30)) as where:
        first = await call(where)
        assert len(first.result["inputRequests"]) == 2  # type: ignore[arg-type]  # raw JSON
        refused = await call(where)
        assert refused.error["data"]["reason"] == "overload"  # type: ignore[index,call-overload]  # raw JSON
        (link,) = [one for one in backend.open_links if one.in_flight]
        answers = [orjson.loads(raw) for raw in link.said]
        assert [one["id"] for one in answers] == [2, "p"]
        assert answers[0]["error"]["code"] == -32601
        await trio.sleep(61)  # the outcome that nobody has fetched makes room
        assert parked(where) == 0


async def test_an_answer_that_came_meanwhile_has_the_retrys_id(autojump_clock: MockClock) -> None:
    async def impatient(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(asked("roots/list", 1))
        await trio.sleep(1)
        return {"content": [], "big": "x" * 2**20}

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": impatient})) as where:
        first = await call(where, request_id="one")
        await trio.sleep(2)
        last = await call(where, retry(first), "two")
        assert last.answer["id"] == "two"
        assert last.result["resultType"] == "complete"
