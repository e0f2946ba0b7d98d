"""Section 2 on real sockets: one call with everything in it, in all four pairs of eras, seen from both ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import orjson
import pytest
import trio

from tests.conformance.wire_backend import LEGACY, MODERN, discovered, initialized, page, tool
from tests.support.gateway import Running, gateway_process, running_gateway
from tests.support.raw_client import Message
from tests.support.raw_http import RawConnection, RawRequest, RawServer, event, response, result, serve_raw
from tests.support.recorder import recorder

pytestmark = pytest.mark.wire

META = "io.modelcontextprotocol/"
ERAS = [pytest.param(LEGACY, id="2025 backend"), pytest.param(MODERN, id="2026 backend")]
ABLE = {"roots": {"listChanged": True}, "experimental": {"vendor/x": {"a": [1]}}, "vendor": {"deep": {"er": 1}}}
ROOTS = {"roots": [{"uri": "file:///r"}]}


@attrs.define(eq=False)
class Worker:
    """A server of one era whose tool reports progress, logs, asks for the roots and then answers."""

    version: str
    server: RawServer = attrs.field(init=False)
    answered: trio.Event = attrs.field(factory=trio.Event)
    answers: list[Message] = attrs.field(factory=list)

    def asked(self, method: str) -> list[Message]:
        bodies: list[Message] = list(self.server.bodies)
        return [body for body in bodies if body.get("method") == method]

    async def serve(self, connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.method != "POST":
                await connection.send(response(b"", status="405 Method Not Allowed"))
            elif request.json.get("method") == "tools/call":
                await self._work(connection, request)
            else:
                await connection.send(self._other(request))

    def _other(self, request: RawRequest) -> bytes:
        method = request.json.get("method")
        if "id" not in request.json or method is None:
            if method is None:
                self.answers.append(dict(request.json))
                self.answered.set()
            return response(b"", status="202 Accepted")
        capabilities: Message = {"tools": {}, "logging": {}}
        found: object = {}
        match method:
            case "server/discover" if self.version == MODERN:
                found = discovered(capabilities)(request)
            case "initialize" if self.version == LEGACY:
                found = initialized(LEGACY, capabilities)(request)
            case "tools/list":
                found = page("tools", tool("work")) if self.version == MODERN else {"tools": [tool("work")]}
            case "ping" | "logging/setLevel":
                pass
            case _:
                refusal = {"jsonrpc": "2.0", "id": request.rpc_id, "error": {"code": -32601, "message": "no"}}
                return response(orjson.dumps(refusal), status="404 Not Found")
        extra = b"Mcp-Session-Id: s-1\r\n" if method == "initialize" else b""
        return response(result(request.rpc_id, orjson.dumps(found)), extra=extra)

    async def _work(self, connection: RawConnection, request: RawRequest) -> None:
        params: Message = request.json["params"]  # type: ignore[assignment]  # raw JSON
        token, goes_on = params["_meta"]["progressToken"], "inputResponses" in params
        await connection.begin_events()

        async def say(method: str, **more: object) -> None:
            await connection.send_chunk(event(orjson.dumps({"jsonrpc": "2.0", "method": method, "params": more})))

        await say("notifications/progress", progressToken=token, progress=2 if goes_on else 1)
        for level in ("debug", "error"):
            await say("notifications/message", level=level, data="late" if goes_on else "early")
        if self.version == LEGACY:
            await connection.send_chunk(event(b'{"jsonrpc":"2.0","id":"q","method":"roots/list"}'))
            await self.answered.wait()
            await say("notifications/progress", progressToken=token, progress=2)
            final: Message = {"content": [], "got": self.answers[-1].get("result")}
        elif goes_on:
            final = {"resultType": "complete", "content": [], "got": params["inputResponses"]["r"]}
        else:
            asks = {"r": {"method": "roots/list", "params": {}}}
            final = {"resultType": "input_required", "inputRequests": asks, "requestState": "opaque"}
        await connection.send_chunk(event(result(request.rpc_id, orjson.dumps(final))))
        await connection.end_chunks()


@asynccontextmanager
async def worker(version: str) -> AsyncIterator[tuple[Worker, Running]]:
    found = Worker(version)
    async with serve_raw(found.serve) as server:
        found.server = server
        entry = {"name": "w", "url": server.url, "protocol": version}
        async with running_gateway([entry]) as running:
            yield found, running


def told(messages: list[Message], method: str) -> list[Message]:
    return [one["params"] for one in messages if one.get("method") == method]


def seen_by_the_backend(backend: Worker, level: str) -> None:
    """Whose capabilities and name it was given, its own token, and the level; never the gateway's."""
    calls = backend.asked("tools/call")
    assert [call["params"]["_meta"]["progressToken"] for call in calls] == [call["id"] for call in calls]
    if backend.version == MODERN:
        for call in calls:
            meta = call["params"]["_meta"]
            assert (meta[META + "clientCapabilities"], meta[META + "logLevel"]) == (ABLE, level)
            assert meta[META + "clientInfo"]["name"] == "raw-client"
        assert [META + "clientCapabilities" in one["params"]["_meta"] for one in backend.asked("server/discover")]
    else:
        assert [one["params"] for one in backend.asked("logging/setLevel")] == [{"level": level}]
        own, survey, client = (one["params"] for one in backend.asked("initialize"))
        assert (own["capabilities"], own["clientInfo"]["name"]) == ({}, "mcp-gateway")
        assert survey["clientInfo"]["name"] == "mcp-gateway"
        assert (client["capabilities"], client["clientInfo"]["name"]) == (ABLE, "raw-client")
        assert backend.answers == [{"jsonrpc": "2.0", "id": "q", "result": ROOTS}]
    for own_request in (*backend.asked("tools/list"), *backend.asked("ping"), *backend.asked("server/discover")):
        declared = own_request.get("params", {}).get("_meta", {}).get(META + "clientCapabilities", {})
        assert declared == {}


@pytest.mark.parametrize("version", ERAS)
async def test_s2_a_2025_client_gets_its_whole_call(version: str) -> None:
    async with worker(version) as (backend, running), running.client2025() as client:
        await client.initialize(**ABLE)
        await client.ask("logging/setLevel", level="error")
        exchange = await client.start("tools/call", "mine", name="w_work", arguments={}, _meta={"progressToken": "t"})
        messages: list[Message] = []
        while (message := await exchange.next()) is not None:
            messages.append(message)
            if message.get("method") == "roots/list":
                assert (await client.respond(message["id"], ROOTS)).status == 202
        assert told(messages, "notifications/progress") == [{"progressToken": "t", "progress": n} for n in (1, 2)]
        assert {one["level"] for one in told(messages, "notifications/message")} == {"error"}
        assert messages[-1] == {"jsonrpc": "2.0", "id": "mine", "result": {"content": [], "got": ROOTS}}
        seen_by_the_backend(backend, "error")


@pytest.mark.parametrize("version", ERAS)
async def test_s2_a_2026_client_gets_its_whole_call(version: str) -> None:
    async with worker(version) as (backend, running), running.client2026(**ABLE) as client:

        async def call(number: int, **more: object) -> list[Message]:
            meta = {"progressToken": number, META + "logLevel": "error"}
            params: Message = {"name": "w_work", "arguments": {"a": 1}, "_meta": meta, **more}
            exchange = await client.start("tools/call", f"id-{number}", None, **params)
            return await exchange.all()

        first = await call(1)
        interim = first[-1]["result"]
        assert (first[-1]["id"], interim["resultType"]) == ("id-1", "input_required")
        ((key, question),) = interim["inputRequests"].items()
        assert question == {"method": "roots/list", "params": {}}
        last = await call(2, inputResponses={key: ROOTS}, requestState=interim["requestState"])
        assert told(first, "notifications/progress") == [{"progressToken": 1, "progress": 1}]
        assert told(last, "notifications/progress") == [{"progressToken": 2, "progress": 2}]
        for messages in (first, last):
            assert {one["level"] for one in told(messages, "notifications/message")} <= {"error"}
        assert told(first, "notifications/message") == [{"level": "error", "data": "early"}]
        final = last[-1]["result"]
        assert (last[-1]["id"], final["resultType"], final["got"]) == ("id-2", "complete", ROOTS)
        seen_by_the_backend(backend, "error")


async def test_s2_a_drain_declines_and_cancels_what_is_parked() -> None:
    found = Worker(LEGACY)
    async with serve_raw(found.serve) as server:
        found.server = server
        config = {"servers": [{"name": "w", "url": server.url, "protocol": LEGACY}], "drain": {"grace": "1s"}}
        async with gateway_process(config) as process, process.client2026(**ABLE) as client:
            meta = {"progressToken": 1}
            first = (await client.ask("tools/call", name="w_work", arguments={}, _meta=meta))["result"]
            assert first["resultType"] == "input_required"
            assert await process.stop() == 0
        assert [one["error"]["code"] for one in found.answers] == [-1]
        (call,) = found.asked("tools/call")
        (cancelled,) = found.asked("notifications/cancelled")
        assert cancelled["params"] == {"requestId": call["id"], "reason": "gateway is shutting down"}
        assert [one.method for one in server.requests].count("DELETE") == 3  # own session, survey, call


@pytest.mark.parametrize("name, how", [("old", "notice"), ("new", "closed")])
@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_s2_a_cancel_arrives_in_the_backends_own_way(era: str, name: str, how: str) -> None:
    async with recorder() as backends, running_gateway(backends.entries()) as running:
        if era == "2025":
            async with running.client2025() as old, trio.open_nursery() as nursery:
                await old.initialize()
                answers: list[Message] = []

                async def call() -> None:
                    exchange = await old.start("tools/call", "mine", name=f"{name}_hang", arguments={})
                    answers.extend(await exchange.all())

                nursery.start_soon(call)
                await backends.until_arrived(1)
                await old.cancel("mine")
                with trio.fail_after(2):
                    await backends.until_told(1)
            assert [one["error"]["code"] for one in answers] == [-33499]
        else:
            async with running.client2026() as new, trio.open_nursery() as nursery:

                async def begin() -> None:
                    await new.start("tools/call", name=f"{name}_hang", arguments={})

                nursery.start_soon(begin)
                await backends.until_arrived(1)
                nursery.cancel_scope.cancel("the client leaves")
            with trio.fail_after(2):
                await backends.until_told(1)
        assert [(one.server, one.how) for one in backends.told] == [(name, how)]
