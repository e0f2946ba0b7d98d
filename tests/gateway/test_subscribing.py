"""Subscriptions to resources: who is told upstream, and what is left when somebody leaves."""

import math

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import GatewaySpec, Timeouts
from mcp_gateway.errors import BackendGone
from mcp_gateway.gateway.hub import MAX_SUBSCRIPTIONS
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import BackendKey, JsonObject
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, scripted_gateway
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
    scripted.sessionless = True  # all are one there
    async with scripted_gateway(scripted) as where:
        first, second = await where.session(), await where.session()
        replies = []
        for one in (first, second, second):
            replies.append(one.begin("resources/subscribe", {"uri": "memo://files"}))
            await wait_all_tasks_blocked()
        for reply in replies:
            await reply.until(lambda reply=reply: reply.closed)  # type: ignore[misc]  # bound now
        assert replies[0].error == {"code": -32002, "message": "not yet"}
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


# --- each client as if it were there itself ---


def session_links(scripted: ScriptedBackend) -> list[ScriptedLink]:
    """Those on which somebody is subscribed."""
    return [link for link in scripted.open_links if "resources/subscribe" in link.methods()]


async def listening(where: ScriptedGateway, *uris: str) -> RecordedReply:
    """The listen stream of a 2026 client, acknowledged."""
    wanted: JsonObject = {"resourceSubscriptions": list(uris)}
    listen = where.modern_soon("subscriptions/listen", {"notifications": wanted}, id="l")
    await listen.until(lambda: listen.messages)
    return listen


def told(reply: RecordedReply) -> int:
    """How many updates a client was told of."""
    return sum(1 for one in reply.messages if one.get("method") == UPDATED)


async def test_each_client_hears_on_its_own_upstream_session(autojump_clock: MockClock) -> None:
    scripted = backend()
    async with scripted_gateway(scripted) as where:
        one, other = await where.session(), await where.session()
        streams = [one.stream(), other.stream()]
        for session in (one, other):
            await session.ask("resources/subscribe", {"uri": "memo://files"})
        listen = await listening(where, "memo://files")
        links = session_links(scripted)
        assert len(links) == 3
        for count, link in enumerate(links, 1):
            await link.say(notice(UPDATED, uri="memo://files"))
            await wait_all_tasks_blocked()
            assert sorted(told(reply) for reply in (*streams, listen)) == [0] * (3 - count) + [1] * count
        await scripted.shout(notice(UPDATED, uri="memo://files"))
        await wait_all_tasks_blocked()
        assert [told(reply) for reply in (*streams, listen)] == [2, 2, 2]


async def test_listeners_who_are_alike_share_a_session_and_hear_each_once(autojump_clock: MockClock) -> None:
    scripted = backend()
    async with scripted_gateway(scripted) as where:
        listens = [await listening(where, "memo://files") for _ in range(2)]
        (link,) = session_links(scripted)
        await link.say(notice(UPDATED, uri="memo://files"))
        await wait_all_tasks_blocked()
        assert [told(listen) for listen in listens] == [1, 1]
        listens[0].leave()
        await wait_all_tasks_blocked()
        assert scripted.asked("resources/unsubscribe") == 0
        listens[1].leave()
        await wait_all_tasks_blocked()
        assert scripted.asked("resources/unsubscribe") == 1
        assert upstream_uris(where) == frozenset()


async def test_a_client_without_a_stream_hears_later_what_was_said_meanwhile(autojump_clock: MockClock) -> None:
    scripted = backend()
    async with scripted_gateway(scripted) as where:
        session = await where.session()
        await session.ask("resources/subscribe", {"uri": "memo://files"})
        await scripted.shout(notice(UPDATED, uri="memo://files"))
        await wait_all_tasks_blocked()
        stream = session.stream()
        await stream.until(lambda: told(stream))


async def test_what_is_left_of_a_session_that_ends_is_nothing(autojump_clock: MockClock) -> None:
    scripted = backend()
    async with scripted_gateway(scripted) as where:
        session = await where.session()
        await session.ask("resources/subscribe", {"uri": "memo://files"})
        running = where.fleet.get(FILES)
        assert running is not None
        assert running.sessions == 1
        await session.end()
        await wait_all_tasks_blocked()
        assert (running.sessions, running.links, upstream_uris(where)) == (0, 0, frozenset())
        assert not where.gateway.context.hub._held


@pytest.mark.parametrize("declares", [True, False, None])
async def test_a_2025_server_that_cannot_says_so_itself_and_is_not_acknowledged_to_a_listener(
    autojump_clock: MockClock, declares: bool | None
) -> None:
    def unknown(method: str) -> Handler:
        async def handler(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
            assert params["uri"] == "memo://files"
            raise Refusal(-32601, "Method not found", {"method": method})

        return handler

    methods = ("resources/subscribe", "resources/unsubscribe")
    scripted = backend()
    scripted.handlers |= {method: unknown(method) for method in methods}
    scripted.capabilities = {"resources": {} if declares is None else {"subscribe": declares}}
    async with scripted_gateway(scripted) as where:
        session = await where.session()
        for method in methods:
            refusal: JsonObject = {"code": -32601, "message": "Method not found", "data": {"method": method}}
            assert (await session.ask(method, {"uri": "memo://files"})).error == refusal
            assert scripted.asked(method) == 1
        listen = await listening(where, "memo://files")
        acknowledged = listen.messages[0]["params"]["notifications"]  # type: ignore[index,call-overload]  # raw JSON
        assert acknowledged == {"resourceSubscriptions": []}
        assert upstream_uris(where) == frozenset()


async def test_a_server_that_can_again_is_taken_at_its_word(autojump_clock: MockClock) -> None:
    able = False

    async def sometimes(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        if not able:
            raise Refusal(-32601)
        return {}

    async with scripted_gateway(backend(resources_subscribe=sometimes)) as where:
        session = await where.session()
        assert (await session.ask("resources/subscribe", {"uri": "memo://files"})).error["code"] == -32601
        able = True
        for method in ("resources/subscribe", "resources/unsubscribe"):
            assert (await session.ask(method, {"uri": "memo://files"})).result == {}


async def test_a_2026_server_that_declares_none_has_none_on_either_face(autojump_clock: MockClock) -> None:
    scripted = backend()
    scripted.era, scripted.capabilities = V2026_07_28, {"resources": {}}
    async with scripted_gateway(scripted) as where:
        session = await where.session()
        for method in ("resources/subscribe", "resources/unsubscribe"):
            assert (await session.ask(method, {"uri": "memo://files"})).error["code"] == -32601
        listen = await listening(where, "memo://files")
        acknowledged = listen.messages[0]["params"]["notifications"]  # type: ignore[index,call-overload]  # raw JSON
        assert acknowledged == {"resourceSubscriptions": []}


@pytest.mark.parametrize("code", [-32002, -32602, 4711])
async def test_what_a_server_answers_to_a_subscription_is_what_its_client_hears(
    autojump_clock: MockClock, code: int
) -> None:
    async def refusing(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(code, "not this one", {"why": "secret"})

    async with scripted_gateway(backend(resources_subscribe=refusing)) as where:
        answer = await (await where.session()).ask("resources/subscribe", {"uri": "memo://files"})
        assert answer.error == {"code": code, "message": "not this one", "data": {"why": "secret"}}


async def test_a_refusal_without_a_code_is_told_in_our_words(autojump_clock: MockClock) -> None:
    async def refusing(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(0, "odd")

    async with scripted_gateway(backend(resources_subscribe=refusing)) as where:
        answer = await (await where.session()).ask("resources/subscribe", {"uri": "memo://files"})
        assert answer.error["code"] == -33424


# --- servers that come and go ---


async def reload(where: ScriptedGateway, spec: GatewaySpec) -> None:
    where.spec.set(spec)
    await where.fleet.apply(spec)
    await trio.sleep(2)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("how", ["removed", "disabled"])
async def test_a_server_that_is_there_again_is_told_of_who_still_listens(
    autojump_clock: MockClock, era: Era, how: str
) -> None:
    scripted = backend(era=era)
    async with scripted_gateway(scripted) as where:
        present = where.spec.value
        off = tuple(attrs.evolve(server, enabled=False) for server in present.servers) if how == "disabled" else ()
        stays, leaves = await where.session(), await where.session()
        for session in (stays, leaves):
            await session.ask("resources/subscribe", {"uri": "memo://files"})
        listen, stream = await listening(where, "memo://files"), stays.stream()
        await reload(where, attrs.evolve(present, servers=off))
        await leaves.end()
        await trio.sleep(20)
        before = len(scripted.links)
        await reload(where, present)
        await scripted.shout(notice(UPDATED, uri="memo://files"))
        await wait_all_tasks_blocked()
        assert [told(reply) for reply in (listen, stream)] == [1, 1]
        again = [link for link in scripted.links[before:] if "resources/subscribe" in link.methods()]
        assert len(again) == (0 if era.modern else 2)
        await stays.end()
        listen.leave()
        await trio.sleep(2)
        assert upstream_uris(where) == frozenset()


@pytest.mark.parametrize("era", ERAS)
async def test_a_changed_server_goes_on_telling_each_once(autojump_clock: MockClock, era: Era) -> None:
    scripted = backend(era=era)
    async with scripted_gateway(scripted) as where:
        session = await where.session()
        await session.ask("resources/subscribe", {"uri": "memo://files"})
        listen, stream = await listening(where, "memo://files"), session.stream()
        (server,) = where.spec.value.servers
        changed = attrs.evolve(server, timeouts=Timeouts(call_s=7))
        await reload(where, attrs.evolve(where.spec.value, servers=(changed,)))
        await scripted.shout(notice(UPDATED, uri="memo://files"))
        await wait_all_tasks_blocked()
        assert [told(reply) for reply in (listen, stream)] == [1, 1]


async def test_who_subscribes_while_a_server_is_replaced_hears_of_the_new_one(autojump_clock: MockClock) -> None:
    async def slowly(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(4)
        return {}

    scripted = backend(resources_subscribe=slowly)
    async with scripted_gateway(scripted) as where:
        session = await where.session()
        stream, reply = session.stream(), session.begin("resources/subscribe", {"uri": "memo://files"})
        await wait_all_tasks_blocked()
        (server,) = where.spec.value.servers
        changed = attrs.evolve(server, timeouts=Timeouts(call_s=7))
        await reload(where, attrs.evolve(where.spec.value, servers=(changed,)))
        await reply.until(lambda: reply.closed)
        assert reply.result == {}
        await trio.sleep(10)
        await scripted.shout(notice(UPDATED, uri="memo://files"))
        await wait_all_tasks_blocked()
        assert told(stream) == 1


async def test_who_waited_for_a_failed_one_and_left_leaves_nothing(autojump_clock: MockClock) -> None:
    async def slowly_refused(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(1)
        raise Refusal(-32002, "no")

    async with scripted_gateway(backend(resources_subscribe=slowly_refused)) as where:
        session = await where.session()
        for _ in range(2):
            session.begin("resources/subscribe", {"uri": "memo://files"})
            await wait_all_tasks_blocked()
        await session.end()
        await trio.sleep(5)
        assert not where.gateway.context.hub._held
        assert upstream_uris(where) == frozenset()


async def test_who_subscribes_at_a_server_that_is_removed_is_told_so(autojump_clock: MockClock) -> None:
    async with scripted_gateway(backend(resources_subscribe=hang), timeouts=Timeouts(list_s=60)) as where:
        reply = (await where.session()).begin("resources/subscribe", {"uri": "memo://files"})
        await wait_all_tasks_blocked()
        await where.fleet.apply(attrs.evolve(where.spec.value, servers=()))
        await reply.until(lambda: reply.closed)
        assert reply.error["data"]["reason"] == "backend_removed"  # type: ignore[index,call-overload]  # raw JSON
        assert not where.gateway.context.hub._held


@pytest.mark.parametrize("sessionless", [False, True], ids=["a session of its own", "no session ids"])
@pytest.mark.parametrize("level", [None, "error"])
async def test_what_is_logged_before_a_subscription_is_answered_comes_before_the_answer(
    autojump_clock: MockClock, sessionless: bool, level: str | None
) -> None:
    async def log_first(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        for said in ("info", "error"):
            await hear(notice("notifications/message", level=said, data=f"{link.methods()[:-1]}"))
        return {}

    scripted = backend(resources_subscribe=log_first, logging_setLevel=answered)
    scripted.sessionless = sessionless
    scripted.capabilities["logging"] = {}
    async with scripted_gateway(scripted) as where:
        session = await where.session()
        if level is not None:
            await session.ask("logging/setLevel", {"level": level})
        reply = await session.ask("resources/subscribe", {"uri": "memo://files"})
        heard = [one["params"] for one in reply.messages[:-1]]
        assert [one["level"] for one in heard if isinstance(one, dict)] == ([level] if level else ["info", "error"])
        assert reply.result == {}
        if level is not None and not sessionless:
            assert heard[0]["data"] == "['logging/setLevel']"  # type: ignore[index,call-overload]  # raw JSON


async def answered(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.lowlevel.checkpoint()
    return {}
