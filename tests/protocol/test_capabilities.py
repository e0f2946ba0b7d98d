"""Client capabilities by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.protocol.capabilities import NAMES, granted, known, object_of
from mcp_gateway.values import JsonObject


@pytest.mark.parametrize(
    "declared, names",
    [
        pytest.param({}, set(), id="nothing"),
        pytest.param({"roots": {}}, {"roots"}, id="an empty object declares"),
        pytest.param({"roots": {"listChanged": True}}, {"roots", "roots.listChanged"}, id="a flag"),
        pytest.param({"roots": {"listChanged": False}, "sampling": None}, {"roots"}, id="false and null do not"),
        pytest.param(
            {"elicitation": {"form": {}, "url": {}}, "tasks": {}},
            {"elicitation", "elicitation.form", "elicitation.url"},
            id="unknown ones are left out",
        ),
        pytest.param({"sampling": True}, {"sampling"}, id="not an object"),
    ],
)
def test_known_capabilities_are_named(declared: JsonObject, names: set[str]) -> None:
    assert known(declared) == names


@given(names=st.frozensets(st.sampled_from(NAMES)))
def test_names_become_an_object_that_declares_them(names: frozenset[str]) -> None:
    tops = {name.partition(".")[0] for name in names}  # what is below cannot be declared without what is above
    assert known(object_of(names)) == names | tops


@pytest.mark.parametrize(
    "declared, modes",
    [
        pytest.param({}, set(), id="none"),
        pytest.param({"form": {}}, {"elicitation.form"}, id="forms"),
        pytest.param({"url": {}}, {"elicitation.url"}, id="urls alone"),
        pytest.param({"form": {}, "url": {}}, {"elicitation.form", "elicitation.url"}, id="both"),
    ],
)
def test_elicitation_without_a_mode_means_forms(declared: JsonObject, modes: set[str]) -> None:
    assert granted({"elicitation": declared}) == {"elicitation", *(modes or {"elicitation.form"})}
    assert granted({"sampling": {}}) == {"sampling"}
