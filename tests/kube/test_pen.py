"""What is sent for an outcome, and how often."""

import attrs
import httpx2
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.kube import schema
from mcp_gateway.kube.api import Api
from mcp_gateway.kube.election import Election
from mcp_gateway.kube.errors import ApiConflict
from mcp_gateway.kube.lease import Lease
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.pen import MARK_EVERY_S, NotLeading, Pen
from mcp_gateway.kube.reconcile.outcome import ListenerMark
from tests.support.kube.scripted_api import answer, refusal, scripted_api

UNMARK = ListenerMark(gateway=Key("gateways", "gateway"), resource_version="7", listener="mcp", conditions=())
MARK = attrs.evolve(UNMARK, conditions=({"type": schema.LISTENER_CONDITION, "status": "True"},))


async def test_who_fights_over_a_listener_s_condition_is_not_fought_with_and_not_forgotten(
    autojump_clock: MockClock,
) -> None:
    written: list[float] = []

    async def api_server(request: httpx2.Request) -> httpx2.Response:
        if request.method == "PATCH":
            written.append(trio.current_time())
        return answer({"status": {"listeners": [{"name": "mcp", "conditions": []}]}})

    async with scripted_api(api_server) as api:
        pen = Pen(api=api, lease=_held(api))
        assert [await pen.mark(MARK) for _ in range(4)] == [0.0, 0.0, MARK_EVERY_S, MARK_EVERY_S]
        await trio.sleep(MARK_EVERY_S)
        assert await pen.mark(MARK) == 0.0
    assert len(written) == 3


async def test_a_mark_that_was_not_written_or_is_taken_away_delays_no_other(autojump_clock: MockClock) -> None:
    conflicts = 5

    async def api_server(request: httpx2.Request) -> httpx2.Response:
        nonlocal conflicts
        if request.method == "PATCH" and conflicts:
            conflicts -= 1
            return refusal(409, "Conflict")
        return answer({"status": {"listeners": [{"name": "mcp", "conditions": []}]}})

    async with scripted_api(api_server) as api:
        pen = Pen(api=api, lease=_held(api))
        for _ in range(5):
            with pytest.raises(ApiConflict):
                await pen.mark(MARK)
        assert [await pen.mark(one) for one in (MARK, UNMARK, MARK, UNMARK)] == [0.0, 0.0, 0.0, 0.0]
        assert await pen.mark(MARK) == MARK_EVERY_S


async def test_who_does_not_lead_writes_nothing() -> None:
    async def api_server(request: httpx2.Request) -> httpx2.Response:
        assert request.method == "GET"
        return answer({})

    async with scripted_api(api_server) as api:
        lease = _held(api)
        lease.election = Election(identity="another")
        with pytest.raises(NotLeading):
            await Pen(api=api, lease=lease).mark(MARK)


def _held(api: Api) -> Lease:
    """A Lease that is ours for a day."""
    election, now_at = Election(identity="us"), trio.current_time()
    election.written({"spec": {"holderIdentity": "us"}}, now_at + 86_400, now_at)
    return Lease(
        api=api, namespace="mcp-system", name="lease", election=election, wall_clock=lambda: 0.0, jitter=lambda s: s
    )
