"""The table of answers within a session: what real servers say once they no longer know it, and what tools say."""

import orjson
import pytest

from mcp_gateway.backends.transports.session_sign import Sign, judge, speaks_of_session
from mcp_gateway.values import JsonValue

JSON = b"application/json"
TEXT = b"text/plain"
HTML = b"text/html"
OURS = 7


def error(code: JsonValue, message: str, id: JsonValue = None) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})


def result(id: JsonValue = OURS, text: str = "") -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}})


LOST = [
    pytest.param(404, JSON, error(-32001, "Session not found"), id="by the specification (TypeScript SDK)"),
    pytest.param(404, JSON, error(-32600, "Session not found", "server-error"), id="mcp 1.30"),
    pytest.param(404, TEXT, b"Invalid session ID", id="mcp-go"),
    pytest.param(404, b"", b"", id="404 without a word"),
    pytest.param(404, HTML, b"<html>", id="404 as a page"),
    pytest.param(404, JSON, error(-32601, "Method not found"), id="404 that names no request"),
    pytest.param(404, JSON, error(-32601, "Method not found", 8), id="404 that names another request"),
    pytest.param(404, JSON, error(-32601, "Method not found", "7"), id="an id of another type"),
    pytest.param(400, JSON, error(-32000, "Bad Request: No valid session ID provided"), id="the SDK's own example"),
    pytest.param(400, JSON, error(-32000, "Bad Request: Server not initialized"), id="400 not initialized"),
    pytest.param(400, JSON, error(-32600, "Bad Request: Missing session ID", "server-error"), id="400, mcp 1.30"),
    pytest.param(400, JSON, error(-32000, "unknown SESSION", 8), id="400 with a foreign id"),
    pytest.param(400, JSON, b'{"error":"Session expired"}', id="400 as JSON that is no JSON-RPC"),
    pytest.param(400, TEXT, b"Invalid or missing session ID", id="400 in words"),
    pytest.param(400, HTML, b"<p>No transport found for sessionId</p>", id="400 as a page"),
    pytest.param(410, TEXT, b"session is gone", id="410"),
    pytest.param(422, TEXT, b"Unexpected message, expect initialize request", id="422 (rmcp)"),
    pytest.param(200, JSON, error(-32000, "No valid session"), id="in a 200, without an id"),
    pytest.param(200, JSON, error(-32600, "Session not found", "server-error"), id="in a 200, id of nobody"),
]
SUSPICIOUS = [
    pytest.param(200, JSON, error(-32000, "Session expired", OURS), id="our id, in a 200"),
    pytest.param(400, JSON, error(-32001, "Session not found", OURS), id="our id, with 400"),
    pytest.param(404, JSON, error(-32001, "Session not found", OURS), id="our id, with 404"),
    pytest.param(500, JSON, error(-32603, "oops", OURS), id="our id, with 500"),
    pytest.param(401, JSON, error(-32603, "oops", OURS), id="our id, with 401"),
    pytest.param(401, JSON, b'{"error":"invalid_token"}', id="401"),
    pytest.param(401, TEXT, b"No transport found for sessionId", id="401 that speaks of the session"),
    pytest.param(403, TEXT, b"no", id="403"),
    pytest.param(500, HTML, b"<html>", id="500"),
    pytest.param(500, TEXT, b"no session", id="500 that speaks of the session"),
    pytest.param(502, b"", b"", id="502"),
    pytest.param(503, b"", b"", id="503"),
]
FAILED = [
    pytest.param(400, TEXT, b"Bad Request", id="400 that does not speak of the session"),
    pytest.param(400, JSON, error(-32600, "Bad Request"), id="400 as JSON-RPC"),
    pytest.param(400, JSON, error(-32602, "unknown tool", OURS), id="400 with our id"),
    pytest.param(400, JSON, result(), id="a result with 400"),
    pytest.param(405, TEXT, b"no session", id="405 is no refusal of a session"),
    pytest.param(410, b"", b"", id="410 without a word"),
    pytest.param(422, JSON, b"{}", id="422 without a word"),
    pytest.param(429, b"", b"", id="429"),
    pytest.param(302, HTML, b"session", id="a redirect"),
    pytest.param(200, HTML, b"<html>Your session has expired", id="a page that asks to log in"),
    pytest.param(200, JSON, b"{", id="broken JSON"),
    pytest.param(200, JSON, error(-32603, "oops"), id="in a 200, without an id or words"),
    pytest.param(200, JSON, error(-32000, "session expired", 8), id="perhaps another request's error"),
    pytest.param(200, JSON, result(8), id="another request's result"),
    pytest.param(200, JSON, result(None, "session"), id="a result without an id"),
    pytest.param(202, b"", b"", id="accepted without an answer"),
]
ANSWERED = [
    pytest.param(200, JSON, result(), id="a result"),
    pytest.param(200, JSON, result(text="session expired, not initialized"), id="a tool that speaks of sessions"),
    pytest.param(200, JSON, error(-32602, "unknown tool", OURS), id="an error"),
    pytest.param(404, JSON, error(-32601, "Method not found", OURS), id="a front of a stdio server"),
    pytest.param(400, JSON, error(-32601, "Method not found", OURS), id="the same with 400"),
]


@pytest.mark.parametrize("status, media_type, body", LOST)
def test_a_session_is_lost_by_404_or_words_that_no_tool_can_have_said(
    status: int, media_type: bytes, body: bytes
) -> None:
    assert judge(status, media_type, body, OURS) is Sign.LOST


@pytest.mark.parametrize("status, media_type, body", SUSPICIOUS)
def test_what_a_tool_or_a_credential_may_mean_is_only_suspicious(status: int, media_type: bytes, body: bytes) -> None:
    assert judge(status, media_type, body, OURS) is Sign.SUSPICIOUS


@pytest.mark.parametrize("status, media_type, body", FAILED)
def test_a_failure_without_words_counts_in_a_row(status: int, media_type: bytes, body: bytes) -> None:
    assert judge(status, media_type, body, OURS) is Sign.FAILED


@pytest.mark.parametrize("status, media_type, body", ANSWERED)
def test_an_answer_shows_that_the_session_stands(status: int, media_type: bytes, body: bytes) -> None:
    assert judge(status, media_type, body, OURS) is Sign.ANSWERED


@pytest.mark.parametrize(
    "status, body, sign",
    [
        (202, b"", Sign.ANSWERED),
        (200, b"", Sign.ANSWERED),
        (404, b"", Sign.LOST),
        (400, error(-32000, "No valid session", OURS), Sign.LOST),
        (400, b"", Sign.FAILED),
        (401, b"", Sign.SUSPICIOUS),
        (503, b"", Sign.SUSPICIOUS),
    ],
)
def test_a_notification_has_no_id_that_an_answer_could_carry(status: int, body: bytes, sign: Sign) -> None:
    assert judge(status, JSON, body, None) is sign


def test_words_are_looked_for_at_the_beginning_only() -> None:
    assert speaks_of_session(b"x" * 4000 + b"Session")
    assert not speaks_of_session(b"x" * 4096 + b"Session")
