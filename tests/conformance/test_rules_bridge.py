"""Reference section 2: every row of the bridge, in both directions, on a virtual clock."""

import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear, Inbound
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, notice, tool

CALL = "tools/call"
READ: JsonObject = {"name": "read", "arguments": {"a": 1}}
META = "io.modelcontextprotocol/"
FORM: JsonObject = {"mode": "form", "message": "?", "requestedSchema": {"type": "object", "properties": {}}}
SAMPLE: JsonObject = {"messages": [], "maxTokens": 1}
ABLE: JsonObject = {"elicitation": {}, "sampling": {}, "roots": {}}
BACKENDS = [pytest.param(V2025_11_25, id="2025 backend"), pytest.param(V2026_07_28, id="2026 backend")]


def error_of(reply: RecordedReply) -> Message:
    error: Message = reply.error
    return error


def result_of(reply: RecordedReply) -> Message:
    result: Message = reply.result
    return result


async def over(reply: RecordedReply) -> RecordedReply:
    await reply.until(lambda: reply.closed)
    return reply


def asks(method: str, params: JsonObject, request_id: JsonValue) -> Inbound:
    raw = orjson.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
    return Inbound(method=method, params=params, raw=raw, id_raw=orjson.dumps(request_id))


def answers(backend: ScriptedBackend) -> list[Message]:
    """The responses that a legacy backend got to its own requests."""
    said: list[Message] = [orjson.loads(raw) for link in backend.links for raw in link.said]
    return [one for one in said if "method" not in one]


def told(backend: ScriptedBackend, method: str) -> list[Message]:
    said: list[Message] = [orjson.loads(raw) for link in backend.links for raw in link.said]
    return [one for one in said if one.get("method") == method]


def questioning(*questions: Inbound) -> ScriptedBackend:
    """A legacy backend whose tool asks all of this at once and ends when everything is answered."""
    backend = ScriptedBackend()

    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        before = len(answers(backend))
        for one in questions:
            await hear(one)
        while len(answers(backend)) < before + len(questions):  # noqa: ASYNC110  # the clock is virtual
            await trio.sleep(0.01)
        return {"content": [], "answers": len(questions)}

    backend.handlers[CALL] = handle
    return backend


async def hang(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep_forever()


def cancelled(backend: ScriptedBackend) -> int:
    return sum(link.cancelled for link in backend.links)


async def reached(backend: ScriptedBackend, calls: int = 1) -> None:
    while backend.asked(CALL) < calls:  # noqa: ASYNC110  # the clock is virtual
        await trio.sleep(0.01)


# --- start and state -------------------------------------------------------------------------------------------------


async def test_s2_start_a_handshake_and_discovery_are_answered_and_never_forwarded(autojump_clock: MockClock) -> None:
    for era in (V2025_11_25, V2026_07_28):
        backend = ScriptedBackend(era=era)
        async with scripted_gateway(backend) as where:
            links, log = len(backend.links), list(backend.log)
            await where.session(sampling={})
            await where.modern("server/discover")
            await trio.sleep(1)
            assert (len(backend.links), backend.log) == (links, log)


async def test_s2_state_each_legacy_session_has_its_own_upstream_and_modern_callers_share(
    autojump_clock: MockClock,
) -> None:
    backend = ScriptedBackend()
    async with scripted_gateway(backend) as where:
        one, two = await where.session(), await where.session()
        for _ in range(2):
            await one.call("read")
            await two.call("read")
            await where.modern(CALL, READ)
        assert len(backend.open_links) == 1 + 2 + 1  # the gateway's own, one per session, one for modern callers
        await one.end()
        await trio.sleep(3)
        assert len(backend.open_links) == 3


# --- server to client: (a) parked ------------------------------------------------------------------------------------


async def test_s2_a_questions_of_a_legacy_backend_become_one_round_and_the_retry_resumes_the_call(
    autojump_clock: MockClock,
) -> None:
    url: JsonObject = {"mode": "url", "url": "https://x/", "message": "m", "elicitationId": "e"}
    backend = questioning(
        asks("elicitation/create", FORM, "a"),
        asks("sampling/createMessage", SAMPLE, 2),
        asks("roots/list", {}, "c"),
        asks("elicitation/create", url, 4),
    )
    able: JsonObject = {**ABLE, "elicitation": {"form": {}, "url": {}}}
    async with scripted_gateway(backend) as where:
        first = result_of(await where.modern(CALL, READ, capabilities=able, id="one"))
        assert first["resultType"] == "input_required"
        asked = [(one["method"], one["params"]) for one in first["inputRequests"].values()]
        assert asked == [
            ("elicitation/create", FORM),
            ("sampling/createMessage", SAMPLE),
            ("roots/list", {}),
            ("elicitation/create", {key: value for key, value in url.items() if key != "elicitationId"}),
        ]
        responses: JsonObject = {key: {"action": "accept"} for key in first["inputRequests"]}
        retry: JsonObject = {**READ, "inputResponses": responses, "requestState": first["requestState"]}
        last = await where.modern(CALL, retry, id="two", capabilities=able)
        assert (last.answer["id"], result_of(last)["resultType"]) == ("two", "complete")
        assert backend.asked(CALL) == 1
        assert [one["id"] for one in answers(backend)] == ["a", 2, "c", 4]


async def test_s2_a_what_the_client_did_not_declare_is_refused_to_the_backend(autojump_clock: MockClock) -> None:
    backend = questioning(asks("sampling/createMessage", SAMPLE, 1), asks("roots/list", {}, 2))
    async with scripted_gateway(backend) as where:
        declared: list[JsonObject] = [{}, {"elicitation": {}}]
        for capabilities in declared:
            reply = await where.modern(CALL, READ, capabilities=capabilities)
            assert result_of(reply)["resultType"] == "complete"
        assert {one["error"]["code"] for one in answers(backend)} == {-32601}


async def test_s2_a_an_abandoned_call_is_declined_and_cancelled(autojump_clock: MockClock) -> None:
    backend = questioning(asks("elicitation/create", FORM, 1), asks("roots/list", {}, 2))
    async with scripted_gateway(backend, timeouts=Timeouts(input_s=20)) as where:
        first = result_of(await where.modern(CALL, READ, capabilities=ABLE))
        assert len(first["inputRequests"]) == 2
        await trio.sleep(30)
        elicited, rooted = answers(backend)
        assert elicited["result"] == {"action": "cancel"}
        assert "error" in rooted
        assert cancelled(backend) == 1


@pytest.mark.parametrize("change", ["tampered", "other arguments", "other tool", "used", "expired"])
async def test_s1_7_a_state_is_good_once_for_its_own_call_and_time(autojump_clock: MockClock, change: str) -> None:
    backend = questioning(asks("roots/list", {}, 1))
    backend.tools.append(tool("other"))
    async with scripted_gateway(backend, timeouts=Timeouts(input_s=20)) as where:
        state = result_of(await where.modern(CALL, READ, capabilities=ABLE))["requestState"]
        params: Message = {**READ, "inputResponses": {"k1": {"roots": []}}, "requestState": state}
        match change:
            case "tampered":
                params["requestState"] = state[:-1] + ("A" if state[-1] != "A" else "B")
            case "other arguments":
                params["arguments"] = {"a": 2}
            case "other tool":
                params["name"] = "other"
            case "used":
                assert result_of(await where.modern(CALL, params, capabilities=ABLE))["resultType"] == "complete"
            case _:
                await trio.sleep(30)
        assert error_of(await where.modern(CALL, params, capabilities=ABLE))["code"] == -32602


# --- server to client: (b) asked -------------------------------------------------------------------------------------


def interim(requests: JsonObject, rounds: int = 1) -> ScriptedBackend:
    """A modern backend that wants input for some rounds, with state."""

    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        done = int(str(params.get("requestState", "0")))
        assert done == 0 or "inputResponses" in params
        if done < rounds:
            return {"resultType": "input_required", "inputRequests": requests, "requestState": str(done + 1)}
        return {"resultType": "complete", "content": [], "got": params["inputResponses"]}

    return ScriptedBackend(era=V2026_07_28, handlers={CALL: handle})


async def test_s2_b_a_round_becomes_requests_on_the_calls_own_stream(autojump_clock: MockClock) -> None:
    requests: JsonObject = {
        "x": {"method": "elicitation/create", "params": FORM},
        "y": {"method": "sampling/createMessage", "params": SAMPLE},
    }
    backend = interim(requests, rounds=2)
    async with scripted_gateway(backend) as where:
        session = await where.session(elicitation={}, sampling={})
        other = session.stream()
        call = session.begin(CALL, READ, request_id="mine")
        for number in (2, 4):
            await call.until(lambda number=number: len(call.messages) == number)  # type: ignore[misc]  # bound now
            for one in call.messages[-2:]:
                answer: JsonObject = {"action": "accept"} if one["method"] == "elicitation/create" else {"role": "user"}
                assert (await session.respond(one["id"], result=answer)).status == 202
        await over(call)
        asked: list[Message] = list(call.messages)[:-1]
        assert len({one["id"] for one in asked}) == 4
        assert {one["method"]: one["params"] for one in asked} == {
            "elicitation/create": FORM,
            "sampling/createMessage": SAMPLE,
        }
        assert call.result["got"] == {"x": {"action": "accept"}, "y": {"role": "user"}}
        assert other.messages == []
        params: list[Message] = [params for link in backend.links for method, params in link.asked if method == CALL]
        assert [one.get("requestState") for one in params] == [None, "1", "2"]
        assert all(one["arguments"] == READ["arguments"] for one in params)


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26"])
async def test_s2_b_a_client_without_elicitation_is_never_asked(autojump_clock: MockClock, version: str) -> None:
    backend = interim({"x": {"method": "elicitation/create", "params": FORM}})
    async with scripted_gateway(backend) as where:
        reply = await (await where.session(version)).call("read")
        assert error_of(reply)["code"] == -32601
        assert [one for one in reply.messages if "method" in one] == []


# --- cancellation, disconnect, ping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("era", BACKENDS)
async def test_s2_disconnect_cancels_upstream_for_modern_clients_only(autojump_clock: MockClock, era: Era) -> None:
    backend = ScriptedBackend(era=era, handlers={CALL: hang})
    async with scripted_gateway(backend) as where:
        legacy = (await where.session()).begin(CALL, READ)
        modern = where.modern_soon(CALL, READ)
        await reached(backend, 2)
        legacy.leave()
        await trio.sleep(5)
        assert cancelled(backend) == 0
        modern.leave()
        await trio.sleep(5)
        assert cancelled(backend) == 1


@pytest.mark.parametrize("era", BACKENDS)
async def test_s2_a_legacy_cancel_reaches_either_backend(autojump_clock: MockClock, era: Era) -> None:
    backend = ScriptedBackend(era=era, handlers={CALL: hang})
    async with scripted_gateway(backend) as where:
        session = await where.session()
        session.begin(CALL, READ, request_id="mine")
        await reached(backend)
        await session.cancel("mine")
        await trio.sleep(1)
        assert cancelled(backend) == 1


async def test_s2_pings_are_answered_by_the_gateway_on_both_sides(autojump_clock: MockClock) -> None:
    backend = questioning(asks("ping", {}, "p"))
    async with scripted_gateway(backend) as where:
        session = await where.session()
        log = list(backend.log)
        assert (await session.ask("ping")).result == {}
        assert backend.log == log
        for reply in (await session.call("read"), await where.modern(CALL, READ)):
            assert [one for one in reply.messages if one.get("method") == "ping"] == []
        assert answers(backend) == [{"jsonrpc": "2.0", "id": "p", "result": {}}] * 2


# --- log levels and roots --------------------------------------------------------------------------------------------


async def test_s2_log_level_a_legacy_backend_is_told_what_a_modern_request_asks(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(capabilities={"tools": {}, "logging": {}})

    async def level(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {}

    backend.handlers["logging/setLevel"] = level
    async with scripted_gateway(backend) as where:
        await where.modern(CALL, READ, level="warning")
        levels = [params for link in backend.links for method, params in link.asked if method == "logging/setLevel"]
        assert levels == [{"level": "warning"}]


async def test_s2_log_level_a_modern_backend_gets_the_sessions_with_each_request(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(era=V2026_07_28, capabilities={"tools": {}, "logging": {}})
    async with scripted_gateway(backend) as where:
        session = await where.session()
        await session.ask("logging/setLevel", {"level": "error"})
        await session.call("read")
        metas: list[Message] = [params for link in backend.links for method, params in link.asked if method == CALL]
        assert [one["_meta"].get(META + "logLevel") for one in metas] == ["error"]
        assert backend.asked("logging/setLevel") == 0


async def test_s2_roots_list_changed_goes_to_legacy_backends_in_use_only(autojump_clock: MockClock) -> None:
    method = "notifications/roots/list_changed"
    old, new = ScriptedBackend(), ScriptedBackend(key=BackendKey("new"), era=V2026_07_28)
    async with scripted_gateway(old, new, prefixes={"files": "f_", "new": "n_"}) as where:
        session, other = await where.session(roots={}), await where.session(roots={})
        for name in ("f_read", "n_read"):
            await session.call(name)
        await other.tell(method)
        await session.tell(method)
        assert (len(told(old, method)), len(told(new, method))) == (1, 0)


# --- change notices --------------------------------------------------------------------------------------------------


async def add_tool(where: ScriptedGateway, backend: ScriptedBackend) -> None:
    backend.tools.append(tool("write"))
    await backend.shout(notice("notifications/tools/list_changed"))
    await trio.sleep(3)


@pytest.mark.parametrize("era", BACKENDS)
async def test_s2_change_notices_reach_clients_of_both_eras_once(autojump_clock: MockClock, era: Era) -> None:
    """Acceptance case K-171."""
    backend = ScriptedBackend(era=era)
    async with scripted_gateway(backend) as where:
        stream = (await where.session("2025-06-18")).stream()
        listen = where.modern_soon("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="s")
        await listen.until(lambda: listen.events)
        await stream.until(lambda: stream.opened)
        await add_tool(where, backend)
        await backend.shout(notice("notifications/tools/list_changed"))  # nothing has changed this time
        await trio.sleep(3)
        method = "notifications/tools/list_changed"
        assert [one["method"] for one in stream.messages] == [method]
        assert [one["method"] for one in listen.messages[1:]] == [method]


# --- what is only there in one era -----------------------------------------------------------------------------------


@pytest.mark.parametrize("era", BACKENDS)
async def test_s2_tasks_are_neither_forwarded_nor_advertised(autojump_clock: MockClock, era: Era) -> None:
    backend = ScriptedBackend(era=era, capabilities={"tools": {}, "tasks": {"list": {}}, "extensions": {"a/b": {}}})
    async with scripted_gateway(backend) as where:
        session = await where.session()
        offered: Message = dict(session.hello["capabilities"])  # type: ignore[arg-type]  # raw JSON
        discovered = result_of(await where.modern("server/discover"))["capabilities"]
        for capabilities in (offered, discovered):
            assert "tasks" not in capabilities
            assert capabilities["extensions"] == {"a/b": {}}
        await session.ask(CALL, {**READ, "task": {"ttl": 1000}})
        sent = [params for link in backend.links for method, params in link.asked if method == CALL]
        assert all("task" not in one for one in sent)


async def test_s2_unknown_methods_have_the_status_of_the_clients_era(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        legacy, modern = await (await where.session()).ask("no/such"), await where.modern("no/such")
        assert [(one.status, error_of(one)["code"]) for one in (legacy, modern)] == [(200, -32601), (404, -32601)]


@pytest.mark.parametrize("era", BACKENDS)
async def test_s2_only_legacy_streams_can_be_resumed(autojump_clock: MockClock, era: Era) -> None:
    async def work(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(20)
        return {"content": [{"type": "text", "text": "late"}]}

    async with scripted_gateway(ScriptedBackend(era=era, handlers={CALL: work})) as where:
        session = await where.session()
        call = session.begin(CALL, READ, request_id="mine")
        await call.until(lambda: call.events)
        call.leave()
        resumed = await over(session.stream(Last_Event_ID=call.events[0].event_id or ""))
        assert (resumed.answer["id"], result_of(resumed)["content"][0]["text"]) == ("mine", "late")
