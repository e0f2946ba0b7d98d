"""The 2026 face: what is refused, and how; what comes along with an answer."""

import orjson
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_gateway.backends.transports.base import Answer, Hear, Outgoing
from mcp_gateway.config.spec import BackendLimits, GatewayLimits, GatewaySpec, SessionsSpec, Timeouts
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.routing.snapshot import Health
from mcp_gateway.values import BackendKey, JsonObject
from tests.support.scripted_gateway import message, modern_request, scripted_gateway
from tests.support.scripted_link import Refusal, ScriptedBackend, ScriptedLink, tool

FILES = BackendKey("files")
ERAS = [pytest.param(V2025_11_25, id="2025 backend"), pytest.param(V2026_07_28, id="2026 backend")]


async def hang(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep(1000)
    return {}


async def has_one(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    return {"resources": [{"uri": "memo://one", "name": "one"}], "resultType": "complete", "ttlMs": 0}


def mirrored(name: str = "Region") -> JsonObject:
    """A tool one of whose arguments is mirrored into a header."""
    schema: JsonObject = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": name}}}
    return {"name": "read", "inputSchema": schema}


async def test_notifications_are_taken_and_responses_refused(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        headers, _ = modern_request("notifications/cancelled")
        note = await where.send("POST", headers=headers, body=message("notifications/cancelled", {"requestId": 1}))
        assert (note.status, note.body) == (202, b"")
        response = await where.send("POST", headers=headers, body=b'{"jsonrpc":"2.0","id":1,"result":{}}')
        assert (response.status, response.error["code"]) == (400, -32600)


async def test_a_request_whose_headers_lie_is_refused(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(era=V2026_07_28, tools=[mirrored()])
    async with scripted_gateway(backend) as where:
        named = await where.modern("tools/call", {"name": "read"}, headers={"Mcp-Name": "write"})
        assert (named.status, named.error["code"]) == (400, -32020)
        call: JsonObject = {"name": "read", "arguments": {"region": "eu"}}
        other = await where.modern("tools/call", call, headers={"Mcp-Param-Region": "us"})
        assert (other.status, other.error["code"]) == (400, -32020)
        right = await where.modern("tools/call", call, headers={"Mcp-Param-Region": "eu"})
        assert right.result["resultType"] == "complete"
        assert backend.asked("tools/call") == 1


async def test_lists_pings_and_unknown_things_need_no_backend(autojump_clock: MockClock) -> None:
    spec = GatewaySpec(sessions=SessionsSpec(signing_keys=(b"0123456789abcdef",)), instructions="Ask nicely.")
    async with scripted_gateway(ScriptedBackend(), spec=spec) as where:
        backend = where.fleet.get(FILES)
        assert backend is not None
        assert (await where.session()).hello["instructions"] == "Ask nicely."
        found = (await where.modern("server/discover")).result
        assert found["instructions"] == "Ask nicely."
        assert found["supportedVersions"] == ["2026-07-28"]
        tools = (await where.modern("tools/list")).result
        assert tools["resultType"] == "complete"
        bad = await where.modern("tools/list", {"cursor": "1.abc"})
        assert bad.error["code"] == -32602
        assert (await where.modern("tools/call", {"name": "nobody"})).error["code"] == -32602
        unknown = await where.modern("no/such/method")
        assert (unknown.status, unknown.error["code"]) == (404, -32601)
        assert backend.snapshot.health is Health.READY


async def test_overload_is_503_with_a_hint_for_2026_clients(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(handlers={"tools/call": hang})
    async with scripted_gateway(backend, limits=GatewayLimits(in_flight=1)) as where:
        session = await where.session()
        first = session.begin("tools/call", {"name": "read"})
        await wait_all_tasks_blocked()
        refused = await where.modern("tools/call", {"name": "read"})
        assert (refused.status, refused.header(b"retry-after")) == (503, "1")
        assert refused.error["data"]["reason"] == "overload"  # type: ignore[index,call-overload]  # raw JSON
        legacy = await session.ask("tools/call", {"name": "read"})
        assert legacy.status == 200  # a 5xx would tear down the session of an SDK client
        assert legacy.error["data"]["reason"] == "overload"  # type: ignore[index,call-overload]  # raw JSON
        assert not first.closed


async def test_a_backend_that_just_left_is_named(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        where.fleet._seats.clear()  # what a removal does, before the next table is built
        reply = await where.modern("tools/call", {"name": "read"})
        assert reply.error["data"] == {"server": "files", "reason": "backend_gone", "executed": "no"}


@pytest.mark.parametrize("renamed", [True, False])
async def test_a_header_mismatch_is_retried_with_what_the_tool_says_now(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, renamed: bool
) -> None:
    honest = ScriptedLink.exchange
    sent: list[dict[bytes, bytes]] = []

    async def exchange(self: ScriptedLink, outgoing: Outgoing, hear: Hear) -> Answer:
        answer = await honest(self, outgoing, hear)
        if outgoing.method == "tools/call":
            sent.append(dict(outgoing.headers))
            if b"Mcp-Param-Zone" not in sent[-1]:
                error = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32020,"message":"header mismatch"}}'
                return Answer(raw=error, status=400)
        return answer

    monkeypatch.setattr(ScriptedLink, "exchange", exchange)
    backend = ScriptedBackend(era=V2026_07_28, tools=[mirrored("Region")])
    async with scripted_gateway(backend) as where:
        if renamed:
            backend.tools[0] = mirrored("Zone")
        session = await where.session()
        reply = await session.call("read", region="eu")
        if renamed:
            assert reply.result == {"content": []}
            assert [headers.get(b"Mcp-Param-Zone") for headers in sent] == [None, b"eu"]
        else:
            assert reply.error["code"] == -32020
            assert len(sent) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_an_answer_above_a_mebibyte_is_reshaped_without_holding_the_loop(
    autojump_clock: MockClock, era: Era
) -> None:
    async def large(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"resultType": "complete", "content": [{"type": "text", "text": "x" * 2**20}], "isError": True}

    async with scripted_gateway(ScriptedBackend(era=era, handlers={"tools/call": large})) as where:
        reply = await where.modern("tools/call", {"name": "read"})
        assert reply.result["resultType"] == "complete"
        legacy = await (await where.session()).call("read")
        assert "resultType" not in legacy.result or not era.modern
        rendered = where.metrics.render().decode()
        assert 'outcome="tool_error"' in rendered


@pytest.mark.parametrize("era", ERAS)
async def test_uris_of_a_resource_above_a_mebibyte_are_mapped(autojump_clock: MockClock, era: Era) -> None:
    async def large(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"resultType": "complete", "contents": [{"uri": params["uri"], "blob": "A" * 2**20}]}

    backend = ScriptedBackend(
        era=era,
        capabilities={"resources": {}},
        handlers={"resources/list": has_one, "resources/read": large},
    )
    async with scripted_gateway(backend) as where:
        uri = "memo://files/one"
        replies = [
            await where.modern("resources/read", {"uri": uri}),
            await (await where.session()).ask("resources/read", {"uri": uri}),
        ]
        for reply in replies:
            assert reply.result["contents"] == [{"uri": uri, "blob": "A" * 2**20}]


async def test_urls_that_must_be_opened_first_are_asked_for_only_where_that_is_possible(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ScriptedLink.exchange
    wanted = {"mode": "url", "elicitationId": "e", "url": "https://x.example", "message": "sign in"}
    data: dict[str, object] = {"elicitations": [wanted]}

    async def exchange(self: ScriptedLink, outgoing: Outgoing, hear: Hear) -> Answer:
        answer = await honest(self, outgoing, hear)
        if outgoing.method != "tools/call":
            return answer
        error = {"code": -32042, "message": "open", "data": data}
        return Answer(raw=orjson.dumps({"jsonrpc": "2.0", "id": orjson.loads(answer.raw)["id"], "error": error}))

    monkeypatch.setattr(ScriptedLink, "exchange", exchange)
    async with scripted_gateway(ScriptedBackend()) as where:
        capable: JsonObject = {"elicitation": {"url": {}}}
        asked = await where.modern("tools/call", {"name": "read"}, capabilities=capable)
        assert list(asked.result["inputRequests"]) == ["k1"]  # type: ignore[arg-type]  # raw JSON
        poor = await where.modern("tools/call", {"name": "read"})
        assert (poor.status, poor.error["code"]) == (400, -32021)
        data["elicitations"] = []
        empty = await where.modern("tools/call", {"name": "read"}, capabilities=capable)
        assert empty.error["code"] == -32603


async def test_a_deadline_in_the_queue_says_that_nothing_was_executed(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(era=V2026_07_28, handlers={"tools/call": hang}, tools=[tool("read")])
    timeouts, limits = Timeouts(call_s=3), BackendLimits(concurrency=1)
    async with scripted_gateway(backend, timeouts=timeouts, backend_limits=limits) as where:
        replies = []
        for _ in range(2):
            replies.append(where.modern_soon("tools/call", {"name": "read"}))
            await wait_all_tasks_blocked()
        for reply in replies:
            await reply.until(lambda reply=reply: reply.closed)  # type: ignore[misc]  # bound now
        told = [(reply.error["data"]["limit"], reply.error["data"]["executed"]) for reply in replies]  # type: ignore[index,call-overload]  # raw JSON
        assert told == [("call", "unknown"), ("queue", "no")]


async def test_a_refusal_names_its_code(autojump_clock: MockClock) -> None:
    async def refuse(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(-32601, "no such thing")

    async with scripted_gateway(ScriptedBackend(handlers={"tools/call": refuse})) as where:
        reply = await where.modern("tools/call", {"name": "read"})
        assert (reply.status, reply.error["code"]) == (404, -32601)
