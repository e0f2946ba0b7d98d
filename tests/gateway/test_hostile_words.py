"""What backends say that cannot be passed on: always their fault, never a 500, and nothing is left of it."""

import orjson
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Answer, Hear, Inbound, Outgoing
from mcp_gateway.gateway.server_requests import MAX_OPEN
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import JsonObject
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, Session, message, scripted_gateway
from tests.support.scripted_link import Refusal, ScriptedBackend, ScriptedLink, notice, question

ERAS = [pytest.param(V2025_11_25, id="2025 backend"), pytest.param(V2026_07_28, id="2026 backend")]
BROKEN = [
    b'"result":{"resultType":"complete","resultType":"complete"}',
    b'"result":{"_meta":{},"_meta":{}}',
    b'"result":7',
    b'"result":[]',
    b'"result":{"resultType":"surprise"}',
    b'"result":{"resultType":"input_required","inputRequests":{},"inputRequests":{}}',
    b'"result":{"resultType":"input_required","requestState":1,"requestState":2}',
    b'"error":{"code":-32602,"code":-32601,"message":"x"}',
    b'"error":{"code":-32042,"message":"x","data":{"elicitations":[{"task":1}],"elicitations":2}}',
    b'"error":{"message":"no code"}',
    b'"error":{"code":1.5,"message":"x"}',
    b'"error":{"code":-32002,"message":"x","data":{"uri":1,"uri":2}}',
]


def saying(parts: bytes, era: Era, monkeypatch: pytest.MonkeyPatch) -> ScriptedBackend:
    """A backend whose answers to tools/call hold these bytes."""
    honest = ScriptedLink.exchange

    async def exchange(self: ScriptedLink, outgoing: Outgoing, hear: Hear) -> Answer:
        answer = await honest(self, outgoing, hear)
        if outgoing.method != "tools/call":
            return answer
        return Answer(raw=b'{"jsonrpc":"2.0","id":%d,%b}' % (orjson.loads(answer.raw)["id"], parts))

    monkeypatch.setattr(ScriptedLink, "exchange", exchange)
    return ScriptedBackend(era=era)


async def calls(where: ScriptedGateway) -> list[RecordedReply]:
    """A call of a client of each kind."""
    session = await where.session(roots={})
    return [
        await session.call("read"),
        await where.modern("tools/call", {"name": "read"}),
        await where.modern("tools/call", {"name": "read"}, capabilities={"roots": {}, "elicitation": {"url": {}}}),
    ]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("parts", BROKEN)
async def test_every_answer_has_an_answer(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, parts: bytes, era: Era
) -> None:
    async with scripted_gateway(saying(parts, era, monkeypatch)) as where:
        for reply in await calls(where):
            assert reply.status == 200
            error = reply.answer.get("error")
            data = error.get("data") if isinstance(error, dict) else None
            if isinstance(data, dict) and "reason" in data:
                assert data["reason"] == "backend_protocol"  # not the client's fault
                assert data["executed"] != "no"
        assert len(where.gateway.calls.suspended) == 0
        assert len(where.gateway.calls.in_flight) == 0


async def test_progress_that_cannot_be_passed_on_fails_its_own_call(autojump_clock: MockClock) -> None:
    raw = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progressToken":1}}'

    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(Inbound(method="notifications/progress", params={"progressToken": 1}, raw=raw))
        return {}

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": handle})) as where:
        session = await where.session()
        reply = await session.ask("tools/call", {"name": "read", "_meta": {"progressToken": "t"}})
        assert reply.error["data"]["reason"] == "backend_protocol"  # type: ignore[index,call-overload]  # raw JSON


async def test_a_request_that_cannot_be_passed_on_is_its_clients_fault(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","_meta":%b}}'
        for meta in (
            b'{"progressToken":1,"progressToken":2}',
            b'{"x":{},"io.modelcontextprotocol/logLevel":"a"}',
            b"7",
        ):
            reply = await where.send("POST", headers=session.headers(), body=body % meta)
            if reply.answer.get("error"):
                assert reply.error["code"] == -32600
                assert (await session.call("read")).result == {"content": []}


@pytest.mark.parametrize("request_id", [b"1.0", b"true", b"1e2", b"{}", b"[]"])
async def test_ids_that_two_readers_read_differently_are_refused(autojump_clock: MockClock, request_id: bytes) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        body = b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % request_id
        reply = await where.send("POST", headers=session.headers(), body=body)
        assert (reply.status, reply.error["code"]) == (400, -32600)


async def test_ids_go_back_as_they_came(autojump_clock: MockClock) -> None:
    async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(0.5)
        return {}

    ids = [b"1", b'"1"', b"-0", b'"\\u0031"', b"9" * 4000, b'"\\ud800"', b'""']
    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": slow})) as where:
        session = await where.session()
        body = b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"read"}}'
        replies = [where.begin("POST", headers=session.headers(), body=body % request_id) for request_id in ids]
        await wait_all_tasks_blocked()
        again = await where.send("POST", headers=session.headers(), body=body % b"0")
        assert b"in flight" in (again.body or b"")
        await trio.sleep(2)
        same = {b'"1"', b'"\\u0031"'}  # one id in two spellings: whichever came second is refused
        for request_id, reply in zip(ids, replies, strict=True):
            assert b'"id":%b,' % request_id in (reply.body or b"")
            assert request_id in same or b'"result"' in (reply.body or b"")
        assert sum(b"in flight" in (reply.body or b"") for reply in replies) == 1


# --- questions outside calls ---


async def opened(where: ScriptedGateway) -> tuple[Session, RecordedReply, ScriptedLink]:
    """A client with a stream, and the link on which its backend may speak unasked."""
    session = await where.session(roots={})
    stream = session.stream()
    await stream.until(lambda: stream.opened)
    await session.call("read")
    backend_links = [link for link in where_links(where) if link.stream]
    return session, stream, backend_links[-1]


def where_links(where: ScriptedGateway) -> list[ScriptedLink]:
    (backend,) = where.fleet._seats.values()
    connector = backend.current._connector
    assert isinstance(connector, ScriptedBackend)
    return connector.open_links


async def test_invariant_7_unanswered_questions_of_a_stream_make_room_for_new_ones(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session, stream, link = await opened(where)
        for number in range(MAX_OPEN + 1):
            await link.say(question("roots/list", b"%d" % number))
        await stream.until(lambda: len(stream.messages) == MAX_OPEN + 1)
        await session.respond(stream.messages[0]["id"], result={"roots": []})
        assert link.said == []  # the oldest is given up
        await session.respond(stream.messages[-1]["id"], result={"roots": []})
        assert orjson.loads(link.said[0])["id"] == MAX_OPEN


async def test_a_question_withdrawn_on_the_stream_is_withdrawn_from_the_client(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session, stream, link = await opened(where)
        await link.say(question("roots/list", b'"q"'))
        await link.say(notice("notifications/cancelled", requestId="q", reason="never mind"))
        await link.say(notice("notifications/cancelled", requestId="another"))
        await link.say(notice("notifications/message", level="debug", data="x"))
        await stream.until(lambda: len(stream.messages) == 3)
        asked, gone, _ = stream.messages
        assert gone["params"] == {"requestId": asked["id"], "reason": "never mind"}
        await session.respond(asked["id"], result={"roots": []})
        assert link.said == []


async def test_questions_are_refused_once_the_calls_of_a_session_ask_too_much(autojump_clock: MockClock) -> None:
    async def curious(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        for number in range(MAX_OPEN + 1):
            await hear(question("roots/list", b"%d" % number))
        await hear(question("roots/list", b"0"))  # an id that is still open
        await trio.sleep(1)
        return {"said": [orjson.loads(raw)["id"] for raw in link.said]}

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": curious})) as where:
        session = await where.session(roots={})
        reply = await session.call("read")
        assert reply.result["said"] == [MAX_OPEN, 0]
        (live,) = where.gateway.context.sessions
        assert len(live.questions) == 0


QUESTION: JsonObject = {"method": "roots/list"}
NONSENSE: list[JsonObject] = [
    {},
    {"requestState": None},
    {"inputRequests": {}},
    {"inputRequests": None, "requestState": None},
    {"inputRequests": [QUESTION], "requestState": "s"},
    {"inputRequests": "roots/list", "requestState": "s"},
    {"inputRequests": {"k": 7}},
    {"inputRequests": {"k": {}}},
    {"inputRequests": {"k": {"method": 7}}},
    {"inputRequests": {"k": {"method": "roots/list", "params": 7}}},
    {"inputRequests": {"a": QUESTION, "k": {"method": "ping"}}},
    {"inputRequests": {"a": QUESTION, "k": {"method": "tools/call", "params": {"name": "read"}}}},
    {"inputRequests": {f"k{number}": QUESTION for number in range(MAX_OPEN + 1)}},
    {"inputRequests": {f"k{number}": QUESTION for number in range(10_000)}},
    {"inputRequests": {"k": {"method": "roots/list", "params": {"x": "x" * 2**20}}}},
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda nonsense: orjson.dumps(nonsense)[:40].decode())
async def test_an_interim_result_that_is_none_asks_nobody_and_runs_nothing_again(
    autojump_clock: MockClock, nonsense: JsonObject
) -> None:
    async def curious(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"resultType": "input_required", **nonsense}

    backend = ScriptedBackend(era=V2026_07_28, handlers={"tools/call": curious})
    async with scripted_gateway(backend) as where:
        for number, reply in enumerate(await calls(where), 1):
            assert reply.error["data"]["reason"] == "backend_protocol"  # type: ignore[index,call-overload]  # raw JSON
            assert [one for one in reply.messages if "method" in one] == []
            assert backend.asked("tools/call") == 3, number
        assert all(len(session.questions) == 0 for session in where.gateway.context.sessions)


async def test_a_refusal_with_a_message_goes_through(autojump_clock: MockClock) -> None:
    async def refuse(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(-32000, "because")

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": refuse})) as where:
        for reply in await calls(where):
            assert reply.error == {"code": -32000, "message": "because"}


async def test_the_body_of_an_unreadable_message_gives_no_id(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        reply = await where.send("POST", headers=session.headers(), body=message("ping", None, 1) + b"}")
        assert reply.answer["id"] is None
