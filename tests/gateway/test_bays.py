"""Calls of 2026 clients that a 2025 backend may interrupt: each has an upstream session to itself."""

import orjson
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, notice, question

ABLE: JsonObject = {"sampling": {}, "roots": {}}
OWN = 1
"""The gateway's own session."""


def asking_on_the_stream(**more: object) -> ScriptedBackend:
    """Like mcp 1.30: what a tool asks goes to the standalone stream of its session."""

    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        if not params["arguments"]:
            return {"content": []}
        assert link.stream is not None
        await link.stream.send(question("roots/list", b'"q"'))
        while not link.said:  # noqa: ASYNC110  # the clock is virtual
            await trio.sleep(0.01)
        return {"content": [], "got": orjson.loads(link.said.pop())}

    return ScriptedBackend(handlers={"tools/call": handle}, **more)  # type: ignore[arg-type]  # its own fields


async def call(where: ScriptedGateway, number: int, **more: JsonValue) -> RecordedReply:
    params: JsonObject = {"name": "read", "arguments": {"n": number}, **more}
    return await where.modern("tools/call", params, capabilities=ABLE, id=f"{number}-{len(more)}")


def taken(where: ScriptedGateway) -> int:
    backend = where.fleet.get(BackendKey("files"))
    assert backend is not None
    return sum(map(len, backend.bays._taken.values()))


async def test_calls_side_by_side_each_hear_what_is_asked_on_the_stream(autojump_clock: MockClock) -> None:
    backend = asking_on_the_stream()
    async with scripted_gateway(backend) as where:
        firsts: dict[int, Message] = {}

        async def begin(number: int) -> None:
            firsts[number] = (await call(where, number)).result

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(begin, number)
        assert [one["resultType"] for one in firsts.values()] == ["input_required"] * 5
        assert len(backend.open_links) == OWN + 5
        for number, first in firsts.items():
            answers: JsonObject = {"k1": {"roots": [{"uri": f"file:///{number}"}]}}
            last = await call(where, number, inputResponses=answers, requestState=first["requestState"])
            got: Message = last.result
            assert got["got"] == {"jsonrpc": "2.0", "id": "q", "result": answers["k1"]}
        assert taken(where) == 0


async def test_an_empty_bay_is_used_again(autojump_clock: MockClock) -> None:
    backend = asking_on_the_stream()
    async with scripted_gateway(backend) as where:
        for _ in range(3):
            await where.modern("tools/call", {"name": "read", "arguments": {}}, capabilities=ABLE)
        assert len(backend.open_links) == OWN + 1
        await where.modern("tools/call", {"name": "read", "arguments": {}}, capabilities={"roots": {}})
        assert len(backend.open_links) == OWN + 2  # other capabilities are another session


async def test_a_subscriber_is_told_what_its_calls_have_changed_in_any_bay(autojump_clock: MockClock) -> None:
    async def touch(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        """Like mcp 1.30: nobody but the session of the call is told."""
        assert link.stream is not None
        await link.stream.send(notice("notifications/resources/updated", uri="memo://one"))
        await trio.sleep(1)
        return {"content": []}

    async def listed(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"resources": [{"uri": "memo://one", "name": "one"}]}

    backend = ScriptedBackend(
        capabilities={"tools": {}, "resources": {"subscribe": True}},
        handlers={"tools/call": touch, "resources/list": listed},
    )
    async with scripted_gateway(backend) as where:
        wanted: JsonObject = {"notifications": {"resourceSubscriptions": ["memo://files/one"]}}
        able = where.modern_soon("subscriptions/listen", wanted, capabilities=ABLE, id="able")
        other = where.modern_soon("subscriptions/listen", wanted, capabilities={"roots": {}}, id="other")
        for listening in (able, other):
            await listening.until(lambda listening=listening: listening.messages)  # type: ignore[misc]  # bound now
        assert len(backend.open_links) == OWN + 2
        for expected, calls in enumerate((1, 2), 1):  # one in the session that all share; then one more beside it
            async with trio.open_nursery() as nursery:
                for number in range(calls):
                    nursery.start_soon(call, where, 10 * expected + number)
            assert len(backend.open_links) == OWN + 2 + calls - 1
            told = [one for one in able.messages if one["method"] == "notifications/resources/updated"]
            assert len(told) >= expected
        assert len(other.messages) == 1  # acknowledged, and never told: it is of another kind


async def test_a_call_that_could_not_begin_leaves_its_bay(autojump_clock: MockClock) -> None:
    backend = asking_on_the_stream()
    async with scripted_gateway(backend) as where:
        backend.connect_s = 1000
        reply = where.modern_soon("tools/call", {"name": "read", "arguments": {}}, capabilities=ABLE)
        await trio.sleep(1)
        assert taken(where) == 1
        reply.leave()
        await trio.sleep(1)
        assert taken(where) == 0


async def test_calls_to_a_process_share_it(autojump_clock: MockClock) -> None:
    backend = asking_on_the_stream(transport="stdio")
    async with scripted_gateway(backend) as where:
        params: JsonObject = {"name": "read", "arguments": {}}
        replies = [where.modern_soon("tools/call", params, capabilities=ABLE, id=number) for number in range(3)]
        for reply in replies:
            await reply.until(lambda reply=reply: reply.closed)  # type: ignore[misc]  # bound now
            assert reply.result["resultType"] == "complete"
        assert len(backend.open_links) == OWN + 1
        assert taken(where) == 0


async def test_a_shared_session_is_never_made_less_talkative(autojump_clock: MockClock) -> None:
    async def level(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {}

    async def work(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(5)
        wanted: Message = [asked for method, asked in link.asked if method == "logging/setLevel"][-1]
        if wanted["level"] == "debug":
            await hear(notice("notifications/message", level="debug", data="detail"))
        return {"content": []}

    backend = ScriptedBackend(
        capabilities={"tools": {}, "logging": {}}, handlers={"tools/call": work, "logging/setLevel": level}
    )
    async with scripted_gateway(backend) as where:
        curious = where.modern_soon("tools/call", {"name": "read"}, level="debug", id=1)
        await trio.sleep(1)
        calm = where.modern_soon("tools/call", {"name": "read"}, level="error", id=2)
        for reply in (curious, calm):
            await reply.until(lambda reply=reply: reply.closed)  # type: ignore[misc]  # bound now
        assert (len(curious.messages), len(calm.messages)) == (2, 1)
