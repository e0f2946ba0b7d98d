"""The public listener on real sockets: ambiguous and slow requests, pipelines, leave for bodies, clients that leave."""

import os
import socket
from contextlib import suppress

import pytest
import trio

from mcp_gateway.front.http1.hang_ups import PolledHangUps
from mcp_gateway.front.http1.service import Timings
from mcp_gateway.gateway.entrance import Request
from tests.support.ambiguous import ambiguous
from tests.support.front import JSON, Front, Watched, Wire, echo, open_front

pytestmark = pytest.mark.wire


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


async def said_by(front: Front, raw: bytes) -> bytes:
    """All that comes back until the end."""
    wire = await front.dial()
    await wire.send(raw)
    with trio.fail_after(5):
        said = b"".join([bytes(chunk) async for chunk in wire.stream])
    await wire.close()
    return said


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/sse", "/messages", "/mcp/vs/x", "/healthz", "/readyz", "/nothing"])
async def test_nothing_ambiguous_is_served_on_any_path(path: str) -> None:
    served: list[Request] = []

    async def keep(request: Request, reply: Watched) -> None:
        served.append(request)
        await reply.whole(200, JSON, b"{}")

    async with open_front(keep) as front:
        for raw in ambiguous(path.encode()):
            said = await said_by(front, raw)
            assert said.count(b"HTTP/1.1 ") == 1, (raw, said)
            assert said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), (raw, said)
            assert b"connection: close\r\n" in said
    assert served == []


async def test_pipelined_requests_are_answered_in_order_however_long_each_takes() -> None:
    async def slow_first(request: Request, reply: Watched) -> None:
        if request.body == b"0":
            await trio.sleep(0.05)
        await reply.whole(200, JSON, request.body)

    async with open_front(slow_first) as front:
        wire = await front.dial()
        one = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d"
        chunked = b"POST /mcp HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n%d\r\n0\r\n\r\n"
        await wire.send(one % 0 + chunked % 1 + GET + one % 2)
        assert [(await wire.answer())[2] for _ in range(4)] == [b"0", b"1", b"ok\n", b"2"]
        await wire.close()


@pytest.mark.parametrize(
    "lines, expected",
    [
        pytest.param("Origin: http://evil.example\r\nContent-Length: 2", 403, id="a foreign Origin"),
        pytest.param("Content-Length: 99999999", 413, id="too large"),
        pytest.param("Content-Length: 2\r\nHost: y", 400, id="two Hosts"),
    ],
)
async def test_a_refusal_comes_instead_of_leave_to_send_the_body(lines: str, expected: int) -> None:
    async with open_front(echo) as front:
        wire = await front.dial()
        await wire.send(f"POST /mcp HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{lines}\r\n\r\n".encode())
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (expected, "close")
        assert await wire.closed()


async def test_leave_is_given_once_and_only_to_a_client_that_waits() -> None:
    async with open_front(echo) as front:
        wire = await front.dial()
        head = b"POST /mcp HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        await wire.send(head)
        assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(b"{")
        await trio.sleep(0.02)
        await wire.send(b"}")
        assert (await wire.answer())[2] == b"{}"
        await wire.send(head + b"{}")
        assert (await wire.answer())[0] == 200
        await wire.close()


async def test_a_head_that_comes_byte_by_byte_ends_with_its_time() -> None:
    async with open_front(echo, timings=Timings(head_s=0.2, keep_alive_s=5)) as front:
        for served in (False, True):
            wire = await front.dial()
            if served:
                await wire.post()
                assert (await wire.answer())[0] == 200
            with trio.move_on_after(10) as patience, suppress(trio.BrokenResourceError):
                for byte in GET[:-1] + b"x" * 1000:
                    await wire.send(b"%c" % byte)
                    await trio.sleep(0.05)
            assert not patience.cancelled_caught
            assert await wire.closed()


async def test_old_clients_and_verbs_without_bodies_are_answered_in_their_way() -> None:
    async with open_front(echo) as front:
        said = await said_by(front, b"POST /mcp HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}")
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection: close\r\n" in said
        assert said.endswith(b"\r\n\r\n{}")
        said = await said_by(front, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"content-length: 3\r\n" in said
        assert said.endswith(b"\r\n\r\n")
        said = await said_by(front, b"OPTIONS /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 204 No Content\r\n")
        assert b"allow: GET, HEAD, OPTIONS\r\n" in said


async def test_an_upgrade_is_answered_in_http_1_1_and_its_connection_goes_on() -> None:
    async with open_front(echo) as front:
        wire = await front.dial()
        for body in (b"{}", b""):
            await wire.post(body, "/mcp", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
            assert (await wire.answer())[0::2] == (200, body)
        await wire.close()
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
        assert (await said_by(front, preface)).startswith(b"HTTP/1.1 505 ")


async def test_a_client_that_leaves_behind_unread_requests_is_noticed_at_once() -> None:
    started, gone, jobs = trio.Event(), trio.Event(), list[bytes]()

    async def outlive(request: Request, reply: Watched) -> None:
        jobs.append(request.body)
        reply.on_gone(gone.set)
        started.set()
        await gone.wait()

    async with open_front(outlive) as front:
        wire = await front.dial()
        for _ in range(100):
            await wire.post()
        await started.wait()
        await wire.close()
        with trio.fail_after(1):
            await gone.wait()
        with trio.fail_after(1):
            while front.admission.open:  # noqa: ASYNC110  # a counter has no event
                await trio.sleep(0.01)
    assert len(jobs) == 1


async def test_a_client_that_has_left_before_its_request_is_read_is_no_exception() -> None:
    gone = 0

    async def outlive(request: Request, reply: Watched) -> None:
        nonlocal gone
        left = trio.Event()
        reply.on_gone(left.set)
        with trio.fail_after(2):
            await left.wait()
        gone += 1

    async with open_front(outlive) as front:
        for _ in range(20):
            sock = socket.create_connection(("127.0.0.1", front.port))
            sock.sendall(b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
            with trio.fail_after(2):
                await trio.to_thread.run_sync(sock.recv, 1)
            sock.close()
        with trio.fail_after(2):
            while gone < 20:  # noqa: ASYNC110  # a counter has no event
                await trio.sleep(0.01)


async def test_where_there_is_no_epoll_a_client_that_leaves_is_noticed_too() -> None:
    started, gone = trio.Event(), trio.Event()

    async def outlive(request: Request, reply: Watched) -> None:
        reply.on_gone(gone.set)
        started.set()
        await gone.wait()
        await reply.whole(200, JSON, b"{}")

    async with open_front(outlive, hang_ups=PolledHangUps(0.02)) as front:
        wire = await front.dial()
        await wire.post()
        await started.wait()
        await wire.close()
        with trio.fail_after(1):
            await gone.wait()


async def test_after_a_thousand_clients_that_leave_nothing_is_left() -> None:
    async def outlive(request: Request, reply: Watched) -> None:
        gone = trio.Event()
        reply.on_gone(gone.set)
        await gone.wait()

    async with open_front(outlive) as front:
        await said_by(front, GET[:-2] + b"Connection: close\r\n\r\n")
        before = open_descriptors()
        for _ in range(20):
            wires = [await front.dial() for _ in range(50)]
            for wire in wires:
                await wire.post()
            for wire in wires:
                await wire.close()
            with trio.fail_after(5):
                while front.admission.open:  # noqa: ASYNC110  # a counter has no event
                    await trio.sleep(0.01)
        front._wires.clear()
        assert open_descriptors() == before


async def test_at_the_end_a_body_under_way_is_waited_for_and_a_head_is_not() -> None:
    async with open_front(echo) as front:
        heads, bodies = await front.dial(), await front.dial()
        await heads.send(GET[:10])
        await bodies.send(b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        await trio.sleep(0.05)
        front.trigger.set()
        with trio.fail_after(1):
            assert await heads.closed()
        await bodies.send(b"}")
        status, headers, body = await bodies.answer()
        assert (status, headers["connection"], body) == (200, "close", b"{}")
        assert await bodies.closed()


async def test_bytes_of_bodies_are_counted() -> None:
    async with open_front(echo) as front:
        wire = await front.dial()
        await wire.post(b"x" * 1000)
        await wire.answer()
        await wire.close()
        shown = front.source.metrics.render().decode()
        assert "mcp_gateway_received_bytes_total 1000.0" in shown
        assert "mcp_gateway_sent_bytes_total 1000.0" in shown


async def test_a_client_that_resets_its_connection_ends_it_and_nothing_else() -> None:
    async with open_front(echo) as front:
        wire: Wire = await front.dial()
        await wire.send(GET[:10])
        wire.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await wire.close()
        other = await front.dial()
        await other.post()
        assert (await other.answer())[0] == 200
        await other.close()
