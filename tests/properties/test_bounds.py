"""Megabytes in hostile shapes: what a parser holds stays below its bound, and it never hangs.

Not random: each shape is the worst that is known for one parser. What is measured is what Python allocates.
"""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from mcp_gateway.backends.transports.http_connection import HEAD_BYTES, ResponseParser
from mcp_gateway.backends.transports.lines import LineCutter, LongLine
from mcp_gateway.errors import RemoteFault
from mcp_gateway.gateway.origin import host_allowed, origin_allowed
from mcp_gateway.protocol import jsonrpc, splice
from mcp_gateway.protocol.sse import SseDecoder
from mcp_gateway.sessions.signed import Purpose, SessionId, Signer

MIB = 2**20
KIB = 2**10
pytestmark = pytest.mark.brisk


@contextmanager
def at_most(bound: int) -> Iterator[None]:
    """What the block allocates is never more than ``bound`` bytes at once."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before <= bound, f"{(peak - before) / MIB:.1f} MiB"


def shapes(size: int) -> dict[str, bytes]:
    """Texts of about ``size`` bytes."""
    return {
        "arrays": b"[" * size,
        "quotes": b'"' * size,
        "backslashes": b'"' + b"\\" * size,
        "escapes": b'"' + b"\\u0041" * (size // 6) + b'"',
        "digits": b"9" * size,
        "zeros": b"0." + b"0" * size,
        "exponent": b"1e" + b"9" * size,
        "white space": b" " * size + b"{}",
        "an id": b'{"jsonrpc":"2.0","id":' + b"9" * size + b',"result":1}',
        "a deep answer": b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 129 + b"]" * 129 + b" " * size + b"}",
    }


def small_parts(size: int) -> dict[str, bytes]:
    """The same of many small parts, each of which costs something."""
    return {
        "objects": b'{"a":' * (size // 5),
        "surrogates": b"[" + b'"\\ud800",' * (size // 9) + b"1]",
        "big integers": b"[" + b",".join([b"9" * 20] * (size // 21)) + b"]",
        "one big integer": b"[" + b"9" * 4000 + b",1" * (size // 2) + b"]",
        "infinities": b"[" + b",".join([b"1e400"] * (size // 6)) + b"]",
        "empty arrays": b"[" + b"[]," * (size // 3) + b"1]",
        "empty objects": b'{"a":[' + b"{}," * (size // 3) + b"1]}",
        "members": b"{" + b",".join(b'"%d":1' % number for number in range(size // 10)) + b"}",
        "a request": b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":[' + b"{}," * (size // 3) + b"1]}}",
        "brackets": b'{"jsonrpc":"2.0","result":' + b"[" * (size // 2) + b"]" * (size // 2) + b',"id":1}',
        "bytes": bytes(range(256)) * (size // 256),
    }


SHAPES = {**shapes(MIB), **small_parts(MIB // 8)}
READERS: dict[str, Callable[[bytes], object]] = {
    "read": jsonrpc.read,
    "read_batch": jsonrpc.read_batch,
    "readable_id": jsonrpc.readable_id,
    "answer_parts": jsonrpc.answer_parts,
    "value_at": lambda raw: splice.value_at(raw, ("a", 0)),
    "rewrite": lambda raw: splice.rewrite(raw, {"a": b"1"}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mebibyte_of_json_is_read_or_refused_within_a_bound(shape: str) -> None:
    """A value of three bytes costs up to 64 in Python; nothing is worse than that, and the body has its own bound."""
    raw = SHAPES[shape]
    for read in READERS.values():
        with at_most(40 * len(raw)), suppress(RemoteFault):
            read(raw)


def test_arguments_that_nobody_asks_for_become_no_objects() -> None:
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":[%b1]}}}' % (
        b"1," * MIB
    )
    with at_most(64 * KIB):
        message = jsonrpc.read(call)
    assert isinstance(message, jsonrpc.RpcRequest)
    with at_most(64 * KIB):
        assert message.params.get("name") == "t"


@pytest.mark.parametrize(
    "piece", [b"d", b"da", b"data: x\n", b":\n", b"id: 1\n", b"event: ee\n", b"\r", b"data\n", b"x\r\n"]
)
def test_an_event_holds_no_more_than_its_bound(piece: bytes) -> None:
    decoder = SseDecoder(max_event_bytes=64 * KIB)
    with at_most(4 * 64 * KIB), suppress(RemoteFault):
        for _ in range(256 * KIB // len(piece)):
            decoder.feed(piece)


@pytest.mark.parametrize("piece", [b"d", b"dd", b"d" * 50_000])
def test_a_line_holds_no_more_than_its_bound(piece: bytes) -> None:
    cutter, found = LineCutter(64 * KIB), list[bytes | LongLine]()
    with at_most(4 * 64 * KIB):
        for _ in range(256 * KIB // len(piece)):
            found += cutter.feed(piece)
    assert len(found) == 1


@pytest.mark.parametrize(
    "head, piece",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", b"x", id="a value without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"x", id="a name without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n", id="fields without end"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="interim answers without end"),
        pytest.param(b"HTTP/1.1 200 ", b"x", id="a reason without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x", id="an extension without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n", id="trailers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", id="a length without end"),
    ],
)
def test_what_frames_an_answer_is_bounded(head: bytes, piece: bytes) -> None:
    parser = ResponseParser()
    parser.begin()
    with at_most(16 * HEAD_BYTES), pytest.raises(RemoteFault):  # noqa: PT012 - at which piece does not matter
        parser.feed(head + piece)
        for _ in range(4 * HEAD_BYTES // len(piece)):
            parser.feed(piece)


def test_tokens_and_names_of_any_length_are_refused_and_forgotten() -> None:
    signer = Signer((b"key",))
    with at_most(8 * MIB):
        for number in range(8):
            token = "1." + "A" * MIB + str(number)
            assert signer.open(Purpose.CURSOR, "gw", token) is None
            assert SessionId.decode(signer, "gw", token) is None
    with at_most(MIB):
        for number in range(1024):
            name = b"a" * (32 * KIB) + b"%d" % number
            assert not host_allowed(name, ["*.example.com"])
            assert not origin_allowed(b"http://" + name, [])
