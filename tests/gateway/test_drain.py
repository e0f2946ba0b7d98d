"""The drain's second phase as the faces see it: nothing new begins, and what belongs to a call goes on."""

import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.gateway.call.deadline import Cause
from mcp_gateway.values import JsonObject
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, message, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, question

CAPABLE: JsonObject = {"roots": {}}
CALL: JsonObject = {"name": "read"}


async def one_question(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await hear(question("roots/list"))
    while not link.said:  # noqa: ASYNC110  # the clock is virtual
        await trio.sleep(0.1)
    return {"content": []}


def asking() -> ScriptedBackend:
    return ScriptedBackend(handlers={"tools/call": one_question})


async def parked(where: ScriptedGateway) -> JsonObject:
    """A call that waits for its client; the params of its retry."""
    first = await where.modern("tools/call", CALL, capabilities=CAPABLE)
    return CALL | {"requestState": first.result["requestState"], "inputResponses": {"k1": {"roots": []}}}


async def test_the_retry_of_a_parked_call_is_served_and_no_other_request(autojump_clock: MockClock) -> None:
    async with scripted_gateway(asking()) as where:
        retry = await parked(where)
        where.gateway.context.draining = True
        for params in (CALL, CALL | {"requestState": "of a server"}, CALL | {"requestState": 7}):
            refused = await where.modern("tools/call", params, capabilities=CAPABLE)
            assert (refused.status, refused.header(b"retry-after")) == (503, "1")
            assert refused.error["data"] == {"reason": "draining", "executed": "no", "retryAfterMs": 1000}
        assert (await where.modern("tools/call", retry, capabilities=CAPABLE)).result["content"] == []
        with trio.fail_after(1):
            await where.gateway.calls.idle()


async def test_a_used_state_is_refused_as_such(autojump_clock: MockClock) -> None:
    async with scripted_gateway(asking()) as where:
        retry = await parked(where)
        where.gateway.context.draining = True
        unanswered = {key: value for key, value in retry.items() if key != "inputResponses"}
        again = await where.modern("tools/call", unanswered, capabilities=CAPABLE)
        assert again.result["resultType"] == "input_required"
        assert (await where.modern("tools/call", retry, capabilities=CAPABLE)).error["code"] == -32602


async def test_parked_calls_hold_the_drain_and_are_cut_with_the_rest(autojump_clock: MockClock) -> None:
    backend = asking()
    async with scripted_gateway(backend) as where:
        await parked(where)
        runner = where.gateway.calls
        with trio.move_on_after(5) as patience:
            await runner.idle()
        assert patience.cancelled_caught
        assert runner.cut_all(Cause.DRAIN) == 1
        with trio.fail_after(1):
            await runner.idle()
        assert sum(link.cancelled for link in backend.links) == 1


async def test_the_outcome_that_nobody_fetched_goes_with_the_drain(autojump_clock: MockClock) -> None:
    async def impatient(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(question("roots/list"))
        await trio.sleep(1)
        return {"content": []}

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": impatient})) as where:
        retry = await parked(where)
        runner = where.gateway.calls
        await trio.sleep(2)
        assert len(runner.suspended) == 1  # its client may still come for it
        runner.cut_all(Cause.DRAIN)
        with trio.fail_after(0):
            await runner.idle()
        assert (await where.modern("tools/call", retry, capabilities=CAPABLE)).error["code"] == -32602


@pytest.mark.parametrize("over", ["POST", "batch"])
async def test_requests_in_a_session_are_refused_with_200_and_pings_answered(
    autojump_clock: MockClock, over: str
) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session("2025-03-26" if over == "batch" else "2025-11-25")
        where.gateway.context.draining = True
        bodies = [message("tools/call", CALL, 1), message("ping", None, 2), message("notifications/initialized")]
        if over == "batch":
            reply = await where.send("POST", headers=session.headers(), body=b"[%b]" % b",".join(bodies))
            assert (reply.status, [one["id"] for one in orjson.loads(reply.body or b"")]) == (200, [1, 2])
            return
        replies = [await where.send("POST", headers=session.headers(), body=body) for body in bodies]
        assert [reply.status for reply in replies] == [200, 200, 202]
        assert replies[0].error["code"] == -33530
        assert replies[1].result == {}


async def test_no_session_and_no_stream_begins(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        where.gateway.context.draining = True
        hello = message("initialize", {"protocolVersion": "2025-11-25"}, "hello")
        replies: list[RecordedReply] = [
            await where.send("POST", body=hello),
            await where.send("GET", headers=session.headers()),
            await where.send("GET", headers=session.headers(Last_Event_ID="")),
            await where.send("GET", path="/sse"),
        ]
        assert [(reply.status, reply.error["code"]) for reply in replies] == [(503, -33530)] * 4
        assert replies[0].answer["id"] == "hello"
        unknown = await where.send("GET", headers=session.headers(Last_Event_ID="x-1"))
        assert unknown.status == 400  # a resume is looked at
        assert (await session.end()).status == 204


async def test_an_old_client_cannot_begin_anew(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        stream = where.begin("GET", path="/sse")
        await stream.until(lambda: stream.events)
        path, _, query = stream.events[0].data.decode().partition("?")
        where.gateway.context.draining = True
        hello = message("initialize", {"protocolVersion": "2025-11-25"}, 1)
        assert (await where.send("POST", path=path, query=query, body=hello)).status == 202
        await stream.until(lambda: stream.messages)
        assert stream.error["code"] == -33530
