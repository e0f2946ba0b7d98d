"""The table of answers to ``server/discover``: what real servers say, and what could be said."""

import orjson
import pytest

from mcp_gateway.backends.transports.base import ClientIdentity
from mcp_gateway.backends.transports.era_probe import EraKind, discover_params, judge, pinned_verdict
from mcp_gateway.values import JsonValue

JSON = b"application/json"
DISCOVERED: JsonValue = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {"listChanged": True}},
    "instructions": "be kind",
    "ttlMs": 0,
    "cacheScope": "public",
    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "1"}},
}


def ok(result: JsonValue) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": result})


def error(code: JsonValue, message: str = "", data: JsonValue = None, id: JsonValue = None) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message, "data": data}})


@pytest.mark.parametrize(
    "status, content_type, body, kind, version",
    [
        # Measured: what real servers answer.
        pytest.param(200, JSON, ok(DISCOVERED), EraKind.MODERN, "2026-07-28", id="mcp 2.3, fastmcp 4.1, TS SDK 2.4"),
        pytest.param(
            400,
            JSON,
            error(-32600, "Bad Request: Missing session ID", id="server-error"),
            EraKind.LEGACY,
            "2025-11-25",
            id="mcp 1.30 stateful, mcp-proxy 0.13",
        ),
        pytest.param(
            400,
            JSON,
            error(-32600, "Bad Request: Unsupported protocol version: 2026-07-28", id="server-error"),
            EraKind.LEGACY,
            "2025-11-25",
            id="mcp 1.30 stateless",
        ),
        pytest.param(
            400, JSON, error(-32000, "Server not initialized"), EraKind.LEGACY, "2025-11-25", id="server-everything"
        ),
        pytest.param(
            404, JSON, error(-32601, "Method not found", id=1), EraKind.LEGACY, "2025-11-25", id="supergateway 4.0"
        ),
        pytest.param(405, b"text/plain", b"Method Not Allowed", EraKind.SSE, None, id="mcp 1.30 SSE"),
        pytest.param(404, b"text/html", b"<pre>Cannot POST /sse</pre>", EraKind.SSE, None, id="server-everything SSE"),
        # What the specification adds.
        pytest.param(
            400,
            JSON,
            error(-32022, data={"supported": ["2026-07-28"]}),
            EraKind.MODERN,
            "2026-07-28",
            id="unsupported version, yet ours",
        ),
        pytest.param(
            400,
            JSON,
            error(-32022, data={"supported": ["2025-06-18", "2025-03-26"]}),
            EraKind.LEGACY,
            "2025-06-18",
            id="unsupported version, legacy ones only",
        ),
        pytest.param(
            400,
            JSON,
            error(-32022, data={"supported": ["2025-06-18", "2026-07-28"]}),
            EraKind.MODERN,
            "2026-07-28",
            id="modern is preferred",
        ),
        pytest.param(400, JSON, error(-32022), EraKind.MODERN, "2026-07-28", id="unsupported version without data"),
        pytest.param(400, JSON, error(-32020), EraKind.MODERN, "2026-07-28", id="header mismatch"),
        pytest.param(200, JSON, error(-32021, id=1), EraKind.MODERN, "2026-07-28", id="capability missing, with 200"),
        pytest.param(
            200,
            JSON,
            ok({"supportedVersions": ["2025-06-18", "2099-01-01"]}),
            EraKind.LEGACY,
            "2025-06-18",
            id="discovered, legacy revisions only",
        ),
        pytest.param(200, JSON, ok({"tools": []}), EraKind.LEGACY, "2025-11-25", id="a 200 without versions"),
        pytest.param(200, JSON, ok([]), EraKind.LEGACY, "2025-11-25", id="a result that is no object"),
        pytest.param(200, JSON, error(-32601, id=1), EraKind.LEGACY, "2025-11-25", id="method not found with 200"),
        pytest.param(200, JSON, error(-1, id=1), EraKind.LEGACY, "2025-11-25", id="an unknown code"),
        pytest.param(200, JSON, error("x", id=1), EraKind.LEGACY, "2025-11-25", id="a code that is none"),
        pytest.param(400, b"text/plain", b"no", EraKind.LEGACY, "2025-11-25", id="a 400 in words"),
        pytest.param(404, JSON, b'{"detail":"Not Found"}', EraKind.SSE, None, id="a 404 of a web framework"),
        # No verdict.
        pytest.param(200, b"text/html", b"<html>", EraKind.UNDECIDED, None, id="a web page"),
        pytest.param(202, b"", b"", EraKind.UNDECIDED, None, id="accepted without an answer"),
        pytest.param(200, JSON, b"{", EraKind.UNDECIDED, None, id="broken JSON"),
        *(
            pytest.param(status, JSON, error(-32601), EraKind.UNDECIDED, None, id=f"{status} says nothing")
            for status in (401, 403, 408, 425, 429, 500, 502, 503, 504)
        ),
    ],
)
def test_one_answer_gives_one_verdict(
    status: int, content_type: bytes, body: bytes, kind: EraKind, version: str | None
) -> None:
    verdict = judge(status, content_type, body)
    assert verdict.kind is kind
    assert (verdict.era.version if verdict.era is not None else None) == version
    assert verdict.why


def test_a_modern_backend_says_who_it_is() -> None:
    hello = judge(200, JSON, ok(DISCOVERED)).hello
    assert hello is not None
    assert (hello.capabilities, hello.instructions) == ({"tools": {"listChanged": True}}, "be kind")
    assert hello.server_info == {"name": "s", "version": "1"}


def test_what_a_backend_says_of_itself_may_be_nonsense() -> None:
    odd: JsonValue = {"supportedVersions": ["2026-07-28"], "capabilities": 3, "instructions": [], "_meta": "x"}
    hello = judge(200, JSON, ok(odd)).hello
    assert hello is not None
    assert (hello.capabilities, hello.instructions, hello.server_info) == ({}, "", None)


def test_a_pinned_legacy_revision_needs_no_question() -> None:
    verdict = pinned_verdict("2025-03-26")
    assert verdict is not None
    assert verdict.kind is EraKind.LEGACY
    assert verdict.era is not None
    assert verdict.era.version == "2025-03-26"
    assert pinned_verdict("2026-07-28") is None


def test_the_question_carries_the_identity_as_raw_json() -> None:
    params = orjson.loads(discover_params(ClientIdentity(capabilities=b'{"x":1e2}', info=b'{"name":"n"}')))
    assert params == {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"x": 100.0},
            "io.modelcontextprotocol/clientInfo": {"name": "n"},
        }
    }
