"""When a new route table is built, and when not."""

import trio
from trio.testing import MockClock

from mcp_gateway.errors import FaultKind
from mcp_gateway.routing.snapshot import Health
from tests.support.scripted_gateway import scripted_gateway
from tests.support.scripted_link import ScriptedBackend, tool


async def test_a_failure_more_builds_no_table_and_shows_in_the_status(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(tools=[tool("now")])
    async with scripted_gateway(scripted) as where:
        backend = where.fleet.get(scripted.key)
        assert backend is not None
        await trio.sleep(1)
        generation = where.gateway.context.table.value.generation
        before = where.fleet.snapshots.version
        machine = backend.supervisor.machine
        for _ in range(2):
            machine.failed(trio.current_time(), "reset", FaultKind.CONNECTION)
            backend.supervisor.builder.announce()
            await trio.sleep(1)
        assert where.fleet.snapshots.version > before
        condition = where.fleet.snapshots.value[scripted.key].condition
        assert (condition.health, condition.failures) == (Health.DEGRADED, 2)
        assert condition.last_failure is not None
        assert condition.last_failure.message == "reset"
        status = where.fleet.status(scripted.key)
        assert (status["state"], status["failures"]) == ("degraded", 2)
        assert where.gateway.context.table.value.generation == generation
        scripted.tools.append(tool("then"))
        backend.supervisor.refresh()
        await trio.sleep(5)
        assert where.gateway.context.table.value.generation > generation
