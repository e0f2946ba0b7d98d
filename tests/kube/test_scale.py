"""Five hundred registrations: created at once, and carried through everything that happens to the data plane."""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support import load
from tests.support.kube.crowd import Crowd, peak_mib

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(240)]

MANY: Final = 500
CONVERGED_S: Final = 30.0
CONTROLLER_MIB: Final = 150


@pytest.fixture(scope="module")
def crowd() -> Iterator[Crowd]:
    with Crowd() as made, made.running():
        made.create(MANY)
        yield made


def test_five_hundred_at_once_are_ready_soon_and_the_controller_stays_small(crowd: Crowd) -> None:
    assert crowd.all_ready(MANY, 4 * CONVERGED_S) < load.stretched(CONVERGED_S)
    assert peak_mib(crowd.controlling) < CONTROLLER_MIB
    assert crowd.too_many() == 0


def test_a_rolling_restart_of_the_data_plane_changes_no_condition(crowd: Crowd) -> None:
    crowd.settled()
    crowd.writes.forget()
    crowd.replaced("data-plane-2")
    crowd.settled()
    assert crowd.writes.changed == set()
    assert crowd.writes.most <= 2  # where the two pods speak another protocol with a server, that is told
    assert crowd.too_many() == 0


def test_a_data_plane_that_is_killed_costs_each_object_two_writes_at_most(crowd: Crowd) -> None:
    crowd.settled()
    crowd.writes.forget()
    crowd.data.process.kill()
    crowd.data.process.wait()
    crowd.data.again()
    crowd.settled()
    crowd.all_ready(MANY, 2 * CONVERGED_S)
    crowd.settled()
    assert crowd.writes.most <= 2
    assert crowd.too_many() == 0
