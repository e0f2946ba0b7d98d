"""The whole gateway on real sockets: ready when it serves what it found, and never unready because of a new server."""

import pytest
import trio
from mcp.client.client import Client
from mcp.client.sse import sse_client

from tests.support import peers
from tests.support.gateway import gateway_process, running_gateway
from tests.support.raw_http import RawConnection, serve_raw

pytestmark = [pytest.mark.wire]


async def never_answers(connection: RawConnection) -> None:
    await connection.read_request()
    await trio.sleep_forever()


@pytest.mark.slow
async def test_ready_means_that_the_names_of_every_server_can_be_called() -> None:
    async with (
        peers.mcp2_server() as peer,
        running_gateway([{"name": "two", "url": peer.url}]) as running,
        running.client2025() as client,
        running.client2026() as modern,
    ):
        await client.initialize()
        assert "two_echo" in await client.list()
        assert "two_echo" in await modern.list()
        for one in (client, modern):
            answer = await one.call("two_echo", {"text": "hi"})
            assert answer["result"]["content"] == [{"type": "text", "text": "hi"}]


async def test_a_server_that_is_added_and_hangs_leaves_the_gateway_ready() -> None:
    async with serve_raw(never_answers) as hanging, running_gateway([]) as running:
        await running.reload({"servers": [{"name": "hanging", "url": hanging.url}]})
        await hanging.until(1)
        assert running.status.ready() == (True, "")


@pytest.mark.slow
async def test_the_program_serves_and_ends_with_code_zero() -> None:
    async with gateway_process({"servers": []}) as process, process.client2025() as client:
        await client.initialize()
        assert await client.list() == []
        assert await process.stop() == 0


async def test_a_client_of_the_oldest_transport_may_speak_a_newer_revision() -> None:
    async with running_gateway([]) as running, Client(sse_client(running.sse_url), mode="legacy") as client:
        assert client.protocol_version == "2025-11-25"
