"""A survey that is cut off at any moment leaves no session behind, and is cut off at once."""

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.values import JsonObject
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, running, tool

STEP_S = 0.1


async def pause(link: ScriptedLink) -> None:
    await trio.sleep(STEP_S)


async def slow_list(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep(STEP_S)
    return {"tools": [tool("a"), *([tool("b")] if b"sampling" in link.identity.capabilities else [])]}


@pytest.mark.parametrize("transport", ["streamable-http", "stdio"])
@pytest.mark.parametrize("step", range(18))
async def test_wherever_it_is_cut_off_its_session_is_ended(
    autojump_clock: MockClock, transport: str, step: int
) -> None:
    """Each of five sessions takes three steps: to be opened, to list, to be ended."""
    scripted = ScriptedBackend(transport=transport, goodbye_s=STEP_S, handlers={"tools/list": slow_list})
    scripted.on_survey = pause
    async with running(scripted, survey=True) as backend:
        await trio.sleep(STEP_S * (step + 1.5) + (1.0 if scripted.pipe else 0.0))
        cut_at = trio.current_time()
        backend.close("test")
        await backend.gone.wait()
        assert trio.current_time() - cut_at < 2 * STEP_S
        assert 1 <= len(scripted.surveys) <= 6
        assert all(link.closed for link in (*scripted.surveys, *scripted.links))
        assert all(link.in_flight == 0 for link in scripted.surveys)
