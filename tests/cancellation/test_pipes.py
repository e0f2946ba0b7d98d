"""Cancellation of links over pipes, at every await: the backend is told, and nothing is left behind."""

import contextlib
import json
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import GOODBYE_S, Hello, Inbound, Outgoing
from mcp_gateway.backends.transports.http_client import HttpPool
from mcp_gateway.backends.transports.legacy_sse import open_legacy_sse
from mcp_gateway.backends.transports.pipe import CONTROL_EXCHANGES, PipeLink, nobody_cares, open_pipe
from mcp_gateway.backends.transports.stdio import open_stdio
from mcp_gateway.config.spec import BackendLimits, HttpTarget
from mcp_gateway.errors import BackendGone
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.eras import NEWEST_LEGACY
from mcp_gateway.values import BackendKey
from tests.support.cancel_at import cancelled_at
from tests.support.children import running_with, server, unreaped
from tests.support.raw_http import RawConnection, response, serve_raw
from tests.support.scripted_pipe import ScriptedPipe

KEY = BackendKey("files")
LIMITS = BackendLimits(concurrency=2)
MANY = 200
"""More awaits than any of these has; a test that gets there has not ended."""


def call(name: str, *, control: bool = False) -> Outgoing:
    def render(upstream_id: int) -> bytes:
        return jsonrpc.render_request(b"%d" % upstream_id, "tools/call", b'{"name":"%b"}' % name.encode())

    return Outgoing(method="tools/call", render=render, control=control)


async def ignore(message: Inbound) -> None:
    """Hear it, with an await to be cancelled at."""
    await trio.lowlevel.checkpoint()


async def at_every_await(run: Callable[[], Coroutine[object, object, None]], check: Callable[[], None]) -> int:
    """Cancel ``run`` at its first await, then at its second, and so on; return how many it has."""
    for step in range(1, MANY):
        through = not await cancelled_at(step, run)
        check()
        if through:
            return step
    pytest.fail("it never ended")


async def test_an_exchange_cancelled_anywhere_leaves_nothing_and_tells_the_backend_if_it_knows(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe = ScriptedPipe()

    async def serve() -> None:
        done = 0
        while True:
            message = (await pipe.heard(done + 1))[done]
            done += 1
            if message["method"] == "tools/call":
                await trio.lowlevel.checkpoint()
                pipe.say(method="notifications/progress", params={"progressToken": message["id"], "progress": 1})
                await trio.lowlevel.checkpoint()
                answered.add(message["id"])
                pipe.say(id=message["id"], result={})

    answered: set[object] = set()
    nursery.start_soon(serve)
    async with open_pipe(pipe, key=KEY, limits=LIMITS, shared=True, unattributed=ignore, on_lost=nobody_cares) as link:
        link.greeted(Hello(era=NEWEST_LEGACY, capabilities={}))

        async def run() -> None:
            await link.exchange(call("echo"), ignore)

        tasks = trio.lowlevel.current_statistics().tasks_living

        def check() -> None:
            assert trio.lowlevel.current_statistics().tasks_living == tasks
            assert link.in_flight == 0
            sent = [json.loads(frame) for frame in pipe.sent]
            told = [
                message["params"]["requestId"] for message in sent if message["method"] == "notifications/cancelled"
            ]
            asked = [message["id"] for message in sent if message["method"] == "tools/call"]
            assert len(told) == len(set(told))
            assert set(told) <= set(asked)
            assert all(upstream_id in told or upstream_id in answered for upstream_id in asked)

        assert await at_every_await(run, check) > 3
        for _ in range(LIMITS.concurrency):  # every place is free again
            await link.exchange(call("echo"), ignore)
        assert not link.lost


@pytest.mark.parametrize("held", ["writing", "answering", "hearing", "waiting for a place"])
async def test_a_cancelled_exchange_is_over_within_the_goodbye(
    autojump_clock: MockClock, nursery: trio.Nursery, held: str
) -> None:
    pipe = ScriptedPipe(sends=held != "writing")

    async def hear(message: Inbound) -> None:
        await trio.sleep_forever()

    async def occupy(link: PipeLink) -> None:
        with contextlib.suppress(BackendGone):  # the link is closed at the end
            await link.exchange(call("other", control=True), hear)

    async with open_pipe(pipe, key=KEY, limits=LIMITS, shared=True, unattributed=ignore, on_lost=nobody_cares) as link:
        link.greeted(Hello(era=NEWEST_LEGACY, capabilities={}))
        if held == "waiting for a place":
            for _ in range(CONTROL_EXCHANGES):
                nursery.start_soon(occupy, link)
            await trio.testing.wait_all_tasks_blocked()
        began_at = trio.current_time()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as calling:
                calling.start_soon(link.exchange, call("mine", control=held == "waiting for a place"), hear)
                await trio.testing.wait_all_tasks_blocked()
                if held == "hearing":
                    pipe.say(method="notifications/progress", params={"progressToken": 1, "progress": 1})
                    await trio.testing.wait_all_tasks_blocked()
                pipe.sends = False
                scope.cancel("test")
        told_s = 0.0 if held in ("writing", "waiting for a place") else GOODBYE_S
        assert trio.current_time() - began_at == pytest.approx(told_s)
        assert link.in_flight == (CONTROL_EXCHANGES if held == "waiting for a place" else 0)


@pytest.mark.wire
@pytest.mark.slow
@pytest.mark.parametrize("name", ["jester", "modern", "exits_on_probe"])
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for orphans in /proc")
async def test_a_child_whose_opening_is_cancelled_anywhere_leaves_nothing(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "record"

    async def run() -> None:
        async with open_stdio(key=KEY, target=server(name, marker), limits=LIMITS, unattributed=ignore) as link:
            with trio.move_on_after(0.01):  # not every one of them answers
                await link.exchange(call("echo"), ignore)

    tasks = trio.lowlevel.current_statistics().tasks_living

    def check() -> None:
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert running_with(marker) == []
        assert unreaped() == []

    assert await at_every_await(run, check) > 3


@pytest.mark.wire
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ignores_term", "stops_reading", "forks_grandchild"])
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for orphans in /proc")
async def test_a_cancelled_owner_stops_a_stubborn_child_within_the_goodbye(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "record"
    opened = trio.Event()

    async def own() -> None:
        async with open_stdio(key=KEY, target=server(name, marker), limits=LIMITS, unattributed=ignore):
            opened.set()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(own)
        await opened.wait()
        nursery.cancel_scope.cancel("test")
        began_at = trio.current_time()
    assert trio.current_time() - began_at <= GOODBYE_S + 0.2
    assert running_with(marker) == []
    assert unreaped() == []


@pytest.mark.wire
async def test_an_event_stream_whose_opening_is_cancelled_anywhere_leaves_nothing() -> None:
    streams: list[RawConnection] = []

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.method == "GET":
                await connection.begin_events()
                await connection.send_chunk(b"event: endpoint\ndata: /m\n\n")
                streams.append(connection)
                await connection.gone()
                continue
            await connection.send(response(b"", status="202 Accepted"))
            result: dict[str, object] = {"protocolVersion": "2024-11-05", "capabilities": {}}
            if "id" in request.json:
                answer = {"jsonrpc": "2.0", "id": request.json["id"], "result": result}
                await streams[-1].send_chunk(b"data: %b\n\n" % json.dumps(answer).encode())

    async with serve_raw(script) as far:
        pool = HttpPool(key=KEY, target=HttpTarget(url=f"{far.url}/sse"), connect_s=5.0)

        async def run() -> None:
            async with open_legacy_sse(pool, limits=LIMITS, unattributed=ignore) as link:
                await link.exchange(call("echo"), ignore)

        def check() -> None:
            assert (pool.control_in_flight, pool.streams_in_flight) == (0, 0)
            assert pool.open == pool.idle

        assert await at_every_await(run, check) > 5
        await pool.aclose()
