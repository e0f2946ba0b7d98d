"""Reference 1.2 and 1.13, as far as it takes a socket: Origin, Host, OPTIONS, and what proxies see of a stream."""

import pytest

from mcp_gateway.values import JsonObject
from tests.conformance.wire_backend import before, error, modern_backend, tool, wire_backend
from tests.support.gateway import running_gateway
from tests.support.raw_http import RawRequest, response

pytestmark = pytest.mark.wire

EVIL = "http://evil.example"
HELLO: JsonObject = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}


@pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost.evil.example", "https://127.0.0.1.evil.example"])
async def test_T3_an_invalid_origin_is_403_on_every_verb_and_path(origin: str) -> None:
    async with running_gateway([]) as running, running.client2025() as client:
        await client.initialize()
        for verb in ("POST", "GET", "DELETE", "OPTIONS", "PUT"):
            for path in ("/mcp", "/mcp/vs/x", "/sse", "/messages"):
                client.url = running.url.replace("/mcp", path)
                exchange = await client.http(verb, headers={"Origin": origin})
                assert exchange.status == 403, (verb, path)
        client.url = running.url
        assert (await client.ask("ping"))["result"] == {}  # the session was not ended


async def test_T3_a_403_may_say_why_without_an_id() -> None:
    async with running_gateway([]) as running, running.client2026() as client:
        exchange = await client.post(HELLO, {"Origin": EVIL})
        assert exchange.status == 403
        assert exchange.json["id"] is None
        assert "Origin" in exchange.json["error"]["message"]


@pytest.mark.parametrize(
    "origin", [None, "http://localhost:3000", "http://127.0.0.1", "http://[::1]:9", "https://ok.example"]
)
async def test_T3_no_origin_a_loopback_one_and_an_allowed_one_pass(origin: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin}
    async with running_gateway([], http={"allowedOrigins": ["https://ok.example"]}) as running:
        async with running.client2025() as client:
            exchange = await client.post(HELLO, headers)
            assert exchange.status == 200
            assert exchange.headers.get("access-control-allow-origin") == origin


async def test_s1_13_a_foreign_host_is_refused_where_a_browser_could_be_the_sender() -> None:
    async with running_gateway([]) as running, running.client2025() as client:
        await client.initialize()
        foreign = {"Host": "evil.example"}
        assert (await client.post(HELLO, {**foreign, "Origin": EVIL})).status in (403, 421)
        assert (await client.http("GET", headers={**foreign, "Accept": "text/event-stream"})).status in (403, 421)
        assert (await client.post(HELLO, foreign)).status == 200  # as curl with any name


async def test_s1_13_a_host_that_is_not_on_the_list_is_refused() -> None:
    async with running_gateway([], http={"allowedHosts": ["ok.example"]}) as running, running.client2025() as client:
        assert (await client.post(HELLO, {"Host": "other.example"})).status in (403, 421)
        assert (await client.post(HELLO, {"Host": "ok.example"})).status == 200


async def test_s1_13_a_preflight_is_answered_for_allowed_origins() -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "mcp-session-id, mcp-param-x"}
    async with running_gateway([]) as running, running.client2025() as client:
        exchange = await client.http("OPTIONS", headers={"Origin": "http://localhost:1", **asks})
        assert exchange.status == 204
        assert exchange.headers["access-control-allow-origin"] == "http://localhost:1"
        assert "POST" in exchange.headers["access-control-allow-methods"]
        assert "mcp-session-id" in exchange.headers["access-control-allow-headers"]
        answer = await client.post(HELLO, {"Origin": "http://localhost:1"})
        assert "mcp-session-id" in answer.headers["access-control-expose-headers"].lower()


async def test_T10_proxies_are_told_not_to_buffer_a_stream() -> None:
    def call(request: RawRequest) -> bytes:
        params = b'{"progressToken":%d,"progress":1}' % request.rpc_id
        progress = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":%b}' % params
        answer = b'data: {"jsonrpc":"2.0","id":%d,"result":{"resultType":"complete","content":[]}}'
        body = b"%b\n\n%b\n\n" % (progress, answer % request.rpc_id)
        return response(body, content_type="text/event-stream")

    async with wire_backend(modern_backend(tool("read"), tools__call=call)) as backend:
        async with running_gateway([{"name": "f", "url": backend.url}]) as running, running.client2026() as client:
            exchange = await client.start("tools/call", name="f_read", arguments={}, _meta={"progressToken": "p"})
            assert exchange.headers["content-type"] == "text/event-stream"
            assert (exchange.headers["x-accel-buffering"], exchange.headers["cache-control"]) == ("no", "no-store")
            progress, answer = await exchange.all()
            assert progress["params"]["progressToken"] == "p"
            assert answer["result"]["content"] == []
            assert [set(event) for event in exchange.events] == [{"data"}, {"data"}]  # no ids (T11)


async def test_s1_13_a_token_in_the_query_is_no_credential() -> None:
    """Nothing in a query is read but the session of HTTP+SSE."""
    async with running_gateway([]) as running, running.client2025() as client:
        client.url += "?access_token=x&sessionId=y"
        assert (await client.initialize())["protocolVersion"] == "2025-11-25"


@pytest.mark.parametrize(
    "said, passed",
    [
        ("400 Bad Request", 400),
        ("422 Unprocessable Content", 422),
        ("200 OK", 200),
        ("500 Internal Server Error", 200),
        ("407 Proxy Authentication Required", 200),
    ],
)
async def test_s1_12_an_error_without_a_status_of_its_own_keeps_its_servers(said: str, passed: int) -> None:
    def refuse(request: RawRequest) -> bytes:
        return error(request, -32602, said)

    async with wire_backend(modern_backend(tool("read"), tools__call=refuse)) as backend, before(backend) as running:
        async with running.client2026() as client:
            exchange = await client.start("tools/call", name="f_read", arguments={})
            assert (exchange.status, exchange.json["error"]["code"]) == (passed, -32602)
        async with running.client2025() as legacy:
            await legacy.initialize()
            assert (await legacy.start("tools/call", name="f_read", arguments={})).status == 200
