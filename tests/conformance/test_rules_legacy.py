"""Reference 1.4 and 1.5: Streamable HTTP and the life of a session for 2024-11-05 .. 2025-11-25 clients."""

import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.protocol.eras import LEGACY_VERSIONS
from mcp_gateway.values import JsonObject
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, Session, message, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, notice, question, tool

CALL = "tools/call"
NEW = "2025-11-25"


async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep(30)
    return {"content": []}


async def steps(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    meta = params["_meta"]
    assert isinstance(meta, dict)
    for number in range(4):
        await trio.sleep(1)
        await hear(notice("notifications/progress", progressToken=meta["progressToken"], progress=number))
    return {"content": []}


def slow_backend() -> ScriptedBackend:
    return ScriptedBackend(handlers={CALL: slow})


async def over(reply: RecordedReply) -> RecordedReply:
    await reply.until(lambda: reply.closed)
    return reply


# --- 1.4 messages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_s1_4_only_answers_and_notifications_get_202_without_a_body(
    autojump_clock: MockClock, version: str
) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session(version)
        for reply in (
            await session.tell("notifications/initialized"),
            await session.tell("notifications/unheard-of"),
            await session.respond("nobody's question", result={}),
            await session.respond(7, error={"code": -1, "message": "no"}),
        ):
            assert (reply.status, reply.body) == (202, b"")


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_s1_4_arrays_are_read_in_2025_03_26_and_refused_elsewhere(
    autojump_clock: MockClock, version: str
) -> None:
    body = b"[%b,%b]" % (message("ping", None, 1), message("tools/list", None, 2))
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session(version)
        reply = await where.send("POST", headers=session.headers(), body=body)
        assert reply.body is not None
        if version == "2025-03-26":
            assert {one["id"] for one in orjson.loads(reply.body)} == {1, 2}
        else:
            error: Message = reply.error
            assert (reply.status, error["code"]) == (400, -32600)


async def test_s1_4_initialize_is_in_no_batch(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session("2025-03-26")
        body = b"[%b]" % message("initialize", {"protocolVersion": NEW, "capabilities": {}}, 1)
        (answer,) = orjson.loads((await where.send("POST", headers=session.headers(), body=body)).body or b"[]")
        assert answer["error"]["code"] == -32600


async def test_s1_4_leaving_is_not_cancelling(autojump_clock: MockClock) -> None:
    backend = slow_backend()
    async with scripted_gateway(backend) as where:
        reply = (await where.session()).begin(CALL, {"name": "read"})
        await reply.until(lambda: reply.opened)
        reply.leave()
        await trio.sleep(60)
        assert sum(link.cancelled for link in backend.links) == 0


# --- 1.4 streams -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_s1_4_a_stream_begins_with_a_priming_event_in_2025_11_25_only(
    autojump_clock: MockClock, version: str
) -> None:
    async with scripted_gateway(slow_backend()) as where:
        session = await where.session(version)
        for stream in (session.begin(CALL, {"name": "read"}), session.stream()):
            await stream.until(lambda stream=stream: stream.opened)  # type: ignore[misc]  # bound now
            await trio.testing.wait_all_tasks_blocked()
            primed = [(event.data, event.event_id is not None, event.retry_ms) for event in stream.events]
            assert primed == ([(b"", True, 1000)] if version == NEW else [])


async def test_s1_4_event_ids_are_unique_across_the_streams_of_a_session(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={CALL: steps})) as where:
        session = await where.session()
        streams = [session.begin(CALL, {"name": "read", "_meta": {"progressToken": n}}) for n in range(3)]
        for stream in (*streams, session.stream()):
            await stream.until(lambda stream=stream: stream.events)  # type: ignore[misc]  # bound now
        for stream in streams:
            await over(stream)
        ids = [event.event_id for stream in streams for event in stream.events]
        assert None not in ids
        assert len(set(ids)) == len(ids) >= 15


async def test_s1_4_a_resumed_stream_gives_what_followed_on_that_stream_only(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={CALL: steps})) as where:
        session = await where.session()
        one = session.begin(CALL, {"name": "read", "_meta": {"progressToken": "one"}}, request_id="one")
        two = session.begin(CALL, {"name": "read", "_meta": {"progressToken": "two"}}, request_id="two")
        await one.until(lambda: len(one.messages) == 1)
        one.leave()
        await over(two)
        last = one.events[-1].event_id
        resumed = await over(session.stream(Last_Event_ID=last or ""))
        said: list[Message] = list(resumed.messages)
        assert [entry.get("params", {}).get("progressToken", entry.get("id")) for entry in said] == ["one"] * 4
        assert [entry["params"]["progress"] for entry in said[:-1]] == [1, 2, 3]


async def test_s1_4_every_event_can_be_resumed_from(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(handlers={CALL: steps})) as where:
        session = await where.session()
        whole = await over(session.begin(CALL, {"name": "read", "_meta": {"progressToken": 1}}))
        for number, event in enumerate(whole.events):
            rest = await over(session.stream(Last_Event_ID=event.event_id or ""))
            assert [one.event_id for one in rest.events] == [one.event_id for one in whole.events[number + 1 :]]


async def test_s1_4_a_message_goes_to_exactly_one_stream(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend()
    async with scripted_gateway(backend) as where:
        session = await where.session("2025-06-18")
        streams = [session.stream() for _ in range(3)]
        for stream in streams:
            await stream.until(lambda stream=stream: stream.opened)  # type: ignore[misc]  # bound now
        backend.tools.append(tool("write"))
        await backend.shout(notice("notifications/tools/list_changed"))
        await trio.sleep(5)
        assert sum(len(stream.messages) for stream in streams) == 1


async def test_s1_4_a_standalone_stream_carries_no_responses(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session("2025-06-18")
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        for _ in range(5):
            await session.call("read")
        assert stream.messages == []


async def test_s1_4_a_resumed_calls_stream_carries_nothing_but_that_call(autojump_clock: MockClock) -> None:
    """So who has no other stream cannot be asked outside of it, and whoever wants to ask is told so at once."""

    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        if params["name"] == "slow":
            return await slow(link, params, hear)
        await hear(question("roots/list", b"1"))
        while not link.said:  # noqa: ASYNC110  # the clock is virtual
            await trio.sleep(0.1)
        return {"answer": orjson.loads(link.said.pop())}

    async with scripted_gateway(ScriptedBackend(tools=[tool("slow"), tool("ask")], handlers={CALL: handle})) as where:
        session = await where.session(roots={})
        call = session.begin(CALL, {"name": "slow"}, request_id="slow")
        await call.until(lambda: call.events)
        call.leave()
        resumed = session.stream(Last_Event_ID=call.events[0].event_id or "")
        await trio.sleep(1)
        asked = await session.ask(CALL, {"name": "ask"}, Accept="application/json")
        answer: Message = asked.result
        assert answer["answer"]["error"]["code"] == -32601
        assert [one["id"] for one in (await over(resumed)).messages] == ["slow"]


async def test_s1_4_get_wants_an_event_stream(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        assert (await where.send("GET", headers=session.headers(Accept="application/json"))).status == 406


# --- 1.4 sessions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_s1_4_a_session_id_is_visible_ascii_and_never_the_same(autojump_clock: MockClock, version: str) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        ids = {(await where.session(version)).id for _ in range(20)}
        assert len(ids) == 20
        assert all(0x21 <= ord(char) <= 0x7E for one in ids for char in one)
        assert max(map(len, ids)) <= 256


@pytest.mark.parametrize("verb", ["POST", "DELETE"])
async def test_s1_4_session_400_when_it_is_missing(autojump_clock: MockClock, verb: str) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await where.send(verb, body=message("ping", None, 1) if verb == "POST" else b"")
        assert reply.status == 400


@pytest.mark.parametrize("verb", ["POST", "GET", "DELETE"])
async def test_s1_4_session_404_when_it_is_unknown_or_ended(autojump_clock: MockClock, verb: str) -> None:
    body = message("ping", None, 1) if verb == "POST" else b""
    async with scripted_gateway(ScriptedBackend()) as where:
        ended, whole = await where.session(), await where.session()
        await ended.end()
        for text in (ended.id, whole.id[:-1], whole.id + "A", "unknown", "\x7f"):
            headers = {"Mcp-Session-Id": text, "Accept": "application/json, text/event-stream"}
            assert (await where.send(verb, headers=headers, body=body)).status == 404


@pytest.mark.parametrize(
    "said, status", [(None, 200), (NEW, 200), ("2025-03-26", 200), ("1999-01-01", 400), ("", 400), ("2026-07-28", 400)]
)
async def test_s1_4_an_invalid_version_header_is_400_and_an_absent_one_none(
    autojump_clock: MockClock, said: str | None, status: int
) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        headers = session.headers() | ({} if said is None else {"MCP-Protocol-Version": said})
        assert (await where.send("POST", headers=headers, body=message("ping", None, 1))).status == status


async def test_s1_4_initialize_needs_no_version_header(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        body = message("initialize", {"protocolVersion": NEW, "capabilities": {}}, 1)
        for headers in ({}, {"MCP-Protocol-Version": NEW}, {"MCP-Protocol-Version": "1999-01-01"}):
            assert (await where.send("POST", headers=headers, body=body)).status == 200


# --- 1.4 HTTP+SSE ----------------------------------------------------------------------------------------------------


async def test_s1_4_sse_the_first_event_is_the_endpoint_and_everything_comes_on_the_stream(
    autojump_clock: MockClock,
) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        stream = where.begin("GET", path="/sse", headers={"Accept": "text/event-stream"})
        await stream.until(lambda: stream.events)
        assert (stream.events[0].name, stream.events[0].data[:20]) == ("endpoint", b"/messages?sessionId=")
        path, _, query = stream.events[0].data.decode().partition("?")
        hello: JsonObject = {"protocolVersion": "2024-11-05", "capabilities": {}}
        for body in (message("initialize", hello, 1), message("ping", None, 2), message("notifications/initialized")):
            posted = await where.send("POST", path=path, query=query, body=body)
            assert (posted.status, posted.body) == (202, b"")
        await stream.until(lambda: len(stream.events) == 3)
        assert [(event.name, event.event_id) for event in stream.events[1:]] == [("message", None)] * 2
        assert [one["id"] for one in stream.messages] == [1, 2]


# --- 1.5 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offered", [*LEGACY_VERSIONS, "2026-07-28", "1999-01-01", ""])
async def test_s1_5_the_clients_version_if_it_is_known_else_the_latest_legacy_one(
    autojump_clock: MockClock, offered: str
) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session(offered)
        assert session.hello["protocolVersion"] == (offered if offered in LEGACY_VERSIONS else NEW)


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_s1_5_ping_is_answered_before_and_after_initialized(autojump_clock: MockClock, version: str) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session(version)
        assert (await session.ask("ping")).result == {}
        await session.tell("notifications/initialized")
        assert (await session.ask("ping")).result == {}


async def test_s1_5_ids_are_unique_in_a_session_but_not_between_sessions(autojump_clock: MockClock) -> None:
    async with scripted_gateway(slow_backend()) as where:
        sessions: list[Session] = [await where.session() for _ in range(2)]
        calls = [one.begin(CALL, {"name": "read"}, request_id=1) for one in sessions]
        await trio.sleep(0.1)
        again = await sessions[0].ask(CALL, {"name": "read"}, request_id=1)
        error: Message = again.error
        assert error["code"] == -32600
        for call in calls:
            assert (await over(call)).answer["id"] == 1


async def test_s1_5_only_negotiated_features_are_advertised(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(capabilities={"tools": {}, "completions": {}})) as where:
        for version in LEGACY_VERSIONS:
            offered = (await where.session(version)).hello["capabilities"]
            assert isinstance(offered, dict)
            assert ("completions" in offered) == (version != "2024-11-05")
            assert not {"tasks", "extensions", "experimental"} & set(offered)


async def test_s1_5_discover_names_modern_versions_only_and_says_who_serves(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        result: Message = (await where.modern("server/discover")).result
        assert result["supportedVersions"] == ["2026-07-28"]
        assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "mcp-gateway"
        assert (result["resultType"], result["cacheScope"]) == ("complete", "public")
        assert result["ttlMs"] >= 0
        assert "serverInfo" not in result
        assert not {"tasks", "extensions"} & set(result["capabilities"])
