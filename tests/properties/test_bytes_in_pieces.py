"""Streams of bytes that come in pieces: the same wherever they are cut, at every place.

HTTP responses, server-sent events and lines of a pipe, well formed and not.
"""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from mcp_gateway.backends.transports.http_connection import ResponseParser
from mcp_gateway.backends.transports.lines import LineCutter, LongLine
from mcp_gateway.errors import RemoteFault
from mcp_gateway.protocol.sse import SseDecoder, SseEvent
from tests.support.json_bytes import Dice, dice

HEADS = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 304 Not Modified\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n",
    b"HTTP/2.0 200 OK\r\n",
    b"HTTP/1.1 999\r\n",
    b"HTTP",
)
FIELDS = (
    b"Content-Length: 5\r\n",
    b"content-length: 5\r\n",
    b"Content-Length: 6\r\n",
    b"Content-Length: 99999999999999999999999\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Content-Type: application/json\r\n",
    b"X: \r\n folded\r\n",
    b": \r\n",
    b"X\r\n",
    b"X\0: y\r\n",
)
BODIES = (
    b"hello",
    b"",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;ext=1\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n",
    b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    b"-1\r\nx",
    b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
)


def response_of(plan: Dice) -> bytes:
    """An answer of a server, well formed or not, perhaps with another one behind it."""
    fields = b"".join(FIELDS[plan.below(len(FIELDS))] for _ in range(plan.below(4)))
    raw = HEADS[plan.below(len(HEADS))] + fields + b"\r\n" + BODIES[plan.below(len(BODIES))]
    if not plan.below(6):
        raw += plan.take(plan.below(8)) if plan.below(2) else HEADS[0]
    if not plan.below(6):
        at = plan.byte() % len(raw)
        raw = raw[:at] + plan.take(1) + raw[at + 1 :]
    return raw


def heard(pieces: list[bytes]) -> tuple[object, ...]:
    """What one answer came to."""
    parser, body = ResponseParser(), b""
    parser.begin()
    try:
        for piece in pieces:
            parser.feed(piece)
            body += parser.take()
            if parser.head_complete and b"content-length" in parser.headers:
                assert int(parser.headers[b"content-length"]) >= 0  # as ``HttpConnection.read`` reads it
    except RemoteFault:
        return ("refused",)
    before, ended = (parser.complete, parser.reusable), parser.finish()
    return (*before, ended, parser.status, parser.headers, body + parser.take())


def pieces_of(raw: bytes, plan: Dice) -> list[bytes]:
    """The bytes cut at up to six places."""
    cuts = sorted({plan.byte() % (len(raw) + 1) for _ in range(plan.below(7))} | {0, len(raw)})
    return [raw[start:end] for start, end in pairwise(cuts)]


@given(plan=dice)
def test_an_answer_is_the_same_wherever_it_is_cut(plan: Dice) -> None:
    raw = response_of(plan)
    whole = heard([raw] if raw else [])
    cut = heard(pieces_of(raw, plan))
    # What follows a complete answer is a fault or a surplus, by where it is cut: either way no connection is kept.
    assert cut == whole or (whole != ("refused",) and whole[0] and not whole[1]) or (cut != ("refused",) and cut[0])


SHORT = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: 1\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
)


def test_an_answer_is_the_same_at_every_split_point_and_byte_by_byte() -> None:
    for raw in SHORT:
        whole = heard([raw])
        assert whole[0] is True
        assert heard([raw[at : at + 1] for at in range(len(raw))]) == whole
        for at in range(len(raw)):
            assert heard([piece for piece in (raw[:at], raw[at:]) if piece]) == whole


LINES = (
    b"data: x",
    b"data:",
    b"data",
    b":c",
    b"id: 1",
    b"id",
    b"id: \0",
    b"retry: 5",
    b"retry: x",
    b"event: e",
    b"",
    b"",
)
ENDS = (b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"")


def stream_of(plan: Dice) -> bytes:
    """An event stream of up to ten lines, some of them bytes."""
    made = b"\xef\xbb\xbf" if not plan.below(5) else b""
    for _ in range(plan.below(11)):
        line = plan.take(plan.below(5)) if not plan.below(8) else LINES[plan.below(len(LINES))]
        made += line + ENDS[plan.below(len(ENDS))]
    return made


def decoded(pieces: list[bytes], bound: int) -> tuple[list[SseEvent], object]:
    """The events that come before the stream ends or its bound is hit, and how that was."""
    decoder, events = SseDecoder(max_event_bytes=bound), list[SseEvent]()
    for piece in pieces:
        try:
            events += decoder.feed(piece)
        except RemoteFault:
            return [], "refused"
    return events, (decoder.last_event_id, decoder.retry_ms)


@given(plan=dice, bound=st.integers(1, 40))
@example(plan=Dice(b""), bound=1)
def test_a_stream_is_the_same_at_every_split_point(plan: Dice, bound: int) -> None:
    raw = stream_of(plan)
    whole = decoded([raw], bound)
    assert decoded([raw[at : at + 1] for at in range(len(raw))], bound) == whole
    for at in range(len(raw)):
        assert decoded([raw[:at], raw[at:]], bound) == whole


def model_of_lines(raw: bytes, bound: int) -> list[bytes | None]:
    """What comes of lines; None for one that is too long."""
    pieces = raw.split(b"\n")
    return [None if len(piece) > bound else piece.strip() for piece in pieces if len(piece) > bound or piece.strip()]


@given(plan=dice, bound=st.integers(0, 12))
def test_lines_are_the_same_at_every_split_point(plan: Dice, bound: int) -> None:
    parts = (b"a", b"bc", b"\n", b"\r\n", b" ", b"dddddd", b"\0", b"\xff")
    raw = b"".join(parts[plan.below(len(parts))] for _ in range(plan.below(12)))
    expected = model_of_lines(raw, bound)
    for pieces in ([raw], pieces_of(raw, plan), [raw[at : at + 1] for at in range(len(raw))]):
        cutter, found = LineCutter(bound), list[bytes | LongLine]()
        for piece in pieces:
            found += cutter.feed(piece)
        found += cutter.end()
        assert [None if isinstance(line, LongLine) else line for line in found] == expected
