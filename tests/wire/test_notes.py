"""What only a real backend can show of the metrics: answers that come too late."""

import sys

import pytest
import trio

from tests.support import peers
from tests.support.gateway import running_gateway

pytestmark = [pytest.mark.wire]


async def test_an_answer_to_a_cancelled_call_is_counted() -> None:
    entry = {
        "name": "tardy",
        "command": [sys.executable, "-m", "tests.support.stdio_servers.tardy"],
        "env": {"PYTHONPATH": str(peers.ROOT)},
        "protocol": "2025-11-25",
        "timeouts": {"call": "300ms"},
    }
    async with running_gateway([entry]) as running, running.client2025() as client:
        await client.initialize()
        answer = await client.call("tardy_wait")
        assert answer["error"]["data"]["limit"] == "call"
        with trio.fail_after(5):
            while b'late_answers_total{server="tardy"} 1.0' not in running.metrics.render():  # noqa: ASYNC110  # a metric has no event
                await trio.sleep(0.02)
