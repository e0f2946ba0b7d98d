"""Reference 1.2, T1 to T25: the modern transport's rules for a server, towards clients, on a virtual clock.

What only a socket shows (Origin, Host, OPTIONS, proxies' buffering) is in ``test_rules_http``.
"""

import base64

import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.protocol.eras import V2026_07_28
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.raw_client import Message
from tests.support.scripted_gateway import MODERN, RecordedReply, message, modern_request, scripted_gateway
from tests.support.scripted_link import Refusal, ScriptedBackend, ScriptedLink, notice, question, tool

META = "io.modelcontextprotocol/"
CALL = "tools/call"


def asks_for(region: JsonValue) -> ScriptedBackend:
    """A backend with one tool whose argument is mirrored into ``Mcp-Param-Region``."""
    schema: JsonObject = {"type": "object", "properties": {"region": region}}
    return ScriptedBackend(era=V2026_07_28, tools=[{"name": "read", "inputSchema": schema}])


def error_of(reply: RecordedReply) -> Message:
    error: Message = reply.error
    return error


async def hang(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep_forever()


async def talk(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    """Progress if asked for, a log message, a change, a ping: then the answer."""
    meta = params["_meta"]
    assert isinstance(meta, dict)
    await hear(notice("notifications/progress", progressToken=meta.get("progressToken", 0), progress=1))
    await hear(notice("notifications/message", level="error", data="x"))
    await hear(notice("notifications/tools/list_changed"))
    await trio.sleep(0.1)
    return {"resultType": "complete", "content": []}


async def test_T1_one_path_supports_post(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        assert (await where.modern("server/discover")).status == 200


async def test_T2_get_and_delete_without_a_session_are_refused(autojump_clock: MockClock) -> None:
    version = {"MCP-Protocol-Version": MODERN}
    async with scripted_gateway(ScriptedBackend()) as where:
        got = await where.send("GET", headers={"Accept": "text/event-stream", **version})
        assert (got.status, got.header(b"allow")) == (405, "POST")
        assert (await where.send("DELETE", headers=version)).status == 405


async def test_T2_get_and_delete_of_a_legacy_session_follow_the_legacy_rules(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        assert (await session.end()).status == 204


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[%b]" % modern_request("tools/list")[1], id="an array of one"),
        pytest.param(b"[]", id="an empty array"),
        pytest.param(orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": {}}), id="a response"),
        pytest.param(orjson.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": ""}}), id="an error"),
        pytest.param(b'"hello"', id="no object"),
        pytest.param(modern_request("tools/list")[1].replace(b'"2.0"', b'"1.0"'), id="another JSON-RPC"),
    ],
)
async def test_T5_the_body_is_exactly_one_request_or_notification(autojump_clock: MockClock, body: bytes) -> None:
    headers, _ = modern_request("tools/list")
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await where.send("POST", headers=headers, body=body)
        assert (reply.status, error_of(reply)["code"]) == (400, -32600)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe{}", b'{"jsonrpc":"2.0","id":1,"method":"\xff"}'])
async def test_T5_the_body_is_json_in_utf8(autojump_clock: MockClock, body: bytes) -> None:
    headers, _ = modern_request("tools/list")
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await where.send("POST", headers=headers, body=body)
        assert (reply.status, error_of(reply)["code"]) == (400, -32700)


@pytest.mark.parametrize("raw", [b"null", b"1.5", b"true", b"[]", b"{}"])
async def test_T6_an_id_is_a_string_or_an_integer(autojump_clock: MockClock, raw: bytes) -> None:
    headers, body = modern_request("tools/list", id="?")
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await where.send("POST", headers=headers, body=body.replace(b'"id":"?"', b'"id":' + raw))
        assert (reply.status, error_of(reply)["code"]) == (400, -32600)


@pytest.mark.parametrize("request_id", ["a", "", 0, -1, 2**53])
async def test_T6_the_answer_has_the_requests_own_id(autojump_clock: MockClock, request_id: JsonValue) -> None:
    requests: list[tuple[str, JsonObject]] = [("tools/list", {}), (CALL, {"name": "read"}), ("nothing", {})]
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28)) as where:
        for method, params in requests:
            reply = await where.modern(method, params, id=request_id)
            assert reply.answer["id"] == request_id


async def test_T7_a_notification_is_accepted_and_dropped_whatever_its_headers(autojump_clock: MockClock) -> None:
    body = message("notifications/cancelled", {"requestId": 1, "_meta": {META + "protocolVersion": MODERN}})
    async with scripted_gateway(ScriptedBackend()) as where:
        for headers in ({}, {"MCP-Protocol-Version": MODERN}, {"MCP-Protocol-Version": MODERN, "Mcp-Method": "other"}):
            reply = await where.send("POST", headers=headers, body=body)
            assert (reply.status, reply.body) == (202, b"")


@pytest.mark.parametrize(
    "accept, opened",
    [("application/json", False), ("text/event-stream", True), ("application/json, text/event-stream", False)],
)
async def test_T8_a_request_is_answered_by_one_object_or_a_stream(
    autojump_clock: MockClock, accept: str, opened: bool
) -> None:
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28)) as where:
        reply = await where.modern(CALL, {"name": "read"}, headers={"Accept": accept})
        kind = "text/event-stream" if opened else "application/json"
        assert (reply.status, reply.opened, reply.header(b"content-type")) == (200, opened, kind)
        assert reply.result["content"] == []


async def test_T8_an_error_that_comes_at_once_keeps_its_status(autojump_clock: MockClock) -> None:
    """No stream is opened before the backend's answer is classified."""

    async def refuse(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(5)
        raise Refusal(-32601)

    async with scripted_gateway(ScriptedBackend(era=V2026_07_28, handlers={CALL: refuse})) as where:
        assert (await where.modern(CALL, {"name": "read"})).status == 404


async def test_T9_a_stream_has_this_requests_notifications_and_then_the_answer(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(era=V2026_07_28, handlers={CALL: talk})
    async with scripted_gateway(backend) as where:
        one = where.modern_soon(CALL, {"name": "read"}, id=1, token="t-1", level="debug")
        two = where.modern_soon(CALL, {"name": "read"}, id=2, token=7)
        for reply, token, methods in (
            (one, "t-1", ["notifications/progress", "notifications/message", None]),
            (two, 7, ["notifications/progress", None]),
        ):
            await reply.until(lambda reply=reply: reply.closed)  # type: ignore[misc]  # bound now
            said: list[Message] = list(reply.messages)
            assert [one.get("method") for one in said] == methods
            assert said[0]["params"]["progressToken"] == token


async def test_T9_a_modern_client_is_never_sent_a_request(autojump_clock: MockClock) -> None:
    async def ask(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(question("ping", b'"p"'))
        await hear(question("roots/list", b'"r"'))
        await hear(question("unheard/of", b'"u"'))
        return {"content": []}

    backend = ScriptedBackend(handlers={CALL: ask})
    async with scripted_gateway(backend) as where:
        reply = await where.modern(CALL, {"name": "read"}, headers={"Accept": "text/event-stream"})
        assert [one.get("method") for one in reply.messages] == [None]
        answers = [orjson.loads(raw) for link in backend.links for raw in link.said]
        assert {one["id"]: "result" in one for one in answers} == {"p": True, "r": False, "u": False}


async def test_T10_a_stream_is_not_buffered_and_shows_that_it_lives(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(era=V2026_07_28, handlers={CALL: hang})
    async with scripted_gateway(backend) as where:
        reply = where.modern_soon(CALL, {"name": "read"})
        await reply.until(lambda: reply.comments >= 3)
        assert reply.header(b"x-accel-buffering") == "no"
        assert reply.header(b"cache-control") == "no-store"


async def test_T11_there_are_no_event_ids_and_last_event_id_is_ignored(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28, handlers={CALL: talk})) as where:
        reply = await where.modern(CALL, {"name": "read"}, token=1, headers={"Last-Event-ID": "x-0-0"})
        assert len(reply.events) == 2
        assert {(event.event_id, event.retry_ms) for event in reply.events} == {(None, None)}


async def test_T12_closing_the_stream_is_cancellation_and_nothing_more_is_sent(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(era=V2026_07_28, handlers={CALL: hang})
    async with scripted_gateway(backend) as where:
        reply = where.modern_soon(CALL, {"name": "read"})
        await reply.until(lambda: reply.opened)
        reply.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert sum(link.cancelled for link in backend.links) == 1
        assert (reply.messages, len(where.gateway.calls.in_flight)) == ([], 0)


async def test_T13_a_session_id_is_ignored_and_never_given(autojump_clock: MockClock) -> None:
    requests: list[tuple[str, JsonObject]] = [("tools/list", {}), (CALL, {"name": "read"}), ("server/discover", {})]
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28)) as where:
        for method, params in requests:
            reply = await where.modern(method, params, headers={"Mcp-Session-Id": "nobody's"})
            assert (reply.status, reply.header(b"mcp-session-id")) == (200, None)
        assert len(where.gateway.context.sessions) == 0


@pytest.mark.parametrize("said", [None, "", "2025-11-25", "2026-07-29", "2026-07-28, 2026-07-28"])
async def test_T14_version_header_must_equal_the_body(autojump_clock: MockClock, said: str | None) -> None:
    headers, body = modern_request("tools/list")
    headers.pop("MCP-Protocol-Version")
    if said is not None:
        headers["MCP-Protocol-Version"] = said
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await where.send("POST", headers=headers, body=body)
        assert (reply.status, error_of(reply)["code"], reply.answer["id"]) == (400, -32020, 1)


async def test_T15_an_unknown_version_is_told_the_known_ones(autojump_clock: MockClock) -> None:
    headers, body = modern_request("tools/list")
    headers["MCP-Protocol-Version"] = "2099-01-01"
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await where.send("POST", headers=headers, body=body.replace(MODERN.encode(), b"2099-01-01"))
        assert (reply.status, error_of(reply)["code"]) == (400, -32022)
        found = (await where.modern("server/discover")).result
        assert error_of(reply)["data"] == {"supported": found["supportedVersions"], "requested": "2099-01-01"}


@pytest.mark.parametrize(
    "method",
    ["ping", "initialize", "logging/setLevel", "resources/subscribe", "tasks/get", "sampling/createMessage", "x", ""],
)
async def test_T16_an_unknown_or_removed_method_is_404_with_its_id(autojump_clock: MockClock, method: str) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await where.modern(method, id="mine")
        assert (reply.status, error_of(reply)["code"], reply.answer["id"]) == (404, -32601, "mine")


@pytest.mark.parametrize("said", [None, "Tools/list", "tools/call", "tools/list\xe9", "tools/list, tools/list"])
async def test_T17_mcp_method_equals_the_method_case_and_all(autojump_clock: MockClock, said: str | None) -> None:
    headers, body = modern_request("tools/list")
    headers.pop("Mcp-Method")
    if said is not None:
        headers["Mcp-Method"] = said
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await where.send("POST", headers=headers, body=body)
        assert (reply.status, error_of(reply)["code"]) == (400, -32020)


async def test_T17_white_space_around_and_the_case_of_names_do_not_matter(autojump_clock: MockClock) -> None:
    headers, body = modern_request(CALL, {"name": "read"})
    headers = {name.upper(): f" \t{value}\t " for name, value in headers.items()}
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28)) as where:
        assert (await where.send("POST", headers=headers, body=body)).status == 200


NAMED = [(CALL, "name"), ("prompts/get", "name"), ("resources/read", "uri")]


@pytest.mark.parametrize("method, member", NAMED)
@pytest.mark.parametrize("said", [None, "other", "READ"])
async def test_T18_mcp_name_equals_the_name_or_uri(
    autojump_clock: MockClock, method: str, member: str, said: str | None
) -> None:
    """Acceptance case K-161."""
    headers, body = modern_request(method, {member: "read"})
    headers.pop("Mcp-Name")
    if said is not None:
        headers["Mcp-Name"] = said
    backend = ScriptedBackend(era=V2026_07_28)
    async with scripted_gateway(backend) as where:
        reply = await where.send("POST", headers=headers, body=body)
        assert (reply.status, error_of(reply)["code"]) == (400, -32020)
        assert backend.asked(method) == 0


def base64_form(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


@pytest.mark.parametrize("name", ["read", "größe", " edge ", "=?base64?eA==?="])
async def test_T19_a_name_may_come_as_base64(autojump_clock: MockClock, name: str) -> None:
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28, tools=[tool(name)])) as where:
        reply = await where.modern(CALL, {"name": name}, headers={"Mcp-Name": base64_form(name)})
        assert reply.status == 200


@pytest.mark.parametrize(
    "said",
    ["=?base64?cmVhZA?=", "=?base64?cmV*ZA==?=", "=?BASE64?cmVhZA==?=", "=?base64?/w==?=", "=?base64?cmVhZB==?="],
)
async def test_T19_bad_base64_is_a_mismatch(autojump_clock: MockClock, said: str) -> None:
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28)) as where:
        reply = await where.modern(CALL, {"name": "read"}, headers={"Mcp-Name": said})
        assert (reply.status, error_of(reply)["code"]) == (400, -32020)


async def test_T20_a_header_that_is_no_ascii_is_a_mismatch(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28, tools=[tool("größe")])) as where:
        reply = await where.modern(CALL, {"name": "größe"}, headers={"Mcp-Name": "größe"})
        assert (reply.status, error_of(reply)["code"]) == (400, -32020)


STRING: JsonObject = {"type": "string", "x-mcp-header": "Region"}
INTEGER: JsonObject = {"type": "integer", "x-mcp-header": "Region"}


@pytest.mark.parametrize(
    "region, argument, said, fits",
    [
        pytest.param(STRING, "eu", "eu", True, id="equal"),
        pytest.param(STRING, "eu", base64_form("eu"), True, id="equal, as base64"),
        pytest.param(STRING, "eu", "us", False, id="different"),
        pytest.param(STRING, "eu", "EU", False, id="another case"),
        pytest.param(STRING, "eu", None, False, id="missing"),
        pytest.param(STRING, None, None, True, id="null needs none"),
        pytest.param(STRING, None, "eu", False, id="null must have none"),
        pytest.param(STRING, "", "", True, id="empty"),
        pytest.param(INTEGER, 42, "42", True, id="integer"),
        pytest.param(INTEGER, 42, "42.0", True, id="integers compare as numbers"),
        pytest.param(INTEGER, 42.0, "42", True, id="both ways"),
        pytest.param(INTEGER, 42, "43", False, id="another number"),
        pytest.param(INTEGER, 42, "x", False, id="no number"),
    ],
)
@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_T21_mirrored_arguments_equal_the_body(
    autojump_clock: MockClock, region: JsonObject, argument: JsonValue, said: str | None, fits: bool, era: str
) -> None:
    backend = asks_for(region)
    if era == "2025":
        backend.era = ScriptedBackend().era
    more: JsonObject = {} if said is None else {"MCP-PARAM-region": said}
    async with scripted_gateway(backend) as where:
        reply = await where.modern(CALL, {"name": "read", "arguments": {"region": argument}}, headers=more)
        assert reply.status == (200 if fits else 400)
        assert backend.asked(CALL) == (1 if fits else 0)
        if not fits:
            assert error_of(reply)["code"] == -32020


async def test_T22_unknown_mirrored_headers_are_nobodys_business(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28)) as where:
        reply = await where.modern(CALL, {"name": "read"}, headers={"Mcp-Param-Else": "\x7f"})
        assert reply.status == 200


@pytest.mark.parametrize("missing", [META + "protocolVersion", META + "clientCapabilities", "_meta", "params"])
async def test_T23_required_metadata(autojump_clock: MockClock, missing: str) -> None:
    headers, body = modern_request("tools/list")
    request: Message = orjson.loads(body)
    for holder in (request, request["params"], request["params"]["_meta"]):
        holder.pop(missing, None)
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await where.send("POST", headers=headers, body=orjson.dumps(request))
        assert (reply.status, error_of(reply)["code"], reply.answer["id"]) == (400, -32602, 1)


async def test_T23_client_info_is_not_required(autojump_clock: MockClock) -> None:
    headers, body = modern_request("tools/list")
    request: Message = orjson.loads(body)
    request["params"]["_meta"].pop(META + "clientInfo")
    async with scripted_gateway(ScriptedBackend()) as where:
        assert (await where.send("POST", headers=headers, body=orjson.dumps(request))).status == 200


async def test_T24_a_missing_capability_is_told_with_400_and_the_servers_data(autojump_clock: MockClock) -> None:
    async def need(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(-32021)

    async with scripted_gateway(ScriptedBackend(era=V2026_07_28, handlers={CALL: need})) as where:
        reply = await where.modern(CALL, {"name": "read"})
        assert (reply.status, error_of(reply)["code"]) == (400, -32021)


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Accept": "application/json"}, 200),
        ({"Accept": "text/event-stream"}, 200),
        ({"Accept": "*/*"}, 200),
        ({"Accept": "text/html"}, 406),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
async def test_T25_media_types(autojump_clock: MockClock, headers: dict[str, JsonValue], status: int) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        assert (await where.modern("tools/list", headers=headers)).status == status


async def test_s1_2_the_ladder_is_climbed_in_its_order(autojump_clock: MockClock) -> None:
    """Each request has its fault and every later one; the first is what is told."""
    headers, body = modern_request("no/such")
    wrong = {**headers, "MCP-Protocol-Version": "1999-01-01", "Mcp-Method": "other"}
    old = body.replace(MODERN.encode(), b"1999-01-01")
    bare = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "no/such", "params": {}})
    faults = [
        ({**headers, "Mcp-Method": "other"}, b"{", 400, -32700),
        ({**headers, "Mcp-Method": "other"}, bare.replace(b'"2.0"', b"2"), 400, -32600),
        ({**headers, "Mcp-Method": "other"}, bare, 400, -32602),
        (wrong | {"MCP-Protocol-Version": MODERN}, old, 400, -32020),
        (wrong, old, 400, -32020),
        (headers | {"MCP-Protocol-Version": "1999-01-01"}, old, 400, -32022),
        (headers, body, 404, -32601),
    ]
    async with scripted_gateway(ScriptedBackend()) as where:
        for given, raw, status, code in faults:
            reply = await where.send("POST", headers=given, body=raw)
            assert (reply.status, error_of(reply)["code"]) == (status, code)


async def test_s1_2_modern_is_whoever_says_so_in_header_or_body(autojump_clock: MockClock) -> None:
    headers, body = modern_request("tools/list")
    async with scripted_gateway(ScriptedBackend()) as where:
        only_header = await where.send("POST", headers=headers, body=message("tools/list", {}, 1))
        only_body = await where.send("POST", headers={"Accept": "*/*"}, body=body)
        assert (error_of(only_header)["code"], error_of(only_body)["code"]) == (-32602, -32020)


async def test_s1_2_initialize_is_legacy_unless_it_has_modern_metadata(autojump_clock: MockClock) -> None:
    params: JsonObject = {"protocolVersion": MODERN, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    async with scripted_gateway(ScriptedBackend()) as where:
        legacy = await where.send("POST", body=message("initialize", params, 1))
        assert legacy.result["protocolVersion"] == "2025-11-25"
        modern = await where.modern("initialize", params)
        assert (modern.status, error_of(modern)["code"]) == (404, -32601)
