"""The pool against servers that misbehave: wrong answers, failing connections, early answers, the one retry."""

import socket

import pytest
import trio
import trio.testing

from mcp_gateway.config.spec import TlsSpec
from mcp_gateway.errors import (
    BackendGone,
    BackendProtocol,
    BackendTimeout,
    BackendTooLarge,
    Executed,
    Limit,
)
from tests.support.http_pools import AUTHORITY, TLS_NAME, answering, at_rest, echo, pool_for, post, tls_pool
from tests.support.http_pools import pools as pools
from tests.support.raw_http import RawConnection, Script, serve_raw
from tests.support.resolver import Addresses, at, resolving

pytestmark = pytest.mark.wire


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
