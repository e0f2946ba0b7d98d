"""Bytes become responses, wherever they are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.backends.transports.http_connection import HEAD_BYTES, ResponseParser
from mcp_gateway.errors import RemoteFault

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\nContent-Type: evil\r\n\r\n"
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + LENGTH
OLD = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"
OLD_CLOSING = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"


def fed(*pieces: bytes) -> ResponseParser:
    parser = ResponseParser()
    parser.begin()
    for piece in pieces:
        parser.feed(piece)
    return parser


@pytest.mark.parametrize(
    "raw, reusable",
    [
        pytest.param(LENGTH, True, id="length"),
        pytest.param(CHUNKED, True, id="chunks with extension and trailers"),
        pytest.param(INTERIM, True, id="1xx first"),
        pytest.param(OLD, True, id="HTTP/1.0 keep-alive"),
        pytest.param(OLD_CLOSING, False, id="HTTP/1.0"),
        pytest.param(CLOSING, False, id="Connection: close"),
    ],
)
@given(data=st.data())
def test_a_response_is_the_same_wherever_it_is_cut(raw: bytes, reusable: bool, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1))))
    edges = [0, *cuts, len(raw)]
    parser = fed(*(raw[start:end] for start, end in pairwise(edges)))
    assert (parser.status, parser.head_complete, parser.complete) == (200, True, True)
    assert parser.take() == b"hello"
    assert parser.take() == b""
    assert parser.reusable is reusable
    assert b"link" not in parser.headers
    assert b"x-trailer" not in parser.headers
    assert parser.headers.get(b"content-type") in (None, b"application/json")


def test_a_kept_connection_gives_one_response_after_the_other() -> None:
    parser = fed(LENGTH)
    parser.take()
    parser.begin()
    parser.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (parser.status, parser.complete, parser.reusable, parser.headers) == (204, True, True, {})


def test_a_body_without_length_ends_with_the_connection() -> None:
    parser = fed(UNTIL_CLOSE)
    assert not parser.complete
    assert not parser.may_be_reused
    assert parser.finish()
    assert parser.take() == b"hello"
    assert not parser.reusable


@pytest.mark.parametrize("raw", [LENGTH[:-1], CHUNKED[:-2], LENGTH[:30], b""])
def test_a_truncated_response_is_not_complete(raw: bytes) -> None:
    parser = fed(*([raw] if raw else []))
    assert not parser.finish()


@pytest.mark.parametrize("raw", [LENGTH, CLOSING])
@pytest.mark.parametrize("more", [LENGTH, b"garbage"])
@pytest.mark.parametrize("together", [True, False])
def test_bytes_after_the_answer_spoil_the_connection_but_not_the_answer(
    raw: bytes, more: bytes, together: bool
) -> None:
    parser = fed(raw + more) if together else fed(raw, more)
    assert (parser.status, parser.take(), parser.reusable) == (200, b"hello", False)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="another protocol"),
        pytest.param(b"HTTP/2.0 200 OK\r\n\r\n", id="HTTP/2 in text"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="upgrade"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", id="two framings"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", id="two lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", id="transfer coding"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", id="transfer codings"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="chunk size"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"x" * HEAD_BYTES + b"\r\n\r\n", id="head"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"A: x\r\n" * 20_000 + b"\r\n", id="many headers"),
    ],
)
def test_what_is_not_a_response_is_refused(raw: bytes) -> None:
    with pytest.raises(RemoteFault):
        fed(raw)


@pytest.mark.parametrize(
    "start, piece",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nA: ", b"x" * 1000, id="a head without an end"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="1xx for ever"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"T: x\r\n", id="trailers without an end"
        ),
    ],
)
def test_endless_framing_is_bounded(start: bytes, piece: bytes) -> None:
    parser = fed(*([start] if start else []))
    with pytest.raises(RemoteFault):  # noqa: PT012 - the loop is what is under test
        for _ in range(HEAD_BYTES):
            parser.feed(piece)


def test_a_repeated_header_is_joined() -> None:
    parser = fed(b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\nContent-Length: 0\r\n\r\n")
    assert parser.headers[b"a"] == b"1, 2"


@pytest.mark.parametrize(
    "raw, expected",
    [
        pytest.param(CHUNKED[:60], True, id="chunks under way"),
        pytest.param(CLOSING[:-1], False, id="will close"),
        pytest.param(LENGTH, False, id="over"),
        pytest.param(LENGTH[:20], False, id="no head yet"),
    ],
)
def test_whether_a_connection_may_come_back(raw: bytes, expected: bool) -> None:
    assert fed(raw).may_be_reused is expected


def test_a_freed_parser_takes_bytes_for_surplus() -> None:
    parser = fed(LENGTH[:-1])
    parser.free()
    parser.feed(b"o")
    assert not parser.reusable


# --- several requests at once ---


TOGETHER = (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", CHUNKED, INTERIM, LENGTH)


@given(data=st.data())
def test_answers_to_several_requests_are_told_apart_wherever_they_are_cut(data: st.DataObject) -> None:
    raw = b"".join(TOGETHER)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=20)))
    parser = ResponseParser()
    parser.begin(len(TOGETHER))
    for start, end in pairwise([0, *cuts, len(raw)]):
        assert not parser.complete
        parser.feed(raw[start:end])
    assert parser.statuses == [202, 200, 200, 200]
    assert (parser.complete, parser.reusable) == (True, True)
    parser.feed(b"HTTP")
    assert not parser.reusable


@pytest.mark.parametrize("last", [OLD_CLOSING, CLOSING])
def test_an_answer_that_closes_is_the_last_one(last: bytes) -> None:
    parser = ResponseParser()
    parser.begin(3)
    parser.feed(LENGTH + last)
    assert parser.statuses == [200, 200]
    assert (parser.complete, parser.reusable) == (True, False)
    parser.feed(LENGTH)
    assert parser.statuses == [200, 200]


def test_the_framing_of_many_answers_is_bounded_one_by_one() -> None:
    answer = b"HTTP/1.1 202 Accepted\r\nX-Long: " + b"x" * (HEAD_BYTES // 2) + b"\r\nContent-Length: 0\r\n\r\n"
    parser = ResponseParser()
    parser.begin(5)
    for _ in range(5):
        parser.feed(answer)
    assert parser.complete
