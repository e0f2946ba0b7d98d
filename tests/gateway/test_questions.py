"""Server-to-client requests in all pairs: sampling, elicitation, roots."""

from collections.abc import Mapping

import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.auth.principal import Principal
from mcp_gateway.backends.transports.base import Hear, Inbound
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.gateway.call.suspended import declined
from mcp_gateway.gateway.call.translation import url_elicitations
from mcp_gateway.protocol.eras import V2026_07_28
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, scripted_gateway
from tests.support.scripted_link import Refusal, ScriptedBackend, ScriptedLink, notice

FILES = BackendKey("files")
FORM: JsonObject = {"message": "name?", "requestedSchema": {"type": "object", "properties": {}}}


def question(method: str, params: JsonObject, request_id: JsonValue) -> Inbound:
    raw = orjson.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
    return Inbound(method=method, params=params, raw=raw, id_raw=orjson.dumps(request_id))


def asking(*questions: Inbound) -> ScriptedBackend:
    """A 2025 backend whose tool asks everything at once and returns what it was answered."""

    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        begin = len(link.said)
        for one in questions:
            await hear(one)
        while len(link.said) - begin < len(questions):  # noqa: ASYNC110  # the clock is virtual
            await trio.sleep(0.01)
        return {"answers": [orjson.loads(raw) for raw in link.said[begin:]]}

    return ScriptedBackend(handlers={"tools/call": handle})


def modern_asking(requests: Mapping[str, JsonValue], state: str | None = None) -> ScriptedBackend:
    """A 2026 backend whose tool wants input once and then returns what it got."""

    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        if "inputResponses" in params or (not requests and "requestState" in params):
            got: JsonObject = {key: params.get(key) for key in ("inputResponses", "requestState")}
            return {"resultType": "complete", "structuredContent": got, "content": []}
        interim: JsonObject = {"resultType": "input_required"}
        if requests:
            interim["inputRequests"] = dict(requests)
        if state is not None:
            interim["requestState"] = state
        return interim

    return ScriptedBackend(era=V2026_07_28, handlers={"tools/call": handle})


async def asked(reply: RecordedReply) -> JsonObject:
    """The first question that reaches the client."""
    await reply.until(lambda: any("id" in one and "method" in one for one in reply.messages))
    return next(one for one in reply.messages if "id" in one and "method" in one)


# --- 2025 client, 2025 backend ---


async def test_a_question_goes_down_under_our_id_and_its_answer_back_under_the_backends(
    autojump_clock: MockClock,
) -> None:
    """Acceptance case K-100."""
    backend = asking(question("elicitation/create", FORM, "their-id"))
    async with scripted_gateway(backend) as where:
        session = await where.session(elicitation={})
        reply = session.begin("tools/call", {"name": "read"})
        sent = await asked(reply)
        assert sent["params"] == FORM
        assert sent["id"] != "their-id"
        assert (await session.respond(sent["id"], result={"action": "accept", "content": {"name": "x"}})).status == 202
        await reply.until(lambda: reply.closed)
        assert reply.result["answers"] == [
            {"jsonrpc": "2.0", "id": "their-id", "result": {"action": "accept", "content": {"name": "x"}}}
        ]


async def test_invariant_4_an_answer_counts_only_in_the_session_that_was_asked(autojump_clock: MockClock) -> None:
    backend = asking(question("roots/list", {}, 1))
    async with scripted_gateway(backend) as where:
        alice, mallory = await where.session(roots={}), await where.session(roots={})
        reply = alice.begin("tools/call", {"name": "read"})
        sent = await asked(reply)
        assert (await mallory.respond(sent["id"], result={"roots": []})).status == 202
        await trio.sleep(5)
        assert not reply.closed
        await alice.respond(sent["id"], error={"code": -1, "message": "no"})
        await reply.until(lambda: reply.closed)
        assert reply.result["answers"] == [{"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": "no"}}]
        assert (await alice.respond(sent["id"], result={"roots": []})).status == 202  # a second answer is ignored


@pytest.mark.parametrize(
    "method, params, capabilities",
    [
        ("sampling/createMessage", {"messages": [], "maxTokens": 1}, {}),
        ("sampling/createMessage", {"messages": [], "maxTokens": 1, "tools": []}, {"sampling": {}}),
        ("elicitation/create", FORM, {"sampling": {}}),
        ("elicitation/create", {"mode": "url", "url": "https://x", "message": "m"}, {"elicitation": {}}),
        ("roots/list", {}, {}),
        ("something/else", {}, {"roots": {}}),
    ],
)
async def test_a_client_is_never_asked_what_it_did_not_declare(
    autojump_clock: MockClock, method: str, params: JsonObject, capabilities: JsonObject
) -> None:
    """Acceptance case K-102."""
    async with scripted_gateway(asking(question(method, params, 9))) as where:
        session = await where.session("2025-11-25", **capabilities)  # type: ignore[arg-type]  # its keys are names
        reply = await session.call("read")
        assert "-32601" in str(reply.result["answers"])


async def test_a_question_to_a_client_that_takes_json_only_goes_to_its_stream(autojump_clock: MockClock) -> None:
    async with scripted_gateway(asking(question("roots/list", {}, 1))) as where:
        session = await where.session(roots={})
        refused = await session.ask("tools/call", {"name": "read"}, Accept="application/json")
        assert "no stream" in str(refused.result["answers"])
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        reply = session.begin("tools/call", {"name": "read"}, Accept="application/json")
        sent = await asked(stream)
        await session.respond(sent["id"], result={"roots": []})
        await reply.until(lambda: reply.closed)
        assert reply.result["answers"] == [{"jsonrpc": "2.0", "id": 1, "result": {"roots": []}}]


async def test_a_withdrawn_question_is_withdrawn_from_the_client_too(autojump_clock: MockClock) -> None:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(question("roots/list", {}, 5))
        await hear(notice("notifications/cancelled", requestId=5, reason="never mind"))
        await hear(notice("notifications/cancelled", requestId=77))
        return {}

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": handle})) as where:
        session = await where.session(roots={})
        reply = await session.call("read")
        sent, gone = reply.messages[:2]
        assert gone["method"] == "notifications/cancelled"
        assert gone["params"] == {"requestId": sent["id"], "reason": "never mind"}
        (live,) = where.gateway.context.sessions
        assert len(live.questions) == 0


async def test_input_has_its_own_limit(autojump_clock: MockClock) -> None:
    backend = asking(question("roots/list", {}, 1))
    async with scripted_gateway(backend, timeouts=Timeouts(call_s=3, input_s=20)) as where:
        session = await where.session(roots={})
        began_at = trio.current_time()
        reply = await session.call("read")
        assert trio.current_time() - began_at == pytest.approx(20, abs=0.5)
        assert reply.error["data"]["limit"] == "input"  # type: ignore[index,call-overload]  # raw JSON
        (live,) = where.gateway.context.sessions
        assert len(live.questions) == 0


# --- 2025 client, 2026 backend ---


async def test_input_required_becomes_real_questions(autojump_clock: MockClock) -> None:
    """Acceptance case K-101."""
    requests: JsonObject = {
        "who": {"method": "elicitation/create", "params": FORM},
        "where": {"method": "roots/list", "params": {}},
    }
    async with scripted_gateway(modern_asking(requests, "opaque")) as where:
        session = await where.session(elicitation={}, roots={})
        reply = session.begin("tools/call", {"name": "read"})
        await reply.until(lambda: len(reply.messages) == 2)
        for one in reply.messages:
            result: JsonObject = {"roots": []} if one["method"] == "roots/list" else {"action": "decline"}
            await session.respond(one["id"], result=result)
        await reply.until(lambda: reply.closed)
        assert reply.result == {
            "structuredContent": {
                "inputResponses": {"who": {"action": "decline"}, "where": {"roots": []}},
                "requestState": "opaque",
            },
            "content": [],
        }


async def test_an_error_answer_cancels_an_elicitation_and_fails_the_rest(autojump_clock: MockClock) -> None:
    elicit: JsonObject = {"k": {"method": "elicitation/create", "params": FORM}}
    sample: JsonObject = {"k": {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}}
    for requests, check in ((elicit, "action"), (sample, "error")):
        async with scripted_gateway(modern_asking(requests)) as where:
            session = await where.session(elicitation={}, sampling={})
            reply = session.begin("tools/call", {"name": "read"})
            sent = await asked(reply)
            await session.respond(sent["id"], error={"code": -1, "message": "rejected"})
            await reply.until(lambda reply=reply: reply.closed)  # type: ignore[misc]  # bound now
            if check == "action":
                assert "cancel" in str(reply.result)
            else:
                assert reply.error == {"code": -1, "message": "rejected"}


async def test_a_2026_backend_may_not_ask_what_the_2025_client_cannot(autojump_clock: MockClock) -> None:
    requests: JsonObject = {"k": {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}}
    async with scripted_gateway(modern_asking(requests)) as where:
        reply = await (await where.session()).call("read")
        assert reply.error["code"] == -32601


async def test_the_rounds_are_bounded_and_state_alone_is_retried_with_pauses(autojump_clock: MockClock) -> None:
    async with scripted_gateway(modern_asking({}, "only-state")) as where:
        reply = await (await where.session()).call("read")
        assert reply.result["structuredContent"] == {"inputResponses": None, "requestState": "only-state"}

    async def endless(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"resultType": "input_required", "requestState": "again"}

    backend = ScriptedBackend(era=V2026_07_28, handlers={"tools/call": endless})
    async with scripted_gateway(backend) as where:
        reply = await (await where.session()).call("read")
        assert reply.error["data"]["reason"] == "backend_protocol"  # type: ignore[index,call-overload]  # raw JSON
        assert backend.asked("tools/call") == 10


# --- 2026 client, 2025 backend: parked calls ---

CAPABLE: JsonObject = {"elicitation": {}, "sampling": {}, "roots": {}}
CALL: JsonObject = {"name": "read", "arguments": {"a": 1}}


async def test_a_parked_call_asks_and_resumes(autojump_clock: MockClock) -> None:
    backend = asking(question("elicitation/create", FORM | {"elicitationId": "e"}, "q"), question("roots/list", {}, 2))
    async with scripted_gateway(backend) as where:
        first = await where.modern("tools/call", CALL, capabilities=CAPABLE, id=1)
        assert first.result["resultType"] == "input_required"
        requests, state = first.result["inputRequests"], first.result["requestState"]
        assert requests == {
            "k1": {"method": "elicitation/create", "params": FORM},
            "k2": {"method": "roots/list", "params": {}},
        }
        partial: JsonObject = {"inputResponses": {"k1": {"action": "accept"}, "zz": {}}, "requestState": state}
        second = await where.modern("tools/call", CALL | partial, capabilities=CAPABLE, id=2)
        assert list(second.result["inputRequests"]) == ["k2"]  # type: ignore[arg-type]  # raw JSON: asked again
        rest: JsonObject = {
            "inputResponses": {"k2": {"roots": []}},
            "requestState": second.result["requestState"],
        }
        last = await where.modern("tools/call", CALL | rest, capabilities=CAPABLE, id=3)
        assert last.answer["id"] == 3
        assert last.result["resultType"] == "complete"
        assert last.result["answers"] == [
            {"jsonrpc": "2.0", "id": "q", "result": {"action": "accept"}},
            {"jsonrpc": "2.0", "id": 2, "result": {"roots": []}},
        ]
        assert backend.asked("tools/call") == 1
        assert len(where.gateway.calls.suspended) == 0


async def park(where: ScriptedGateway) -> JsonValue:
    first = await where.modern("tools/call", CALL, capabilities=CAPABLE)
    return first.result["requestState"]


def retry(state: JsonValue, **more: JsonValue) -> JsonObject:
    return CALL | {"inputResponses": {"k1": {"roots": []}}, "requestState": state} | more


async def test_states_that_are_tampered_with_foreign_replayed_or_expired_are_refused(
    autojump_clock: MockClock,
) -> None:
    backend = asking(question("roots/list", {}, 1))
    async with scripted_gateway(backend, timeouts=Timeouts(input_s=50)) as where:

        async def refused(params: JsonObject, capabilities: JsonObject = CAPABLE) -> None:
            reply = await where.modern("tools/call", params, capabilities=capabilities)
            assert reply.error["code"] == -32602

        state = await park(where)
        assert isinstance(state, str)
        await refused(retry(state[:-3] + "AAA"))
        await refused(retry(7))
        await refused(retry(state, arguments={"a": 2}))
        where.principal = Principal(subject="mallory", digest=b"mallory!")
        await refused(retry(state))
        where.principal = Principal(subject="anonymous", digest=b"\0" * 8)
        done = await where.modern("tools/call", retry(state), capabilities=CAPABLE)
        assert done.result["resultType"] == "complete"
        await refused(retry(state))
        late = await park(where)
        await trio.sleep(60)
        await refused(retry(late))


async def test_an_abandoned_call_is_declined_cancelled_and_freed(autojump_clock: MockClock) -> None:
    backend = asking(question("elicitation/create", FORM, "e"), question("roots/list", {}, "r"))
    async with scripted_gateway(backend, timeouts=Timeouts(input_s=30)) as where:
        await park(where)
        assert len(where.gateway.calls.suspended) == 1
        await trio.sleep(31)
        (link,) = [link for link in backend.links if link.said]
        said = [orjson.loads(raw) for raw in link.said]
        assert said[0] == {"jsonrpc": "2.0", "id": "e", "result": {"action": "cancel"}}
        assert said[1]["error"]["code"] == -1
        assert link.cancelled == 1
        assert len(where.gateway.calls.in_flight) == 0
        await trio.sleep(40)
        assert len(where.gateway.calls.suspended) == 0


async def test_a_client_that_leaves_while_it_waits_cancels_the_parked_call(autojump_clock: MockClock) -> None:
    async def hang(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep_forever()

    backend = ScriptedBackend(handlers={"tools/call": hang})
    async with scripted_gateway(backend) as where:
        reply = where.modern_soon("tools/call", CALL, capabilities=CAPABLE)
        while not backend.asked("tools/call"):  # noqa: ASYNC110  # the clock is virtual
            await trio.sleep(0.01)
        reply.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert sum(link.cancelled for link in backend.links) == 1
        assert len(where.gateway.calls.in_flight) == len(where.gateway.calls.suspended) == 0


async def test_an_answer_that_comes_while_nobody_waits_is_kept_for_the_retry(autojump_clock: MockClock) -> None:
    async def impatient(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(question("roots/list", {}, 1))
        await trio.sleep(5)
        return {"content": []}

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": impatient})) as where:
        state = await park(where)
        await trio.sleep(10)
        late = await where.modern("tools/call", retry(state), capabilities=CAPABLE, id="late")
        assert late.answer["id"] == "late"
        assert late.result["content"] == []


async def test_a_parked_call_has_its_deadline_and_its_errors(autojump_clock: MockClock) -> None:
    async def hang(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep_forever()

    async def refuse(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(-32000, "odd")

    for handler, code in ((hang, -33504), (refuse, -32000)):
        backend = ScriptedBackend(handlers={"tools/call": handler})
        async with scripted_gateway(backend, timeouts=Timeouts(call_s=2)) as where:
            reply = await where.modern("tools/call", CALL, capabilities=CAPABLE)
            assert reply.error["code"] == code


def test_url_elicitation_errors_become_input_required() -> None:
    wanted = {"mode": "url", "url": "https://x.example", "message": "sign in", "elicitationId": "e1"}
    error = {"code": -32042, "message": "open", "data": {"elicitations": [wanted, 7]}}
    (asked,) = url_elicitations(orjson.dumps(error)).items()
    assert (asked[0], orjson.loads(asked[1])) == (
        "k1",
        {
            "method": "elicitation/create",
            "params": {"mode": "url", "url": "https://x.example", "message": "sign in"},
        },
    )


async def test_the_callers_capabilities_go_upstream_and_never_the_gateways(autojump_clock: MockClock) -> None:
    backend = asking()
    async with scripted_gateway(backend) as where:
        await (await where.session(sampling={"tools": {}})).call("read")
        await where.modern("tools/call", CALL, capabilities={"roots": {}})
        await where.modern("tools/call", CALL)
        identities = [orjson.loads(link.identity.capabilities) for link in backend.links]
        assert identities == [{}, {"sampling": {"tools": {}}}, {"roots": {}}, {}]


def test_declined_questions_are_answered_in_their_own_form() -> None:
    assert b'"cancel"' in declined("elicitation/create", b"1")
    assert b'"error"' in declined("roots/list", b"1")
