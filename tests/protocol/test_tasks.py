"""Where task ids stand in messages, and what is read of a task."""

import json

import pytest

from mcp_gateway.errors import MalformedMessage
from mcp_gateway.protocol import tasks
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.protocol.tasks import CALLS, CANCELS, abilities, capability, in_result, outward, related, told
from mcp_gateway.values import JsonObject, JsonValue

TASK = b'{"taskId":"t","status":"working","ttl":60000,"x":1e400}'
RELATED = b'"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"},"k":1}'


def ours(task_id: str) -> str:
    return f"gw-{task_id}"


def nobody(task_id: str) -> None:
    return None


@pytest.mark.parametrize(
    "raw, status, ttl_s, final",
    [
        (TASK, "working", 60.0, False),
        (b'{"taskId":"t","status":"failed","ttl":null}', "failed", None, True),
        (b'{"taskId":"t","status":"completed"}', "completed", None, True),
        (b'{"taskId":"t","status":"cancelled","ttlMs":1500.5}', "cancelled", 1.5005, True),
        (b'{"taskId":"t","status":"odd","ttl":-5}', "odd", 0.0, False),
        (b'{"taskId":"t","status":"odd","ttl":true}', "odd", None, False),
        (b'{"taskId":"t","status":"odd","ttl":"x"}', "odd", None, False),
    ],
)
def test_what_is_said_of_a_task(raw: bytes, status: str, ttl_s: float | None, final: bool) -> None:
    said = told(raw)
    assert said is not None
    assert (said.id, said.status, said.ttl_s, said.final, said.raw) == ("t", status, ttl_s, final, raw)


@pytest.mark.parametrize(
    "raw", [b"[]", b'"t"', b"{}", b'{"taskId":1,"status":"x"}', b'{"taskId":"t"}', b"{" + b" " * 2**21]
)
def test_what_is_no_task(raw: bytes) -> None:
    assert told(raw) is None


@pytest.mark.parametrize(
    "method, raw, era",
    [
        ("tools/call", b'{"task":%b,"y":2}' % TASK, V2025_11_25),
        ("tools/call", b'{"resultType":"task",%b' % TASK[1:], V2026_07_28),
        ("tasks/get", TASK, V2025_11_25),
        ("tasks/cancel", TASK, V2025_11_25),
        ("tasks/result", b"{%b}" % RELATED, V2025_11_25),
        ("tools/call", b"{%b}" % RELATED, V2025_11_25),
    ],
)
def test_ids_in_results_are_mapped(method: str, raw: bytes, era: Era) -> None:
    assert outward(method, raw, era, ours) == raw.replace(b'"t"', b'"gw-t"')


@pytest.mark.parametrize(
    "method, raw, era",
    [
        ("tools/call", b'{"content":["task"]}', V2025_11_25),
        ("tools/call", b'{"content":[]}', V2025_11_25),
        ("tools/call", b'{"task":{"taskId":7}}', V2025_11_25),
        ("tools/call", b'{"resultType":"complete","task":%b}' % TASK, V2026_07_28),
        ("tasks/result", TASK, V2025_11_25),
        ("acme/run", TASK, V2025_11_25),
    ],
)
def test_and_nothing_else(method: str, raw: bytes, era: Era) -> None:
    assert outward(method, raw, era, ours) == raw


def test_what_a_result_says_of_a_task() -> None:
    said = in_result("tools/call", b'{"task":%b}' % TASK, V2025_11_25)
    assert said == told(TASK)
    assert in_result("tasks/get", TASK, V2025_11_25) == said
    assert in_result("tools/call", b'{"content":["task"]}', V2025_11_25) is None
    assert in_result("tasks/result", TASK, V2025_11_25) is None


@pytest.mark.parametrize("outer", [(), ("params",), ("result",)])
def test_what_is_related_to_a_task_is_so_on_the_other_side(outer: tuple[str, ...]) -> None:
    raw = b"{%b}" % RELATED
    for step in outer:
        raw = b'{"id":1,"%b":%b}' % (step.encode(), raw)
    assert related(raw, ours, *outer) == raw.replace(b'"t"', b'"gw-t"')
    gone = b'"io.modelcontextprotocol/related-task":{"taskId":"t"},'
    assert related(raw, nobody, *outer) == raw.replace(gone, b"")
    assert related(raw, ours, "elsewhere") == raw


def test_what_is_there_twice_is_an_error() -> None:
    with pytest.raises(MalformedMessage):
        outward("tasks/get", b'{"taskId":"t","taskId":"u"}', V2025_11_25, ours)


@pytest.mark.parametrize("token", [b"7", b"-7", b'"x"', b'"a\\"b"', b'"\xc3\xbc"'])
def test_the_token_of_a_task_leads_back_to_the_clients(token: bytes) -> None:
    sent = tasks.progress_token(token, 17)
    value: JsonValue = json.loads(sent)
    assert isinstance(value, str)
    assert tasks.clients_token(value) == token
    assert tasks.request_of(value) == 17


@pytest.mark.parametrize(
    "token",
    [7, None, "x", "task:", "task:1", "task:1:", "task:1:{}", 'task:1:"', "task:1:1.5", 'task:1:"a"b"', "task:0:1"],
)
def test_other_tokens_lead_nowhere(token: JsonValue) -> None:
    assert tasks.clients_token(token) is None
    assert tasks.request_of(token) is None


def test_a_token_that_is_no_text_leads_nowhere() -> None:
    assert tasks.clients_token('task:1:"\ud800"') is None


@pytest.mark.parametrize(
    "capabilities, has",
    [
        ({"tasks": {"requests": {"tools": {"call": {}}}}}, {CALLS}),
        ({"tasks": {"cancel": {}, "requests": {"tools": {"call": {}}}}}, {CALLS, CANCELS}),
        ({"tasks": {"cancel": {}, "list": {}}}, set()),
        ({"tasks": {"requests": {"tools": True}}}, set()),
        ({"tasks": None}, set()),
        ({}, set()),
    ],
)
def test_which_servers_have_tasks(capabilities: JsonObject, has: set[str]) -> None:
    assert abilities(capabilities) == has


def test_what_clients_are_told() -> None:
    call: JsonObject = {"tools": {"call": {}}}
    assert capability(cancels=True) == {"list": {}, "cancel": {}, "requests": call}
    assert capability(cancels=False) == {"list": {}, "requests": call}
