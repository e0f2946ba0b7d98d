"""What clients send around a message: headers, metadata, names, URIs, and where it leads."""

import re

from hypothesis import example, given

from mcp_gateway.errors import MalformedMessage
from mcp_gateway.front.cors import cors_headers, preflight
from mcp_gateway.gateway.entrance import Request
from mcp_gateway.gateway.faces.http_answers import accepted, is_json
from mcp_gateway.gateway.faces.initialize import Initialize, read_initialize
from mcp_gateway.gateway.origin import (
    Authority,
    Refusal,
    check,
    host_allowed,
    is_loopback,
    origin_allowed,
    parse_authority,
)
from mcp_gateway.gateway.server_requests import allowed
from mcp_gateway.protocol import json_text, jsonrpc, translate
from mcp_gateway.protocol.envelope import ModernCall, Rejection, is_modern, validate
from mcp_gateway.protocol.eras import ERAS
from mcp_gateway.protocol.headers import HeaderFault, check_mirrored
from mcp_gateway.routing.decide import Answer, Forward, ListOf, Own, Refuse, decide
from mcp_gateway.routing.uris import Template, UriMap, unmark
from mcp_gateway.telemetry.trace import note_request, parse_traceparent, request_id, trace_id
from mcp_gateway.values import Header, JsonObject, JsonValue
from tests.support.json_bytes import Dice, dice, stammer
from tests.support.tables import EVERYTHING, lists, server, snapshot, spec, view_of

METHODS = (
    "tools/call",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "completion/complete",
    "tools/list",
    "resources/templates/list",
    "logging/setLevel",
    "subscriptions/listen",
    "server/discover",
    "initialize",
    "ping",
    "x",
)
META = "io.modelcontextprotocol/"
SOME = ("2026-07-28", "2025-11-25", "debug", "now", "time_now", "test://time/r", "ref/prompt", "ref/resource", "")
HEADERS = (
    b"mcp-protocol-version",
    b"mcp-method",
    b"mcp-name",
    b"mcp-param-a",
    b"accept",
    b"content-type",
    b"origin",
    b"host",
    b"traceparent",
    b"x-request-id",
    b"access-control-request-method",
    b"access-control-request-headers",
)
FOUND = lists(tools=["now"], prompts=["greet"], resources=["test://r"], templates=["test://t/{id}"])
VIEW = view_of(
    spec(server("time", "time_"), server("plain")),
    snapshot("time", FOUND, capabilities=EVERYTHING),
    snapshot("plain", FOUND, capabilities={}),
)


def value_for(plan: Dice) -> JsonValue:
    """Something that could be meant, or anything at all."""
    return SOME[plan.below(len(SOME))] if plan.below(3) else plan.value()


def params_of(plan: Dice) -> JsonObject:
    """Params with the members that are looked at, each right, wrong or absent."""
    made: JsonObject = {
        key: value_for(plan)
        for key in ("name", "uri", "cursor", "level", "arguments", "requestState", "inputResponses", "mode", "tools")
        if plan.below(2)
    }
    if plan.below(2):
        made["ref"] = {key: value_for(plan) for key in ("type", "name", "uri") if plan.below(3)}
    if plan.below(4):
        keys = ("protocolVersion", "clientCapabilities", "clientInfo", "logLevel")
        made["_meta"] = {META + key: {} if plan.below(3) == 0 else value_for(plan) for key in keys if plan.below(5)}
    return made


def header_value(plan: Dice) -> bytes:
    """A value that a header could have, or bytes."""
    match plan.below(4):
        case 0:
            return METHODS[plan.below(len(METHODS))].encode()
        case 1:
            return SOME[plan.below(len(SOME))].encode()
        case 2:
            return b"=?base64?%b?=" % plan.take(plan.below(9))
        case _:
            return plan.take(plan.below(24))


def headers_of(plan: Dice) -> tuple[Header, ...]:
    return tuple((HEADERS[plan.below(len(HEADERS))], header_value(plan)) for _ in range(plan.below(7)))


@given(plan=dice, sent=dice)
def test_a_modern_request_is_refused_or_says_the_same_in_headers_and_body(plan: Dice, sent: Dice) -> None:
    method = METHODS[plan.below(len(METHODS))]
    params = params_of(plan)
    try:
        message = jsonrpc.read(stammer({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, plan))
    except MalformedMessage:
        return
    assert isinstance(message, jsonrpc.RpcRequest)
    right = ((b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", method.encode()))
    headers = (*(right if sent.below(2) else ()), *headers_of(sent))
    is_modern("2026-07-28", message)
    climbed = validate(message, headers)
    if isinstance(climbed, Rejection):
        assert climbed.status in (400, 404)
        json_text.parse(climbed.body())
        return
    assert isinstance(climbed, ModernCall)
    assert [value for key, value in headers if key == b"mcp-method"] == [method.encode()]
    assert [value for key, value in headers if key == b"mcp-protocol-version"] == [b"2026-07-28"]
    assert json_text.parse(climbed.capabilities) == climbed.capabilities_value
    assert isinstance(json_text.parse(translate.client_capabilities(climbed.capabilities)), dict)
    json_text.parse(climbed.client_info)


@given(plan=dice)
@example(plan=Dice(bytes([4])))
def test_what_a_client_says_of_itself_is_taken_or_refused(plan: Dice) -> None:
    known = ("protocolVersion", "capabilities", "clientInfo")
    said: JsonObject = {key: value_for(plan) for key in known if plan.below(4)}
    if plan.below(2):
        said["capabilities"] = {
            key: value_for(plan) for key in ("tasks", "extensions", "roots", "sampling") if plan.below(3)
        }
    try:
        raw = stammer({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": said}, plan)
        message = jsonrpc.read(raw)
    except MalformedMessage:
        return
    assert isinstance(message, jsonrpc.RpcRequest)
    greeting = read_initialize(message)
    if not isinstance(greeting, Initialize):
        return
    capabilities = json_text.parse(greeting.identity.capabilities)
    assert isinstance(capabilities, dict)
    assert "tasks" not in capabilities
    json_text.parse(greeting.identity.info)


@given(plan=dice)
def test_every_request_has_a_decision(plan: Dice) -> None:
    era = list(ERAS.values())[plan.below(len(ERAS))]
    decision = decide(METHODS[plan.below(len(METHODS))], params_of(plan), VIEW, era)
    assert isinstance(decision, Forward | ListOf | Own | Answer | Refuse)
    if isinstance(decision, Refuse):
        json_text.parse(jsonrpc.render_error(b"1", decision.code, decision.message, decision.data))


@given(plan=dice)
def test_what_a_client_may_be_asked_is_decided_for_any_words(plan: Dice) -> None:
    method = ("elicitation/create", "sampling/createMessage", "roots/list", "ping", plan.text())[plan.below(5)]
    capabilities: JsonObject = {
        key: value_for(plan) if plan.below(2) else {} for key in ("roots", "sampling", "elicitation") if plan.below(2)
    }
    if allowed(method, params_of(plan), capabilities):
        assert method == "ping" or isinstance(capabilities[method.partition("/")[0]], dict)


@given(plan=dice)
def test_any_headers_say_what_is_accepted_or_nothing(plan: Dice) -> None:
    request = Request(method="POST", path="/mcp", headers=headers_of(plan))
    accepts = accepted(request)
    if not any(key == b"accept" for key, _ in request.headers):
        assert accepts.json
        assert accepts.sse
    is_json(request)


@given(plan=dice)
def test_mirrored_headers_are_compared_with_any_arguments(plan: Dice) -> None:
    annotations = (("A", ("a",)), ("B", ("a", "b")))
    headers = (*headers_of(plan), (b"mcp-param-b", header_value(plan)))
    try:
        check_mirrored(annotations, params_of(plan) if plan.below(2) else {"a": plan.value()}, headers)
    except HeaderFault:
        return


TRACE_PARTS = ("00-", "ff-", "0" * 32, "a1" * 16, "b" * 16, "0" * 16, "-", "-01", "-zz", "f", " ")


@given(plan=dice)
@example(plan=Dice(b"\x04\x00\x03\x06\x04\x07"))
def test_a_traceparent_is_read_back_or_ignored(plan: Dice) -> None:
    value = "".join(TRACE_PARTS[plan.below(len(TRACE_PARTS))] for _ in range(plan.below(7))) + plan.text()
    found = parse_traceparent(value)
    assert found is None or parse_traceparent(str(found)) == found
    asked = value.encode("utf-8", "surrogatepass")
    note_request({b"traceparent": asked, b"x-request-id": asked})
    assert trace_id.get() == "" or len(trace_id.get()) == 32
    assert re.fullmatch(r"[A-Za-z0-9._:/+=@-]{1,128}", request_id.get())


AUTHORITY_PARTS = (
    "localhost",
    "127.0.0.1",
    "[::1]",
    "[::ffff:7f00:1]",
    "example.com",
    "EXAMPLE.com.",
    ":",
    ":80",
    ":0",
)
ORIGIN_PARTS = (*AUTHORITY_PARTS, "http://", "https://", "null", "@", "/", ".", "[", "]", "%00", "\u212a", " ", "\t")


def pasted(plan: Dice) -> str:
    """Parts of origins and hosts in any order."""
    return "".join(ORIGIN_PARTS[plan.below(len(ORIGIN_PARTS))] for _ in range(plan.below(6))) + plan.text()


@given(plan=dice)
@example(plan=Dice(b""))
def test_a_host_or_origin_is_certain_or_refused(plan: Dice) -> None:
    text = pasted(plan)
    found = parse_authority(text)
    if found is not None:
        shown = f"[{found.host}]" if ":" in found.host else found.host
        assert parse_authority(shown if found.port is None else f"{shown}:{found.port}") == found
        assert found.host == found.host.lower()
        assert not set(found.host) & set("/@[]%# \t")
    raw = text.encode("utf-8", "surrogatepass")
    allowed_here = ["http://example.com", "https://*.example.org"]
    if host_allowed(raw, ["example.com"]):
        authority = parse_authority(raw.decode("latin-1"))
        assert authority is not None
        assert is_loopback(authority.host) or authority.host == "example.com"
    if origin_allowed(raw, allowed_here):
        scheme, _, rest = raw.decode("latin-1").lower().partition("://")
        authority = parse_authority(rest)
        assert isinstance(authority, Authority)
        assert is_loopback(authority.host) or authority.host in ("example.com", "x.example.org") or scheme == "https"


@given(plan=dice)
def test_any_headers_are_let_in_or_refused_and_never_reflected_into_new_lines(plan: Dice) -> None:
    headers = headers_of(plan)
    if plan.below(2):
        headers = (*headers, (b"origin", pasted(plan).encode("utf-8", "surrogatepass")))
    verdict = check(
        "GET", headers, bind_is_loopback=bool(plan.below(2)), allowed_hosts=["a.b"], allowed_origins=["http://a.b"]
    )
    assert verdict is None or isinstance(verdict, Refusal)
    for answer in (cors_headers(headers, allowed_origins=["*"]), preflight(headers, allowed_origins=["*"])):
        assert not any(b"\r" in value or b"\n" in value for _, value in answer)


URI_PARTS = (
    "test://",
    "file:///",
    "urn:",
    "mcp-resource://",
    "time/",
    "/",
    "{",
    "}",
    "{id}",
    "{+path}",
    ":",
    "a",
    "..",
)


def uri_of(plan: Dice) -> str:
    return "".join(URI_PARTS[plan.below(len(URI_PARTS))] for _ in range(plan.below(7))) + plan.text()


@given(plan=dice)
def test_any_uri_goes_out_and_comes_back(plan: Dice) -> None:
    uri, asked = uri_of(plan), uri_of(plan)
    mapped = UriMap("time").out(uri)
    assert UriMap("time").back(mapped) == uri
    assert UriMap("tim").back(mapped) is None
    assert unmark(mapped) == ("time", uri)
    back = UriMap("time").back(asked)
    assert back is None or UriMap("time").back(UriMap("time").out(back)) == back
    target = VIEW.resolve_uri(asked)
    assert target is None or target.federated == asked


@given(plan=dice)
def test_a_template_matches_what_a_regular_expression_made_of_it_does(plan: Dice) -> None:
    template, uri = uri_of(plan), uri_of(plan)
    parsed = Template.parse(template)
    hole = "[^/]+" if parsed.strict else ".*"
    model = re.compile(hole.join(re.escape(literal) for literal in parsed.literals), re.DOTALL)
    assert parsed.matches(uri) == (model.fullmatch(uri) is not None)
