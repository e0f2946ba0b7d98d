"""Run the official conformance suite against an address, or against a gateway in front of a server of ours.

Owns starting what is measured, running the suite with the pinned Node.js, and counting. Deliberately no judgement of
its own: a scenario passes when the suite says so. Invariant: nothing is counted before the target has answered, because
the suite lets some scenarios pass against a dead address.

Usage::

    python -m tests.conformance.run_suite                      # the fixture server alone: the ceiling
    python -m tests.conformance.run_suite --server python      # the same names on an SDK's own server
    python -m tests.conformance.run_suite --gateway [--server typescript] [--backend-protocol 2025-11-25]
    python -m tests.conformance.run_suite --url http://127.0.0.1:8080/mcp [--versions 2025-11-25,2026-07-28]

Exits with 0 if every scored scenario passed, with 1 if one failed, with 2 if there was nothing to measure.
"""

import argparse
import json
import os
import re
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import httpx2
import trio

from tests.support import peers

SUITE: Final = "@modelcontextprotocol/conformance"
VERSIONS: Final = ("2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
FROZEN: Final = frozenset({"2025-11-25", "2026-07-28"})
"""Revisions with a frozen set of requirements; for the others the suite runs all that applies."""

READY_S: Final = 30.0
SUITE_S: Final = 240.0
"""A revision takes 5 s when all is well; a hanging target costs up to 30 s for each scenario."""

_SCENARIO: Final = re.compile(r"^[✓✗] (?P<name>\S+): (?P<passed>\d+) passed, (?P<failed>\d+) failed", re.MULTILINE)
_UNSCORED: Final = re.compile(r"^  [✓✗] (?P<name>\S+) \([a-z-]+\)$", re.MULTILINE)


@attrs.frozen(kw_only=True)
class Scenario:
    """What the suite says about one scenario; ``complaints`` are the failed checks' messages."""

    name: str
    scored: bool
    passed: int
    failed: int
    complaints: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.failed == 0


@attrs.frozen(kw_only=True)
class Report:
    """One revision's scenarios, in the suite's order."""

    version: str
    scenarios: tuple[Scenario, ...]

    def count(self, *, scored: bool) -> tuple[int, int]:
        """Passed and total."""
        chosen = [scenario for scenario in self.scenarios if scenario.scored == scored]
        return sum(scenario.ok for scenario in chosen), len(chosen)

    def failing(self, *, scored: bool) -> list[Scenario]:
        return [scenario for scenario in self.scenarios if scenario.scored == scored and not scenario.ok]

    def as_json(self) -> dict[str, Any]:
        def part(scored: bool) -> dict[str, Any]:
            passed, total = self.count(scored=scored)
            failing = {scenario.name: list(scenario.complaints) for scenario in self.failing(scored=scored)}
            return {"passed": passed, "total": total, "failing": failing}

        return {"scored": part(True), "unscored": part(False)}


class NothingToMeasure(Exception):
    """The target did not answer, or the suite did not run."""


async def run_suite(url: str, version: str, *, scenario: str | None = None) -> Report:
    """Run the suite once, for one revision of the protocol."""
    if scenario is not None:
        choice = ["--scenario", scenario, "--spec-version", version]
    elif version in FROZEN:
        choice = ["--requirements", version]
    else:
        choice = ["--suite", "all", "--spec-version", version]
    with tempfile.TemporaryDirectory() as folder:
        program = peers.npm_package(SUITE) / "dist" / "index.js"
        command = [peers.node(), str(program), "server", "--url", url, "--output-dir", folder, *choice]
        with trio.move_on_after(SUITE_S):
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
            output = done.stdout.decode(errors="replace")
            if scenario is not None:
                return Report(version=version, scenarios=tuple(_read_folder(Path(folder))))
            report = Report(version=version, scenarios=tuple(_read_summary(output, Path(folder))))
            if not report.scenarios:
                complaint = done.stderr.decode(errors="replace")[-1000:]
                raise NothingToMeasure(f"the suite gave no summary for {version}:\n{output[-1000:]}{complaint}")
            return report
        raise NothingToMeasure(f"the suite did not end within {SUITE_S:.0f} s for {version}")


def _read_summary(output: str, folder: Path) -> list[Scenario]:
    head, _, summary = output.rpartition("=== SUMMARY ===")
    if not head:
        return []
    unscored = {match["name"] for match in _UNSCORED.finditer(summary)}
    complaints = {scenario.name: scenario.complaints for scenario in _read_folder(folder)}
    return [
        Scenario(
            name=match["name"],
            scored=match["name"] not in unscored,
            passed=int(match["passed"]),
            failed=int(match["failed"]),
            complaints=complaints.get(match["name"], ()),
        )
        for match in _SCENARIO.finditer(summary)
    ]


def _read_folder(folder: Path) -> list[Scenario]:
    """The checks as the suite writes them: one folder ``server-NAME-TIME`` for each scenario."""
    found = []
    for file in sorted(folder.glob("server-*/checks.json")):
        name = re.sub(r"^server-|-\d{4}-\d\d-\d\dT[\d-]+Z$", "", file.parent.name)
        found.append(read_checks(name, file.read_text()))
    return found


def read_checks(name: str, text: str) -> Scenario:
    """One scenario from the list of its checks, as JSON."""
    checks: list[dict[str, Any]] = json.loads(text)
    failed = [check for check in checks if check["status"] == "FAILURE"]
    return Scenario(
        name=name,
        scored=True,
        passed=sum(check["status"] == "SUCCESS" for check in checks),
        failed=len(failed),
        complaints=tuple(f"{check['id']}: {check.get('errorMessage', '')}" for check in failed),
    )


SERVERS: Final = ("fixture", "one-way", "sessionless", "python", "typescript")
"""Our fixture, which asks in its caller's era's way; the same with tools that ask in one way only, with and without
session ids on the 2025 side; and two that ask as their SDKs do."""


@asynccontextmanager
async def served(server: str) -> AsyncIterator[str]:
    """One of ``SERVERS``, alone; gives its address."""
    fixture = (sys.executable, "-m", "tests.conformance.fixture_server")
    commands: Mapping[str, Callable[[], peers.Command]] = {
        "fixture": lambda: [*fixture],
        "one-way": lambda: [*fixture, "--one-way"],
        "sessionless": lambda: [*fixture, "--one-way", "--stateless"],
        "python": lambda: [sys.executable, "-m", "tests.conformance.sdk_python"],
        "typescript": lambda: [peers.node(), peers.ROOT / "tests" / "conformance" / "sdk_typescript.cjs"],
    }
    environment = {"PYTHONPATH": str(peers.ROOT)}
    async with peers.start(server, commands[server](), environment=environment) as peer:
        yield peer.url


@asynccontextmanager
async def gateway(backend_url: str, protocol: str) -> AsyncIterator[str]:
    """A gateway with one backend and no prefix, as the suite expects its names; gives its address.

    Args:
        protocol: which revision the gateway speaks to the backend, or ``auto``.
    """
    port, admin_port = _free_ports(2)
    server = {"name": "fixture", "url": backend_url, "prefix": "", "protocol": protocol}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "gateway.yaml"
        config.write_text(json.dumps({"servers": [server]}))  # JSON is YAML
        binds = ["--bind", f"127.0.0.1:{port}", "--admin-bind", f"127.0.0.1:{admin_port}"]
        program = Path(sys.executable).with_name("mcp-gateway")
        process = await trio.lowlevel.open_process(
            [str(program), "serve", "--config", str(config), *binds],
            env={**os.environ, "PYTHONPATH": str(peers.ROOT)},
            start_new_session=True,
        )
        try:
            await _wait_until_ready(process, f"http://127.0.0.1:{admin_port}/readyz")
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            with trio.move_on_after(2 * peers.STOP_S, shield=True):
                await peers.stop(process)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; somebody may take one before it is used, which has not happened yet."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


async def _wait_until_ready(process: trio.Process, url: str) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        with trio.move_on_after(READY_S):
            while process.poll() is None:
                try:
                    if (await client.get(url)).status_code == 200:
                        return
                except httpx2.TransportError:
                    pass
                await trio.sleep(0.1)
            raise NothingToMeasure(f"the gateway ended with {process.returncode}")
        raise NothingToMeasure(f"the gateway was not ready within {READY_S:.0f} s")


async def insist_on_an_answer(url: str) -> None:
    """Raise unless the target lists the fixture's first tool, by either family of the protocol."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    modern = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    info = {"name": "run-suite", "version": "1"}
    legacy_params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
    legacy = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": legacy_params}
    accept = {"Accept": "application/json, text/event-stream"}
    mirrored = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
    try:
        async with httpx2.AsyncClient(trust_env=False, headers=accept, timeout=READY_S) as client:
            first = await client.post(url, json=modern, headers=mirrored)
            if first.status_code == 200 and "test_simple_text" in first.text:
                return
            second = await client.post(url, json=legacy)
            if second.status_code == 200 and "protocolVersion" in second.text:
                return
    except httpx2.TransportError as exc:
        raise NothingToMeasure(f"{url} does not answer: {exc!r}") from exc
    raise NothingToMeasure(
        f"{url} answers neither tools/list ({first.status_code}) nor initialize ({second.status_code})"
    )


async def measure(url: str, versions: Sequence[str], *, scenario: str | None = None) -> list[Report]:
    """Run the suite for each revision, one after the other."""
    await insist_on_an_answer(url)
    return [await run_suite(url, version, scenario=scenario) for version in versions]


def show(reports: Sequence[Report]) -> None:
    passed_of_all = total_of_all = 0
    for report in reports:
        passed, total = report.count(scored=True)
        extra_passed, extra_total = report.count(scored=False)
        passed_of_all, total_of_all = passed_of_all + passed, total_of_all + total
        print(f"{report.version}: {passed}/{total} scored, {extra_passed}/{extra_total} unscored")
        for scored, label in ((True, "FAILED"), (False, "failed, unscored")):
            for scenario in report.failing(scored=scored):
                print(f"  {label}: {scenario.name}")
                if scored:
                    for complaint in scenario.complaints:
                        print(f"    {complaint[:300]}")
    print(f"all: {passed_of_all}/{total_of_all} scored")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the official conformance suite.")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--url", help="measure what runs there")
    target.add_argument("--gateway", action="store_true", help="measure a gateway in front of the server")
    parser.add_argument("--server", choices=SERVERS, default="fixture", help="which server, if no address is given")
    parser.add_argument("--backend-protocol", default="auto", help="what the gateway speaks to the server")
    parser.add_argument("--versions", default=",".join(VERSIONS), help="revisions to measure, with commas")
    parser.add_argument("--scenario", help="only this one; not sorted into scored and unscored")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    return parser.parse_args(arguments)


async def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    versions = options.versions.split(",")
    try:
        if options.url is not None:
            reports = await measure(options.url, versions, scenario=options.scenario)
        else:
            async with served(options.server) as url:
                if options.gateway:
                    async with gateway(url, options.backend_protocol) as front:
                        reports = await measure(front, versions, scenario=options.scenario)
                else:
                    reports = await measure(url, versions, scenario=options.scenario)
    except* NothingToMeasure as group:
        for error in group.exceptions:
            print(error, file=sys.stderr)
        return_code = 2
    else:
        show(reports)
        if options.json is not None:
            options.json.write_text(json.dumps({report.version: report.as_json() for report in reports}, indent=2))
        return_code = 1 if any(report.failing(scored=True) for report in reports) else 0
    return return_code


if __name__ == "__main__":
    sys.exit(trio.run(main))
