"""Editing without parsing: what is edited, and that nothing else moves."""

import json

import pytest

from mcp_gateway.errors import MalformedMessage
from mcp_gateway.protocol.splice import (
    EXACT_BYTES,
    MAX_MEMBERS,
    MAX_ODD_BRACKETS,
    REMOVE,
    Edits,
    each_element,
    elements,
    members,
    one_line,
    quoted,
    rewrite,
    skip,
    value_at,
)

DEEP = b'{"a":' * 6 + b'["}",{"b":"]\\""}]' + b"}" * 6


@pytest.mark.parametrize(
    "raw, edits, edited",
    [
        pytest.param(b'{"a":1}', {}, b'{"a":1}', id="no edits"),
        pytest.param(b'{"a":1}', {"a": b"2"}, b'{"a":2}', id="set in place"),
        pytest.param(b' { "a" : 1 , "b":2 } ', {"a": b"9"}, b' { "a" : 9 , "b":2 } ', id="white space stays"),
        pytest.param(b"{}", {"a": b"1"}, b'{"a":1}', id="set in an empty object"),
        pytest.param(b"{ }", {"a": b"1"}, b'{"a":1 }', id="set in an empty object with white space"),
        pytest.param(b'{"a":1 }', {"b": b"2"}, b'{"a":1,"b":2 }', id="append"),
        pytest.param(b'{"a":1}', {"b": b"2", "c": b"3"}, b'{"a":1,"b":2,"c":3}', id="append two"),
        pytest.param(b'{"a":1, "b":2, "c":3}', {"a": REMOVE}, b'{"b":2, "c":3}', id="remove the first"),
        pytest.param(b'{"a":1, "b":2, "c":3}', {"b": REMOVE}, b'{"a":1, "c":3}', id="remove the middle"),
        pytest.param(b'{"a":1, "b":2, "c":3}', {"c": REMOVE}, b'{"a":1, "b":2}', id="remove the last"),
        pytest.param(b'{"a":1,"b":2,"c":3}', {"a": REMOVE, "b": REMOVE}, b'{"c":3}', id="remove the first two"),
        pytest.param(b'{"a":1,"b":2,"c":3}', {"b": REMOVE, "c": REMOVE}, b'{"a":1}', id="remove the last two"),
        pytest.param(b'{"a":1,"b":2,"c":3}', {"a": REMOVE, "c": REMOVE}, b'{"b":2}', id="remove both ends"),
        pytest.param(b'{"a":1,"b":2}', {"a": REMOVE, "b": b"3"}, b'{"b":3}', id="remove one, set the next"),
        pytest.param(b'{"a":1,"b":2}', {"a": b"3", "b": REMOVE}, b'{"a":3}', id="set one, remove the next"),
        pytest.param(b'{ "a":1, "b":2 }', {"a": REMOVE, "b": REMOVE}, b"{  }", id="remove all"),
        pytest.param(b'{"a":1}', {"a": REMOVE, "b": b"2"}, b'{"b":2}', id="remove all and append"),
        pytest.param(b'{"a":1}', {"b": REMOVE}, b'{"a":1}', id="remove what is absent"),
        pytest.param(b'{"a":{"b":1}}', {"a": {"b": b"2", "c": b"3"}}, b'{"a":{"b":2,"c":3}}', id="nested"),
        pytest.param(b'{"a":{"b":1}}', {"a": {}}, b'{"a":{"b":1}}', id="nested edits that are empty"),
        pytest.param(b"{}", {"a": {"b": b"1"}}, b'{"a":{"b":1}}', id="an absent object is made"),
        pytest.param(b"{}", {"a": {"b": REMOVE}}, b"{}", id="removing from an absent object makes nothing"),
        pytest.param(b'{"n\\u0061me":"x"}', {"name": b'"y"'}, b'{"n\\u0061me":"y"}', id="an escaped key is that key"),
        pytest.param(b'{"x":1,"x":2,"a":3}', {"a": b"4"}, b'{"x":1,"x":2,"a":4}', id="foreign duplicates stay"),
        pytest.param(b'{"n":1.0e+00,"a":3}', {"a": b"4"}, b'{"n":1.0e+00,"a":4}', id="number text stays"),
        pytest.param(b'{"d":' + DEEP + b',"a":1}', {"a": b"2"}, b'{"d":' + DEEP + b',"a":2}', id="a deep value stays"),
        pytest.param(b"[1, 2, 3]", {1: b"9"}, b"[1, 9, 3]", id="set an element"),
        pytest.param(b"[1, 2, 3]", {0: REMOVE, 2: b"4"}, b"[2, 4]", id="remove and set elements"),
        pytest.param(b"[1]", {1: b"2", 2: b"3"}, b"[1,2,3]", id="append elements"),
        pytest.param(b"[ ]", {0: b"1"}, b"[1 ]", id="append to an empty array"),
        pytest.param(b"[1]", {7: REMOVE}, b"[1]", id="remove an absent element"),
        pytest.param(b'{"l":[{"a":1},{}]}', {"l": {0: {"a": b"2"}}}, b'{"l":[{"a":2},{}]}', id="object in an array"),
    ],
)
def test_an_edit_changes_only_what_it_names(raw: bytes, edits: Edits, edited: bytes) -> None:
    assert rewrite(raw, edits) == edited
    json.loads(edited)


@pytest.mark.parametrize(
    "raw, edits, what",
    [
        pytest.param(b'{"name":1,"name":2}', {"name": b"3"}, "duplicate member 'name'", id="a duplicate"),
        pytest.param(b'{"name":1,"na\\u006de":2}', {"name": REMOVE}, "duplicate member 'name'", id="one in disguise"),
        pytest.param(b'{"a":"text"}', {"a": {"b": b"1"}}, "not an object", id="a string is no object"),
        pytest.param(b"[1]", {"a": b"1"}, "not an object", id="an array is no object"),
        pytest.param(b'{"a":1}', {0: b"1"}, "not an array", id="an object is no array"),
        pytest.param(b"[1]", {3: b"1"}, "no element 3", id="an element far behind the end"),
        pytest.param(b"[1]", {-1: b"1"}, "no element -1", id="no counting from the end"),
        pytest.param(b"[1]", {1: {"a": b"1"}}, "no element 1", id="no edits in an absent element"),
        pytest.param(b"null", {"a": b"1"}, "not an object", id="null"),
        pytest.param(b"", {"a": b"1"}, "not an object", id="nothing"),
        pytest.param(b'{"a":1', {"a": b"1"}, "not JSON at byte 6", id="no end"),
        pytest.param(b'{"a":1]', {"a": b"1"}, "not JSON at byte 6", id="the wrong end"),
        pytest.param(b'{"a" 1}', {"a": b"1"}, "not JSON at byte 1", id="no colon"),
        pytest.param(b'{"a":}', {"a": b"1"}, "not JSON at byte 5", id="no value"),
        pytest.param(b'{"\xff":1}', {"a": b"1"}, "not JSON at byte 1", id="a key that is not UTF-8"),
        pytest.param(b'{"\\q":1}', {"a": b"1"}, "not JSON at byte 1", id="a key with a bad escape"),
        pytest.param(b"[1}", {0: b"1"}, "not JSON at byte 2", id="an array closed as an object"),
        pytest.param(b"[1 2]", {0: b"1"}, "not JSON at byte 2", id="no comma"),
        pytest.param(b"[[[[[1}]]]]", {0: b"1"}, "not JSON at byte 6", id="mixed brackets, deep"),
        pytest.param(b"[[[[[[[1", {0: b"1"}, "not JSON at byte 7", id="no end, deep"),
    ],
)
def test_an_edit_that_cannot_be_made_is_refused(raw: bytes, edits: Edits, what: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        rewrite(raw, edits)
    assert (caught.value.what, caught.value.code) == (what, -32600)


def test_members_say_where_everything_is() -> None:
    raw = b' {"a" : [1] ,"\\u0062":"x"}'
    found = members(raw)
    assert [(member.key, raw[member.value_start : member.value_end]) for member in found] == [
        ("a", b"[1]"),
        ("b", b'"x"'),
    ]
    assert len(found) == 2
    assert raw[found.items[1].key_start :].startswith(b'"\\u0062"')
    assert found.end == len(raw)
    assert found.find("c") is None


def test_members_begin_where_they_are_told() -> None:
    assert [member.key for member in members(b'{"a":{"b":1}}', 5)] == ["b"]


def test_elements_say_where_they_are() -> None:
    raw = b'[ 1, "a,b" ,{"c":[]}]'
    assert [raw[start:end] for start, end in elements(raw)] == [b"1", b'"a,b"', b'{"c":[]}']
    assert elements(b" [ ] ") == []


@pytest.mark.parametrize("raw", [pytest.param(b"{}", id="object"), pytest.param(b"7", id="scalar")])
def test_what_is_no_array_has_no_elements(raw: bytes) -> None:
    with pytest.raises(MalformedMessage, match="not an array"):
        elements(raw)


@pytest.mark.parametrize(
    "path, value",
    [
        pytest.param((), b'{"a":{"b":[10,{"c":null}]},"s":"x"}', id="the root, without white space"),
        pytest.param(("a", "b", 0), b"10", id="an element"),
        pytest.param(("a", "b", 1, "c"), b"null", id="null is a value"),
        pytest.param(("a", "b", 2), None, id="no such element"),
        pytest.param(("a", "b", -1), None, id="no counting from the end"),
        pytest.param(("a", "x"), None, id="no such member"),
        pytest.param(("s", "x"), None, id="a string has no members"),
        pytest.param(("a", 0), None, id="an object has no elements"),
        pytest.param(("a", "b", "c"), None, id="an array has no members"),
    ],
)
def test_a_value_is_found_by_its_path(path: tuple[str | int, ...], value: bytes | None) -> None:
    assert value_at(b' {"a":{"b":[10,{"c":null}]},"s":"x"} ', path) == value


def test_asking_for_a_duplicate_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="duplicate member 'a'"):
        value_at(b'{"a":1,"a":1}', ("a",))


def test_a_large_value_of_many_levels_is_skipped() -> None:
    raw = b"[" * 5_000 + b'"]"' + b"]" * 5_000
    assert skip(raw, 0) == len(raw)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"[%b]" % b",".join([b'[{"a":[["]"]]}]'] * 10_000), id="of a few levels"),
        pytest.param(b"[" * 128 + b'"[\\"["' * 20_000 + b"]" * 128, id="of 128 levels"),
        pytest.param(b"[" * 129 + b"1," * 50_000 + b"1" + b"]" * 129, id="of 129 levels"),
    ],
)
def test_a_value_that_is_large_and_deep_is_skipped(raw: bytes) -> None:
    assert len(raw) > EXACT_BYTES
    assert skip(b" " + raw + b"]", 1) == len(raw) + 1


def test_what_would_take_long_to_look_through_is_refused() -> None:
    with pytest.raises(MalformedMessage, match=f"more than {MAX_ODD_BRACKETS} brackets"):
        skip(b"[" * MAX_ODD_BRACKETS + b"]" * MAX_ODD_BRACKETS, 0)
    members(b"{%b}" % b",".join([b'"a":1'] * MAX_MEMBERS))
    with pytest.raises(MalformedMessage, match=f"more than {MAX_MEMBERS} members"):
        members(b"{%b}" % b",".join([b'"a":1'] * (MAX_MEMBERS + 1)))


def test_elements_are_found_as_they_are_asked_for() -> None:
    found = each_element(b" [1, 22 ] ")
    assert [next(found), next(found)] == [(2, 3), (5, 7)]
    assert next(found, None) is None
    broken = each_element(b"[1,22}")
    assert next(broken) == (1, 2)


@pytest.mark.parametrize(
    "raw", [pytest.param(b'{"a":1,\r\n "b":"x\\n"}', id="CRLF"), pytest.param(b"[\n1\n]", id="LF")]
)
def test_one_line_keeps_the_meaning(raw: bytes) -> None:
    line = one_line(raw)
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line) == json.loads(raw)


def test_one_line_is_the_same_object_when_there_is_nothing_to_do() -> None:
    raw = b'{"a":"\\n"}'
    assert one_line(raw) is raw


def test_a_lone_surrogate_can_be_quoted() -> None:
    assert quoted("\ud800é") == b'"\\ud800\\u00e9"'
