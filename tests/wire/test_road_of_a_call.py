"""The road of one plain call through the whole gateway, as docs/architecture.md says it.

A later ``tools/call`` of a session: its link is open, its connection kept. Counted from ``Dispatch.admit`` to the
last byte of the answer, in the task of the client's connection.
"""

import re
from typing import Final

import pytest
import trio

from mcp_gateway.gateway.call.call import Call
from tests.support.gateway import Running, running_gateway
from tests.support.http_links import legacy
from tests.support.peers import ROOT
from tests.support.raw_client import Client2025
from tests.support.raw_http import RawConnection, RawRequest, result, serve_raw
from tests.support.road import watched

pytestmark = pytest.mark.wire

PAGE: Final = ROOT / "docs" / "architecture.md"
MOST_MODULES: Final = 41
"""What it is now; it goes down, not up."""
WAITS_DEEP: Final = 13
"""Own coroutines nested at the wait for the backend."""
REGISTRIES: Final = 3


async def answer(connection: RawConnection, request: RawRequest) -> None:
    listed = b'{"tools":[{"name":"read","inputSchema":{"type":"object"}}]}'
    said = listed if request.json["method"] == "tools/list" else b'{"content":[{"type":"text","text":"hello"}]}'
    await connection.send_json(result(request.rpc_id, said))


async def call(client: Client2025) -> None:
    await client.ask("tools/call", name="files_read", arguments={})


def on_the_page() -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r"<!-- road: begin -->(.*)<!-- road: end -->", text, re.DOTALL)
    assert found is not None
    return re.findall(r"`([a-z0-9_/]+\.py)`", found[1])


async def test_the_page_lists_what_a_plain_call_enters_in_its_order() -> None:
    async with serve_raw(legacy(answer)) as server:
        servers = [{"name": "files", "url": server.url, "protocol": "2025-11-25"}]
        async with running_gateway(servers) as gateway, gateway.client2025() as client:
            await client.initialize()
            for _ in range(2):
                await call(client)
            with watched("admit") as road:
                await call(client)
    assert list(road.modules) == on_the_page(), "\n".join(f"- `{module}`" for module in road.modules)
    assert len(road.modules) <= MOST_MODULES
    assert 0 < road.deepest <= WAITS_DEEP


async def test_a_call_is_in_three_registries_while_it_runs_and_in_none_afterwards() -> None:
    asked, release = trio.Event(), trio.Event()

    async def slow(connection: RawConnection, request: RawRequest) -> None:
        if request.json["method"] == "tools/call":
            asked.set()
            await release.wait()
        await answer(connection, request)

    async with serve_raw(legacy(slow)) as server:
        servers = [{"name": "files", "url": server.url, "protocol": "2025-11-25"}]
        async with running_gateway(servers) as gateway, gateway.client2025() as client:
            await client.initialize()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, client)
                await asked.wait()
                assert [len(book) for book in books(gateway)] == [1] * REGISTRIES
                release.set()
            assert [len(book) for book in books(gateway)] == [0] * REGISTRIES


def books(gateway: Running) -> list[list[Call]]:
    """The calls in each registry that docs/architecture.md names."""
    (session,) = gateway.gateway.context.sessions
    backend = next(iter(gateway.fleet.keys))
    running = gateway.fleet.get(backend)
    assert running is not None
    found = [session.calls.values(), gateway.gateway.calls.in_flight.requests, running._running.calls]
    return [[one for one in book if isinstance(one, Call)] for book in found]
