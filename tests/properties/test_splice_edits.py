"""Splicing against parse, edit and compare."""

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.errors import MalformedMessage
from mcp_gateway.protocol.splice import REMOVE, Edits, Remove, elements, members, rewrite, value_at
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.json_bytes import Dice, arrays, dice, objects, spell, values


def planned_edits(plan: Dice, value: JsonObject) -> tuple[Edits, JsonObject]:
    """Edits for ``value``, and ``value`` as it must be after them."""
    edits: dict[str | int, bytes | Remove | Edits] = {}
    after = dict(value)
    known = (*value, "new")
    for _ in range(plan.below(5)):
        key = known[plan.below(len(known))] if plan.below(2) else plan.name()
        old, kind = value.get(key), plan.below(3)
        if key in edits:
            continue
        if kind == 0:
            edits[key] = REMOVE
            after.pop(key, None)
        elif kind == 1 and isinstance(old, dict):
            edits[key], after[key] = planned_edits(plan, old)
        else:
            after[key] = plan.scalar()
            edits[key] = spell(after[key], plan)
    return edits, after


@given(value=objects, plan=dice)
def test_a_rewrite_is_what_parse_edit_and_dump_would_be(value: JsonObject, plan: Dice) -> None:
    raw = spell(value, plan)
    edits, after = planned_edits(plan, value)
    edited = rewrite(raw, edits)
    got = json.loads(edited)
    assert got == after
    assert list(got) == [key for key in value if key in after] + [key for key in got if key not in value]


@given(value=objects, plan=dice)
def test_members_that_no_edit_names_keep_their_bytes(value: JsonObject, plan: Dice) -> None:
    raw = spell(value, plan)
    edits, _ = planned_edits(plan, value)
    edited = rewrite(raw, edits)
    kept = [raw[m.key_start : m.value_end] for m in members(raw) if m.key not in edits]
    assert [edited[m.key_start : m.value_end] for m in members(edited) if m.key not in edits] == kept


@given(value=objects, plan=dice)
def test_setting_each_member_to_what_it_is_changes_no_byte(value: JsonObject, plan: Dice) -> None:
    raw = spell(value, plan)
    assert rewrite(raw, {member.key: raw[member.value_start : member.value_end] for member in members(raw)}) == raw


@given(value=arrays, plan=dice)
def test_elements_are_edited_like_a_list(value: list[JsonValue], plan: Dice) -> None:
    raw = spell(value, plan)
    removed = {at for at in range(7) if plan.below(2)}
    changed = {at for at in range(len(value)) if plan.below(2)} - removed
    edits: Edits = {**dict.fromkeys(removed, REMOVE), **dict.fromkeys(changed, b'"set"')}
    after = ["set" if at in changed else item for at, item in enumerate(value) if at not in removed]
    assert json.loads(rewrite(raw, edits)) == after


@given(value=values, plan=dice)
def test_every_value_is_found_by_its_path(value: JsonValue, plan: Dice) -> None:
    raw = spell(value, plan)
    path: list[str | int] = []
    here = value
    while isinstance(here, dict | list) and here:
        step: str | int
        if isinstance(here, dict):
            step = list(here)[plan.below(len(here))]
            here = here[step]
        else:
            step = plan.below(len(here))
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
