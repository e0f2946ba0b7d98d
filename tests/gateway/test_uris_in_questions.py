"""URIs in the questions of a server whose URIs are mapped, and in the answers, in every pair of eras.

The client sees the mapped ones, and what it answers reaches the server in the server's own words.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Hear, Inbound
from mcp_gateway.gateway.call import input_required
from mcp_gateway.gateway.call.translation import url_elicitations
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, Session, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, question

SAMPLING: JsonObject = {"sampling": {}}
CALL: JsonObject = {"name": "f_read"}
OWN = "test://page/1"
MAPPED = "test://files/page/1"


def content(uri: str) -> JsonObject:
    resource: JsonObject = {"uri": uri, "text": "t"}
    return {"type": "resource", "resource": resource}


def asked_about(uri: str) -> JsonObject:
    """The params of a question; 1.50 shows whether bytes were touched that need not be."""
    return {
        "messages": [{"role": "user", "content": content(uri)}],
        "maxTokens": 1,
        "_meta": {"ui": {"resourceUri": uri}},
    }


def answer(uri: str) -> JsonObject:
    return {"role": "assistant", "content": content(uri), "model": "m", "_meta": {"ui": {"resourceUri": uri}}}


def sampling() -> Inbound:
    return question("sampling/createMessage", b'"q"', asked_about(OWN))


async def ask_2025(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    begin = len(link.said)
    await hear(sampling())
    while len(link.said) == begin:  # noqa: ASYNC110  # the clock is virtual
        await trio.sleep(0.01)
    return {"content": [], "structuredContent": {"got": orjson.loads(link.said[-1])["result"]}}


async def ask_2026(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    responses = params.get("inputResponses")
    if isinstance(responses, dict):
        return {"resultType": "complete", "content": [], "structuredContent": {"got": responses["q"]}}
    request: JsonObject = {"method": "sampling/createMessage", "params": asked_about(OWN)}
    return {"resultType": "input_required", "inputRequests": {"q": request}}


@asynccontextmanager
async def asking(era: Era, prefix: str = "f_") -> AsyncIterator[ScriptedGateway]:
    backend = ScriptedBackend(era=era, handlers={"tools/call": ask_2026 if era.modern else ask_2025})
    async with scripted_gateway(backend, prefixes={"files": prefix}) as where:
        yield where


def got(reply: RecordedReply) -> JsonValue:
    structured = reply.result["structuredContent"]
    assert isinstance(structured, dict)
    return structured["got"]


async def next_question(reply: RecordedReply) -> JsonObject:
    await reply.until(lambda: any("method" in one for one in reply.messages))
    return next(one for one in reply.messages if "method" in one)


@pytest.mark.parametrize("era", [V2025_11_25, V2026_07_28], ids=lambda era: f"{era.version} server")
async def test_a_2025_client_sees_mapped_uris_and_the_server_its_own(autojump_clock: MockClock, era: Era) -> None:
    """Acceptance case K-146."""
    async with asking(era) as where:
        session = await where.session(sampling={})
        reply = session.begin("tools/call", CALL)
        sent = await next_question(reply)
        assert sent["params"] == asked_about(MAPPED)
        await session.respond(sent["id"], result=answer(MAPPED))
        await reply.until(lambda: reply.closed)
        assert got(reply) == answer(OWN)


@pytest.mark.parametrize("era", [V2025_11_25, V2026_07_28], ids=lambda era: f"{era.version} server")
async def test_a_2026_client_sees_mapped_uris_and_the_server_its_own(autojump_clock: MockClock, era: Era) -> None:
    async with asking(era) as where:
        first = await where.modern("tools/call", CALL, capabilities=SAMPLING)
        requests = first.result["inputRequests"]
        assert isinstance(requests, dict)
        ((key, request),) = requests.items()
        assert request == {"method": "sampling/createMessage", "params": asked_about(MAPPED)}
        retry: JsonObject = {**CALL, "inputResponses": {key: answer(MAPPED)}}
        if "requestState" in first.result:
            retry["requestState"] = first.result["requestState"]
        assert got(await where.modern("tools/call", retry, capabilities=SAMPLING)) == answer(OWN)


@pytest.mark.parametrize("era", [V2025_11_25, V2026_07_28], ids=lambda era: f"{era.version} server")
async def test_where_nothing_is_mapped_not_a_byte_changes(autojump_clock: MockClock, era: Era) -> None:
    async with asking(era, prefix="") as where:
        session = await where.session(sampling={})
        reply = session.begin("tools/call", {"name": "read"})
        sent = await next_question(reply)
        assert orjson.dumps(sent["params"]) == orjson.dumps(asked_about(OWN))
        await session.respond(sent["id"], result=answer(MAPPED))
        await reply.until(lambda: reply.closed)
        assert got(reply) == answer(MAPPED)


def test_the_questions_of_a_2026_server_keep_their_bytes() -> None:
    form = b'{"message":"?","requestedSchema":{"type":"object","maximum":1.50,"minimum":1e400}}'
    request = b'{"method":"elicitation/create","params":%b}' % form
    found = input_required.read(b'{"resultType":"input_required","inputRequests":{"q":%b}}' % request)
    assert found.questions["q"].params == form
    error = b'{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","n":1.50},7]}}'
    assert url_elicitations(error) == {"k1": b'{"method":"elicitation/create","params":{"mode":"url","n":1.50}}'}


@asynccontextmanager
async def outside_calls() -> AsyncIterator[tuple[Session, RecordedReply, ScriptedLink]]:
    """A client with a GET stream, and its own upstream session, which has one too."""
    backend = ScriptedBackend()
    async with scripted_gateway(backend, prefixes={"files": "f_"}) as where:
        session = await where.session(sampling={})
        await session.call("f_read")
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        await wait_all_tasks_blocked()
        yield session, stream, backend.open_links[1]


async def test_a_question_outside_any_call_is_mapped_too(autojump_clock: MockClock) -> None:
    async with outside_calls() as (session, stream, own):
        await own.say(sampling())
        sent = await next_question(stream)
        assert sent["params"] == asked_about(MAPPED)
        await session.respond(sent["id"], result=answer(MAPPED))
        assert orjson.loads(own.said[-1]) == {"jsonrpc": "2.0", "id": "q", "result": answer(OWN)}


async def test_a_question_outside_any_call_that_cannot_be_passed_on_is_refused(autojump_clock: MockClock) -> None:
    async with outside_calls() as (session, _, own):
        twice = b'{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{"_meta":1,"_meta":{}}}'
        await own.say(Inbound(method="sampling/createMessage", params={}, raw=twice, id_raw=b'"q"'))
        await wait_all_tasks_blocked()
        assert "duplicate member '_meta'" in orjson.loads(own.said[-1])["error"]["message"]
        (live,) = session.where.gateway.context.sessions
        assert len(live.questions) == 0
