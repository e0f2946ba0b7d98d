"""The admin listener on real sockets: connections end when they should, and nothing but HTTP/1.1 is spoken."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.front.admin import KEEP_ALIVE_S, AdminListener
from mcp_gateway.front.pages import admin_pages
from mcp_gateway.front.server import bind, serve
from tests.support.front import FixedStatus, Wire

GET = "GET /healthz HTTP/1.{}\r\nHost: localhost\r\n{}\r\n"


@attrs.define(eq=False)
class Admin:
    port: int
    end: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    wires: list[Wire] = attrs.field(factory=list)

    async def dial(self) -> Wire:
        self.wires.append(Wire(await trio.open_tcp_stream("127.0.0.1", self.port)))
        return self.wires[-1]


@asynccontextmanager
async def open_admin() -> AsyncIterator[Admin]:
    sockets = bind("127.0.0.1:0")
    admin = Admin(sockets[0].getsockname()[1])

    async def run(task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        await serve(
            AdminListener(admin_pages(FixedStatus())),
            sockets=sockets,
            shutdown_trigger=admin.end.wait,
            graceful_timeout_s=1000,
            task_status=task_status,
        )
        admin.ended.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield admin
        for wire in admin.wires:
            await wire.close()
        nursery.cancel_scope.cancel("the test is over")


@pytest.mark.parametrize("minor, field", [(1, "Connection: close\r\n"), (0, "")])
async def test_a_client_that_wants_the_end_gets_it(minor: int, field: str) -> None:
    async with open_admin() as admin:
        wire = await admin.dial()
        await wire.send(GET.format(minor, field).encode())
        assert (await wire.answer())[2] == b"ok\n"
        with trio.fail_after(2):
            assert await wire.closed()


async def test_a_connection_is_kept_and_ends_when_nothing_comes(autojump_clock: MockClock) -> None:
    async with open_admin() as admin:
        wire = await admin.dial()
        for _ in range(3):
            await wire.send(GET.format(1, "").encode())
            assert (await wire.answer())[2] == b"ok\n"
        began_at = trio.current_time()
        assert await wire.closed()
        assert trio.current_time() - began_at == pytest.approx(KEEP_ALIVE_S)


async def test_connections_that_have_served_a_page_do_not_hold_the_end() -> None:
    async with open_admin() as admin:
        wires = [await admin.dial() for _ in range(3)]
        for wire in wires[1:]:
            await wire.send(GET.format(1, "").encode())
            assert (await wire.answer())[2] == b"ok\n"
        admin.end.set()
        with trio.fail_after(1):
            await admin.ended.wait()
            for wire in wires:
                assert await wire.closed()


async def test_no_other_protocol_is_spoken() -> None:
    async with open_admin() as admin:
        wire = await admin.dial()
        await wire.send(GET.format(1, "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n").encode())
        assert (await wire.answer())[0] == 200
        preface = await admin.dial()
        await preface.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
        with trio.fail_after(2):
            said = b"".join([bytes(chunk) async for chunk in preface.stream])
        assert said.startswith(b"HTTP/1.1 ")
        socket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        web = await admin.dial()
        await web.send(GET.format(1, socket + key).encode())
        assert (await web.head())[0] == 403
