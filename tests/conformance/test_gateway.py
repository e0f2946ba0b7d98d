"""The official suite through the gateway, in every pair of eras, and the gateway as the suite's client."""

from typing import Final

import pytest

from tests.conformance import run_suite
from tests.conformance.pairs import DIRECT, PAIRS, Pair
from tests.conformance.run_client import LEGS, run_legs
from tests.conformance.run_suite import Report
from tests.support import peers

pytestmark = [pytest.mark.conformance, pytest.mark.node, pytest.mark.slow]

FUSE_S: Final = 240
"""40 s on an idle machine of two cores, all tests of this file together."""


async def measured(pair: Pair) -> list[Report]:
    async with run_suite.served(pair.server) as backend, run_suite.gateway(backend, pair.backend) as front:
        return await run_suite.measure(front, tuple(pair.scored))


@pytest.mark.timeout(FUSE_S)
@pytest.mark.parametrize("pair", [pytest.param(pair, id=pair.name) for pair in PAIRS])
async def test_every_scored_scenario_that_can_exist_passes_through_the_gateway(pair: Pair) -> None:
    peers.require("node")
    for report in await measured(pair):
        failed = {scenario.name: scenario.complaints for scenario in report.failing(scored=True)}
        assert set(failed) == set(pair.impossible.get(report.version, {})), failed
        assert report.count(scored=True)[1] == pair.scored[report.version]
        unscored = {scenario.name for scenario in report.scenarios if not scenario.scored and scenario.ok}
        assert unscored >= pair.unscored.get(report.version, frozenset())


def test_nothing_is_accepted_of_a_backend_that_is_pinned_to_nothing() -> None:
    assert not DIRECT.impossible
    assert sum(DIRECT.scored.values()) == 95


@pytest.mark.timeout(FUSE_S)
async def test_s3_the_gateway_passes_the_suites_scenarios_for_clients() -> None:
    peers.require("node")
    scenarios = await run_legs()
    assert {one.name: one.complaints for one in scenarios if not one.ok or not one.passed} == {}
    assert len(scenarios) == len(LEGS)
