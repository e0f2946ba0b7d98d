"""Schemas inside schemas, and types that there are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.protocol.json_schema import TYPES, fault
from mcp_gateway.values import JsonValue

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([*TYPES, "int"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "properties", "items", "anyOf", "$defs", "x"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("name", TYPES)
def test_the_types_of_json_schema_are_known(name: str) -> None:
    assert fault({"type": name, "properties": {"a": {"type": [name]}}}) is None


@given(JSON)
def test_any_value_can_be_looked_at(value: JsonValue) -> None:
    why = fault(value)
    assert why is None or "no type of JSON Schema" in why


def test_a_long_name_or_path_is_cut() -> None:
    why = fault({"properties": {"p" * 1000: {"type": "t" * 1000}}})
    assert why is not None
    assert len(why) < 200
