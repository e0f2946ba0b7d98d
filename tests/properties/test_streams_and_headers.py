"""Streams cut anywhere, and header values there and back."""

import contextlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.errors import RemoteFault
from mcp_gateway.protocol.headers import (
    HeaderFault,
    annotated,
    check_mirrored,
    check_standard,
    decode_value,
    encode_value,
    mirror,
)
from mcp_gateway.protocol.sse import SseDecoder, SseEvent, encode_event
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.json_bytes import Dice, dice, values

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
fields = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=6)
lines = st.sampled_from(
    [b"data: x", b"data", b"data:", b":c", b"id: 1", b"id", b"retry: 5", b"retry: x", b"event: e", b"\xef\xbb\xbf", b""]
)
streams = st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=20).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


def run(chunks: list[bytes], bound: int) -> tuple[list[SseEvent], bool, str | None, int | None]:
    """The events, whether the bound was hit, and what the decoder remembers."""
    decoder = SseDecoder(max_event_bytes=bound)
    events: list[SseEvent] = []
    for chunk in chunks:
        try:
            events += decoder.feed(chunk)
        except RemoteFault:
            return [], True, None, None
    return events, False, decoder.last_event_id, decoder.retry_ms


@given(stream=streams | st.binary(max_size=60), cuts=st.lists(st.integers(0, 200)), bound=st.integers(1, 30))
def test_where_a_stream_is_cut_changes_nothing(stream: bytes, cuts: list[int], bound: int) -> None:
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    pieces = [stream[start:end] for start, end in pairwise(places)]
    assert run(pieces, bound) == run([stream], bound)


@given(data=st.binary().map(lambda raw: raw.replace(b"\r", b"\n")), event_id=fields, retry_ms=st.integers(0, 10**9))
def test_a_written_event_is_read_again(data: bytes, event_id: str, retry_ms: int) -> None:
    raw = encode_event(data, event_id=event_id, retry_ms=retry_ms, event="e")
    (event,) = SseDecoder(max_event_bytes=10_000).feed(raw)
    assert event == SseEvent(data=data, event="e", event_id=event_id, retry_ms=retry_ms)


@given(text=texts)
def test_a_header_value_comes_back(text: str) -> None:
    raw = encode_value(text)
    assert all(0x20 <= byte <= 0x7E or byte == 0x09 for byte in raw)
    assert decode_value(raw) == text


@given(raw=st.binary() | st.binary().map(lambda inside: b"=?base64?%b?=" % inside))
def test_any_header_value_is_decoded_or_refused(raw: bytes) -> None:
    with contextlib.suppress(HeaderFault):
        decode_value(raw)
    with contextlib.suppress(HeaderFault):
        check_standard("m", "n", {b"mcp-method": b"m", b"mcp-name": raw})


ANNOTATIONS = (("A", ("a",)), ("B", ("b", "c")))


def arguments_of(plan: Dice) -> JsonValue:
    """Arguments for the annotations, any of them absent or of another type."""
    made: JsonObject = {}
    if plan.below(4):
        made["a"] = plan.value()
    if plan.below(4):
        made["b"] = {"c": plan.value()} if plan.below(2) else plan.value()
    return made


arguments_ = dice.map(arguments_of)


@given(arguments=arguments_)
def test_what_is_mirrored_passes_the_check(arguments: JsonValue) -> None:
    try:
        headers = mirror(ANNOTATIONS, arguments)
    except HeaderFault:
        return
    check_mirrored(ANNOTATIONS, arguments, headers)


@given(arguments=arguments_, other=arguments_)
def test_headers_of_other_arguments_pass_only_if_they_say_the_same(arguments: JsonValue, other: JsonValue) -> None:
    try:
        headers = mirror(ANNOTATIONS, arguments)
        check_mirrored(ANNOTATIONS, other, headers)
    except HeaderFault:
        return
    assert [key for key, _ in mirror(ANNOTATIONS, other)] == [key for key, _ in headers]


KEYWORDS = ("x-mcp-header", "properties", "type", "items", "anyOf", "$defs", "default", "a")
LEAVES: tuple[JsonValue, ...] = (None, "string", "integer", "number", "Region", "", 7)


def schema_of(plan: Dice, depth: int = 5) -> JsonValue:
    """Something like a schema, with annotations in places that are right and wrong."""
    kind = plan.below(4) if depth else 0
    if kind == 0:
        return LEAVES[plan.below(len(LEAVES))]
    if kind == 1:
        return [schema_of(plan, depth - 1) for _ in range(plan.below(4))]
    return {KEYWORDS[plan.below(len(KEYWORDS))]: schema_of(plan, depth - 1) for _ in range(plan.below(5))}


@given(schema=dice.map(schema_of) | values)
def test_any_schema_has_annotations_or_is_refused(schema: JsonValue) -> None:
    with contextlib.suppress(HeaderFault):
        found = annotated(schema)
        assert len({name.lower() for name, _ in found}) == len(found)
