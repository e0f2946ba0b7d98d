"""What a pod says of what it has loaded and connected to, and when it says it."""

import attrs
import httpx2
import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.config.compiled import Compiled, read_compiled
from mcp_gateway.errors import FaultKind
from mcp_gateway.kube.api import Api
from mcp_gateway.kube.report import MAX_BYTES, Observed, report_spec, states
from mcp_gateway.kube.reporter import CALM_S, RENEW_S, Reporter
from mcp_gateway.protocol.eras import V2025_11_25
from mcp_gateway.routing.build import build
from mcp_gateway.routing.snapshot import Condition, Failure, Health, Snapshot
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.kube.scripted_api import answer, refusal, scripted_api
from tests.support.tables import lists, snapshot

A = BackendKey("n/a")


def compiled(*names: str, virtual: JsonValue = None, **more: JsonValue) -> Compiled:
    servers: list[JsonValue] = [
        {"name": name, "url": "http://x.test/mcp", "prefix": f"{name[-1]}_", "revision": f"r-{name}", **more}
        for name in names
    ]
    gateway: JsonObject = {"name": "n/e", "revision": "rg", "servers": [*names], "virtualServers": ["n/v"]}
    whole: JsonObject = {"schema": 1, "revision": "whole", "servers": servers, "gateways": [gateway]}
    if virtual is not None:
        whole["virtualServers"] = [virtual]
    return read_compiled(orjson.dumps(whole))


def seen(health: Health = Health.READY, failure: Failure | None = None, *, revision: str = "r-n/a") -> Snapshot:
    condition = Condition(health=health, since_at=10.0, last_failure=failure)
    listed = lists(["x", "y"]) if health is Health.READY else None
    return attrs.evolve(snapshot(A, listed, era=V2025_11_25), condition=condition, revision=revision)


def said(made: Compiled, *snapshots: Snapshot, complete: bool = True) -> JsonObject:
    by_key = {one.backend: one for one in snapshots}
    observed = Observed(compiled=made, snapshots=by_key, table=build(made.spec, by_key, None), complete=complete)
    return report_spec(observed, "pod-1", "default", "2026-01-01T00:00:00Z", lambda at: at + 1_000_000.0)


def server(spec: JsonObject, place: int = 0) -> JsonObject:
    servers = spec["servers"]
    assert isinstance(servers, list)
    found = servers[place]
    assert isinstance(found, dict)
    return found


def test_a_connected_server_is_said_with_its_counts() -> None:
    spec = said(compiled("n/a"), seen())
    assert server(spec) == {
        "name": "n/a",
        "revision": "r-n/a",
        "state": "Connected",
        "since": "1970-01-12T13:46:50Z",
        "tools": 2,
        "prompts": 0,
        "resources": 0,
        "protocol": "2025-11-25",
    }
    assert (spec["serverCount"], spec["connectedCount"], spec["configRevision"]) == (1, 1, "whole")
    assert spec["gateways"] == [{"name": "n/e", "revision": "rg", "state": "Loaded"}]
    assert spec["complete"] is True


@pytest.mark.parametrize(
    "kind, state",
    [
        pytest.param(FaultKind.CONNECTION, "ConnectionFailed", id="connection"),
        pytest.param(FaultKind.AUTH, "AuthenticationFailed", id="credential"),
        pytest.param(FaultKind.PROTOCOL, "ProtocolError", id="protocol"),
    ],
)
def test_a_server_that_fails_is_said_with_what_it_fails_of(kind: FaultKind, state: str) -> None:
    failure = Failure(kind=kind, message="no\x00thing " + "x" * 400, at=1.0)
    found = server(said(compiled("n/a"), seen(Health.CONNECTING, failure)))
    assert found["state"] == state
    assert str(found["lastError"]).startswith("no thing xxx")
    assert len(str(found["lastError"])) == 256


def test_what_is_known_of_another_revision_is_not_said() -> None:
    found = server(said(compiled("n/a"), seen(revision="older")))
    assert found == {"name": "n/a", "revision": "r-n/a", "state": "Connecting"}
    assert server(said(compiled("n/a")))["state"] == "Connecting"
    assert server(said(compiled("n/a"), seen(Health.CONNECTING)))["state"] == "Connecting"


def test_a_disabled_server_is_said_to_be() -> None:
    assert server(said(compiled("n/a", state="disabled")))["state"] == "Disabled"


def test_what_is_refused_is_said_with_the_reason() -> None:
    made = compiled("n/a", "n/b", requires=["moonlight"])
    spec = said(made)
    assert [server(spec, place)["state"] for place in (0, 1)] == ["UnsupportedFeature"] * 2
    assert "moonlight" in str(server(spec)["lastError"])
    assert server(said(compiled("n/a", url="ftp://x")))["state"] == "InvalidEntry"


def test_names_of_a_virtual_server_that_nobody_offers_are_said() -> None:
    virtual: JsonValue = {
        "name": "n/v",
        "revision": "rv",
        "tools": ["a_x", "a_none"],
        "prompts": ["a_p"],
        "resources": ["r://1"],
    }
    spec = said(compiled("n/a", virtual=virtual), seen())
    assert spec["virtualServers"] == [
        {"name": "n/v", "revision": "rv", "state": "Loaded", "missing": ["a_none", "a_p", "r://1"], "missingCount": 3}
    ]


def test_a_report_stays_within_its_bounds() -> None:
    made = compiled(*(f"n/s{number:04}" for number in range(1500)), prefix="")
    failure = Failure(kind=FaultKind.CONNECTION, message="x" * 300, at=1.0)
    shots = [
        attrs.evolve(seen(Health.DOWN, failure), backend=one.key, revision=one.revision) for one in made.spec.servers
    ]
    spec = said(made, *shots)
    assert len(orjson.dumps(spec)) <= MAX_BYTES
    assert len(states(spec)) == 1500


# --- when ------------------------------------------------------------------------------------------------------------


@attrs.define
class Stage:
    """An observer that is told what to say."""

    observed: Observed | None = None
    event: trio.Event = attrs.field(factory=trio.Event)

    def observe(self) -> Observed | None:
        return self.observed

    async def changed(self) -> None:
        await self.event.wait()

    def say(self, made: Compiled, *snapshots: Snapshot) -> None:
        by_key = {one.backend: one for one in snapshots}
        self.observed = Observed(compiled=made, snapshots=by_key, table=build(made.spec, by_key, None), complete=True)
        event, self.event = self.event, trio.Event()
        event.set()


@attrs.define
class Reports:
    """An API server that keeps one report."""

    value: JsonObject | None = None
    writes: list[float] = attrs.field(factory=list)
    away: bool = False

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        if self.away:
            return refusal(503)
        if request.method == "DELETE":
            self.value = None
            return answer({})
        if request.method == "PATCH" and self.value is None:
            return refusal(404, "NotFound")
        self.value = orjson.loads(request.content)
        self.writes.append(trio.current_time())
        assert self.value is not None
        return answer(self.value)

    @property
    def state(self) -> object:
        spec = self.value["spec"] if self.value is not None else None
        return None if not isinstance(spec, dict) else next(iter(states(spec).values()), None)


async def report(api: Api, stage: Stage, uid: str = "u1") -> None:
    reporter = Reporter(
        api=api, namespace="n", instance="default", pod="pod-1", pod_uid=uid, wall_clock=lambda: 0.0, observer=stage
    )
    await reporter.run()


async def test_a_server_that_comes_or_goes_is_told_at_once(autojump_clock: MockClock) -> None:
    stage, server_ = Stage(), Reports()
    async with scripted_api(server_.handle) as api, trio.open_nursery() as nursery:
        nursery.start_soon(report, api, stage)
        await trio.sleep(5)
        assert server_.value is None, "nothing is configured yet"
        for health, state in ((Health.CONNECTING, "Connecting"), (Health.READY, "Connected")):
            stage.say(compiled("n/a"), seen(health))
            await trio.sleep(0.1)
            assert server_.state == state
        nursery.cancel_scope.cancel("the pod ends")
    assert server_.value is None, "it takes its report away"


async def test_a_server_that_comes_and_goes_all_the_time_is_not_told_every_time(autojump_clock: MockClock) -> None:
    stage, server_ = Stage(), Reports()
    async with scripted_api(server_.handle) as api, trio.open_nursery() as nursery:
        nursery.start_soon(report, api, stage)
        for number in range(200):
            stage.say(compiled("n/a"), seen(Health.READY if number % 2 else Health.CONNECTING))
            await trio.sleep(0.1)
        await trio.sleep(2 * CALM_S)
        assert len(server_.writes) <= 5 + 20 + 2
        assert server_.state == "Connected"
        nursery.cancel_scope.cancel("seen enough")


async def test_a_quiet_pod_renews_its_report(autojump_clock: MockClock) -> None:
    stage, server_ = Stage(), Reports()
    stage.say(compiled("n/a"), seen())
    async with scripted_api(server_.handle) as api, trio.open_nursery() as nursery:
        nursery.start_soon(report, api, stage)
        await trio.sleep(10 * RENEW_S)
        assert 9 <= len(server_.writes) <= 11
        nursery.cancel_scope.cancel("seen enough")


async def test_while_the_api_server_is_away_it_is_tried_again(autojump_clock: MockClock) -> None:
    stage, server_ = Stage(), Reports(away=True)
    stage.say(compiled("n/a"), seen())
    async with scripted_api(server_.handle) as api, trio.open_nursery() as nursery:
        nursery.start_soon(report, api, stage)
        await trio.sleep(600)
        server_.away = False
        await trio.sleep(5)
        assert server_.state == "Connected"
        assert server_.value is not None
        metadata = server_.value["metadata"]
        assert isinstance(metadata, dict)
        assert metadata["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "pod-1", "uid": "u1"}]
        nursery.cancel_scope.cancel("seen enough")


async def test_outside_of_a_pod_a_report_has_no_owner(autojump_clock: MockClock) -> None:
    stage, server_ = Stage(), Reports()
    stage.say(compiled("n/a"), seen())
    async with scripted_api(server_.handle) as api, trio.open_nursery() as nursery:
        nursery.start_soon(report, api, stage, "")
        await trio.sleep(5)
        assert server_.value is not None
        assert "ownerReferences" not in str(server_.value)
        nursery.cancel_scope.cancel("seen enough")
