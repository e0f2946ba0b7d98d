"""Splicing against parse, edit and compare."""

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.errors import MalformedMessage
from mcp_gateway.protocol.splice import REMOVE, Edits, Remove, elements, members, rewrite, value_at
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.json_bytes import names, scalars, spelled, values


def planned_edits(data: st.DataObject, value: JsonObject) -> tuple[Edits, JsonObject]:
    """Edits for ``value``, and ``value`` as it must be after them."""
    edits: dict[str | int, bytes | Remove | Edits] = {}
    after = dict(value)
    for key in data.draw(st.lists(names | st.sampled_from([*value, "new"]), unique=True, max_size=4)):
        old = value.get(key)
        kind = data.draw(st.sampled_from(["set", "remove", "nested"]))
        if kind == "remove":
            edits[key] = REMOVE
            after.pop(key, None)
        elif kind == "nested" and isinstance(old, dict):
            edits[key], after[key] = planned_edits(data, old)
        else:
            new = data.draw(scalars)
            edits[key] = data.draw(spelled(new))
            after[key] = new
    return edits, after


objects = st.dictionaries(names, values, max_size=5)


@given(data=st.data(), value=objects)
def test_a_rewrite_is_what_parse_edit_and_dump_would_be(data: st.DataObject, value: JsonObject) -> None:
    raw = data.draw(spelled(value))
    edits, after = planned_edits(data, value)
    edited = rewrite(raw, edits)
    got = json.loads(edited)
    assert got == after
    assert list(got) == [key for key in value if key in after] + [key for key in got if key not in value]


@given(data=st.data(), value=objects)
def test_members_that_no_edit_names_keep_their_bytes(data: st.DataObject, value: JsonObject) -> None:
    raw = data.draw(spelled(value))
    edits, _ = planned_edits(data, value)
    edited = rewrite(raw, edits)
    kept = [raw[m.key_start : m.value_end] for m in members(raw) if m.key not in edits]
    assert [edited[m.key_start : m.value_end] for m in members(edited) if m.key not in edits] == kept


@given(data=st.data(), value=objects)
def test_setting_each_member_to_what_it_is_changes_no_byte(data: st.DataObject, value: JsonObject) -> None:
    raw = data.draw(spelled(value))
    assert rewrite(raw, {member.key: raw[member.value_start : member.value_end] for member in members(raw)}) == raw


@given(data=st.data(), value=st.lists(values, max_size=5))
def test_elements_are_edited_like_a_list(data: st.DataObject, value: list[JsonValue]) -> None:
    raw = data.draw(spelled(value))
    removed = data.draw(st.sets(st.integers(0, 6)))
    changed = data.draw(st.sets(st.integers(0, max(0, len(value) - 1)))) - removed if value else set()
    edits: Edits = {**dict.fromkeys(removed, REMOVE), **dict.fromkeys(changed, b'"set"')}
    after = ["set" if at in changed else item for at, item in enumerate(value) if at not in removed]
    assert json.loads(rewrite(raw, edits)) == after


@given(data=st.data(), value=values)
def test_every_value_is_found_by_its_path(data: st.DataObject, value: JsonValue) -> None:
    raw = data.draw(spelled(value))
    path: list[str | int] = []
    here = value
    while isinstance(here, dict | list) and here:
        step: str | int
        if isinstance(here, dict):
            step = data.draw(st.sampled_from(list(here)))
            here = here[step]
        else:
            step = data.draw(st.integers(0, len(here) - 1))
            here = here[step]
        path.append(step)
        found = value_at(raw, path)
        assert found is not None
        assert json.loads(found) == here
        assert value_at(raw, [*path[:-1], "\x00 not there"]) is None


@given(raw=st.binary(max_size=60) | st.text(alphabet='{}[]",:\\ 1ntrue', max_size=40).map(str.encode))
def test_garbage_is_refused_or_scanned_but_never_anything_else(raw: bytes) -> None:
    for scan in (members, elements, lambda text: value_at(text, ("a", 0)), lambda text: rewrite(text, {"a": b"1"})):
        with contextlib.suppress(MalformedMessage):
            scan(raw)
