"""Reference 1.4, 1.5 and section 2: what legacy backends get, how the era is found, whose capabilities go upstream."""

import pytest

from mcp_gateway.values import JsonObject
from tests.conformance.wire_backend import (
    LEGACY,
    MODERN,
    Reply,
    WireBackend,
    before,
    called,
    discovered,
    error,
    initialized,
    legacy_backend,
    modern_backend,
    page,
    params,
    tool,
    wire_backend,
)
from tests.support.gateway import running_gateway
from tests.support.raw_http import RawRequest, response

pytestmark = pytest.mark.wire

META = "io.modelcontextprotocol/"


# --- 1.4: what a legacy backend gets ---------------------------------------------------------------------------------


async def test_s1_4_the_session_id_and_version_are_repeated_and_the_session_ended() -> None:
    replies = legacy_backend(tool("read"))
    async with wire_backend(replies, session="s-1") as backend:
        async with before(backend, protocol=LEGACY) as running, running.client2025() as client:
            await client.initialize(roots={})
            assert "result" in await client.call("f_read")
        first, *rest = backend.asked("initialize") + [
            request for request in backend.server.requests if request.body and request.json["method"] != "initialize"
        ]
        assert "mcp-session-id" not in first.headers
        later = [request for request in rest if request.json["method"] != "initialize"]
        assert {request.headers["mcp-session-id"] for request in later} == {"s-1"}
        assert {request.headers["mcp-protocol-version"] for request in later} == {LEGACY}
        assert not any(name.startswith(("mcp-method", "mcp-name")) for one in later for name in one.headers)
        assert len(backend.verbs("DELETE")) == 3  # the gateway's own session, its survey's, and the client's
        assert len(backend.asked("notifications/initialized")) == 3


async def test_s1_4_a_backend_without_a_get_stream_is_no_fault() -> None:
    capabilities: JsonObject = {"tools": {"listChanged": True}}
    replies = legacy_backend(tool("read"), initialize=initialized(LEGACY, capabilities))
    async with wire_backend(replies, session="s") as backend, before(backend, protocol=LEGACY) as running:
        async with running.client2025() as client:
            await client.initialize()
            stream = await client.stream()
            assert stream.status == 200
            assert "result" in await client.call("f_read")
        assert backend.verbs("GET")


async def test_s1_4_a_lost_session_is_opened_anew_and_the_call_repeated() -> None:
    lost: list[RawRequest] = []

    def call(request: RawRequest) -> JsonObject | bytes:
        if not lost:
            lost.append(request)
            return response(b"", status="404 Not Found")
        return {"content": []}

    replies = legacy_backend(tool("read"), tools__call=call)
    async with wire_backend(replies, session="s") as backend, before(backend, protocol=LEGACY) as running:
        async with running.client2025() as client:
            await client.initialize()
            assert "result" in await client.call("f_read")
        assert len(backend.asked("initialize")) == 4  # the gateway itself, its survey, the client twice
        assert len(backend.asked("tools/call")) == 2


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18"])
async def test_s1_5_a_backend_may_answer_with_an_older_version(version: str) -> None:
    replies = legacy_backend(tool("read"), version=version)
    async with wire_backend(replies, session="s") as backend, before(backend) as running:
        async with running.client2026() as client:
            assert "result" in await client.call("f_read")
        said = [request.headers.get("mcp-protocol-version") for request in backend.asked("tools/call")]
        assert said == [version if version >= "2025-06-18" else None]


# --- section 2: which era a backend speaks ---------------------------------------------------------------------------


async def test_s2_the_probe_is_server_discover_and_has_no_side_effects() -> None:
    async with wire_backend(legacy_backend(tool("read")), session="s") as backend, before(backend) as running:
        async with running.client2026() as client:
            assert await client.list() == ["f_read"]
        assert backend.server.requests[0].json["method"] == "server/discover"
        assert backend.asked("tools/call") == []
        assert len(backend.asked("server/discover")) == 1  # the verdict is kept


def refusing_version(request: RawRequest) -> bytes:
    return error(request, -32022, supported=["2025-06-18"], requested=MODERN)


@pytest.mark.parametrize(
    "discover, offered",
    [
        pytest.param(lambda request: error(request, -32600), LEGACY, id="400 of mcp 1.30"),
        pytest.param(lambda request: error(request, -32601, "404 Not Found"), LEGACY, id="404 of a front"),
        pytest.param(lambda request: {}, LEGACY, id="200 without a version"),
        pytest.param(refusing_version, "2025-06-18", id="-32022 with a legacy version"),
    ],
)
async def test_s2_any_other_answer_means_initialize(discover: Reply, offered: str) -> None:
    replies = legacy_backend(tool("read"), server__discover=discover)
    async with wire_backend(replies, session="s") as backend, before(backend) as running:
        async with running.client2025() as client:
            await client.initialize()
            assert "result" in await client.call("f_read")
        assert params(backend.asked("initialize")[0])["protocolVersion"] == offered


async def test_s2_a_modern_error_means_modern() -> None:
    asked: list[RawRequest] = []

    def discover(request: RawRequest) -> JsonObject | bytes:
        asked.append(request)
        found = discovered({"tools": {}})(request)
        assert isinstance(found, dict)
        return error(request, -32022, supported=[MODERN], requested="x") if len(asked) == 1 else found

    replies = modern_backend(tool("read"), server__discover=discover)
    async with wire_backend(replies) as backend, before(backend) as running:
        async with running.client2026() as client:
            assert await client.list() == ["f_read"]
            assert "result" in await client.call("f_read")
        used = [request for method in ("tools/list", "tools/call") for request in backend.asked(method)]
        assert {request.headers["mcp-protocol-version"] for request in used} == {MODERN}


# --- section 2: whose capabilities and whose metadata ----------------------------------------------------------------


async def test_s2_the_callers_capabilities_go_upstream_and_never_the_gateways() -> None:
    async with wire_backend(modern_backend(tool("read"))) as backend, before(backend) as running:
        async with running.client2025() as old, running.client2026(roots={"x": 1}) as new:
            await old.initialize(sampling={"tools": {}})
            await old.call("f_read")
            await new.call("f_read")
            await new.ask("tools/call", name="f_read", _meta={META + "clientCapabilities": {}})
        metas = [params(request)["_meta"] for request in backend.asked("tools/call")]
        assert [meta[META + "clientCapabilities"] for meta in metas] == [
            {"sampling": {"tools": {}}},
            {"roots": {"x": 1}},
            {},
        ]
        assert {meta[META + "clientInfo"]["name"] for meta in metas} == {"raw-client"}


async def test_s2_modern_callers_share_an_upstream_session_only_with_equal_capabilities() -> None:
    async with wire_backend(legacy_backend(tool("read")), session="s") as backend:
        async with before(backend, protocol=LEGACY) as running:
            async with running.client2026() as plain, running.client2026(roots={}) as able:
                for client in (plain, plain, able, able):
                    assert "result" in await client.call("f_read")
        own, survey, *callers = [params(request)["capabilities"] for request in backend.asked("initialize")]
        assert (own, callers) == ({}, [{}, {"roots": {}}])
        assert set(survey) == {"sampling", "elicitation", "roots"}


async def test_s1_11_tasks_at_clients_are_promised_to_no_backend_and_the_extension_to_modern_ones() -> None:
    extension: JsonObject = {"io.modelcontextprotocol/tasks": {}, "a/b": {}}
    async with wire_backend(modern_backend(tool("read"))) as backend, before(backend) as running:
        async with running.client2026(extensions=extension) as new, running.client2025() as old:
            await new.call("f_read")
            await old.initialize(tasks={"list": {}}, roots={}, extensions=extension)
            await old.ask("tools/call", name="f_read", task={"ttl": 1})
        first, second = (params(request) for request in backend.asked("tools/call"))
        assert first["_meta"][META + "clientCapabilities"] == {"extensions": extension}
        assert second["_meta"][META + "clientCapabilities"] == {"roots": {}, "extensions": {"a/b": {}}}
        assert "task" not in second


async def test_s1_6_reserved_keys_are_made_anew_and_every_other_one_passes() -> None:
    meta = {"traceparent": "00-1", "a.b/c": [1.50], "progressToken": "mine", META + "related-task": {"taskId": "t"}}
    passing: JsonObject = {"traceparent": "00-1", "a.b/c": [1.5], META + "related-task": {"taskId": "t"}}
    replies = modern_backend(tool("read"), tools__call=called(_meta={"x/y": 1, META + "serverInfo": {"name": "wire"}}))
    async with wire_backend(replies) as backend, before(backend) as running:
        async with running.client2026() as client:
            result = (await client.ask("tools/call", name="f_read", _meta=meta))["result"]
        (request,) = backend.asked("tools/call")
        sent = params(request)["_meta"]
        assert isinstance(sent, dict)
        assert sent.pop("progressToken") == request.rpc_id  # mapped, and unique on this hop
        own = {META + name for name in ("protocolVersion", "clientCapabilities", "clientInfo")}
        assert {key: value for key, value in sent.items() if key not in own} == passing
        assert result["_meta"]["x/y"] == 1
        assert result["_meta"][META + "serverInfo"]["name"] == "mcp-gateway"


# --- 1.9: lists of backends ------------------------------------------------------------------------------------------


async def test_s1_9_every_page_is_followed_and_an_empty_cursor_is_a_cursor() -> None:
    def listed(request: RawRequest) -> JsonObject:
        cursor = params(request).get("cursor")
        if cursor is None:
            return page("tools", tool("one"), nextCursor="")
        if cursor == "":
            return page("tools", tool("two"), nextCursor="opaque \u2603")
        assert cursor == "opaque \u2603"
        return page("tools", tool("three"))

    async with wire_backend(modern_backend(tools__list=listed)) as backend, before(backend) as running:
        async with running.client2026() as client:
            assert await client.list() == ["f_one", "f_two", "f_three"]
        assert len(backend.asked("tools/list")) == 3


async def test_s1_9_merged_lists_have_the_shortest_life_and_private_wins() -> None:
    def hints(ttl: int, scope: str) -> dict[str, Reply]:
        return modern_backend(tools__list=lambda request: page("tools", tool("t"), ttlMs=ttl, cacheScope=scope))

    async def listed(*backends: WireBackend) -> tuple[int, str]:
        servers = [{"name": f"s{number}", "url": one.url} for number, one in enumerate(backends)]
        async with running_gateway(servers) as running, running.client2026() as client:
            result = (await client.ask("tools/list"))["result"]
            return result["ttlMs"], result["cacheScope"]

    async with (
        wire_backend(hints(60_000, "public")) as long,
        wire_backend(hints(30_000, "public")) as short,
        wire_backend(hints(90_000, "private")) as private,
    ):
        assert await listed(long, short) == (30_000, "public")
        assert await listed(long, private) == (60_000, "private")


async def test_s1_13_a_clients_own_token_and_headers_reach_no_backend() -> None:
    async with wire_backend(modern_backend(tool("read"))) as backend, before(backend) as running:
        async with running.client2026() as client:
            secret = {"Authorization": "Bearer mine", "Cookie": "a=b", "X-Else": "1", "Mcp-Param-Unknown": "x"}
            exchange = await client.start("tools/call", None, secret, name="f_read", arguments={})
            assert "result" in await exchange.response()
        (request,) = backend.asked("tools/call")
        assert not {"authorization", "cookie", "x-else", "mcp-param-unknown"} & set(request.headers)
