"""Pools for tests of the HTTP client, and backends that behave.

Owns the pools of a test and their end. Deliberately judges nothing but that no place stays taken.
Invariant: a module that imports ``pools`` leaves no pool open.
"""

from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio

from mcp_gateway.backends.observer import SILENT, Observer
from mcp_gateway.backends.transports.http_client import HttpPool
from mcp_gateway.config.spec import HttpTarget, TlsSpec
from mcp_gateway.values import BackendKey
from tests.support.certificates import Authority
from tests.support.raw_http import RawConnection, RawServer, Script

KEY = BackendKey("files")
PLAIN = TlsSpec()
POOLS: list[HttpPool] = []


@pytest.fixture(autouse=True)
def pools() -> Iterator[None]:
    """The pools of a test: none is left with a place taken, and all are closed."""
    # Not async: pytest-trio runs only those async fixtures that a test names.
    POOLS.clear()
    yield

    async def close() -> None:
        for pool in POOLS:
            assert at_rest(pool)
            await pool.aclose()
            assert pool.open == 0

    trio.run(close)


def pool_for(
    url: str,
    *,
    connect_s: float = 5.0,
    connect: str | None = None,
    proxy: str | None = None,
    tls: TlsSpec = PLAIN,
    headers: tuple[tuple[str, str], ...] = (),
    credential: str | None = None,
    observer: Observer = SILENT,
) -> HttpPool:
    target = HttpTarget(url=url, connect=connect, proxy=proxy, tls=tls, headers=headers, credential=credential)
    POOLS.append(HttpPool(key=KEY, target=target, connect_s=connect_s, observer=observer))
    return POOLS[-1]


async def post(pool: HttpPool, body: bytes = b"{}", *, control: bool = False) -> bytes:
    async with pool.request(b"POST", [(b"X-A", b"b")], body, control=control) as response:
        return await response.read(2**20)


async def echo(connection: RawConnection) -> None:
    while (request := await connection.read_request()) is not None:
        await connection.send_json(request.body)


def answering(raw: bytes, *, close: bool = True) -> Script:
    """Answer each request by these bytes; then close."""

    async def script(connection: RawConnection) -> None:
        while await connection.read_request() is not None:
            await connection.send(raw)
            if close:
                return

    return script


def at_rest(pool: HttpPool) -> bool:
    return (pool.control_in_flight, pool.streams_in_flight, pool.waiting, pool.open - pool.idle) == (0, 0, 0, 0)


def streaming(after: Callable[[RawConnection], Awaitable[None]]) -> Script:
    async def script(connection: RawConnection) -> None:
        while await connection.read_request() is not None:
            await connection.begin_events()
            await connection.send_chunk(b"data: answer\n\n")
            await after(connection)

    return script


async def read_one_event(pool: HttpPool) -> None:
    async with pool.request(b"POST", b"", b"{}") as response:
        assert await response.receive_some() == b"data: answer\n\n"
        response.ending = True


AUTHORITY = Authority()
TLS_NAME = "backend.test"


def tls_pool(server: RawServer, tls: TlsSpec, *, host: str = TLS_NAME, observer: Observer = SILENT) -> HttpPool:
    return pool_for(f"https://{host}:{server.port}/mcp", connect="127.0.0.1", tls=tls, observer=observer)
