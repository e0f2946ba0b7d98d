"""Reference 1.8 at its edges: what a client may ask of ``subscriptions/listen``, and how it ends."""

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.gateway.faces.listen import MAX_URIS
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28
from mcp_gateway.values import JsonObject, JsonValue
from tests.conformance.rule_steps import CALL, complete, error_of, fixed
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, scripted_gateway
from tests.support.scripted_link import notice, tool

LISTEN = "subscriptions/listen"
META = "io.modelcontextprotocol/"


async def listening(where: ScriptedGateway, notifications: JsonValue, **more: JsonValue) -> RecordedReply:
    reply = where.modern_soon(LISTEN, {"notifications": notifications}, **more)
    await reply.until(lambda: reply.events or reply.closed)
    return reply


def honoured(reply: RecordedReply) -> Message:
    first: Message = reply.messages[0]
    assert first["method"] == "notifications/subscriptions/acknowledged"
    found: Message = first["params"]["notifications"]
    return found


@pytest.mark.parametrize("notifications", [None, 5, "all", [], True])
async def test_s1_8_a_filter_that_is_none_is_32602(autojump_clock: MockClock, notifications: JsonValue) -> None:
    async with scripted_gateway(complete(V2025_11_25)) as where:
        reply = await listening(where, notifications, id="mine")
        assert (error_of(reply)["code"], reply.answer["id"], reply.opened) == (-32602, "mine", False)
        assert where.gateway.streams == 0


@pytest.mark.parametrize(
    "wanted, given",
    [
        ({}, {}),
        ({"toolsListChanged": "yes", "promptsListChanged": 1, "resourcesListChanged": None}, {}),
        ({"toolsListChanged": False}, {}),
        ({"progress": True, "message": True, "x/y": {}}, {}),
        ({"resourceSubscriptions": []}, {"resourceSubscriptions": []}),
        ({"resourceSubscriptions": "memo://one"}, {"resourceSubscriptions": []}),
        ({"resourceSubscriptions": [5, None, {}, ["memo://one"]]}, {"resourceSubscriptions": []}),
        ({"resourceSubscriptions": ["memo://one"] * 50}, {"resourceSubscriptions": ["memo://one"]}),
    ],
)
async def test_s1_8_only_what_can_be_honoured_is_acknowledged(
    autojump_clock: MockClock, wanted: JsonObject, given: JsonObject
) -> None:
    backend = complete(V2026_07_28)
    async with scripted_gateway(backend) as where:
        reply = await listening(where, wanted)
        assert honoured(reply) == given
        backend.tools.append(tool("more"))
        await backend.shout(notice("notifications/tools/list_changed"))
        await trio.sleep(3)
        assert len(reply.messages) == 1


async def test_s1_8_invariant_7_ten_thousand_resources_are_honoured_up_to_the_bound(autojump_clock: MockClock) -> None:
    uris: list[JsonValue] = [f"memo://{number}" for number in range(10_000)]
    async with scripted_gateway(complete(V2026_07_28)) as where:
        reply = await listening(where, {"resourceSubscriptions": uris})
        assert honoured(reply) == {"resourceSubscriptions": uris[:MAX_URIS]}


async def test_s1_8_two_streams_with_one_id_are_two_streams(autojump_clock: MockClock) -> None:
    """They are of two clients as likely as of one: nothing is inferred from a connection or an id."""
    backend = complete(V2025_11_25)
    async with scripted_gateway(backend) as where:
        one = await listening(where, {"toolsListChanged": True}, id=1)
        two = await listening(where, {"toolsListChanged": True}, id=1)
        one.leave()
        backend.tools.append(tool("more"))
        await backend.shout(notice("notifications/tools/list_changed"))
        await two.until(lambda: len(two.messages) == 2)
        assert where.gateway.streams == 1


async def test_s1_8_calls_and_their_words_never_come_on_it(autojump_clock: MockClock) -> None:
    backend = complete(V2025_11_25, tools__call=fixed(content=[]))
    async with scripted_gateway(backend) as where:
        stream = await listening(where, {"toolsListChanged": True}, id="same", level="debug", token="t")
        call = await where.modern(CALL, {"name": "read"}, id="same", level="debug", token="t")
        assert "result" in call.answer
        await backend.shout(notice("notifications/message", level="error", data="x"))
        await backend.shout(notice("notifications/progress", progressToken="t", progress=1))
        await backend.shout(notice("notifications/cancelled", requestId="same"))
        await trio.sleep(2)
        assert (len(stream.messages), stream.closed) == (1, False)


async def test_s1_8_a_quiet_stream_shows_that_it_lives(autojump_clock: MockClock) -> None:
    async with scripted_gateway(complete(V2025_11_25)) as where:
        stream = await listening(where, {})
        await trio.sleep(60)
        assert (stream.comments >= 3, len(stream.messages)) == (True, 1)
