"""What clients of both eras are told when they begin, and what follows from it."""

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import GatewaySpec, SessionsSpec, VirtualServerSpec
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.routing.advertised import PROVIDERS, QUOTED
from mcp_gateway.values import BackendKey, JsonObject
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, tool

FILES, TIME = BackendKey("files"), BackendKey("time")
UI = "io.modelcontextprotocol/ui"
PAGE = "text/html;profile=mcp-app"
SPEC = GatewaySpec(
    sessions=SessionsSpec(signing_keys=(b"0123456789abcdef",)),
    virtual_servers=(VirtualServerSpec(name="v", tools=("time_read",), prompts=("none",), resources=("none",)),),
)


async def told(where: ScriptedGateway, path: str = "/mcp") -> list[dict[str, Any]]:
    """What ``initialize`` and ``server/discover`` say."""
    session = await where.session(path=path)
    discovered = await where.modern("server/discover")
    return [session.hello, discovered.result] if path == "/mcp" else [session.hello]


@pytest.mark.parametrize("era", [V2025_11_25, V2026_07_28], ids=["2025", "2026"])
async def test_both_faces_tell_what_the_servers_tell(autojump_clock: MockClock, era: Era) -> None:
    capabilities: JsonObject = {"tools": {}, "logging": {}, "extensions": {UI: {"mimeTypes": [PAGE]}}}
    files = ScriptedBackend(key=FILES, era=era, capabilities=capabilities, instructions="Paths are absolute.")
    time = ScriptedBackend(key=TIME, era=era, capabilities={"tools": {}, "experimental": {"acme": {"n": 1}}})
    async with scripted_gateway(files, time, spec=SPEC) as where:
        for said in await told(where):
            assert said["capabilities"] == {
                "tools": {"listChanged": True},
                "prompts": {"listChanged": True},
                "resources": {"listChanged": True},
                "logging": {},
                "extensions": {UI: {"mimeTypes": [PAGE]}},
                "experimental": {"acme": {"n": 1}},
            }
            assert said["instructions"] == f"{QUOTED}\nfiles\n> Paths are absolute.\ntime"
            assert said["_meta"][PROVIDERS] == {"extensions": {UI: ["files"]}, "experimental": {"acme": ["time"]}}


async def test_a_virtual_server_tells_of_its_own_servers_only(autojump_clock: MockClock) -> None:
    files = ScriptedBackend(key=FILES, capabilities={"tools": {}, "extensions": {UI: {}}}, instructions="Secret words.")
    time = ScriptedBackend(key=TIME, instructions="UTC.")
    prefixes: dict[str, str] = {FILES: "files_", TIME: "time_"}
    async with scripted_gateway(files, time, spec=SPEC, prefixes=prefixes) as where:
        (said,) = await told(where, "/mcp/vs/v")
        assert "extensions" not in said["capabilities"]
        assert "_meta" not in said
        assert said["instructions"] == f"{QUOTED}\ntime (names begin with time_)\n> UTC."


async def test_all_is_advertised_while_a_server_has_not_been_discovered(autojump_clock: MockClock) -> None:
    down = ScriptedBackend(key=TIME, up=False)
    async with scripted_gateway(ScriptedBackend(key=FILES), down, spec=SPEC) as where:
        for said in await told(where):
            assert said["capabilities"].keys() >= {"completions", "logging"}
            assert said["capabilities"]["resources"] == {"subscribe": True, "listChanged": True}
        down.up = True
        await trio.sleep(40)
        for said in await told(where):
            assert said["capabilities"].keys() == {"tools", "prompts", "resources"}
            assert said["capabilities"]["resources"] == {"listChanged": True}


async def test_an_entry_can_end_its_servers_words(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(key=FILES, instructions="Buy more.")) as where:
        servers = tuple(attrs.evolve(one, own_instructions=False) for one in where.spec.value.servers)
        where.spec.set(attrs.evolve(where.spec.value, servers=servers))
        await where.fleet.apply(where.spec.value)
        await trio.sleep(2)
        for said in await told(where):
            assert said["instructions"] == "files"


# --- MCP Apps: a client sees a tool, and the page that shows it, under one URI ---


def app(key: BackendKey, era: Era, linked: str = "ui://page") -> ScriptedBackend:
    """A server with a tool, its page, and a tool that only the page may call."""
    shown: JsonObject = {**tool("show"), "_meta": {"ui": {"resourceUri": linked}}}
    page: JsonObject = {"uri": "ui://page", "name": "page", "mimeType": PAGE, "_meta": {"ui": {"prefersBorder": True}}}

    async def resources(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {"resources": [page]}

    async def read(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        assert params["uri"] == "ui://page"
        return {"contents": [{"uri": "ui://page", "mimeType": PAGE, "text": key, "_meta": {"ui": {"csp": {}}}}]}

    async def call(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {"content": [{"type": "resource_link", "uri": linked}], "_meta": {"ui": {"resourceUri": linked}}}

    return ScriptedBackend(
        key=key,
        era=era,
        capabilities={"tools": {}, "resources": {}, "extensions": {UI: {"mimeTypes": [PAGE]}}},
        tools=[shown],
        handlers={"resources/list": resources, "resources/read": read, "tools/call": call},
    )


class Client2025:
    """A client of MCP Apps on a session."""

    def __init__(self, where: ScriptedGateway, path: str) -> None:
        self.where, self.path = where, path

    async def ask(self, method: str, params: JsonObject) -> RecordedReply:
        session = await self.where.session(path=self.path, extensions={UI: {"mimeTypes": [PAGE]}})
        assert UI in session.hello["capabilities"]["extensions"]  # type: ignore[index,call-overload,operator]  # raw JSON
        return await session.ask(method, params)


class Client2026:
    """The same without one."""

    def __init__(self, where: ScriptedGateway, path: str) -> None:
        self.where, self.path = where, path

    async def ask(self, method: str, params: JsonObject) -> RecordedReply:
        return await self.where.modern(method, params)


@pytest.mark.parametrize("era", [V2025_11_25, V2026_07_28], ids=["2025 server", "2026 server"])
@pytest.mark.parametrize("client, path", [(Client2025, "/mcp"), (Client2025, "/mcp/vs/v"), (Client2026, "/mcp")])
@pytest.mark.parametrize("prefixed", [True, False], ids=["prefix", "no prefix"])
async def test_an_app_is_the_same_thing_in_tools_results_resources_and_when_it_is_read(
    autojump_clock: MockClock, era: Era, client: type[Client2025 | Client2026], path: str, prefixed: bool
) -> None:
    """Acceptance cases K-142, K-143, K-147."""
    prefixes: dict[str, str] = {FILES: "files_", TIME: "time_"} if prefixed else {}
    mine, uri = ("time_show", "ui://time/page") if prefixed else ("show", "ui://page")
    chosen = VirtualServerSpec(name="v", tools=(mine,), resources=(uri,))
    spec = attrs.evolve(SPEC, virtual_servers=(chosen,))
    backends = [app(TIME, era), *([app(FILES, era)] if prefixed else [])]
    async with scripted_gateway(*backends, spec=spec, prefixes=prefixes) as where:
        person = client(where, path)
        tools: Any = (await person.ask("tools/list", {})).result["tools"]
        (shown,) = [one for one in tools if one["name"] == mine]
        assert shown["_meta"]["ui"]["resourceUri"] == uri
        called: Any = (await person.ask("tools/call", {"name": mine, "arguments": {}})).result
        assert called["_meta"]["ui"]["resourceUri"] == uri
        listed: Any = (await person.ask("resources/list", {})).result["resources"]
        (page,) = [one for one in listed if one["uri"] == uri]
        assert (page["mimeType"], page["_meta"]) == (PAGE, {"ui": {"prefersBorder": True}})
        read: Any = (await person.ask("resources/read", {"uri": uri})).result["contents"]
        assert (read[0]["uri"], read[0]["mimeType"], read[0]["text"]) == (uri, PAGE, TIME)
        assert read[0]["_meta"] == {"ui": {"csp": {}}}
        assert backends[0].asked("tools/call") == 1


@pytest.mark.parametrize("era", [V2025_11_25, V2026_07_28], ids=["2025 server", "2026 server"])
@pytest.mark.parametrize("client", [Client2025, Client2026])
async def test_a_page_on_the_web_keeps_its_uri(
    autojump_clock: MockClock, era: Era, client: type[Client2025 | Client2026]
) -> None:
    """Acceptance case K-145."""
    page = "https://widgets.example.com/page"
    async with scripted_gateway(app(TIME, era, page), spec=SPEC, prefixes={TIME: "time_"}) as where:
        person = client(where, "/mcp")
        tools: Any = (await person.ask("tools/list", {})).result["tools"]
        assert [one["_meta"]["ui"]["resourceUri"] for one in tools] == [page]
        called: Any = (await person.ask("tools/call", {"name": "time_show", "arguments": {}})).result
        assert called["_meta"]["ui"]["resourceUri"] == called["content"][0]["uri"] == page


async def test_a_page_that_no_list_names_can_be_read_by_who_sees_its_tool(autojump_clock: MockClock) -> None:
    time = app(TIME, V2025_11_25)
    time.handlers.pop("resources/list")
    chosen = VirtualServerSpec(name="v", tools=("time_show",), resources=("none",))
    spec = attrs.evolve(SPEC, virtual_servers=(chosen,))
    async with scripted_gateway(time, spec=spec, prefixes={TIME: "time_"}) as where:
        read = await Client2025(where, "/mcp/vs/v").ask("resources/read", {"uri": "ui://time/page"})
        contents: Any = read.result["contents"]
        assert contents[0]["uri"] == "ui://time/page"


async def test_servers_hear_that_their_client_can_show_pages(autojump_clock: MockClock) -> None:
    time = app(TIME, V2025_11_25)
    async with scripted_gateway(time, spec=SPEC) as where:
        await Client2025(where, "/mcp").ask("tools/call", {"name": "show", "arguments": {}})
        assert b"io.modelcontextprotocol/ui" in time.links[-1].identity.capabilities
