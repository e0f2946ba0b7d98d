"""What backends say, once their bytes are JSON: results, errors, lists, questions, greetings.

One kind of error for each reader, whatever the words; what is passed on is still one JSON value.
"""

import contextlib
from types import SimpleNamespace
from typing import cast
from urllib.parse import urlsplit

from hypothesis import example, given
from hypothesis import strategies as st

from mcp_gateway.backends.own_requests import read_hello, result_of
from mcp_gateway.backends.transports import greeting
from mcp_gateway.backends.transports.base import Answer
from mcp_gateway.backends.transports.era_probe import EraVerdict, judge
from mcp_gateway.backends.transports.http_connection import HttpConnection
from mcp_gateway.backends.transports.http_exchange import retry_after_ms
from mcp_gateway.backends.transports.legacy_sse import read_endpoint
from mcp_gateway.backends.transports.origin import read_origin
from mcp_gateway.config.spec import HttpTarget
from mcp_gateway.errors import BackendProtocol, BackendRefused, RemoteFault
from mcp_gateway.gateway.call import input_required
from mcp_gateway.gateway.call.translation import error_code, url_elicitations
from mcp_gateway.protocol import json_text, shape, splice, translate
from mcp_gateway.protocol.eras import ERAS, V2026_07_28, Era
from mcp_gateway.protocol.members import NO_MEMBERS, Members
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.routing.listing import MAX_PROBLEMS, Page, page_steps
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.routing.uris import UriMap
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.json_bytes import Dice, dice, spell, stammer

KEY = BackendKey("files")
METHODS = ("tools/call", "prompts/get", "resources/read", "completion/complete", "tools/list", "resources/subscribe")
QUESTIONS = ("sampling/createMessage", "elicitation/create", "roots/list")
KINDS = ("text", "resource", "resource_link", "audio", "tool_result", "tool_use", "x")
MEMBERS = (
    "content",
    "messages",
    "contents",
    "structuredContent",
    "resultType",
    "_meta",
    "inputRequests",
    "requestState",
    "ttlMs",
    "cacheScope",
    "code",
    "data",
    "mode",
    "elicitationId",
    "task",
    "tasks",
    "extensions",
    "supportedVersions",
    "protocolVersion",
    "capabilities",
    "serverInfo",
    "instructions",
)
GOOD: tuple[JsonValue, ...] = (
    "complete",
    "input_required",
    "url",
    -32002,
    -32602,
    -32042,
    -32022,
    {"uri": "test://r"},
    {"ui": {"resourceUri": "ui://r"}},
    {"supported": ["2026-07-28"]},
    {"elicitations": [{"mode": "url", "url": "https://x"}, 1]},
    {"k": {"method": "sampling/createMessage", "params": {"messages": [{"content": {"type": "resource_link"}}]}}},
    ["2025-06-18", "2026-07-28", 1],
    "2025-11-25",
    {"io.modelcontextprotocol/serverInfo": {}, "progressToken": 1},
)


def block_of(plan: Dice) -> JsonValue:
    """One content block, or something in its place."""
    if not plan.below(4):
        return plan.value()
    made: JsonObject = {"type": KINDS[plan.below(len(KINDS))], "uri": "test://r", "mimeType": plan.scalar()}
    if plan.below(2):
        made["resource"] = {"uri": "test://r", "text": plan.text()} if plan.below(3) else plan.value()
    if plan.below(3) == 1:
        made["content"] = [block_of(plan)] if plan.below(2) else plan.value()
    return made


def words_of(plan: Dice) -> JsonObject:
    """A result, error or params object with the members that somebody looks at."""
    made: JsonObject = {}
    for _ in range(plan.below(7)):
        key = MEMBERS[plan.below(len(MEMBERS))]
        match plan.below(5):
            case 0:
                made[key] = plan.value()
            case 1:
                made[key] = [block_of(plan) for _ in range(plan.below(3))]
            case 2:
                made[key] = [{"role": "user", "content": block_of(plan)}]
            case _:
                made[key] = GOOD[plan.below(len(GOOD))]
    return made


def era_of(plan: Dice) -> Era:
    return list(ERAS.values())[plan.below(len(ERAS))]


def object_of(plan: Dice) -> bytes:
    """Words as bytes, now and then with a member twice."""
    return stammer(words_of(plan), plan)


def raw_of(plan: Dice) -> bytes:
    """The same, or no object at all."""
    return object_of(plan) if plan.below(8) else spell(plan.value(), plan)


OUT = UriMap("files").out


@given(plan=dice)
def test_a_result_is_translated_or_refused(plan: Dice) -> None:
    raw, method, client, backend = raw_of(plan), METHODS[plan.below(len(METHODS))], era_of(plan), era_of(plan)
    try:
        made = translate.result(
            method,
            raw,
            client=client,
            backend=backend,
            server_info=b'{"name":"us"}',
            uri_map=OUT if plan.below(2) else None,
        )
    except RemoteFault:
        return
    value = json_text.parse(made)
    if isinstance(value, dict) and not client.modern:
        assert "resultType" not in value or not backend.modern


@given(plan=dice)
def test_an_error_is_translated_or_refused(plan: Dice) -> None:
    raw, method = raw_of(plan), METHODS[plan.below(len(METHODS))]
    with contextlib.suppress(RemoteFault):
        made = translate.error(raw, method=method, client=era_of(plan), backend=era_of(plan), uri="test://files/r")
        json_text.parse(made)
        assert isinstance(error_code(made), int)
    with contextlib.suppress(RemoteFault):
        for one in url_elicitations(raw).values():
            assert isinstance(json_text.parse(one), dict)


@given(plan=dice)
def test_a_question_is_translated_or_refused(plan: Dice) -> None:
    raw = raw_of(plan) if plan.below(8) else None
    method, client = QUESTIONS[plan.below(len(QUESTIONS))], era_of(plan)
    with contextlib.suppress(RemoteFault):
        assert isinstance(json_text.parse(translate.input_request(method, raw, uri_map=OUT)), dict)
    with contextlib.suppress(RemoteFault):
        made = translate.server_request_params(method, raw, client=client, elicitation_id="e", uri_map=OUT)
        assert isinstance(json_text.parse(made), dict)


@given(plan=dice)
def test_what_a_backend_asks_comes_back_to_it_in_its_own_words(plan: Dice) -> None:
    """A client that answers with the very content it was asked about: all URIs are the backend's again."""
    block = block_of(plan)
    asked = translate.input_request(QUESTIONS[0], spell({"messages": [{"content": block}]}, plan), uri_map=OUT)
    shown = splice.value_at(asked, ("params", "messages", 0, "content"))
    assert shown is not None
    answer = translate.answer(b'{"role":"assistant","content":%b}' % shown, uri_back=UriMap("files").restored)
    assert json_text.parse(answer) == {"role": "assistant", "content": block}
    anything = object_of(plan)
    assert json_text.parse(translate.answer(anything, uri_back=OUT)) is not None


@given(plan=dice)
def test_an_interim_result_is_read_or_refused(plan: Dice) -> None:
    try:
        found = input_required.read(object_of(plan))
    except RemoteFault:
        return
    if found.state is not None:
        json_text.parse(found.state)


@given(plan=dice)
def test_params_for_a_backend_are_one_object_or_refused(plan: Dice) -> None:
    raw = object_of(plan) if plan.below(8) else None  # it was read: params are an object
    capabilities = translate.client_capabilities(raw if plan.below(2) else None)
    meta = translate.MetaEdits(progress_token=b"7" if plan.below(2) else None, capabilities=capabilities)
    edits: Edits = {"name": b'"n"'} if plan.below(2) else {}
    with contextlib.suppress(RemoteFault):
        made = translate.request_params(
            NO_MEMBERS if raw is None else Members.of(raw),
            client=era_of(plan),
            backend=era_of(plan),
            edits=edits,
            meta=meta,
        )
        value = json_text.parse(made)
        assert isinstance(value, dict)
        assert not edits or value["name"] == "n"


ITEM_MEMBERS = (
    "name",
    "uri",
    "uriTemplate",
    "inputSchema",
    "outputSchema",
    "title",
    "description",
    "icons",
    "execution",
    "_meta",
    "arguments",
    "mimeType",
)
ITEM_VALUES: tuple[JsonValue, ...] = (
    "now",
    "test://r",
    "test://{id}",
    {"type": "object"},
    {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": "A"}}},
    {"type": "object", "properties": {"a": {"type": "array", "x-mcp-header": "A"}}},
    [{"name": "a"}],
    [{}],
    {},
    None,
)


def item_of(plan: Dice) -> JsonValue:
    if not plan.below(6):
        return plan.value()
    return {
        key: ITEM_VALUES[plan.below(len(ITEM_VALUES))] if plan.below(6) else plan.value()
        for key in ITEM_MEMBERS
        if plan.below(3)
    }


def page_of(plan: Dice, kind: Kind) -> bytes:
    listed: JsonObject = {kind.value: [item_of(plan) for _ in range(plan.below(4))]}
    if not plan.below(8):
        listed[kind.value] = plan.value()
    listed |= {key: plan.scalar() for key in ("nextCursor", "ttlMs", "cacheScope") if plan.below(2)}
    return stammer(listed, plan)


def read_page(kind: Kind, raw: bytes, era: Era) -> Page:
    """The page, without letting others run between the steps."""
    steps = page_steps(kind, raw, era)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            page: Page = done.value
            return page


@given(plan=dice)
def test_a_page_of_a_list_has_usable_items_and_a_problem_for_each_other_one(plan: Dice) -> None:
    kind = list(Kind)[plan.below(4)]
    raw = page_of(plan, kind)
    try:
        page = read_page(kind, raw, era_of(plan))
    except RemoteFault:
        return
    listed = cast(JsonObject, json_text.parse(raw))[kind.value]
    assert isinstance(listed, list)
    hidden = [problem for problem in page.problems if problem.hidden]
    assert len(page.items) + len(hidden) == len(listed)
    assert len(page.problems) <= MAX_PROBLEMS
    assert len({item.name for item in page.items}) == len(page.items)
    for item in page.items:
        for client in ERAS.values():
            assert isinstance(json_text.parse(shape.shape_item(kind.value, item.raw, client)), dict)


STATUSES = (200, 202, 400, 401, 404, 405, 406, 429, 500, 503, 418)
DEEP = b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 200 + b"]" * 200 + b"}"


@given(status=st.sampled_from(STATUSES), typed=st.booleans(), plan=dice)
@example(status=200, typed=True, plan=Dice(bytes([7, 0])))
def test_every_answer_to_the_probe_has_a_verdict(status: int, typed: bool, plan: Dice) -> None:
    match plan.below(8):
        case 7:
            body = DEEP
        case 6:
            body = plan.take(30)
        case number:
            body = b'{"jsonrpc":"2.0","id":1,"%b":%b}' % (b"result" if number % 2 else b"error", raw_of(plan))
    assert isinstance(judge(status, b"application/json" if typed else b"text/html", body), EraVerdict)


@given(plan=dice)
def test_a_greeting_is_read_or_refused(plan: Dice) -> None:
    result = words_of(plan)
    with contextlib.suppress(BackendProtocol):
        assert greeting.initialized(KEY, result).era.version == result["protocolVersion"]
    greeting.refused(KEY, result, 400)
    with contextlib.suppress(BackendProtocol):
        read_hello(raw_of(plan), V2026_07_28, KEY)
    raw = b'{"jsonrpc":"2.0","id":1,"%b":%b}' % (b"result" if plan.below(2) else b"error", raw_of(plan))
    with contextlib.suppress(BackendProtocol, BackendRefused):
        result_of(Answer(raw=raw, status=200), KEY)
    with contextlib.suppress(BackendProtocol, BackendRefused):
        result_of(Answer(raw=raw[: plan.byte()], status=200), KEY)


ENDPOINT_PARTS = (
    "/messages",
    "?sessionId=1",
    "http://backend:9001",
    "http://backend",
    "https://backend:9001",
    "//backend:9001",
    "//evil",
    "..",
    "@",
    ":",
    "[",
    "#x",
    "\\",
    "%0d",
    "javascript:",
)


BACKEND = read_origin(HttpTarget(url="http://backend:9001/sse"))


@given(plan=dice)
def test_messages_are_posted_to_the_configured_origin_or_nowhere(plan: Dice) -> None:
    text = "".join(ENDPOINT_PARTS[plan.below(len(ENDPOINT_PARTS))] for _ in range(plan.below(6)))
    data = text.encode() + (plan.take(plan.below(6)) if plan.below(4) == 0 else b"")
    try:
        target = read_endpoint(KEY, BACKEND, data)
    except BackendProtocol:
        return
    assert target.startswith(b"/")
    assert all(0x21 <= byte <= 0x7E for byte in target)
    assert "evil" not in (urlsplit(f"http://backend:9001{target.decode()}").hostname or "")


EARLY = b"Mon, 01 Jan 0001 00:00:00 +2359"
DATE_PARTS = (
    "Thu, 26 Nov 2026 04:00:00 GMT",
    "Thu, 26 Nov 2026 04:00:00",
    "26 Nov ",
    "99999 ",
    "04:00:00 ",
    "+9999999999999999999",
    "-0000",
    "120",
    "\u0663",
    " ",
)


def date_of(plan: Dice) -> bytes:
    parts = "".join(DATE_PARTS[plan.below(len(DATE_PARTS))] for _ in range(plan.below(5)))
    return (parts + (plan.text() if plan.below(3) == 0 else "")).encode("utf-8", "surrogatepass")


@given(until=dice.map(date_of), now=dice.map(date_of))
@example(until=b"Thu, 26 Nov 2026 04:00:00 +9999999999999999999", now=b"Thu, 26 Nov 2026 04:00:00 GMT")
@example(until=EARLY, now=EARLY)
def test_when_to_come_back_is_read_or_not_said(until: bytes, now: bytes) -> None:
    headers = {b"retry-after": until, b"date": now}
    found = retry_after_ms(cast(HttpConnection, SimpleNamespace(headers=headers)))
    assert found is None or found >= 0
