"""The command line's client against servers that do exactly what a script says."""

import orjson
import pytest
import trio

from mcp_gateway.client import BadAnswer, Client, Refused, Unreachable, open_client
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.raw_http import RawConnection, RawRequest, event, response, result, serve_raw

pytestmark = pytest.mark.wire

SESSION = b"Mcp-Session-Id: s1\r\n"
HELLO = b'{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"old"},"instructions":"be kind"}'
MODERN = (
    b'{"supportedVersions":["2026-07-28"],"capabilities":{},"resultType":"complete",'
    b'"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"new"}}}'
)


def failure(rpc_id: int | str | None, code: int, data: JsonValue = None) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": rpc_id, "error": {"code": code, "message": "no", "data": data}})


async def legacy(connection: RawConnection, request: RawRequest) -> bool:
    """Answer what every legacy server answers; False if this request is the test's."""
    if request.method == "DELETE":
        await connection.send(response(b"", status="200 OK"))
        return True
    message = request.json if request.body else {}
    match message.get("method"):
        case "server/discover":
            await connection.send_json(failure(None, -32000), status="400 Bad Request")
        case "initialize":
            await connection.send_json(result(request.rpc_id, HELLO), extra=SESSION)
        case "tools/list" | "tools/call":
            return False
        case _ if request.method == "POST":
            await connection.send(response(b"", status="202 Accepted"))
        case _:
            return False
    return True


async def call(client: Client, name: str = "add", **arguments: JsonValue) -> JsonObject:
    return await client.call(name, dict(arguments), None, lambda *_: None)


async def test_an_old_server_gets_a_handshake_a_session_and_a_goodbye() -> None:
    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            if not await legacy(connection, request):
                await connection.send_json(result(request.rpc_id, b'{"tools":[{"name":"a"},5]}'))

    async with serve_raw(script) as server:
        async with open_client(server.url, ((b"X-Team", b"red"),)) as client:
            hello = client.connection.hello
            assert (client.era.version, hello.server_info, hello.instructions) == (
                "2025-11-25",
                {"name": "old"},
                "be kind",
            )
            assert await client.tools() == [{"name": "a"}]
    discover, initialize, initialized, tools, goodbye = server.requests
    assert discover.headers["mcp-protocol-version"] == "2026-07-28"
    assert discover.headers["mcp-method"] == "server/discover"
    assert "mcp-protocol-version" not in initialize.headers
    assert initialized.json["method"] == "notifications/initialized"
    for request in (initialized, tools, goodbye):
        assert request.headers["mcp-session-id"] == "s1"
        assert request.headers["mcp-protocol-version"] == "2025-11-25"
        assert request.headers["x-team"] == "red"
    assert goodbye.method == "DELETE"


async def test_a_modern_server_gets_its_headers_and_metadata() -> None:
    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            answer = MODERN if request.json["method"] == "server/discover" else b'{"content":[]}'
            await connection.send_json(result(request.rpc_id, answer))

    schema: JsonValue = {"properties": {"city": {"type": "string", "x-mcp-header": "City"}}}
    async with serve_raw(script) as server:
        async with open_client(server.url) as client:
            assert (client.era.version, client.connection.hello.server_info) == ("2026-07-28", {"name": "new"})
            assert await client.call("füge", {"city": "Köln"}, schema, lambda *_: None) == {"content": []}
    sent = server.requests[1]
    assert sent.headers["mcp-method"] == "tools/call"
    assert sent.headers["mcp-name"] == "=?base64?ZsO8Z2U=?="
    assert sent.headers["mcp-param-city"] == "=?base64?S8O2bG4=?="
    params = sent.json["params"]
    assert isinstance(params, dict)
    meta = params["_meta"]
    assert isinstance(meta, dict)
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {}
    assert meta["progressToken"] == sent.json["id"]


async def test_a_tool_with_broken_header_annotations_is_not_called() -> None:
    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            await connection.send_json(result(request.rpc_id, MODERN))

    schema: JsonValue = {"properties": {"city": {"type": "string", "x-mcp-header": "a b"}}}
    async with serve_raw(script) as server, open_client(server.url) as client:
        with pytest.raises(BadAnswer, match="has a tool that cannot be called"):
            await client.call("add", {}, schema, lambda *_: None)


async def test_pages_are_followed_to_the_end() -> None:
    pages = {None: b'{"tools":[{"name":"a"}],"nextCursor":""}', "": b'{"tools":[{"name":"b"}]}'}

    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            if not await legacy(connection, request):
                params = request.json["params"]
                assert isinstance(params, dict)
                cursor = params.get("cursor")
                assert cursor is None or isinstance(cursor, str)
                await connection.send_json(result(request.rpc_id, pages[cursor]))

    async with serve_raw(script) as server, open_client(server.url) as client:
        assert await client.tools() == [{"name": "a"}, {"name": "b"}]


async def test_pages_without_end_are_given_up() -> None:
    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            if not await legacy(connection, request):
                await connection.send_json(result(request.rpc_id, b'{"tools":[],"nextCursor":"%d"}' % request.rpc_id))

    async with serve_raw(script) as server, open_client(server.url) as client:
        with pytest.raises(BadAnswer, match="more than 100 pages"):
            await client.tools()


async def test_a_stream_brings_progress_pings_and_the_answer() -> None:
    heard: list[tuple[str, JsonObject]] = []

    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            if await legacy(connection, request):
                continue
            await connection.begin_events()
            progress = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}'
            for data in (
                b"",
                progress,
                b'{"jsonrpc":"2.0","id":7,"method":"ping"}',
                b'{"jsonrpc":"2.0","id":"x","method":"roots/list"}',
                result(request.rpc_id, b'{"content":[]}'),
            ):
                await connection.send_chunk(event(data))
            await connection.end_chunks()

    async with serve_raw(script) as server:
        async with open_client(server.url) as client:
            answer = await client.call("add", {}, None, lambda method, params: heard.append((method, params)))
    assert answer == {"content": []}
    assert heard == [("notifications/progress", {"progress": 1})]
    answers = {str(body["id"]): body for body in server.bodies if "result" in body or "error" in body}
    assert answers["7"] == {"jsonrpc": "2.0", "id": 7, "result": {}}
    assert answers["x"]["error"] == {"code": -32601, "message": "Method not found"}


async def test_a_stream_that_ends_early_is_resumed() -> None:
    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            if await legacy(connection, request):
                continue
            await connection.begin_events()
            if request.method == "POST":
                await connection.send_chunk(event(b"", event_id="e1", retry=10))
            else:
                assert request.headers["last-event-id"] == "e1"
                calls = [body for body in server.bodies if body.get("method") == "tools/call"]
                assert isinstance(calls[0]["id"], int)
                await connection.send_chunk(event(result(calls[0]["id"], b'{"content":[]}'), event_id="e2"))
            await connection.end_chunks()

    async with serve_raw(script) as server, open_client(server.url) as client:
        with trio.fail_after(2):
            assert await call(client) == {"content": []}


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_stream_that_ends_for_good_is_an_error(resumable: bool) -> None:
    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            if await legacy(connection, request):
                continue
            if request.method == "GET":
                await connection.send_json(b"{}")
                continue
            await connection.begin_events()
            await connection.send_chunk(event(b"", event_id="e1" if resumable else None, retry=1))
            await connection.end_chunks()

    async with serve_raw(script) as server, open_client(server.url) as client:
        with pytest.raises(BadAnswer, match="its event stream ended without the answer"):
            await call(client)


async def test_a_call_that_is_left_is_cancelled_at_the_server() -> None:
    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            if not await legacy(connection, request):
                called.set()

    called = trio.Event()
    async with serve_raw(script) as server:
        async with open_client(server.url) as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call, client)
                await called.wait()
                nursery.cancel_scope.cancel("test")
        sent = next(body for body in server.bodies if body.get("method") == "tools/call")
        notice = next(body for body in server.bodies if body.get("method") == "notifications/cancelled")
    assert notice["params"] == {"requestId": sent["id"], "reason": "test"}


async def test_an_error_keeps_its_code_message_and_data() -> None:
    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            if not await legacy(connection, request):
                await connection.send_json(failure(request.rpc_id, -32602, {"a": 1}))

    async with serve_raw(script) as server, open_client(server.url) as client:
        with pytest.raises(Refused) as refused:
            await call(client)
    assert (refused.value.code, refused.value.data) == (-32602, {"a": 1})
    assert str(refused.value) == "the server answered error -32602: no"


@pytest.mark.parametrize(
    "answer, why",
    [
        pytest.param(response(b"", status="401 Unauthorized"), "asks for a credential (HTTP 401)", id="401"),
        pytest.param(
            response(b"", status="302 Found", extra=b"Location: http://b/\r\n"),
            "does not speak MCP: a redirect to http://b/ (HTTP 302)",
            id="302",
        ),
        pytest.param(
            response(b"<html>", content_type="text/html"),
            "does not speak MCP: a request was answered by HTTP 200 with text/html",
            id="html",
        ),
        pytest.param(response(b"{nope"), "does not speak MCP: an answer that is not JSON-RPC: not JSON", id="no JSON"),
        pytest.param(response(b"[]"), "does not speak MCP: an answer that is not JSON-RPC: not an object", id="array"),
        pytest.param(
            response(b'{"jsonrpc":"2.0","id":1}'),
            "does not speak MCP: an answer that is not JSON-RPC: a message",
            id="neither",
        ),
        pytest.param(
            response(result(1, b'{"protocolVersion":"1999-01-01"}')),
            "does not speak MCP: initialize was answered with version '1999-01-01'",
            id="version",
        ),
    ],
)
async def test_what_does_not_speak_mcp_is_one_clear_sentence(answer: bytes, why: str) -> None:
    async def script(connection: RawConnection) -> None:
        while await connection.read_request():
            await connection.send(answer)

    async with serve_raw(script) as server:
        with pytest.raises(BadAnswer) as bad:
            async with open_client(server.url):
                pytest.fail("it was taken for a server")
    assert str(bad.value).startswith(f"{server.url} {why}")


@pytest.mark.parametrize(
    "discover, modern",
    [
        pytest.param(result(1, MODERN), True, id="a modern server"),
        pytest.param(failure(1, -32022, {"supported": ["2025-11-25"]}), False, id="supports older ones"),
        pytest.param(failure(1, -32601), False, id="knows no such method"),
        pytest.param(result(1, b'{"supportedVersions":["2027-01-01"]}'), False, id="a future server"),
        pytest.param(result(1, b"{}"), False, id="anything"),
    ],
)
async def test_the_era_follows_from_what_discover_says(discover: bytes, modern: bool) -> None:
    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            if request.body and request.json["method"] == "server/discover":
                await connection.send_json(discover)
            else:
                await legacy(connection, request)

    async with serve_raw(script) as server, open_client(server.url) as client:
        assert client.era.modern is modern


async def test_a_list_without_tools_is_an_error() -> None:
    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            if not await legacy(connection, request):
                await connection.send_json(result(request.rpc_id))

    async with serve_raw(script) as server, open_client(server.url) as client:
        with pytest.raises(BadAnswer, match="answered tools/list without tools"):
            await client.tools()


async def test_a_reset_connection_is_unreachable_and_the_goodbye_does_not_hide_it() -> None:
    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            if request.method == "DELETE" or not await legacy(connection, request):
                connection.reset()
                return

    async with serve_raw(script) as server:
        with pytest.raises(Unreachable, match="cannot reach"):
            async with open_client(server.url) as client:
                await client.tools()


async def test_a_server_of_2024_is_spoken_to_over_http_and_sse() -> None:
    stream: list[RawConnection] = []

    async def script(connection: RawConnection) -> None:
        while request := await connection.read_request():
            if request.method == "GET":
                stream.append(connection)
                await connection.begin_events()
                await connection.send_chunk(b"event: endpoint\ndata: /messages\n\n")
                continue
            if request.target != "/messages":
                await connection.send(response(b"", status="405 Method Not Allowed"))
                continue
            await connection.send(response(b"", status="202 Accepted"))
            if "id" in request.json:
                answer = HELLO if request.json["method"] == "initialize" else b'{"tools":[{"name":"a"}]}'
                await stream[0].send_chunk(event(result(request.rpc_id, answer)))

    async with serve_raw(script) as server, open_client(server.url) as client:
        assert await client.tools() == [{"name": "a"}]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "127.0.0.1", "http://[::1", "http://127.0.0.1:99999/"])
async def test_what_is_no_url_cannot_be_reached(url: str) -> None:
    with pytest.raises(Unreachable):
        async with open_client(url):
            pytest.fail("it was reached")
