"""The reader of requests: sizes to the byte, bodies cut anywhere, and what is refused."""

import contextlib
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.front.http1.request_reader import HEAD_BYTES, HEAD_FIELDS, Head, Malformed, RequestReader
from tests.support.ambiguous import SMUGGLED, ambiguous

POST = b"POST /mcp HTTP/1.1\r\nHost: x\r\n"


def read(*pieces: bytes) -> list[tuple[Head, bytes]]:
    """Every request of what comes in these pieces."""
    reader, found, head = RequestReader(), list[tuple[Head, bytes]](), None
    for piece in pieces:
        reader.feed(piece)
        while True:
            head = head or reader.head()
            if head is None:
                break
            reader.read_body()
            if not reader.complete:
                break
            found.append((head, reader.take_body()))
            head = None
    return found


def status(*pieces: bytes) -> int:
    with pytest.raises(Malformed) as caught:
        read(*pieces)
    return caught.value.refusal.status


def one(*pieces: bytes) -> tuple[Head, bytes]:
    (found,) = read(*pieces)
    return found


def test_the_corpus_is_large_and_none_of_it_is_served() -> None:
    requests = set(ambiguous(b"/mcp"))
    assert len(requests) >= 150
    for raw in requests:
        for pieces in ([raw], [raw[at : at + 1] for at in range(len(raw))] if len(raw) < 2000 else [raw]):
            assert 400 <= status(*pieces) < 600, raw


def head_of(size: int) -> bytes:
    """A whole head of exactly so many bytes."""
    start = b"GET /mcp HTTP/1.1\r\nHost: x\r\nX: "
    return start + b"y" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("cut", [pytest.param(10**6, id="in one piece"), pytest.param(1, id="byte by byte")])
def test_a_head_of_the_bound_is_read_and_one_byte_more_is_not(cut: int) -> None:
    def pieces(raw: bytes) -> list[bytes]:
        return [raw[at : at + cut] for at in range(0, len(raw), cut)]

    assert one(*pieces(head_of(HEAD_BYTES)))[0].method == "GET"
    assert status(*pieces(head_of(HEAD_BYTES + 1))) == 431
    assert status(*pieces(b"GET /mcp HTTP/1.1\r\nX: " + b"y" * HEAD_BYTES)) == 431


def test_so_many_fields_are_read_and_one_more_is_not() -> None:
    fields = b"".join(b"X-%d: 1\r\n" % number for number in range(HEAD_FIELDS - 1))
    assert len(one(b"GET / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")[0].headers) == HEAD_FIELDS
    assert status(b"GET / HTTP/1.1\r\nHost: x\r\nX: 1\r\n" + fields + b"\r\n") == 431
    assert status(b"GET / HTTP/1.1\r\nHost: x\r\nX: 1\r\n" + b"X: 1\r\n" * HEAD_FIELDS + b"\r\n") == 431


@pytest.mark.parametrize("what", ["extension", "padding", "trailer", "trailers"])
def test_chunk_extensions_and_trailers_count_with_the_head(what: str) -> None:
    start = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    room = HEAD_BYTES - len(start)

    def body(size: int) -> bytes:
        """A chunked body that adds exactly so many bytes."""
        match what:
            case "extension":
                return b"2;" + b"y" * (size - 3) + b"\r\n{}\r\n0\r\n\r\n"
            case "padding":
                return b"0" * (size - 2) + b"2\r\n{}\r\n0\r\n\r\n"
            case "trailer":
                return b"2\r\n{}\r\n0\r\nX: " + b"y" * (size - 7) + b"\r\n\r\n"
            case _:
                return b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * ((size - 6) // 6) + b"X:" + b"y" * (size % 6) + b"\r\n\r\n"

    assert one(start + body(room))[1] == b"{}"
    assert status(start + body(room + 1)) == 431
    assert status(*(b"%c" % byte for byte in start + body(room + 1))) == 431
    head, _ = one(start + body(room))
    assert [name for name, _ in head.headers] == [b"host", b"transfer-encoding"]


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """A request that is in order: target, body, bytes."""
    target = draw(st.sampled_from([b"/mcp", b"/", b"/a?b=c%20", b"/mcp/vs/x"]))
    body = draw(st.binary(max_size=40) | st.sampled_from([b"\r\n\r\n", b"0\r\n\r\n", SMUGGLED]))
    fields = draw(
        st.lists(st.sampled_from([b"X: 1", b"x:2", b"Y: a, b \t", b"Z:", b"Upgrade: h2c\r\nConnection: Upgrade"]))
    )
    head = b"".join(b"%b\r\n" % field for field in [b"Host: x", *fields])
    if draw(st.booleans()):
        framed, at = b"", 0
        while at < len(body):
            size = draw(st.integers(1, len(body) - at))
            framed += b"%x%b\r\n%b\r\n" % (size, draw(st.sampled_from([b"", b";a", b";a=b"])), body[at : at + size])
            at += size
        trailers = draw(st.sampled_from([b"", b"T: 1\r\n", b"Host: evil\r\nX: y\r\n"]))
        head += b"Transfer-Encoding: Chunked\r\n"
        framed += b"0\r\n" + trailers + b"\r\n"
    else:
        head += b"content-length: %d\r\n" % len(body)
        framed = body
    return target, body, b"POST " + target + b" HTTP/1.1\r\n" + head + b"\r\n" + framed


@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=12))
def test_requests_are_the_same_wherever_their_bytes_are_cut(
    sent: list[tuple[bytes, bytes, bytes]], cuts: list[int]
) -> None:
    raw = b"".join(each[2] for each in sent)
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    pieces = [raw[start:end] for start, end in itertools.pairwise(edges)]
    for found in (read(raw), read(*pieces)):
        assert [(head.target, body) for head, body in found] == [each[:2] for each in sent]
        for head, _ in found:
            assert [name for name, _ in head.headers].count(b"host") == 1
            assert head.first[b"host"] == b"x"


@given(st.binary(max_size=200) | st.lists(st.sampled_from(re.findall(rb"[\r\n]|[^\r\n]+", SMUGGLED * 2))).map(b"".join))
def test_no_bytes_trip_the_reader(raw: bytes) -> None:
    for pieces in ([raw], [raw[at : at + 1] for at in range(len(raw))]):
        with contextlib.suppress(Malformed):
            read(*pieces)


def test_a_connection_goes_on_as_its_client_says() -> None:
    def keeps(*lines: bytes) -> bool:
        reader = RequestReader()
        reader.feed(b"\r\n".join([*lines, b"", b""]))
        assert reader.head() is not None
        return reader.keep_alive

    assert keeps(b"GET / HTTP/1.1", b"Host: x")
    assert not keeps(b"GET / HTTP/1.1", b"Host: x", b"Connection: close")
    assert not keeps(b"GET / HTTP/1.1", b"Host: x", b"Connection: x, Close")
    assert not keeps(b"GET / HTTP/1.0")


def test_only_a_client_that_still_has_a_body_waits_for_leave() -> None:
    def waits(line: bytes, *fields: bytes) -> bool:
        reader = RequestReader()
        reader.feed(b"\r\n".join([line, b"Host: x", b"Expect: 100-Continue", *fields, b"", b""]))
        head = reader.head()
        assert head is not None
        return head.waits

    assert waits(b"POST / HTTP/1.1", b"Content-Length: 1")
    assert waits(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked")
    assert not waits(b"POST / HTTP/1.1", b"Content-Length: 0")
    assert not waits(b"POST / HTTP/1.0", b"Content-Length: 1")
