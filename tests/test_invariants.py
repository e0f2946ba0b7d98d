"""Every invariant has tests that carry its number, as docs/invariants.md promises."""

import re
from pathlib import Path

HERE = Path(__file__).parent
NAMED = re.compile(r"[Ii]nvariants?[ _]((?:\d+(?:, | and )?)+)")


def test_each_invariant_is_named_by_a_test() -> None:
    listed = re.findall(r"^(\d+)\. ", (HERE.parent / "docs" / "invariants.md").read_text(), re.MULTILINE)
    assert listed == [str(number) for number in range(1, 11)]
    found: set[str] = set()
    for file in HERE.rglob("test_*.py"):
        for numbers in NAMED.findall(file.read_text()):
            found.update(re.findall(r"\d+", numbers))
    assert set(listed) - found == set()
