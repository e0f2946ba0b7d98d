"""When a backend is asked next, on a clock that is only a number."""

import math

import attrs

from mcp_gateway.backends.discovery import Catalogue
from mcp_gateway.backends.schedule import CHECK_GAP_S, REFRESH_GAP_S, Schedule
from mcp_gateway.routing.snapshot import Kind

GOOD = Catalogue(listings={})
UNREAD = attrs.evolve(GOOD, unread=frozenset({Kind.TOOLS}))


def schedule() -> Schedule:
    return Schedule(interval_s=30.0, jitter=lambda pause_s: pause_s)


def test_notices_and_failures_are_answered_with_a_gap_and_the_time_that_comes_at_once() -> None:
    one = schedule()
    one.probing(10.0)
    assert one.earliest_at(periodic=False) == 10.0 + CHECK_GAP_S
    assert one.earliest_at(periodic=True) == -math.inf
    one.lists_wanted = True
    assert one.discovering(20.0)
    assert not one.discovering(20.0)
    one.lists_wanted = True
    assert one.earliest_at(periodic=False) == 20.0 + REFRESH_GAP_S


def test_a_list_that_stays_unread_is_asked_for_with_pauses_that_grow_up_to_the_interval() -> None:
    one, pauses = schedule(), []
    for _ in range(8):
        one.discovering(100.0)
        one.discovered(UNREAD, 100.0)
        pauses.append(one.stale_at(UNREAD) - 100.0)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    one.discovered(GOOD, 100.0)
    assert one.stale_at(GOOD) == math.inf
    assert one.stale_at(None) == math.inf


def test_the_next_probe_is_an_interval_away_or_as_soon_as_is_said() -> None:
    one = schedule()
    one.asked(5.0)
    assert one.probe_at == 35.0
    one.asked(5.0, 0.5)
    assert one.probe_at == 5.5
