"""Taking everything back, on an API server by script: others write at the same time, kinds are missing."""

from collections import Counter

import attrs
import httpx2
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.kube.cleanup import TRIES, Cleanup
from mcp_gateway.kube.errors import ApiConflict
from mcp_gateway.kube.pen import NotLeading, Pen
from mcp_gateway.kube.schema import CONTROLLER_NAME
from mcp_gateway.kube.store import Settings
from mcp_gateway.values import JsonObject
from tests.support.kube.scripted_api import answer, refusal, scripted_api

ROUTE: JsonObject = {
    "metadata": {"namespace": "team-a", "name": "weather", "uid": "1", "resourceVersion": "1"},
    "spec": {},
    "status": {"parents": [{"controllerName": CONTROLLER_NAME, "parentRef": {"name": "gateway"}, "conditions": []}]},
}


@attrs.define
class Allowed:
    leads: bool = True


@attrs.define
class Server:
    """Has one HTTPRoute with an entry of ours, and no other kind; it refuses so many writes."""

    refuses: int = 0
    gone: bool = False
    """The route is deleted between a look and a write."""
    asked: Counter[str] = attrs.field(factory=Counter)
    route: JsonObject | None = attrs.field(factory=lambda: ROUTE)

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        self.asked[request.method] += 1
        if not request.url.path.startswith("/apis/gateway.networking.k8s.io/v1/"):
            return refusal(404, "NotFound")
        if request.method == "GET":
            found = [self.route] if request.url.path.endswith("/httproutes") and self.route is not None else []
            return answer({"items": [*found], "metadata": {"resourceVersion": "1"}})
        if self.gone:
            self.route = None
            return refusal(404, "NotFound")
        if self.asked[request.method] <= self.refuses:
            return refusal(409, "Conflict")
        assert self.route is not None
        self.route = {**self.route, "status": {"parents": []}}
        return answer(self.route)

    async def clean(self, *, leads: bool = True) -> int:
        async with scripted_api(self.handle) as api:
            pen = Pen(api=api, lease=Allowed(leads))
            return await Cleanup(api=api, pen=pen, settings=Settings(), wall_clock=lambda: 0.0).run()


async def test_a_conflict_is_looked_at_again(autojump_clock: MockClock) -> None:
    server = Server(refuses=TRIES - 1)
    assert await server.clean() == 1
    assert server.asked["PATCH"] == TRIES


async def test_conflicts_without_end_are_said(autojump_clock: MockClock) -> None:
    with pytest.raises(ApiConflict, match="1 objects are changed by others"):
        await Server(refuses=100).clean()


async def test_what_somebody_else_deletes_is_gone_as_well(autojump_clock: MockClock) -> None:
    assert await Server(gone=True).clean() == 0


async def test_nothing_is_sent_without_permission(autojump_clock: MockClock) -> None:
    server = Server()
    with pytest.raises(NotLeading):
        await server.clean(leads=False)
    assert not server.asked["PATCH"]
