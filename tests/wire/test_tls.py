"""The public listener over TLS: the same answers, and certificates that change."""

import ssl
from pathlib import Path

import pytest
import trio

from mcp_gateway.front.http1.service import Timings
from mcp_gateway.front.http1.tls import Certificate, CertificateError
from mcp_gateway.gateway.entrance import Request
from tests.support.certificates import Authority
from tests.support.front import JSON, Front, Watched, echo, open_front

pytestmark = pytest.mark.wire

POST = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


async def dial(front: Front, authority: Authority, name: str) -> trio.SSLStream[trio.SocketStream]:
    context = ssl.create_default_context(cadata=authority.pem)
    context.set_alpn_protocols(["h2", "http/1.1"])
    stream = await trio.open_tcp_stream("127.0.0.1", front.port)
    return trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)


async def ask(stream: trio.SSLStream[trio.SocketStream], raw: bytes, until: bytes) -> bytes:
    with trio.fail_after(5):
        await stream.send_all(raw)
        got = b""
        while not got.endswith(until):
            got += await stream.receive_some(65536)
    return got


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def certificate(authority: Authority, tmp_path: Path) -> Certificate:
    pem = tmp_path / "server.pem"
    pem.write_bytes(authority.server_pem("one.example"))
    return Certificate(cert=pem, key=pem, look_s=0.05)


async def test_requests_over_tls_are_answered_like_any_other(authority: Authority, certificate: Certificate) -> None:
    schemes: list[str] = []

    async def large(request: Request, reply: Watched) -> None:
        schemes.append(request.scheme)
        await reply.whole(200, JSON, b"x" * 3_000_000 + b"{}")

    async with open_front(large, certificate=certificate) as front:
        stream = await dial(front, authority, "one.example")
        for _ in range(2):
            assert len(await ask(stream, POST, b"{}")) > 3_000_000
        assert stream.selected_alpn_protocol() == "http/1.1"
        assert b"HTTP/1.1 200" in await ask(stream, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", b"ok\n")
        assert b"HTTP/1.1 400" in await ask(stream, b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", b"}")
        await trio.aclose_forcefully(stream)
    assert schemes == ["https"] * 2


async def test_a_client_that_leaves_is_noticed_over_tls(authority: Authority, certificate: Certificate) -> None:
    started, gone = trio.Event(), trio.Event()

    async def outlive(request: Request, reply: Watched) -> None:
        reply.on_gone(gone.set)
        started.set()
        await gone.wait()
        assert not await reply.whole(200, JSON, b"{}")

    async with open_front(outlive, certificate=certificate) as front:
        stream = await dial(front, authority, "one.example")
        await stream.send_all(POST)
        await started.wait()
        await trio.aclose_forcefully(stream)
        with trio.fail_after(2):
            await gone.wait()


async def test_a_new_certificate_is_used_by_new_connections_and_a_broken_one_by_none(
    authority: Authority, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with open_front(echo, certificate=certificate) as front:
        old = await dial(front, authority, "one.example")
        await ask(old, POST, b"{}")
        certificate.cert.write_bytes(b"half a certi")
        with trio.fail_after(5):
            while "certificate not reloaded" not in caplog.messages:  # noqa: ASYNC110  # another task's log line
                await trio.sleep(0.02)
        still = await dial(front, authority, "one.example")
        await ask(still, POST, b"{}")
        certificate.cert.unlink()
        await trio.sleep(0.2)
        assert caplog.messages.count("certificate not reloaded") == 2
        certificate.cert.write_bytes(authority.server_pem("two.example"))
        with trio.fail_after(5):
            while "certificate reloaded" not in caplog.messages:  # noqa: ASYNC110  # another task's log line
                await trio.sleep(0.02)
        new = await dial(front, authority, "two.example")
        for stream in (old, still, new):
            await ask(stream, POST, b"{}")
            await trio.aclose_forcefully(stream)


async def test_who_does_not_speak_tls_or_not_in_time_is_cut(certificate: Certificate) -> None:
    async with open_front(echo, certificate=certificate, timings=Timings(head_s=0.2)) as front:
        plain, silent = await front.dial(), await front.dial()
        await plain.send(POST)
        with trio.fail_after(2):
            assert b"HTTP" not in b"".join([bytes(chunk) async for chunk in plain.stream])
            assert await silent.closed()


def test_what_cannot_be_used_is_said_in_one_line(authority: Authority, tmp_path: Path) -> None:
    one, two = tmp_path / "one.pem", tmp_path / "two.pem"
    one.write_bytes(authority.server_pem("one.example"))
    two.write_bytes(authority.server_pem("two.example"))
    for cert, key in ((tmp_path / "nothing", one), (one, tmp_path / "nothing"), (one, two), (Path(__file__), one)):
        with pytest.raises(CertificateError, match="cannot use the certificate") as caught:
            Certificate(cert=cert, key=key)
        assert "\n" not in str(caught.value)
