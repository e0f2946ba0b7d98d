"""The discovery loop on a virtual clock: every promise of docs/architecture.md."""

import logging
from collections.abc import Callable
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.connector import leading
from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import HealthSpec, Timeouts
from mcp_gateway.errors import BackendBusy, BackendDown, BackendGone
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Family
from mcp_gateway.routing.snapshot import Health, Kind
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.scripted_link import (
    CALL,
    Handler,
    Published,
    Refusal,
    ScriptedBackend,
    ScriptedLink,
    caller,
    deaf,
    discovered,
    notice,
    question,
    ready,
    running,
    tool,
)

HOUR = HealthSpec(interval_s=3600.0)
LIST_CHANGED = notice("notifications/tools/list_changed")


def state(backend: Backend) -> Health:
    return backend.snapshot.health


async def test_the_first_discovery_publishes_every_tool_of_every_page(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(tools=[tool(f"t{i}") for i in range(7)], page=3)
    published = Published()
    async with discovered(scripted, published) as backend:
        assert published.lists()[-1] == tuple(f"t{i}" for i in range(7))
        shot = backend.snapshot
        assert (shot.era, shot.transport, shot.server_name) == (V2025_11_25, "streamable-http", "scripted")
        assert scripted.asked("tools/list") == 3
        assert scripted.links[0].identity.capabilities == b"{}"


async def test_success_is_logged_with_exactly_these_words_and_fields(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with discovered(ScriptedBackend()):
        pass
    (record,) = [record for record in caplog.records if record.getMessage() == "Discovered tools"]
    fields = ("server", "tools", "prompts", "resources", "protocol", "duration_s")
    told = {name: getattr(record, name) for name in fields}
    assert isinstance(told.pop("duration_s"), float)
    assert told == {"server": "files", "tools": 1, "prompts": 0, "resources": 0, "protocol": "2025-11-25"}


async def test_only_advertised_lists_are_fetched(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(capabilities={"prompts": {}})
    scripted.handlers["prompts/list"] = _answer({"prompts": [{"name": "p"}]})
    async with discovered(scripted):
        assert scripted.asked("tools/list") == 0
        assert scripted.asked("prompts/list") == 1


def gaps(scripted: ScriptedBackend) -> list[float]:
    """The pauses between attempts."""
    return [later - earlier for earlier, later in pairwise(scripted.attempts)]


async def test_attempts_come_with_growing_pauses_up_to_thirty_seconds(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", up=False)
    async with running(scripted):
        await trio.sleep(100)
    assert gaps(scripted) == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30])


async def test_a_server_over_http_that_may_be_starting_is_tried_every_two_seconds_for_five_minutes(
    autojump_clock: MockClock,
) -> None:
    scripted = ScriptedBackend(up=False)
    async with running(scripted):
        await trio.sleep(400)
    eager = [gap for at, gap in zip(scripted.attempts, gaps(scripted), strict=False) if at < 300]
    assert eager == pytest.approx([0.5, 1] + [2] * (len(eager) - 2))
    assert gaps(scripted)[len(eager) :] == pytest.approx([30] * 3)


async def test_so_is_one_that_was_lost_after_it_had_been_well(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with discovered(scripted):
        await trio.sleep(1000)
        scripted.crash()
        await trio.sleep(60)
    assert max(gaps(scripted)[2:]) == pytest.approx(2)


async def test_a_call_that_meets_the_open_circuit_brings_the_next_attempt_forward(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(up=False)
    async with running(scripted) as backend:
        await trio.sleep(400)  # every 30 s by now
        tried = len(scripted.attempts)
        for _number in range(50):
            with pytest.raises(BackendDown) as caught:
                backend.check_open()
            assert caught.value.retry_after_ms is not None
            assert caught.value.retry_after_ms <= 500
            await trio.sleep(0.1)
        assert 8 <= len(scripted.attempts) - tried <= 11
        scripted.up = True
        with pytest.raises(BackendDown):
            backend.check_open()
        await trio.sleep(0.6)
        backend.check_open()


async def test_no_call_hurries_a_process_or_a_backend_that_said_when(autojump_clock: MockClock) -> None:
    process, busy = ScriptedBackend(transport="stdio", up=False), ScriptedBackend()
    busy.on_initialize = lambda: BackendBusy(backend=busy.key, status=503, retry_after_ms=20_000)
    for scripted in (process, busy):
        async with running(scripted) as backend:
            await trio.sleep(200)
            tried = len(scripted.attempts)
            for _number in range(10):
                with pytest.raises(BackendDown):
                    backend.check_open()
                await trio.sleep(0.5)
            assert len(scripted.attempts) - tried <= 2


async def test_pauses_begin_again_after_thirty_seconds_of_ready(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(up=False)
    async with running(scripted, health=HealthSpec(interval_s=1.0)) as backend:
        await trio.sleep(10)
        scripted.up = True
        await ready(backend)
        await trio.sleep(31)
        scripted.up = False
        lost_at = trio.current_time()
        await trio.sleep(4)
    later = [at - lost_at for at in scripted.attempts if at > lost_at]
    assert later[1] - later[0] == pytest.approx(1.0)


async def test_flapping_makes_longer_pauses_and_never_touches_the_list(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    published = Published()
    async with discovered(scripted, published) as backend:
        for _ in range(6):
            await trio.sleep(0.01)
            scripted.open_links[-1].die("exit status 1")
            await trio.sleep(0.01)
            assert state(backend) is Health.DEGRADED
            await ready(backend)
        assert backend.supervisor.restarts == 6
    assert published.lists() == [None, ("read",)] or published.lists() == [("read",)]
    gaps = [later - earlier for earlier, later in zip(scripted.attempts, scripted.attempts[1:], strict=False)]
    assert gaps == pytest.approx([0.5, 1, 2, 4, 8, 16], abs=0.3)


async def test_the_third_failure_opens_the_circuit_and_one_success_closes_it(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    published = Published()
    async with discovered(scripted, published) as backend:
        scripted.crash()
        await trio.sleep(2)
        assert backend.supervisor.machine.open
        scripted.up = True
        await ready(backend)
    assert published.healths() == [Health.READY, Health.DEGRADED, Health.DOWN, Health.READY]


async def test_the_list_survives_the_grace_and_then_goes_once(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    published = Published()
    async with discovered(scripted, published) as backend:
        scripted.crash()
        await trio.sleep(30)
        assert state(backend) is Health.DOWN
        assert published.lists()[-1] == ("read",)
        await trio.sleep(5)
        assert published.lists()[-1] is None
        await trio.sleep(120)
        scripted.up = True
        await ready(backend)
    assert published.lists() == [("read",), None, ("read",)]


async def test_a_short_outage_changes_nothing_that_is_served(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    published = Published()
    async with discovered(scripted, published) as backend:
        scripted.crash()
        await trio.sleep(10)
        scripted.up = True
        await ready(backend)
        await trio.sleep(100)
    assert published.lists() == [("read",)]


async def test_a_storm_of_notices_costs_one_discovery_per_second(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with discovered(scripted, health=HOUR):
        await trio.sleep(5)
        before = scripted.asked("tools/list")
        for _ in range(1000):
            await scripted.shout(LIST_CHANGED)
            await trio.sleep(0.005)
        await trio.sleep(2)
        assert 5 <= scripted.asked("tools/list") - before <= 7


async def test_notices_during_a_discovery_cause_one_more_after_it_and_none_beside_it(
    autojump_clock: MockClock,
) -> None:
    scripted = ScriptedBackend()
    beside, most = 0, 0

    async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        nonlocal beside, most
        beside += 1
        most = max(most, beside)
        await trio.sleep(2)
        beside -= 1
        return {"tools": []}

    scripted.handlers["tools/list"] = slow
    async with discovered(scripted, health=HOUR) as backend:
        for _ in range(20):
            backend.supervisor.refresh()
            await trio.sleep(0.1)
        await trio.sleep(20)
    assert most == 1
    assert scripted.asked("tools/list") == 3


async def test_a_changed_list_is_published_and_an_equal_one_is_not(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    published = Published()
    async with discovered(scripted, published, health=HOUR):
        shots = len(published.shots)
        await scripted.shout(LIST_CHANGED)
        await trio.sleep(3)
        assert len(published.shots) == shots
        scripted.tools = [tool("read", "now with another description")]
        await scripted.shout(LIST_CHANGED)
        await trio.sleep(3)
        assert len(published.shots) == shots + 1


@pytest.mark.parametrize(
    "scripted",
    [
        pytest.param(ScriptedBackend(transport="stdio", capabilities={"tools": {}}), id="announces nothing"),
        pytest.param(ScriptedBackend(), id="may announce to the caller's session only"),
    ],
)
async def test_a_list_whose_change_we_may_not_hear_of_is_read_again_at_each_health_period(
    autojump_clock: MockClock, scripted: ScriptedBackend
) -> None:
    async with discovered(scripted) as backend:
        scripted.tools = [tool("new")]
        await trio.sleep(31)
        lists = backend.snapshot.lists(Family.LEGACY)
        assert lists is not None
        assert [item.name for listing in lists.values() for item in listing.items] == ["new"]


async def test_an_announcing_process_is_only_pinged(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    async with discovered(scripted):
        await trio.sleep(100)
        assert scripted.asked("ping") == 3
        assert scripted.asked("tools/list") == 1


async def test_a_modern_backend_is_probed_by_discover_and_read_again_at_its_ttl(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(era=V2026_07_28, ttl_ms=20_000)
    async with discovered(scripted):
        await trio.sleep(59)
        assert scripted.asked("tools/list") == 3
        assert scripted.asked("ping") == 0
    assert scripted.asked("initialize") == 0


async def test_a_tiny_ttl_polls_once_per_second_at_most(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(era=V2026_07_28, ttl_ms=1)
    async with discovered(scripted):
        await trio.sleep(10)
        assert scripted.asked("tools/list") <= 12


async def test_a_ping_that_is_refused_is_a_sign_of_life(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()

    async def refuse(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(-32601)

    scripted.handlers["ping"] = refuse
    async with discovered(scripted) as backend:
        await trio.sleep(100)
        assert backend.supervisor.machine.failures == 0


async def test_a_silent_backend_is_down_soon_after_its_first_late_probe(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with discovered(scripted, timeouts=Timeouts(list_s=1.0)) as backend:
        scripted.silent = True
        await trio.sleep(30 + 6)
        assert state(backend) is Health.DOWN
        assert "did not answer" in backend.supervisor.machine.last_error


async def test_a_process_that_works_on_a_call_may_miss_its_pings(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    async with discovered(scripted, timeouts=Timeouts(list_s=1.0)) as backend:
        scripted.silent = True
        upstream = await backend.supervisor.shared()
        upstream.enter()  # a call in flight
        await trio.sleep(120)
        assert state(backend) is Health.DOWN
        assert not scripted.links[0].closed
        scripted.silent = False
        await ready(backend)
        assert len(scripted.links) == 1
        upstream.leave()


async def test_a_silent_process_without_calls_is_started_again(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")
    async with discovered(scripted, timeouts=Timeouts(list_s=1.0)) as backend:
        scripted.silent = True
        await trio.sleep(40)
        assert scripted.links[0].closed
        scripted.silent = False
        await ready(backend)
        assert backend.supervisor.restarts >= 1


async def test_a_lost_session_is_opened_anew_and_is_no_failure(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    published = Published()
    async with discovered(scripted, published) as backend:
        scripted.forget_sessions()
        await trio.sleep(35)
        assert len(scripted.links) == 2
        assert backend.supervisor.machine.last_error == ""
    assert published.healths() == [Health.READY]


async def test_a_lost_stream_is_noticed_at_once_and_what_it_missed_is_fetched(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    published = Published()
    async with discovered(scripted, published, health=HOUR):
        scripted.tools = [tool("new")]
        scripted.break_streams()
        await trio.sleep(3)
    assert published.lists() == [("read",), ("new",)]


async def test_a_backend_without_a_stream_is_fine(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(streams=False)
    async with discovered(scripted):
        scripted.tools = [tool("new")]
        await trio.sleep(31)
        assert scripted.asked("GET") == 0
        assert scripted.asked("tools/list") == 2


async def test_the_era_is_cached_until_the_backend_surprises_us(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(era=V2026_07_28)
    async with discovered(scripted) as backend:
        scripted.up = False
        await trio.sleep(32)
        scripted.up = True
        await ready(backend)
        assert scripted.detections == 1
        scripted.era = V2025_11_25  # rolled back
        await trio.sleep(35)
        await ready(backend)
        assert scripted.detections == 2
        assert backend.snapshot.era is V2025_11_25


async def test_a_provisional_era_is_asked_for_with_each_health_probe_until_there_is_a_verdict(
    autojump_clock: MockClock,
) -> None:
    scripted, published = ScriptedBackend(tells=False), Published()
    async with discovered(scripted, published):
        await trio.sleep(95)
        assert (scripted.reconsiderations, scripted.asked("ping")) == (3, 3)
        scripted.tells = True
        await trio.sleep(95)
        assert (scripted.reconsiderations, scripted.detections, len(scripted.links)) == (4, 1, 1)
    assert published.healths() == [Health.READY]


async def test_a_provisional_era_that_turns_out_modern_costs_no_failure(autojump_clock: MockClock) -> None:
    scripted, published = ScriptedBackend(tells=False), Published()
    async with discovered(scripted, published) as backend:
        await backend.exchange(caller("a"), CALL, deaf)
        scripted.tells, scripted.era = True, V2026_07_28
        await trio.sleep(35)
        assert backend.snapshot.era is V2026_07_28
        assert backend.supervisor.machine.last_error == ""
        await backend.exchange(caller("a"), CALL, deaf)
        assert [link.closed for link in scripted.links] == [True, True, False, False]
    assert published.healths() == [Health.READY]


async def test_a_legacy_backend_that_became_modern_is_found_out(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with discovered(scripted) as backend:
        scripted.era = V2026_07_28
        scripted.forget_sessions()
        await trio.sleep(40)
        await ready(backend)
        assert backend.snapshot.era is V2026_07_28


async def test_changed_capabilities_of_a_modern_backend_are_noticed_by_the_probe(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(era=V2026_07_28, capabilities={})
    async with discovered(scripted) as backend:
        scripted.capabilities = {"tools": {}}
        await trio.sleep(35)
        assert backend.snapshot.capabilities == {"tools": {}}
        assert scripted.asked("tools/list") == 1


# --- a list that cannot be read ---


def prompts(answer: Callable[[], JsonValue]) -> Handler:
    async def handler(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {"prompts": answer()}

    return handler


async def test_a_server_that_was_ready_stays_ready_whatever_one_list_becomes(autojump_clock: MockClock) -> None:
    said: list[JsonValue] = [[{"name": "p"}]]
    scripted = ScriptedBackend(capabilities={"tools": {}, "prompts": {}})
    scripted.handlers["prompts/list"] = prompts(lambda: said[0])
    published = Published()
    async with discovered(scripted, published) as backend:
        said[0], scripted.tools = None, [tool("new")]
        await trio.sleep(40)
        lists = backend.snapshot.lists(Family.LEGACY)
        assert lists is not None
        assert [item.name for item in lists[Kind.TOOLS].items] == ["new"]
        assert [item.name for item in lists[Kind.PROMPTS].items] == ["p"]
        assert [problem.kind for problem in backend.snapshot.problems] == [Kind.PROMPTS]
        assert backend.supervisor.machine.last_error == ""
        said[0] = []
        await trio.sleep(40)
        assert backend.snapshot.problems == ()
        assert len(scripted.links) == 1
    assert published.healths() == [Health.READY]


async def test_a_list_that_could_not_be_read_is_asked_for_again_with_growing_pauses(autojump_clock: MockClock) -> None:
    broken = True
    scripted = ScriptedBackend(transport="stdio", capabilities={"tools": {"listChanged": True}, "prompts": {}})
    scripted.handlers["prompts/list"] = prompts(lambda: None if broken else [])
    scripted.capabilities = {"tools": {"listChanged": True}, "prompts": {"listChanged": True}}
    async with discovered(scripted) as backend:
        await trio.sleep(100)
        times = scripted.times("prompts/list")
        assert [round(later - earlier) for earlier, later in pairwise(times)] == [1, 2, 4, 8, 16, 30, 30]
        broken = False
        await trio.sleep(30)
        asked = scripted.asked("prompts/list")
        await trio.sleep(600)
        assert scripted.asked("prompts/list") == asked  # it is whole, and its changes are announced
        broken = True
        await scripted.shout(notice("notifications/prompts/list_changed"))
        await trio.sleep(2.5)
        assert scripted.asked("prompts/list") == asked + 2  # from the first pause on
        assert len(scripted.links) == 1
        assert backend.snapshot.health is Health.READY


async def test_a_list_that_hangs_is_asked_for_more_rarely(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(capabilities={"tools": {}, "prompts": {}})

    async def hang(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep_forever()
        raise AssertionError

    scripted.handlers["prompts/list"] = hang
    async with discovered(scripted) as backend:
        await trio.sleep(120)
        times = scripted.times("prompts/list")
        assert [round(later - earlier) for earlier, later in pairwise(times)] == [
            20,
            35,
            35,
            35,
        ]  # 5 s of them it hangs
        assert backend.snapshot.health is Health.READY


async def test_a_busy_backend_is_asked_again_for_one_list_when_it_said(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(capabilities={"tools": {}, "prompts": {}})

    async def busy(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise BackendBusy(backend=scripted.key, status=429, retry_after_ms=20_000)

    scripted.handlers["prompts/list"] = busy
    async with discovered(scripted):
        await trio.sleep(25)
    (first, second) = scripted.times("prompts/list")
    assert second - first == pytest.approx(20, abs=0.5)


async def test_a_backend_that_went_while_its_lists_were_read_is_noticed_at_once(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(streams=False, capabilities={"tools": {}, "prompts": {}})
    scripted.handlers["prompts/list"] = prompts(list)

    async def last_words(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        scripted.up = False
        raise BackendGone(backend=scripted.key, why="reset")

    async with discovered(scripted) as backend:
        scripted.handlers["prompts/list"] = last_words
        backend.supervisor.refresh()
        await trio.sleep(3)
        assert backend.snapshot.health is not Health.READY


async def test_nothing_but_odd_answers_makes_us_doubt_what_we_speak_to_and_is_no_failure(
    autojump_clock: MockClock,
) -> None:
    odd = False
    scripted = ScriptedBackend()

    async def tools(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {"tools": None if odd else [tool("read")]}

    scripted.handlers["tools/list"] = tools
    published = Published()
    async with discovered(scripted, published) as backend:
        odd = True
        backend.supervisor.refresh()
        await trio.sleep(100)
        assert scripted.detections == 2
        assert len(scripted.links) == 2
        assert backend.supervisor.machine.last_error == ""
        assert backend.snapshot.problems[0].reason == "tools/list: not an array: what was listed before stands"
    assert published.healths() == [Health.READY]
    assert published.lists() == [("read",)]


async def test_odd_answers_of_a_process_end_no_process(autojump_clock: MockClock) -> None:
    odd = False
    scripted = ScriptedBackend(transport="stdio")

    async def tools(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {"tools": None if odd else [tool("read")]}

    scripted.handlers["tools/list"] = tools
    async with discovered(scripted) as backend:
        odd = True
        backend.supervisor.refresh()
        await trio.sleep(100)
        assert len(scripted.links) == 1
        assert backend.snapshot.health is Health.READY


async def test_a_busy_backend_is_given_the_time_it_asks_for(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()

    async def busy(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise BackendBusy(backend=scripted.key, status=503, retry_after_ms=7000)

    scripted.handlers["tools/list"] = busy
    async with running(scripted):
        await trio.sleep(20)
    gaps = [later - earlier for earlier, later in zip(scripted.attempts[1:], scripted.attempts[2:], strict=False)]
    assert gaps
    assert min(gaps) >= 6.9


async def test_questions_on_the_gateways_own_link_are_answered(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with discovered(scripted):
        await scripted.shout(question("ping", b"7"))
        await scripted.shout(question("roots/list", b'"r"'))
        await scripted.shout(notice("notifications/message", level="info"))
        await trio.testing.wait_all_tasks_blocked()
        pong, refusal = scripted.links[0].said
        assert pong == b'{"jsonrpc":"2.0","id":7,"result":{}}'
        assert b'"id":"r"' in refusal
        assert b"-32601" in refusal


async def test_questions_during_the_gateways_own_requests_are_answered(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()

    async def curious(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(question("ping", b"1"))
        await hear(question("sampling/createMessage", b"2"))
        await hear(LIST_CHANGED)
        return {"tools": []}

    scripted.handlers["tools/list"] = curious
    async with discovered(scripted):
        assert len(scripted.links[0].said) == 2


async def test_a_slow_connect_is_given_up_after_its_limit(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(connect_s=100)
    async with running(scripted) as backend:
        await trio.sleep(5.1)
        assert backend.supervisor.builder.first_answer.is_set()
        assert "connect limit of 5 s" in backend.supervisor.machine.last_error


def test_the_leading_error_of_nested_groups_is_the_first() -> None:
    first = BackendGone(backend=ScriptedBackend().key, why="first")
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [first]), ValueError()])
    assert leading(nested) is first


def _answer(result: JsonObject) -> Handler:
    async def handler(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return result

    return handler
