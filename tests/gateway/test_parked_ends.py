"""How parked calls end that are not answered: their server dies, is replaced or removed, or they are too many."""

import attrs
import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import BackendLimits, Timeouts
from mcp_gateway.errors import BackendGone
from mcp_gateway.gateway.call import suspended
from mcp_gateway.gateway.call.deadline import Cause
from mcp_gateway.values import JsonObject
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, question

ABLE: JsonObject = {"roots": {}}


def asking() -> ScriptedBackend:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        if not params["arguments"]:
            return {"content": []}
        await hear(question("roots/list", b'"q"'))
        while not link.said:  # noqa: ASYNC110  # the clock is virtual
            await trio.sleep(0.1)
        return {"content": [], "got": orjson.loads(link.said.pop())}

    return ScriptedBackend(handlers={"tools/call": handle})


async def call(where: ScriptedGateway, number: int = 1, **more: object) -> RecordedReply:
    params: Message = {"name": "read", "arguments": {"n": number}, **more}
    return await where.modern("tools/call", params, capabilities=ABLE, id=f"{number}-{len(more)}")


async def retry(where: ScriptedGateway, first: RecordedReply, number: int = 1) -> RecordedReply:
    state = first.result["requestState"]
    return await call(where, number, inputResponses={"k1": {"roots": []}}, requestState=state)


def parked(where: ScriptedGateway) -> int:
    return len(where.gateway.calls.suspended)


async def test_a_backend_that_dies_meanwhile_is_the_answer_to_the_retry(autojump_clock: MockClock) -> None:
    backend = asking()
    async with scripted_gateway(backend) as where:
        first = await call(where)
        next(link for link in backend.open_links if link.in_flight).die("reset")
        await trio.sleep(1)
        error: Message = (await retry(where, first)).error
        assert (error["data"]["reason"], error["data"]["executed"]) == ("backend_gone", "unknown")
        assert parked(where) == 0
        assert backend.asked("tools/call") == 1


async def test_a_backend_that_is_replaced_keeps_its_parked_calls(autojump_clock: MockClock) -> None:
    backend = asking()
    async with scripted_gateway(backend) as where:
        first = await call(where)
        (old,) = where.spec.value.servers
        where.spec.set(attrs.evolve(where.spec.value, servers=(attrs.evolve(old, timeouts=Timeouts(call_s=7)),)))
        await where.fleet.apply(where.spec.value)
        await trio.sleep(1)
        last: Message = (await retry(where, first)).result
        assert last["got"]["result"] == {"roots": []}
        assert backend.asked("tools/call") == 1


async def test_a_removed_backend_cancels_and_says_so(autojump_clock: MockClock) -> None:
    backend = asking()
    async with scripted_gateway(backend) as where:
        await call(where)
        where.spec.set(attrs.evolve(where.spec.value, servers=()))
        await where.fleet.apply(where.spec.value)
        await trio.sleep(60)
        assert sum(link.cancelled for link in backend.links) == 1
        (said,) = [orjson.loads(raw) for link in backend.links for raw in link.said]
        assert said["error"]["code"] == -1
        assert backend.open_links == []
        await trio.sleep(400)
        assert parked(where) == 0


async def test_invariant_7_places_and_parked_calls_are_bounds_that_are_said_and_kept(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspended, "MAX_SUSPENDED", 150)
    backend = asking()
    limits = BackendLimits(concurrency=100)
    async with scripted_gateway(backend, timeouts=Timeouts(call_s=10), backend_limits=limits) as where:
        replies: list[RecordedReply] = []

        async def one(number: int) -> None:
            replies.append(await call(where, number))

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(one, number)
            await trio.sleep(5)
            assert parked(where) == 150
        errors: list[Message] = [reply.error for reply in replies if "error" in reply.answer]
        reasons = [(one["data"]["reason"], one["data"].get("limit"), one["data"]["executed"]) for one in errors]
        assert sorted(set(reasons)) == [("backend_timeout", "queue", "no"), ("overload", "parked calls", "no")]
        assert [reasons.count(reason) for reason in sorted(set(reasons))] == [50, 50]
        firsts = {str(reply.answer["id"]).split("-")[0]: reply for reply in replies if "result" in reply.answer}
        assert len(firsts) == parked(where) == 100
        for name, first in firsts.items():
            assert (await retry(where, first, int(name))).result["resultType"] == "complete"
        assert parked(where) == 0


async def test_the_end_of_the_gateway_cancels_what_is_parked(autojump_clock: MockClock) -> None:
    backend = asking()
    async with scripted_gateway(backend) as where:
        await call(where)
    assert sum(link.cancelled for link in backend.links) == 1
    assert backend.open_links == []


async def test_the_drain_declines_what_nobody_can_come_back_for(autojump_clock: MockClock) -> None:
    backend = asking()
    async with scripted_gateway(backend) as where:
        await call(where)
        runner = where.gateway.calls
        assert runner.cut_all(Cause.DRAIN) == 1
        await runner.idle()
        assert sum(link.cancelled for link in backend.links) == 1
        assert [b'"error"' in raw for link in backend.links for raw in link.said] == [True]


async def test_an_error_of_the_backend_waits_for_the_retry_like_any_answer(autojump_clock: MockClock) -> None:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(question("roots/list", b'"q"'))
        await trio.sleep(1)
        raise BackendGone(backend=backend.key, why="reset")

    backend = asking()
    backend.handlers["tools/call"] = handle
    async with scripted_gateway(backend) as where:
        first = await call(where)
        await trio.sleep(5)
        error: Message = (await retry(where, first)).error
        assert error["data"]["reason"] == "backend_gone"
