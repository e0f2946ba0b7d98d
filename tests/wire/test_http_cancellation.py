"""Links over Streamable HTTP: how a call that nobody waits for any more is left."""

import pytest
import trio
import trio.testing

from mcp_gateway.backends.transports.base import Inbound
from mcp_gateway.backends.transports.http_client import CONTROL_PLACES
from tests.support.http_links import ACCEPTED, NOTE, call, cancel_when, events, hello, legacy, legacy_link, nothing
from tests.support.raw_http import (
    RawConnection,
    RawRequest,
    result,
)

pytestmark = pytest.mark.wire


async def say_nothing(connection: RawConnection, request: RawRequest) -> None:
    """The call runs for ever."""


# --- cancellation, 2025 ---


async def test_a_cancelled_call_is_named_to_the_backend_with_the_reason() -> None:
    async with legacy_link(legacy(say_nothing)) as (link, server):
        await cancel_when(link, server, 3, "client gave up")
        notice = server.requests[-1]
        assert notice.json == {
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": 2, "reason": "client gave up"},
        }
        assert (notice.headers["mcp-session-id"], notice.connection) == ("s-1", 1)
        assert (link.notices_failed, link.pool.open) == (0, 1)


async def test_the_notice_comes_before_the_calls_connection_is_closed() -> None:
    told: list[list[str]] = []
    closed = trio.Event()

    async def until_closed(connection: RawConnection, request: RawRequest) -> None:
        assert await connection.read_request() is None
        told.append([str(one.json.get("method")) for one in server.requests if one.body])
        closed.set()

    async with legacy_link(legacy(until_closed)) as (link, server):
        await cancel_when(link, server, 3, "client gave up")
        with trio.fail_after(2):
            await closed.wait()
        assert told[0][-1] == "notifications/cancelled"
        assert link.pool.open == 1


async def test_a_deadline_is_said_to_be_one() -> None:
    async with legacy_link(legacy(say_nothing)) as (link, server):
        with trio.move_on_after(0.05):
            await link.exchange(call(), nothing)
        params = server.requests[-1].json["params"]
        assert params == {"requestId": 2, "reason": "deadline reached"}


async def test_notices_of_requests_that_held_every_control_place_are_told() -> None:
    async with legacy_link(legacy(say_nothing)) as (link, server):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(CONTROL_PLACES):
                    nursery.start_soon(link.exchange, call(control=True), nothing)
                await server.until(2 + CONTROL_PLACES)
                scope.cancel("all at once")
        said = [request.json.get("method") for request in server.requests]
        assert (said.count("notifications/cancelled"), link.notices_failed) == (CONTROL_PLACES, 0)


async def test_a_queued_request_is_dropped_silently() -> None:
    async with legacy_link(legacy(say_nothing)) as (link, server), trio.open_nursery() as nursery:
        for _ in range(CONTROL_PLACES):
            nursery.start_soon(link.exchange, call(control=True), nothing)
        await server.until(2 + CONTROL_PLACES)
        with trio.move_on_after(0.02):
            await link.exchange(call(control=True), nothing)
        assert len(server.requests) == 2 + CONTROL_PLACES
        nursery.cancel_scope.cancel()


async def test_initialize_like_requests_are_left_without_a_notice() -> None:
    async with legacy_link(legacy(say_nothing)) as (link, server):
        with trio.move_on_after(0.05):
            await link.exchange(call(cancellable=False), nothing)
        assert len(server.requests) == 3


async def test_a_listener_that_fails_ends_the_call_with_a_notice() -> None:
    class Bug(Exception):
        pass

    async def hear(inbound: Inbound) -> None:
        raise Bug

    async with legacy_link(legacy(events(NOTE, end=False))) as (link, server):
        with pytest.raises(Bug):
            await link.exchange(call(), hear)
        await server.until(4)
        assert server.requests[-1].json["method"] == "notifications/cancelled"


async def test_a_notice_that_nobody_takes_is_bounded_and_counted(mock_clock: trio.testing.MockClock) -> None:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            match request.json.get("method"):
                case "initialize":
                    await connection.send_json(result(1, hello("2025-11-25")), extra=b"Mcp-Session-Id: s-1\r\n")
                case "notifications/initialized":
                    await connection.send(ACCEPTED)
                case _:
                    pass

    async with legacy_link(script) as (link, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when, link, server, 3, "x")
            await server.until(4)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(2.1)
        assert link.notices_failed == 1


async def test_a_notice_to_a_backend_that_left_is_counted() -> None:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            match request.json.get("method"):
                case "initialize":
                    await connection.send_json(result(1, hello("2025-11-25")), extra=b"Mcp-Session-Id: s-1\r\n")
                case "notifications/initialized":
                    await connection.send(ACCEPTED)
                case "notifications/cancelled":
                    return
                case _:
                    pass

    async with legacy_link(script) as (link, server):
        await cancel_when(link, server, 3, "x")
        assert link.notices_failed == 1
