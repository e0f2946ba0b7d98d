"""Streams: notifications of calls, GET, resuming, listening, HTTP+SSE."""

import attrs
import orjson
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import GatewayLimits, GatewaySpec, HttpSpec
from mcp_gateway.errors import BackendGone
from mcp_gateway.gateway.mailbox import MAX_MESSAGES, MAX_UPDATED, Mailbox
from mcp_gateway.gateway.replay import KEPT_STREAMS, Replay, ReplayBudget
from mcp_gateway.gateway.session import LegacyWording
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.values import BackendKey, JsonObject
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, message, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, notice, question, tool

FILES = BackendKey("files")
ERAS = [pytest.param(V2025_11_25, id="2025 backend"), pytest.param(V2026_07_28, id="2026 backend")]
RESOURCES: JsonObject = {"resources": {"subscribe": True, "listChanged": True}, "tools": {"listChanged": True}}


async def list_resources(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    return {"resources": [{"uri": "memo://one", "name": "one"}], "resultType": "complete", "ttlMs": 0}


def with_resources(era: Era) -> ScriptedBackend:
    return ScriptedBackend(era=era, capabilities=RESOURCES, handlers={"resources/list": list_resources})


async def logging_tool(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    for level in ("debug", "info", "error"):
        await hear(notice("notifications/message", level=level, data=level))
    return {"content": []}


def said(reply: RecordedReply, method: str) -> list[JsonObject]:
    return [one for one in reply.messages if one.get("method") == method]


def refresh(where: ScriptedGateway) -> None:
    backend = where.fleet.get(FILES)
    assert backend is not None
    backend.supervisor.refresh()


# --- log levels ---


@pytest.mark.parametrize("era", ERAS)
async def test_a_2025_session_gets_what_its_level_asks_for(autojump_clock: MockClock, era: Era) -> None:
    capabilities: JsonObject = {"tools": {}, "logging": {}}
    backend = ScriptedBackend(era=era, capabilities=capabilities, handlers={"tools/call": logging_tool})
    async with scripted_gateway(backend) as where:
        session = await where.session()
        assert len(said(await session.call("read"), "notifications/message")) == 3
        await session.ask("logging/setLevel", {"level": "error"})
        levels = [one["params"] for one in said(await session.call("read"), "notifications/message")]
        assert levels == [{"level": "error", "data": "error"}]
        if era.modern:
            _, params = backend.links[-1].asked[-1]
            assert params["_meta"]["io.modelcontextprotocol/logLevel"] == "error"  # type: ignore[index,call-overload]  # raw JSON
        else:
            assert backend.asked("logging/setLevel") == 1


async def test_a_2026_request_gets_logs_only_if_it_asks(autojump_clock: MockClock) -> None:
    capabilities: JsonObject = {"tools": {}, "logging": {}}
    backend = ScriptedBackend(capabilities=capabilities, handlers={"tools/call": logging_tool})
    async with scripted_gateway(backend) as where:
        quiet = await where.modern("tools/call", {"name": "read"})
        loud = await where.modern("tools/call", {"name": "read"}, level="info")
        assert said(quiet, "notifications/message") == []
        assert len(said(loud, "notifications/message")) == 2
        assert backend.asked("logging/setLevel") == 1


# --- GET streams ---


async def test_what_a_backend_says_outside_calls_reaches_one_stream_once(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend()
    async with scripted_gateway(backend) as where:
        session = await where.session(roots={})
        await session.call("read")
        streams = [session.stream(), session.stream()]
        for stream in streams:
            await stream.until(lambda stream=stream: stream.opened)  # type: ignore[misc]  # bound now
        while not any(link.stream for link in backend.open_links[1:]):  # noqa: ASYNC110  # the clock is virtual
            await trio.sleep(0.01)
        own = next(link for link in backend.open_links[1:] if link.stream)
        await own.say(notice("notifications/message", level="info", data="hello"))
        await own.say(question("ping", b'"p"'))
        await own.say(question("roots/list", b'"r"'))
        await own.say(question("sampling/createMessage", b'"s"'))
        await trio.sleep(1)
        messages = {one["method"]: one for stream in streams for one in stream.messages}
        assert sum(len(stream.messages) for stream in streams) == 2
        assert messages.keys() == {"notifications/message", "roots/list"}
        await session.respond(messages["roots/list"]["id"], result={"roots": []})
        answers = {orjson.loads(raw)["id"]: orjson.loads(raw) for raw in own.said}
        assert answers["p"]["result"] == {}
        assert answers["r"]["result"] == {"roots": []}
        assert answers["s"]["error"]["code"] == -32601
        await session.tell("notifications/roots/list_changed")
        assert b"roots/list_changed" in own.said[-1]
        for stream in streams:
            stream.leave()
        await trio.sleep(1)
        assert own.stream is None


async def test_the_stream_beyond_the_bound_replaces_the_oldest(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(), limits=GatewayLimits(streams_per_session=2)) as where:
        session = await where.session()
        streams = []
        for _ in range(3):
            stream = session.stream()
            await stream.until(lambda stream=stream: stream.opened)  # type: ignore[misc]  # bound now
            streams.append(stream)
        await streams[0].until(lambda: streams[0].closed)
        assert [stream.closed for stream in streams] == [True, False, False]
        assert where.gateway.streams == 2


async def test_quiet_streams_get_comments(autojump_clock: MockClock) -> None:
    spec = GatewaySpec(http=HttpSpec(keep_alive_s=2))
    async with scripted_gateway(ScriptedBackend(), spec=spec) as where:
        session = await where.session()
        stream = session.stream()
        listen = where.modern_soon("subscriptions/listen", {"notifications": {}}, id="l")
        await trio.sleep(9)
        assert stream.comments == 4
        assert listen.comments == 4


async def test_the_drain_ends_streams_in_their_eras_way(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        stream = session.stream()
        listen = where.modern_soon("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="l")
        await listen.until(lambda: listen.messages)
        await stream.until(lambda: stream.events)
        where.gateway.end_streams()
        await stream.until(lambda: stream.closed)
        await listen.until(lambda: listen.closed)
        assert stream.events[-1].retry_ms == 1000
        assert stream.events[-1].data == b""
        ended, result = listen.messages[-2:]
        assert ended["method"] == "notifications/cancelled"
        assert ended["params"]["requestId"] == "l"  # type: ignore[index,call-overload]  # raw JSON
        assert result["result"]["resultType"] == "complete"  # type: ignore[index,call-overload]  # raw JSON


# --- resuming ---


async def steps(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    meta = params["_meta"]
    assert isinstance(meta, dict)
    for step in range(5):
        await trio.sleep(2)
        await hear(notice("notifications/progress", progressToken=meta["progressToken"], progress=step))
    return {"content": []}


async def test_a_client_that_lost_its_connection_gets_its_answer(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(handlers={"tools/call": steps})
    async with scripted_gateway(backend) as where:
        session = await where.session()
        reply = session.begin("tools/call", {"name": "read", "_meta": {"progressToken": 1}}, request_id="r")
        await reply.until(lambda: len(reply.messages) == 2)
        reply.leave()
        last = reply.events[-1].event_id
        assert last is not None
        resumed = session.stream(Last_Event_ID=last)
        await resumed.until(lambda: resumed.closed)
        assert [one["params"]["progress"] for one in said(resumed, "notifications/progress")] == [2, 3, 4]  # type: ignore[index,call-overload]  # raw JSON
        assert resumed.answer == {"jsonrpc": "2.0", "id": "r", "result": {"content": []}}
        again = session.stream(Last_Event_ID=last)
        await again.until(lambda: again.closed)
        assert again.messages == resumed.messages


async def test_a_resume_that_cannot_be_complete_is_refused(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(handlers={"tools/call": steps})
    limits = GatewayLimits(replay_bytes=150)
    async with scripted_gateway(backend, limits=limits) as where:
        session, other = await where.session(), await where.session()
        reply = session.begin("tools/call", {"name": "read", "_meta": {"progressToken": 1}})
        await reply.until(lambda: reply.closed)
        first, last = reply.events[0].event_id, reply.events[-1].event_id
        assert first is not None
        assert last is not None
        for who, event_id in ((session, first), (other, last), (session, "x"), (session, f"{last}9")):
            stream = who.stream(Last_Event_ID=event_id)
            await stream.until(lambda stream=stream: stream.closed)  # type: ignore[misc]  # bound now
            assert stream.status == 400
        assert (await session.ask("ping")).status == 200


async def test_a_standalone_stream_that_was_resumed_goes_on(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        mailbox = next(iter(where.gateway.context.sessions)).mailbox
        stream = session.stream()
        await stream.until(lambda: stream.events)
        last = stream.events[-1].event_id
        assert last is not None
        for leaves in (True, False):  # the other time its client is faster than we notice
            if leaves:
                stream.leave()
                await trio.sleep(0.1)
            mailbox.post(message("notifications/one"))
            resumed = session.stream(Last_Event_ID=last)
            await resumed.until(lambda resumed=resumed: resumed.messages)  # type: ignore[misc]  # bound now
            mailbox.post(message("notifications/two"))
            await resumed.until(lambda resumed=resumed: len(resumed.messages) == 2)  # type: ignore[misc]  # bound now
            assert [one["method"] for one in resumed.messages] == ["notifications/one", "notifications/two"]
            assert where.gateway.streams == 1
            assert stream.closed or leaves
            last, stream = str(resumed.events[-1].event_id), resumed
        where.gateway.end_streams()
        await stream.until(lambda: stream.closed)
        assert stream.events[-1].retry_ms == 1000


async def test_invariant_7_what_is_remembered_of_streams_is_bounded(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        replay = next(iter(where.gateway.context.sessions)).replay
        for _ in range(3):
            await session.call("read")
        assert len(replay) == 0  # answered at once: there was no stream
        for _ in range(KEPT_STREAMS + 5):
            stream = session.stream()
            await stream.until(lambda stream=stream: stream.events)  # type: ignore[misc]  # bound now
            stream.leave()
            await wait_all_tasks_blocked()
        assert len(replay) == KEPT_STREAMS


async def test_invariant_7_replay_memory_is_bounded(autojump_clock: MockClock) -> None:
    budget = ReplayBudget(total_bytes=100)
    first = Replay(budget=budget, session_bytes=80, age_s=10)
    second = Replay(budget=budget, session_bytes=80, age_s=10)
    log = first.open()
    for _ in range(20):
        log.append(b"x" * 10)
    assert first.used_bytes == 80
    other = second.open()
    for _ in range(20):
        other.append(b"x" * 10)
    assert budget.used_bytes <= 100
    await trio.sleep(11)
    first.trim()  # as the reaper does every few seconds
    assert first.used_bytes == 0
    log.end()
    for _ in range(KEPT_STREAMS + 5):
        first.open().end()
    assert first.find(f"{log.name}-0") is None
    first.clear()
    second.clear()
    assert budget.used_bytes == 0


# --- mailboxes ---


def test_invariant_7_a_mailbox_is_bounded_and_coalesces() -> None:
    mailbox = Mailbox(LegacyWording())
    for number in range(MAX_MESSAGES + 5):
        mailbox.post(b"%d" % number)
    mailbox.changed(Kind.TOOLS)
    mailbox.changed(Kind.TOOLS)
    for number in range(MAX_UPDATED + 3):
        mailbox.updated(f"memo://{number}")
    assert mailbox.dropped == 8
    taken = [mailbox.take() for _ in range(1 + MAX_MESSAGES + MAX_UPDATED)]
    assert taken[0] is not None
    assert b"tools/list_changed" in taken[0]
    assert taken[1] == b"5"
    assert mailbox.take() is None
    mailbox.put_back(b"again")
    assert mailbox.take() == b"again"


# --- subscriptions, both faces, both backends ---


@pytest.mark.parametrize("era", ERAS)
async def test_an_update_reaches_exactly_the_subscribers(autojump_clock: MockClock, era: Era) -> None:
    backend = with_resources(era)
    async with scripted_gateway(backend, prefixes={"files": "f_"}) as where:
        uri = "memo://files/one"
        subscriber, other = await where.session(), await where.session()
        streams = [subscriber.stream(), other.stream()]
        assert (await subscriber.ask("resources/subscribe", {"uri": uri})).result == {}
        wanted: JsonObject = {"resourceSubscriptions": [uri, "memo://nobody/x"], "toolsListChanged": True}
        listen = where.modern_soon("subscriptions/listen", {"notifications": wanted}, id=0)
        await listen.until(lambda: listen.messages)
        acknowledged = listen.messages[0]["params"]
        assert acknowledged == {
            "notifications": {"toolsListChanged": True, "resourceSubscriptions": [uri]},
            "_meta": {"io.modelcontextprotocol/subscriptionId": 0},
        }
        await trio.sleep(1)
        await backend.shout(notice("notifications/resources/updated", uri="memo://one"))
        await trio.sleep(1)
        updated = "notifications/resources/updated"
        assert [len(said(one, updated)) for one in (*streams, listen)] == [1, 0, 1]
        assert said(streams[0], updated)[0]["params"] == {"uri": uri}
        await subscriber.ask("resources/unsubscribe", {"uri": uri})
        listen.leave()
        await trio.sleep(1)
        running = where.fleet.get(FILES)
        assert running is not None
        assert running.subscriptions.uris == frozenset()


async def test_listening_hears_only_what_it_asked_for(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend()
    async with scripted_gateway(backend) as where:
        tools = where.modern_soon("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="t")
        prompts = where.modern_soon("subscriptions/listen", {"notifications": {"promptsListChanged": True}}, id="p")
        await tools.until(lambda: tools.messages)
        backend.tools.append(tool("write"))
        refresh(where)
        await tools.until(lambda: len(tools.messages) == 2)
        notified = tools.messages[1]
        assert notified["method"] == "notifications/tools/list_changed"
        assert notified["params"] == {"_meta": {"io.modelcontextprotocol/subscriptionId": "t"}}
        assert len(prompts.messages) == 1
        bad = await where.modern("subscriptions/listen", {"notifications": 7})
        assert bad.error["code"] == -32602


async def test_a_failed_subscription_leaves_nothing(autojump_clock: MockClock) -> None:
    backend = with_resources(V2025_11_25)

    async def refuse(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise BackendGone(backend=FILES, why="reset")

    backend.handlers["resources/subscribe"] = refuse
    async with scripted_gateway(backend) as where:
        session = await where.session()
        reply = await session.ask("resources/subscribe", {"uri": "memo://one"})
        assert reply.error["data"]["reason"] == "backend_gone"  # type: ignore[index,call-overload]  # raw JSON
        listen = where.modern_soon(
            "subscriptions/listen", {"notifications": {"resourceSubscriptions": ["memo://one"]}}, id="x"
        )
        await listen.until(lambda: listen.messages)
        assert listen.messages[0]["params"]["notifications"] == {"resourceSubscriptions": []}  # type: ignore[index,call-overload]  # raw JSON


# --- 2024-11-05: HTTP+SSE ---


async def test_an_old_client_is_served_over_one_stream(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        stream = where.begin("GET", path="/sse", headers={"Accept": "text/event-stream"})
        await stream.until(lambda: stream.events)
        endpoint = stream.events[0]
        assert endpoint.name == "endpoint"
        path, _, query = endpoint.data.decode().partition("?")

        async def post(body: bytes) -> int:
            return (await where.send("POST", path=path, query=query, body=body)).status

        hello: JsonObject = {"protocolVersion": "2024-11-05", "capabilities": {"roots": {}}, "clientInfo": {}}
        assert await post(message("initialize", hello, 0)) == 202
        assert await post(message("notifications/initialized")) == 202
        assert await post(message("tools/call", {"name": "read"}, 1)) == 202
        await stream.until(lambda: len(stream.messages) == 2)
        assert stream.messages[0]["result"]["protocolVersion"] == "2024-11-05"  # type: ignore[index,call-overload]  # raw JSON
        assert stream.messages[1] == {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}
        assert await post(message("initialize", hello, 2)) == 202
        await stream.until(lambda: len(stream.messages) == 3)
        assert "error" in stream.messages[2]
        assert await post(b"{") == 400
        assert (await where.send("POST", path=path, query=query, headers={"Content-Type": "text/plain"})).status == 415
        assert (await where.send("POST", path=path, query="sessionId=1.abc", body=b"{}")).status == 404
        assert (await where.send("PUT", path="/sse")).status == 405
        assert (await where.send("GET", path="/messages")).status == 405
        stream.leave()
        await wait_all_tasks_blocked()
        assert await post(message("ping", None, 3)) == 404
        assert len(where.gateway.context.sessions) == 0


async def test_settings_follow_the_spec(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        old = await where.session()
        limits = GatewayLimits(in_flight=3, sessions=5, replay_bytes=7, replay_total_bytes=9, replay_age_s=11)
        where.spec.set(attrs.evolve(where.spec.value, limits=limits))
        await trio.sleep(0.1)
        assert where.gateway.calls.in_flight.limit == 3
        assert where.gateway.context.sessions.limits.sessions == 5
        await old.ask("ping")
        for session in where.gateway.context.sessions:
            replay = session.replay
            assert (replay.session_bytes, replay.budget.total_bytes, replay.age_s) == (7, 9, 11)
