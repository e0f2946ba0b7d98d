"""A 2025-11-25 client that loses its connection in the middle of a call, on real sockets, more than once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import orjson
import pytest
import trio

from tests.conformance.wire_backend import LEGACY, WireBackend, legacy_backend, modern_backend, tool, wire_backend
from tests.support.gateway import Running, running_gateway
from tests.support.raw_client import Client2025, Exchange
from tests.support.raw_http import RawConnection, RawRequest, RawServer, event, response, result, serve_raw

pytestmark = pytest.mark.wire

CALL = "tools/call"


@attrs.define(eq=False)
class Slow:
    """A backend's call that ends when the test says so."""

    done: trio.Event = attrs.field(factory=trio.Event)

    async def answer(self, request: RawRequest) -> bytes:
        await self.done.wait()
        result = {"resultType": "complete", "content": [{"type": "text", "text": "late"}]}
        return response(orjson.dumps({"jsonrpc": "2.0", "id": request.rpc_id, "result": result}))


@asynccontextmanager
async def slow_call(era: str) -> AsyncIterator[tuple[Running, WireBackend, Client2025, Slow, Exchange]]:
    """A call under way in a session; its stream is open and primed."""
    slow = Slow()
    made = legacy_backend if era == "2025" else modern_backend
    replies = made(tool("read"), tools__call=slow.answer)
    async with wire_backend(replies, session="s" if era == "2025" else "") as backend:
        async with running_gateway([{"name": "f", "url": backend.url}]) as running:
            async with running.client2025(LEGACY) as client:
                await client.initialize()
                call = await client.start(CALL, "mine", name="f_read", arguments={})
                primed = await call.next_event()
                assert primed is not None
                assert (primed["data"], primed["retry"]) == ("", "1000")
                try:
                    yield running, backend, client, slow, call
                finally:
                    slow.done.set()


@asynccontextmanager
async def polling_backend(retry_ms: int, done: trio.Event) -> AsyncIterator[RawServer]:
    """A server that ends a call's stream at once, and answers on the stream that is resumed."""
    asked: list[int] = []
    hello = {"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": {"name": "p", "version": "1"}}
    listed = {"tools": [tool("read")]}

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            method = request.json.get("method") if request.method == "POST" else None
            if request.method == "GET" and "last-event-id" not in request.headers:
                await connection.send(response(b"", status="405 Method Not Allowed"))
            elif request.method == "GET":
                await done.wait()
                answer = result(asked[0], orjson.dumps({"content": [{"type": "text", "text": "late"}]}))
                await connection.begin_events()
                await connection.send_chunk(event(answer, event_id="e-1"))
                await connection.end_chunks()
            elif method == "initialize":
                await connection.send_json(result(request.rpc_id, orjson.dumps(hello)), extra=b"Mcp-Session-Id: s\r\n")
            elif method == "tools/call":
                asked.append(request.rpc_id)
                await connection.begin_events()
                await connection.send_chunk(event(b"", event_id="e-0", retry=retry_ms))
                await connection.end_chunks()
            elif method in ("tools/list", "ping"):
                found = listed if method == "tools/list" else {}
                await connection.send_json(result(request.rpc_id, orjson.dumps(found)))
            else:
                await connection.send(response(b"", status="202 Accepted"))

    async with serve_raw(script) as server:
        yield server


async def test_a_client_polls_for_what_its_server_lets_it_poll_for() -> None:
    done = trio.Event()
    async with polling_backend(20, done) as server:
        async with running_gateway([{"name": "f", "url": server.url, "protocol": LEGACY}]) as running:
            async with running.client2025(LEGACY) as client:
                await client.initialize()
                call = await client.start(CALL, "mine", name="f_read", arguments={})
                primed = await call.next_event()
                assert primed is not None
                assert (primed["data"], primed["retry"]) == ("", "20")
                assert await call.next_event() is None  # it holds no connection while its call runs
                assert len(running.gateway.calls.in_flight) == 1
                resumed = await client.stream(primed["id"])
                done.set()
                assert (await resumed.response())["result"]["content"][0]["text"] == "late"
                await quiet(running)


async def quiet(running: Running) -> None:
    """Wait until nothing of any call or stream is left; a client may see an end before the gateway has put it away."""
    with trio.fail_after(5):
        while len(running.gateway.calls.in_flight) or running.gateway.streams:  # noqa: ASYNC110  # it can only be asked again
            await trio.sleep(0.01)


@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_an_answer_is_found_by_its_event_id_after_two_lost_connections(era: str) -> None:
    async with slow_call(era) as (running, backend, client, slow, call):
        last = call.events[0]["id"]
        await call.hang_up()
        first = await client.stream(last)
        assert first.status == 200
        await first.hang_up()
        second = await client.stream(last)
        slow.done.set()
        answer = await second.response()
        assert (answer["id"], answer["result"]["content"][0]["text"]) == ("mine", "late")
        assert await second.next_event() is None  # the stream ends with the answer
        again = await client.stream(last)  # who has lost that, too
        assert await again.response() == answer
        assert (await client.stream(second.events[-1]["id"])).status == 405
        assert len(backend.asked(CALL)) == 1
        assert backend.asked("notifications/cancelled") == []
        await quiet(running)


async def test_who_resumes_while_the_first_connection_lives_is_the_only_one_to_hear() -> None:
    async with slow_call("2025") as (_, _, client, slow, call):
        resumed = await client.stream(call.events[0]["id"])
        slow.done.set()
        assert (await resumed.response())["id"] == "mine"
        assert await call.next_event() is None


async def test_a_call_whose_client_is_gone_can_still_be_cancelled_and_then_says_nothing() -> None:
    async with slow_call("2025") as (running, backend, client, _, call):
        await call.hang_up()
        resumed = await client.stream(call.events[0]["id"])
        assert (await client.cancel("mine")).status == 202
        assert await resumed.next_event() is None
        await quiet(running)
        assert len(backend.asked("notifications/cancelled")) == 1
        over = await client.stream(call.events[0]["id"])  # or both SDKs would ask for ever
        assert (over.status, over.headers["allow"]) == (405, "POST, DELETE")


async def test_another_session_resumes_nothing_and_two_event_ids_are_none() -> None:
    async with slow_call("2025") as (running, _, client, slow, call):
        await call.hang_up()
        twice = {"Last-Event-ID": call.events[0]["id"], "last-event-id": call.events[0]["id"]}
        assert (await client.http("GET", headers={"Accept": "text/event-stream", **twice})).status == 400
        async with running.client2025(LEGACY) as other:
            await other.initialize()
            assert (await other.stream(call.events[0]["id"])).status == 400
        slow.done.set()
        assert (await (await client.stream(call.events[0]["id"])).response())["id"] == "mine"
