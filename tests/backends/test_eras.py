"""A backend and its callers: in which era whose requests go up."""

from contextlib import suppress

import attrs
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends import reach
from mcp_gateway.backends.subscription import Subscription
from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import BackendGone, BackendProtocol, BackendRefused, Executed, Overload
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era, Family
from mcp_gateway.routing.snapshot import Health, Kind
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.scripted_link import (
    ASKABLE,
    CALL,
    Refusal,
    ScriptedBackend,
    ScriptedLink,
    caller,
    deaf,
    discovered,
    notice,
    ready,
    running,
    server,
    tool,
)


async def test_nothing_is_said_of_the_era_before_it_is_known(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(connect_s=1.0)
    async with running(scripted) as backend:
        assert backend.family_for(caller("a")) is None
        with pytest.raises(BackendProtocol, match="not known yet") as raised:
            backend.era_for(caller("a"))
        assert raised.value.executed is Executed.NO


@pytest.mark.parametrize("era", [V2025_11_25, V2026_07_28])
@pytest.mark.parametrize("session", [None, "a"])
async def test_a_backend_of_one_era_is_spoken_to_in_that_by_everybody(
    autojump_clock: MockClock, era: Era, session: str | None
) -> None:
    async with discovered(ScriptedBackend(era=era)) as backend:
        assert backend.era_for(caller(session)) is era
        assert (await backend.link_for(caller(session))).era is era


async def test_a_request_that_is_written_for_the_other_era_is_not_sent(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with discovered(scripted) as backend:
        with pytest.raises(BackendProtocol, match="2025-11-25") as raised:
            await backend.exchange(caller("a"), attrs.evolve(CALL, family=Family.MODERN), deaf)
        assert raised.value.executed is Executed.NO
        assert not scripted.asked("tools/call")


# --- over HTTP ---


def both(
    *, transport: str = "streamable-http", sessionless: bool = False, legacy_tools: list[JsonObject] | None = None
) -> ScriptedBackend:
    """A server that speaks 2026 and 2025."""
    return ScriptedBackend(
        era=V2026_07_28,
        legacy=V2025_11_25,
        transport=transport,
        sessionless=sessionless,
        legacy_tools=legacy_tools,
    )


async def test_everybody_is_spoken_for_in_his_own_era_where_the_server_has_both(autojump_clock: MockClock) -> None:
    """Acceptance case K-154."""
    scripted = both()
    async with discovered(scripted) as backend:
        for who in (caller("a"), caller("a"), caller("b", ASKABLE), caller(), caller(identity=ASKABLE)):
            await backend.exchange(who, CALL, deaf)
        assert [link.era for link in scripted.links] == [V2026_07_28, V2025_11_25, V2025_11_25, V2026_07_28]
        assert [backend.era_for(caller(session)) for session in ("a", None)] == [V2025_11_25, V2026_07_28]


async def test_the_other_era_is_looked_at_on_a_session_that_is_ended(autojump_clock: MockClock) -> None:
    scripted = both(legacy_tools=[tool("old")])
    async with discovered(scripted) as backend:
        assert [link.closed for link in scripted.looks] == [True]
        listings = backend.snapshot.listings
        assert listings is not None
        assert {family: [item.name for item in lists[Kind.TOOLS].items] for family, lists in listings.items()} == {
            Family.MODERN: ["read"],
            Family.LEGACY: ["old"],
        }


async def test_equal_lists_are_one_and_are_read_again_only_when_they_may_have_changed(
    autojump_clock: MockClock,
) -> None:
    scripted = both()
    async with discovered(scripted) as backend:
        listings = backend.snapshot.listings
        assert listings is not None
        assert listings[Family.LEGACY] is listings[Family.MODERN]
        await trio.sleep(120.0)
        assert len(scripted.looks) == 1
        scripted.tools = [tool("read"), tool("write")]
        await scripted.shout(notice("notifications/tools/list_changed"))
        await trio.sleep(5.0)
        assert len(scripted.looks) == 2
        assert backend.snapshot.listings is not None
        assert len(backend.snapshot.listings[Family.LEGACY][Kind.TOOLS].items) == 2


async def test_a_change_that_2026_does_not_show_is_seen_in_2025(autojump_clock: MockClock) -> None:
    scripted = both(legacy_tools=[tool("old")])
    async with discovered(scripted) as backend:
        await backend.exchange(caller("a"), CALL, deaf)
        backend.set_stream("a", deaf)
        await trio.sleep(0.1)
        scripted.legacy_tools = [tool("older")]
        await scripted.shout(notice("notifications/tools/list_changed"))
        await trio.sleep(5.0)
        assert backend.snapshot.listings is not None
        assert [item.name for item in backend.snapshot.listings[Family.LEGACY][Kind.TOOLS].items] == ["older"]


async def test_without_session_ids_who_can_be_asked_is_bridged_and_others_share(autojump_clock: MockClock) -> None:
    scripted = both(sessionless=True)
    async with discovered(scripted) as backend:
        for who in (caller("a"), caller("b"), caller("c", ASKABLE), caller()):
            await backend.exchange(who, CALL, deaf)
        assert [link.era for link in scripted.links[1:]] == [V2025_11_25, V2026_07_28]


async def test_where_there_is_no_place_a_newcomer_who_cannot_be_asked_is_bridged(autojump_clock: MockClock) -> None:
    scripted = both()
    async with running(scripted, limits=BackendLimits(upstream_sessions=1)) as backend:
        await ready(backend)
        await backend.exchange(caller("a"), CALL, deaf)
        backend.set_stream("a", deaf)  # in use
        await backend.exchange(caller("b"), CALL, deaf)
        assert backend.era_for(caller("b")) is V2026_07_28
        with pytest.raises(Overload):
            await backend.exchange(caller("c", ASKABLE), CALL, deaf)
        backend.set_stream("a", None)
        await trio.sleep(0.1)
        await backend.exchange(caller("b"), CALL, deaf)
        assert backend.era_for(caller("b")) is V2026_07_28, "a session keeps its era"
        await backend.exchange(caller("c"), CALL, deaf)
        assert backend.era_for(caller("c")) is V2025_11_25


async def test_who_refuses_initialize_is_not_asked_again_on_this_connection(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(era=V2026_07_28)
    async with discovered(scripted) as backend:
        await backend.exchange(caller("a"), CALL, deaf)
        assert backend.era_for(caller("a")) is V2026_07_28
        scripted.legacy = V2025_11_25
        await trio.sleep(120.0)
        assert scripted.looks == []
        assert backend.snapshot.health is Health.READY


async def test_who_could_not_be_asked_is_asked_with_the_next_probe(autojump_clock: MockClock) -> None:
    scripted = both()
    scripted.on_look = BackendGone(backend=scripted.key, why="reset", executed=Executed.NO)
    async with discovered(scripted) as backend:
        assert backend.era_for(caller("b")) is V2026_07_28
        scripted.on_look = None
        await trio.sleep(backend.spec.health.interval_s + 1.0)
        assert backend.era_for(caller("b")) is V2025_11_25
        assert backend.snapshot.health is Health.READY


async def test_lists_that_could_not_be_read_there_are_those_of_2026_until_they_can(autojump_clock: MockClock) -> None:
    scripted = both(legacy_tools=[tool("old")])

    async def fail(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        if link.era is V2025_11_25:
            raise Refusal(-32603)
        return {"tools": list[JsonValue](scripted.tools)}

    scripted.handlers["tools/list"] = fail
    async with discovered(scripted) as backend:
        assert backend.era_for(caller("a")) is V2025_11_25
        assert backend.snapshot.listings is not None
        assert Family.LEGACY not in backend.snapshot.listings
        del scripted.handlers["tools/list"]
        await trio.sleep(backend.spec.health.interval_s + 1.0)
        assert backend.snapshot.listings is not None
        assert [item.name for item in backend.snapshot.listings[Family.LEGACY][Kind.TOOLS].items] == ["old"]


async def test_one_list_that_could_not_be_read_there_costs_no_other_and_is_asked_for_with_the_next_probe(
    autojump_clock: MockClock,
) -> None:
    odd = True
    scripted = both(legacy_tools=[tool("old")])
    scripted.capabilities = {"tools": {"listChanged": True}, "prompts": {"listChanged": True}}

    async def prompts(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        names: list[JsonValue] = [{"name": "modern"} if link.era.modern else {"name": "legacy"}]
        return {"prompts": None if odd and not link.era.modern else names}

    scripted.handlers["prompts/list"] = prompts
    async with discovered(scripted) as backend:
        lists = backend.snapshot.lists(Family.LEGACY)
        assert lists is not None
        assert [item.name for item in lists[Kind.TOOLS].items] == ["old"]
        assert lists[Kind.PROMPTS].items == ()
        assert [problem.kind for problem in backend.snapshot.problems] == [Kind.PROMPTS]
        odd = False
        await trio.sleep(31)
        lists = backend.snapshot.lists(Family.LEGACY)
        assert lists is not None
        assert [item.name for item in lists[Kind.PROMPTS].items] == ["legacy"]
        assert backend.snapshot.problems == ()


async def test_who_pins_a_revision_is_spoken_to_in_that_alone(autojump_clock: MockClock) -> None:
    scripted = both()
    spec = attrs.evolve(server(scripted), protocol="2026-07-28")
    async with running(scripted, spec=spec) as backend:
        await ready(backend)
        await trio.sleep(60.0)
        assert scripted.looks == []
        assert backend.era_for(caller("a")) is V2026_07_28


async def test_a_session_keeps_its_era_when_the_server_changes_unless_that_is_gone(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with discovered(scripted) as backend:
        await backend.exchange(caller("a"), CALL, deaf)
        own = scripted.links[1]
        scripted.era, scripted.legacy = V2026_07_28, V2025_11_25  # brought up to date
        scripted.forget_sessions()
        own.forgotten = False
        await trio.sleep(2 * backend.spec.health.interval_s)
        assert backend.snapshot.era is V2026_07_28
        await backend.exchange(caller("a"), CALL, deaf)
        assert own.methods().count("tools/call") == 2
        scripted.legacy = None
        own.forgotten = True
        for _ in range(2):
            with suppress(BackendProtocol):  # of the first, which finds it out
                await backend.exchange(caller("a"), CALL, deaf)
            await trio.sleep(2 * backend.spec.health.interval_s)
        assert backend.era_for(caller("a")) is V2026_07_28


async def test_a_server_that_is_rolled_back_to_2025_keeps_its_sessions_there(autojump_clock: MockClock) -> None:
    scripted = both()
    async with discovered(scripted) as backend:
        await backend.exchange(caller("a"), CALL, deaf)
        await backend.exchange(caller(), CALL, deaf)
        own = scripted.links[1]
        scripted.era = V2025_11_25
        await trio.sleep(2 * backend.spec.health.interval_s)
        assert backend.snapshot.era is V2025_11_25
        for who in (caller("a"), caller()):
            await backend.exchange(who, CALL, deaf)
            assert backend.era_for(who) is V2025_11_25
        assert own.methods().count("tools/call") == 2


async def test_subscriptions_go_where_the_calls_go(autojump_clock: MockClock) -> None:
    scripted = both()
    scripted.capabilities["resources"] = {"subscribe": True}
    async with discovered(scripted) as backend:
        heard = list[str]()
        old = Subscription(caller=caller("a"), uri="file:///a", updated=lambda: heard.append("a"))
        new = Subscription(caller=caller(), uri="file:///a", updated=lambda: heard.append("modern"))
        for wish in (old, new):
            await backend.subscriptions.subscribe(wish)
            await backend.subscriptions.in_force(wish)
        own = next(link for link in scripted.links if link.era is V2025_11_25)
        assert "resources/subscribe" in own.methods()
        await own.say(notice("notifications/resources/updated", uri="file:///a"))
        await trio.sleep(0.1)
        assert heard == ["a"]
        await scripted.links[0].say(notice("notifications/resources/updated", uri="file:///a"))
        await trio.sleep(0.1)
        assert heard == ["a", "modern"]


async def test_what_depends_on_the_client_is_surveyed_in_2025(autojump_clock: MockClock) -> None:
    scripted = both()
    scripted.shown = lambda granted: [tool("read"), *([tool("ask")] if "sampling" in granted else [])]
    async with discovered(scripted) as backend:
        await trio.sleep(10.0)
        assert {link.era for link in scripted.surveys} == {V2025_11_25}
        assert backend.snapshot.listings is not None
        shown = {
            family: [item.name for item in lists[Kind.TOOLS].items]
            for family, lists in backend.snapshot.listings.items()
        }
        assert shown == {Family.MODERN: ["read"], Family.LEGACY: ["read", "ask"]}


# --- processes ---


async def test_a_process_of_its_own_is_opened_in_its_clients_era(autojump_clock: MockClock) -> None:
    scripted = both(transport="stdio")
    async with discovered(scripted) as backend:
        for who in (caller("a"), caller("b", ASKABLE), caller(), caller(identity=ASKABLE)):
            await backend.exchange(who, CALL, deaf)
        assert [link.era for link in scripted.links] == [V2026_07_28, V2025_11_25]
        assert scripted.looks == []
        assert backend.era_for(caller("b", ASKABLE)) is V2025_11_25


async def test_a_process_that_refuses_initialize_is_not_started_again_for_that(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", era=V2026_07_28)
    async with discovered(scripted) as backend:
        before = len(scripted.attempts)
        for session in ("a", "b"):
            await backend.exchange(caller(session, ASKABLE), CALL, deaf)
        assert len(scripted.attempts) == before + 1
        assert len(scripted.links) == 1
        assert backend.snapshot.health is Health.READY
        assert backend.era_for(caller("a", ASKABLE)) is V2026_07_28


async def test_without_a_place_for_a_process_the_shared_one_is_bridged(autojump_clock: MockClock) -> None:
    scripted = both(transport="stdio")
    async with running(scripted, limits=BackendLimits(processes=1)) as backend:
        await ready(backend)
        for session in ("a", "b", "a"):
            await backend.exchange(caller(session, ASKABLE), CALL, deaf)
        assert [link.era for link in scripted.links] == [V2026_07_28, V2025_11_25]
        assert [backend.era_for(caller(session, ASKABLE)) for session in "ab"] == [V2025_11_25, V2026_07_28]


# --- what it can do ---


async def test_what_a_server_can_do_in_either_era_is_what_it_can_do(autojump_clock: MockClock) -> None:
    scripted = both()
    scripted.capabilities = {"tools": {}, "resources": {"listChanged": True}, "extensions": {"x": {"new": True}}}
    scripted.legacy_capabilities = {"tools": {}, "logging": {}, "resources": {}, "extensions": {"x": {}, "y": {}}}
    async with discovered(scripted) as backend:
        assert backend.snapshot.capabilities == {
            "tools": {},
            "logging": {},
            "resources": {"listChanged": True, "subscribe": True},
            "extensions": {"x": {"new": True}, "y": {}},
        }
        wishes = [
            Subscription(caller=caller(session), uri="file:///a", updated=lambda: None) for session in ("a", None)
        ]
        await backend.subscriptions.subscribe(wishes[0])
        with pytest.raises(BackendRefused, match="no subscriptions"):
            await backend.subscriptions.subscribe(wishes[1])
        assert [wish.kept_in is not None for wish in wishes] == [True, False]


async def test_a_session_that_began_while_one_era_was_known_keeps_that(autojump_clock: MockClock) -> None:
    scripted = both()
    scripted.on_look = BackendGone(backend=scripted.key, why="reset", executed=Executed.NO)
    async with discovered(scripted) as backend:
        await backend.exchange(caller("early"), CALL, deaf)
        scripted.on_look = None
        await trio.sleep(backend.spec.health.interval_s + 1.0)
        assert [backend.era_for(caller(name)) for name in ("early", "late")] == [V2026_07_28, V2025_11_25]
        backend.end_session("early")
        assert backend.era_for(caller("early")) is V2025_11_25


async def test_a_session_without_an_id_makes_us_look_again(autojump_clock: MockClock) -> None:
    scripted = both()
    async with discovered(scripted) as backend:
        scripted.sessionless = True  # restarted with another configuration
        await backend.exchange(caller("a"), CALL, deaf)
        await trio.sleep(15.0)
        assert len(scripted.looks) == 2
        assert backend.era_for(caller("b", ASKABLE)) is V2026_07_28
        await backend.exchange(caller("a"), CALL, deaf)
        assert backend.era_for(caller("a")) is V2025_11_25


async def test_the_era_of_a_process_that_is_not_there_yet_is_its_clients(autojump_clock: MockClock) -> None:
    async with discovered(both(transport="stdio")) as backend:
        assert backend.era_for(caller("a", ASKABLE)) is V2025_11_25
        assert backend.era_for(caller("a")) is V2026_07_28


async def test_the_oldest_session_is_decided_anew_where_there_are_too_many(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "REMEMBERED", 2)
    scripted = both(sessionless=True)
    async with discovered(scripted) as backend:
        for session in ("a", "b", "c"):
            await backend.exchange(caller(session), CALL, deaf)
        assert scripted.asked("tools/call") == 3
        # As sessions that can be asked they would be bridged, unless it is remembered where they went.
        eras = [backend.era_for(caller(session, ASKABLE)) for session in ("a", "b", "c")]
        assert eras == [V2026_07_28, V2025_11_25, V2025_11_25]
