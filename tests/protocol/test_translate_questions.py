"""Between the families: errors and questions of backends."""

import pytest

from mcp_gateway.errors import MalformedMessage
from mcp_gateway.protocol import json_text
from mcp_gateway.protocol.eras import V2024_11_05, V2025_06_18, V2025_11_25, V2026_07_28, Era
from mcp_gateway.protocol.members import Members
from mcp_gateway.protocol.translate import (
    MetaEdits,
    answer,
    error,
    input_request,
    request_params,
    result,
    server_request_params,
)
from mcp_gateway.values import JsonValue

L, M = V2025_11_25, V2026_07_28
VERSION = '"io.modelcontextprotocol/protocolVersion":"2026-07-28"'


def out(uri: str) -> str:
    return "m/" + uri


# --- errors ----------------------------------------------------------------------------------------------------------

NOT_FOUND = '{"code":-32002,"message":"no","data":{"uri":"a:1","x":1.50}}'
MISSING = '{"code":-32602,"message":"no","data":{"uri":"a:1"}}'


@pytest.mark.parametrize(
    "client, backend, method, raw, given_back",
    [
        pytest.param(L, L, "resources/read", NOT_FOUND, NOT_FOUND.replace("a:1", "m/a:1"), id="L-L: the client's URI"),
        pytest.param(L, L, "resources/read", '{"code":-32002,"message":"no"}', None, id="L-L: no data stays so"),
        pytest.param(L, L, "resources/read", MISSING, MISSING.replace("a:1", "m/a:1"), id="L-L: the code stays"),
        pytest.param(
            M, L, "resources/read", NOT_FOUND, NOT_FOUND.replace("-32002", "-32602").replace("a:1", "m/a:1"), id="M-L"
        ),
        pytest.param(
            M,
            L,
            "resources/read",
            '{"code":-32002,"message":"no"}',
            '{"code":-32602,"message":"no","data":{"uri":"m/a:1"}}',
            id="M-L: data made",
        ),
        pytest.param(
            M,
            L,
            "resources/read",
            '{"code":-32002,"message":"no","data":null}',
            '{"code":-32602,"message":"no","data":{"uri":"m/a:1"}}',
            id="M-L: null data",
        ),
        pytest.param(
            M,
            L,
            "resources/read",
            '{"code":-32002,"message":"no","data":"gone"}',
            '{"code":-32602,"message":"no","data":{"uri":"m/a:1","detail":"gone"}}',
            id="M-L: other data kept",
        ),
        pytest.param(
            M, L, "tools/call", '{"code":-32002,"message":"no"}', '{"code":-32602,"message":"no"}', id="M-L: of a tool"
        ),
        pytest.param(
            L, M, "resources/read", MISSING, MISSING.replace("-32602", "-32002").replace("a:1", "m/a:1"), id="L-M"
        ),
        pytest.param(L, M, "resources/read", '{"code":-32602,"message":"bad"}', None, id="L-M: other bad params"),
        pytest.param(L, M, "tools/call", MISSING, None, id="L-M: of a tool"),
        pytest.param(M, M, "resources/read", MISSING, MISSING.replace("a:1", "m/a:1"), id="M-M"),
        pytest.param(M, L, "tools/call", '{"code":-32603,"message":"x","data":[1.50]}', None, id="any other error"),
        pytest.param(M, L, "tools/call", '{"message":"x"}', None, id="no code"),
    ],
)
def test_a_missing_resource_has_the_clients_code_and_uri(
    client: Era, backend: Era, method: str, raw: str, given_back: str | None
) -> None:
    made = error(raw.encode(), method=method, client=client, backend=backend, uri="m/a:1")
    assert made.decode() == (raw if given_back is None else given_back)


def test_without_a_uri_only_the_code_changes() -> None:
    made = error(NOT_FOUND.encode(), method="resources/read", client=M, backend=L)
    assert made.decode() == NOT_FOUND.replace("-32002", "-32602")
    assert error(NOT_FOUND.encode(), method="resources/read", client=L, backend=L).decode() == NOT_FOUND


# --- questions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, params, asked",
    [
        pytest.param("roots/list", None, '{"method":"roots/list","params":{}}', id="no params"),
        pytest.param(
            "elicitation/create",
            '{"mode":"url","url":"https://x","elicitationId":"e","task":{},"n":1.50}',
            '{"method":"elicitation/create","params":{"mode":"url","url":"https://x","n":1.50}}',
            id="url",
        ),
        pytest.param(
            "sampling/createMessage",
            '{"messages":[{"content":{"type":"resource_link","uri":"a:1"}}],'
            '"_meta":{"progressToken":1,"io.modelcontextprotocol/related-task":{},"a":1}}',
            '{"method":"sampling/createMessage","params":{"messages":[{"content":{"type":"resource_link","uri":"m/a:1"}}],'
            '"_meta":{"a":1}}}',
            id="sampling",
        ),
        pytest.param("sampling/createMessage", '{"_meta":{"a":1}}', None, id="nothing to do"),
    ],
)
def test_a_legacy_question_becomes_an_input_request(method: str, params: str | None, asked: str | None) -> None:
    raw = None if params is None else params.encode()
    made = input_request(method, raw, uri_map=out)
    assert made.decode() == (f'{{"method":"{method}","params":{params}}}' if asked is None else asked)


@pytest.mark.parametrize(
    "method, client, params, sent",
    [
        pytest.param(
            "elicitation/create",
            L,
            '{"mode":"url","url":"https://x"}',
            '{"mode":"url","url":"https://x","elicitationId":"e1"}',
            id="url gets an id",
        ),
        pytest.param("elicitation/create", L, '{"mode":"form","n":1.50}', None, id="a form does not"),
        pytest.param(
            "elicitation/create", V2025_06_18, '{"mode":"form","n":1.50}', '{"n":1.50}', id="no word for forms"
        ),
        pytest.param("elicitation/create", V2025_06_18, '{"n":1.50}', None, id="no mode"),
        pytest.param("roots/list", L, f'{{"_meta":{{{VERSION},"a":1}}}}', '{"_meta":{"a":1}}', id="per-hop keys"),
        pytest.param("sampling/createMessage", L, '{"messages":[{"uri":1}]}', None, id="nothing to map"),
        pytest.param(
            "sampling/createMessage",
            V2024_11_05,
            '{"messages":[{"content":{"type":"audio","mimeType":"a/b"}}]}',
            '{"messages":[{"content":{"type":"text","text":"[audio, a/b: protocol version 2024-11-05 has none]"}}]}',
            id="audio",
        ),
        pytest.param("roots/list", L, None, "{}", id="no params"),
    ],
)
def test_a_question_fits_the_legacy_client(method: str, client: Era, params: str | None, sent: str | None) -> None:
    raw = None if params is None else params.encode()
    made = server_request_params(method, raw, client=client, elicitation_id="e1", uri_map=out)
    assert made.decode() == (params if sent is None else sent)


LINK = '{"type":"resource_link","uri":"%s","n":1.50}'
SAMPLE = '{"method":"sampling/createMessage","params":{"messages":[{"role":"user","content":%s}]}}'


@pytest.mark.parametrize(
    "requests, mapped",
    [
        pytest.param(
            f'{{"q":{SAMPLE % (LINK % "a:1")}}}', f'{{"q":{SAMPLE % (LINK % "m/a:1")}}}', id="a link in a message"
        ),
        pytest.param(
            '{"q":{"method":"elicitation/create","params":{"_meta":{"ui":{"resourceUri":"ui://p"}},"n":1.50}}}',
            '{"q":{"method":"elicitation/create","params":{"_meta":{"ui":{"resourceUri":"m/ui://p"}},"n":1.50}}}',
            id="a page",
        ),
        pytest.param('{"q":{"method":"elicitation/create","params":{"uri":"a:1"}}}', None, id="a form of that name"),
        pytest.param('{"q":{"method":"sampling/createMessage","params":7},"uri":"a:1"}', None, id="no params"),
        pytest.param('{"q":{"method":"roots/list"},"r":"uri","uri":{}}', None, id="no requests"),
        pytest.param('["uri","uri"]', None, id="no object"),
    ],
)
def test_the_questions_of_an_interim_result_are_mapped(requests: str, mapped: str | None) -> None:
    raw = '{"resultType":"input_required","uri":"x:1","inputRequests":%s,"requestState":"s"}'
    made = result("tools/call", (raw % requests).encode(), client=M, backend=M, server_info=b"", uri_map=out)
    assert made.decode() == raw % (mapped or requests)


def test_what_only_looks_like_an_interim_result_is_left_alone() -> None:
    raw = b'{"resultType":"complete","inputRequests":{"q":%b}}' % (SAMPLE % (LINK % "a:1")).encode()
    assert result("tools/call", raw, client=M, backend=M, server_info=b"", uri_map=out) == raw


def back(uri: str) -> str:
    return uri.removeprefix("m/")


@pytest.mark.parametrize(
    "given, sent",
    [
        pytest.param(
            '{"role":"assistant","content":%s}' % (LINK % "m/a:1"),
            '{"role":"assistant","content":%s}' % (LINK % "a:1"),
            id="one block",
        ),
        pytest.param(
            '{"role":"assistant","content":[{"type":"tool_result","content":[{"type":"resource","resource":{"uri":"m/a:1"}}]}]}',
            '{"role":"assistant","content":[{"type":"tool_result","content":[{"type":"resource","resource":{"uri":"a:1"}}]}]}',
            id="blocks inside blocks",
        ),
        pytest.param(
            '{"_meta":{"ui":{"resourceUri":"m/ui://p"}}}', '{"_meta":{"ui":{"resourceUri":"ui://p"}}}', id="page"
        ),
        pytest.param('{"role":"assistant","content":%s}' % (LINK % "a:1"), None, id="the client's own"),
        pytest.param('{"action":"accept","content":{"type":"resource_link","uri":"m/a:1"}}', None, id="a form"),
        pytest.param('{"roots":[{"uri":"m/a:1"}]}', None, id="roots"),
        pytest.param('["uri"]', None, id="no object"),
        pytest.param('{"role":"a","content":"x","content":%s}' % (LINK % "m/a:1"), None, id="twice"),
        pytest.param('{"role":"assistant","content":{"type":"text","text":"t"}}', None, id="none"),
    ],
)
def test_an_answer_goes_up_with_the_backends_own_uris(given: str, sent: str | None) -> None:
    assert answer(given.encode(), uri_back=back).decode() == (sent or given)
    assert answer(given.encode(), uri_back=None).decode() == given
    raw = f'{{"name":"t","inputResponses":{{"other":7,"q":{given}}},"n":1.50}}'
    made = request_params(
        Members.of(raw.encode()), client=M, backend=M, edits={}, meta=MetaEdits(), uri_back=back
    ).decode()
    assert made.startswith(raw.replace(given, sent or given)[:-1])


def test_responses_that_are_none_go_up_as_they_are() -> None:
    for responses in ("7", "[1]", "null"):
        raw = f'{{"inputResponses":{responses}}}'
        made = request_params(
            Members.of(raw.encode()), client=M, backend=M, edits={}, meta=MetaEdits(), uri_back=back
        ).decode()
        assert made.startswith(raw[:-1])


def test_a_legacy_backends_own_elicitation_id_stays() -> None:
    raw = b'{"mode":"url","elicitationId":"theirs"}'
    assert server_request_params("elicitation/create", raw, client=L) == raw


def test_params_that_are_no_object_are_malformed() -> None:
    values: list[JsonValue] = [[], "uri", 7]
    for value in values:
        with pytest.raises(MalformedMessage):
            input_request("sampling/createMessage", json_text.dumps(value), uri_map=out)
