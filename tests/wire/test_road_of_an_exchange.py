"""The road of one exchange below the gateway: the modules that a plain one enters, and how deep its wait is nested."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio
import trio.testing

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.fleet import open_fleet
from mcp_gateway.backends.transports.base import Outgoing
from mcp_gateway.config.spec import GatewaySpec, HttpTarget, ServerSpec
from mcp_gateway.values import BackendKey
from tests.support.first_discovery import first_discovery
from tests.support.http_links import legacy
from tests.support.raw_http import RawConnection, RawRequest, result, serve_raw
from tests.support.road import watched
from tests.support.scripted_link import caller, deaf

pytestmark = pytest.mark.wire

KEY: Final = BackendKey("files")
ROAD: Final = {
    "backends/backend.py",
    "backends/transports/legacy_http.py",
    "backends/transports/http_exchange.py",
    "backends/transports/http_client.py",
    "backends/transports/http_connection.py",
}
BESIDE: Final = {"protocol/jsonrpc.py", "protocol/json_text.py"}
"""What reads the answer, which is read once for everybody."""
WAITS_DEEP: Final = 5


async def answer(connection: RawConnection, request: RawRequest) -> None:
    listed = b'{"tools":[]}' if request.json["method"] == "tools/list" else b'{"content":[]}'
    await connection.send_json(result(request.rpc_id, listed))


def render(upstream_id: int) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"read"}}' % upstream_id


CALL: Final = Outgoing(method="tools/call", render=render, headers=((b"X-Request-Id", b"7"),))


@asynccontextmanager
async def backend_of() -> AsyncIterator[Backend]:
    async with serve_raw(legacy(answer)) as server, open_fleet() as fleet:
        await fleet.apply(GatewaySpec(servers=(ServerSpec(key=KEY, target=HttpTarget(url=server.url)),)))
        await first_discovery(fleet)
        backend = fleet.get(KEY)
        assert backend is not None
        yield backend


async def test_a_plain_exchange_enters_five_modules_and_waits_five_coroutines_deep() -> None:
    async with backend_of() as backend:
        await backend.exchange(caller("a"), CALL, deaf)
        with watched("exchange") as road:
            await backend.exchange(caller("a"), CALL, deaf)
        assert set(road.modules) - BESIDE == ROAD
        assert 0 < road.deepest <= WAITS_DEEP
        assert (backend.in_flight, backend.queued) == (0, 0)


async def test_a_link_that_stands_is_found_without_waiting_and_not_once_it_is_lost() -> None:
    async with backend_of() as backend:
        who = caller("a")
        assert backend.link_now(who) is None
        upstream = await backend.open_link(who)
        assert backend.link_now(who) is upstream
        assert backend.link_now(caller("b")) is None
        doubts = upstream.doubts
        assert doubts is not None
        doubts.suspect(trio.current_time() + 1, at_once=False)
        assert backend.link_now(who) is None
        doubts.settle(0.0)
        upstream.stream_settled = trio.Event()
        assert backend.link_now(who) is None
        upstream.stream_settled.set()
        assert backend.link_now(who) is upstream
        backend.reach.changed()
        assert backend.link_now(who) is None
        assert await backend.open_link(who) is upstream
        upstream.end(0.0)
        assert backend.link_now(who) is None
        assert await backend.open_link(who) is not upstream


async def test_an_open_circuit_is_seen_by_who_has_a_link(autojump_clock: trio.testing.MockClock) -> None:
    async with backend_of() as backend:
        upstream = await backend.open_link(caller("a"))
        machine = backend.supervisor.machine
        machine.open = True
        assert backend.link_now(caller("a")) is None
        machine.open = False
        assert backend.link_now(caller("a")) is upstream
