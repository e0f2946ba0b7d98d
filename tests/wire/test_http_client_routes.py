"""The pool over TLS and through proxies."""

import pytest
import trio
import trio.testing

from mcp_gateway.config.spec import TlsSpec
from mcp_gateway.errors import (
    BackendGone,
    Executed,
)
from tests.support.certificates import Authority
from tests.support.http_pools import (
    AUTHORITY,
    TLS_NAME,
    at_rest,
    echo,
    pool_for,
    post,
    read_one_event,
    streaming,
    tls_pool,
)
from tests.support.http_pools import pools as pools
from tests.support.raw_http import RawConnection, serve_raw

pytestmark = pytest.mark.wire


# --- TLS ---


async def test_tls_with_a_private_ca_keeps_connections_too() -> None:
    async with serve_raw(echo, AUTHORITY.server_context(TLS_NAME)) as server:
        pool = tls_pool(server, TlsSpec(ca_pem=AUTHORITY.pem))
        big = b"x" * (3 * 2**20)
        assert await post(pool) == b"{}"
        async with pool.request(b"POST", b"", big) as response:
            assert await response.read(len(big)) == big
        assert await post(pool) == b"{}"
        assert pool.dials == 1


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
