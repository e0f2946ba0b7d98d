"""A long call survives a proxy that cuts quiet connections; times are a sixtieth of the usual ones."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest
import trio

from tests.support.gateway import running_gateway
from tests.support.raw_client import connect2025, connect2026
from tests.support.raw_http import serve_raw
from tests.support.verbatim import Verbatim

pytestmark = [pytest.mark.wire]

IDLE_S = 1.0
KEEP_ALIVE = "250ms"
CALL_S = 3.0


@asynccontextmanager
async def impatient_proxy(url: str) -> AsyncIterator[str]:
    """Pass bytes both ways; end a connection on which the server has been quiet for ``IDLE_S``. Gives its own url."""
    where = urlsplit(url)

    async def pump(source: trio.SocketStream, sink: trio.SocketStream, idle_s: float, both: trio.CancelScope) -> None:
        chunk = b"more"
        while chunk:
            chunk = b""
            with trio.move_on_after(idle_s):
                chunk = bytes(await source.receive_some())
                await sink.send_all(chunk)
        both.cancel("one side is quiet or gone")

    async def handle(client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream(where.hostname or "", where.port or 0)
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(pump, client, server, float("inf"), nursery.cancel_scope)
            nursery.start_soon(pump, server, client, IDLE_S, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, handle, listeners)
        yield urlunsplit(where._replace(netloc=f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"))
        nursery.cancel_scope.cancel("test over")


async def test_a_long_call_survives_a_proxy_with_a_short_idle_timeout() -> None:
    done: list[str] = []
    slow = Verbatim(modern=False, delay_s=CALL_S)
    async with serve_raw(slow) as backend:
        entry = {"name": "v", "url": backend.url, "protocol": "2025-11-25"}
        async with (
            running_gateway([entry], http={"keepAlive": KEEP_ALIVE}) as running,
            impatient_proxy(running.url) as url,
            trio.open_nursery() as nursery,
        ):

            async def old(version: str) -> None:
                async with connect2025(url, version) as client:
                    await client.initialize()
                    assert (await client.call("v_t"))["result"] == {"content": []}
                    done.append(version)

            async def new() -> None:
                async with connect2026(url) as client:
                    assert (await client.call("v_t"))["result"]["content"] == []
                    done.append("2026-07-28")

            nursery.start_soon(new)
            for version in ("2025-11-25", "2025-06-18", "2025-03-26"):
                nursery.start_soon(old, version)
    assert len(done) == 4
