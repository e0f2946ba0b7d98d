"""Subscriptions to resources: who is told upstream, and what is left when somebody leaves."""

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.errors import BackendGone
from mcp_gateway.gateway.hub import MAX_SUBSCRIPTIONS
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import BackendKey, JsonObject
from tests.support.scripted_gateway import ScriptedGateway, scripted_gateway
from tests.support.scripted_link import Handler, Refusal, ScriptedBackend, ScriptedLink, notice

FILES, SLOW = BackendKey("files"), BackendKey("slow")
ERAS = [pytest.param(V2025_11_25, id="2025 backend"), pytest.param(V2026_07_28, id="2026 backend")]
UPDATED = "notifications/resources/updated"


def backend(key: BackendKey = FILES, era: Era = V2025_11_25, **handlers: Handler) -> ScriptedBackend:
    """A backend with one resource, ``memo://<key>``."""

    async def listed(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"resources": [{"uri": f"memo://{key}", "name": "one"}], "resultType": "complete", "ttlMs": 0}

    given = {name.replace("_", "/"): handler for name, handler in handlers.items()}
    capabilities: JsonObject = {"resources": {"subscribe": True}}
    return ScriptedBackend(key=key, era=era, capabilities=capabilities, handlers={"resources/list": listed, **given})


async def hang(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep(math.inf)
    return {}


def upstream_uris(where: ScriptedGateway, key: BackendKey = FILES) -> frozenset[str]:
    running = where.fleet.get(key)
    assert running is not None
    return running.subscriptions.uris


async def test_two_first_subscribers_are_answered_by_what_the_backend_says(autojump_clock: MockClock) -> None:
    tries: list[float] = []

    async def refuse_once(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        tries.append(trio.current_time())
        await trio.sleep(1)
        if len(tries) == 1:
            raise Refusal(-32002, "not yet")
        return {}

    scripted = backend(resources_subscribe=refuse_once)
    async with scripted_gateway(scripted) as where:
        first, second = await where.session(), await where.session()
        replies = []
        for one in (first, second, second):
            replies.append(one.begin("resources/subscribe", {"uri": "memo://files"}))
            await wait_all_tasks_blocked()
        for reply in replies:
            await reply.until(lambda reply=reply: reply.closed)  # type: ignore[misc]  # bound now
        assert replies[0].error["data"]["reason"] == "backend_refused"  # type: ignore[index,call-overload]  # raw JSON
        assert [reply.result for reply in replies[1:]] == [{}, {}]
        assert len(tries) == 2
        stream = second.stream()
        await stream.until(lambda: stream.opened)
        await scripted.shout(notice(UPDATED, uri="memo://files"))
        await stream.until(lambda: stream.messages)
        await second.ask("resources/unsubscribe", {"uri": "memo://files"})
        await wait_all_tasks_blocked()
        assert upstream_uris(where) == frozenset()
        assert scripted.asked("resources/unsubscribe") == 1


async def test_the_same_subscription_that_failed_is_tried_again_by_who_waited(autojump_clock: MockClock) -> None:
    async def gone(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(1)
        raise BackendGone(backend=FILES, why="reset")

    scripted = backend(resources_subscribe=gone)
    async with scripted_gateway(scripted) as where:
        session = await where.session()
        replies = [session.begin("resources/subscribe", {"uri": "memo://files"}) for _ in range(2)]
        for reply in replies:
            await reply.until(lambda reply=reply: reply.closed)  # type: ignore[misc]  # bound now
        assert [reply.error["code"] for reply in replies] == [-33502, -33502]
        assert upstream_uris(where) == frozenset()


async def test_a_backend_that_hangs_at_unsubscribe_holds_nobody_up(autojump_clock: MockClock) -> None:
    async with scripted_gateway(backend(resources_unsubscribe=hang)) as where:
        began_at = trio.current_time()
        session, other = await where.session(), await where.session()
        for one in (session, other):
            await one.ask("resources/subscribe", {"uri": "memo://files"})
        assert (await session.ask("resources/unsubscribe", {"uri": "memo://files"})).result == {}
        await other.end()
        wanted: JsonObject = {"resourceSubscriptions": ["memo://files"]}
        listen = where.modern_soon("subscriptions/listen", {"notifications": wanted}, id="l")
        await wait_all_tasks_blocked()
        listen.leave()
        await wait_all_tasks_blocked()
        assert trio.current_time() == began_at
        assert upstream_uris(where) == frozenset()


@pytest.mark.parametrize("era", ERAS)
async def test_who_leaves_while_subscribing_leaves_nothing(autojump_clock: MockClock, era: Era) -> None:
    async def slowly(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(1)
        return {}

    async with scripted_gateway(backend(era=era, resources_subscribe=slowly)) as where:
        for leave in ("end", "unsubscribe"):
            session = await where.session()
            session.begin("resources/subscribe", {"uri": "memo://files"})
            await wait_all_tasks_blocked()
            if leave == "end":
                await session.end()
            else:
                await session.ask("resources/unsubscribe", {"uri": "memo://files"})
            await trio.sleep(3)
            assert upstream_uris(where) == frozenset()


@pytest.mark.parametrize("era", ERAS)
async def test_a_resource_is_told_again_to_who_comes_back(autojump_clock: MockClock, era: Era) -> None:
    scripted = backend(era=era)
    async with scripted_gateway(scripted) as where:
        session = await where.session()
        stream = session.stream()
        for _ in range(2):
            await session.ask("resources/subscribe", {"uri": "memo://files"})
            await session.ask("resources/unsubscribe", {"uri": "memo://files"})
            await trio.sleep(1)
        await session.ask("resources/subscribe", {"uri": "memo://files"})
        await trio.sleep(1)
        await scripted.shout(notice(UPDATED, uri="memo://files"))
        await stream.until(lambda: stream.messages)


async def test_a_slow_backend_costs_a_listener_only_its_own_resources(autojump_clock: MockClock) -> None:
    slow = backend(SLOW, resources_subscribe=hang)
    async with scripted_gateway(backend(), slow, timeouts=Timeouts(list_s=5)) as where:
        wanted: JsonObject = {"resourceSubscriptions": ["memo://slow", "memo://files", 7, "memo://nobody"]}
        began_at = trio.current_time()
        listen = where.modern_soon("subscriptions/listen", {"notifications": wanted}, id="l")
        await listen.until(lambda: listen.messages)
        assert trio.current_time() - began_at == pytest.approx(5)
        acknowledged = listen.messages[0]["params"]["notifications"]  # type: ignore[index,call-overload]  # raw JSON
        assert acknowledged == {"resourceSubscriptions": ["memo://files"]}
        assert upstream_uris(where, SLOW) == frozenset()


async def test_a_subscription_that_takes_too_long_is_undone(autojump_clock: MockClock) -> None:
    async with scripted_gateway(backend(resources_subscribe=hang), timeouts=Timeouts(list_s=60, call_s=2)) as where:
        reply = await (await where.session()).ask("resources/subscribe", {"uri": "memo://files"})
        assert reply.error["data"]["reason"] == "backend_timeout"  # type: ignore[index,call-overload]  # raw JSON
        assert upstream_uris(where) == frozenset()


async def test_subscribing_at_a_backend_that_just_left_says_so(autojump_clock: MockClock) -> None:
    async with scripted_gateway(backend()) as where:
        session = await where.session()
        where.fleet._seats.clear()  # what a removal does, before the next table is built
        reply = await session.ask("resources/subscribe", {"uri": "memo://files"})
        assert reply.error["data"]["reason"] == "backend_gone"  # type: ignore[index,call-overload]  # raw JSON
        assert (await session.ask("resources/unsubscribe", {"uri": "memo://files"})).result == {}


async def test_invariant_7_subscriptions_of_one_client_are_bounded(autojump_clock: MockClock) -> None:
    async def template(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"resourceTemplates": [{"uriTemplate": "memo://x/{id}", "name": "x"}]}

    scripted = backend()
    scripted.handlers["resources/templates/list"] = template
    async with scripted_gateway(scripted) as where:
        session = await where.session()
        for number in range(MAX_SUBSCRIPTIONS):
            await session.ask("resources/subscribe", {"uri": f"memo://x/{number}"})
        refused = await session.ask("resources/subscribe", {"uri": "memo://files"})
        assert refused.error["data"]["reason"] == "overload"  # type: ignore[index,call-overload]  # raw JSON
        assert len(upstream_uris(where)) == MAX_SUBSCRIPTIONS
        await session.end()
        assert upstream_uris(where) == frozenset()
