"""The front on real sockets: draining, stalled readers, clients that leave, the end of the server."""

import socket

import pytest
import trio

from mcp_gateway.front.http1.service import Timings
from mcp_gateway.gateway.entrance import Job, Reply, Request
from tests.support.front import JSON, Watched, Wire, echo, open_front

pytestmark = pytest.mark.wire


async def test_while_draining_answers_close_their_connection() -> None:
    async with open_front(echo) as front:
        wire = await front.dial()
        await wire.post()
        assert "connection" not in (await wire.answer())[1]
        front.draining = True
        await wire.post()
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await wire.closed()


async def test_after_the_trigger_nobody_is_accepted_and_what_runs_is_finished() -> None:
    started, go = trio.Event(), trio.Event()

    async def slow(request: Request, reply: Watched) -> None:
        started.set()
        await go.wait()
        await reply.whole(200, JSON, b"{}")

    async with open_front(slow) as front:
        busy, idle = await front.dial(), await front.dial()
        await busy.post()
        await started.wait()
        front.trigger.set()
        with trio.fail_after(2):
            assert await idle.closed()
        with pytest.raises(OSError, match="all attempts to connect"):
            await front.dial()
        assert not front.ended.is_set()
        go.set()
        assert (await busy.answer())[0] == 200
        with trio.fail_after(1):
            assert await busy.closed()
            await front.ended.wait()


async def fill(wire: Wire, window: int = 4096) -> None:
    """A small window, so that the server's sends stall soon."""
    wire.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    await wire.post()


async def test_a_reader_that_stalls_cannot_keep_the_server_alive() -> None:
    stalled = trio.Event()

    async def flood(request: Request, reply: Watched) -> None:
        await reply.open(200, [])
        stalled.set()
        while await reply.event(b"x" * 100_000):
            pass

    async with open_front(flood, graceful_timeout_s=0.3) as front:
        wire = await front.dial()
        await fill(wire)
        await stalled.wait()
        await trio.sleep(0.2)
        front.trigger.set()
        with trio.fail_after(2):
            await front.ended.wait()
        await wire.close()


async def test_a_reader_that_stalls_is_treated_as_gone() -> None:
    over = trio.Event()
    gone: list[str] = []

    async def flood(request: Request, reply: Watched) -> None:
        reply.on_gone(lambda: gone.append("gone"))
        await reply.open(200, [])
        while await reply.event(b"x" * 100_000):
            pass
        over.set()

    async with open_front(flood, timings=Timings(send_stall_s=0.3)) as front:
        wire = await front.dial()
        await fill(wire)
        with trio.fail_after(5):
            await over.wait()
        assert gone == ["gone"]
        await wire.close()


async def test_a_slow_reader_that_makes_progress_is_served() -> None:
    async def large(request: Request, reply: Watched) -> None:
        await reply.whole(200, JSON, b"x" * 12_000_000)

    async with open_front(large, timings=Timings(send_stall_s=0.3)) as front:
        wire = await front.dial()
        await fill(wire, 100_000)
        began_at = trio.current_time()
        await wire.head()
        got = len(wire.rest)
        while got < 12_000_000:
            got += len(await wire.stream.receive_some(200_000))
            await trio.sleep(0.01)
        assert got == 12_000_000
        assert trio.current_time() - began_at > 0.3, "too fast to show anything"
        await wire.close()


async def test_cancelling_the_server_cuts_everything_at_once() -> None:
    stalled = trio.Event()

    async def flood(request: Request, reply: Watched) -> None:
        await reply.open(200, [])
        stalled.set()
        while await reply.event(b"x" * 100_000):
            pass

    with trio.fail_after(3):
        async with trio.open_nursery() as nursery:

            async def use() -> None:
                async with open_front(flood, graceful_timeout_s=60) as front:
                    await fill(await front.dial())
                    await trio.sleep_forever()

            nursery.start_soon(use)
            await stalled.wait()
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel("now")


async def test_a_writer_that_never_looks_at_the_result_still_ends_with_its_client() -> None:
    """Sends on a closed socket fail without waiting; a loop of them must not stop the event loop."""
    over = trio.Event()

    async def deaf(request: Request, reply: Watched) -> None:
        await reply.open(200, [])
        with trio.move_on_after(0.5):
            while True:
                await reply.event(b"x")
        over.set()

    async with open_front(deaf) as front:
        wire = await front.dial()
        await wire.post()
        await wire.head()
        await wire.close()
        with trio.fail_after(3):
            await over.wait()


async def test_a_job_that_fails_in_a_strange_way_does_not_end_the_server(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: Request, reply: Reply) -> Job:
        raise KeyError("x")

    async with open_front(echo, prepare=broken) as front:
        wire = await front.dial()
        await wire.post()
        assert (await wire.answer())[0] == 500
        await wire.close()
        other = await front.dial()
        await other.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await other.answer())[0] == 200
        await other.close()
    assert [record.message for record in caplog.records] == ["request failed"]


async def test_what_follows_a_refused_request_is_not_served_and_no_fault_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_front(echo) as front:
        for _ in range(20):
            wire = await front.dial()
            await wire.post(b"{}", "/mcp", "Origin: http://evil.example")
            await wire.post(b"{}")
            said = b"".join([chunk async for chunk in wire.stream])
            assert said.count(b"HTTP/1.1 ") <= 1
            assert b"HTTP/1.1 200" not in said
            await wire.close()
    assert [record.message for record in caplog.records if record.levelname != "INFO"] == []


async def test_a_client_that_leaves_while_sending_its_body_reaches_nobody() -> None:
    called: list[Request] = []

    async def keep(request: Request, reply: Watched) -> None:
        called.append(request)

    async with open_front(keep) as front:
        wire = await front.dial()
        await wire.send(b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        await trio.sleep(0.05)
        await wire.close()
        front.trigger.set()
        with trio.fail_after(2):
            await front.ended.wait()
    assert not called
    assert front.admission.open == 0
