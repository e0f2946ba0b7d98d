"""YAML becomes trees that know their lines, within bounds."""

import pytest

from mcp_gateway.config import document
from mcp_gateway.config.document import MAX_DEPTH, MAX_NODES, Unparsable
from mcp_gateway.config.yaml_text import parse
from mcp_gateway.values import JsonValue
from tests.support.documents import value_of


def read(text: str) -> JsonValue:
    root, mistakes = parse(text)
    assert mistakes == ()
    return value_of(root)


@pytest.mark.parametrize(
    "text, value",
    [
        pytest.param("a: no", "no", id="no is text"),
        pytest.param("a: on", "on", id="on is text"),
        pytest.param("a: true", True, id="true"),
        pytest.param("a: 'true'", "true", id="quoted true"),
        pytest.param("a: ~", None, id="null"),
        pytest.param("a:", None, id="nothing"),
        pytest.param("a: 010", 10, id="no octal"),
        pytest.param("a: 0x10", "0x10", id="no hexadecimal"),
        pytest.param("a: 1.5", 1.5, id="real"),
        pytest.param("a: 1:30", "1:30", id="no sexagesimal"),
        pytest.param("a: 2025-11-25", "2025-11-25", id="no date"),
        pytest.param("a: !!str 5", "5", id="the string tag"),
        pytest.param("a: |\n  x\n  y\n", "x\ny\n", id="block text"),
        pytest.param("a: '// b'", "// b", id="slashes in quotes"),
        pytest.param("a: http://b // c", "http://b // c", id="slashes inside"),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: JsonValue) -> None:
    assert read(text) == {"a": value}


def test_an_alias_stands_for_its_whole_value() -> None:
    assert read("a: &x {b: [1]}\nc: *x\n") == {"a": {"b": [1]}, "c": {"b": [1]}}


def test_lines_are_those_of_the_text() -> None:
    root, _ = parse("# comment\na:\n  - b: 1\n\n  - c: 2\n")
    assert isinstance(root, document.Mapping)
    assert root.entries[0].line == 2
    items = root.entries[0].node
    assert isinstance(items, document.Sequence)
    assert [item.line for item in items.items] == [3, 5]


@pytest.mark.parametrize(
    "text, path, line, what",
    [
        pytest.param("a: 1\nb: 2\na: 3\n", "a", 3, "is already set on line 1", id="duplicate key"),
        pytest.param("a: [{b: 1,\nb: 2}]\n", "a[0].b", 2, "is already set on line 1", id="duplicate key deep inside"),
        pytest.param("a: 1\n? [x]\n: 2\n", "", 2, "a key must be text", id="list as a key"),
        pytest.param("a: &x {b: 1}\nc:\n  <<: *x\n", "c", 3, "merge keys (<<) are not supported", id="merge key"),
        pytest.param("a: !!python/name:os.system x\n", "a", 1, "tags (!) are not supported", id="tag on a scalar"),
        pytest.param("a: !x {}\n", "a", 1, "tags (!) are not supported", id="tag on a mapping"),
        pytest.param("a: !x []\n", "a", 1, "tags (!) are not supported", id="tag on a list"),
        pytest.param(
            'a: {\n  "b": 1,\n  // "c": {d: 1}\n}\n', 'a.// "c"', 3, "// and /* begin no comment", id="comment of JSON"
        ),
        pytest.param("a: [b,\n  // c,\n]\n", "a[1]", 2, "// and /* begin no comment", id="comment in a list"),
        pytest.param("a:\n  /* b: 1\n", "a./* b", 2, "// and /* begin no comment", id="block comment of JSON"),
    ],
)
def test_mistakes_that_leave_a_tree(text: str, path: str, line: int, what: str) -> None:
    _, mistakes = parse(text)
    assert [(mistake.path, mistake.line) for mistake in mistakes] == [(path, line)]
    assert mistakes[0].what.startswith(what)


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    "text, line, what",
    [
        pytest.param("", None, "the file is empty", id="empty"),
        pytest.param("# nothing\n", None, "the file is empty", id="only a comment"),
        pytest.param("---\n~\n", None, "the file is empty", id="null"),
        pytest.param("a: 1\n---\nb: 2\n", 2, "a second document begins here", id="two documents"),
        pytest.param("a: {b\n", 2, "not valid YAML", id="never closed"),
        pytest.param("a: 'never closed\n\n", 3, "not valid YAML", id="quote never closed"),
        pytest.param("a: \x00", None, "not valid YAML", id="control character"),
        pytest.param("a: *x\n", 1, "alias *x has no complete anchor", id="unknown alias"),
        pytest.param("a: &x [*x]\n", 1, "alias *x has no complete anchor", id="an alias inside itself"),
        pytest.param("[" * 100, 1, f"nested more than {MAX_DEPTH} deep", id="deep"),
        pytest.param(BOMB, 5, f"more than {MAX_NODES} values", id="alias bomb"),
    ],
)
def test_texts_that_are_no_document(text: str, line: int | None, what: str) -> None:
    with pytest.raises(Unparsable) as refused:
        parse(text)
    assert refused.value.mistake.line == line
    assert refused.value.mistake.what.startswith(what)


def test_a_text_that_is_far_too_deep_is_refused_by_us_or_by_the_parser() -> None:
    with pytest.raises(Unparsable) as refused:
        parse("[" * 100_000)
    assert refused.value.mistake.line == 1
    # Newer versions of libyaml have a bound of their own, and look ahead.
    assert refused.value.mistake.what.endswith((f"nested more than {MAX_DEPTH} deep", "exceeded maximum nesting depth"))


def test_a_syntax_error_does_not_repeat_the_text() -> None:
    with pytest.raises(Unparsable) as refused:
        parse("credential: {value: 'Bearer hunter2}\n")
    assert "hunter2" not in str(refused.value.mistake)
