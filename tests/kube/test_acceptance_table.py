"""docs/kubernetes-acceptance.md: every case has a row, and every test that a row names is there and names the case."""

import ast
import re
from collections import defaultdict
from typing import Final

import pytest

from tests.support.kube.installation import ROOT

DOCUMENT: Final = (ROOT / "docs" / "kubernetes-acceptance.md").read_text()
ROW: Final = re.compile(r"^\| (K-\d+) \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
ROWS: Final = ROW.findall(DOCUMENT)
CASES: Final = tuple(
    number
    for first, last in (
        *((1, 31), (40, 54), (60, 67), (70, 70), (80, 92), (95, 95), (100, 107), (110, 123), (130, 137)),
        *((140, 147), (150, 171), (180, 183), (200, 215)),
    )
    for number in range(first, last + 1)
)
SHOWN: Final = {"passes", "better"}
VERDICTS: Final = SHOWN | {"with auth", "with replicas", "not applicable"}


def docstrings() -> dict[str, list[str]]:
    """What the tests of each name say of themselves."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found[node.name].append(ast.get_docstring(node) or "")
    return found


TESTS: Final = docstrings()


def named(text: str) -> list[str]:
    """The tests that a row names."""
    return re.findall(r"`(test_\w+)`", text)


def test_every_case_has_one_row_in_order() -> None:
    assert [number for number, *_ in ROWS] == [f"K-{number:02}" for number in CASES]
    assert len(re.findall(r"^\| K-", DOCUMENT, re.MULTILINE)) == len(ROWS)


@pytest.mark.parametrize("number, case, verdict, how", ROWS, ids=[number for number, *_ in ROWS])
def test_a_row_is_shown_by_a_test_that_names_it_or_says_why_not(number: str, case: str, verdict: str, how: str) -> None:
    assert verdict in VERDICTS
    assert case
    assert named(how) or verdict not in SHOWN
    assert named(how) or how.strip()
    for name in named(how):
        assert any(re.search(rf"{number}\b", text) for text in TESTS.get(name, ())), f"{name} does not name {number}"


def test_every_number_that_a_test_names_is_in_the_row_of_that_number() -> None:
    rows = {number: named(how) for number, _, _, how in ROWS}
    for name, texts in TESTS.items():
        for number in re.findall(r"\bK-\d+", " ".join(texts)):
            assert name in rows[number], f"{name} names {number}"
