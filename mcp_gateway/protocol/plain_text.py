"""Text of strangers, made plain: what people and models read is what stands there.

Owns which characters go. Deliberately judges no words. Pure. Invariant: the result has
no character that is invisible, turns the direction of others, or ends a line but "\\n";
it is no longer than asked for, and making it plain again changes nothing.

Spec: Unicode 15.1, Default_Ignorable_Code_Point; UTS 39, section 5.4; Trojan Source (CVE-2021-42574).
"""

import re
import unicodedata
from typing import Final

_LINE_ENDS: Final = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_GONE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
"""Controls, formats (bidi, zero width, tags), halves of pairs, and what has no meaning."""
_INVISIBLE: Final = re.compile(
    # grapheme joiner, Hangul fillers, Khmer inherent vowels, Mongolian and other variation selectors, blank Braille
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_BLANKS: Final = re.compile(r"[^\S\n]+")
_BLANK_LINES: Final = re.compile(r"\n{3,}")
_CUT: Final = " [...]"


def plain(text: str, max_bytes: int) -> str:
    """``text`` without what cannot be seen, trimmed and cut to ``max_bytes`` of UTF-8, which then says so.

    Args:
        text: of any length; no more of it is looked at than could be needed.
        max_bytes: at least 16.
    """
    # Four times as much, so that a text is not lost for what is taken out of it.
    head = _LINE_ENDS.sub("\n", text[: max_bytes * 4]).replace("\t", " ")
    seen = "".join(char for char in head if char == "\n" or unicodedata.category(char) not in _GONE)
    seen = _BLANKS.sub(" ", _INVISIBLE.sub("", seen))
    lines = "\n".join(line.strip() for line in seen.split("\n"))
    whole = _BLANK_LINES.sub("\n\n", lines).strip()
    return whole if len(text) <= max_bytes * 4 and fits(whole, max_bytes) else cut(whole, max_bytes)


def fits(text: str, max_bytes: int) -> bool:
    """Whether the UTF-8 of ``text`` is at most so long."""
    return len(text.encode()) <= max_bytes


def cut(text: str, max_bytes: int) -> str:
    """As much of plain text as there is room for, with a sign that there is more."""
    room = max_bytes - len(_CUT)
    return text.encode()[:room].decode(errors="ignore").rstrip() + _CUT
