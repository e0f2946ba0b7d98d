"""The whole score: every pair of eras and the client scenarios, as a table.

Owns the printing and the exit code. Deliberately measures nothing itself. Invariant: exit code 0 means that what failed
is exactly what ``pairs`` says cannot exist.

Usage: ``python -m tests.conformance.score`` for all of it; with arguments it is ``run_suite``.
"""

import sys
from typing import Final

import trio

from tests.conformance import run_suite
from tests.conformance.pairs import PAIRS, SDK_PAIRS, Pair
from tests.conformance.run_client import run_legs

WRONG: Final = 1


async def score_pair(pair: Pair) -> bool:
    """Measure and print one pair; whether it is as it should be."""
    print(f"\n{pair.name}")
    async with run_suite.served(pair.server) as backend, run_suite.gateway(backend, pair.backend) as front:
        reports = await run_suite.measure(front, tuple(pair.scored))
    run_suite.show(reports)
    good = True
    for report in reports:
        failed = {scenario.name for scenario in report.failing(scored=True)}
        accepted = pair.impossible.get(report.version, {})
        for name in sorted(failed & accepted.keys()):
            print(f"  accepted at {report.version}: {name}: {accepted[name]}")
        good = good and failed == accepted.keys()
    return good


async def score_client() -> bool:
    """The same for the gateway as a client."""
    print("\nthe gateway as the suite's client")
    scenarios = await run_legs()
    for scenario in scenarios:
        print(f"  {'ok' if scenario.ok else 'FAILED'}: {scenario.name} ({scenario.passed} checks)")
        for complaint in scenario.complaints:
            print(f"    {complaint[-300:]}")
    return all(scenario.ok for scenario in scenarios)


async def main() -> int:
    if len(sys.argv) > 1:
        return await run_suite.main()
    good = [await score_pair(pair) for pair in (*PAIRS, *SDK_PAIRS)]
    good.append(await score_client())
    return 0 if all(good) else WRONG


if __name__ == "__main__":
    sys.exit(trio.run(main))
