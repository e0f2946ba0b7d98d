"""Reference 1.3 and section 2: what backends get, over real sockets, and what the gateway makes of their answers."""

import base64

import orjson
import pytest

from mcp_gateway.values import JsonObject
from tests.conformance.wire_backend import (
    MODERN,
    before,
    discovered,
    error,
    modern_backend,
    page,
    params,
    tool,
    wire_backend,
)
from tests.support.raw_http import RawRequest, response

pytestmark = pytest.mark.wire

META = "io.modelcontextprotocol/"

BOTH = "application/json, text/event-stream"

# --- 1.3: what a modern backend gets ---------------------------------------------------------------------------------


async def test_s1_3_every_modern_request_is_a_post_with_all_its_headers() -> None:
    async with wire_backend(modern_backend(tool("read"))) as backend, before(backend) as running:
        async with running.client2026(sampling={}) as client:
            await client.call("f_read")
        # A server of 2026 is asked once whether it speaks 2025 too, which this one does not.
        modern = [request for request in backend.server.requests if request.json["method"] != "initialize"]
        for request in modern:
            body = request.json
            meta = params(request)["_meta"]
            assert (request.method, request.headers["accept"]) == ("POST", BOTH)
            assert request.headers["mcp-method"] == body["method"]
            assert request.headers["mcp-protocol-version"] == meta[META + "protocolVersion"] == MODERN
            assert META + "clientCapabilities" in meta
            assert "mcp-session-id" not in request.headers
            assert request.headers["host"] == f"127.0.0.1:{backend.server.port}"  # its own, never the client's
        assert {str(request.json["method"]) for request in modern} == {"server/discover", "tools/list", "tools/call"}


async def test_s1_3_mcp_name_is_recomputed_for_the_backends_own_name() -> None:
    replies = modern_backend(
        tool("read"),
        server__discover=discovered({"tools": {}, "prompts": {}, "resources": {}}),
        prompts__list=lambda request: page("prompts", {"name": "ask"}),
        prompts__get=lambda request: {"resultType": "complete", "messages": []},
        resources__list=lambda request: page("resources", {"uri": "file:///a", "name": "a"}),
        resources__templates__list=lambda request: page("resourceTemplates"),
        resources__read=lambda request: page("contents", {"uri": "file:///a", "text": "x"}),
    )
    async with wire_backend(replies) as backend, before(backend) as running:
        async with running.client2026() as client:
            (uri,) = await client.list("resources")
            assert "result" in await client.call("f_read")
            assert "result" in await client.ask("prompts/get", name="f_ask")
            assert "result" in await client.ask("resources/read", uri=uri)
        names = {
            method: backend.asked(method)[0].headers["mcp-name"]
            for method in ("tools/call", "prompts/get", "resources/read")
        }
        assert names == {"tools/call": "read", "prompts/get": "ask", "resources/read": "file:///a"}
        assert params(backend.asked("resources/read")[0])["uri"] == "file:///a"


async def test_s1_3_values_that_are_no_header_are_sent_as_base64() -> None:
    odd = tool("größe", where={"type": "string", "x-mcp-header": "Where"})
    async with wire_backend(modern_backend(odd)) as backend, before(backend) as running:
        async with running.client2025() as client:
            await client.initialize()
            for where in ("plain", " edge", "zwölf", "=?base64?eA==?=", "two\nlines"):
                assert "result" in await client.call("f_größe", {"where": where})
        sent = [request.headers for request in backend.asked("tools/call")]
        assert {headers["mcp-name"] for headers in sent} == {encoded("größe")}
        assert [headers["mcp-param-where"] for headers in sent] == [
            "plain",
            *(encoded(text) for text in (" edge", "zwölf", "=?base64?eA==?=", "two\nlines")),
        ]


def encoded(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


async def test_s1_3_annotated_arguments_are_mirrored_for_clients_that_cannot() -> None:
    annotated = tool(
        "scale",
        region={"type": "string", "x-mcp-header": "Region"},
        count={"type": "integer", "x-mcp-header": "Count"},
        dry={"type": "boolean", "x-mcp-header": "Dry"},
        note={"type": "string"},
        deep={"type": "object", "properties": {"zone": {"type": "string", "x-mcp-header": "Zone"}}},
    )
    async with wire_backend(modern_backend(annotated)) as backend, before(backend) as running:
        async with running.client2025() as client:
            await client.initialize()
            await client.call("f_scale", {"region": "eu", "count": 42, "dry": True, "note": "n", "deep": {"zone": "b"}})
            await client.call("f_scale", {"region": None})
        full, empty = ({k: v for k, v in r.headers.items() if "param" in k} for r in backend.asked("tools/call"))
        assert full == {
            "mcp-param-region": "eu",
            "mcp-param-count": "42",
            "mcp-param-dry": "true",
            "mcp-param-zone": "b",
        }
        assert empty == {}


async def test_s1_3_a_tool_with_a_bad_annotation_is_left_out_and_hides_no_other() -> None:
    bad = [
        tool("empty", a={"type": "string", "x-mcp-header": ""}),
        tool("number", a={"type": "number", "x-mcp-header": "A"}),
        tool("twice", a={"type": "string", "x-mcp-header": "A"}, b={"type": "string", "x-mcp-header": "a"}),
        tool("items", a={"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}),
        tool("either", a={"anyOf": [{"type": "string", "x-mcp-header": "A"}]}),
    ]
    async with wire_backend(modern_backend(*bad, tool("good"))) as backend, before(backend) as running:
        async with running.client2026() as client:
            assert await client.list() == ["f_good"]
        (snapshot,) = running.fleet.snapshots.value.values()
        assert [problem.name for problem in snapshot.problems] == ["empty", "number", "twice", "items", "either"]


@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_s1_3_a_header_mismatch_refreshes_the_list_and_retries_once(era: str) -> None:
    state = {"header": "Old"}

    def listed(request: RawRequest) -> JsonObject:
        return page("tools", tool("read", where={"type": "string", "x-mcp-header": state["header"]}))

    def call(request: RawRequest) -> JsonObject | bytes:
        state["header"] = "New"
        ok = request.headers.get("mcp-param-new") == "eu"
        return {"resultType": "complete", "content": []} if ok else error(request, -32020)

    replies = modern_backend(tools__list=listed, tools__call=call)
    async with wire_backend(replies) as backend, before(backend) as running:
        if era == "2025":
            async with running.client2025() as old:
                await old.initialize()
                answer = await old.call("f_read", {"where": "eu"})
        else:
            async with running.client2026() as new:
                headers = {"Mcp-Param-Old": "eu"}
                answer = await (
                    await new.start("tools/call", None, headers, name="f_read", arguments={"where": "eu"})
                ).response()
        assert "result" in answer
        first, second = backend.asked("tools/call")
        assert first.rpc_id != second.rpc_id
        assert params(first) == params(second)
        assert "mcp-param-old" not in second.headers


async def test_s1_3_a_mismatch_that_no_list_explains_is_told_to_the_client() -> None:
    replies = modern_backend(tool("read"), tools__call=lambda request: error(request, -32020))
    async with wire_backend(replies) as backend, before(backend) as running:
        async with running.client2026() as client:
            exchange = await client.start("tools/call", name="f_read", arguments={})
            answer = await exchange.response()
        assert (exchange.status, answer["error"]["code"]) == (400, -32020)
        assert len(backend.asked("tools/call")) == 1


@pytest.mark.parametrize("stream", [pytest.param(False, id="json"), pytest.param(True, id="events")])
async def test_s1_3_both_answer_forms_are_read_and_comments_ignored(stream: bool) -> None:
    def call(request: RawRequest) -> bytes:
        body = orjson.dumps(
            {"jsonrpc": "2.0", "id": request.rpc_id, "result": {"resultType": "complete", "content": []}}
        )
        if not stream:
            return response(body)
        return response(b": alive\n\n:\n\ndata: %b\n\n" % body, content_type="text/event-stream")

    async with wire_backend(modern_backend(tool("read"), tools__call=call)) as backend, before(backend) as running:
        async with running.client2026() as client:
            assert (await client.call("f_read"))["result"]["content"] == []


async def test_s1_3_a_broken_stream_loses_the_call_which_is_not_repeated() -> None:
    def call(request: RawRequest) -> bytes:
        return response(b": nothing more\n\n", content_type="text/event-stream")

    async with wire_backend(modern_backend(tool("read"), tools__call=call)) as backend, before(backend) as running:
        async with running.client2026() as client:
            error = (await client.call("f_read"))["error"]
        assert error["data"]["executed"] == "unknown"
        assert len(backend.asked("tools/call")) == 1  # a tool may have acted: repeating it is the client's decision


@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_s1_3_an_absent_result_type_means_complete(era: str) -> None:
    replies = modern_backend(tool("read"), tools__call=lambda request: {"content": [], "x-vendor": 1})
    async with wire_backend(replies) as backend, before(backend) as running:
        if era == "2025":
            async with running.client2025() as old:
                await old.initialize()
                assert (await old.call("f_read"))["result"] == {"content": [], "x-vendor": 1}
        else:
            async with running.client2026() as new:
                result = (await new.call("f_read"))["result"]
                assert (result["resultType"], result["x-vendor"]) == ("complete", 1)


@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_s1_3_a_result_of_an_unknown_type_is_invalid(era: str) -> None:
    replies = modern_backend(tool("read"), tools__call=lambda request: {"resultType": "task", "taskId": "t"})
    async with wire_backend(replies) as backend, before(backend) as running:
        if era == "2025":
            async with running.client2025() as old:
                await old.initialize()
                error = (await old.call("f_read"))["error"]
        else:
            async with running.client2026() as new:
                error = (await new.call("f_read"))["error"]
        assert (error["code"], error["data"]["reason"]) == (-33520, "backend_protocol")
        assert error["data"]["executed"] == "yes"


async def test_s1_3_redirects_are_refused() -> None:
    async with wire_backend(modern_backend()) as elsewhere:

        def call(request: RawRequest) -> bytes:
            return response(b"", status="307 Temporary Redirect", extra=f"Location: {elsewhere.url}\r\n".encode())

        async with wire_backend(modern_backend(tool("read"), tools__call=call)) as backend, before(backend) as running:
            async with running.client2026() as client:
                error = (await client.call("f_read"))["error"]
            assert error["data"]["reason"] == "backend_protocol"
        assert elsewhere.server.requests == []


@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_s1_12_a_version_that_the_backend_lacks_is_not_said_of_the_gateway(era: str) -> None:
    """A modern client that saw -32022 would take the gateway for an older one, and begin again with initialize."""
    refusal = modern_backend(tool("read"), tools__call=lambda request: error(request, -32022, supported=["2025-11-25"]))
    async with wire_backend(refusal) as backend, before(backend) as running:
        async with running.client2026() as new, running.client2025() as old:
            await old.initialize()
            said = (await (old if era == "2025" else new).call("f_read"))["error"]
            assert (said["code"], said["data"]["reason"], said["data"]["executed"]) == (
                -33520,
                "backend_protocol",
                "no",
            )


async def test_s1_3_a_request_from_a_modern_backend_is_refused() -> None:
    def call(request: RawRequest) -> bytes:
        question = b'data: {"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{}}\n\n'
        return response(question, content_type="text/event-stream")

    async with wire_backend(modern_backend(tool("read"), tools__call=call)) as backend, before(backend) as running:
        async with running.client2026(elicitation={}) as client:
            assert (await client.call("f_read"))["error"]["data"]["reason"] == "backend_protocol"
