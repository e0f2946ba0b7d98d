"""JSON with comments and trailing commas becomes trees that know their lines; nothing else is forgiven."""

import contextlib
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.config import document
from mcp_gateway.config.document import MAX_DEPTH, MAX_NODES, Node, Unparsable
from mcp_gateway.config.jsonc import parse
from mcp_gateway.values import JsonScalar, JsonValue
from tests.support.documents import value_of


def read(text: str) -> JsonValue:
    root, mistakes = parse(text)
    assert mistakes == ()
    return value_of(root)


@pytest.mark.parametrize(
    "text, value",
    [
        pytest.param('{"a": 1}', {"a": 1}, id="JSON"),
        pytest.param('// a\n{"a": 1} // b', {"a": 1}, id="comments outside"),
        pytest.param('{// a\n"a"// b\n:// c\n1// d\n}', {"a": 1}, id="a comment at every place"),
        pytest.param('{/**/"a"/***/:/* * / */1/* // */}', {"a": 1}, id="a block comment at every place"),
        pytest.param('{"a": [1, /* "b", */ 2]}', {"a": [1, 2]}, id="a block comment that holds quotes"),
        pytest.param('{"a": 1, // "b": {"c": "}"},\n}', {"a": 1}, id="a member commented out"),
        pytest.param('{"a": "http://b//c /* d */ # e"}', {"a": "http://b//c /* d */ # e"}, id="no comments in text"),
        pytest.param('{"a": "\\"// b"}', {"a": '"// b'}, id="an escaped quote before slashes"),
        pytest.param(
            '{"a": "b\\\\", "c": "// d"}', {"a": "b\\", "c": "// d"}, id="an escaped backslash before a quote"
        ),
        pytest.param('{"a": [1, 2,], "b": {"c": 3,},}', {"a": [1, 2], "b": {"c": 3}}, id="trailing commas"),
        pytest.param('{"a": [], "b": {}}', {"a": [], "b": {}}, id="empty"),
        pytest.param('{\r\n\t"a":\r\n\t\t1\r\n}\r\n', {"a": 1}, id="CRLF and tabs"),
        pytest.param('{"a": "C:\\\\apps\\\\x64"}', {"a": "C:\\apps\\x64"}, id="path of Windows"),
        pytest.param('{"a": "x\x7f\ufeff\u2028\x85y"}', {"a": "x\x7f\ufeff\u2028\x85y"}, id="odd characters in text"),
        pytest.param('{"a": "\\ud83d\\ude00\\u0000"}', {"a": "\N{GRINNING FACE}\0"}, id="escapes"),
        pytest.param('{"a": "yes", "b": "1", "<<": "~"}', {"a": "yes", "b": "1", "<<": "~"}, id="text stays text"),
        pytest.param(
            '{"a": -0, "b": 1.5e3, "c": 12345678901234567890}',
            {"a": 0, "b": 1500.0, "c": 12345678901234567890},
            id="numbers",
        ),
        pytest.param('{"a": true, "b": false, "c": null}', {"a": True, "b": False, "c": None}, id="names"),
    ],
)
def test_what_is_read(text: str, value: JsonValue) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    "text, path, line, what",
    [
        pytest.param("", "", None, "the file is empty", id="empty"),
        pytest.param(" // a\n/* b */", "", None, "the file is empty", id="only comments"),
        pytest.param("null", "", None, "the file is empty", id="null"),
        pytest.param('{"a": 1\n', "", 1, "this { is never closed", id="object never closed"),
        pytest.param('{"a":\n[1,\n', "a", 2, "this [ is never closed", id="list never closed"),
        pytest.param('{"a": 1}\n{', "", 2, "the document has ended before this", id="two documents"),
        pytest.param(
            '{\n"a": "C:\\apps"}',
            "a",
            2,
            "this backslash begins no escape of JSON; one that is meant is written \\\\",
            id="path of Windows",
        ),
        pytest.param('{"a": "\\x64"}', "a", 1, "this backslash begins no escape", id="hexadecimal escape"),
        pytest.param('{"a": "\\u12"}', "a", 1, "this backslash begins no escape", id="short escape"),
        pytest.param('{"\\e": 1}', "", 1, "this backslash begins no escape", id="backslash in a key"),
        pytest.param('{"a": "b\n"}', "a", 1, "this text is not closed on its line", id="text over two lines"),
        pytest.param('{"a": "b', "a", 1, "this text is not closed on its line", id="text never closed"),
        pytest.param('{"a": "b\tc"}', "a", 1, "a tab in text is written \\t", id="tab in text"),
        pytest.param(
            '{"a": "b\x1bc"}', "a", 1, "a control character in text is written \\u001b", id="control character"
        ),
        pytest.param('{"a": "\\ud83d"}', "a", 1, "a \\u escape here is half of a surrogate pair", id="half a pair"),
        pytest.param("{\n'a': 1}", "", 2, "a key must be text in double quotes", id="single quotes around a key"),
        pytest.param("{\na: 1}", "", 2, "a key must be text in double quotes", id="bare key"),
        pytest.param("{\"a\": 'b'}", "a", 1, "text stands in double quotes", id="single quotes"),
        pytest.param('{"a" 1}', "a", 1, "a colon must stand between", id="no colon"),
        pytest.param('{"a": 1\n"b": 2}', "a", 2, "a comma or } must stand before this", id="no comma"),
        pytest.param('{"a": [1\n2]}', "a[0]", 2, "a comma or ] must stand before this", id="no comma in a list"),
        pytest.param('{"a": 1,\n,}', "", 2, "a value is missing before this comma", id="two commas"),
        pytest.param('{"a": [,]}', "a", 1, "a value is missing before this comma", id="only a comma"),
        pytest.param('{"a": }', "a", 1, "a value must be", id="no value"),
        pytest.param('{"a":', "a", 1, "a value must be", id="ends before the value"),
        pytest.param(
            '{"a":\u00a0"b"}', "a", 1, "only spaces, tabs and line ends may stand here, no U+00A0", id="no-break space"
        ),
        pytest.param('{\u00a0"a": 1}', "", 1, "only spaces, tabs and line ends", id="no-break space before a key"),
        pytest.param('{"a": True}', "a", 1, "a value must be", id="capital"),
        pytest.param('{"a": NaN}', "a", 1, "a value must be", id="not a number"),
        pytest.param('{"a": 01}', "a", 1, "a value must be", id="octal"),
        pytest.param('{"a": +1}', "a", 1, "a value must be", id="plus"),
        pytest.param('{"a": .5}', "a", 1, "a value must be", id="no digit before the point"),
        pytest.param('{"a": %s}' % ("9" * 101), "a", 1, "a number of more than 100 characters", id="endless number"),
        pytest.param('{"a": 1 / 2}', "a", 1, "a comma or } must stand before this", id="slash"),
        pytest.param('{"a": /', "a", 1, "a value must be", id="slash at the end"),
        pytest.param('{\n/* "a": 1}', "", 2, "this comment is never closed", id="comment never closed"),
        pytest.param('{\n# a\n"a": 1}', "", 2, "# begins no comment in JSON", id="comment of YAML"),
        pytest.param(
            '\ufeff{"a": 1}',
            "",
            1,
            "only spaces, tabs and line ends may stand here, no U+FEFF",
            id="a second byte order mark",
        ),
        pytest.param('{"a":' * 100_000, ".".join("a" * 33), 1, f"nested more than {MAX_DEPTH} deep", id="deep"),
        pytest.param(
            "[" + "0,\n" * MAX_NODES, f"[{MAX_NODES - 1}]", MAX_NODES, f"more than {MAX_NODES} values", id="many"
        ),
    ],
)
def test_texts_that_are_no_document(text: str, path: str, line: int | None, what: str) -> None:
    with pytest.raises(Unparsable) as refused:
        parse(text)
    mistake = refused.value.mistake
    assert (mistake.path, mistake.line) == (path, line)
    assert mistake.what.removeprefix("not valid JSON: ").startswith(what)


def test_a_key_that_stands_twice_is_a_mistake_on_its_line() -> None:
    root, mistakes = parse('{"a": {\n"b": 1,\n// "b": 2,\n"b": 3\n}}')
    assert [(one.path, one.line, one.what) for one in mistakes] == [("a.b", 4, "is already set on line 2")]
    assert value_of(root) == {"a": {"b": 1}}


def test_a_syntax_error_does_not_repeat_the_text() -> None:
    for text in ('{"a": "hunter2\\q"}', '{"a": hunter2}', "{hunter2: 1}", '{"a": "hunter2\n"}', '{"a": 1 "hunter2"}'):
        with pytest.raises(Unparsable) as refused:
            parse(text)
        assert "hunter2" not in str(refused.value.mistake)


# --- any value, however it is written ------------------------------------------------------------------------------

SCALARS: st.SearchStrategy[JsonScalar] = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab"\\/', max_size=3), inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text("abc"), VALUES, max_size=4)
FILLERS = st.text(" \t", max_size=2) | st.sampled_from(
    ["\n", "\r\n", "\r", '// "{[,\n', "//\r\n", "/**/", '/* "\n } // */', "/*\r\n\r*/"]
)


@given(value=OBJECTS, ascii_only=st.booleans(), indent=st.sampled_from([None, "\t", 2]))
def test_json_is_read_as_json_reads_it(value: JsonValue, ascii_only: bool, indent: int | str | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert read(text) == json.loads(text)


def tokens(value: JsonValue, *, trailing: bool) -> Iterator[str]:
    """A value as the tokens of JSON; ``trailing``: with a comma behind every last member."""
    if not isinstance(value, dict | list):
        yield json.dumps(value)
        return
    yield "{" if isinstance(value, dict) else "["
    members = value.items() if isinstance(value, dict) else (("", member) for member in value)
    for number, (key, member) in enumerate(members, 1):
        if isinstance(value, dict):
            yield from (json.dumps(key), ":")
        yield from tokens(member, trailing=trailing)
        if trailing or number < len(value):
            yield ","
    yield "}" if isinstance(value, dict) else "]"


def lines_of(node: Node) -> Iterator[int]:
    """The lines of a tree's keys and values, in the order of the text."""
    yield node.line
    if isinstance(node, document.Mapping):
        for entry in node.entries:
            yield entry.line
            yield from lines_of(entry.node)
    elif isinstance(node, document.Sequence):
        for item in node.items:
            yield from lines_of(item)


@given(value=OBJECTS, trailing=st.booleans(), data=st.data())
def test_comments_white_space_and_trailing_commas_change_nothing_but_lines(
    value: JsonValue, trailing: bool, data: st.DataObject
) -> None:
    text, lines = data.draw(FILLERS), []
    for token in tokens(value, trailing=trailing):
        if token not in "}],:":
            lines.append(1 + text.replace("\r\n", "\n").replace("\r", "\n").count("\n"))
        text += token + data.draw(FILLERS)
    root, mistakes = parse(text)
    assert mistakes == ()
    assert value_of(root) == value
    assert list(lines_of(root)) == lines


@given(value=OBJECTS, data=st.data())
def test_what_json_refuses_is_refused_unless_it_is_a_comment_or_a_trailing_comma(
    value: JsonValue, data: st.DataObject
) -> None:
    """One character more, less or other; none that makes a comment or a comma."""
    text = json.dumps(value)
    at = data.draw(st.integers(0, len(text) - 1))
    more = data.draw(
        st.sampled_from(["", " ", "\n", "\t", '"', "'", "\\", "{", "}", "[", "]", ":", "0", ".", "-", "e"])
    )
    changed = text[:at] + more + text[at + data.draw(st.integers(0, 1)) :]
    try:
        expected: JsonValue = json.loads(changed)
        unique = True
    except ValueError:
        expected, unique = None, False
    try:
        root, mistakes = parse(changed)
    except Unparsable:
        assert not unique or expected is None or r"\ud" in changed.lower()
        return
    if unique and not mistakes:  # of a key that stands twice, JSON keeps the last value
        assert value_of(root) == expected
    assert unique or ",}" in "".join(changed.split()) or ",]" in "".join(changed.split())


@given(text=st.text("{}[]\",:\\/*#\n\r\t 01-.eEtruefalsn'\ufeff\u00a0"))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Unparsable):
        parse(text)
