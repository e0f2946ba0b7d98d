"""Reference 1.10 to 1.12: errors, logs, progress, results of each version, URLs to open first."""

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.protocol.eras import ERAS, V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import JsonObject, JsonValue
from tests.conformance.rule_steps import BACKENDS, CALL, COMMON, complete, error_of, fixed, result_of
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply, scripted_gateway
from tests.support.scripted_link import Handler, Refusal, ScriptedLink, notice, tool


def refusing(code: int, **data: JsonValue) -> Handler:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(code, data=dict(data) if data else None)

    return handle


# --- 1.10 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, params", [(CALL, {"name": "nobody"}), ("prompts/get", {"name": "nobody"}), (CALL, {}), (CALL, {"name": 7})]
)
async def test_s1_10_an_unknown_name_is_32602(autojump_clock: MockClock, method: str, params: JsonObject) -> None:
    """Acceptance cases K-118, K-162."""
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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("token", [1.5, True, [1], {"a": 1}])
async def test_s1_10_what_is_no_progress_token_asks_for_no_progress(
    autojump_clock: MockClock, backend: Era, token: JsonValue
) -> None:
    async def works(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        meta = params.get("_meta", {})
        assert isinstance(meta, dict)
        assert "progressToken" not in meta
        await hear(notice("notifications/progress", progressToken=1, progress=1))
        return {"content": []}

    async with scripted_gateway(complete(backend, tools__call=works)) as where:
        params: JsonObject = {"name": "read", "_meta": {"progressToken": token}}
        for reply in (
            await where.modern(CALL, {"name": "read"}, token=token),
            await (await where.session()).ask(CALL, params),
        ):
            assert [one for one in reply.messages if "method" in one] == []
            assert "result" in reply.answer


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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("code", [-32020, -32021, -32022, -32023, -32050, -32099])
async def test_s1_12_reserved_codes_reach_a_modern_client_only_with_their_meaning(
    autojump_clock: MockClock, backend: Era, code: int
) -> None:
    """A 2025 server may use them for anything, a 2026 one for three things, of which one is said of our hop alone."""
    async with scripted_gateway(complete(backend, tools__call=refusing(code, why="x"))) as where:
        modern = error_of(await where.modern(CALL, {"name": "read"}))
        legacy = error_of(await (await where.session()).call("read"))
        if backend.modern and code == -32022:
            assert {modern["code"], legacy["code"]} == {-33520}
            return
        defined = backend.modern and code >= -32022
        assert modern == {"code": code if defined else -32603, "message": "no", "data": {"why": "x"}}
        assert legacy["code"] == code


@pytest.mark.parametrize("backend", BACKENDS)
async def test_s1_12_a_capability_that_is_missing_is_told_by_servers_of_both_eras(
    autojump_clock: MockClock, backend: Era
) -> None:
    needed: JsonObject = {"requiredCapabilities": {"sampling": {}}}
    refuses = refusing(-32021, requiredCapabilities={"sampling": {}})
    async with scripted_gateway(complete(backend, tools__call=refuses)) as where:
        reply = await where.modern(CALL, {"name": "read"})
        assert (reply.status, error_of(reply)) == (400, {"code": -32021, "message": "no", "data": needed})


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
