"""Run the official suite's client scenarios: its servers are the backends, the gateway is their client.

Owns running one scenario and reading its checks. Deliberately knows no gateway: the suite starts ``client_command``.
Invariant: a scenario has passed when the suite says so and the command has ended well.
"""

import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Final

import attrs
import trio

from tests.conformance.run_suite import SUITE, Scenario, read_checks
from tests.support import peers

AT_ONCE: Final = 2
"""Scenarios beside each other; most of their time is the start of two programs."""
SCENARIO_S: Final = 60.0

SESSIONS: Final = "2025-11-25"
MODERN: Final = "2026-07-28"


@attrs.frozen(kw_only=True)
class Leg:
    """One scenario, in one revision, with a client of one era in front of the gateway."""

    scenario: str
    version: str
    front: str
    """2025 or 2026."""

    @property
    def label(self) -> str:
        return f"{self.scenario} at {self.version} for a {self.front} client"


def _legs(version: str, fronts: tuple[str, ...], *scenarios: str) -> tuple[Leg, ...]:
    return tuple(Leg(scenario=scenario, version=version, front=front) for scenario in scenarios for front in fronts)


# Where the client in front is of the other era, what the suite sees is the gateway's own doing.
LEGS: Final = (
    *_legs(SESSIONS, ("2025",), "initialize"),
    *_legs(
        SESSIONS,
        ("2025", "2026"),
        "tools_call",
        "elicitation-sep1034-client-defaults",
        "sse-retry",
        "json-schema-2020-12-preservation",
    ),
    *_legs(MODERN, ("2026",), "request-metadata", "json-schema-ref-no-deref", "json-schema-2020-12-preservation"),
    *_legs(
        MODERN,
        ("2025", "2026"),
        "tools_call",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
    ),
)


async def run_leg(leg: Leg) -> Scenario:
    """Run one scenario to its end; a command that failed is a complaint of its own."""
    command = shlex.join([sys.executable, "-m", "tests.conformance.client_command"])
    environment = {
        **os.environ,
        "PYTHONPATH": str(peers.ROOT),
        "MCP_GATEWAY_CLIENT": leg.front,
        "NODE_OPTIONS": f"--require={peers.SERVERS / 'bind_local.cjs'}",
    }
    program = peers.npm_package(SUITE) / "dist" / "index.js"
    with tempfile.TemporaryDirectory() as folder:
        words = [peers.node(), str(program), "client", "--command", command, "--scenario", leg.scenario]
        words += ["--spec-version", leg.version, "--output-dir", folder]
        with trio.fail_after(SCENARIO_S):
            done = await trio.run_process(words, capture_stdout=True, capture_stderr=True, check=False, env=environment)
        scenario = _read(leg, Path(folder))
        if done.returncode == 0 and scenario.passed:
            return scenario
        printed = (done.stdout + done.stderr).decode(errors="replace")[-1500:]
        return attrs.evolve(scenario, failed=scenario.failed or 1, complaints=(*scenario.complaints, printed))


def _read(leg: Leg, folder: Path) -> Scenario:
    """The checks of the one scenario that ran; none when it did not get so far."""
    checks = next(iter(folder.glob("*/checks.json")), None)
    return read_checks(leg.label, "[]" if checks is None else checks.read_text())


async def run_legs(legs: tuple[Leg, ...] = LEGS) -> list[Scenario]:
    """All of them, in their order."""
    found: dict[Leg, Scenario] = {}
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def run(leg: Leg) -> None:
        async with limiter:
            found[leg] = await run_leg(leg)

    async with trio.open_nursery() as nursery:
        for leg in legs:
            nursery.start_soon(run, leg)
    return [found[leg] for leg in legs]
