"""Links over Streamable HTTP for tests, and backends that behave as one step of the protocol needs it.

Owns pools, links and the scripted steps that several modules share. Deliberately judges nothing.
Invariant: a pool that a block opened is closed, and at rest, when the block ends.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import orjson
import trio
import trio.testing

from mcp_gateway.backends.observer import SILENT, Observer
from mcp_gateway.backends.transports.base import ClientIdentity, Inbound, Outgoing
from mcp_gateway.backends.transports.http_client import HttpPool
from mcp_gateway.backends.transports.streamable_http import (
    LegacyHttpLink,
    ModernHttpLink,
    open_legacy,
)
from mcp_gateway.config.spec import BackendLimits, HttpTarget
from mcp_gateway.values import BackendKey
from tests.support.raw_http import (
    RawConnection,
    RawRequest,
    RawServer,
    Script,
    event,
    response,
    result,
    serve_raw,
)

KEY = BackendKey("files")
LIMITS = BackendLimits(response_bytes=4096, event_bytes=2048)
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
Handler: TypeAlias = Callable[[RawConnection, RawRequest], Awaitable[None]]


def legacy(
    on_call: Handler,
    *,
    version: str = "2025-11-25",
    session: bytes | Iterator[bytes] | None = b"s-1",
    on_get: Handler | None = None,
    on_notice: Handler | None = None,
) -> Script:
    """A 2025 server: the handshake, 202 for notifications; ``on_call`` does the rest, ``on_notice`` the cancellations.

    ``session`` is the id that every ``initialize`` gets, or gives each the next one.
    """

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.method == "DELETE":
                await connection.send(response(b""))
            elif request.method == "GET":
                await (on_get or no_stream)(connection, request)
            elif request.json.get("method") == "initialize":
                given = next(session) if isinstance(session, Iterator) else session
                extra = b"" if given is None else b"Mcp-Session-Id: " + given + b"\r\n"
                await connection.send_json(result(request.rpc_id, hello(version)), extra=extra)
            elif on_notice is not None and is_notice(request):
                await on_notice(connection, request)
            elif "id" not in request.json or "method" not in request.json:
                await connection.send(ACCEPTED)
            else:
                await on_call(connection, request)

    return script


def is_notice(request: RawRequest) -> bool:
    return request.method == "POST" and request.json.get("method") == "notifications/cancelled"


async def no_stream(connection: RawConnection, request: RawRequest) -> None:
    await connection.send_json(b"", status="405 Method Not Allowed")


async def answer_call(connection: RawConnection, request: RawRequest) -> None:
    await connection.send_json(result(request.rpc_id, b'{"ok":true}'))


def hello(version: str) -> bytes:
    return orjson.dumps(
        {
            "protocolVersion": version,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "s", "version": "1"},
            "instructions": "be kind",
        }
    )


def pool_for(server: RawServer, observer: Observer = SILENT) -> HttpPool:
    target = HttpTarget(url=server.url, credential="Bearer t")
    return HttpPool(key=KEY, target=target, connect_s=5, observer=observer)


def open_session(pool: HttpPool, offer: str = "2025-11-25") -> Awaitable[LegacyHttpLink]:
    return open_legacy(pool, identity=ClientIdentity(), offer=offer, limits=LIMITS)


@asynccontextmanager
async def legacy_link(
    script: Script, *, observer: Observer = SILENT
) -> AsyncIterator[tuple[LegacyHttpLink, RawServer]]:
    async with serve_raw(script) as server:
        pool = pool_for(server, observer)
        link = await open_session(pool)
        yield link, server
        await at_rest(pool)


async def at_rest(pool: HttpPool) -> None:
    """No place is taken; nothing stays open after the end."""
    assert (pool.control_in_flight, pool.streams_in_flight, pool.waiting, pool.open - pool.idle) == (0, 0, 0, 0)
    await pool.aclose()
    assert pool.open == 0


def call(
    method: str = "tools/call",
    *,
    cancellable: bool = True,
    control: bool = False,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Outgoing:
    def render(upstream_id: int) -> bytes:
        return b'{"jsonrpc":"2.0","id":%d,"method":"%b","params":{}}' % (upstream_id, method.encode())

    return Outgoing(method=method, render=render, headers=headers, cancellable=cancellable, control=control)


async def nothing(inbound: Inbound) -> None:
    raise AssertionError(inbound)


def events(*parts: Callable[[int], bytes] | bytes, end: bool = True) -> Handler:
    """Answer by an event stream of these chunks; a function is given the request's id."""

    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        for part in parts:
            await connection.send_chunk(part if isinstance(part, bytes) else part(request.rpc_id))
        if end:
            await connection.end_chunks()

    return on_call


def fixed(raw: bytes, status: str = "200 OK", content_type: str = "application/json", extra: bytes = b"") -> Handler:
    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        await connection.send(response(raw, status=status, content_type=content_type, extra=extra))

    return on_call


NOTE = event(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"n":1}}')
PROGRESS = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":2,"progress":1}}'


def answer_event(rpc_id: int) -> bytes:
    return event(result(rpc_id, b'{"ok":true}'))


async def cancel_when(link: LegacyHttpLink | ModernHttpLink, server: RawServer, requests: int, reason: str) -> None:
    """Cancel a call once the server has seen so many requests."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await server.until(requests)
                scope.cancel(reason)

            nursery.start_soon(watch)
            await link.exchange(call(), nothing)
    assert scope.cancelled_caught
