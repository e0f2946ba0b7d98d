"""Calls: deadlines, cancellation from every source, progress, exactly one answer."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import BackendLimits, GatewayLimits, Timeouts
from mcp_gateway.errors import BackendBusy, BackendGone, Executed
from mcp_gateway.gateway.call.call import Call
from mcp_gateway.gateway.call.deadline import Cause, Deadline
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import BackendKey, JsonObject
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, message, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, notice

FILES = BackendKey("files")
ERAS = [pytest.param(V2025_11_25, id="2025 backend"), pytest.param(V2026_07_28, id="2026 backend")]


def slow(seconds: float = float("inf")) -> Callable[[ScriptedLink, JsonObject, Hear], Awaitable[JsonObject]]:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(seconds)
        return {"content": []}

    return handle


def hanging(era: Era = V2025_11_25) -> ScriptedBackend:
    return ScriptedBackend(era=era, handlers={"tools/call": slow()})


def cancelled(backend: ScriptedBackend) -> int:
    return sum(link.cancelled for link in backend.links)


async def reached(backend: ScriptedBackend, calls: int = 1) -> None:
    while backend.asked("tools/call") < calls:  # noqa: ASYNC110  # the clock is virtual
        await trio.sleep(0.001)


def nothing_left(where: ScriptedGateway) -> None:
    """The baseline after calls (invariant 2)."""
    backend = where.fleet.get(FILES)
    assert backend is not None
    assert len(where.gateway.calls.in_flight) == 0
    assert backend.in_flight == 0
    assert all(not session.calls and not len(session.questions) for session in where.gateway.context.sessions)


@pytest.mark.parametrize("era", ERAS)
async def test_a_cancelled_2025_call_tells_the_backend_and_answers_33499(autojump_clock: MockClock, era: Era) -> None:
    backend = hanging(era)
    async with scripted_gateway(backend) as where:
        session = await where.session()
        reply = session.begin("tools/call", {"name": "read"}, request_id="mine", Accept="application/json")
        await reached(backend)
        assert (await session.cancel("someone else's")).status == 202
        assert cancelled(backend) == 0
        assert (await session.cancel("mine")).status == 202
        await reply.until(lambda: reply.closed)
        assert reply.status == 200
        assert (reply.error["code"], reply.answer["id"]) == (-33499, "mine")
        assert reply.error["data"] == {"server": "files", "reason": "cancelled", "executed": "unknown"}
        assert cancelled(backend) == 1
        nothing_left(where)


async def test_invariant_1_a_cancelled_call_with_an_open_stream_ends_without_a_response(
    autojump_clock: MockClock,
) -> None:
    backend = hanging()
    async with scripted_gateway(backend) as where:
        session = await where.session()
        reply = session.begin("tools/call", {"name": "read"}, request_id=7)
        await reply.until(lambda: reply.opened)  # after a second of silence, with a priming event
        await session.cancel(7)
        await reply.until(lambda: reply.closed)
        assert reply.messages == []
        assert [event.retry_ms for event in reply.events] == [1000]


async def test_invariant_4_a_client_cannot_cancel_the_call_of_another(autojump_clock: MockClock) -> None:
    backend = hanging()
    async with scripted_gateway(backend) as where:
        alice, mallory = await where.session(), await where.session()
        reply = alice.begin("tools/call", {"name": "read"}, request_id=1)
        await reached(backend)
        await mallory.cancel(1)
        await trio.sleep(5)
        assert cancelled(backend) == 0
        assert not reply.closed


async def test_a_2025_client_that_leaves_has_not_cancelled(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(handlers={"tools/call": slow(30.0)})
    async with scripted_gateway(backend) as where:
        session = await where.session()
        reply = session.begin("tools/call", {"name": "read"})
        await reached(backend)
        reply.leave()
        await trio.sleep(40)
        assert cancelled(backend) == 0
        nothing_left(where)


@pytest.mark.parametrize("era", ERAS)
async def test_a_2026_client_that_leaves_has_cancelled(autojump_clock: MockClock, era: Era) -> None:
    backend = hanging(era)
    async with scripted_gateway(backend) as where:
        reply = where.modern_soon("tools/call", {"name": "read"})
        await reached(backend)
        reply.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert cancelled(backend) == 1
        nothing_left(where)


@pytest.mark.parametrize("era", ERAS)
async def test_the_call_limit_ends_a_call_and_says_so(autojump_clock: MockClock, era: Era) -> None:
    backend = hanging(era)
    async with scripted_gateway(backend, timeouts=Timeouts(call_s=3.0)) as where:
        for reply in (await (await where.session()).call("read"), await where.modern("tools/call", {"name": "read"})):
            assert reply.error["code"] == -33504
            assert reply.error["data"] == {
                "server": "files",
                "reason": "backend_timeout",
                "executed": "unknown",
                "limit": "call",
            }
        assert cancelled(backend) == 2
        nothing_left(where)


async def test_progress_extends_the_deadline_up_to_max(autojump_clock: MockClock) -> None:
    async def working(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        meta = params["_meta"]
        assert isinstance(meta, dict)
        for step in range(100):
            await trio.sleep(2.0)
            await hear(notice("notifications/progress", progressToken=meta["progressToken"], progress=step))
        return {}

    backend = ScriptedBackend(handlers={"tools/call": working})
    async with scripted_gateway(backend, timeouts=Timeouts(call_s=3.0, max_s=10.0)) as where:
        session = await where.session()
        began_at = trio.current_time()
        reply = await session.ask("tools/call", {"name": "read", "_meta": {"progressToken": "tok"}})
        assert trio.current_time() - began_at == pytest.approx(10.0, abs=0.1)
        assert reply.error["data"]["limit"] == "max"  # type: ignore[index,call-overload]  # raw JSON
        tokens = [one["params"]["progressToken"] for one in reply.messages if "method" in one]  # type: ignore[index,call-overload]  # raw JSON
        assert tokens == ["tok"] * 4


async def test_a_call_that_waits_for_its_turn_dies_of_the_queue_and_was_not_executed(autojump_clock: MockClock) -> None:
    async def busy(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        for _ in range(5):
            await trio.sleep(1.0)
            await hear(notice("notifications/progress", progressToken=1, progress=1))
        return {}

    backend = ScriptedBackend(handlers={"tools/call": busy})
    limits = BackendLimits(concurrency=1)
    async with scripted_gateway(backend, timeouts=Timeouts(call_s=3.0), backend_limits=limits) as where:
        session = await where.session()
        session.begin("tools/call", {"name": "read"}, Accept="application/json")
        await reached(backend)
        second = await session.call("read")
        data = second.error["data"]
        assert isinstance(data, dict)
        assert (data["limit"], data["executed"]) == ("queue", "no")
        assert backend.asked("tools/call") == 1


async def test_a_duplicate_id_in_flight_is_refused_and_the_first_call_lives(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(handlers={"tools/call": slow(1.5)})
    async with scripted_gateway(backend) as where:
        session = await where.session()
        first = session.begin("tools/call", {"name": "read"}, request_id=1)
        await reached(backend)
        second = await session.ask("tools/call", {"name": "read"}, request_id=1)
        assert second.error["code"] == -32600
        await first.until(lambda: first.closed)
        assert first.result == {"content": []}


async def test_invariant_8_hidden_and_unknown_tools_are_the_same(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(), prefixes={"files": "f_"}) as where:
        session = await where.session()
        hidden, unknown = await session.call("read"), await session.call("nobody")
        assert hidden.error["code"] == unknown.error["code"] == -32602
        assert str(hidden.error["message"]).replace("read", "x") == str(unknown.error["message"]).replace("nobody", "x")


@pytest.mark.parametrize(
    "error, reason, executed",
    [
        (BackendGone(backend=FILES, why="reset"), "backend_gone", "unknown"),
        (BackendGone(backend=FILES, why="refused", executed=Executed.NO), "backend_gone", "no"),
        (BackendBusy(backend=FILES, status=429, retry_after_ms=1500), "backend_busy", "no"),
    ],
)
async def test_backend_errors_say_whether_the_call_was_executed(
    autojump_clock: MockClock, error: Exception, reason: str, executed: str
) -> None:
    async def failing(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise error

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": failing})) as where:
        session = await where.session()
        for reply in (await session.call("read"), await where.modern("tools/call", {"name": "read"})):
            data = reply.error["data"]
            assert isinstance(data, dict)
            assert (reply.status, data["reason"], data["executed"]) == (200, reason, executed)
            if reason == "backend_busy":
                assert data["retryAfterMs"] == 1500


async def test_a_removed_backend_ends_its_calls_with_the_reason(autojump_clock: MockClock) -> None:
    backend = hanging()
    async with scripted_gateway(backend) as where:
        session = await where.session()
        reply = session.begin("tools/call", {"name": "read"}, Accept="application/json")
        await reached(backend)
        began_at = trio.current_time()
        await where.fleet.apply(type(where.spec.value)())
        await reply.until(lambda: reply.closed)
        assert trio.current_time() - began_at == pytest.approx(10.0, abs=0.5)
        assert reply.error["data"]["reason"] == "backend_removed"  # type: ignore[index,call-overload]  # raw JSON
        assert cancelled(backend) == 1


async def test_the_drain_cancels_with_its_reason(autojump_clock: MockClock) -> None:
    backend = hanging()
    async with scripted_gateway(backend) as where:
        session = await where.session()
        old = session.begin("tools/call", {"name": "read"}, Accept="application/json")
        new = where.modern_soon("tools/call", {"name": "read"})
        await reached(backend, 2)
        assert where.gateway.calls.cut_all(Cause.DRAIN) == 2
        with trio.fail_after(2):
            await where.gateway.calls.idle()
            for reply in (old, new):
                await reply.until(lambda reply=reply: reply.closed)  # type: ignore[misc]  # bound now
                assert reply.error["data"]["reason"] == "draining"  # type: ignore[index,call-overload]  # raw JSON


@pytest.mark.parametrize(
    "notice_s, answered_after_s",
    [pytest.param(0.3, 0.3, id="until the last one is told"), pytest.param(1.5, 0.5, id="but not for ever")],
)
async def test_the_drain_tells_every_backend_before_it_answers_a_client(
    autojump_clock: MockClock, notice_s: float, answered_after_s: float
) -> None:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        try:
            await trio.sleep_forever()
        finally:
            if params["arguments"] == {"slow": True}:
                with trio.move_on_after(notice_s, shield=True):
                    await trio.sleep_forever()

    backend = ScriptedBackend(handlers={"tools/call": handle})
    async with scripted_gateway(backend) as where:
        session = await where.session()
        session.begin("tools/call", {"name": "read", "arguments": {"slow": True}}, Accept="application/json")
        quick = session.begin("tools/call", {"name": "read", "arguments": {}}, Accept="application/json")
        await reached(backend, 2)
        began_at = trio.current_time()
        where.gateway.calls.cut_all(Cause.DRAIN)
        await quick.until(lambda: quick.closed)
        assert trio.current_time() - began_at == pytest.approx(answered_after_s, abs=0.05)


async def test_invariant_7_too_many_calls_are_refused(autojump_clock: MockClock) -> None:
    backend = hanging()
    async with scripted_gateway(backend, limits=GatewayLimits(in_flight=1)) as where:
        session = await where.session()
        session.begin("tools/call", {"name": "read"})
        await reached(backend)
        legacy, modern = await session.call("read"), await where.modern("tools/call", {"name": "read"})
        assert (legacy.status, modern.status, modern.header(b"retry-after")) == (200, 503, "1")
        for reply in (legacy, modern):
            assert reply.error["data"]["reason"] == "overload"  # type: ignore[index,call-overload]  # raw JSON
            assert reply.error["data"]["executed"] == "no"  # type: ignore[index,call-overload]  # raw JSON


async def test_a_session_that_ends_takes_its_calls_along(autojump_clock: MockClock) -> None:
    backend = hanging()
    async with scripted_gateway(backend) as where:
        session = await where.session()
        session.begin("tools/call", {"name": "read"})
        await reached(backend)
        await session.end()
        await trio.testing.wait_all_tasks_blocked()
        assert cancelled(backend) == 1
        nothing_left(where)


async def test_quiet_calls_show_signs_of_life_by_era(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(handlers={"tools/call": slow(50.0)})
    async with scripted_gateway(backend) as where:
        newest, older = await where.session("2025-11-25"), await where.session("2025-06-18")
        began_at = trio.current_time()
        first, second = newest.begin("tools/call", {"name": "read"}), older.begin("tools/call", {"name": "read"})
        modern = where.modern_soon("tools/call", {"name": "read"})
        json_only = older.begin("tools/call", {"name": "read"}, Accept="application/json")
        await first.until(lambda: first.opened)
        assert trio.current_time() - began_at == pytest.approx(1.0, abs=0.3)
        await second.until(lambda: second.opened)
        await modern.until(lambda: modern.opened)
        assert trio.current_time() - began_at == pytest.approx(10.0, abs=0.6)
        for reply in (first, second, modern, json_only):
            await reply.until(lambda reply=reply: reply.closed)  # type: ignore[misc]  # bound now
            assert "result" in reply.answer
        assert json_only.body is not None
        assert min(first.comments, second.comments, modern.comments) >= 2
        assert all(event.event_id is None for event in modern.events)


def test_invariant_1_exactly_one_answer_under_all_races() -> None:
    """Answer against cancel against deadline against disconnect against drain, at random times."""
    times = st.one_of(st.none(), st.integers(0, 6))

    @given(answer=times, cancel=times, leave=times, drain=times, limit=st.integers(1, 6), modern=st.booleans())
    def race(
        answer: int | None, cancel: int | None, leave: int | None, drain: int | None, limit: int, modern: bool
    ) -> None:
        async def main() -> None:
            backend = ScriptedBackend(handlers={"tools/call": slow(float("inf") if answer is None else answer / 2)})
            async with scripted_gateway(backend, timeouts=Timeouts(call_s=limit / 2)) as where:
                session = await where.session()
                reply = (
                    where.modern_soon("tools/call", {"name": "read"}, id=5)
                    if modern
                    else session.begin("tools/call", {"name": "read"}, request_id=5)
                )

                async def after(half_seconds: int | None, act: Callable[[], object]) -> None:
                    if half_seconds is not None:
                        await trio.sleep(half_seconds / 2)
                        done = act()
                        if isinstance(done, Awaitable):
                            await done

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(after, cancel, lambda: session.cancel(5))
                    nursery.start_soon(after, leave, reply.leave)
                    nursery.start_soon(after, drain, lambda: where.gateway.calls.cut_all(Cause.DRAIN))
                await trio.sleep(10)
                check(reply, modern=modern, cancel=cancel)
                nothing_left(where)

        trio.run(main, clock=MockClock(autojump_threshold=0))

    def check(reply: RecordedReply, *, modern: bool, cancel: int | None) -> None:
        answers = [one for one in reply.messages if "method" not in one]
        assert len(answers) <= 1
        assert all(one["id"] == 5 for one in answers)
        if not answers:  # only the client's own leaving or cancelling may leave it without
            assert reply.gone or (not modern and cancel is not None and reply.opened)

    race()


async def test_the_clock_stands_still_while_the_client_is_asked(autojump_clock: MockClock) -> None:
    with trio.CancelScope() as scope:
        clock = Deadline(Timeouts(call_s=10, input_s=100, max_s=1000))
        clock.start(scope)
        await trio.sleep(4)
        clock.pause()
        clock.pause()
        assert scope.deadline == pytest.approx(trio.current_time() + 100)
        await trio.sleep(50)
        clock.progress()
        clock.resume()
        assert scope.deadline == pytest.approx(trio.current_time() + 50)
        clock.resume()
        assert scope.deadline == pytest.approx(trio.current_time() + 6)
        clock.progress()
        assert scope.deadline == pytest.approx(trio.current_time() + 10)
        assert clock.fired()[0].value == "connect"
        clock.queue()
        assert clock.fired()[0].value == "queue"
        clock.begin()
        assert clock.fired()[0].value == "call"


async def test_the_first_cause_wins(autojump_clock: MockClock) -> None:
    backend = hanging()
    async with scripted_gateway(backend) as where:
        session = await where.session()
        reply = session.begin("tools/call", {"name": "read"}, request_id=1, Accept="application/json")
        await reached(backend)
        await session.cancel(1)
        assert where.gateway.calls.cut_all(Cause.DRAIN) == 1
        await reply.until(lambda: reply.closed)
        assert reply.error["data"]["reason"] == "cancelled"  # type: ignore[index,call-overload]  # raw JSON


async def test_a_late_cut_touches_no_scope_of_a_later_job(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend()
    async with scripted_gateway(backend) as where:
        session = await where.session()
        headers, body = session.headers(), message("tools/call", {"name": "read"}, 1)
        jobs = [where.job("POST", headers=headers, body=body, reply=RecordedReply()) for _ in range(2)]
        with trio.CancelScope() as scope:
            for job in jobs:
                assert isinstance(job, Call)
                await job.run(scope)
                job.cut(Cause.MESSAGE)
                job.left()
                await job.finish()
                job.cut(Cause.DRAIN)
                assert not scope.cancel_called
        assert not scope.cancelled_caught
