"""What a client must be able to do to be shown an item."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.protocol.capabilities import NAMES
from mcp_gateway.routing.required import least, met, simplest
from mcp_gateway.values import JsonObject

SAMPLING = frozenset({"sampling"})
FORM = frozenset({"elicitation", "elicitation.form"})
URL = FORM | {"elicitation.url"}
ALL = frozenset(NAMES)

some_names = st.frozensets(st.sampled_from(NAMES))


def test_one_of_the_sets_is_enough_and_no_set_is_for_everybody() -> None:
    assert met((), frozenset())
    assert met((SAMPLING, FORM), FORM)
    assert not met((SAMPLING, FORM), frozenset({"elicitation"}))


@given(sets=st.lists(some_names, min_size=1), granted=some_names, more=some_names)
def test_whoever_can_do_more_is_shown_no_less(
    sets: list[frozenset[str]], granted: frozenset[str], more: frozenset[str]
) -> None:
    required = simplest(sets)
    assert met(required, granted) == any(one <= granted for one in sets)
    assert met(required, granted | more) or not met(required, granted)


def test_a_set_that_holds_another_one_says_nothing_new() -> None:
    assert simplest([ALL, URL, SAMPLING, FORM, SAMPLING]) == (SAMPLING, FORM)


@pytest.mark.parametrize(
    "required, capabilities",
    [
        pytest.param((SAMPLING,), {"sampling": {}}, id="one"),
        pytest.param((URL,), {"elicitation": {"form": {}, "url": {}}}, id="with its modes"),
        pytest.param((URL, SAMPLING), {"sampling": {}}, id="the smallest of several"),
    ],
)
def test_what_is_required_is_a_capabilities_object(
    required: tuple[frozenset[str], ...], capabilities: JsonObject
) -> None:
    assert least(required) == capabilities
