"""The 2025 face: what is passed on to backends, what is not, and what failures cost."""

import attrs
import orjson
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.auth.principal import Principal
from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import GatewayLimits, GatewaySpec, HttpSpec, Timeouts
from mcp_gateway.errors import BackendBusy
from mcp_gateway.gateway.call.deadline import Cause, Deadline
from mcp_gateway.protocol.eras import V2026_07_28
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.values import BackendKey, GatewayName, JsonObject, JsonValue
from tests.support.scripted_gateway import RecordedReply, message, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, notice, question, tool

FILES, SLOW = BackendKey("files"), BackendKey("slow")
LOGGING: JsonObject = {"tools": {}, "logging": {}}


async def hang(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep(1000)
    return {}


# --- log levels ---


async def test_a_level_reaches_the_backends_in_use_and_slow_ones_cost_one_wait(autojump_clock: MockClock) -> None:
    good = ScriptedBackend(capabilities=LOGGING)
    slow = [ScriptedBackend(key=BackendKey(f"slow{n}"), capabilities=LOGGING, tools=[tool(f"t{n}")]) for n in range(3)]
    async with scripted_gateway(good, *slow, timeouts=Timeouts(list_s=5)) as where:
        session = await where.session()
        for name in ("read", "t0", "t1", "t2"):
            await session.call(name)
        for one in slow:
            one.handlers["logging/setLevel"] = hang
        began_at = trio.current_time()
        assert (await session.ask("logging/setLevel", {"level": "error"})).result == {}
        assert trio.current_time() - began_at == pytest.approx(5)
        assert good.asked("logging/setLevel") == 1
        for one in slow:  # who was not told in time is told again with the next call
            del one.handlers["logging/setLevel"]
        await session.call("t0")
        assert slow[0].asked("logging/setLevel") == 2


async def test_a_level_that_a_backend_refuses_or_cannot_hear_changes_nothing(autojump_clock: MockClock) -> None:
    async def busy(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise BackendBusy(backend=FILES, status=429)

    backend = ScriptedBackend(capabilities=LOGGING)
    async with scripted_gateway(backend) as where:
        session = await where.session()
        await session.call("read")
        backend.handlers["logging/setLevel"] = busy
        assert (await session.ask("logging/setLevel", {"level": "error"})).result == {}
        assert (await session.call("read")).result == {"content": []}
        backend.forget_sessions()
        backend.up = False
        assert (await session.ask("logging/setLevel", {"level": "info"})).result == {}


async def test_a_call_that_is_repeated_in_a_new_session_finds_its_level_there(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(capabilities=LOGGING)
    async with scripted_gateway(backend) as where:
        session = await where.session()
        await session.call("read")
        await session.ask("logging/setLevel", {"level": "error"})
        backend.forget_sessions()
        assert (await session.call("read")).result == {"content": []}
        assert backend.links[-1].methods() == ["logging/setLevel", "tools/call"]


async def test_methods_of_the_other_era_are_refused_inside_a_session(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        for method in ("initialize", "server/discover", "subscriptions/listen"):
            version: JsonObject = {"protocolVersion": 7}
            reply = await session.ask(method, version)
            assert reply.answer.get("error"), method


async def test_a_session_hears_only_the_levels_it_asked_for_outside_calls(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(capabilities=LOGGING)
    async with scripted_gateway(backend) as where:
        session = await where.session()
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        await session.call("read")
        await session.ask("logging/setLevel", {"level": "error"})
        own = next(link for link in backend.open_links[1:] if link.stream)
        for level in ("debug", "error"):
            await own.say(notice("notifications/message", level=level, data=level))
        await own.say(notice("notifications/unheard/of"))
        await own.say(notice("notifications/elicitation/complete", elicitationId="e"))
        await stream.until(lambda: len(stream.messages) == 2)
        assert [one["method"] for one in stream.messages] == [
            "notifications/message",
            "notifications/elicitation/complete",
        ]


# --- notifications and responses ---


async def test_changed_roots_reach_every_2025_backend_in_use(autojump_clock: MockClock) -> None:
    good, dead = ScriptedBackend(), ScriptedBackend(key=BackendKey("dead"), tools=[tool("dead")])
    modern = ScriptedBackend(key=BackendKey("modern"), era=V2026_07_28, tools=[tool("modern")])
    async with scripted_gateway(good, dead, modern) as where:
        session = await where.session(roots={})
        for name in ("read", "dead", "modern"):
            await session.call(name)
        dead.up = False
        assert (await session.tell("notifications/roots/list_changed")).status == 202
        heard = [raw for link in good.open_links for raw in link.said]
        assert [orjson.loads(raw)["method"] for raw in heard] == ["notifications/roots/list_changed"]
        assert [raw for link in modern.links for raw in link.said] == []


async def test_an_answer_that_its_backend_no_longer_wants_is_taken(autojump_clock: MockClock) -> None:
    async def asking(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(question("roots/list"))
        await trio.sleep(20)
        return {}

    backend = ScriptedBackend(handlers={"tools/call": asking})
    async with scripted_gateway(backend) as where:
        session = await where.session(roots={})
        reply = session.begin("tools/call", {"name": "read"})
        await reply.until(lambda: reply.messages)
        backend.up = False
        assert (await session.respond(reply.messages[0]["id"], result={"roots": []})).status == 202
        assert (await session.respond("never asked", result={})).status == 202


@pytest.mark.parametrize("request_id", [True, 1.5, None, [], {}, "unknown", 99])
async def test_a_cancellation_of_nothing_is_ignored(autojump_clock: MockClock, request_id: JsonValue) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": hang})) as where:
        session = await where.session()
        reply = session.begin("tools/call", {"name": "read"}, request_id=1)
        await wait_all_tasks_blocked()
        assert (await session.cancel(request_id)).status == 202
        assert len(where.gateway.calls.in_flight) == 1
        await session.cancel(1)
        await reply.until(lambda: reply.closed)


async def test_progress_nobody_asked_for_is_not_passed_on(autojump_clock: MockClock) -> None:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(notice("notifications/progress", progressToken=1, progress=1))
        await hear(notice("notifications/cancelled", requestId=1))
        await hear(notice("notifications/cancelled"))
        await hear(notice("notifications/unheard/of"))
        await hear(notice("notifications/elicitation/complete", elicitationId="e"))
        return {}

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": handle})) as where:
        assert (await (await where.session("2025-06-18")).call("read")).events == []
        newest = await (await where.session("2025-11-25")).call("read")
        assert [one["method"] for one in newest.messages if "method" in one] == ["notifications/elicitation/complete"]


# --- sessions ---


async def test_a_session_that_cannot_come_back_to_memory_is_told_to_try_later(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(), limits=GatewayLimits(sessions=1)) as where:
        first = await where.session()
        busy = await where.session()  # the first, idle one left memory
        stream = busy.stream()
        await stream.until(lambda: stream.opened)
        reply = await first.ask("ping")
        assert (reply.status, reply.header(b"retry-after")) == (503, "1")
        gone = await where.send("GET", headers=first.headers())
        assert gone.status == 503


async def test_a_batch_needs_a_session(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        body = b"[%b]" % message("ping", None, 1)
        assert (await where.send("POST", body=body)).status == 400
        session = await where.session("2025-03-26")
        for malformed in (b"[", b"[1,]", b"[1]x"):
            reply = await where.send("POST", headers=session.headers(), body=malformed)
            assert (reply.status, reply.error["code"]) == (400, -32700)


async def test_a_message_of_a_session_that_just_ended_is_cancelled(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": hang})) as where:
        session = await where.session()
        (live,) = where.gateway.context.sessions
        live.ended = True  # a batch's other message did it
        reply = await session.call("read")
        assert reply.error["data"] == {"server": "files", "reason": "cancelled", "executed": "no"}
        live.ended = False


async def test_rotated_keys_verify_an_id_no_longer_than_it_lasts(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        sessions = [await where.session() for _ in range(3)]
        for session in sessions:
            assert (await session.ask("ping")).status == 200
        where.principal = Principal(subject="mallory", digest=b"mallory!")
        assert (await sessions[0].ask("ping")).status == 404


async def test_the_table_follows_the_spec_before_anyone_is_told_so(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        states = [where.gateway.table_is_built]
        where.spec.set(attrs.evolve(where.spec.value, servers=()))
        states.append(where.gateway.table_is_built)
        await where.gateway.table_built()
        states.append(where.gateway.table_is_built)
        assert states == [True, False, True]
        assert (await (await where.session()).ask("tools/list")).result == {"tools": []}


async def test_a_view_that_is_no_more_is_told_of_no_change(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        hub = where.gateway.context.hub
        (audience,) = hub._audiences
        audience.view = (GatewayName(""), "gone")
        hub.announce(where.gateway.context.table.value)
        hub.join(audience)
        await wait_all_tasks_blocked()
        assert stream.messages == []


# --- streams that are resumed ---


async def talk(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    for number in range(6):
        await hear(notice("notifications/message", level="info", data=f"{number}" * 40))
        await trio.sleep(10)
    return {"content": []}


async def test_a_resumed_stream_that_was_overtaken_ends(autojump_clock: MockClock) -> None:
    limits = GatewayLimits(replay_bytes=300)
    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": talk}), limits=limits) as where:
        session = await where.session()
        first = session.begin("tools/call", {"name": "read"})
        await first.until(lambda: len(first.messages) == 2)
        reply = RecordedReply()
        reply.stall = trio.Event()
        headers = session.headers(Last_Event_ID=str(first.events[1].event_id))

        async def resume() -> None:
            await where.send("GET", headers=headers, reply=reply)

        where.nursery.start_soon(resume)
        await trio.sleep(45)  # it reads nothing while the bound moves on
        reply.stall.set()
        await reply.until(lambda: reply.closed)
        assert not any("result" in one for one in reply.messages)


@pytest.mark.parametrize("when", ["while it is told what it missed", "while it is quiet"])
async def test_a_client_that_leaves_a_resumed_stream_is_noticed(autojump_clock: MockClock, when: str) -> None:
    spec = GatewaySpec(http=HttpSpec(keep_alive_s=2))
    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": talk}), spec=spec) as where:
        session = await where.session()
        first = session.begin("tools/call", {"name": "read"})
        await first.until(lambda: len(first.messages) == 2)
        which = 1 if when == "while it is told what it missed" else -1
        reply = RecordedReply()
        reply.stall = trio.Event()

        async def resume() -> None:
            await where.send(
                "GET", headers=session.headers(Last_Event_ID=str(first.events[which].event_id)), reply=reply
            )

        where.nursery.start_soon(resume)
        await wait_all_tasks_blocked()
        await trio.sleep(3)
        assert (reply.comments > 0) == (which == -1)
        reply.gone = True
        reply.stall.set()
        await trio.sleep(3)
        assert where.gateway.streams == 0


async def test_events_that_come_while_others_are_replayed_are_replayed_too(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(handlers={"tools/call": talk})
    async with scripted_gateway(backend, timeouts=Timeouts(call_s=100)) as where:
        session = await where.session()
        first = session.begin("tools/call", {"name": "read"})
        await first.until(lambda: len(first.messages) == 2)
        reply = RecordedReply()
        reply.stall = trio.Event()

        async def resume() -> None:
            await where.send("GET", headers=session.headers(Last_Event_ID=str(first.events[1].event_id)), reply=reply)

        where.nursery.start_soon(resume)
        await trio.sleep(25)
        reply.stall.set()
        await reply.until(lambda: reply.closed)
        data = [one["params"]["data"][0] for one in reply.messages if "params" in one]  # type: ignore[index,call-overload]  # raw JSON
        assert data == ["1", "2", "3", "4", "5"]
        assert reply.result == {"content": []}


# --- the clock ---


async def test_an_answer_to_no_question_does_not_stop_a_call(autojump_clock: MockClock) -> None:
    scope = trio.CancelScope()
    clock = Deadline(Timeouts(call_s=5))
    clock.start(scope)
    before = scope.deadline
    clock.resume()
    assert scope.deadline == before


async def test_lists_that_change_are_told_by_kind(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        (live,) = where.gateway.context.sessions
        live.mailbox.changed(Kind.TEMPLATES)
        await stream.until(lambda: stream.messages)
        assert stream.messages[0]["method"] == "notifications/resources/list_changed"
        where.gateway.calls.cut_all(Cause.DRAIN)
