"""What a server lists to one client session only: that session is shown it, and nobody else."""

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends import session_lists
from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.backends.upstream_sessions import IDLE_S
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.scripted_gateway import RecordedReply, Session, scripted_gateway
from tests.support.scripted_link import Refusal, ScriptedBackend, ScriptedLink, notice, tool

CHANGED = notice("notifications/resources/list_changed")


def capable(granted: frozenset[str]) -> list[JsonObject]:
    return [tool("plain"), *([tool("sample")] if "sampling" in granted else [])]


async def called(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.lowlevel.checkpoint()
    asking = link.identity.capabilities != b"{}"
    if params["name"] == "sample" and not asking:
        raise Refusal(-32602)
    return {"content": [{"type": "text", "text": "own" if asking else "shared"}]}


async def names(session: Session, kind: str = "tools") -> list[JsonValue]:
    listed = (await session.ask(f"{kind}/list")).result[kind]
    assert isinstance(listed, list)
    return [one["name"] for one in listed if isinstance(one, dict)]


def notices(stream: RecordedReply) -> list[JsonValue]:
    return [one["method"] for one in stream.messages]


async def test_what_a_process_of_its_own_lists_is_shown_to_its_client_once_it_runs(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", shown=capable, handlers={"tools/call": called})
    async with scripted_gateway(scripted, prefixes={"files": "f_"}) as where:
        sampler, other = await where.session(sampling={}), await where.session(sampling={})
        stream = sampler.stream()
        await trio.sleep(0.1)
        assert await names(sampler) == ["f_plain"]
        await sampler.call("f_plain")
        await trio.sleep(0.1)
        assert notices(stream) == ["notifications/tools/list_changed"]
        assert await names(sampler) == ["f_plain", "f_sample"]
        assert await names(other) == ["f_plain"]
        reply = await sampler.call("f_sample")
        assert reply.result["content"] == [{"type": "text", "text": "own"}]
        assert (await other.call("f_sample")).error["code"] == -32602
        stream.leave()
        await trio.sleep(IDLE_S + 1)
        assert await names(sampler) == ["f_plain"], "its process has ended"


def with_files_of_sessions() -> ScriptedBackend:
    """A server that lists what a session has made to that session only, and says so there."""

    def made(link: ScriptedLink) -> list[str]:
        return [f"memo://{params['name']}" for method, params in link.asked if method == "tools/call"]

    async def make(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(CHANGED)
        return {"content": []}

    async def listed(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {"resources": [{"uri": uri, "name": uri} for uri in ["memo://all", *made(link)]]}

    async def read(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        if params["uri"] not in made(link):
            raise Refusal(-32002)
        return {"contents": [{"uri": params["uri"], "text": "mine"}]}

    return ScriptedBackend(
        capabilities={"tools": {}, "resources": {"listChanged": True}},
        tools=[tool("one"), tool("two")],
        handlers={"tools/call": make, "resources/list": listed, "resources/read": read},
    )


async def test_a_resource_of_a_session_is_listed_to_that_session(autojump_clock: MockClock) -> None:
    scripted = with_files_of_sessions()
    async with scripted_gateway(scripted, prefixes={"files": "f_"}) as where:
        maker, other = await where.session(), await where.session()
        await maker.call("f_one")
        await trio.sleep(2.0)
        listed = (await maker.ask("resources/list")).result["resources"]
        assert isinstance(listed, list)
        assert [one["name"] for one in listed if isinstance(one, dict)] == ["memo://all", "memo://one"]
        assert await names(other, "resources") == ["memo://all"]
        mine = listed[1]
        assert isinstance(mine, dict)
        read = await maker.ask("resources/read", {"uri": mine["uri"]})
        assert read.result["contents"] == [{"uri": mine["uri"], "text": "mine"}]
        await maker.call("f_two")
        await trio.sleep(2.0)
        assert await names(maker, "resources") == ["memo://all", "memo://one", "memo://two"]
        await maker.end()
        await trio.sleep(1.0)
        assert where.fleet.session_lists.value == {}


@pytest.mark.parametrize("sessions", [20])
async def test_a_change_that_all_sessions_hear_of_is_read_by_few_at_once(
    autojump_clock: MockClock, sessions: int
) -> None:
    scripted, reading, most = with_files_of_sessions(), 0, 0
    quick = scripted.handlers["resources/list"]

    async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        await trio.sleep(0.1)
        reading -= 1
        return await quick(link, params, hear)

    async with scripted_gateway(scripted) as where:
        clients = [await where.session() for _ in range(sessions)]
        for client in clients:
            await client.call("one")
        scripted.handlers["resources/list"] = slow
        streams = [client.stream() for client in clients]
        await trio.sleep(5.0)
        most = 0
        await scripted.shout(CHANGED)
        await trio.sleep(5.0)
        assert 0 < most <= session_lists.READERS + 1  # and the gateway's own
        assert all(not stream.closed for stream in streams)
