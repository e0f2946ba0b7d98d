"""Text of strangers, made plain."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.protocol.plain_text import plain


@pytest.mark.parametrize(
    "text, seen",
    [
        pytest.param("Ask nicely.\nThen wait.", "Ask nicely.\nThen wait.", id="usual"),
        pytest.param("a\x1b[31mb\x00c\x7fd\x9be", "a[31mbcde", id="controls"),
        pytest.param("a\r\nb\rc\u2028d\u2029e\x85f\x0bg\x0ch", "a\nb\nc\nd\ne\nf\ng\nh", id="every end of a line"),
        pytest.param("safe\u202egnp.exe\u2066x\u2069\u200f\u061c", "safegnp.exex", id="bidi"),
        pytest.param("i\u200bg\u200cn\u200do\u2060r\ufeffe\u00ad", "ignore", id="zero width"),
        pytest.param("x\U000e0041\U000e0042\ufe0f\U000e0101", "x", id="tags and variation selectors"),
        pytest.param("x\u3164\u115f\uffa0\u2800\u034fy", "xy", id="what looks like nothing"),
        pytest.param("x\ue000\U0010ffff\ud800y", "xy", id="what means nothing"),
        pytest.param("  a \t b\u00a0\u3000c  \n\n\n\n\n  d  ", "a b c\n\nd", id="blanks"),
        pytest.param("Größe, 日本語, שלום", "Größe, 日本語, שלום", id="words of any language"),
        pytest.param("\u200b\n\u2028 ", "", id="nothing"),
    ],
)
def test_what_is_read_is_what_stands_there(text: str, seen: str) -> None:
    assert plain(text, 1024) == seen


def test_what_is_too_long_is_cut_between_characters_and_says_so() -> None:
    assert plain("ä" * 1000, 20) == "äääääää [...]"
    assert plain("x" * 20, 20) == "x" * 20
    assert plain("\u200b" * 10_000 + "far away", 20) == " [...]"  # more than could be needed is not looked at
    assert plain(("\u200b" * 3 + "x") * 20, 20) == "x" * 20


@given(st.text())
def test_plain_text_is_bounded_visible_and_stays_as_it_is(text: str) -> None:
    seen = plain(text, 64)
    assert len(seen.encode()) <= 64
    assert plain(seen, 64) == seen.strip()
    assert all(char == "\n" or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn"} for char in seen)
