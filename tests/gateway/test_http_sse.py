"""HTTP+SSE, the transport of 2024-11-05: everything comes back on the session's one stream."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import orjson
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import GatewayLimits, GatewaySpec, HttpSpec
from mcp_gateway.gateway.call.deadline import Cause
from mcp_gateway.gateway.faces.http_sse import MAX_PENDING
from mcp_gateway.values import JsonObject
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, message, scripted_gateway
from tests.support.scripted_link import Handler, ScriptedBackend, ScriptedLink, notice, question

HELLO: JsonObject = {"protocolVersion": "2025-11-25", "capabilities": {"roots": {}}, "clientInfo": {"name": "old"}}


@attrs.frozen
class OldClient:
    where: ScriptedGateway
    stream: RecordedReply

    async def post(self, body: bytes) -> RecordedReply:
        path, _, query = self.stream.events[0].data.decode().partition("?")
        return await self.where.send("POST", path=path, query=query, body=body)

    async def ask(self, method: str, params: JsonObject | None = None, request_id: int = 1) -> int:
        return (await self.post(message(method, params, request_id))).status


@asynccontextmanager
async def old_client(handler: Handler | None = None, keep_alive_s: float = 15) -> AsyncIterator[OldClient]:
    spec = GatewaySpec(http=HttpSpec(keep_alive_s=keep_alive_s))
    handlers = {"tools/call": handler} if handler is not None else {}
    async with scripted_gateway(ScriptedBackend(handlers=handlers), spec=spec) as where:
        stream = where.begin("GET", path="/sse", headers={"Accept": "text/event-stream"})
        await stream.until(lambda: stream.events)
        client = OldClient(where, stream)
        await client.ask("initialize", HELLO, 0)
        await stream.until(lambda: stream.messages)
        yield client


async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await hear(notice("notifications/message", level="info", data="working"))
    await trio.sleep(20)
    return {"content": []}


async def asking(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await hear(question("roots/list"))
    while not link.said:  # noqa: ASYNC110  # the clock is virtual
        await trio.sleep(0.1)
    return {"answer": orjson.loads(link.said.pop(0))}


async def test_a_quiet_stream_gets_comments(autojump_clock: MockClock) -> None:
    async with old_client(keep_alive_s=2) as client:
        await trio.sleep(9)
        assert client.stream.comments == 4
        client.stream.gone = True
        await trio.sleep(3)
        assert len(client.where.gateway.context.sessions) == 0


async def test_a_call_speaks_and_answers_on_the_stream(autojump_clock: MockClock) -> None:
    async with old_client(slow) as client:
        assert await client.ask("tools/call", {"name": "read"}) == 202
        await client.stream.until(lambda: len(client.stream.messages) == 3)
        note, answer = client.stream.messages[1:]
        assert note["method"] == "notifications/message"
        assert answer == {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}
        assert client.stream.events[-1].event_id is None


async def test_initialize_must_come_first(autojump_clock: MockClock) -> None:
    async with old_client() as client:
        await client.ask("tools/call", {"name": "read"})
        await client.stream.until(lambda: len(client.stream.messages) == 2)
        await client.ask("initialize", HELLO, 5)
        await client.stream.until(lambda: len(client.stream.messages) == 3)
        assert client.stream.messages[-1]["error"]["code"] == -32600  # type: ignore[index,call-overload]  # raw JSON


async def test_answers_and_cancellations_pass_when_the_bound_of_requests_is_reached(autojump_clock: MockClock) -> None:
    async with old_client(asking) as client:
        for number in range(MAX_PENDING):
            assert await client.ask("tools/call", {"name": "read"}, number + 1) == 202
        refused = await client.post(message("ping", None, 1000))
        assert refused.status == 503
        assert refused.header(b"retry-after") == "1"
        await client.stream.until(lambda: len(client.stream.messages) == 1 + MAX_PENDING)
        asked = [one["id"] for one in client.stream.messages[1:]]
        cancel = message("notifications/cancelled", {"requestId": 7})
        assert (await client.post(cancel)).status == 202
        await wait_all_tasks_blocked()
        assert len(client.where.gateway.calls.in_flight) == MAX_PENDING - 1
        for request_id in asked:
            answer = orjson.dumps({"jsonrpc": "2.0", "id": request_id, "result": {"roots": []}})
            assert (await client.post(answer)).status == 202
        await client.stream.until(lambda: len(client.stream.messages) == 2 * MAX_PENDING)
        assert await client.ask("ping", None, 1001) == 202


@pytest.mark.parametrize("patience", ["enough", "too little"])
async def test_in_a_drain_running_calls_still_answer(autojump_clock: MockClock, patience: str) -> None:
    async with old_client(slow) as client:
        await client.ask("tools/call", {"name": "read"})
        await client.stream.until(lambda: len(client.stream.messages) == 2)
        client.where.gateway.end_streams()
        if patience == "too little":
            await trio.sleep(1)
            client.where.gateway.calls.cut_all(Cause.DRAIN)
        await client.stream.until(lambda: client.stream.closed)
        assert ("result" in client.stream.messages[2]) == (patience == "enough")


async def test_a_client_that_leaves_takes_its_calls_and_its_session_along(autojump_clock: MockClock) -> None:
    async with old_client(slow) as client:
        await client.ask("tools/call", {"name": "read"})
        await wait_all_tasks_blocked()
        client.stream.leave()
        await wait_all_tasks_blocked()
        assert len(client.where.gateway.calls.in_flight) == 0
        assert len(client.where.gateway.context.sessions) == 0


async def test_no_room_for_one_more_session_is_503(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(), limits=GatewayLimits(sessions=1)) as where:
        busy = where.begin("GET", path="/sse")
        await busy.until(lambda: busy.events)
        refused = await where.send("GET", path="/sse")
        assert (refused.status, refused.header(b"retry-after")) == (503, "1")
