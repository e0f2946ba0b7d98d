"""A backend and its callers: in which era whose requests go up."""

import attrs
import pytest
from trio.testing import MockClock

from mcp_gateway.errors import BackendProtocol, Executed
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era, Family
from tests.support.scripted_link import CALL, ScriptedBackend, caller, deaf, discovered, running


async def test_nothing_is_said_of_the_era_before_it_is_known(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(connect_s=1.0)
    async with running(scripted) as backend:
        assert backend.family_for(caller("a")) is None
        with pytest.raises(BackendProtocol, match="not known yet") as raised:
            backend.era_for(caller("a"))
        assert raised.value.executed is Executed.NO


@pytest.mark.parametrize("era", [V2025_11_25, V2026_07_28])
@pytest.mark.parametrize("session", [None, "a"])
async def test_a_backend_of_one_era_is_spoken_to_in_that_by_everybody(
    autojump_clock: MockClock, era: Era, session: str | None
) -> None:
    async with discovered(ScriptedBackend(era=era)) as backend:
        assert backend.era_for(caller(session)) is era
        assert (await backend.link_for(caller(session))).era is era


async def test_a_request_that_is_written_for_the_other_era_is_not_sent(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with discovered(scripted) as backend:
        with pytest.raises(BackendProtocol, match="2025-11-25") as raised:
            await backend.exchange(caller("a"), attrs.evolve(CALL, family=Family.MODERN), deaf)
        assert raised.value.executed is Executed.NO
        assert not scripted.asked("tools/call")
