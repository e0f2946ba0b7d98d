"""Between the families: playbooks of bytes in and bytes out, per pair of eras."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.errors import MalformedMessage, RemoteFault
from mcp_gateway.protocol import json_text
from mcp_gateway.protocol.eras import ERAS, V2025_11_25, V2026_07_28, Era
from mcp_gateway.protocol.members import NO_MEMBERS, Members
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.protocol.translate import (
    MetaEdits,
    client_capabilities,
    request_params,
    result,
)
from mcp_gateway.values import JsonObject, JsonValue

L, M = V2025_11_25, V2026_07_28
VERSION = '"io.modelcontextprotocol/protocolVersion":"2026-07-28"'


def out(uri: str) -> str:
    return "m/" + uri


CAPS = '"io.modelcontextprotocol/clientCapabilities":{"roots":{}}'
INFO = '"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}'
LEVEL = '"io.modelcontextprotocol/logLevel":"info"'
SERVER = '"io.modelcontextprotocol/serverInfo":{"name":"g","version":"9"}'
OURS = b'{"name":"g","version":"9"}'
CALLER = MetaEdits(capabilities=b'{"roots":{}}', client_info=b'{"name":"c","version":"1"}')

# --- requests --------------------------------------------------------------------------------------------------------


def test_the_wish_for_a_task_is_told_to_those_who_have_tasks() -> None:
    raw = b'{"task":{"ttl":1},"name":"t","requestState":"x"}'
    made = request_params(Members.of(raw), client=L, backend=L, edits={}, meta=CALLER, may_be_task=True)
    assert made == b'{"task":{"ttl":1},"name":"t"}'


@pytest.mark.parametrize(
    "client, backend, params, sent",
    [
        pytest.param(L, L, '{"name":"t","x":1e400}', '{"name":"t","x":1e400}', id="L-L: nothing to do"),
        pytest.param(
            L,
            L,
            '{"_meta":{"progressToken":7,"traceparent":"00-1"}}',
            '{"_meta":{"traceparent":"00-1"}}',
            id="L-L: token",
        ),
        pytest.param(L, L, '{"task":{"ttl":1},"name":"t"}', '{"name":"t"}', id="L-L: a server without tasks"),
        pytest.param(L, L, '{"_meta":null,"name":"t"}', '{"name":"t"}', id="L-L: no object as metadata"),
        pytest.param(
            L, M, '{"name":"t"}', f'{{"name":"t","_meta":{{{VERSION},{CAPS},{INFO}}}}}', id="L-M: new metadata"
        ),
        pytest.param(
            L,
            M,
            '{"_meta":{"progressToken":7,"a/b": [1.50] },"name":"t","requestState":"s","inputResponses":{}}',
            f'{{"_meta":{{"a/b": [1.50],{VERSION},{CAPS},{INFO} }},"name":"t"}}',
            id="L-M: metadata joined, nothing of the other family",
        ),
        pytest.param(L, M, '{"_meta":7}', f'{{"_meta":{{{VERSION},{CAPS},{INFO}}}}}', id="L-M: no object as metadata"),
        pytest.param(
            M,
            L,
            f'{{"name":"t","_meta":{{{VERSION},{CAPS},{INFO},{LEVEL},"baggage":"k=v"}},"requestState":"s","inputResponses":{{}}}}',
            '{"name":"t","_meta":{"baggage":"k=v"}}',
            id="M-L: per-hop keys go",
        ),
        pytest.param(
            M,
            M,
            f'{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"x",{LEVEL},"a":1}},"requestState":"s","task":1}}',
            f'{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","a":1,{CAPS},{INFO}}},"requestState":"s","task":1}}',
            id="M-M: per-hop keys are made anew",
        ),
    ],
)
def test_params_are_those_of_the_backends_era(client: Era, backend: Era, params: str, sent: str) -> None:
    made = request_params(Members.of(params.encode()), client=client, backend=backend, edits={}, meta=CALLER)
    assert made.decode() == sent


def test_absent_params_are_an_empty_object() -> None:
    assert request_params(NO_MEMBERS, client=L, backend=L, edits={}, meta=CALLER) == b"{}"
    made = request_params(NO_MEMBERS, client=L, backend=M, edits={}, meta=CALLER)
    assert made.decode() == f'{{"_meta":{{{VERSION},{CAPS},{INFO}}}}}'


def test_token_and_log_level_are_the_given_ones() -> None:
    meta = MetaEdits(log_level="info", progress_token=b"41")
    modern = json.loads(
        request_params(Members.of(b'{"_meta":{"progressToken":"x"}}'), client=L, backend=M, edits={}, meta=meta)
    )
    assert modern["_meta"]["progressToken"] == 41
    assert modern["_meta"]["io.modelcontextprotocol/logLevel"] == "info"
    legacy = request_params(Members.of(b'{"_meta":{"progressToken":"x"}}'), client=M, backend=L, edits={}, meta=meta)
    assert legacy == b'{"_meta":{"progressToken":41}}'


@pytest.mark.parametrize(
    "edits, sent",
    [
        ({"name": b'"u"'}, '{"name":"u", "arguments":{"n":1.50}}'),
        ({"requestState": b'"mine"'}, '{"name":"p_u", "arguments":{"n":1.50},"requestState":"mine"}'),
    ],
)
def test_edits_of_routing_are_made_in_the_same_pass(edits: Edits, sent: str) -> None:
    raw = b'{"name":"p_u", "arguments":{"n":1.50}}'
    assert request_params(Members.of(raw), client=L, backend=L, edits=edits, meta=CALLER).decode() == sent


def test_given_state_wins_over_the_callers() -> None:
    raw = b'{"requestState":"theirs"}'
    made = request_params(Members.of(raw), client=L, backend=L, edits={"requestState": b'"ours"'}, meta=CALLER)
    assert made == b'{"requestState":"ours"}'


@pytest.mark.parametrize("raw", [b'{"name":"a","name":"b"}', b'{"_meta":{},"_meta":{}}', b"[]"])
def test_ambiguous_params_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        request_params(Members.of(raw), client=L, backend=L, edits={"name": b'"c"'}, meta=CALLER)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ANY_ERA = st.sampled_from(list(ERAS.values()))
HOP = {"progressToken", *(json.loads("{" + one + "}").popitem()[0] for one in (VERSION, CAPS, INFO, LEVEL))}


@given(
    params=st.dictionaries(st.text(), JSON, max_size=4),
    meta=st.dictionaries(st.text() | st.sampled_from(sorted(HOP)), JSON, max_size=4),
    client=ANY_ERA,
    backend=ANY_ERA,
)
def test_every_key_that_is_not_per_hop_survives(
    params: JsonObject, meta: JsonObject, client: Era, backend: Era
) -> None:
    raw = json_text.dumps({**params, "_meta": meta})
    sent = json.loads(request_params(Members.of(raw), client=client, backend=backend, edits={}, meta=CALLER))
    assert {key: value for key, value in sent["_meta"].items() if key not in HOP} == {
        key: value for key, value in meta.items() if key not in HOP
    }
    per_family = {"task", "inputResponses", "requestState", "_meta"}
    assert {key: value for key, value in sent.items() if key not in per_family} == {
        key: value for key, value in params.items() if key not in per_family
    }
    hop = HOP & set(sent["_meta"])
    assert len(hop) == (3 if backend.modern else 0)


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "client, backend, method, raw, given_back",
    [
        pytest.param(L, L, "tools/call", '{ "content":[],"n":1e400}', '{ "content":[],"n":1e400}', id="L-L"),
        pytest.param(
            L, L, "tools/call", '{"content":[],"resultType":"mine","ttlMs":1}', None, id="L-L: nobody's business"
        ),
        pytest.param(
            L,
            M,
            "resources/read",
            f'{{"resultType":"complete","contents":[1.50],"ttlMs":1,"cacheScope":"public","_meta":{{{SERVER}}}}}',
            '{"contents":[1.50]}',
            id="L-M: stripped",
        ),
        pytest.param(
            L,
            M,
            "tools/call",
            f'{{"content":[],"_meta":{{"a":1,{SERVER}}}}}',
            '{"content":[],"_meta":{"a":1}}',
            id="L-M: meta",
        ),
        pytest.param(L, M, "tools/call", '{"content":[],"_meta":{"a":1}}', None, id="L-M: foreign metadata"),
        pytest.param(L, M, "tools/call", '{"content":[],"_meta":null}', None, id="L-M: no object as metadata"),
        pytest.param(
            M,
            L,
            "tools/call",
            '{"content":[],"n":1e400}',
            f'{{"content":[],"n":1e400,"resultType":"complete","_meta":{{{SERVER}}}}}',
            id="M-L: completed",
        ),
        pytest.param(
            M,
            L,
            "resources/read",
            '{"contents":[],"_meta":{"a":1},"ttlMs":7}',
            f'{{"contents":[],"_meta":{{"a":1,{SERVER}}},"ttlMs":0,"resultType":"complete","cacheScope":"private"}}',
            id="M-L: caching",
        ),
        pytest.param(
            M,
            M,
            "tools/call",
            '{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"theirs"}},"content":[]}',
            f'{{"resultType":"complete","_meta":{{{SERVER}}},"content":[]}}',
            id="M-M: our name",
        ),
        pytest.param(
            M,
            M,
            "resources/read",
            '{"resultType":"complete","ttlMs":5,"cacheScope":"public","contents":[],"_meta":7}',
            f'{{"resultType":"complete","ttlMs":5,"cacheScope":"public","contents":[],"_meta":{{{SERVER}}}}}',
            id="M-M: the backend's own hints",
        ),
        pytest.param(
            M,
            M,
            "resources/read",
            '{"ttlMs":5,"contents":[]}',
            f'{{"ttlMs":5,"contents":[],"resultType":"complete","cacheScope":"private","_meta":{{{SERVER}}}}}',
            id="M-M: what is missing",
        ),
        pytest.param(
            M,
            M,
            "resources/read",
            '{"resultType":"input_required","inputRequests":{}}',
            f'{{"resultType":"input_required","inputRequests":{{}},"_meta":{{{SERVER}}}}}',
            id="M-M: a question is not cached",
        ),
        pytest.param(
            M,
            M,
            "tools/call",
            '{"resultType":null}',
            f'{{"resultType":"complete","_meta":{{{SERVER}}}}}',
            id="M-M: null is absent",
        ),
    ],
)
def test_results_are_those_of_the_clients_era(
    client: Era, backend: Era, method: str, raw: str, given_back: str | None
) -> None:
    made = result(method, raw.encode(), client=client, backend=backend, server_info=OURS)
    assert made.decode() == (raw if given_back is None else given_back)


@pytest.mark.parametrize("client", [pytest.param(L, id="2025 client"), pytest.param(M, id="2026 client")])
@pytest.mark.parametrize(
    "method, kind", [("tools/call", "task"), ("tools/call", 7), ("completion/complete", "input_required")]
)
def test_a_result_of_a_type_that_it_cannot_have_is_refused(client: Era, method: str, kind: JsonValue) -> None:
    raw = json.dumps({"resultType": kind, "content": []}).encode()
    with pytest.raises(RemoteFault, match="type"):
        result(method, raw, client=client, backend=M, server_info=OURS)


@pytest.mark.parametrize(
    "raw, sent",
    [
        (b'{"roots":{}, "sampling":{"tools":{}}}', b'{"roots":{}, "sampling":{"tools":{}}}'),
        (b'{"tasks":{"list":{}},"roots":{}}', b'{"roots":{}}'),
        (
            b'{"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}',
            b'{"extensions":{"a/b":{}}}',
        ),
        (b'{"extensions":{"x":"tasks"}}', b'{"extensions":{"x":"tasks"}}'),
        (b'{"tasks":1,"roots": {},"tasks":2}', b'{"roots":{}}'),
        (b'{"extensions":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}', b'{"extensions":{}}'),
        (b'"tasks"', b"{}"),
        (None, b"{}"),
    ],
)
def test_tasks_are_not_promised_to_backends(raw: bytes | None, sent: bytes) -> None:
    assert client_capabilities(raw) == sent


def test_given_hints_are_what_counts() -> None:
    raw = b'{"resultType":"complete","ttlMs":5,"cacheScope":"private","contents":[]}'
    made = json.loads(result("resources/read", raw, client=M, backend=M, server_info=OURS, hints=(3, False)))
    assert (made["ttlMs"], made["cacheScope"]) == (3, "public")


def test_without_a_name_of_ours_the_backends_goes_too() -> None:
    raw = f'{{"resultType":"complete","_meta":{{{SERVER}}}}}'.encode()
    assert result("tools/call", raw, client=M, backend=M, server_info=b"") == b'{"resultType":"complete","_meta":{}}'
    assert result("tools/call", b'{"resultType":"complete"}', client=M, backend=M, server_info=b"") == (
        b'{"resultType":"complete"}'
    )
    raw = b'{"resultType":"complete","_meta":7}'
    assert result("tools/call", raw, client=M, backend=M, server_info=b"") == b'{"resultType":"complete"}'


def test_mapping_shaping_and_bridging_are_one_pass() -> None:
    raw = (
        '{"resultType":"complete","content":[{"type":"resource","resource":{"uri":"a:1","n":1.50}}],'
        f'"structuredContent":7,"_meta":{{{SERVER},"ui":{{"resourceUri":"ui://p"}}}}}}'
    )
    made = result("tools/call", raw.encode(), client=L, backend=M, server_info=OURS, uri_map=out)
    assert made.decode() == (
        '{"content":[{"type":"resource","resource":{"uri":"m/a:1","n":1.50}}],"_meta":{"ui":{"resourceUri":"m/ui://p"}}}'
    )


def test_a_page_and_our_name_share_the_metadata() -> None:
    raw = b'{"resultType":"complete","_meta":{"ui":{"resourceUri":"ui://p"}}}'
    made = json.loads(result("tools/call", raw, client=M, backend=M, server_info=OURS, uri_map=out))
    assert made["_meta"] == {
        "ui": {"resourceUri": "m/ui://p"},
        "io.modelcontextprotocol/serverInfo": {"name": "g", "version": "9"},
    }


def test_a_result_that_is_no_object_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        result("tools/call", b"[]", client=M, backend=L, server_info=OURS)


@given(
    raw=st.dictionaries(st.text(), JSON, max_size=5),
    method=st.sampled_from(["tools/call", "resources/read", "prompts/get"]),
    client=ANY_ERA,
    backend=ANY_ERA,
)
def test_what_the_gateway_does_not_know_survives(raw: JsonObject, method: str, client: Era, backend: Era) -> None:
    made = json.loads(result(method, json_text.dumps(raw), client=client, backend=backend, server_info=OURS))
    own = {"resultType", "ttlMs", "cacheScope", "_meta", "content", "structuredContent"}
    assert {key: value for key, value in made.items() if key not in own} == {
        key: value for key, value in raw.items() if key not in own
    }
    assert ("resultType" in made) is (client.modern or "resultType" in raw)


@pytest.mark.parametrize("ours", [b"", b'{"name":"g"}'])
def test_metadata_that_says_what_is_wanted_keeps_its_bytes(ours: bytes) -> None:
    said = b'{"io.modelcontextprotocol/serverInfo":%b}' % ours if ours else b'{"x":1.0}'
    raw = b'{"resultType":"complete","_meta":%b}' % said
    assert result("tools/call", raw, client=M, backend=M, server_info=ours) == raw


@pytest.mark.parametrize("padding", [1, 5_000], ids=["short", "long"])
def test_a_server_is_named_as_the_gateway_however_much_its_metadata_says(padding: int) -> None:
    other = b'"x":"%b"' % (b"x" * padding)
    raw = b'{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"},%b}}' % other
    made = result("tools/call", raw, client=M, backend=M, server_info=b'{"name":"g"}')
    assert made == raw.replace(b'"s"', b'"g"')
