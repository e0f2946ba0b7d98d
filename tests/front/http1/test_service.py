"""Where heads lead: paths, pages, preflights."""

import pytest

from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.front.http1.request_reader import Head, RequestReader
from mcp_gateway.front.http1.service import OwnAnswer, Service
from mcp_gateway.gateway.entrance import Request
from tests.support.front import FixedStatus, ScriptedDispatch, echo


def service(source: FixedStatus) -> Service:
    return Service(
        dispatch=ScriptedDispatch(echo), ready=source.ready, spec=Cell(GatewaySpec()), metrics=source.metrics
    )


def head(line: str, *fields: str) -> Head:
    reader = RequestReader()
    reader.feed("\r\n".join([f"{line} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode())
    found = reader.head()
    assert found is not None
    return found


def ask(line: str, source: FixedStatus | None = None) -> OwnAnswer | None:
    served, found = service(source or FixedStatus()), head(line)
    return served.own_answer(served.request(found, peer="", scheme="http"), found)


def status(line: str) -> int:
    answer = ask(line)
    assert answer is not None
    return answer.status


def request(target: str) -> Request:
    return service(FixedStatus()).request(head(f"GET {target}"), peer="10.1.1.1", scheme="https")


def test_health_is_green_while_the_loop_turns_and_ready_says_why_not() -> None:
    source = FixedStatus()
    for path in ("/healthz", "/readyz", "/readyz?x"):
        answer = ask(f"GET {path}", source)
        assert answer is not None
        assert (answer.status, answer.body) == (200, b"ok\n")
    source.is_ready, source.why = False, "draining"
    assert status("GET /healthz") == 200
    answer = ask("GET /readyz", source)
    assert answer is not None
    assert (answer.status, answer.body) == (503, b"not ready: draining\n")


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "/status", "/", "/debug/tasks", "/static/status.html", "/.env", "/healthz/", "//healthz"),
        *("/mcpx", "//mcp", "/%6dcp", "/mcp%2F", "/mcp/./", "/mcp//", "/MCP", "/mcp;x", "/.well-known/x"),
    ],
)
def test_what_is_not_served_here_is_not_found(path: str) -> None:
    assert status(f"GET {path}") == 404
    assert status(f"POST {path}") == 404


def test_a_wrong_verb_says_which_are_right() -> None:
    for verb in ("POST", "DELETE", "PUT"):
        answer = ask(f"{verb} /healthz")
        assert answer is not None
        assert (answer.status, dict(answer.headers)[b"allow"]) == (405, b"GET, HEAD, OPTIONS")
    assert status("HEAD /healthz") == 200
    assert status("OPTIONS /readyz") == 204


def test_mcp_paths_lead_to_the_gateway_as_they_came() -> None:
    assert [request(path).path for path in ("/mcp", "/mcp/", "/sse", "/messages?x=1")] == [
        *("/mcp", "/mcp", "/sse", "/messages")
    ]
    found = request("/mcp/vs/a%20b/c?x=%20")
    assert (found.path, found.query, found.peer, found.scheme) == ("/mcp/vs/a b/c", "x=%20", "10.1.1.1", "https")
    assert ask("POST /mcp") is None
    assert ask("BREW /mcp/vs/x".replace("BREW", "PUT")) is None
    assert status("OPTIONS /mcp") == 204
