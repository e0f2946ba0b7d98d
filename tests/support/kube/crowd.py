"""Hundreds of registrations in a small cluster, and what they cost.

Owns how they are made and measured. Deliberately one real MCP server behind all of them, and twenty routes: what is
measured is ours, not theirs. Invariant: figures are the operating system's and the API server's, not our programs'.
"""

import base64
import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mcp_gateway.kube import schema
from mcp_gateway.kube.errors import ApiMissing
from mcp_gateway.values import JsonObject
from tests.support.kube.installation import SYSTEM, Program
from tests.support.kube.small_cluster import EXTENSION, GRANT, PATIENCE_S, ROUTE, SmallCluster, registration, until
from tests.support.kube.status_writes import StatusWrites, watching

ROUTES: Final = 20
PATIENT: Final = {"connect": "60s", "call": "60s", "list": "60s"}
SELDOM: Final = {"interval": "10m"}
"""One server behind them all is slow on a busy machine, and that is no matter of ours here."""


class Crowd(SmallCluster):
    """Use as a context; programs dial the API server itself."""

    controlling: Program
    writes: StatusWrites

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """A leading controller, and a watch over what it writes."""
        self.dials = ""
        self.data.end()
        self.data, self.where = self.data_plane(pod="data-plane-1")
        self.apply(GRANT, EXTENSION)
        for number in range(ROUTES):
            self.apply({**ROUTE, "metadata": {"name": f"route-{number}", "namespace": "mcp-test"}})
        with self.leading() as self.controlling, watching(self.admin) as self.writes:
            yield

    def create(self, count: int) -> None:
        """All at once, as far as one connection can."""
        for number in range(count):
            made = registration(f"r{number:04}", route=f"route-{number % ROUTES}", timeouts=PATIENT, health=SELDOM)
            self.admin.create(schema.REGISTRATION, made)

    def all_ready(self, count: int, patience_s: float) -> float:
        """Wait until so many are Ready; returns how long it took."""
        return until(lambda: self.writes.ready == count, patience_s)

    def settled(self) -> None:
        """Wait until nothing has been written for two seconds."""
        before, until_at = -1, 0.0
        while before != self.writes.counts.total() or time.monotonic() < until_at:
            if before != self.writes.counts.total():
                before, until_at = self.writes.counts.total(), time.monotonic() + 2.0
            time.sleep(0.1)  # noqa: TID251  # outside of any loop

    def replaced(self, pod: str, patience_s: float = PATIENCE_S) -> None:
        """Roll the data plane out: another pod comes, and the one before goes when that has tried all servers."""
        program, where = self.data_plane(pod=pod)
        until(lambda: self.complete(pod), patience_s)
        before, self.data, self.where = self.data, program, where
        self.settled()
        before.end()

    def complete(self, pod: str) -> bool:
        """Whether a pod says that it has tried every server."""
        return self._said(pod).get("complete") is True

    def started(self, pod: str) -> str:
        """When a pod's process began, as it says."""
        return str(self._said(pod).get("startTime", ""))

    def _said(self, pod: str) -> JsonObject:
        """A pod's report; empty: there is none."""
        with contextlib.suppress(ApiMissing):
            spec = self.admin.get(schema.REPORT, SYSTEM, pod)["spec"]
            assert isinstance(spec, dict)
            return spec
        return {}

    def config_bytes(self) -> int:
        """Of the compiled configuration, as the Secret has it."""
        data = self.admin.get(schema.SECRET, SYSTEM, schema.CONFIG_SECRET)["data"]
        assert isinstance(data, dict)
        return len(base64.b64decode(str(data[schema.CONFIG_KEY])))

    def too_many(self) -> int:
        """How many requests the API server has answered with 429."""
        text = self.admin.text("/metrics")
        found = re.findall(r'^apiserver_request_total\{code="429".*\} (\S+)$', text, re.MULTILINE)
        return sum(int(float(one)) for one in found)


def peak_mib(program: Program) -> float:
    """The most memory that a process has had resident."""
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024
