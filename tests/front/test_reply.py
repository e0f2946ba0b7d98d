"""The ASGI form of one answer, piece by piece."""

import trio
from hypercorn.typing import ASGISendEvent
from trio.testing import MockClock

from mcp_gateway.front.reply import AsgiReply
from mcp_gateway.telemetry.metrics import Metrics


async def test_an_event_is_sent_whole_though_its_call_is_cancelled(autojump_clock: MockClock) -> None:
    sent = bytearray()

    async def slow_client(message: ASGISendEvent) -> None:
        await trio.sleep(1)
        if message["type"] == "http.response.body":
            sent.extend(message["body"])

    reply = AsgiReply(send=slow_client, metrics=Metrics())
    assert await reply.open(200, ())
    with trio.move_on_after(1.5) as call:
        await reply.event(b"x" * 200_000)
        await trio.sleep_forever()
    assert call.cancelled_caught
    assert await reply.event(b"{}")
    assert bytes(sent).split(b"\n\n")[:2] == [b"data: " + b"x" * 200_000, b"data: {}"]


async def test_a_client_that_reads_nothing_is_given_up_though_the_call_is_cancelled(autojump_clock: MockClock) -> None:
    async def stuck(message: ASGISendEvent) -> None:
        await trio.sleep_forever()

    left: list[bool] = []
    reply = AsgiReply(send=stuck, metrics=Metrics(), stall_s=5)
    reply.on_gone(lambda: left.append(True))
    began_at = trio.current_time()
    with trio.move_on_after(1):
        assert not await reply.open(200, ())
    assert trio.current_time() - began_at == 5
    assert left == [True]
    assert not await reply.event(b"x" * 200_000)
