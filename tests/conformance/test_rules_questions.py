"""Reference section 2, row "schemas", for what servers ask: a 2025 server's questions fit a 2025 client's revision."""

import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear, Inbound
from mcp_gateway.protocol.eras import LEGACY_VERSIONS
from mcp_gateway.values import JsonObject, JsonValue
from tests.conformance.rule_steps import CALL
from tests.support.raw_client import Message
from tests.support.scripted_gateway import scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, tool

FORM: JsonObject = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}, "x": 1.50}
AUDIO: JsonObject = {"type": "audio", "data": "", "mimeType": "a/b"}
LINK: JsonObject = {"type": "resource_link", "uri": "memo://one", "name": "n"}
SAID: JsonObject = {"messages": [{"role": "user", "content": AUDIO}, {"role": "user", "content": LINK}], "maxTokens": 1}


def asks(method: str, params: JsonObject, request_id: int) -> Inbound:
    raw = orjson.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
    return Inbound(method=method, params=params, raw=raw, id_raw=b"%d" % request_id)


QUESTIONS = (asks("sampling/createMessage", SAID, 1), asks("elicitation/create", {"mode": "form", **FORM}, 2))


async def ask_all(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    """Ask everything at once, if the tool is called ``ask``."""
    for one in QUESTIONS if params["name"] == "ask" else ():
        await hear(one)
    while params["name"] == "ask" and len(link.said) < len(QUESTIONS):  # noqa: ASYNC110  # the clock is virtual
        await trio.sleep(0.01)
    return {"content": []}


def asking_backend() -> ScriptedBackend:
    return ScriptedBackend(tools=[tool("ask"), tool("read")], handlers={CALL: ask_all})


def with_stream(backend: ScriptedBackend) -> ScriptedLink:
    """The client session's own link, on which the backend may speak outside calls."""
    return next(link for link in backend.open_links[1:] if link.stream is not None)


@pytest.mark.parametrize("place", ["in a call", "outside"])
@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_s2_schemas_questions_fit_the_clients_revision(
    autojump_clock: MockClock, version: str, place: str
) -> None:
    backend = asking_backend()
    async with scripted_gateway(backend) as where:
        session = await where.session(version, sampling={}, elicitation={})
        heard = stream = session.stream()
        await stream.until(lambda: stream.opened)
        if place == "in a call":
            heard = session.begin(CALL, {"name": "ask"})
        else:
            await session.call("read")
            await trio.sleep(2)
            for one in QUESTIONS:
                await with_stream(backend).say(one)
        await heard.until(lambda: len(heard.messages) >= len(QUESTIONS))
        said: list[Message] = list(heard.messages)
        sampled, elicited = (one["params"] for one in said)
        assert [one["content"]["type"] for one in sampled["messages"]] == {
            "2024-11-05": ["text", "text"],
            "2025-03-26": ["audio", "text"],
        }.get(version, ["audio", "resource_link"])
        mode: dict[str, JsonValue] = {"mode": "form"} if version == "2025-11-25" else {}
        assert elicited == {**mode, **FORM}
        for message in said:
            await session.respond(message["id"], result={})


async def test_s2_uris_in_a_calls_questions_are_the_clients(autojump_clock: MockClock) -> None:
    async with scripted_gateway(asking_backend(), prefixes={"files": "f_"}) as where:
        session = await where.session(sampling={}, elicitation={})
        call = session.begin(CALL, {"name": "f_ask"})
        await call.until(lambda: len(call.messages) == len(QUESTIONS))
        said: list[Message] = list(call.messages)
        assert said[0]["params"]["messages"][1]["content"]["uri"] == "memo://files/one"
        for message in said:
            await session.respond(message["id"], result={})


async def test_s2_a_question_outside_calls_that_cannot_be_passed_on_is_refused_to_its_server(
    autojump_clock: MockClock,
) -> None:
    twice = b'{"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{"mode":"form","mode":"form"}}'
    backend = asking_backend()
    async with scripted_gateway(backend) as where:
        session = await where.session("2025-06-18", elicitation={})
        stream = session.stream()
        await session.call("read")
        await trio.sleep(2)
        link = with_stream(backend)
        await link.say(Inbound(method="elicitation/create", params={"mode": "form"}, raw=twice, id_raw=b"9"))
        await trio.sleep(1)
        assert [(one["id"], one["error"]["code"]) for one in map(orjson.loads, link.said)] == [(9, -32601)]
        (live,) = where.gateway.context.sessions
        assert (stream.messages, len(live.questions)) == ([], 0)
