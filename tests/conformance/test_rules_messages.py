"""Reference 1.1 and 1.6 to 1.12: methods, metadata, rounds of input, subscriptions, lists and errors."""

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.protocol.eras import ERAS, LEGACY_VERSIONS, V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, scripted_gateway
from tests.support.scripted_link import Handler, Refusal, ScriptedBackend, ScriptedLink, notice, tool

META = "io.modelcontextprotocol/"
CALL = "tools/call"
EVERYTHING: JsonObject = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "completions": {},
    "logging": {},
}
BACKENDS = [pytest.param(V2025_11_25, id="2025 backend"), pytest.param(V2026_07_28, id="2026 backend")]


def fixed(**result: JsonValue) -> Handler:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return dict(result)

    return handle


def refusing(code: int, **data: JsonValue) -> Handler:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(code, data=dict(data) if data else None)

    return handle


def complete(era: Era, **handlers: Handler) -> ScriptedBackend:
    """A backend with one of everything; more handlers by method, "/" written as "__"."""
    kind: JsonObject = {"resultType": "complete"} if era.modern else {}
    hints: JsonObject = kind | ({"ttlMs": 5000, "cacheScope": "public"} if era.modern else {})
    own = {
        "prompts/list": fixed(**hints, prompts=[{"name": "ask"}]),
        "prompts/get": fixed(**kind, messages=[]),
        "resources/list": fixed(**hints, resources=[{"uri": "memo://one", "name": "one"}]),
        "resources/templates/list": fixed(**hints, resourceTemplates=[{"uriTemplate": "memo://{x}/d", "name": "t"}]),
        "resources/read": fixed(**hints, contents=[{"uri": "memo://one", "text": "x"}]),
        "completion/complete": fixed(**kind, completion={"values": ["a"]}),
        "logging/setLevel": fixed(),
    }
    more = {name.replace("__", "/"): handler for name, handler in handlers.items()}
    return ScriptedBackend(era=era, capabilities=EVERYTHING, ttl_ms=5000, handlers=own | more)


def error_of(reply: RecordedReply) -> Message:
    error: Message = reply.error
    return error


def result_of(reply: RecordedReply) -> Message:
    result: Message = reply.result
    return result


# --- 1.1 -------------------------------------------------------------------------------------------------------------

COMMON: dict[str, JsonObject] = {
    "tools/list": {},
    CALL: {"name": "read"},
    "prompts/list": {},
    "prompts/get": {"name": "ask"},
    "resources/list": {},
    "resources/templates/list": {},
    "resources/read": {"uri": "memo://one"},
    "completion/complete": {"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "a", "value": ""}},
}
LEGACY_ONLY: dict[str, JsonObject] = {
    "ping": {},
    "resources/subscribe": {"uri": "memo://one"},
    "resources/unsubscribe": {"uri": "memo://one"},
    "logging/setLevel": {"level": "info"},
}
FOREIGN = ("sampling/createMessage", "elicitation/create", "roots/list", "tasks/get", "tasks/list", "tasks/cancel")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("version", ERAS)
async def test_s1_1_each_version_has_its_methods_and_no_others(
    autojump_clock: MockClock, version: str, backend: Era
) -> None:
    async with scripted_gateway(complete(backend)) as where:
        modern = ERAS[version].modern
        has = COMMON | ({"server/discover": {}} if modern else LEGACY_ONLY)
        lacks = {**LEGACY_ONLY, "initialize": {}} if modern else {"server/discover": {}, "subscriptions/listen": {}}
        session = None if modern else await where.session(version)
        for method, params in has.items():
            reply = await (where.modern(method, params) if session is None else session.ask(method, params))
            assert "result" in reply.answer, (method, reply.answer)
        for method in (*lacks, *FOREIGN):
            reply = await (where.modern(method, {}) if session is None else session.ask(method, {}))
            assert (reply.status, error_of(reply)["code"]) == (404 if modern else 200, -32601), method


# --- 1.6 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
async def test_s1_6_every_modern_result_says_its_type_and_who_serves(autojump_clock: MockClock, backend: Era) -> None:
    async with scripted_gateway(complete(backend)) as where:
        for method, params in {**COMMON, "server/discover": {}}.items():
            result = result_of(await where.modern(method, params))
            assert result["resultType"] == "complete", method
            assert result["_meta"][META + "serverInfo"]["name"] == "mcp-gateway", method


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_s1_6_no_legacy_result_has_modern_members(autojump_clock: MockClock, version: str, backend: Era) -> None:
    async with scripted_gateway(complete(backend)) as where:
        session = await where.session(version)
        for method, params in COMMON.items():
            result = result_of(await session.ask(method, params))
            assert not {"resultType", "ttlMs", "cacheScope"} & set(result), method
            assert META + "serverInfo" not in result.get("_meta", {}), method


# --- 1.7 -------------------------------------------------------------------------------------------------------------

FORM: JsonObject = {"mode": "form", "message": "?", "requestedSchema": {"type": "object", "properties": {}}}


async def ask_once(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    """Ask for input, then give back what came."""
    if "inputResponses" not in params:
        asked: JsonObject = {"who": {"method": "elicitation/create", "params": FORM}}
        return {"resultType": "input_required", "inputRequests": asked, "requestState": "st\u00e4te \\ / \u2603"}
    back: JsonObject = {"echo": {key: params[key] for key in ("inputResponses", "requestState")}}
    return {"resultType": "complete", "content": [], "messages": [], "contents": [], **back}


@pytest.mark.parametrize("method", [CALL, "prompts/get", "resources/read"])
async def test_s1_7_rounds_between_modern_peers_pass_as_they_are(autojump_clock: MockClock, method: str) -> None:
    backend = complete(V2026_07_28, **{method.replace("/", "__"): ask_once})
    async with scripted_gateway(backend) as where:
        first = result_of(await where.modern(method, COMMON[method], capabilities={"elicitation": {}}))
        assert first["inputRequests"] == {"who": {"method": "elicitation/create", "params": FORM}}
        assert not {"ttlMs", "cacheScope"} & set(first)  # interim results are not to be kept
        retry: JsonObject = {
            "inputResponses": {"who": {"action": "accept", "content": {"a": 1.5}}},
            "requestState": first["requestState"],
        }
        last = result_of(await where.modern(method, COMMON[method] | retry, capabilities={"elicitation": {}}, id=2))
        assert last["echo"] == retry


@pytest.mark.parametrize("client", ["2025", "2026"])
@pytest.mark.parametrize("method", ["completion/complete", CALL])
async def test_s1_7_a_result_cannot_be_interim_elsewhere(autojump_clock: MockClock, client: str, method: str) -> None:
    interim = fixed(resultType="input_required" if method != CALL else "unheard-of", requestState="x")
    async with scripted_gateway(complete(V2026_07_28, **{method.replace("/", "__"): interim})) as where:
        if client == "2025":
            reply = await (await where.session()).ask(method, COMMON[method])
        else:
            reply = await where.modern(method, COMMON[method])
        assert error_of(reply)["data"]["reason"] == "backend_protocol"


# --- 1.8 -------------------------------------------------------------------------------------------------------------

LISTEN = "subscriptions/listen"
CHANGED: JsonObject = {"toolsListChanged": True}


async def changed(where: ScriptedGateway, backend: ScriptedBackend) -> None:
    backend.tools.append(tool(f"more{len(backend.tools)}"))
    await backend.shout(notice("notifications/tools/list_changed"))
    await trio.sleep(3)


@pytest.mark.parametrize("request_id", ["sub", 7, 0, "7"])
async def test_s1_8_listen_acknowledged_first_and_marked_with_the_requests_own_id(
    autojump_clock: MockClock, request_id: JsonValue
) -> None:
    backend = complete(V2025_11_25)
    async with scripted_gateway(backend) as where:
        listen = where.modern_soon(LISTEN, {"notifications": CHANGED}, id=request_id)
        await listen.until(lambda: listen.events)
        await changed(where, backend)
        where.gateway.end_streams()
        await listen.until(lambda: listen.closed)
        said: list[Message] = list(listen.messages)
        assert [one.get("method") for one in said] == [
            "notifications/subscriptions/acknowledged",
            "notifications/tools/list_changed",
            "notifications/cancelled",
            None,
        ]
        assert said[0]["params"]["notifications"] == CHANGED
        assert said[2]["params"]["requestId"] == said[3]["id"] == request_id
        assert said[3]["result"]["resultType"] == "complete"
        for one in said:
            held = one["result"] if "result" in one else one["params"]
            marked = held["_meta"][META + "subscriptionId"]
            assert (marked, type(marked)) == (request_id, type(request_id))


async def test_s1_8_listen_gets_only_what_it_asked_for(autojump_clock: MockClock) -> None:
    backend = complete(V2025_11_25)
    async with scripted_gateway(backend) as where:
        wanted: list[JsonObject] = [{}, CHANGED, {"promptsListChanged": True}, {"toolsListChanged": False}]
        streams = [where.modern_soon(LISTEN, {"notifications": one}, id=n) for n, one in enumerate(wanted, 1)]
        for stream in streams:
            await stream.until(lambda stream=stream: stream.events)  # type: ignore[misc]  # bound now
        await changed(where, backend)
        await backend.shout(notice("notifications/message", level="error", data="x"))
        await backend.shout(notice("notifications/progress", progressToken=1, progress=1))
        await backend.shout(notice("notifications/resources/updated", uri="memo://one"))
        await trio.sleep(1)
        assert [len(stream.messages) - 1 for stream in streams] == [0, 1, 0, 0]


async def test_s1_8_listen_acknowledges_what_is_honoured(autojump_clock: MockClock) -> None:
    uris: list[JsonValue] = ["memo://files/one", "memo://nobody/x"]
    wanted: JsonObject = {"resourceSubscriptions": uris, "madeUp": True, **CHANGED}
    async with scripted_gateway(complete(V2026_07_28), prefixes={"files": "f_"}) as where:
        listen = where.modern_soon(LISTEN, {"notifications": wanted})
        await listen.until(lambda: listen.events)
        said: list[Message] = list(listen.messages)
        assert said[0]["params"]["notifications"] == {"toolsListChanged": True, "resourceSubscriptions": uris[:1]}


async def test_s1_8_listen_ends_when_its_client_closes_it(autojump_clock: MockClock) -> None:
    backend = complete(V2025_11_25)
    async with scripted_gateway(backend) as where:
        listen = where.modern_soon(LISTEN, {"notifications": {"resourceSubscriptions": ["memo://one"]}})
        await listen.until(lambda: listen.events)
        listen.leave()
        await trio.sleep(1)
        assert backend.asked("resources/unsubscribe") == 1
        assert len(listen.messages) == 1


# --- 1.9 -------------------------------------------------------------------------------------------------------------

LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")


@pytest.mark.parametrize("backend", BACKENDS)
async def test_s1_9_cacheable_results_have_hints_and_others_none(autojump_clock: MockClock, backend: Era) -> None:
    async with scripted_gateway(complete(backend)) as where:
        for method, params in {**COMMON, "server/discover": {}}.items():
            result = result_of(await where.modern(method, params))
            if method in (*LISTS, "resources/read", "server/discover"):
                assert type(result["ttlMs"]) is int, method
                assert result["ttlMs"] >= 0, method
                assert result["cacheScope"] in ("public", "private"), method
            else:
                assert not {"ttlMs", "cacheScope"} & set(result), method


@pytest.mark.parametrize("cursor", ["", "x", "1.abc", "\u2603"])
@pytest.mark.parametrize("method", LISTS)
async def test_s1_9_an_invalid_cursor_is_32602(autojump_clock: MockClock, method: str, cursor: str) -> None:
    async with scripted_gateway(complete(V2025_11_25)) as where:
        session = await where.session()
        for reply in (await session.ask(method, {"cursor": cursor}), await where.modern(method, {"cursor": cursor})):
            assert error_of(reply)["code"] == -32602


async def test_s1_9_a_list_is_the_same_for_every_connection_and_in_order(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(tools=[tool(name) for name in ("z", "a", "m")])
    async with scripted_gateway(backend) as where:
        lists = [result_of(await where.modern("tools/list", id=number))["tools"] for number in range(3)]
        assert [[one["name"] for one in listed] for listed in lists] == [["z", "a", "m"]] * 3


async def test_s1_9_a_change_is_seen_at_once_by_the_next_list(autojump_clock: MockClock) -> None:
    backend = complete(V2026_07_28)
    async with scripted_gateway(backend) as where:
        await changed(where, backend)
        assert len(result_of(await where.modern("tools/list"))["tools"]) == 2


# --- 1.10 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, params", [(CALL, {"name": "nobody"}), ("prompts/get", {"name": "nobody"}), (CALL, {}), (CALL, {"name": 7})]
)
async def test_s1_10_an_unknown_name_is_32602(autojump_clock: MockClock, method: str, params: JsonObject) -> None:
    async with scripted_gateway(complete(V2025_11_25)) as where:
        session = await where.session()
        headers: JsonObject = {"Mcp-Name": str(params.get("name", ""))}
        for reply in (await session.ask(method, params), await where.modern(method, params, headers=headers)):
            assert error_of(reply)["code"] == -32602


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize("uri", ["memo://nobody/x", "memo://files/one"])
async def test_s1_10_a_missing_resource_has_the_eras_code_and_its_uri(
    autojump_clock: MockClock, version: str, backend: Era, uri: str
) -> None:
    """Whether the gateway finds no owner for it or the backend does not find it."""
    gone = refusing(-32602 if backend.modern else -32002, uri="memo://one")
    async with scripted_gateway(complete(backend, resources__read=gone), prefixes={"files": "f_"}) as where:
        if ERAS[version].modern:
            error = error_of(await where.modern("resources/read", {"uri": uri}))
        else:
            error = error_of(await (await where.session(version)).ask("resources/read", {"uri": uri}))
        assert error["code"] == (-32602 if ERAS[version].modern else -32002)
        assert error["data"] == {"uri": uri}


@pytest.mark.parametrize("backend", BACKENDS)
async def test_s1_10_a_tools_own_failure_is_a_result(autojump_clock: MockClock, backend: Era) -> None:
    failed = fixed(content=[{"type": "text", "text": "no"}], isError=True)
    async with scripted_gateway(complete(backend, tools__call=failed)) as where:
        for reply in (await (await where.session()).call("read"), await where.modern(CALL, {"name": "read"})):
            assert result_of(reply)["isError"] is True


async def logs(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    for level in ("debug", "warning", "emergency", "made-up"):  # nobody can say what the last one is below
        await hear(notice("notifications/message", level=level, data=level))
    return {"content": []}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("level, heard", [(None, 0), ("debug", 4), ("warning", 3), ("emergency", 2)])
async def test_s1_10_modern_logs_come_only_when_asked_for_and_from_that_level(
    autojump_clock: MockClock, backend: Era, level: str | None, heard: int
) -> None:
    async with scripted_gateway(complete(backend, tools__call=logs)) as where:
        reply = await where.modern(CALL, {"name": "read"}, level=level)
        assert len([one for one in reply.messages if one.get("method") == "notifications/message"]) == heard


async def test_s1_10_a_bad_log_level_is_32602(autojump_clock: MockClock) -> None:
    async with scripted_gateway(complete(V2025_11_25)) as where:
        session = await where.session()
        for reply in (
            await session.ask("logging/setLevel", {"level": "loud"}),
            await where.modern(CALL, {"name": "read"}, level="loud"),
        ):
            assert error_of(reply)["code"] == -32602


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("token", ["t", 0, 7, None])
async def test_s1_10_progress_has_the_requests_own_token_or_is_not_sent(
    autojump_clock: MockClock, backend: Era, token: JsonValue
) -> None:
    async def works(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        meta = params.get("_meta")
        upstream = meta.get("progressToken") if isinstance(meta, dict) else None
        assert (upstream is None) == (token is None)
        await hear(notice("notifications/progress", progressToken=upstream, progress=1.5, total=2, message="m"))
        return {"content": []}

    async with scripted_gateway(complete(backend, tools__call=works)) as where:
        more: JsonObject = {} if token is None else {"token": token}
        modern = await where.modern(CALL, {"name": "read"}, **more)
        params: JsonObject = {"name": "read"} if token is None else {"name": "read", "_meta": {"progressToken": token}}
        legacy = await (await where.session()).ask(CALL, params)
        for reply in (modern, legacy):
            said: list[Message] = [one for one in reply.messages if "method" in one]
            assert [one["params"] for one in said] == (
                [] if token is None else [{"progressToken": token, "progress": 1.5, "total": 2, "message": "m"}]
            )


@pytest.mark.parametrize("version", ERAS)
async def test_s1_10_results_and_items_have_what_the_version_knows(autojump_clock: MockClock, version: str) -> None:
    rich: JsonObject = {
        "name": "read",
        "title": "Read",
        "icons": [{"src": "https://x/i.png"}],
        "execution": {"taskSupport": "optional"},
        "inputSchema": {"type": "object", "$defs": {"a": {"$anchor": "x"}}},
        "outputSchema": {"type": "object"},
        "x-vendor": [1],
    }
    audio: JsonObject = {"type": "audio", "data": "", "mimeType": "a/b"}
    content: JsonValue = [audio, {"type": "resource_link", "uri": "memo://x", "name": "n"}]
    backend = complete(V2025_11_25, tools__call=fixed(content=content, structuredContent={"a": 1}))
    backend.tools = [rich]
    async with scripted_gateway(backend) as where:
        if ERAS[version].modern:
            item = result_of(await where.modern("tools/list"))["tools"][0]
            result = result_of(await where.modern(CALL, {"name": "read"}))
        else:
            session = await where.session(version)
            item = result_of(await session.ask("tools/list"))["tools"][0]
            result = result_of(await session.call("read"))
        assert item["inputSchema"] == rich["inputSchema"]
        assert item["x-vendor"] == [1]
        assert set(rich) - set(item) == {
            "2024-11-05": {"title", "icons", "execution", "outputSchema"},
            "2025-03-26": {"title", "icons", "execution", "outputSchema"},
            "2025-06-18": {"icons", "execution"},
        }.get(version, set())
        assert ("structuredContent" in result) == (version >= "2025-06-18")
        assert [one["type"] for one in result["content"]] == {
            "2024-11-05": ["text", "text"],
            "2025-03-26": ["audio", "text"],
        }.get(version, ["audio", "resource_link"])


@pytest.mark.parametrize("version", ERAS)
async def test_s1_10_structures_that_are_no_objects_reach_modern_clients_only(
    autojump_clock: MockClock, version: str
) -> None:
    backend = complete(V2026_07_28, tools__call=fixed(resultType="complete", content=[], structuredContent=[1, 2]))
    schema: JsonObject = {"outputSchema": {"type": "array"}}
    backend.tools = [tool("read") | schema]
    async with scripted_gateway(backend) as where:
        if ERAS[version].modern:
            item = result_of(await where.modern("tools/list"))["tools"][0]
            result = result_of(await where.modern(CALL, {"name": "read"}))
            assert (item["outputSchema"], result["structuredContent"]) == ({"type": "array"}, [1, 2])
        else:
            session = await where.session(version)
            item = result_of(await session.ask("tools/list"))["tools"][0]
            result = result_of(await session.call("read"))
            assert "outputSchema" not in item
            assert result == {"content": [{"type": "text", "text": "[1,2]"}]}


# --- 1.11 and 1.12 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("code", [-32002, -32042])
@pytest.mark.parametrize("method", [CALL, "prompts/get", "resources/read", "completion/complete"])
async def test_s1_12_legacy_codes_never_leave_the_modern_face(
    autojump_clock: MockClock, backend: Era, code: int, method: str
) -> None:
    async with scripted_gateway(complete(backend, **{method.replace("/", "__"): refusing(code)})) as where:
        reply = await where.modern(method, COMMON[method], capabilities={"elicitation": {"url": {}}})
        assert error_of(reply)["code"] not in (-32002, -32042)


URL: JsonObject = {"mode": "url", "message": "go", "url": "https://x/", "elicitationId": "e"}


@pytest.mark.parametrize("capabilities, status", [({"elicitation": {"url": {}}}, 200), ({"elicitation": {}}, 400)])
async def test_s1_11_urls_to_open_first_become_a_round_of_input_if_the_client_can(
    autojump_clock: MockClock, capabilities: JsonObject, status: int
) -> None:
    backend = complete(V2025_11_25, tools__call=refusing(-32042, elicitations=[URL]))
    async with scripted_gateway(backend) as where:
        reply = await where.modern(CALL, {"name": "read"}, capabilities=capabilities)
        assert reply.status == status
        if status == 200:
            params = {key: value for key, value in URL.items() if key != "elicitationId"}
            assert result_of(reply)["inputRequests"] == {"k1": {"method": "elicitation/create", "params": params}}
        else:
            error = error_of(reply)
            assert (error["code"], error["data"]) == (-32021, {"requiredCapabilities": {"elicitation": {"url": {}}}})


async def test_s1_12_own_codes_lie_outside_json_rpcs_and_say_what_happened(autojump_clock: MockClock) -> None:
    backend = complete(V2025_11_25)
    async with scripted_gateway(backend) as where:
        session = await where.session()
        await session.call("read")
        backend.up = False
        for reply in (await session.call("read"), await where.modern(CALL, {"name": "read"})):
            error = error_of(reply)
            assert not -32768 <= error["code"] <= -32000
            assert error["data"]["server"] == "files"
            assert error["data"]["executed"] in ("no", "unknown")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("code", [-32603, -32602, 7, -32000, -31999])
async def test_s1_12_a_backends_own_error_passes(autojump_clock: MockClock, backend: Era, code: int) -> None:
    async with scripted_gateway(complete(backend, tools__call=refusing(code))) as where:
        for reply in (await (await where.session()).call("read"), await where.modern(CALL, {"name": "read"})):
            assert reply.error == {"code": code, "message": "no"}
            assert reply.status == 200


@pytest.mark.parametrize("code, status", [(-32601, 404), (-32021, 400), (-32020, 400), (-32600, 400), (-32700, 400)])
async def test_s1_12_statuses_follow_the_code_on_the_modern_face_only(
    autojump_clock: MockClock, code: int, status: int
) -> None:
    async with scripted_gateway(complete(V2026_07_28, prompts__get=refusing(code))) as where:
        assert (await where.modern("prompts/get", {"name": "ask"})).status == status
        assert (await (await where.session()).ask("prompts/get", {"name": "ask"})).status == 200


@pytest.mark.parametrize("version, heard", [("2025-11-25", 1), ("2025-06-18", 0)])
async def test_s1_11_that_a_url_is_done_is_told_to_the_session_it_belongs_to(
    autojump_clock: MockClock, version: str, heard: int
) -> None:
    done = notice("notifications/elicitation/complete", elicitationId="e")

    async def during(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await hear(done)
        return {"content": []}

    def told(reply: RecordedReply) -> int:
        return len([one for one in reply.messages if one.get("method") == done.method])

    backend = complete(V2025_11_25, tools__call=during)
    async with scripted_gateway(backend) as where:
        session, other = await where.session(version), await where.session(version)
        streams = [session.stream(), other.stream()]
        await trio.sleep(1)
        call = await session.call("read")
        assert (told(call), told(await where.modern(CALL, {"name": "read"}))) == (heard, 0)
        await trio.sleep(2)
        await next(link for link in backend.open_links[1:] if link.stream is not None).say(done)
        await trio.sleep(1)
        assert [told(stream) for stream in streams] == [heard, 0]
