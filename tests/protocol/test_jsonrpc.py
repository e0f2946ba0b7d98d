"""Messages: what is read, what is refused and why, and what is written."""

import attrs
import pytest

from mcp_gateway.errors import MalformedMessage, RemoteFault
from mcp_gateway.protocol import json_text, jsonrpc
from mcp_gateway.protocol.jsonrpc import (
    MAX_BATCH,
    AnswerParts,
    RpcMessage,
    RpcNotification,
    RpcRequest,
    RpcResponse,
    answer_parts,
    begins_answer,
    claimed_id,
    looks_like_batch,
    read,
    read_batch,
    readable_id,
    split_batch,
    unpadded,
    usual_answer,
)
from mcp_gateway.protocol.members import NO_MEMBERS, Members

BIG = 1 << 70


@pytest.mark.parametrize(
    "raw, message",
    [
        pytest.param(
            b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
            RpcRequest(b"", 1, b"1", "ping", NO_MEMBERS),
            id="request without params",
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","id":"a","method":"m","params":{"name":"x"}}',
            RpcRequest(b"", "a", b'"a"', "m", Members.of(b'{"name":"x"}')),
            id="request with a string id",
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","id": "\\u0061\\n" ,"method":"m"}',
            RpcRequest(b"", "a\n", b'"\\u0061\\n"', "m", NO_MEMBERS),
            id="an id keeps its spelling",
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","id":-0,"method":"m"}', RpcRequest(b"", 0, b"-0", "m", NO_MEMBERS), id="even minus zero"
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","id":%d,"method":"m"}' % BIG,
            RpcRequest(b"", BIG, b"%d" % BIG, "m", NO_MEMBERS),
            id="a big id",
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","method":"notifications/x","params":{}}',
            RpcNotification(b"", "notifications/x", NO_MEMBERS),
            id="notification",
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","id":1,"result":{"a":1}}', RpcResponse(b"", 1, b"1", False, None, {"a": 1}), id="result"
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","id":"x","error":{"code":-1,"message":"m"}}',
            RpcResponse(b"", "x", b'"x"', True, {"code": -1, "message": "m"}, None),
            id="error",
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","id":null,"error":{}}',
            RpcResponse(b"", None, None, True, {}, None),
            id="error with id null",
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","error":{}}', RpcResponse(b"", None, None, True, {}, None), id="error without id"
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":[{"k":"a:b"}],"k":1,"k":1,"uri":"a:b"}}',
            RpcRequest(b"", 1, b"1", "m", Members.of(b'{"x":[{"k":"a:b"}],"k":1,"uri":"a:b"}')),
            id="duplicates that are nobody's business",
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","method":"m","x:y":1}',
            RpcNotification(b"", "m", NO_MEMBERS),
            id="a colon without params to look at",
        ),
    ],
)
def test_a_message_is_read(raw: bytes, message: RpcMessage) -> None:
    got = read(raw)
    assert got.raw is raw
    assert _without_raw(got) == _without_raw(message)


def _without_raw(message: RpcMessage) -> RpcMessage:
    return attrs.evolve(message, raw=b"")


@pytest.mark.parametrize(
    "raw, what",
    [
        pytest.param(b"[]", "a batch is not accepted here", id="array"),
        pytest.param(b"7", "not a JSON-RPC message", id="scalar"),
        pytest.param(b"{}", '"jsonrpc" must be "2.0"', id="no version"),
        pytest.param(b'{"jsonrpc":2.0,"id":1,"method":"m"}', '"jsonrpc" must be "2.0"', id="a number as version"),
        pytest.param(b'{"jsonrpc":"2.0","id":1}', "neither a request nor a response", id="nothing asked"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":1,"error":{}}', "neither a request nor a response", id="both"),
        pytest.param(
            b'{"jsonrpc":"2.0","id":1,"method":"m","result":1}',
            "a message with a method has no result and no error",
            id="request and response",
        ),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":1}', '"method" must be a string', id="method"),
        pytest.param(b'{"jsonrpc":"2.0","id":null,"method":"m"}', '"id" must not be null', id="id null"),
        pytest.param(b'{"jsonrpc":"2.0","id":true,"method":"m"}', '"id" must be a string or an integer', id="id true"),
        pytest.param(b'{"jsonrpc":"2.0","id":1.0,"method":"m"}', '"id" must be a string or an integer', id="id 1.0"),
        pytest.param(b'{"jsonrpc":"2.0","id":[],"result":1}', '"id" must be a string or an integer', id="id array"),
        pytest.param(
            b'{"jsonrpc":"2.0","id":1,"method":"m","params":[]}', '"params" must be an object', id="params array"
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","id":1,"method":"m","params":null}', '"params" must be an object', id="params null"
        ),
        pytest.param(b'{"jsonrpc":"2.0","id":null,"result":1}', 'a result needs its "id"', id="result without id"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"error":"e"}', '"error" must be an object', id="error string"),
    ],
)
def test_what_is_no_message_is_refused(raw: bytes, what: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        read(raw)
    assert (caught.value.what, caught.value.code) == (what, -32600)


@pytest.mark.parametrize("key", ["jsonrpc", "id", "method", "params", "result", "error"])
def test_a_second_member_at_the_top_is_refused(key: str) -> None:
    value = b"{}" if key == "params" else b'"2.0"'
    raw = b'{"jsonrpc":"2.0","id":"2.0","method":"2.0",' + b'"%b":%b,"%b":%b}' % (
        key.encode(),
        value,
        key.encode(),
        value,
    )
    with pytest.raises(MalformedMessage, match=f"duplicate member '{key}'"):
        read(raw)


@pytest.mark.parametrize(
    "key",
    [
        *("name", "uri", "cursor", "_meta", "requestState", "arguments", "inputResponses", "ref", "level"),
        *("protocolVersion", "capabilities", "clientInfo"),
    ],
)
@pytest.mark.parametrize("padding", [pytest.param(0, id="short"), pytest.param(5_000, id="long")])
def test_a_second_member_in_params_is_refused(key: str, padding: int) -> None:
    disguised = "".join(f"\\u{ord(letter):04x}" for letter in key)
    raw = f'{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"{key}":1,"p":"{"x" * padding}","{disguised}":1}}}}'
    with pytest.raises(MalformedMessage, match=f"duplicate member '{key}'"):
        read(raw.encode())


@pytest.mark.parametrize("name", ["protocolVersion", "clientCapabilities", "clientInfo", "logLevel"])
def test_a_second_member_of_the_protocols_metadata_is_refused(name: str) -> None:
    key = f"io.modelcontextprotocol/{name}"
    meta = f'{{"{key}":1,"vendor":1,"vendor":2,"{key}":1}}'
    with pytest.raises(MalformedMessage, match=f"duplicate member '{key}'"):
        read(f'{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"_meta":{meta}}}}}'.encode())
    read(f'{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{meta},"_meta":[{meta}]}}}}'.encode())


def test_a_batch_is_read_message_by_message() -> None:
    raw = b' [ {"jsonrpc":"2.0","id":1,"method":"ping"}, 7 ,{"jsonrpc":"2.0","method":"n"}]'
    assert looks_like_batch(raw)
    first, second, third = read_batch(raw)
    assert isinstance(first, RpcRequest)
    assert first.raw == b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    assert isinstance(second, MalformedMessage)
    assert isinstance(third, RpcNotification)


@pytest.mark.parametrize(
    "raw, what",
    [
        pytest.param(b"[]", "an empty batch", id="empty"),
        pytest.param(b"{}", "not a batch", id="an object"),
        pytest.param(b"[" + b"1," * MAX_BATCH + b"1]", "a batch of more than 100 messages", id="too many"),
    ],
)
def test_what_is_no_batch_is_refused(raw: bytes, what: str) -> None:
    with pytest.raises(MalformedMessage, match=what):
        read_batch(raw)
    with pytest.raises(MalformedMessage):
        split_batch(raw)


def test_a_batch_is_split_into_the_bytes_of_its_messages_up_to_a_bound() -> None:
    assert split_batch(b' [ {"a": 1.50},7 ] ') == [b'{"a": 1.50}', b"7"]
    with pytest.raises(MalformedMessage):
        split_batch(b'["%b"]' % (b"x" * json_text.MAX_PARSED_BYTES))


@pytest.mark.parametrize("raw", [b'{"a":[]}', b"", b"  "])
def test_an_object_does_not_look_like_a_batch(raw: bytes) -> None:
    assert not looks_like_batch(raw)


@pytest.mark.parametrize(
    "raw, id_raw",
    [
        pytest.param(b'{"id":"a","params":[]}', b'"a"', id="an id beside a fault"),
        pytest.param(b'{"params":[]}', None, id="no id"),
        pytest.param(b'{"id":1.5}', None, id="an id of the wrong type"),
        pytest.param(b'{"id":1,"id":2}', None, id="two ids"),
        pytest.param(b"[1]", None, id="an array"),
        pytest.param(b"{", None, id="not JSON"),
    ],
)
def test_the_id_of_a_refused_message_is_found_if_it_can_be_trusted(raw: bytes, id_raw: bytes | None) -> None:
    assert readable_id(raw) == id_raw


@pytest.mark.parametrize(
    "written, raw",
    [
        pytest.param(jsonrpc.render_result(b"1", b"{}"), b'{"jsonrpc":"2.0","id":1,"result":{}}', id="result"),
        pytest.param(
            jsonrpc.render_error(b'"a"', -32601, 'no "x"'),
            b'{"jsonrpc":"2.0","id":"a","error":{"code":-32601,"message":"no \\"x\\""}}',
            id="error",
        ),
        pytest.param(
            jsonrpc.render_error(None, -32700, "not JSON", {"a": 1}),
            b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"not JSON","data":{"a":1}}}',
            id="error without id, with data",
        ),
        pytest.param(
            jsonrpc.render_request(b"7", "ping", None), b'{"jsonrpc":"2.0","id":7,"method":"ping"}', id="request"
        ),
        pytest.param(
            jsonrpc.render_request(b"7", "m", b'{"a":1}'),
            b'{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":1}}',
            id="request with params",
        ),
        pytest.param(jsonrpc.render_notification("n", None), b'{"jsonrpc":"2.0","method":"n"}', id="notification"),
        pytest.param(
            jsonrpc.render_notification("n", b"{}"),
            b'{"jsonrpc":"2.0","method":"n","params":{}}',
            id="notification with params",
        ),
    ],
)
def test_messages_are_written(written: bytes, raw: bytes) -> None:
    assert written == raw


TOO_DEEP = b"[" * 200 + b"1" + b"]" * 200
HUGE = b'{"t":"' + b"x" * json_text.MAX_PARSED_BYTES + b'"}'


@pytest.mark.parametrize(
    "raw, parts",
    [
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":{"a":1}}', AnswerParts(7, False, b'{"a":1}'), id="id first"),
        pytest.param(
            b' {"jsonrpc": "2.0", "id": 7, "result": {"a":1} } \n', AnswerParts(7, False, b'{"a":1}'), id="spaced"
        ),
        pytest.param(b'{"jsonrpc":"2.0","result":{"id":1},"id":7}', AnswerParts(7, False, b'{"id":1}'), id="id last"),
        pytest.param(b'{"result":{} , "jsonrpc":"2.0","id":"x"}', AnswerParts("x", False, b"{}"), id="result first"),
        pytest.param(b'{"jsonrpc":"\\u0032.0","id":7,"result":{}}', AnswerParts(7, False, b"{}"), id="escapes"),
        pytest.param(b'{"id":7,"jsonrpc":"2.0","result":{}}', AnswerParts(7, False, b"{}"), id="any order"),
        pytest.param(
            b'{"jsonrpc":"2.0","id":7,"result":%b}' % TOO_DEEP, AnswerParts(7, False, TOO_DEEP), id="too deep to parse"
        ),
        pytest.param(
            b'{"id":7,"jsonrpc":"2.0","result":%b}' % TOO_DEEP,
            AnswerParts(7, False, TOO_DEEP),
            id="too deep, any order",
        ),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":{},"x":1}', AnswerParts(7, False, b"{}"), id="foreign members"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"error":{"code":1}}', AnswerParts(7, True, b'{"code":1}'), id="error"),
        pytest.param(
            b'{"jsonrpc":"2.0","id":null,"error":{}}', AnswerParts(None, True, b"{}"), id="error with id null"
        ),
        pytest.param(b'{"jsonrpc":"2.0","error":{}}', AnswerParts(None, True, b"{}"), id="error without id"),
        pytest.param(b'{"jsonrpc":"2.0","id":%d,"result":1}' % BIG, AnswerParts(BIG, False, b"1"), id="a big id"),
        pytest.param(
            b'{"jsonrpc":"2.0","id":7,"result":"\\ud800"}', AnswerParts(7, False, b'"\\ud800"'), id="a surrogate"
        ),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":' + HUGE + b"}", AnswerParts(7, False, HUGE), id="huge"),
        pytest.param(
            b'{"id":7,"jsonrpc":"2.0","result":' + HUGE + b"}", AnswerParts(7, False, HUGE), id="huge, in an odd order"
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","result":' + HUGE + b',"id":7}', AnswerParts(7, False, HUGE), id="huge, id last"
        ),
    ],
)
def test_an_answer_is_taken_apart(raw: bytes, parts: AnswerParts) -> None:
    assert answer_parts(raw) == parts
    assert usual_answer(raw, 7) in (None, parts)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(b',"id":8}', id="another id"),
        pytest.param(b',"method":"x"}', id="a method"),
        pytest.param(b"}}", id="one bracket too many"),
        pytest.param(b"", id="cut off"),
        pytest.param(b',"x":"\xff"}', id="not UTF-8"),
    ],
)
def test_behind_a_large_result_nothing_can_hide(after: bytes) -> None:
    large = b'{"rows":[%b]}' % b",".join(b'{"id":%d}' % number for number in range(4000))
    begun = b'{"jsonrpc":"2.0","id":7,"result":' + large
    assert usual_answer(begun + b"}", 7) == answer_parts(begun + b"}") == AnswerParts(7, False, large)
    assert usual_answer(begun + after, 7) is None
    with pytest.raises(RemoteFault):
        answer_parts(begun + after)


def test_the_usual_answer_is_known_by_its_first_bytes() -> None:
    raw = b'{"jsonrpc":"2.0","id":7,"result":{"a":1}}'
    assert usual_answer(raw, 7) == AnswerParts(7, False, b'{"a":1}')
    assert usual_answer(raw, 8) is None


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="HTML"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":{}', id="cut off"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":}', id="no value"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":{}}{}', id="two objects"),
        pytest.param(b'{"id":7,"result":{}}', id="no version"),
        pytest.param(b'{"jsonrpc":"2.0","id":"' + b"x" * 9_000 + b'","x":1,"result":{}}', id="an id without end"),
        pytest.param(b'{"jsonrpc":"1.0","id":7,"result":{}}', id="another version"),
        pytest.param(b'{"jsonrpc":"2.0","id":7}', id="no result"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":{},"error":{}}', id="result and error"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"method":"m","result":{}}', id="request and response"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"method":"m"}', id="request"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"error":"e"}', id="error that is no object"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":{},"id":8}', id="two ids"),
        pytest.param(b'{"jsonrpc":"2.0","result":{},"id":7,"id":8}', id="two ids at the end"),
        pytest.param(b'{"jsonrpc":"2.0","id":1.5,"result":{}}', id="id of the wrong type"),
        pytest.param(b'{"jsonrpc":"2.0","id":007,"result":{}}', id="id with zeros"),
        pytest.param(b'{"jsonrpc":"2.0","id":"\xff","result":{}}', id="id that is not UTF-8"),
        pytest.param(b'{\x0c"jsonrpc":"2.0","id":7,"result":{}}', id="form feed"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":' + HUGE + b"}}", id="huge, one bracket too many"),
        pytest.param(b'{"id":7,"jsonrpc":"2.0","result":' + HUGE + b"}]", id="huge, trailing bytes"),
    ],
)
def test_what_is_no_single_response_is_a_fault_of_the_peer(raw: bytes) -> None:
    with pytest.raises(RemoteFault):
        answer_parts(raw)
    assert usual_answer(raw, 7) is None


@pytest.mark.parametrize(
    "head, begins",
    [
        (b'{"jsonrpc":"2.0","id":2,"result":', True),
        (b'{"jsonrpc":"2.0","id":"a-1","error" : {', True),
        (b'\n { "id" : null ,"jsonrpc": "2.0", "result": {"method"', True),
        (b'{"result":{', True),
        (b'{"jsonrpc":"2.0","result":{', True),
        (b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"result":', False),
        (b'{"id":1,"method":"x"', False),
        (b'{"params":{},"result":', False),
        (b'[{"result":', False),
        (b'"result":', False),
        (b"", False),
    ],
)
def test_an_answer_is_known_by_how_it_begins(head: bytes, begins: bool) -> None:
    assert begins_answer(head) is begins


@pytest.mark.parametrize(
    "raw, claimed",
    [
        (b'{"jsonrpc":"2.0","id":12,"result":NaN}', 12),
        (b'{"id": 3, "error": ', 3),
        (b'{"id":3,"jsonrpc"', 3),
        (b'{"jsonrpc":"2.0","id":"3","result":{}}', None),
        (b'{"jsonrpc":"2.0","id":3,"method":"x"}', None),
        (b'{"id":3}', None),
        (b"3", None),
    ],
)
def test_a_broken_answer_still_says_whose_it_is(raw: bytes, claimed: int | None) -> None:
    assert claimed_id(raw) == claimed


@pytest.mark.parametrize(
    "before, after",
    [
        (b"", b"\n"),
        (b"\r\n\r\n  ", b"\r\n"),
        (b" " * 5000, b"\t" * 5000),
        (b"\xef\xbb\xbf", b""),
        (b"\n\xef\xbb\xbf\n", b"\n"),
        (b"\x1e", b"\n"),
        (b"", b"\0\0\0"),
        (b"\f", b"\v"),
    ],
)
def test_what_is_around_a_text_is_no_part_of_it(before: bytes, after: bytes) -> None:
    text = b'{"a":"\xef\xbb\xbf \\u0000 "}'
    assert unpadded(before + text + after) == text
    assert unpadded(before + after) == b""
