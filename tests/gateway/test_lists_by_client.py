"""Lists that depend on the client: who is shown what, told what, and refused what, on both faces."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import GatewaySpec, VirtualServerSpec
from mcp_gateway.protocol.eras import Family
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.scripted_gateway import (
    RecordedReply,
    ScriptedGateway,
    Session,
    message,
    modern_request,
    scripted_gateway,
)
from tests.support.scripted_link import Handler, ScriptedBackend, ScriptedLink, notice, tool

CHANGED = notice("notifications/tools/list_changed")


def varying(granted: frozenset[str]) -> list[JsonObject]:
    sample = tool("sample")
    sample["inputSchema"] = {"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": "Region"}}}
    return [
        tool("plain"),
        *([sample] if "sampling" in granted else []),
        *([tool("url")] if "elicitation.url" in granted else []),
    ]


async def called(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    """The backend itself knows a tool only on sessions to which it lists it."""
    await trio.lowlevel.checkpoint()
    assert params["name"] == "plain" or link.identity.capabilities != b"{}"
    return {"content": [{"type": "text", "text": str(params["name"])}]}


@asynccontextmanager
async def in_front_of_varying(
    backend: ScriptedBackend | None = None, spec: GatewaySpec | None = None, survey: bool | None = None
) -> AsyncIterator[tuple[ScriptedGateway, ScriptedBackend]]:
    scripted = backend or ScriptedBackend(shown=varying, handlers={"tools/call": called})
    async with scripted_gateway(scripted, prefixes={"files": "f_"}, spec=spec, survey=survey) as where:
        yield where, scripted


def names(reply: RecordedReply) -> list[JsonValue]:
    tools = reply.result["tools"]
    assert isinstance(tools, list)
    return [one["name"] for one in tools if isinstance(one, dict)]


async def tools(session: Session) -> list[JsonValue]:
    return names(await session.ask("tools/list"))


def calls(scripted: ScriptedBackend) -> int:
    return scripted.asked("tools/call")


URL: JsonObject = {"form": {}, "url": {}}


async def test_a_2025_client_is_shown_what_its_capabilities_cover_and_can_call_it(autojump_clock: MockClock) -> None:
    async with in_front_of_varying() as (where, scripted):
        poor, sampler = await where.session(), await where.session(sampling={})
        forms, urls = await where.session(elicitation={}), await where.session(elicitation=URL)
        urls_alone = await where.session(elicitation={"url": {}})
        assert await tools(urls_alone) == ["f_plain", "f_url"]
        assert await tools(poor) == ["f_plain"]
        assert await tools(sampler) == ["f_plain", "f_sample"]
        assert await tools(forms) == ["f_plain"]
        assert await tools(urls) == ["f_plain", "f_url"]
        for session, name in ((poor, "f_plain"), (sampler, "f_sample"), (urls, "f_url")):
            reply = await session.call(name)
            assert reply.result["content"] == [{"type": "text", "text": name.removeprefix("f_")}]
        asked = [link.identity.capabilities for link in scripted.links if "tools/call" in link.methods()]
        assert asked == [b"{}", b'{"sampling":{}}', b'{"elicitation":{"form":{},"url":{}}}']


async def test_a_tool_that_a_2025_client_is_not_shown_is_unknown_to_it(autojump_clock: MockClock) -> None:
    """Invariant 8: hidden and unknown are indistinguishable."""
    async with in_front_of_varying() as (where, scripted):
        poor = await where.session()
        hidden, unknown = await poor.call("f_sample"), await poor.call("f_simple")
        assert hidden.error == {"code": -32602, "message": "Unknown tool: f_sample"}
        assert unknown.error == {"code": -32602, "message": "Unknown tool: f_simple"}
        assert (hidden.status, hidden.headers) == (unknown.status, unknown.headers)
        assert calls(scripted) == 0


async def test_a_session_that_comes_back_from_its_id_is_shown_the_same(autojump_clock: MockClock) -> None:
    async with in_front_of_varying() as (where, _):
        sampler = await where.session(sampling={})
        where.gateway.context.sessions._live.clear()  # as after a restart
        assert await tools(sampler) == ["f_plain", "f_sample"]


async def test_a_2026_list_shows_everything_to_everybody(autojump_clock: MockClock) -> None:
    async with in_front_of_varying() as (where, _):
        every: tuple[JsonObject, ...] = ({}, {"sampling": {}})
        for capabilities in every:
            listed = await where.modern("tools/list", capabilities=capabilities)
            assert names(listed) == ["f_plain", "f_sample", "f_url"]
            assert listed.result["cacheScope"] == "public"


@pytest.mark.parametrize(
    "name, capabilities, required",
    [
        pytest.param("f_sample", {}, {"sampling": {}}, id="nothing declared"),
        pytest.param("f_url", {"elicitation": {}}, {"elicitation": {"url": {}}}, id="forms only"),
    ],
)
async def test_a_2026_call_without_what_it_needs_is_told_what_is_missing(
    autojump_clock: MockClock, name: str, capabilities: JsonObject, required: JsonObject
) -> None:
    """T24: 400, -32021 and a ClientCapabilities object; the backend is not asked."""
    async with in_front_of_varying() as (where, scripted):
        reply = await where.modern("tools/call", {"name": name}, capabilities=capabilities)
        assert reply.status == 400
        assert reply.error["code"] == -32021
        assert reply.error["data"] == {"requiredCapabilities": required}
        assert calls(scripted) == 0


async def test_a_2026_call_with_what_it_needs_goes_up_with_the_callers_capabilities(
    autojump_clock: MockClock,
) -> None:
    async with in_front_of_varying() as (where, scripted):
        reply = await where.modern("tools/call", {"name": "f_sample"}, capabilities={"sampling": {}})
        assert reply.result["content"] == [{"type": "text", "text": "sample"}]
        assert scripted.links[-1].identity.capabilities == b'{"sampling":{}}'


async def test_mirrored_arguments_are_checked_before_capabilities(autojump_clock: MockClock) -> None:
    async with in_front_of_varying() as (where, _):
        headers, body = modern_request("tools/call", {"name": "f_sample", "arguments": {"r": "eu"}})
        reply = await where.send("POST", headers=headers | {"Mcp-Param-Region": "us"}, body=body)
        assert reply.error["code"] == -32020


async def test_only_who_is_shown_a_change_is_told_of_it(autojump_clock: MockClock) -> None:
    async with in_front_of_varying() as (where, scripted):
        poor, sampler = await where.session(), await where.session(sampling={})
        streams = [session.stream() for session in (poor, sampler)]
        listening = where.modern_soon("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="l")
        await trio.sleep(10)
        scripted.shown = lambda granted: [*varying(granted), *([tool("more")] if "sampling" in granted else [])]
        await scripted.shout(CHANGED)
        await trio.sleep(10)
        for reply, told in ((streams[0], 0), (streams[1], 1), (listening, 1)):
            changes = [one for one in reply.messages if one.get("method") == "notifications/tools/list_changed"]
            assert len(changes) == told
        assert await tools(sampler) == ["f_plain", "f_sample", "f_more"]


async def test_a_cursor_holds_for_those_who_are_shown_the_same_list(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_gateway.routing.listing_views.PAGE_ITEMS", 1)
    async with in_front_of_varying() as (where, _):
        sampler, urls, like = (
            await where.session(sampling={}),
            await where.session(elicitation=URL),
            await where.session(sampling={"tools": {}}, roots={}),
        )
        cursor = (await sampler.ask("tools/list")).result["nextCursor"]
        assert names(await like.ask("tools/list", {"cursor": cursor})) == ["f_sample"]
        assert (await urls.ask("tools/list", {"cursor": cursor})).error["code"] == -32602


async def test_a_virtual_server_shows_a_client_no_more_than_its_server_would(autojump_clock: MockClock) -> None:
    spec = GatewaySpec(virtual_servers=(VirtualServerSpec(name="v", tools=("f_sample", "f_url")),))
    async with in_front_of_varying(spec=spec) as (where, _):
        assert await tools(await where.session(path="/mcp/vs/v")) == []
        assert await tools(await where.session(path="/mcp/vs/v", sampling={})) == ["f_sample"]


async def test_an_http_sse_client_is_shown_what_it_declares_later_and_told_nothing_stale(
    autojump_clock: MockClock,
) -> None:
    async with in_front_of_varying() as (where, scripted):
        stream = where.begin("GET", headers={"Accept": "text/event-stream"}, path="/sse")
        await stream.until(lambda: stream.events)
        path, _, query = stream.events[0].data.decode().partition("?")

        async def post(body: bytes) -> None:
            await where.send("POST", body=body, path=path, query=query)

        params: JsonObject = {"protocolVersion": "2025-11-25", "capabilities": {"sampling": {}}}
        await post(message("initialize", params, 0))
        await stream.until(lambda: stream.messages)
        scripted.shown = lambda granted: [*varying(granted), *([tool("roots")] if "roots" in granted else [])]
        await trio.sleep(10)
        await scripted.shout(CHANGED)
        await trio.sleep(10)
        backend = where.fleet.get(scripted.key)
        assert backend is not None
        lists = backend.snapshot.lists(Family.LEGACY)
        assert lists is not None
        assert len(lists[Kind.TOOLS].items) == 4
        await post(message("tools/list", None, 1))
        await stream.until(lambda: stream.messages[-1].get("id") == 1)
        assert [one.get("method") for one in stream.messages] == [None, None]  # its list is as it was
        result = stream.messages[-1]["result"]
        assert isinstance(result, dict)
        listed = result["tools"]
        assert isinstance(listed, list)
        assert len(listed) == 2
        stream.leave()


async def test_prompts_and_resources_depend_on_the_client_too(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(capabilities={"prompts": {}, "resources": {}})

    def answering(kind: str, item: JsonObject) -> Handler:
        async def listed(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
            await trio.lowlevel.checkpoint()
            return {kind: [item] if b"roots" in link.identity.capabilities else []}

        return listed

    async def given(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {"messages": [], "contents": []}

    scripted.handlers = {
        "prompts/list": answering("prompts", {"name": "p"}),
        "resources/list": answering("resources", {"name": "r", "uri": "memo://r"}),
        "prompts/get": given,
        "resources/read": given,
    }
    async with scripted_gateway(scripted) as where:
        poor, rooted = await where.session(), await where.session(roots={"listChanged": True})
        assert (await poor.ask("prompts/list")).result == {"prompts": []}
        assert (await rooted.ask("prompts/list")).result == {"prompts": [{"name": "p"}]}
        assert (await poor.ask("prompts/get", {"name": "p"})).error["code"] == -32602
        assert (await rooted.ask("prompts/get", {"name": "p"})).result["messages"] == []
        reads: tuple[tuple[str, JsonObject], ...] = (
            ("prompts/get", {"name": "p"}),
            ("resources/read", {"uri": "memo://r"}),
        )
        for method, params in reads:
            refused = await where.modern(method, params)
            assert (refused.status, refused.error["data"]) == (400, {"requiredCapabilities": {"roots": {}}})
            assert (await where.modern(method, params, capabilities={"roots": {}})).status == 200


async def test_a_name_withheld_while_its_server_is_down_is_withheld_from_who_was_shown_it(
    autojump_clock: MockClock,
) -> None:
    """Invariant 8 in an outage."""
    async with in_front_of_varying() as (where, scripted):
        poor, sampler = await where.session(), await where.session(sampling={})
        scripted.up = False
        scripted.break_streams()
        await trio.sleep(120)
        assert await tools(sampler) == []
        assert (await sampler.call("f_sample")).error["code"] == -33503
        assert (await poor.call("f_sample")).error["code"] == -32602


async def test_a_capable_client_of_a_process_is_shown_and_given_what_needs_it(
    autojump_clock: MockClock,
) -> None:
    piped = ScriptedBackend(transport="stdio", shown=varying, handlers={"tools/call": called})
    async with in_front_of_varying(piped, survey=True) as (where, scripted):
        await trio.sleep(5)
        sampler = await where.session(sampling={})
        assert await tools(sampler) == ["f_plain", "f_sample"]
        assert (await sampler.call("f_sample")).result["content"] == [{"type": "text", "text": "sample"}]
        assert len(scripted.open_links) == 2
        assert scripted.open_links[-1].identity.capabilities == b'{"sampling":{}}'
