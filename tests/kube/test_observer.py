"""When a gateway has finished its first round, and that a reporter hears of it; time is virtual."""

from collections.abc import Mapping

import attrs
import orjson
import trio
from trio.testing import MockClock

from mcp_gateway.cell import Cell
from mcp_gateway.config.compiled import Compiled, read_compiled
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.kube.observer import FIRST_ROUND_S, GatewayObserver
from mcp_gateway.routing.build import build
from mcp_gateway.routing.snapshot import Condition, Health, Snapshot
from mcp_gateway.values import BackendKey, JsonValue


@attrs.define
class Servers:
    """As a fleet has them."""

    snapshots: Cell[Mapping[BackendKey, Snapshot]] = attrs.field(factory=lambda: Cell({}))
    tried: bool = False

    def are(self, **healths: Health) -> None:
        self.snapshots.set(
            {
                BackendKey(name): Snapshot(backend=BackendKey(name), condition=Condition(health=health))
                for name, health in healths.items()
            }
        )

    def first_discovery_done(self) -> bool:
        return self.tried


def observer(servers: Servers, *names: str) -> GatewayObserver:
    entries: list[JsonValue] = [{"name": name, "url": f"http://{name}.test"} for name in names]
    compiled: Cell[Compiled | None] = Cell(read_compiled(orjson.dumps({"schema": 1, "servers": entries})))
    return GatewayObserver(compiled=compiled, fleet=servers, table=Cell(build(GatewaySpec(), {}, None)))


def complete(made: GatewayObserver) -> bool:
    observed = made.observe()
    assert observed is not None
    return observed.complete


async def test_before_anything_is_configured_there_is_nothing_to_say() -> None:
    made = GatewayObserver(compiled=Cell(None), fleet=Servers(), table=Cell(build(GatewaySpec(), {}, None)))
    assert made.observe() is None


async def test_the_first_round_is_over_when_every_server_is_connected() -> None:
    servers = Servers()
    made = observer(servers, "a", "b")
    assert not complete(made)
    servers.tried = True
    servers.are(a=Health.READY, b=Health.CONNECTING)
    assert not complete(made)
    servers.are(a=Health.READY, b=Health.READY)
    assert complete(made)
    servers.are(a=Health.CONNECTING, b=Health.READY)
    assert complete(made), "there is no second one"


async def test_a_server_that_fails_is_waited_for_a_while_and_the_end_of_that_is_told(autojump_clock: MockClock) -> None:
    servers = Servers(tried=True)
    servers.are(a=Health.DOWN)
    made = observer(servers, "a")
    assert not complete(made)
    began_at = trio.current_time()
    await made.changed()
    assert trio.current_time() - began_at == FIRST_ROUND_S
    assert complete(made)
    with trio.move_on_after(100) as scope:
        await made.changed()
    assert scope.cancelled_caught, "nothing changes any more"


async def test_a_pod_without_servers_counts_at_once() -> None:
    assert complete(observer(Servers(tried=True)))
