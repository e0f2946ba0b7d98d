"""What one exchange with a backend costs: ``Backend.exchange``, a link's, and the bare socket calls under them.

Owns the measurement of our own CPU time, in one process with nothing above the backends. Deliberately judges nothing.
Invariant: every answer is checked, and the backend runs in a process of its own.
"""

import itertools
import socket
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, TypeAlias

import trio

from bench import processes
from bench.page import Run
from mcp_gateway.auth.principal import ANONYMOUS
from mcp_gateway.backends.caller import Caller
from mcp_gateway.backends.fleet import open_fleet
from mcp_gateway.backends.transports.base import ClientIdentity, Inbound, Outgoing
from mcp_gateway.config.spec import GatewaySpec, HttpTarget, ServerSpec
from mcp_gateway.values import BackendKey

ROUNDS: Final = 9
CALLS: Final = 3000
"""Of each kind in each round."""
TOGETHER: Final = (1, 16)
"""How many run at once."""
_KEY: Final = BackendKey("bench")
_REQUEST: Final = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"fast","arguments":{"n":1}}}'

Exchange: TypeAlias = Callable[[], Awaitable[object]]


async def main(run: Run) -> int:
    """CPU of one exchange with a backend, in one process, beside the bare socket calls."""
    rows: list[tuple[object, ...]] = []
    for era in ("2025", "2026"):
        async with processes.backends(era) as served, _exchanges(served.ports[0], era) as kinds:
            for together in TOGETHER:
                taken = {
                    name: [await _cpu_us(exchange, together) for _ in range(2)] for name, exchange in kinds.items()
                }
                for _ in range(run.times(ROUNDS, 1)):
                    for name, exchange in kinds.items():
                        taken[name].append(await _cpu_us(exchange, together))
                rows += [
                    (era, together, name, statistics.median(each[2:]), min(each[2:])) for name, each in taken.items()
                ]
    run.show("Exchange with a backend", ["era", "at once", "what", "CPU us, median", "least"], rows)
    return 0


async def _cpu_us(exchange: Exchange, together: int) -> float:
    """Our own CPU time of one exchange."""
    numbers = itertools.count()

    async def work() -> None:
        while next(numbers) < CALLS:
            await exchange()

    began_ns = time.process_time_ns()
    async with trio.open_nursery() as nursery:
        for _ in range(together):
            nursery.start_soon(work)
    return (time.process_time_ns() - began_ns) / CALLS / 1000


@asynccontextmanager
async def _exchanges(port: int, era: str) -> AsyncIterator[dict[str, Exchange]]:
    """What is measured, by name."""
    spec = ServerSpec(key=_KEY, target=HttpTarget(url=f"http://127.0.0.1:{port}/mcp"))
    caller = Caller(session="one" if era == "2025" else None, principal=ANONYMOUS, identity=ClientIdentity())
    outgoing = Outgoing(method="tools/call", render=lambda upstream_id: _REQUEST % upstream_id, headers=_headers(era))
    async with open_fleet() as fleet:
        await fleet.apply(GatewaySpec(servers=(spec,)))
        backend = fleet.get(_KEY)
        assert backend is not None
        link = await backend.link_for(caller)

        async def through_backend() -> None:
            assert b'"result"' in (await backend.exchange(caller, outgoing, _unheard)).raw

        async def on_link() -> None:
            assert b'"result"' in (await link.exchange(outgoing, _unheard)).raw

        with _bare(port) as bare:
            yield {"bare sockets": bare, "link": on_link, "backend": through_backend}


async def _unheard(inbound: Inbound) -> None:
    raise AssertionError(inbound)


def _headers(era: str) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"Mcp-Name", b"fast"),) if era == "2026" else ()


@contextmanager
def _bare(port: int) -> Iterator[Exchange]:
    """The least that an exchange needs: send, wait, receive, on sockets of its own."""
    body = _REQUEST % 1
    request = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    idle: list[socket.socket] = []
    made: list[socket.socket] = []

    async def exchange() -> None:
        if idle:
            sock = idle.pop()
        else:
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setblocking(False)
            made.append(sock)
        sock.send(request)
        await trio.lowlevel.wait_readable(sock)
        assert b'"result"' in sock.recv(65536)
        idle.append(sock)

    try:
        yield exchange
    finally:
        for sock in made:
            sock.close()
