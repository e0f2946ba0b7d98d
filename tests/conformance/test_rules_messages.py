"""Reference 1.1 and 1.6 to 1.9: methods, metadata, rounds of input, subscriptions and lists."""

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.protocol.eras import ERAS, LEGACY_VERSIONS, V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import JsonObject, JsonValue
from tests.conformance.rule_steps import BACKENDS, CALL, COMMON, complete, error_of, fixed, result_of
from tests.support.raw_client import Message
from tests.support.scripted_gateway import ScriptedGateway, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, notice, tool

META = "io.modelcontextprotocol/"

# --- 1.1 -------------------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("ttl", [-1, 1.5, "1", None])
@pytest.mark.parametrize("scope", ["PUBLIC", "", 1, None])
async def test_s1_9_hints_of_a_backend_that_are_none_mean_do_not_keep_it(
    autojump_clock: MockClock, ttl: JsonValue, scope: JsonValue
) -> None:
    read = fixed(resultType="complete", contents=[], ttlMs=ttl, cacheScope=scope)
    async with scripted_gateway(complete(V2026_07_28, resources__read=read)) as where:
        result = result_of(await where.modern("resources/read", COMMON["resources/read"]))
        assert (result["ttlMs"], result["cacheScope"]) == (0, "private")


async def test_s1_9_hints_of_a_backend_pass(autojump_clock: MockClock) -> None:
    read = fixed(resultType="complete", contents=[], ttlMs=0, cacheScope="public")
    async with scripted_gateway(complete(V2026_07_28, resources__read=read)) as where:
        result = result_of(await where.modern("resources/read", COMMON["resources/read"]))
        assert (result["ttlMs"], result["cacheScope"]) == (0, "public")


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
