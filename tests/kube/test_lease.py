"""Leading with a Lease: begun, lost, given back; time is virtual, the API server scripted."""

import attrs
import httpx2
import orjson
import trio
from trio.testing import MockClock

from mcp_gateway.kube.api import Api
from mcp_gateway.kube.election import RENEW_DEADLINE_S, Election
from mcp_gateway.kube.lease import Lease
from mcp_gateway.values import JsonObject
from tests.support.kube.scripted_api import answer, refusal, scripted_api


@attrs.define
class Leases:
    """An API server that has one Lease, and may hang or be away."""

    value: JsonObject | None = None
    version: int = 0
    hangs: bool = False
    away: bool = False
    busy_s: int = 0
    """Refuses, and wants nobody to ask again sooner."""
    asked: list[float] = attrs.field(factory=list)

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        self.asked.append(trio.current_time())
        if self.away:
            return refusal(503)
        if self.busy_s:
            return refusal(429, "TooManyRequests", retry_after=str(self.busy_s))
        if request.method == "GET":
            return refusal(404, "NotFound") if self.value is None else answer(self.value)
        sent = orjson.loads(request.content)
        expected = sent["metadata"].pop("resourceVersion", None)
        if expected != (str(self.version) if self.value is not None else None):
            return refusal(409, "Conflict")
        self.edit(sent["spec"])
        assert self.value is not None
        return answer(self.value)

    def edit(self, spec: JsonObject) -> None:
        """By whoever can."""
        self.version += 1
        self.value = {"metadata": {"resourceVersion": str(self.version)}, "spec": spec}

    @property
    def holder(self) -> object:
        spec = self.value["spec"] if self.value is not None else {}
        assert isinstance(spec, dict)
        return spec.get("holderIdentity")


@attrs.define
class Candidate:
    """Runs one candidate and notes when it led."""

    identity: str
    terms: list[tuple[float, float | None]] = attrs.field(factory=list)
    lease: Lease | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def leads(self) -> bool:
        return self.lease is not None and self.lease.leads

    async def run(self, server: Leases) -> None:
        with self.scope:
            async with scripted_api(server.handle) as api:
                await self.campaign(api)

    async def campaign(self, api: Api) -> None:
        self.lease = Lease(
            api=api,
            namespace="n",
            name="l",
            election=Election(identity=self.identity),
            wall_clock=lambda: 0.0,
            jitter=lambda pause_s: pause_s,
        )
        await self.lease.run(self.lead)

    async def lead(self) -> None:
        began_at = trio.current_time()
        try:
            self.terms.append((began_at, None))
            await trio.sleep_forever()
        finally:
            self.terms[-1] = (began_at, trio.current_time())


async def test_an_orderly_end_hands_over_at_once(autojump_clock: MockClock) -> None:
    server, one, two = Leases(), Candidate("one"), Candidate("two")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, server)
        await trio.sleep(1)
        nursery.start_soon(two.run, server)
        await trio.sleep(30)
        assert (one.leads(), two.leads()) == (True, False)
        ended_at = trio.current_time()
        one.scope.cancel("stopped")
        await trio.sleep(2)
        assert two.leads()
        assert two.terms[0][0] - ended_at < 2.0
        assert one.terms[0][1] is not None
        nursery.cancel_scope.cancel("seen enough")
    assert server.holder == ""


async def test_a_leader_whose_server_hangs_stops_in_time(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server, one = Leases(), Candidate("one")
    nursery.start_soon(one.run, server)
    await trio.sleep(11)
    server.hangs = True
    hung_at = trio.current_time()
    await trio.sleep(RENEW_DEADLINE_S + 0.1)
    assert not one.leads()
    ended_at = one.terms[0][1]
    assert ended_at is not None
    assert ended_at - hung_at <= RENEW_DEADLINE_S
    server.hangs = False
    await trio.sleep(20)
    assert one.leads()
    assert len(one.terms) == 2


async def test_a_short_absence_of_the_server_ends_no_term(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server, one = Leases(), Candidate("one")
    nursery.start_soon(one.run, server)
    await trio.sleep(10)
    server.away = True
    await trio.sleep(3.5)
    server.away = False
    await trio.sleep(10)
    assert one.leads()
    assert len(one.terms) == 1


async def test_a_server_that_was_away_for_ten_minutes_has_a_leader_again_soon(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server, one, two = Leases(), Candidate("one"), Candidate("two")
    nursery.start_soon(one.run, server)
    await trio.sleep(1)
    nursery.start_soon(two.run, server)
    await trio.sleep(9)
    server.away = True
    await trio.sleep(600)
    assert (one.leads(), two.leads()) == (False, False)
    server.away = False
    await trio.sleep(2)
    assert one.leads() != two.leads()


async def test_a_leader_asks_no_sooner_than_the_server_wants_and_keeps_its_term(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server, one = Leases(), Candidate("one")
    nursery.start_soon(one.run, server)
    await trio.sleep(11)
    server.busy_s = 3
    await trio.sleep(1.5)
    server.busy_s = 0
    await trio.sleep(10)
    refused_at, next_at = [at for at in server.asked if at > 11.0][:2]
    assert next_at - refused_at >= 3.0
    assert len(one.terms) == 1


async def test_who_was_killed_is_followed_within_fifteen_seconds(autojump_clock: MockClock) -> None:
    server, two = Leases(), Candidate("two")
    server.edit({"holderIdentity": "one, who was killed", "renewTime": "then"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(two.run, server)
        await trio.sleep(9.5)
        assert not two.leads()
        await trio.sleep(5)
        assert two.leads()
        nursery.cancel_scope.cancel("seen enough")


async def test_a_lease_that_somebody_takes_by_hand_ends_the_term(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server, one = Leases(), Candidate("one")
    nursery.start_soon(one.run, server)
    await trio.sleep(5)
    server.edit({"holderIdentity": "an administrator"})
    await trio.sleep(3)
    assert not one.leads()
    assert one.terms[0][1] is not None
    server.value = None
    await trio.sleep(3)
    assert one.leads()
