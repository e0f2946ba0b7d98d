"""Tests of ``lines``: any cut gives the same lines, and no line grows above the bound."""

from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.backends.transports.lines import HEAD_BYTES, LineCutter, LongLine

TEXT = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b" ", b"dddddd"]), max_size=40).map(b"".join)


def cut(text: bytes, pieces: list[int], max_bytes: int) -> list[bytes | LongLine]:
    cutter = LineCutter(max_bytes)
    found: list[bytes | LongLine] = []
    start = 0
    for size in pieces:
        found += cutter.feed(text[start : start + size])
        start += size
    return found + cutter.feed(text[start:]) + cutter.end()


@given(text=TEXT, pieces=st.lists(st.integers(0, 5), max_size=20))
def test_lines_are_the_same_wherever_the_chunks_are_cut(text: bytes, pieces: list[int]) -> None:
    assert cut(text, pieces, 1000) == [line.strip() for line in text.split(b"\n") if line.strip()]


@given(text=TEXT, pieces=st.lists(st.integers(0, 5), max_size=20))
def test_long_lines_come_out_once_and_the_next_line_is_whole(text: bytes, pieces: list[int]) -> None:
    expected: list[bool] = [len(line) > 4 for line in text.split(b"\n") if len(line) > 4 or line.strip()]
    assert [isinstance(line, LongLine) for line in cut(text, pieces, 4)] == expected


def test_only_the_head_of_a_long_line_is_kept() -> None:
    (line,) = LineCutter(1000).feed(b"h" * 5000)
    assert line == LongLine(head=b"h" * HEAD_BYTES)


def test_a_mark_of_byte_order_is_no_part_of_a_line() -> None:
    cutter = LineCutter(1000)
    assert cutter.feed(b"\xef\xbb") == []
    assert cutter.feed(b"\xbf{}\r\n\xef\xbb\xbf\n{}\n") == [b"{}", b"{}"]
