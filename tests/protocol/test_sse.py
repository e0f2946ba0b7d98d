"""Server-sent events: the grammar, the bounds, and the events we write."""

import pytest

from mcp_gateway.errors import LocalFault, RemoteFault
from mcp_gateway.protocol.sse import COMMENT, Larger, SseDecoder, SseEvent, encode_event


def decode(*chunks: bytes, bound: int = 1000) -> list[SseEvent]:
    decoder = SseDecoder(max_event_bytes=bound)
    return [event for chunk in chunks for event in decoder.feed(chunk)]


@pytest.mark.parametrize(
    "stream, events",
    [
        pytest.param(b"data: x\n\n", [SseEvent(data=b"x")], id="LF"),
        pytest.param(b"data: x\r\n\r\n", [SseEvent(data=b"x")], id="CRLF"),
        pytest.param(b"data: x\r\r", [SseEvent(data=b"x")], id="CR"),
        pytest.param(b"\xef\xbb\xbfdata: x\n\n", [SseEvent(data=b"x")], id="BOM"),
        pytest.param(b"data:x\n\n", [SseEvent(data=b"x")], id="no space"),
        pytest.param(b"data:  x\n\n", [SseEvent(data=b" x")], id="only one space goes"),
        pytest.param(b"data: a\ndata: b\n\n", [SseEvent(data=b"a\nb")], id="two lines of data"),
        pytest.param(b"data\n\n", [SseEvent(data=b"")], id="a field without a colon"),
        pytest.param(b"event: endpoint\ndata: /m\n\n", [SseEvent(data=b"/m", event="endpoint")], id="named"),
        pytest.param(b"event: ping\n\n", [], id="an event without data and id"),
        pytest.param(b"id: 7\n\n", [SseEvent(data=b"", event_id="7")], id="priming without data"),
        pytest.param(b"id: 7\ndata: \n\n", [SseEvent(data=b"", event_id="7")], id="priming with empty data"),
        pytest.param(b"id: a\0b\ndata: x\n\n", [SseEvent(data=b"x")], id="an id with NUL is ignored"),
        pytest.param(b"retry: 250\ndata: x\n\n", [SseEvent(data=b"x", retry_ms=250)], id="retry"),
        pytest.param(b"retry: -1\ndata: x\n\n", [SseEvent(data=b"x")], id="retry that is no number"),
        pytest.param(b"retry: 99999999999\ndata: x\n\n", [SseEvent(data=b"x")], id="retry beyond all reason"),
        pytest.param(b"colour: red\ndata: x\n\n", [SseEvent(data=b"x")], id="an unknown field"),
        pytest.param(b": hello\n\ndata: x\n\n: bye\n\n", [SseEvent(data=b"x")], id="comments"),
        pytest.param(b"\n\n\n", [], id="blank lines"),
        pytest.param(b"data: x\n", [], id="unfinished"),
        pytest.param(b"data: \xff\n\n", [SseEvent(data=b"\xff")], id="data are bytes"),
        pytest.param(b"data: a\n\ndata: b\n\n", [SseEvent(data=b"a"), SseEvent(data=b"b")], id="two events"),
        pytest.param(b"data: a\x0bb\x0c\x1cc\n\n", [SseEvent(data=b"a\x0bb\x0c\x1cc")], id="other breaks are text"),
    ],
)
def test_a_stream_means_the_same_wherever_it_is_cut(stream: bytes, events: list[SseEvent]) -> None:
    assert decode(stream) == events
    assert decode(*(stream[at : at + 1] for at in range(len(stream)))) == events
    for cut in range(len(stream) + 1):
        assert decode(stream[:cut], b"", stream[cut:]) == events


def test_the_decoder_remembers_id_and_retry() -> None:
    decoder = SseDecoder(max_event_bytes=100)
    decoder.feed(b"id: 1\nretry: 5\ndata: x\n\ndata: y\n\nid: 2\n")
    assert (decoder.last_event_id, decoder.retry_ms) == ("1", 5)
    decoder.feed(b"\n")
    assert decoder.last_event_id == "2"
    decoder.feed(b"id\n\n")
    assert decoder.last_event_id is None


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"data: 0123456789\n\n", id="a line"),
        pytest.param(b"data: 0123456789", id="an unfinished line"),
        pytest.param(b":" + b"x" * 10, id="a comment"),
        pytest.param(b"data: 01\ndata: 23\n", id="an event of several lines"),
    ],
)
def test_what_is_above_the_bound_is_refused_and_forgotten(stream: bytes) -> None:
    decoder = SseDecoder(max_event_bytes=10)
    assert decoder.feed(stream[:9]) == []
    with pytest.raises(RemoteFault, match="more than 10 bytes"):
        decoder.feed(stream[9:])
    with pytest.raises(RemoteFault):
        decoder.feed(b"\n")


def test_the_bound_itself_is_allowed_and_counts_for_each_event_anew() -> None:
    assert len(decode(b"data: 0123\n\ndata: 4567\n\n" * 3, bound=10)) == 6


def test_a_cr_before_an_empty_chunk_still_swallows_its_lf() -> None:
    assert decode(b"data: x\r", b"", b"\n\r", b"\n", bound=10) == [SseEvent(data=b"x")]


@pytest.mark.parametrize(
    "event, raw",
    [
        pytest.param(encode_event(b"{}"), b"data: {}\n\n", id="data"),
        pytest.param(encode_event(b"", event_id="s/1", retry_ms=500), b"id: s/1\nretry: 500\ndata: \n\n", id="priming"),
        pytest.param(encode_event(b"/m", event="endpoint"), b"event: endpoint\ndata: /m\n\n", id="named"),
        pytest.param(encode_event(b"a\nb\r\nc\rd"), b"data: a\ndata: b\ndata: c\ndata: d\n\n", id="lines"),
        pytest.param(COMMENT, b":\n\n", id="comment"),
    ],
)
def test_events_are_written(event: bytes, raw: bytes) -> None:
    assert event == raw


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_a_field_cannot_be_forged(text: str) -> None:
    with pytest.raises(LocalFault):
        encode_event(b"", event_id=text)
    with pytest.raises(LocalFault):
        encode_event(b"", event=text)


LARGER = Larger(begins=lambda head: head.lstrip().startswith(b"big"), max_bytes=100)


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"data: big%b\n\n" % (b"x" * 50), id="a line"),
        pytest.param(b"id: 1\nevent: e\ndata: big\ndata: %b\n\n" % (b"x" * 50), id="a line after others"),
        pytest.param(b"data: big\n" + b"data: x\n" * 9 + b"\n", id="many lines"),
        pytest.param(b"data:\ndata: big\n" + b"data: x\n" * 8 + b"\n", id="an empty line first"),
    ],
)
def test_an_event_that_begins_so_may_be_larger_wherever_it_is_cut(stream: bytes) -> None:
    for cut in range(16, len(stream) + 1):  # below the usual bound nothing is asked
        decoder = SseDecoder(15, LARGER)
        (event,) = (event for chunk in (stream[:cut], stream[cut:]) for event in decoder.feed(chunk))
        assert b"big" in event.data
        assert decoder.bound == 15


@pytest.mark.parametrize(
    "stream, bound",
    [
        pytest.param(b"data: small%b\n" % (b"x" * 50), 15, id="another line"),
        pytest.param(b"data: big\n\ndata: small%b\n" % (b"x" * 50), 15, id="the next event"),
        pytest.param(b"event: big%b\n" % (b"x" * 50), 15, id="another field"),
        pytest.param(b":big%b" % (b"x" * 50), 15, id="a comment"),
        pytest.param(b"data: x\ndata: big%b" % (b"x" * 50), 15, id="too late"),
        pytest.param(b"data: big%b" % (b"x" * 200), 100, id="above its own bound"),
        pytest.param(b"data: big\n" + b"data: x\n" * 30, 100, id="above its own bound, in lines"),
    ],
)
def test_no_other_event_may(stream: bytes, bound: int) -> None:
    decoder = SseDecoder(15, LARGER)
    with pytest.raises(RemoteFault, match=f"more than {bound} bytes"):
        decoder.feed(stream)
    assert decoder.bound == bound


def test_a_bound_that_is_lower_is_none() -> None:
    decoder = SseDecoder(15, Larger(begins=lambda head: True, max_bytes=5))
    assert decoder.feed(b"data: 01234567\n\n") == [SseEvent(data=b"01234567")]
    with pytest.raises(RemoteFault, match="more than 15 bytes"):
        decoder.feed(b"data: 0123456789\n")
