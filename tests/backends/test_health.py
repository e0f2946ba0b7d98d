"""The health machine: what opens the circuit, what closes it, what a list survives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.backends.health import HEALTHY_AFTER_S, Backoff, HealthMachine
from mcp_gateway.routing.snapshot import Health


def machine(failures_to_open: int = 3) -> HealthMachine:
    return HealthMachine(failures_to_open=failures_to_open, grace_when_down_s=30.0, since_at=0.0)


def state(health: HealthMachine) -> Health:
    return health.health  # a call, so that the type checker does not take it for what it was


def expiry(health: HealthMachine) -> float | None:
    return health.list_expires_at


@given(tries=st.integers(0, 10**6))
def test_backoff_stays_in_bounds(tries: int) -> None:
    assert 0.5 <= Backoff().delay_s(tries) <= 30.0


def test_backoff_doubles_up_to_its_ceiling() -> None:
    assert [Backoff().delay_s(tries) for tries in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_new_backend_is_connecting_until_it_has_a_list() -> None:
    health = machine()
    assert state(health) is Health.CONNECTING
    health.failed(1.0, "refused")
    assert state(health) is Health.CONNECTING
    health.discovered(2.0)
    assert (health.health, health.since_at) == (Health.READY, 2.0)


def test_the_nth_failure_in_a_row_opens_the_circuit_and_only_that_one_says_so() -> None:
    health = machine()
    health.discovered(0.0)
    assert [health.failed(at, "reset") for at in (1.0, 2.0, 3.0, 4.0)] == [False, False, True, False]
    assert (health.health, health.since_at, health.failures) == (Health.DOWN, 3.0, 4)
    assert (health.last_error, health.last_error_at) == ("reset", 4.0)


def test_one_failure_degrades_and_one_success_repairs() -> None:
    health = machine()
    health.discovered(0.0)
    health.failed(1.0, "reset")
    assert state(health) is Health.DEGRADED
    health.probed(2.0)
    assert state(health) is Health.READY


def test_an_answered_call_ends_a_row_of_failures_but_never_closes_the_circuit() -> None:
    health = machine(2)
    health.answered(0.0)
    assert state(health) is Health.CONNECTING
    health.discovered(0.0)
    health.failed(1.0, "reset")
    health.answered(2.0)
    health.failed(3.0, "reset")
    assert state(health) is Health.DEGRADED
    health.failed(4.0, "reset")
    health.answered(5.0)
    assert state(health) is Health.DOWN
    health.probed(6.0)
    assert state(health) is Health.READY


def test_the_last_good_list_goes_once_when_its_grace_is_over() -> None:
    health = machine(1)
    health.discovered(0.0)
    assert expiry(health) is None
    health.failed(10.0, "reset")
    assert expiry(health) == 40.0
    assert [health.expire(at) for at in (39.9, 40.0, 41.0)] == [False, True, False]
    health.probed(50.0)
    assert state(health) is Health.CONNECTING  # it lives, but has no list to serve yet
    health.discovered(51.0)
    assert state(health) is Health.READY


def test_a_success_within_the_grace_saves_the_list() -> None:
    health = machine(1)
    health.discovered(0.0)
    health.failed(10.0, "reset")
    health.probed(39.0)
    assert not health.expire(100.0)


@pytest.mark.parametrize(
    "stayed_s, expected",
    [
        pytest.param(HEALTHY_AFTER_S - 0.1, 3, id="too short: the pauses go on growing"),
        pytest.param(HEALTHY_AFTER_S, 0, id="long enough: they begin again"),
    ],
)
def test_pauses_begin_again_after_thirty_seconds_of_ready(stayed_s: float, expected: int) -> None:
    health = machine()
    assert [health.connection_ended(0.0) for _ in range(3)] == [0, 1, 2]
    health.discovered(10.0)
    health.probed(11.0)
    assert health.connection_ended(10.0 + stayed_s) == expected
