"""How far a 2025 client is with what it was asked: for the backend that asked, under its own token, and no other."""

import orjson
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear, Inbound
from mcp_gateway.protocol.eras import V2026_07_28
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, Session, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, question

METHOD = "notifications/progress"
FILES, OTHER = BackendKey("files"), BackendKey("other")


def sampling(request_id: JsonValue, token: JsonValue = None) -> Inbound:
    params: JsonObject = {"messages": [], "maxTokens": 1}
    if token is not None:
        params["_meta"] = {"progressToken": token, "x": 1}
    return question("sampling/createMessage", orjson.dumps(request_id), params)


def asking(key: BackendKey, token: JsonValue) -> ScriptedBackend:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(sampling("q", token))
        while not any(b'"result"' in raw for raw in link.said):  # noqa: ASYNC110  # the clock is virtual
            await trio.sleep(0.1)
        return {"content": []}

    return ScriptedBackend(key=key, handlers={"tools/call": handle})


def told(backend: ScriptedBackend) -> list[Message]:
    said: list[Message] = [orjson.loads(raw) for link in backend.links for raw in link.said]
    return [one["params"] for one in said if one.get("method") == METHOD]


async def asked(reply: RecordedReply) -> Message:
    await reply.until(lambda: any("id" in one and "method" in one for one in reply.messages))
    found: Message = next(one for one in reply.messages if "method" in one)
    return found


async def progress(session: Session, token: JsonValue, done: int) -> None:
    assert (await session.tell(METHOD, {"progressToken": token, "progress": done})).status == 202


async def test_progress_reaches_the_backend_that_asked_and_no_other(autojump_clock: MockClock) -> None:
    one, two, quiet = asking(FILES, 1), asking(OTHER, 1), asking(BackendKey("quiet"), None)
    prefixes = {"files": "f_", "other": "o_", "quiet": "q_"}
    async with scripted_gateway(one, two, quiet, prefixes=prefixes) as where:
        session = await where.session(sampling={})
        replies = [session.begin("tools/call", {"name": f"{prefix}read"}) for prefix in prefixes.values()]
        first, second, third = [await asked(reply) for reply in replies]
        for sent in (first, second):
            assert sent["params"]["_meta"] == {"progressToken": sent["id"], "x": 1}
        assert "_meta" not in third["params"]
        await progress(session, second["id"], 7)
        for token in (1, "unknown", None, third["id"]):
            await progress(session, token, 8)
        assert (told(one), told(two), told(quiet)) == ([], [{"progressToken": 1, "progress": 7}], [])
        for sent in (first, second, third):
            await session.respond(sent["id"], result={"role": "assistant"})
            await progress(session, sent["id"], 9)  # it is over
        assert len(told(one)) + len(told(two)) == 1


async def test_progress_on_what_was_asked_beside_a_call_finds_its_way_too(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend()
    async with scripted_gateway(backend) as where:
        session = await where.session(sampling={})
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        await session.call("read")
        link = [link for link in backend.open_links if link.stream is not None][-1]
        await link.say(sampling("q", "theirs"))
        sent = await asked(stream)
        await progress(session, sent["id"], 1)
        assert told(backend) == [{"progressToken": "theirs", "progress": 1}]


async def test_a_2026_backend_is_told_nothing_so_its_client_is_given_no_token(autojump_clock: MockClock) -> None:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        if "inputResponses" in params:
            return {"resultType": "complete", "content": []}
        asks: JsonObject = {"k": {"method": "sampling/createMessage", "params": dict(sampling("q", "t").params)}}
        return {"resultType": "input_required", "inputRequests": asks}

    backend = ScriptedBackend(era=V2026_07_28, handlers={"tools/call": handle})
    async with scripted_gateway(backend) as where:
        session = await where.session(sampling={})
        reply = session.begin("tools/call", {"name": "read"})
        sent = await asked(reply)
        assert sent["params"]["_meta"] == {"x": 1}
        await progress(session, sent["id"], 1)
        await session.respond(sent["id"], result={"role": "assistant"})
        await reply.until(lambda: reply.closed)
        assert told(backend) == []
