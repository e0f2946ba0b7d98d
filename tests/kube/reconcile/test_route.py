"""Which rule of a route leads to the server, and what it does to a request."""

import time
from typing import Any

import pytest

from mcp_gateway.kube.fields import Fields
from mcp_gateway.kube.gateway_api import http_route_of
from mcp_gateway.kube.reconcile.conditions import Verdict
from mcp_gateway.kube.reconcile.route import Choice, choose
from tests.support.cluster import Document, backend, route, rule


def chosen(path: str, *rules: Document) -> Choice:
    found = choose(http_route_of(Fields(route(rules=list(rules)))), path)
    assert isinstance(found, Choice), found
    return found


def refused(path: str, *rules: Document) -> str:
    found = choose(http_route_of(Fields(route(rules=list(rules)))), path)
    assert isinstance(found, Verdict), found
    assert (found.status, found.reason) == ("False", "UnsupportedValue")
    return found.message


def to(name: str, path: str, kind: str = "PathPrefix", **more: object) -> Document:
    return rule(backend(name), path=path, kind=kind, **more)


@pytest.mark.parametrize(
    "path, rules, name",
    [
        pytest.param("/mcp", [to("a", "/"), to("b", "/mcp")], "b", id="longest prefix"),
        pytest.param("/mcp", [to("a", "/mcp"), to("b", "/mcp", "Exact")], "b", id="exact before prefix"),
        pytest.param("/mcp", [to("a", "/m.p", "RegularExpression"), to("b", "/")], "b", id="prefix before expression"),
        pytest.param("/mcp", [to("a", "/m.p", "RegularExpression")], "a", id="expression"),
        pytest.param("/mcp", [to("a", "/mcp"), to("b", "/mcp")], "a", id="the first of two equal ones"),
        pytest.param("/mcpx", [to("a", "/mcp"), to("b", "/")], "b", id="prefixes end at a slash"),
        pytest.param("/mcp/x", [to("a", "/mcp/"), to("b", "/")], "a", id="a slash at the end"),
        pytest.param("/mcp", [to("a", "/mcp/"), to("b", "/")], "a", id="the prefix itself"),
        pytest.param("/mcp?key=1", [to("a", "/mcp", "Exact")], "a", id="the query is no part of the path"),
        pytest.param("/mcp", [to("a", "/mcp", "Fancy"), to("b", "/")], "b", id="an unknown type"),
        pytest.param("/mcp", [to("a", "(", "RegularExpression"), to("b", "/")], "b", id="an invalid expression"),
        pytest.param("/mcp", [{"backendRefs": [backend("a")]}], "a", id="no matches"),
        pytest.param(
            "/mcp",
            [
                {"matches": [{"path": {"value": "/mcp"}, "headers": [{"name": "a"}]}], "backendRefs": [backend("a")]},
                to("b", "/"),
            ],
            "b",
            id="headers are looked at",
        ),
        pytest.param(
            "/mcp",
            [
                {"matches": [{"path": {"value": "/mcp"}, "method": "GET"}], "backendRefs": [backend("a")]},
                to("b", "/"),
            ],
            "b",
            id="another method",
        ),
        pytest.param(
            "/mcp",
            [
                to("a", "/mcp"),
                {"matches": [{"path": {"value": "/mcp"}, "method": "POST"}], "backendRefs": [backend("b")]},
            ],
            "b",
            id="the method is named",
        ),
    ],
)
def test_precedence(path: str, rules: list[Document], name: str) -> None:
    assert chosen(path, *rules).backend.key.name == name


def test_without_a_rule_the_path_is_named() -> None:
    assert "has no rule for POST /mcp that looks at nothing but the path" in refused("/mcp", to("a", "/x"))
    assert "has no rule" in refused("/mcp")


@pytest.mark.parametrize("pattern", ["(a+)+", "/a*b*c*", "/(x|y){3}", r"/(a)\1", "/(?=x)", "/a**", "/" + "x" * 300])
def test_an_expression_that_could_stop_the_controller_is_refused(pattern: str) -> None:
    started = time.perf_counter()
    message = refused("/" + "a" * 1000, to("a", pattern, "RegularExpression"))
    assert time.perf_counter() - started < 1.0
    assert "too costly to try, use PathPrefix or Exact" in message


@pytest.mark.parametrize(
    "backends, words",
    [
        pytest.param([], "has no backend references", id="none"),
        pytest.param([backend("a", weight=0)], "has no backend references", id="none that takes part"),
        pytest.param([backend("a"), backend("b")], "has several backends (mcp-test/a, mcp-test/b)", id="two"),
    ],
)
def test_a_rule_must_lead_to_exactly_one_backend(backends: list[Document], words: str) -> None:
    assert words in refused("/mcp", {"backendRefs": backends})


def test_a_backend_of_weight_zero_is_no_backend() -> None:
    assert chosen("/mcp", rule(backend("a", weight=0), backend("b"))).backend.key.name == "b"


def headers(**parts: Any) -> Document:  # noqa: ANN401 -- members of the filter
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": parts}


def rewrite(**parts: Any) -> Document:  # noqa: ANN401 -- members of the filter
    return {"type": "URLRewrite", "urlRewrite": parts}


def test_headers_are_set_added_and_removed() -> None:
    found = chosen(
        "/mcp",
        rule(
            backend(filters=[headers(set=[{"name": "X-B", "value": "2"}])]),
            filters=[
                headers(set=[{"name": "X-A", "value": "1"}, {"name": "X-C", "value": "3"}], remove=["x-c", "X-D"]),
                headers(add=[{"name": "x-b", "value": "1"}]),
            ],
        ),
    )
    assert found.headers == (("X-A", "1"), ("X-B", "2"))
    assert found.removed_headers == {"x-c", "x-d"}


@pytest.mark.parametrize(
    "name, words",
    [("Authorization", "use spec.credentialRef"), ("Host", "is refused"), ("Mcp-Session-Id", "is refused")],
)
def test_headers_that_are_ours_are_refused(name: str, words: str) -> None:
    assert words in refused("/mcp", rule(filters=[headers(set=[{"name": name, "value": "x"}])]))


@pytest.mark.parametrize(
    "path, match, parts, made",
    [
        ("/mcp", ("/", "PathPrefix"), {"hostname": "H.io"}, ("h.io", "/mcp")),
        (
            "/mcp?a=b",
            ("/", "PathPrefix"),
            {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}},
            ("", "/x?a=b"),
        ),
        ("/mcp", ("/", "PathPrefix"), {"path": {"type": "ReplaceFullPath"}}, ("", "/")),
        (
            "/a/mcp",
            ("/a", "PathPrefix"),
            {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b/"}},
            ("", "/b/mcp"),
        ),
        ("/a", ("/a", "PathPrefix"), {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}, ("", "/")),
        ("/a", ("/a", "Exact"), {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}}, ("", "/a")),
    ],
)
def test_rewrites(path: str, match: tuple[str, str], parts: Document, made: tuple[str, str]) -> None:
    found = chosen(path, rule(path=match[0], kind=match[1], filters=[rewrite(**parts)]))
    assert (found.host, found.path) == made


@pytest.mark.parametrize("kind", ["ResponseHeaderModifier", "RequestMirror", "CORS"])
def test_what_only_adorns_is_ignored_and_said_so(kind: str) -> None:
    assert chosen("/mcp", rule(filters=[{"type": kind}])).notes == (
        f"filter {kind} of HTTPRoute mcp-test/mcp-api-key-server-route is ignored",
    )


@pytest.mark.parametrize("kind", ["RequestRedirect", "ExtensionRef", "SomethingNew"])
def test_what_cannot_be_done_is_refused(kind: str) -> None:
    assert f"filter {kind} is not supported" in refused("/mcp", rule(filters=[{"type": kind}]))


@pytest.mark.parametrize(
    "text, timeout_ms",
    [("", None), ("10s", 10_000), ("1h30m", 5_400_000), ("500ms", 500), ("0s", None), ("soon", None), ("5s!", None)],
)
def test_timeouts(text: str, timeout_ms: int | None) -> None:
    assert chosen("/mcp", rule(timeouts={"request": text})).timeout_ms == timeout_ms
