"""Servers that list some things only to some clients, over every transport; no session of a survey is left behind."""

import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import orjson
import pytest
import trio

from mcp_gateway.backends.own_requests import GATEWAY
from mcp_gateway.backends.spec_connector import SpecConnector
from mcp_gateway.backends.transports.child import unheard
from mcp_gateway.config.spec import HttpTarget, ServerSpec
from mcp_gateway.errors import BackendProtocol
from mcp_gateway.values import BackendKey
from tests.support import peers
from tests.support.bystanders import status_of
from tests.support.children import ROOT, running_with
from tests.support.gateway import Running, running_gateway
from tests.support.raw_client import Client2025, Message
from tests.support.raw_http import RawConnection, RawRequest, response, result, serve_raw
from tests.support.scripted_link import ASKABLE, deaf

pytestmark = pytest.mark.wire

PATIENCE_S: Final = 15.0
DEAR: Final = ("roots", "sampling")
"""Its conditional tools bear the names of what they need."""


@attrs.define(eq=False)
class Varying:
    """A server over Streamable HTTP; ``spoil`` says what is done instead with a session's ``initialize``."""

    spoil: Callable[[RawConnection], Awaitable[None]] | None = None
    sessions: dict[str, Message] = attrs.field(factory=dict)
    """What each open one declared."""
    ever: list[Message] = attrs.field(factory=list)

    async def __call__(self, connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.method == "GET":
                await connection.send(response(b"", status="405 Method Not Allowed"))
            elif request.method == "DELETE":
                del self.sessions[request.headers["mcp-session-id"]]
                await connection.send(response(b"", status="204 No Content"))
            elif "id" not in request.json:
                await connection.send(response(b"", status="202 Accepted"))
            elif request.json["method"] == "server/discover":
                await connection.send_json(b"{}", status="400 Bad Request")
            elif request.json["method"] == "initialize":
                await self._initialize(connection, request)
            else:
                await connection.send_json(result(request.rpc_id, orjson.dumps(self._answer(request))))

    async def _initialize(self, connection: RawConnection, request: RawRequest) -> None:
        params: Any = request.json["params"]
        declared: Message = params["capabilities"]
        self.ever.append(declared)
        if self.spoil is not None and self.sessions:
            await self.spoil(connection)
            return
        session = uuid.uuid4().hex
        self.sessions[session] = declared
        hello = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "varying", "version": "1"},
        }
        extra = b"Mcp-Session-Id: %b\r\n" % session.encode()
        await connection.send_json(result(request.rpc_id, orjson.dumps(hello)), extra=extra)

    def _answer(self, request: RawRequest) -> Message:
        declared = self.sessions[request.headers["mcp-session-id"]]
        shown = ["echo", *(name for name in DEAR if name in declared)]
        match request.json["method"]:
            case "tools/list":
                return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in shown]}
            case "tools/call":
                params: Any = request.json["params"]
                return {"content": [{"type": "text", "text": "hello" if params["name"] in shown else "no such tool"}]}
            case _:
                return {}


@asynccontextmanager
async def client(running: Running, **capabilities: object) -> AsyncIterator[Client2025]:
    async with running.client2025() as raw:
        await raw.initialize(**capabilities)
        yield raw
        await raw.delete()


async def until_listed(running: Running, count: int) -> None:
    """Wait until so many items are listed for some clients only."""
    with trio.fail_after(PATIENCE_S):
        while (await status_of(running, "it"))["for_some_clients"] != count:  # noqa: ASYNC110  # over HTTP
            await trio.sleep(0.05)
        await running.gateway.table_built()


async def each_client_has_its_tools(running: Running) -> None:
    for declared, shown in (
        ({}, ["it_echo"]),
        ({"sampling": {}}, ["it_echo", "it_sampling"]),
        ({"roots": {"listChanged": True}, "sampling": {}}, ["it_echo", "it_roots", "it_sampling"]),
    ):
        async with client(running, **declared) as raw:
            assert await raw.list() == shown
            answer = await raw.call(shown[-1])
            assert answer["result"]["content"] == [{"type": "text", "text": "hello"}]
    async with running.client2026() as modern:
        assert await modern.list() == ["it_echo", "it_roots", "it_sampling"]
        exchange = await modern.start("tools/call", name="it_roots", arguments={})
        assert exchange.status == 400
        assert (await exchange.response())["error"]["data"] == {"requiredCapabilities": {"roots": {}}}
    async with running.client2026(roots={}) as modern:
        exchange = await modern.start("tools/call", name="it_roots", arguments={})
        assert (await exchange.response())["result"]["content"] == [{"type": "text", "text": "hello"}]


async def test_over_http_each_client_has_its_tools_and_no_session_is_left() -> None:
    varying = Varying()
    async with serve_raw(varying) as server:
        async with running_gateway([{"name": "it", "url": server.url}]) as running:
            assert list(varying.sessions.values()) == [{}]  # the gateway's own: those of the survey have ended
            assert len(varying.ever) == 7
            await each_client_has_its_tools(running)
        assert varying.sessions == {}


async def refuse(connection: RawConnection) -> None:
    await connection.send_json(b'{"error":"one session only"}', status="400 Bad Request")


async def hang(connection: RawConnection) -> None:
    await connection.gone()


async def die(connection: RawConnection) -> None:
    connection.reset()
    raise trio.BrokenResourceError


@pytest.mark.parametrize(
    "spoil",
    [pytest.param(refuse, id="refuses"), pytest.param(hang, id="hangs"), pytest.param(die, id="dies")],
)
async def test_a_server_of_one_session_is_served_as_ever(spoil: Callable[[RawConnection], Awaitable[None]]) -> None:
    varying = Varying(spoil=spoil)
    entry: Message = {"timeouts": {"connect": "500ms", "list": "1s"}, "health": {"interval": "300ms"}}
    async with serve_raw(varying) as server:
        async with running_gateway([{"name": "it", "url": server.url, **entry}]) as running:
            told = await status_of(running, "it")
            assert (told["state"], told["failures"], told["for_some_clients"]) == ("ready", 0, 0)
            (problem,) = told["problems"]
            assert problem["hidden"]
            assert "listed to some clients only" in problem["reason"]
            async with client(running, sampling={}) as raw:
                assert await raw.list() == ["it_echo"]
            await trio.sleep(1)  # several health periods: it is probed on the one session that it has
            told = await status_of(running, "it")
            assert (told["state"], told["transport"], told["restarts"]) == ("ready", "streamable-http", 0)
        assert varying.sessions == {}


async def test_a_refused_second_session_does_not_make_it_a_server_of_the_oldest_transport() -> None:
    varying = Varying(spoil=refuse)
    async with serve_raw(varying) as server:
        connector = SpecConnector(spec=ServerSpec(key=BackendKey("it"), target=HttpTarget(url=server.url)))
        verdict = await connector.detect()
        async with connector.link(verdict, GATEWAY, deaf, unheard):
            with pytest.raises(BackendProtocol):
                async with connector.link(verdict, ASKABLE, deaf, unheard):
                    pass
            assert (await connector.detect()).transport == "streamable-http"
        await connector.aclose()


def varying_process(mark: str) -> Message:
    command = [sys.executable, "-S", "-u", "-m", "tests.support.stdio_servers.varying", mark]
    return {"name": "it", "command": command, "cwd": str(ROOT), "survey": "on"}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
async def test_over_stdio_each_client_has_its_tools_and_no_process_is_left() -> None:
    mark = uuid.uuid4().hex
    async with running_gateway([varying_process(mark)]) as running:
        async with client(running, sampling={}) as early:
            await until_listed(running, 2)
            assert await early.list() == ["it_echo", "it_sampling"]
        with trio.fail_after(PATIENCE_S):
            while len(running_with(mark)) > 1:  # noqa: ASYNC110  # processes of the survey that are ending
                await trio.sleep(0.05)
        await each_client_has_its_tools(running)
    assert running_with(mark) == []


Entry = Callable[[], AbstractAsyncContextManager[Message]]


@asynccontextmanager
async def over_stdio() -> AsyncIterator[Message]:
    yield {"name": "it", "command": [str(word) for word in peers.everything_command()], "survey": "on"}


@asynccontextmanager
async def over_sse() -> AsyncIterator[Message]:
    async with peers.everything_server("sse") as peer:
        yield {"name": "it", "url": peer.url, "transport": "sse"}


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("entry", [pytest.param(over_stdio, id="stdio"), pytest.param(over_sse, id="HTTP+SSE")])
async def test_server_everything_on_a_pipe_is_listed_with_what_it_lists_to_capable_clients(entry: Entry) -> None:
    async with entry() as server, running_gateway([{**server, "timeouts": {"connect": "15s"}}]) as running:
        await until_listed(running, 4)
        both: Message = {"form": {}, "url": {}}
        async with client(running) as poor, client(running, sampling={}, roots={}, elicitation=both) as rich:
            few, many = await poor.list(), await rich.list()
            assert [name for name in many if name in few] == few
            assert {name.removeprefix("it_") for name in {*many} - {*few}} == {
                "get-roots-list",
                "trigger-elicitation-request",
                "trigger-sampling-request",
                "trigger-url-elicitation",
            }
