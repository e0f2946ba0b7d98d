"""The fixture server reaches the suite's ceiling; what a gateway in front of it loses is the gateway's."""

import pytest

from tests.conformance import run_suite

pytestmark = [pytest.mark.conformance, pytest.mark.node, pytest.mark.slow]

TOTALS = {"2025-03-26": 1, "2025-06-18": 27, "2025-11-25": 30, "2026-07-28": 37}


@pytest.mark.timeout(180)  # 12 s on an idle machine of two cores
async def test_fixture_passes_every_scored_scenario_of_every_revision() -> None:
    async with run_suite.served("fixture") as url:
        reports = await run_suite.measure(url, run_suite.VERSIONS)
    assert {report.version: report.count(scored=True) for report in reports} == {
        version: (total, total) for version, total in TOTALS.items()
    }


@pytest.mark.timeout(60)
async def test_nothing_is_counted_for_a_dead_address() -> None:
    with pytest.raises(run_suite.NothingToMeasure, match="does not answer"):
        await run_suite.measure("http://127.0.0.1:9/mcp", run_suite.VERSIONS)
