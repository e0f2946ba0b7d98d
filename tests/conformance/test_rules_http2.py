"""Reference 1.2 over HTTP/2: many requests share a connection, and a stream that is reset is a client that left."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import attrs
import orjson
import pytest
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded

from mcp_gateway.values import JsonObject
from tests.conformance.wire_backend import LEGACY, WireBackend, legacy_backend, modern_backend, tool, wire_backend
from tests.support.gateway import Running, running_gateway
from tests.support.raw_http import RawRequest, response
from tests.support.scripted_gateway import modern_request

pytestmark = pytest.mark.wire

CALL = "tools/call"


@attrs.define(eq=False)
class Client:
    """One connection by prior knowledge; statuses and bodies by stream."""

    wire: trio.SocketStream
    h2: H2Connection = attrs.field(factory=lambda: H2Connection(H2Configuration(client_side=True)))
    statuses: dict[int, int] = attrs.field(factory=dict)
    bodies: dict[int, bytes] = attrs.field(factory=dict)
    ended: set[int] = attrs.field(factory=set)
    _turn: trio.Lock = attrs.field(factory=trio.Lock)
    """Both the test and ``read`` send."""

    async def flush(self) -> None:
        async with self._turn:
            await self.wire.send_all(self.h2.data_to_send())

    async def ask(self, method: str, params: JsonObject, *, request_id: int) -> int:
        headers, body = modern_request(method, params, id=request_id)
        stream = self.h2.get_next_available_stream_id()
        own = {":method": "POST", ":path": "/mcp", ":scheme": "http", ":authority": "127.0.0.1"}
        fields = {**own, "content-type": "application/json", **{key.lower(): value for key, value in headers.items()}}
        self.h2.send_headers(stream, list(fields.items()))
        self.h2.send_data(stream, body, end_stream=True)
        await self.flush()
        return stream

    async def reset(self, stream: int) -> None:
        self.h2.reset_stream(stream, ErrorCodes.CANCEL)
        await self.flush()

    async def read(self) -> None:
        """Take what comes, until cancelled."""
        while data := await self.wire.receive_some(65536):
            for event in self.h2.receive_data(data):
                if isinstance(event, ResponseReceived):
                    self.statuses[event.stream_id] = int(dict(event.headers)[b":status"])
                elif isinstance(event, DataReceived):
                    self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                elif isinstance(event, StreamEnded):
                    self.ended.add(event.stream_id)
            await self.flush()


async def hang(request: RawRequest) -> bytes:
    await trio.Event().wait()
    return response(b"")


@asynccontextmanager
async def connected(era: str) -> AsyncIterator[tuple[Client, WireBackend, Running]]:
    """A client of a gateway in front of a server whose calls never end."""
    made = legacy_backend if era == "2025" else modern_backend
    replies = made(tool("read"), tools__call=hang)
    async with wire_backend(replies, session="s" if era == "2025" else "") as backend:
        protocol = LEGACY if era == "2025" else "2026-07-28"
        async with running_gateway([{"name": "f", "url": backend.url, "protocol": protocol}]) as running:
            where = urlsplit(running.url)
            async with await trio.open_tcp_stream(where.hostname or "", where.port or 0) as wire:
                client = Client(wire)
                client.h2.initiate_connection()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.read)
                    yield client, backend, running
                    nursery.cancel_scope.cancel("test over")


async def until_streams_and_calls(running: Running, streams: int, calls: int) -> None:
    with trio.fail_after(5):
        while (running.gateway.streams, len(running.gateway.calls.in_flight)) != (streams, calls):  # noqa: ASYNC110  # polled
            await trio.sleep(0.01)


@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_T12_a_stream_that_is_reset_is_cancelled_and_its_neighbours_are_not(era: str) -> None:
    async with connected(era) as (client, backend, running):
        call = await client.ask(CALL, {"name": "f_read"}, request_id=1)
        listen = await client.ask("subscriptions/listen", {"notifications": {}}, request_id=2)
        other = await client.ask(CALL, {"name": "f_read"}, request_id=1)
        await until_streams_and_calls(running, 1, 2)
        await client.reset(call)
        await until_streams_and_calls(running, 1, 1)
        await client.reset(listen)
        await until_streams_and_calls(running, 0, 1)
        with trio.fail_after(5):
            while era == "2025" and not backend.asked("notifications/cancelled"):  # noqa: ASYNC110  # polled
                await trio.sleep(0.01)
        lists = await client.ask("tools/list", {}, request_id=3)
        with trio.fail_after(5):
            while lists not in client.ended:  # noqa: ASYNC110  # polled
                await trio.sleep(0.01)
        assert (client.statuses[lists], orjson.loads(client.bodies[lists])["id"]) == (200, 3)
        assert call not in client.bodies
        assert other not in client.ended
