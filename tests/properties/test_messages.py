"""Reading bytes from outside: one kind of refusal, and agreement with a plain reading."""

import contextlib
import json
import math

from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.errors import MalformedMessage, RemoteFault
from mcp_gateway.protocol.json_text import MAX_PARSED_BYTES, dumps, parse
from mcp_gateway.protocol.jsonrpc import (
    RpcNotification,
    RpcRequest,
    RpcResponse,
    answer_parts,
    read,
    read_batch,
    readable_id,
)
from mcp_gateway.protocol.outline import outline
from mcp_gateway.values import JsonObject, JsonValue, RequestId
from tests.support.json_bytes import Dice, dice, objects, spell, values

ids = st.integers() | st.integers(-(1 << 80), 1 << 80) | st.text(max_size=8)
ODD: list[JsonValue] = ["2.0", 1, None, {}, [], True, 1.5, "m", {"name": 1}]
MEMBERS = ("jsonrpc", "id", "method", "params", "result", "error", "x")


def nearly_a_message(plan: Dice) -> bytes:
    """An object with members of a message, their values sometimes right."""
    drawn: JsonObject = {
        MEMBERS[plan.below(len(MEMBERS))]: plan.value() if plan.below(4) == 3 else ODD[plan.below(len(ODD))]
        for _ in range(plan.below(7))
    }
    return spell(drawn, plan)


garbage = st.binary(max_size=80) | st.text(alphabet='{}[]",:\\ 1ntrue', max_size=60).map(str.encode)


@given(raw=garbage | dice.map(nearly_a_message))
def test_reading_raises_nothing_but_malformed_message(raw: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        read(raw)
    with contextlib.suppress(MalformedMessage):
        read_batch(b"[%b]" % raw)
    with contextlib.suppress(RemoteFault):
        answer_parts(raw)
    readable_id(raw)


@given(method=st.text(), params=objects, request_id=ids, plan=dice)
def test_a_request_is_read_as_it_was_written(
    method: str, params: JsonObject, request_id: RequestId, plan: Dice
) -> None:
    message: JsonObject = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    raw = spell(dict(plan.shuffled(message.items())), plan)
    got = read(raw)
    assert isinstance(got, RpcRequest)
    assert (got.id, got.method, dict(got.params)) == (request_id, method, params)
    assert json.loads(got.id_raw) == request_id
    assert got.id_raw in raw
    assert readable_id(raw) == got.id_raw


@given(guarded=st.sampled_from(["jsonrpc", "id", "method", "params"]), params=objects, plan=dice)
def test_a_second_guarded_member_is_always_refused(guarded: str, params: JsonObject, plan: Dice) -> None:
    message: JsonObject = {"jsonrpc": "2.0", "id": 1, "method": "m", "params": params}
    pieces = [spell(key, plan) + b":" + spell(value, plan) for key, value in message.items()]
    pieces.append(spell(guarded, plan) + b":" + spell(message[guarded], plan))
    raw = b"{%b}" % b",".join(plan.shuffled(pieces))
    try:
        read(raw)
    except MalformedMessage as malformed:
        assert malformed.what == f"duplicate member {guarded!r}"  # noqa: PT017 - the other outcome is the failure below
    else:
        raise AssertionError(raw)


@given(answer_id=ids, value=values, is_error=st.booleans(), plan=dice)
def test_an_answer_in_any_order_has_the_same_parts(
    answer_id: RequestId, value: JsonValue, is_error: bool, plan: Dice
) -> None:
    body = {"code": 1, "data": value} if is_error else value
    message: JsonObject = {"jsonrpc": "2.0", "id": answer_id, "error" if is_error else "result": body}
    raw = spell(dict(plan.shuffled(message.items())), plan)
    parts = answer_parts(raw)
    assert (parts.id, parts.is_error, json.loads(parts.result)) == (answer_id, is_error, body)
    got = read(raw)
    assert isinstance(got, RpcResponse)
    assert (got.id, got.is_error, got.error if is_error else got.result) == (answer_id, is_error, body)


@given(cut=st.integers(0, 200), value=values, plan=dice)
def test_an_answer_that_was_cut_is_refused(cut: int, value: JsonValue, plan: Dice) -> None:
    raw = b'{"jsonrpc":"2.0","id":1,"result":%b}' % spell(value, plan)
    try:
        answer_parts(raw[: cut % len(raw)])
    except RemoteFault:
        return
    raise AssertionError(raw)


@given(value=values, plan=dice)
def test_parsing_agrees_with_the_standard_library(value: JsonValue, plan: Dice) -> None:
    raw = spell(value, plan)
    assert parse(raw) == value
    assert json.loads(dumps(value)) == value


@given(raw=garbage)
def test_what_is_parsed_the_standard_library_parses_too(raw: bytes) -> None:
    try:
        value = parse(raw)
    except MalformedMessage:
        return
    other = json.loads(raw.decode())
    assert value == other or (isinstance(value, float) and math.isinf(value))


@given(messages=st.lists(objects, min_size=1, max_size=2), plan=dice)
def test_a_batch_has_its_elements_bytes(messages: list[JsonObject], plan: Dice) -> None:
    whole: list[JsonObject] = [{"jsonrpc": "2.0", "method": "m", "params": params} for params in messages]
    texts = [spell(message, plan).strip() for message in whole]
    got = read_batch(b"[%b]" % b" , ".join(texts))
    assert [message.raw for message in got if isinstance(message, RpcNotification)] == texts


BLOB = b"A" * MAX_PARSED_BYTES


@given(value=values, plan=dice)
def test_the_outline_of_a_large_text_is_what_it_says_but_for_its_long_strings(value: JsonValue, plan: Dice) -> None:
    around = [spell(value, plan) for _ in range(2)]
    assert outline(b'[%b,"%b",%b]' % (around[0], BLOB, around[1])) == [value, "", value]
