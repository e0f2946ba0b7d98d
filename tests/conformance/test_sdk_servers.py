"""The official suite in front of servers on the SDKs: as many scenarios through the gateway as directly.

Their tools ask in one way only, as most servers' do; our fixture asks in the way of whoever calls, so it cannot show
that a client's own era is spoken to such a server.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import pytest
import trio

from tests.conformance import run_suite
from tests.conformance.pairs import SCORED, SDK_PAIRS, Pair
from tests.conformance.run_suite import Report

pytestmark = [pytest.mark.conformance, pytest.mark.node, pytest.mark.slow]

FUSE_S: Final = 240
"""15 s for each on an idle machine of two cores."""

FEWER_CHECKS: Final[Mapping[str, str]] = {
    "server-sse-multiple-streams": "answers that come at once are JSON, which the suite does not count as a stream",
    "server-stateless": "a list that is said to have changed and has not is not announced (a SHOULD)",
}
"""Scenarios that pass through the gateway too, with fewer checks than directly, and why."""

UNPINNED: Final = tuple(pair for pair in SDK_PAIRS if pair.backend == "auto")
PINNED: Final = tuple(pair for pair in SDK_PAIRS if pair.backend != "auto")


def ids(pairs: Sequence[Pair]) -> list[str]:
    return [pair.name for pair in pairs]


async def directly(pair: Pair) -> list[Report]:
    async with run_suite.served(pair.server) as url:
        return await run_suite.measure(url, tuple(pair.scored))


async def through(pair: Pair) -> list[Report]:
    async with run_suite.served(pair.server) as url, run_suite.gateway(url, pair.backend) as front:
        return await run_suite.measure(front, tuple(pair.scored))


def checks(reports: Sequence[Report]) -> dict[tuple[str, str], int]:
    """How many checks of each scenario of each revision passed."""
    return {(report.version, scenario.name): scenario.passed for report in reports for scenario in report.scenarios}


def failing(reports: Sequence[Report]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Scored scenarios that failed, with the suite's complaints, by revision."""
    found = {report.version: {one.name: one.complaints for one in report.failing(scored=True)} for report in reports}
    return {version: names for version, names in found.items() if names}


def counts(reports: Sequence[Report]) -> dict[str, int]:
    return {report.version: report.count(scored=True)[1] for report in reports}


@pytest.mark.timeout(FUSE_S)
@pytest.mark.parametrize("pair", UNPINNED, ids=ids(UNPINNED))
async def test_a_server_on_an_sdk_scores_through_the_gateway_as_directly(pair: Pair) -> None:
    found: dict[str, list[Report]] = {}

    async def measure(way: str) -> None:
        found[way] = await (directly(pair) if way == "directly" else through(pair))

    async with trio.open_nursery() as nursery:
        for way in ("directly", "through"):
            nursery.start_soon(measure, way)
    assert counts(found["directly"]) == counts(found["through"]) == SCORED
    assert failing(found["directly"]) == {}
    assert failing(found["through"]) == {}
    direct = checks(found["directly"])
    fewer = {scenario for scenario, passed in checks(found["through"]).items() if passed < direct[scenario]}
    assert {name for _, name in fewer if not name.startswith("tasks-")} <= FEWER_CHECKS.keys()


@pytest.mark.timeout(FUSE_S)
@pytest.mark.parametrize("pair", PINNED, ids=ids(PINNED))
async def test_every_scenario_that_can_exist_passes_in_front_of_a_pinned_server(pair: Pair) -> None:
    reports = await through(pair)
    assert counts(reports) == pair.scored
    assert {version: set(names) for version, names in failing(reports).items()} == {
        version: set(names) for version, names in pair.impossible.items()
    }, failing(reports)


def test_nothing_is_accepted_of_a_server_that_is_pinned_to_nothing() -> None:
    assert [pair.name for pair in UNPINNED if pair.impossible] == []
    assert {pair.server for pair in UNPINNED} == {"python", "typescript"}
