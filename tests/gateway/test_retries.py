"""Retries of parked calls by clients that do not do what the book says: other shapes, other callers, other moments."""

import orjson
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import GatewayEntry, GatewaySpec, SessionsSpec, Timeouts, VirtualServerSpec
from mcp_gateway.values import GatewayName, JsonObject, JsonValue
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, modern_request, scripted_gateway
from tests.support.scripted_link import Handler, ScriptedBackend, ScriptedLink, notice, question

CALL: Message = {"name": "read", "arguments": {"a": 1}}
ABLE: JsonObject = {"roots": {}, "elicitation": {}}
FORM: JsonObject = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}


def said(backend: ScriptedBackend) -> list[Message]:
    """What the backend got besides requests."""
    return [orjson.loads(raw) for link in backend.links for raw in link.said]


async def answered(link: ScriptedLink, count: int = 1) -> None:
    while len(link.said) < count:  # noqa: ASYNC110  # the clock is virtual
        await trio.sleep(0.01)


def asking(method: str = "roots/list", **more: Handler) -> ScriptedBackend:
    """A backend whose tool asks one question and tells what it was answered."""

    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        before = len(link.said)
        await hear(question(method, b'"q"', FORM if method == "elicitation/create" else {}))
        await answered(link, before + 1)
        return {"content": [], "got": orjson.loads(link.said[-1])}

    return ScriptedBackend(handlers={"tools/call": handle, **more})


async def call(where: ScriptedGateway, params: Message = CALL, **more: JsonValue) -> RecordedReply:
    return await where.modern("tools/call", params, **{"capabilities": ABLE, **more})


def retry(first: RecordedReply, **more: object) -> Message:
    state = first.result["requestState"]
    return {**CALL, "inputResponses": {"k1": {"roots": []}}, "requestState": state, **more}


def parked(where: ScriptedGateway) -> int:
    return len(where.gateway.calls.suspended)


# --- what the retry declares -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [{}, {"roots": {}}, {"elicitation": {}, "roots": {}}])
async def test_the_answer_reaches_the_backend_whatever_the_retry_declares(
    autojump_clock: MockClock, declared: JsonObject
) -> None:
    backend = asking()
    async with scripted_gateway(backend) as where:
        await call(where, capabilities=declared)  # in another upstream session, under the same id
        first = await call(where)
        last = await call(where, retry(first), capabilities=declared, id=2)
        assert last.result["got"] == {"jsonrpc": "2.0", "id": "q", "result": {"roots": []}}
        assert backend.asked("tools/call") == 2


@pytest.mark.parametrize("state", ["forged", 7, None])
async def test_a_state_of_unknown_origin_never_becomes_a_new_call(autojump_clock: MockClock, state: JsonValue) -> None:
    backend = asking()
    async with scripted_gateway(backend) as where:
        for declared in ({}, ABLE):
            reply = await call(where, {**CALL, "requestState": state}, capabilities=declared)
            assert reply.error["code"] == -32602
        assert backend.asked("tools/call") == 0


# --- the shape of the answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [7, "yes", None, [], True])
async def test_an_answer_that_is_no_object_is_asked_for_again(autojump_clock: MockClock, wrong: JsonValue) -> None:
    backend = asking()
    async with scripted_gateway(backend) as where:
        first = await call(where)
        again = await call(where, retry(first, inputResponses={"k1": wrong}), id=2)
        assert again.result["inputRequests"] == first.result["inputRequests"]
        assert said(backend) == []
        assert (await call(where, retry(again), id=3)).result["resultType"] == "complete"


async def test_a_retry_wakes_only_its_own_call_when_two_are_parked_on_one_session(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend()

    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        mine = params["arguments"]["n"]  # type: ignore[index,call-overload]  # raw JSON
        await hear(question("roots/list", orjson.dumps(mine)))
        while not any(orjson.loads(raw).get("id") == mine for raw in link.said):  # noqa: ASYNC110  # virtual
            await trio.sleep(0.01)
        return {"content": [], "n": mine}

    backend.handlers["tools/call"] = handle
    async with scripted_gateway(backend) as where:
        one: Message = {"name": "read", "arguments": {"n": 1}}
        two: Message = {"name": "read", "arguments": {"n": 2}}
        first, second = await call(where, one), await call(where, two)
        assert (await call(where, {**retry(first), **two}, id=3)).error["code"] == -32602
        assert (await call(where, {**retry(second), **two}, id=4)).result["n"] == 2
        assert (await call(where, {**retry(first), **one}, id=5)).result["n"] == 1


# --- moments ---------------------------------------------------------------------------------------------------------


async def test_of_two_retries_at_one_instant_one_resumes_and_the_other_is_refused(autojump_clock: MockClock) -> None:
    backend = asking()
    async with scripted_gateway(backend) as where:
        first = await call(where)
        replies = [where.modern_soon("tools/call", retry(first), capabilities=ABLE, id=number) for number in (2, 3)]
        for reply in replies:
            await reply.until(lambda reply=reply: reply.closed)  # type: ignore[misc]  # bound now
        assert sorted("result" in reply.answer for reply in replies) == [False, True]
        assert [one["id"] for one in said(backend)] == ["q"]


async def test_progress_and_logs_while_parked_are_dropped_and_later_ones_go_to_the_retry(
    autojump_clock: MockClock,
) -> None:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        token = params["_meta"]["progressToken"]  # type: ignore[index,call-overload]  # raw JSON
        await hear(notice("notifications/progress", progressToken=token, progress=0))
        await hear(question("roots/list", b'"q"'))
        await trio.sleep(1)
        for number in range(1, 1000):
            await hear(notice("notifications/progress", progressToken=token, progress=number))
            await hear(notice("notifications/message", level="info", data="while parked"))
        await answered(link)
        await hear(notice("notifications/progress", progressToken=token, progress=1000))
        await hear(notice("notifications/message", level="info", data="after"))
        return {"content": []}

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": handle})) as where:
        first = await call(where, token="one", level="info")
        assert [one["params"]["progressToken"] for one in first.messages[:-1]] == ["one"]  # type: ignore[index,call-overload]
        await trio.sleep(2)
        last = await call(where, retry(first), token=2, level="info", id="new")
        progress, log, answer = last.messages
        assert progress["params"] == {"progressToken": 2, "progress": 1000}
        assert log["params"] == {"level": "info", "data": "after"}
        assert answer["id"] == "new"


async def test_a_retry_whose_client_leaves_cancels_the_call(autojump_clock: MockClock) -> None:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(question("roots/list", b'"q"'))
        await trio.sleep_forever()

    backend = ScriptedBackend(handlers={"tools/call": handle})
    async with scripted_gateway(backend) as where:
        first = await call(where)
        again = where.modern_soon("tools/call", retry(first), capabilities=ABLE, id=2)
        await wait_all_tasks_blocked()
        again.leave()
        await trio.sleep(3)
        assert sum(link.cancelled for link in backend.links) == 1
        assert parked(where) == 0
        assert (await call(where, retry(first), id=3)).error["code"] == -32602


async def test_the_longest_life_holds_however_often_the_client_comes_back(autojump_clock: MockClock) -> None:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        for number in range(1000):
            await hear(question("roots/list", b"%d" % number))
            await answered(link, number + 1)
        return {}

    backend = ScriptedBackend(handlers={"tools/call": handle})
    async with scripted_gateway(backend, timeouts=Timeouts(call_s=60, input_s=60, max_s=100)) as where:
        began_at = trio.current_time()
        reply = await call(where)
        while "result" in reply.answer:
            await trio.sleep(10)
            asked: Message = reply.result
            (key,) = asked["inputRequests"]
            reply = await call(where, retry(reply, inputResponses={key: {"roots": []}}))
        assert 90 <= trio.current_time() - began_at <= 111
        error: Message = reply.error
        assert (error["code"], error["data"]["limit"]) == (-33504, "max")


# --- whose state it is -----------------------------------------------------------------------------------------------


async def test_a_state_is_good_on_its_own_gateway_and_virtual_server_only(autojump_clock: MockClock) -> None:
    virtual = VirtualServerSpec(name="few", tools=("read",))
    entries = (GatewayEntry(name=GatewayName("one")), GatewayEntry(name=GatewayName("two"), hosts=("two.example",)))
    spec = GatewaySpec(
        virtual_servers=(virtual,), gateways=entries, sessions=SessionsSpec(signing_keys=(b"0123456789abcdef",))
    )
    backend = asking()
    async with scripted_gateway(backend, spec=spec) as where:
        first = await call(where)

        async def again(path: str, host: str) -> RecordedReply:
            headers, body = modern_request("tools/call", retry(first), capabilities=ABLE, id=2)
            return await where.send("POST", headers={**headers, "Host": host}, body=body, path=path)

        for path, host in (("/mcp/vs/few", "127.0.0.1"), ("/mcp", "two.example"), ("/mcp/vs/few", "two.example")):
            assert (await again(path, host)).error["code"] == -32602
        assert (await again("/mcp", "127.0.0.1")).result["resultType"] == "complete"
        assert backend.asked("tools/call") == 1


# --- methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, params",
    [("prompts/get", {"name": "ask"}), ("resources/read", {"uri": "memo://one"})],
)
async def test_prompts_and_resources_are_parked_like_tools(
    autojump_clock: MockClock, method: str, params: JsonObject
) -> None:
    backend = asking()
    backend.handlers[method] = backend.handlers["tools/call"]

    async def prompts(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"prompts": [{"name": "ask"}]}

    async def resources(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"resources": [{"uri": "memo://one", "name": "one"}]}

    backend.handlers |= {"prompts/list": prompts, "resources/list": resources}
    backend.capabilities = {"tools": {}, "prompts": {}, "resources": {}}
    async with scripted_gateway(backend) as where:
        first = await where.modern(method, params, capabilities=ABLE)
        assert first.result["resultType"] == "input_required"
        assert "ttlMs" not in first.result
        state = first.result["requestState"]
        again: Message = {**params, "inputResponses": {"k1": {"roots": []}}, "requestState": state}
        last = await where.modern(method, again, capabilities=ABLE, id=2)
        assert last.result["got"] == {"jsonrpc": "2.0", "id": "q", "result": {"roots": []}}
        assert ("ttlMs" in last.result) == (method == "resources/read")


async def test_a_completion_is_never_interim(autojump_clock: MockClock) -> None:
    backend = asking()

    async def complete(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(question("roots/list", b'"q"'))
        await answered(link)
        return {"completion": {"values": []}}

    async def prompts(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"prompts": [{"name": "ask"}]}

    backend.handlers |= {"prompts/list": prompts, "completion/complete": complete}
    backend.capabilities = {"tools": {}, "prompts": {}, "completions": {}}
    async with scripted_gateway(backend) as where:
        params: JsonObject = {"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "a", "value": ""}}
        reply = await where.modern("completion/complete", params, capabilities=ABLE)
        assert reply.result["resultType"] == "complete"
        assert [one["error"]["code"] for one in said(backend)] == [-32601]
