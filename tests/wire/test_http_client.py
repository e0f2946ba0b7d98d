"""The pool against servers that behave, and servers that do not, on loopback sockets."""

import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest
import trio
import trio.testing

from mcp_gateway.backends.transports.http_client import CONTROL_PLACES, HttpPool
from mcp_gateway.config.spec import HttpTarget, TlsSpec
from mcp_gateway.errors import (
    BackendGone,
    BackendProtocol,
    BackendTimeout,
    BackendTooLarge,
    Executed,
    Limit,
)
from mcp_gateway.values import BackendKey
from tests.support.certificates import Authority
from tests.support.raw_http import RawConnection, RawServer, Script, response, serve_raw
from tests.support.resolver import Addresses, at, resolving

pytestmark = pytest.mark.wire

KEY = BackendKey("files")
PLAIN = TlsSpec()


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


POOLS: list[HttpPool] = []


def pool_for(
    url: str,
    *,
    concurrency: int = 4,
    connect_s: float = 5.0,
    connect: str | None = None,
    proxy: str | None = None,
    tls: TlsSpec = PLAIN,
    headers: tuple[tuple[str, str], ...] = (),
    credential: str | None = None,
) -> HttpPool:
    target = HttpTarget(url=url, connect=connect, proxy=proxy, tls=tls, headers=headers, credential=credential)
    POOLS.append(HttpPool(key=KEY, target=target, concurrency=concurrency, connect_s=connect_s))
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
    return (pool.in_flight, pool.control_in_flight, pool.streams_in_flight, pool.waiting) == (0, 0, 0, 0)


# --- the good path ---


async def test_one_connection_serves_one_call_after_the_other() -> None:
    async with serve_raw(echo) as server:
        pool = pool_for(server.url, headers=(("X-Team", "red"),), credential="Bearer t")
        for number in range(5):
            assert await post(pool, b'{"n":%d}' % number) == b'{"n":%d}' % number
        assert (pool.dials, server.connections, pool.open, pool.idle) == (1, 1, 1, 1)
        head = server.requests[-1].headers
        assert head["host"] == f"127.0.0.1:{server.port}"
        assert (head["x-team"], head["authorization"], head["x-a"]) == ("red", "Bearer t", "b")
        assert (head["accept-encoding"], head["content-length"]) == ("identity", "7")
        await pool.aclose()
        await server.all_closed()
        assert (pool.open, pool.idle) == (0, 0)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", id="length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: x\r\n\r\n", id="chunks"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nhello", id="until close"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nhello", id="HTTP/1.0"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", id="1xx"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", id="identity"),
    ],
)
async def test_every_framing_of_http_1_is_read(raw: bytes) -> None:
    async with serve_raw(answering(raw)) as server:
        pool = pool_for(server.url)
        assert await post(pool) == b"hello"
        assert at_rest(pool)


async def test_a_large_body_goes_both_ways() -> None:
    big = b"x" * (5 * 2**20)
    async with serve_raw(echo) as server:
        pool = pool_for(server.url)
        async with pool.request(b"POST", b"", big) as response:
            assert await response.read(len(big)) == big
        assert await post(pool) == b"{}"
        assert pool.dials == 1


async def test_a_body_made_late_is_made_once_a_connection_is_there() -> None:
    async with serve_raw(echo) as server:
        pool = pool_for(server.url, concurrency=1)
        made: list[int] = []

        def make() -> bytes:
            made.append(pool.open)
            return b"late"

        async with pool.request(b"POST", b"", make) as response:
            assert await response.read(10) == b"late"
        assert made == [1]


# --- places ---


async def hold(pool: HttpPool, held: trio.Event, *, control: bool = False, stream: bool = False) -> None:
    async with pool.request(b"POST", b"", b"{}", control=control, stream=stream):
        held.set()
        await trio.sleep_forever()


async def test_calls_queue_at_the_limit_and_control_messages_do_not() -> None:
    async with serve_raw(echo) as server, trio.open_nursery() as nursery:
        pool = pool_for(server.url, concurrency=2)
        for _ in range(2):
            held = trio.Event()
            nursery.start_soon(hold, pool, held)
            await held.wait()
        with trio.move_on_after(0.02) as scope:
            await post(pool)
        assert scope.cancelled_caught
        assert (pool.in_flight, pool.waiting) == (2, 0)
        assert await post(pool, control=True) == b"{}"
        assert pool.control_in_flight == 0
        nursery.cancel_scope.cancel()
    assert at_rest(pool)


async def test_control_places_are_four_and_streams_take_none_of_them() -> None:
    async with serve_raw(echo) as server, trio.open_nursery() as nursery:
        pool = pool_for(server.url, concurrency=1)
        for _ in range(CONTROL_PLACES):
            held = trio.Event()
            nursery.start_soon(partial(hold, pool, held, control=True))
            await held.wait()
        streaming = trio.Event()
        nursery.start_soon(partial(hold, pool, streaming, stream=True))
        await streaming.wait()
        assert (pool.control_in_flight, pool.streams_in_flight, pool.in_flight) == (4, 1, 0)
        with trio.move_on_after(0.02) as scope:
            await post(pool, control=True)
        assert scope.cancelled_caught
        assert await post(pool) == b"{}"
        nursery.cancel_scope.cancel()
    assert at_rest(pool)


def partial_hold(
    pool: HttpPool, held: trio.Event, *, control: bool = False, stream: bool = False
) -> Callable[[], Awaitable[None]]:
    return lambda: hold(pool, held, control=control, stream=stream)


async def test_a_closed_pool_fails_who_waits_and_who_comes() -> None:
    async with serve_raw(echo) as server, trio.open_nursery() as nursery:
        pool = pool_for(server.url, concurrency=1)
        seen: list[Executed] = []

        async def try_it() -> None:
            with pytest.raises(BackendGone) as caught:
                await post(pool)
            seen.append(caught.value.executed)

        held = trio.Event()
        nursery.start_soon(hold, pool, held)
        await held.wait()
        nursery.start_soon(try_it)
        while not pool.waiting:
            await trio.lowlevel.checkpoint()
        await pool.aclose()
        await pool.aclose()
        await try_it()
        nursery.cancel_scope.cancel()
    assert seen == [Executed.NO, Executed.NO]
    assert (pool.open, at_rest(pool)) == (0, True)


async def test_closing_the_pool_ends_a_running_call() -> None:
    async with serve_raw(silent) as server, trio.open_nursery() as nursery:
        pool = pool_for(server.url)

        async def call() -> None:
            with pytest.raises(BackendGone) as caught:
                await post(pool)
            assert caught.value.executed is Executed.UNKNOWN

        nursery.start_soon(call)
        await server.until(1)
        await pool.aclose()
    assert at_rest(pool)


async def silent(connection: RawConnection) -> None:
    while await connection.read_request() is not None:
        pass


# --- idle connections ---


async def test_the_newest_idle_connection_is_used_first() -> None:
    async with serve_raw(echo) as server:
        pool = pool_for(server.url)
        async with pool.request(b"POST", b"", b"1") as one:
            await one.read(9)
            async with pool.request(b"POST", b"", b"2") as two:
                await two.read(9)
        assert pool.idle == 2
        await post(pool)
        assert server.requests[-1].connection == 0  # given back last


@pytest.mark.parametrize(
    "keep_alive, usable_s, dead_s",
    [
        pytest.param(b"", 3.9, 4.1, id="no hint: 4 s"),
        pytest.param(b"Keep-Alive: timeout=3, max=100\r\n", 1.9, 2.1, id="hint minus 1 s"),
        pytest.param(b"Keep-Alive: timeout=75\r\n", 3.9, 4.1, id="never more than 4 s"),
        pytest.param(b"Keep-Alive: max=5\r\n", 3.9, 4.1, id="no timeout in the hint"),
    ],
)
@pytest.mark.parametrize("by_sweep", [True, False])
async def test_idle_connections_are_closed_in_time(
    keep_alive: bytes, usable_s: float, dead_s: float, by_sweep: bool, mock_clock: trio.testing.MockClock
) -> None:
    async with serve_raw(answering(response(b"{}", extra=keep_alive), close=False)) as server:
        pool = pool_for(server.url)
        await post(pool)
        mock_clock.jump(usable_s)
        pool.sweep()
        await post(pool)
        assert pool.dials == 1
        mock_clock.jump(dead_s)
        if by_sweep:
            pool.sweep()
            assert pool.open == 0
        await post(pool)
        assert (pool.dials, pool.open) == (2, 1)


async def test_an_idle_connection_that_the_backend_closed_is_not_used() -> None:
    async with serve_raw(answering(response(b"{}"))) as server:
        pool = pool_for(server.url)
        await post(pool)
        await server.all_closed()
        await post(pool)
        assert (pool.dials, len(server.requests)) == (2, 2)
        await server.all_closed()
        pool.sweep()
        assert pool.open == 0


async def test_an_idle_connection_that_spoke_unasked_is_not_used() -> None:
    go = trio.Event()
    said = trio.Event()

    async def script(connection: RawConnection) -> None:
        while await connection.read_request() is not None:
            await connection.send_json(b"{}")
            if connection.number == 0:
                await go.wait()
                await connection.send(response(b"stale"))
                said.set()

    async with serve_raw(script) as server:
        pool = pool_for(server.url)
        await post(pool)
        go.set()
        await said.wait()
        assert await post(pool) == b"{}"
        assert pool.dials == 2


async def test_a_connection_with_bytes_after_the_answer_is_not_used_again() -> None:
    async with serve_raw(answering(response(b"{}") + response(b"more"), close=False)) as server:
        pool = pool_for(server.url)
        assert await post(pool) == b"{}"
        assert pool.open == 0
        await server.all_closed()


async def test_a_body_left_unread_closes_the_connection() -> None:
    async with serve_raw(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", close=False)) as server:
        pool = pool_for(server.url)
        async with pool.request(b"POST", b"", b"{}") as response:
            assert await response.receive_some() == b"hello"
        assert pool.open == 0
        await server.all_closed()


# --- streams that end soon ---


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


async def test_a_stream_that_ends_after_its_answer_keeps_its_connection() -> None:
    left, ended = trio.Event(), trio.Event()

    async def after(connection: RawConnection) -> None:
        await left.wait()
        await connection.end_chunks()
        ended.set()

    async with serve_raw(streaming(after)) as server:
        pool = pool_for(server.url)
        await read_one_event(pool)
        assert (pool.idle, at_rest(pool)) == (1, True)
        left.set()
        await ended.wait()
        await read_one_event(pool)
        assert (pool.dials, len(server.requests)) == (1, 2)


async def test_a_stream_that_does_not_end_is_left_alone_and_closed_in_time(mock_clock: trio.testing.MockClock) -> None:
    async with serve_raw(streaming(RawConnection.gone)) as server:
        pool = pool_for(server.url)
        for _ in range(3):
            await read_one_event(pool)
        assert (pool.dials, pool.idle) == (3, 3)
        mock_clock.jump(1.1)
        pool.sweep()
        pool.sweep()
        assert pool.open == 0
        await server.all_closed()


async def test_streams_that_do_not_end_are_bounded() -> None:
    async with serve_raw(streaming(RawConnection.gone)) as server:
        pool = pool_for(server.url)
        for _ in range(12):
            await read_one_event(pool)
        assert pool.open == 8
        await pool.aclose()
        await server.all_closed()


@pytest.mark.parametrize(
    "tail",
    [pytest.param(b"e\r\ndata: answer\n\n\r\n", id="more events"), pytest.param(b"zz\r\n", id="bad framing")],
)
async def test_a_stream_that_goes_on_after_its_answer_loses_its_connection(tail: bytes) -> None:
    left, said = trio.Event(), trio.Event()

    async def after(connection: RawConnection) -> None:
        await left.wait()
        await connection.send(tail)
        said.set()
        await connection.gone()

    async with serve_raw(streaming(after)) as server:
        pool = pool_for(server.url)
        await read_one_event(pool)
        left.set()
        await said.wait()
        await read_one_event(pool)
        assert pool.dials == 2


async def test_a_stream_whose_connection_ends_is_not_used() -> None:
    async def after(connection: RawConnection) -> None:
        connection.reset()

    async with serve_raw(streaming(after)) as server:
        pool = pool_for(server.url)
        for number in range(1, 3):
            async with pool.request(b"POST", b"", b"{}") as response:
                response.ending = True
                await server.all_closed()
            assert pool.dials == number


# --- what no backend may answer ---


@pytest.mark.parametrize(
    "raw, says",
    [
        pytest.param(
            b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/secret\r\nContent-Length: 0\r\n\r\n", "302", id="redirect"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "content coding", id="gzip"
        ),
        pytest.param(b"SSH-2.0-OpenSSH_9\r\n", "not HTTP", id="not HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000, "framing", id="head"),
        pytest.param(b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "switched", id="upgrade"),
    ],
)
async def test_such_answers_break_the_protocol(raw: bytes, says: str) -> None:
    async with serve_raw(answering(raw)) as server:
        pool = pool_for(server.url)
        with pytest.raises(BackendProtocol) as caught:
            await post(pool)
        assert says in str(caught.value)
        assert "secret" not in str(caught.value)
        assert (pool.open, at_rest(pool)) == (0, True)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b"x" * 11, id="announced"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 11, id="real"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nxxxxxx\r\n6\r\nxxxxxx\r\n", id="chunks"
        ),
    ],
)
async def test_a_body_above_its_bound_is_too_large(raw: bytes) -> None:
    async with serve_raw(answering(raw)) as server:
        pool = pool_for(server.url)
        with pytest.raises(BackendTooLarge) as caught:
            async with pool.request(b"POST", b"", b"{}") as response:
                await response.read(10)
        assert (caught.value.limit, caught.value.bound) == ("limits.responseBytes", 10)


# --- connections that fail ---


async def gone_after(script: Script) -> BackendGone:
    async with serve_raw(script) as server:
        pool = pool_for(server.url)
        with pytest.raises(BackendGone) as caught:
            await post(pool)
        assert (pool.open, at_rest(pool)) == (0, True)
    return caught.value


async def test_a_refused_connection_executed_nothing() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        pool = pool_for(f"http://127.0.0.1:{unused.getsockname()[1]}/")
        with pytest.raises(BackendGone) as caught:
            await post(pool)
    assert caught.value.executed is Executed.NO
    assert "refused" in str(caught.value).lower()
    assert at_rest(pool)


async def test_a_name_that_does_not_resolve_executed_nothing() -> None:
    async def no_names() -> Addresses:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with resolving(no_names), pytest.raises(BackendGone) as caught:
        await post(pool_for("http://backend.test/"))
    assert caught.value.executed is Executed.NO
    assert "Name or service not known" in str(caught.value)


async def test_the_next_address_is_tried_when_one_fails() -> None:
    async with serve_raw(echo) as server:

        async def two_addresses() -> Addresses:
            return at("::1", server.port) + at("127.0.0.1", server.port)

        with resolving(two_addresses):
            assert await post(pool_for(f"http://backend.test:{server.port}/mcp")) == b"{}"
        assert server.requests[0].headers["host"] == f"backend.test:{server.port}"


async def test_an_address_override_is_dialled_and_the_host_stays() -> None:
    async with serve_raw(echo) as server:
        pool = pool_for("http://backend.test/mcp", connect=f"127.0.0.1:{server.port}")
        await post(pool)
        assert server.requests[0].headers["host"] == "backend.test"


async def test_a_connection_closed_before_the_answer_may_have_executed() -> None:
    async def script(connection: RawConnection) -> None:
        await connection.read_request()

    assert (await gone_after(script)).executed is Executed.UNKNOWN


async def test_a_reset_inside_the_answer_may_have_executed() -> None:
    async def script(connection: RawConnection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel")
        await trio.testing.wait_all_tasks_blocked()
        connection.reset()

    assert (await gone_after(script)).executed is Executed.UNKNOWN


async def test_a_close_inside_the_answer_is_named() -> None:
    error = await gone_after(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel"))
    assert "inside the answer" in str(error)


async def test_a_dial_has_its_own_limit() -> None:
    async def never(connection: RawConnection) -> None:
        await trio.sleep_forever()

    async with serve_raw(never) as server:
        pool = pool_for(server.url.replace("http:", "https:"), connect_s=0.05)
        with pytest.raises(BackendTimeout) as caught:
            await post(pool)
        assert (caught.value.limit, caught.value.executed) == (Limit.CONNECT, Executed.NO)
        assert (pool.open, at_rest(pool)) == (0, True)


# --- answers before the request is read ---


async def test_an_answer_before_the_body_was_read_is_heard() -> None:
    async def script(connection: RawConnection) -> None:
        assert await connection.read_head() is not None
        await connection.send_json(b'"too large"', status="413 Content Too Large")
        await trio.sleep_forever()

    async with serve_raw(script) as server:
        pool = pool_for(server.url)
        async with pool.request(b"POST", b"", b"x" * (16 * 2**20)) as response:
            assert response.status == 413
            assert await response.read(100) == b'"too large"'
        assert (pool.open, at_rest(pool)) == (0, True)


async def test_a_close_while_the_body_is_sent_may_have_executed() -> None:
    async def script(connection: RawConnection) -> None:
        assert await connection.read_head() is not None
        connection.reset()

    async with serve_raw(script) as server:
        pool = pool_for(server.url)
        with pytest.raises(BackendGone) as caught:
            await post(pool, b"x" * (16 * 2**20))
        assert caught.value.executed is Executed.UNKNOWN
        assert (pool.open, at_rest(pool)) == (0, True)


async def test_rubbish_while_the_body_is_sent_breaks_the_protocol() -> None:
    async def script(connection: RawConnection) -> None:
        assert await connection.read_head() is not None
        await connection.send(b"rubbish\r\n\r\n")
        await trio.sleep_forever()

    async with serve_raw(script) as server:
        pool = pool_for(server.url)
        with pytest.raises(BackendProtocol):
            await post(pool, b"x" * (16 * 2**20))
        assert (pool.open, at_rest(pool)) == (0, True)


# --- TLS ---

AUTHORITY = Authority()
TLS_NAME = "backend.test"


def tls_pool(server: RawServer, tls: TlsSpec, *, host: str = TLS_NAME) -> HttpPool:
    return pool_for(f"https://{host}:{server.port}/mcp", connect="127.0.0.1", tls=tls)


async def test_tls_with_a_private_ca_keeps_connections_too() -> None:
    async with serve_raw(echo, AUTHORITY.server_context(TLS_NAME)) as server:
        pool = tls_pool(server, TlsSpec(ca_pem=AUTHORITY.pem))
        big = b"x" * (3 * 2**20)
        assert await post(pool) == b"{}"
        async with pool.request(b"POST", b"", big) as response:
            assert await response.read(len(big)) == big
        assert await post(pool) == b"{}"
        assert pool.dials <= 2  # a session ticket may arrive while idle, which looks like a dead connection


async def test_the_configured_server_name_is_verified() -> None:
    async with serve_raw(echo, AUTHORITY.server_context(TLS_NAME)) as server:
        pool = tls_pool(server, TlsSpec(ca_pem=AUTHORITY.pem, server_name=TLS_NAME), host="other.test")
        assert await post(pool) == b"{}"
        assert server.requests[0].headers["host"] == f"other.test:{server.port}"


@pytest.mark.parametrize(
    "tls, host",
    [
        pytest.param(TlsSpec(), TLS_NAME, id="unknown CA"),
        pytest.param(TlsSpec(ca_pem=AUTHORITY.pem), "other.test", id="another name"),
        pytest.param(TlsSpec(ca_pem=Authority().pem), TLS_NAME, id="another CA"),
        pytest.param(TlsSpec(ca_pem="no certificate"), TLS_NAME, id="broken CA"),
    ],
)
async def test_a_certificate_that_cannot_be_verified_is_refused(tls: TlsSpec, host: str) -> None:
    async with serve_raw(echo, AUTHORITY.server_context(TLS_NAME)) as server:
        pool = tls_pool(server, tls, host=host)
        with pytest.raises(BackendGone) as caught:
            await post(pool)
        assert caught.value.executed is Executed.NO
        assert "certificate" in str(caught.value)
        assert (pool.open, at_rest(pool), server.requests) == (0, True, [])


async def test_verification_can_be_turned_off() -> None:
    async with serve_raw(echo, AUTHORITY.server_context("whoever.test")) as server:
        pool = tls_pool(server, TlsSpec(insecure_skip_verify=True))
        assert await post(pool) == b"{}"


async def test_plain_text_where_tls_was_expected_fails_cleanly() -> None:
    async def script(connection: RawConnection) -> None:
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serve_raw(script) as server:
        pool = pool_for(server.url.replace("http:", "https:"))
        with pytest.raises(BackendGone) as caught:
            await post(pool)
        assert caught.value.executed is Executed.NO
        assert (pool.open, at_rest(pool)) == (0, True)


async def test_a_stream_over_tls_that_ends_after_its_answer_keeps_its_connection() -> None:
    async with serve_raw(streaming(RawConnection.end_chunks), AUTHORITY.server_context(TLS_NAME)) as server:
        pool = tls_pool(server, TlsSpec(ca_pem=AUTHORITY.pem))
        await read_one_event(pool)
        await trio.testing.wait_all_tasks_blocked(0.01)  # the server's side has run
        await read_one_event(pool)
        assert pool.dials == 1


# --- proxies ---


async def proxy_script(connection: RawConnection, answer: bytes, port: int) -> None:
    assert await connection.read_head() is not None
    await connection.send(answer)
    if not port:
        return
    upstream = await trio.open_tcp_stream("127.0.0.1", port)
    async with upstream, trio.open_nursery() as nursery:

        async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
            async for chunk in source:
                await sink.send_all(chunk)
            nursery.cancel_scope.cancel()

        nursery.start_soon(pump, upstream, connection.stream)
        nursery.start_soon(pump, connection.stream, upstream)


async def test_a_proxy_tunnels_tls_to_the_backend() -> None:
    async with serve_raw(echo, AUTHORITY.server_context(TLS_NAME)) as server:

        async def script(connection: RawConnection) -> None:
            await proxy_script(connection, b"HTTP/1.1 200 Connection established\r\n\r\n", server.port)

        async with serve_raw(script) as proxy:
            pool = pool_for(
                f"https://{TLS_NAME}:{server.port}/mcp",
                proxy=f"http://me:pass@127.0.0.1:{proxy.port}",
                tls=TlsSpec(ca_pem=AUTHORITY.pem),
            )
            assert await post(pool) == b"{}"
            assert "proxy-authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", id="refused"),
        pytest.param(b"rubbish\r\n\r\n", id="rubbish"),
        pytest.param(b"HTTP/1.1 200", id="closed inside"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 40_000, id="endless"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nsurplus", id="speaks before we do"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_executed_nothing(answer: bytes) -> None:
    async def script(connection: RawConnection) -> None:
        await proxy_script(connection, answer, 0)

    async with serve_raw(script) as proxy:
        pool = pool_for("https://backend.test/mcp", proxy=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(BackendGone) as caught:
            await post(pool)
        assert caught.value.executed is Executed.NO
        assert (pool.open, at_rest(pool)) == (0, True)


async def test_a_proxy_gets_plain_requests_in_absolute_form() -> None:
    async with serve_raw(echo) as proxy:
        pool = pool_for("http://backend.test/mcp?x=1", proxy=f"http://127.0.0.1:{proxy.port}")
        assert await post(pool) == b"{}"
        request = proxy.requests[0]
        assert (request.target, request.headers["host"]) == ("http://backend.test/mcp?x=1", "backend.test")
        await pool.aclose()


# --- the one retry ---


async def test_a_kept_connection_that_dies_before_the_first_byte_is_replaced() -> None:
    connections: list[RawConnection] = []

    async def script(connection: RawConnection) -> None:
        connections.append(connection)
        await echo(connection)

    async with serve_raw(script) as server:
        pool = pool_for(server.url)
        await post(pool)
        made: list[int] = []

        def late() -> bytes:
            made.append(1)
            connections[0].reset()  # after the pool has looked, before it writes
            return b"again"

        async with pool.request(b"POST", b"", late) as response:
            assert await response.read(10) == b"again"
        assert (made, pool.dials, [request.body for request in server.requests]) == ([1], 2, [b"{}", b"again"])


async def test_a_new_connection_that_dies_before_the_first_byte_executed_nothing() -> None:
    connected = trio.Event()
    connections: list[RawConnection] = []

    async def script(connection: RawConnection) -> None:
        connections.append(connection)
        connected.set()
        await echo(connection)

    def late() -> bytes:
        connections[0].reset()
        return b"never"

    async with serve_raw(script, AUTHORITY.server_context(TLS_NAME)) as server:
        pool = tls_pool(server, TlsSpec(ca_pem=AUTHORITY.pem))
        with pytest.raises(BackendGone) as caught:
            async with pool.request(b"POST", b"", late):
                raise AssertionError
        assert caught.value.executed is Executed.NO
        assert (pool.dials, server.requests) == (1, [])


async def test_a_body_that_cannot_be_made_frees_everything() -> None:
    class Bug(Exception):
        pass

    def broken() -> bytes:
        raise Bug

    async with serve_raw(echo) as server:
        pool = pool_for(server.url)
        with pytest.raises(Bug):
            async with pool.request(b"POST", b"", broken):
                raise AssertionError
        assert pool.open == 0


async def test_a_pool_closed_while_it_dials_gives_nothing_out() -> None:
    async with serve_raw(echo) as server:
        pool = pool_for(f"http://backend.test:{server.port}/mcp")

        async def close_first() -> Addresses:
            await pool.aclose()
            return at("127.0.0.1", server.port)

        with resolving(close_first), pytest.raises(BackendGone) as caught:
            await post(pool)
        assert (caught.value.executed, pool.open) == (Executed.NO, 0)


async def test_another_path_may_be_asked_for() -> None:
    async with serve_raw(echo) as server:
        pool = pool_for(server.url)
        async with pool.request(b"GET", b"", path=b"/other?x=1") as response:
            assert await response.read(10) == b""
        assert (server.requests[0].method, server.requests[0].target) == ("GET", "/other?x=1")
        assert "content-length" not in server.requests[0].headers
