"""Events that came at once go out at once, in order, and nothing stays behind."""

import pytest
import trio

from mcp_gateway.gateway.entrance import Request
from tests.support.front import Watched, open_front

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("end", ["flush", "event", "comment", "close"])
async def test_what_is_held_back_goes_out_with_what_follows(end: str) -> None:
    released = trio.Event()

    async def stream(request: Request, reply: Watched) -> None:
        await reply.open(200, (), more=True)
        for number in range(3):
            assert await reply.event(b"%d" % number, more=True)
        match end:
            case "flush":
                await reply.flush()
            case "event":
                await reply.event(b"last")
            case "comment":
                await reply.comment()
            case _:
                await reply.close()
        await released.wait()

    async with open_front(stream) as front:
        wire = await front.dial()
        await wire.post(b"{}")
        got = b""
        with trio.fail_after(5):
            while b"data: 2" not in got:
                got += await wire.stream.receive_some()
        assert got.index(b"200 OK") < got.index(b"data: 0") < got.index(b"data: 1") < got.index(b"data: 2")
        released.set()
        await wire.close()


async def test_more_than_a_bound_is_not_held_back() -> None:
    seen = trio.Event()

    async def stream(request: Request, reply: Watched) -> None:
        await reply.open(200, ())
        for _ in range(5):
            await reply.event(b"x" * 20_000, more=True)
        await seen.wait()

    async with open_front(stream) as front:
        wire = await front.dial()
        await wire.post(b"{}")
        got = 0
        with trio.fail_after(5):
            while got < 65_000:
                got += len(await wire.stream.receive_some())
        seen.set()
        await wire.close()
