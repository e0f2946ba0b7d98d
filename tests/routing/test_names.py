"""Names: the prefix rule, the checks, the globs."""

import pytest

from mcp_gateway.config.spec import ItemFilter
from mcp_gateway.routing import names


def test_federated_name_is_prefix_and_upstream_name() -> None:
    assert names.federated("time_", "now") == "time_now"
    assert names.federated("", "now") == "now"


@pytest.mark.parametrize(
    "name, fault",
    [
        pytest.param("", "no name", id="empty"),
        pytest.param("a" * 128, None, id="longest"),
        pytest.param("a" * 129, "name over 128 characters", id="too long"),
        pytest.param("a\nb", "name with control characters", id="line break"),
        pytest.param("a\x85b", "name with control characters", id="C1"),
        pytest.param("a\ud800", "name with control characters", id="half a surrogate pair"),
        pytest.param("größe näht", None, id="unusual but usable"),
    ],
)
def test_fault_says_why_a_name_cannot_be_exposed(name: str, fault: str | None) -> None:
    assert names.fault(name) == fault


@pytest.mark.parametrize(
    "name, odd", [("a.b_C-9", False), ("a" * 64, False), ("a" * 65, True), ("a/b", True), ("ä", True)]
)
def test_oddity_says_what_some_clients_refuse(name: str, odd: bool) -> None:
    assert (names.oddity(name) is not None) is odd


@pytest.mark.parametrize(
    "include, exclude, passes",
    [
        pytest.param((), (), True, id="no globs"),
        pytest.param(("get_*", "x"), (), True, id="included"),
        pytest.param(("set_*",), (), False, id="not included"),
        pytest.param((), ("*_time",), False, id="excluded"),
        pytest.param(("get_*",), ("get_time",), False, id="exclusion wins"),
        pytest.param(("GET_*",), (), False, id="case counts"),
    ],
)
def test_globs_choose_tools(include: tuple[str, ...], exclude: tuple[str, ...], passes: bool) -> None:
    assert names.passes("get_time", ItemFilter(include=include, exclude=exclude)) is passes
