"""Reference 1.4 to 1.6: what a client may say of itself, on each of the three transports, and what is kept of it."""

import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import GatewayLimits
from mcp_gateway.protocol.envelope import ANONYMOUS_INFO, MAX_CAPABILITIES_BYTES
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import JsonObject, JsonValue
from tests.conformance.rule_steps import BACKENDS, CALL, error_of
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, message, modern_request, scripted_gateway
from tests.support.scripted_link import Handler, ScriptedBackend, ScriptedLink, tool

META = "io.modelcontextprotocol/"
NEW = "2025-11-25"
GOOD: JsonObject = {
    "name": "c",
    "version": "1",
    "title": "C",
    "icons": [{"src": "https://x/i.png"}],
    "x-vendor": [1.50],
}
BAD: list[JsonValue] = [
    None,
    5,
    "me",
    [],
    {},
    {"name": "c"},
    {"name": 1, "version": "1"},
    {"name": "c", "version": "1", "title": 3},
    {"name": "c", "version": "1", "icons": "x"},
    {"name": "c", "version": "1", "icons": [{}]},
    {"name": "c", "version": "1", "icons": [1]},
    {"name": "c" * 20_000, "version": "1"},
]


async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep(20)
    return {"content": []}


async def post(where: ScriptedGateway, stream: RecordedReply, body: bytes) -> RecordedReply:
    """POST to the endpoint that an HTTP+SSE stream has named."""
    path, _, query = stream.events[0].data.decode().partition("?")
    return await where.send("POST", path=path, query=query, body=body)


async def sse(where: ScriptedGateway) -> RecordedReply:
    stream = where.begin("GET", path="/sse", headers={"Accept": "text/event-stream"})
    await stream.until(lambda: stream.events)
    return stream


def told(backend: ScriptedBackend, *, era: Era) -> list[JsonValue]:
    """Who the backend was told is calling: in the handshake, or with each call."""
    if not era.modern:
        return [orjson.loads(link.identity.info) for link in backend.links[1:]]
    metas: list[Message] = [params for link in backend.links for method, params in link.asked if method == CALL]
    return [one["_meta"][META + "clientInfo"] for one in metas]


@pytest.mark.parametrize("era", BACKENDS)
@pytest.mark.parametrize("info", [GOOD, *BAD], ids=str)
async def test_s1_6_only_an_implementation_is_told_to_backends(
    autojump_clock: MockClock, info: JsonValue, era: Era
) -> None:
    """Others share the session that a modern client opens: what no backend takes would fail them, too."""
    hello: JsonObject = {"protocolVersion": NEW, "capabilities": {}, "clientInfo": info}
    headers, body = modern_request(CALL, {"name": "read"})
    request: Message = orjson.loads(body)
    request["params"]["_meta"][META + "clientInfo"] = info
    backend = ScriptedBackend(era=era)
    async with scripted_gateway(backend) as where:
        assert (await where.send("POST", headers=headers, body=orjson.dumps(request))).status == 200
        opened = await where.send("POST", body=message("initialize", hello, 1))
        session = {"Mcp-Session-Id": opened.header(b"mcp-session-id") or ""}
        await where.send("POST", headers=session, body=message(CALL, {"name": "read"}, 2))
        expected = info if info == GOOD else orjson.loads(ANONYMOUS_INFO)
        assert told(backend, era=era) == [expected] * 2


async def test_s1_6_text_that_not_every_reader_takes_is_no_name(autojump_clock: MockClock) -> None:
    headers, body = modern_request(CALL, {"name": "read"})
    backend = ScriptedBackend(era=V2026_07_28)
    async with scripted_gateway(backend) as where:
        await where.send("POST", headers=headers, body=body.replace(b'"modern"', b'"\\ud800"'))
        assert told(backend, era=V2026_07_28) == [orjson.loads(ANONYMOUS_INFO)]


@pytest.mark.parametrize("size, taken", [(MAX_CAPABILITIES_BYTES, True), (MAX_CAPABILITIES_BYTES + 1, False)])
async def test_s1_5_invariant_7_what_is_kept_of_a_client_is_bounded_on_each_transport(
    autojump_clock: MockClock, size: int, taken: bool
) -> None:
    capabilities: JsonObject = {"x": "y" * (size - len('{"x":""}'))}
    hello: JsonObject = {"protocolVersion": NEW, "capabilities": capabilities}
    async with scripted_gateway(ScriptedBackend(tools=[tool("read")])) as where:
        modern = await where.modern(CALL, {"name": "read"}, capabilities=capabilities)
        streamable = await where.send("POST", body=message("initialize", hello, 1))
        stream = await sse(where)
        assert (await post(where, stream, message("initialize", hello, 1))).status == 202
        await stream.until(lambda: stream.messages)
        assert modern.status == (200 if taken else 400)
        for reply in (modern, streamable, stream):
            assert ("result" in reply.answer) == taken
            if not taken:
                assert error_of(reply)["code"] == -32602
                assert str(MAX_CAPABILITIES_BYTES) in error_of(reply)["message"]


@pytest.mark.parametrize("offered", [None, 5, ["2025-11-25"]])
async def test_s1_5_an_offer_that_is_no_version_is_refused_on_both_transports(
    autojump_clock: MockClock, offered: JsonValue
) -> None:
    hello: JsonObject = {"protocolVersion": offered, "capabilities": {}}
    async with scripted_gateway(ScriptedBackend()) as where:
        streamable = await where.send("POST", body=message("initialize", hello, 1))
        stream = await sse(where)
        await post(where, stream, message("initialize", hello, 1))
        await stream.until(lambda: stream.messages)
        for reply in (streamable, stream):
            assert error_of(reply)["code"] == -32602
        assert streamable.header(b"mcp-session-id") is None


@pytest.mark.parametrize("capabilities", [None, 5, "all", [], {"roots": 5, "sampling": None}])
async def test_s1_5_capabilities_that_are_none_declare_none(autojump_clock: MockClock, capabilities: JsonValue) -> None:
    hello: JsonObject = {"protocolVersion": NEW, "capabilities": capabilities}
    async with scripted_gateway(ScriptedBackend()) as where:
        opened = await where.send("POST", body=message("initialize", hello, 1))
        session = {"Mcp-Session-Id": opened.header(b"mcp-session-id") or ""}
        assert "result" in (await where.send("POST", headers=session, body=message(CALL, {"name": "read"}, 2))).answer


# --- HTTP+SSE --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", [slow, None], ids=["running", "answered"])
async def test_s1_10_a_request_cancelled_over_sse_is_not_answered(
    autojump_clock: MockClock, handler: Handler | None
) -> None:
    """Its POST had its 202: nothing needs an answer but a client that wants one."""
    handlers: dict[str, Handler] = {CALL: handler} if handler is not None else {}
    backend = ScriptedBackend(handlers=handlers)
    async with scripted_gateway(backend) as where:
        stream = await sse(where)
        await post(where, stream, message("initialize", {"protocolVersion": "2024-11-05", "capabilities": {}}, 0))
        await post(where, stream, message(CALL, {"name": "read"}, 1))
        await trio.sleep(1)
        await post(where, stream, message("notifications/cancelled", {"requestId": 1}))
        await trio.sleep(30)
        await post(where, stream, message("ping", None, 2))
        await stream.until(lambda: stream.messages[-1]["id"] == 2)
        assert [one["id"] for one in stream.messages] == ([0, 2] if handler is slow else [0, 1, 2])
        assert sum(link.cancelled for link in backend.links) == (1 if handler is slow else 0)


async def test_s1_4_an_id_of_the_other_transport_is_unknown_to_messages_though_nothing_is_free(
    autojump_clock: MockClock,
) -> None:
    async with scripted_gateway(ScriptedBackend(), limits=GatewayLimits(sessions=2)) as where:
        idle = await where.session()
        streams = [await sse(where), await sse(where)]  # the idle one leaves memory, and nobody else can
        reply = await where.send("POST", path="/messages", query=f"sessionId={idle.id}", body=message("ping", None, 1))
        assert reply.status == 404
        assert (await post(where, streams[0], message("ping", None, 1))).status == 202


@pytest.mark.parametrize("query", ["", "sessionId=", "sessionId=x", "sessionId=%ff%00", "sessionid=x", "session_id=x"])
async def test_s1_4_messages_without_a_session_that_has_a_stream_are_404(autojump_clock: MockClock, query: str) -> None:
    async with scripted_gateway(ScriptedBackend(era=V2025_11_25)) as where:
        ended = await sse(where)
        assert (await where.send("POST", path="/messages", query=query, body=message("ping", None, 1))).status == 404
        ended.leave()
        await trio.sleep(1)
        assert (await post(where, ended, message("ping", None, 1))).status == 404


async def test_s1_4_two_streams_of_one_client_are_two_sessions(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        one, two = await sse(where), await sse(where)
        await post(where, two, message("ping", None, "x"))
        await two.until(lambda: two.messages)
        assert (one.messages, [reply["id"] for reply in two.messages]) == ([], ["x"])
