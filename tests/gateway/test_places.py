"""Gateways by Host and virtual servers by path or header: what is served where, and that nothing crosses over."""

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.config.spec import GatewayEntry, GatewaySpec, HttpTarget, ServerSpec, SessionsSpec, VirtualServerSpec
from mcp_gateway.values import BackendKey, GatewayName, JsonObject
from tests.support.scripted_gateway import ScriptedGateway, message, modern_request, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, tool

TIME, MAIL = BackendKey("time"), BackendKey("mail")
SPEC = GatewaySpec(
    servers=(ServerSpec(key=TIME, target=HttpTarget(url="http://a")),),
    sessions=SessionsSpec(signing_keys=(b"0123456789abcdef",)),
    virtual_servers=(VirtualServerSpec(name="finance", tools=("send",)), VirtualServerSpec(name="team/clock")),
    gateways=(
        GatewayEntry(name=GatewayName("one"), hosts=("mcp.example.com",), servers=(TIME,), virtual_servers=()),
        GatewayEntry(name=GatewayName("two"), hosts=("*.mcp.local",), servers=(TIME, MAIL)),
    ),
)


def backends() -> tuple[ScriptedBackend, ScriptedBackend]:
    return (
        ScriptedBackend(key=TIME, tools=[tool("now")]),
        ScriptedBackend(key=MAIL, tools=[tool("send"), tool("read")]),
    )


async def tools(where: ScriptedGateway, host: str, path: str = "/mcp") -> list[str]:
    """The names a modern client sees there."""
    headers, body = modern_request("tools/list")
    reply = await where.send("POST", headers={**headers, "Host": host}, body=body, path=path)
    found = reply.result["tools"]
    assert isinstance(found, list)
    return [str(one["name"]) for one in found if isinstance(one, dict)]


@pytest.mark.parametrize(
    "host, path, names",
    [
        pytest.param("mcp.example.com", "/mcp", ["now"], id="exact"),
        pytest.param("MCP.example.COM.:8080", "/mcp", ["now"], id="case, dot and port do not matter"),
        pytest.param("a.b.mcp.local:80", "/mcp", ["now", "send", "read"], id="wildcard"),
        pytest.param("x.mcp.local", "/mcp/vs/finance", ["send"], id="virtual server"),
        pytest.param("x.mcp.local", "/mcp/vs/team/clock", [], id="a name with a slash, nothing selected"),
    ],
)
async def test_host_and_path_choose_what_is_seen(
    autojump_clock: MockClock, host: str, path: str, names: list[str]
) -> None:
    async with scripted_gateway(*backends(), spec=SPEC) as where:
        assert await tools(where, host, path) == names


@pytest.mark.parametrize(
    "host, path",
    [
        pytest.param("mcp.example.com", "/mcp/vs/finance", id="of another gateway"),
        pytest.param("x.mcp.local", "/mcp/vs/unknown", id="unknown"),
        pytest.param("x.mcp.local", "/mcp/vs/", id="without a name"),
    ],
)
async def test_a_virtual_server_that_is_not_there_is_404(autojump_clock: MockClock, host: str, path: str) -> None:
    async with scripted_gateway(*backends(), spec=SPEC) as where:
        headers, body = modern_request("tools/list")
        assert (await where.send("POST", headers={**headers, "Host": host}, body=body, path=path)).status == 404


CHOSEN = "X-MCP-Virtualserver"


@pytest.mark.parametrize(
    "path, header, names",
    [
        pytest.param("/mcp", "finance", ["send"], id="by header"),
        pytest.param("/mcp", " team/clock ", [], id="a name with a slash and spaces around it"),
        pytest.param("/mcp/vs/finance", "finance", ["send"], id="both the same"),
    ],
)
async def test_a_header_narrows_one_request(
    autojump_clock: MockClock, path: str, header: str, names: list[str]
) -> None:
    async with scripted_gateway(*backends(), spec=SPEC) as where:
        headers, body = modern_request("tools/list")
        headers = {**headers, "Host": "x.mcp.local", CHOSEN: header}
        found = (await where.send("POST", headers=headers, body=body, path=path)).result["tools"]
        assert isinstance(found, list)
        assert [one["name"] for one in found if isinstance(one, dict)] == names
        assert await tools(where, "x.mcp.local") == ["now", "send", "read"]


@pytest.mark.parametrize(
    "host, path, header, status",
    [
        pytest.param("x.mcp.local", "/mcp", "unknown", 404, id="unknown"),
        pytest.param("mcp.example.com", "/mcp", "finance", 404, id="of another gateway"),
        pytest.param("x.mcp.local", "/mcp", "", 400, id="empty"),
        pytest.param("x.mcp.local", "/mcp/vs/finance", "team/clock", 400, id="another one than the path's"),
        pytest.param("x.mcp.local", "/mcp/vs/", "finance", 400, id="a path without a name"),
    ],
)
async def test_a_header_that_cannot_be_obeyed_is_refused(
    autojump_clock: MockClock, host: str, path: str, header: str, status: int
) -> None:
    async with scripted_gateway(*backends(), spec=SPEC) as where:
        headers, body = modern_request("tools/list")
        headers = {**headers, "Host": host, CHOSEN: header}
        assert (await where.send("POST", headers=headers, body=body, path=path)).status == status


async def test_two_headers_are_refused_even_if_they_agree(autojump_clock: MockClock) -> None:
    async with scripted_gateway(*backends(), spec=SPEC) as where:
        headers, body = modern_request("tools/list")
        once = {**headers, "Host": "x.mcp.local", CHOSEN: "finance"}
        assert (await where.send("POST", headers=once, body=body)).status == 200
        again = ((CHOSEN.lower(), "finance"),)
        assert (await where.send("POST", headers=once, again=again, body=body)).status == 400


async def test_a_header_hides_what_it_does_not_select_from_calls_too(autojump_clock: MockClock) -> None:
    """Invariant 8."""
    time, mail = backends()
    async with scripted_gateway(time, mail, spec=SPEC) as where:
        answers = []
        for name in ("read", "nosuch"):
            headers, body = modern_request("tools/call", {"name": name})
            reply = await where.send("POST", headers={**headers, "Host": "x.mcp.local", CHOSEN: "finance"}, body=body)
            answers.append((reply.status, str(reply.error).replace(name, "NAME")))
        assert len(set(answers)) == 1
        assert mail.asked("tools/call") == 0


async def test_a_session_is_not_bound_to_a_header(autojump_clock: MockClock) -> None:
    """What it sees follows each request, what it is told of follows ``initialize``."""
    _, mail = two = backends()
    async with scripted_gateway(*two, spec=SPEC) as where:
        hello: JsonObject = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}
        chosen = {"Host": "x.mcp.local", CHOSEN: "finance"}
        opened = await where.send("POST", headers=chosen, body=message("initialize", hello, 0))
        session = {"Mcp-Session-Id": str(opened.header(b"mcp-session-id")), "Host": "x.mcp.local"}

        async def names(**more: str) -> list[object]:
            reply = await where.send("POST", headers={**session, **more}, body=message("tools/list", {}, 1))
            found = reply.result["tools"]
            assert isinstance(found, list)
            return [one["name"] for one in found if isinstance(one, dict)]

        assert await names(**{CHOSEN: "finance"}) == ["send"]
        assert await names() == ["now", "send", "read"]
        assert await names(**{CHOSEN: "finance"}) == ["send"]
        stream = where.begin("GET", headers={**session, "Accept": "text/event-stream"})
        await trio.sleep(1)
        mail.tools.append(tool("archive"))  # not selected
        backend = where.fleet.get(MAIL)
        assert backend is not None
        backend.supervisor.refresh()
        await trio.sleep(5)
        assert stream.messages == []


async def test_a_tool_of_another_place_is_unknown_there(autojump_clock: MockClock) -> None:
    """Invariants 4 and 8: what is not shown in a place cannot be called there, and looks like what never was."""
    time, mail = backends()
    async with scripted_gateway(time, mail, spec=SPEC) as where:
        answers = []
        for host, path, name in (
            ("mcp.example.com", "/mcp", "send"),
            ("mcp.example.com", "/mcp", "nosuch"),
            ("x.mcp.local", "/mcp/vs/finance", "read"),
        ):
            headers, body = modern_request("tools/call", {"name": name})
            reply = await where.send("POST", headers={**headers, "Host": host}, body=body, path=path)
            answers.append((reply.status, str(reply.error).replace(name, "NAME")))
        assert len(set(answers)) == 1
        assert time.asked("tools/call") == mail.asked("tools/call") == 0


async def test_invariant_4_a_session_belongs_to_its_gateway_and_virtual_server(autojump_clock: MockClock) -> None:
    async with scripted_gateway(*backends(), spec=SPEC) as where:
        hello: JsonObject = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}
        opened = await where.send(
            "POST", headers={"Host": "x.mcp.local"}, body=message("initialize", hello, 0), path="/mcp/vs/finance"
        )
        session = {"Mcp-Session-Id": str(opened.header(b"mcp-session-id"))}

        async def status(host: str, path: str, method: str = "POST") -> int:
            headers = {**session, "Host": host, "Accept": "application/json, text/event-stream"}
            body = message("tools/list", {}, 1) if method == "POST" else b""
            return (await where.send(method, headers=headers, body=body, path=path)).status

        assert await status("x.mcp.local", "/mcp/vs/finance") == 200
        assert await status("x.mcp.local", "/mcp") == 404
        assert await status("mcp.example.com", "/mcp") == 404
        assert await status("x.mcp.local", "/mcp", "GET") == 404
        assert await status("x.mcp.local", "/mcp", "DELETE") == 404
        assert await status("x.mcp.local", "/mcp/vs/finance", "DELETE") == 204


async def test_only_the_places_that_show_a_change_are_told(autojump_clock: MockClock) -> None:
    time, mail = backends()
    async with scripted_gateway(time, mail, spec=SPEC) as where:
        streams = {}
        for host in ("mcp.example.com", "x.mcp.local"):
            headers, body = modern_request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
            streams[host] = where.begin("POST", headers={**headers, "Host": host}, body=body)
        await trio.sleep(1)
        assert [len(stream.messages) for stream in streams.values()] == [1, 1]  # the acknowledgements
        mail.tools.append(tool("archive"))
        backend = where.fleet.get(MAIL)
        assert backend is not None
        backend.supervisor.refresh()
        await trio.sleep(5)
        assert len(streams["x.mcp.local"].messages) == 2
        assert len(streams["mcp.example.com"].messages) == 1


async def test_instructions_are_the_configured_text_or_one_line_per_server(autojump_clock: MockClock) -> None:
    async with scripted_gateway(*backends()) as where:
        assert (await where.session()).hello["instructions"] == "time\nmail"
    spec = GatewaySpec(instructions="Ask time first.", sessions=SPEC.sessions)
    async with scripted_gateway(*backends(), spec=spec) as where:
        assert (await where.session()).hello["instructions"] == "Ask time first."
        assert (await where.modern("server/discover")).result["instructions"] == "Ask time first."
