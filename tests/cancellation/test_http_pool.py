"""Cancel at every await that holds a place or a connection; afterwards nothing is taken and nothing is open."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_gateway.backends.transports.base import ClientIdentity, Inbound, Outgoing
from mcp_gateway.backends.transports.http_client import CONTROL_PLACES, HttpPool
from mcp_gateway.backends.transports.streamable_http import open_legacy
from mcp_gateway.config.spec import BackendLimits, HttpTarget, TlsSpec
from mcp_gateway.errors import BackendError
from mcp_gateway.values import BackendKey
from tests.support.certificates import Authority
from tests.support.raw_http import RawConnection, Script, response, result, serve_raw
from tests.support.resolver import Addresses, resolving

pytestmark = pytest.mark.wire

KEY = BackendKey("files")
AUTHORITY = Authority()
ANSWER = response(b'{"ok":true}')


def pool_for(url: str, *, connect: str | None = None, proxy: str | None = None) -> HttpPool:
    target = HttpTarget(url=url, connect=connect, proxy=proxy, tls=TlsSpec(ca_pem=AUTHORITY.pem))
    return HttpPool(key=KEY, target=target, connect_s=5)


async def post(pool: HttpPool, body: bytes = b"{}", *, control: bool = False) -> bytes:
    async with pool.request(b"POST", b"", body, control=control) as response:
        return await response.read(2**20)


def counters(pool: HttpPool) -> tuple[int, int, int, int, int]:
    return pool.open - pool.idle, pool.control_in_flight, pool.streams_in_flight, pool.waiting, pool.open


@asynccontextmanager
async def cancelled_once(reached: Callable[[], Awaitable[None]]) -> AsyncIterator[trio.CancelScope]:
    """Cancel the body once ``reached`` returns."""
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:

            async def watch() -> None:
                await reached()
                scope.cancel("test")

            nursery.start_soon(watch)
            yield scope
        nursery.cancel_scope.cancel()


async def stalled() -> None:
    """Everything that can run has run; the sockets have had time to say so."""
    await trio.testing.wait_all_tasks_blocked(0.02)


async def cancel_a_post(script: Script, body: bytes = b"{}", *, secure: bool = False, proxied: bool = False) -> None:
    """Cancel one call where it has come to a halt; then check that nothing is left and that the pool still works."""
    context = AUTHORITY.server_context("backend.test") if secure and not proxied else None
    async with serve_raw(script, context) as server:
        pool = pool_for(
            f"http{'s' if secure else ''}://backend.test:{server.port}/mcp",
            connect=f"127.0.0.1:{server.port}",
            proxy=server.url if proxied else None,
        )
        async with cancelled_once(stalled) as scope:
            await post(pool, body)
        assert scope.cancelled_caught
        assert counters(pool) == (0, 0, 0, 0, 0)
        await server.all_closed()


async def test_cancelled_while_the_name_is_looked_up() -> None:
    async def never() -> Addresses:
        await trio.sleep_forever()

    with resolving(never):
        pool = pool_for("http://backend.test/mcp")
        async with cancelled_once(stalled) as scope:
            await post(pool)
    assert scope.cancelled_caught
    assert counters(pool) == (0, 0, 0, 0, 0)


async def test_cancelled_while_connecting() -> None:
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen(0)  # never accepted: the queue is soon full and a dial hangs
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        fillers = [await trio.open_tcp_stream("127.0.0.1", listener.getsockname()[1])]
        pool = pool_for(url)
        async with cancelled_once(stalled) as scope:
            await post(pool)
        assert scope.cancelled_caught
        assert counters(pool) == (0, 0, 0, 0, 0)
        for filler in fillers:
            await filler.aclose()


async def silent(connection: RawConnection) -> None:
    await connection.gone()


async def test_cancelled_in_the_tls_handshake() -> None:
    async with serve_raw(silent) as server:
        pool = pool_for(server.url.replace("http:", "https:"))
        async with cancelled_once(stalled) as scope:
            await post(pool)
        assert scope.cancelled_caught
        assert counters(pool) == (0, 0, 0, 0, 0)
        await server.all_closed()


async def test_cancelled_while_the_proxy_opens_a_tunnel() -> None:
    await cancel_a_post(silent, secure=True, proxied=True)


async def test_cancelled_before_the_head() -> None:
    await cancel_a_post(silent)


async def test_cancelled_before_the_head_over_tls() -> None:
    await cancel_a_post(silent, secure=True)


@pytest.mark.parametrize("secure", [False, True])
async def test_cancelled_while_sending(secure: bool) -> None:
    async def script(connection: RawConnection) -> None:
        await connection.read_head()
        await stalled()
        await trio.sleep(0.02)
        await connection.gone()

    await cancel_a_post(script, b"x" * (32 * 2**20), secure=secure)


@pytest.mark.parametrize("secure", [False, True])
async def test_cancelled_inside_the_head(secure: bool) -> None:
    async def script(connection: RawConnection) -> None:
        await connection.send(ANSWER[:20])
        await connection.gone()

    await cancel_a_post(script, secure=secure)


@pytest.mark.parametrize("secure", [False, True])
async def test_cancelled_inside_the_body(secure: bool) -> None:
    async def script(connection: RawConnection) -> None:
        await connection.send(ANSWER[:-2])
        await connection.gone()

    await cancel_a_post(script, secure=secure)


async def test_cancelled_in_the_queue() -> None:
    async with serve_raw(silent) as server, trio.open_nursery() as nursery:
        pool = pool_for(server.url)
        for _ in range(CONTROL_PLACES):
            nursery.start_soon(partial(post, pool, control=True))
        await stalled()
        async with cancelled_once(stalled) as scope:
            await post(pool, control=True)
        assert scope.cancelled_caught
        assert counters(pool) == (4, 4, 0, 0, 4)
        nursery.cancel_scope.cancel()
    assert counters(pool) == (0, 0, 0, 0, 0)


async def test_cancelled_before_anything() -> None:
    async with serve_raw(silent) as server:
        pool = pool_for(server.url)
        with trio.CancelScope() as scope:
            scope.cancel()
            await post(pool)
        assert scope.cancelled_caught
        assert counters(pool) == (0, 0, 0, 0, 0)


async def test_cancelled_while_looking_whether_a_stream_has_ended() -> None:
    async def script(connection: RawConnection) -> None:
        while await connection.read_request() is not None:
            await connection.begin_events()
            await connection.send_chunk(b"data: x\n\n")

    async with serve_raw(script, AUTHORITY.server_context("backend.test")) as server:
        pool = pool_for(f"https://backend.test:{server.port}/mcp", connect="127.0.0.1")
        async with pool.request(b"POST", b"", b"{}") as response:
            await response.receive_some()
            response.ending = True
        assert pool.open == 1
        with trio.CancelScope() as scope:
            scope.cancel()
            await post(pool)
        assert scope.cancelled_caught
        assert counters(pool) == (0, 0, 0, 0, 0)


async def test_cancelled_at_each_step_of_the_handshake() -> None:
    hello = b'{"protocolVersion":"2025-11-25","capabilities":{}}'

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.method == "DELETE":
                await connection.send_json(b"")
            elif request.json["method"] == "initialize":
                await connection.send_json(result(1, hello), extra=b"Mcp-Session-Id: s-1\r\n")

    async with serve_raw(script) as server:
        pool = pool_for(server.url)
        async with cancelled_once(lambda: server.until(2)) as scope:  # in notifications/initialized
            await open_legacy(pool, identity=ClientIdentity(), offer="2025-11-25", limits=BackendLimits())
        assert scope.cancelled_caught
        assert [request.method for request in server.requests] == ["POST", "POST", "DELETE"]
        assert counters(pool)[:4] == (0, 0, 0, 0)
        await pool.aclose()


@settings(max_examples=25)
@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from(["answer", "slow", "close", "reset", "garbage", "half", "events"]), st.integers(0, 12)
        ),
        min_size=1,
        max_size=12,
    ),
    control=st.booleans(),
)
def test_whatever_backend_and_clients_do_nothing_is_left(calls: list[tuple[str, int]], control: bool) -> None:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            match request.body:
                case b"answer":
                    await connection.send(ANSWER)
                case b"slow":
                    await trio.sleep(0.003)
                    await connection.send(ANSWER)
                case b"close":
                    return
                case b"reset":
                    connection.reset()
                case b"garbage":
                    await connection.send(ANSWER + b"garbage")
                case b"half":
                    await connection.send(ANSWER[:-1])
                case _:
                    await connection.begin_events()
                    await connection.send_chunk(b"data: x\n\n")
                    await connection.end_chunks()

    async def main() -> None:
        async with serve_raw(script) as server:
            pool = pool_for(server.url)

            async def call(kind: str, patience_ms: int) -> None:
                with trio.move_on_after(patience_ms / 1000):
                    try:
                        async with pool.request(b"POST", b"", kind.encode(), control=control) as response:
                            assert pool.control_in_flight <= CONTROL_PLACES
                            await response.receive_some()
                            response.ending = True
                            await response.read(100)
                    except BackendError:
                        pass

            async with trio.open_nursery() as nursery:
                for kind, patience_ms in calls:
                    nursery.start_soon(call, kind, patience_ms)
            assert counters(pool)[:4] == (0, 0, 0, 0)
            assert pool.open == pool.idle <= len(calls)
            assert await post(pool, b"answer") == b'{"ok":true}'
            await pool.aclose()
            assert pool.open == 0
            await server.all_closed()

    trio.run(main)


async def test_a_thousand_aborted_calls_leave_no_connection() -> None:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.json.get("method") == "initialize":
                hello = b'{"protocolVersion":"2025-11-25","capabilities":{}}'
                await connection.send_json(result(1, hello), extra=b"Mcp-Session-Id: s-1\r\n")
            elif "id" not in request.json:
                await connection.send(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    async with serve_raw(script) as server:
        pool = pool_for(server.url)
        link = await open_legacy(pool, identity=ClientIdentity(), offer="2025-11-25", limits=BackendLimits())
        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(abort, link.exchange)
        assert counters(pool)[:4] == (0, 0, 0, 0)
        assert pool.open == pool.idle
        assert link.notices_failed == 0
        notices = [request for request in server.requests if b"cancelled" in request.body]
        calls = [request for request in server.requests if b"tools/call" in request.body]
        assert {request.json["params"]["requestId"] for request in notices} >= {call.rpc_id for call in calls}  # type: ignore[call-overload, index]  # params of our own making
        await pool.aclose()
        await server.all_closed()


async def abort(exchange: Callable[[Outgoing, Callable[[Inbound], Awaitable[None]]], Awaitable[object]]) -> None:
    async def hear(inbound: Inbound) -> None:
        raise AssertionError(inbound)

    with trio.move_on_after(0.01):
        await exchange(
            Outgoing(method="tools/call", render=lambda id: b'{"jsonrpc":"2.0","id":%d,"method":"tools/call"}' % id),
            hear,
        )
