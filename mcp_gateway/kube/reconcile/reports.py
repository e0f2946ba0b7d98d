"""What the pods of the data plane say, and what it comes to.

Owns which reports are alive, which of them count, and how they are folded into one word. Deliberately reads no clock.
Invariant: only what a pod says of the current revision of an entry counts; a roll-out of the data plane by itself
changes nothing, because a pod counts only after its first round, and for a while no pod at all is no news.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import PartReport, Report, ServerReport
from mcp_gateway.kube.reconcile.conditions import Reason, Verdict, bad, good, unknown
from mcp_gateway.kube.store import Settings

EXPIRY_S: Final = 90.0
"""A pod renews its report every 30 s; one that has not changed for this long is dead."""
FIRST_ROUND_S: Final = 30.0
"""A pod that has not tried every server by then counts all the same."""
NO_DATA_PLANE_S: Final = 30.0
"""As long as that no pod at all may be a restart."""
MAX_PODS_NAMED: Final = 3

NOT_GIVEN: Final = unknown(Reason.PENDING, "not given to the gateway: see Accepted and ResolvedRefs")
"""What has no entry in the configuration cannot have been loaded."""
NOT_REPORTED: Final = unknown(
    Reason.PENDING,
    f"waits for the first report of a pod of the gateway; if that lasts, see its Deployment {schema.DATA_PLANE}",
)
"""It has one, and nobody has told of it yet."""

_CONNECTED: Final = "Connected"
_FAILURES: Final = (Reason.AUTHENTICATION_FAILED, Reason.PROTOCOL_ERROR, Reason.CONNECTION_FAILED)
_NOT_LOADED: Final = (Reason.UNSUPPORTED_FEATURE, Reason.INVALID_ENTRY)
_HINTS: Final[Mapping[str, str]] = {
    Reason.AUTHENTICATION_FAILED: "check the Secret that credentialRef names",
    Reason.PROTOCOL_ERROR: "check that spec.path is where the server speaks MCP",
    Reason.CONNECTION_FAILED: "check that the server runs and that its Service leads to it",
}


@attrs.frozen(kw_only=True)
class Seen:
    """A report, and when the controller saw what of it, on its own clock."""

    report: Report
    first_at: float
    changed_at: float


@attrs.frozen(kw_only=True)
class Reports:
    """The reports that are alive at one moment."""

    seen: tuple[Seen, ...] = ()
    none_since_at: float = 0.0
    """While there is none: since when."""

    def counting(self, at: float) -> tuple[Report, ...]:
        """Those that have finished their first round, or should have; by pod."""
        old = [one.report for one in self.seen if one.report.complete or at - one.first_at >= FIRST_ROUND_S]
        return tuple(sorted(old, key=lambda report: report.meta.key))

    def are_gone(self, at: float) -> bool:
        """Whether there has been no data plane for too long to be a restart."""
        return not self.seen and at - self.none_since_at >= NO_DATA_PLANE_S


@attrs.define
class ReportLog:
    """Remembers when each report last changed; equal ones that come again are no change."""

    none_since_at: float
    _seen: dict[Key, Seen] = attrs.field(factory=dict)

    def observe(self, report: Report, at: float) -> None:
        """A report was read."""
        known = self._seen.get(report.meta.key)
        if known is None or _process(known.report) != _process(report):
            self._seen[report.meta.key] = Seen(report=report, first_at=at, changed_at=at)
        else:
            changed_at = at if known.report != report else known.changed_at
            self._seen[report.meta.key] = Seen(report=report, first_at=known.first_at, changed_at=changed_at)

    def forget(self, key: Key, at: float) -> None:
        """A report is gone: its pod said goodbye."""
        if self._seen.pop(key, None) is not None and not self._seen:
            self.none_since_at = at

    def alive(self, at: float) -> Reports:
        """The reports of now; expired ones do not count."""
        alive = tuple(one for one in self._seen.values() if at - one.changed_at < EXPIRY_S)
        ends = [one.changed_at + EXPIRY_S for one in self._seen.values()]
        none_since_at = max(ends, default=self.none_since_at) if not alive else at
        return Reports(seen=alive, none_since_at=none_since_at)

    def expired(self, at: float) -> tuple[Report, ...]:
        """The reports of pods that are dead: to be swept."""
        return tuple(one.report for one in self._seen.values() if at - one.changed_at >= EXPIRY_S)

    def next_at(self, at: float) -> float:
        """When passing time alone will next change what ``alive`` or its reports say; infinite if never."""
        moments = [self.none_since_at + NO_DATA_PLANE_S]
        for one in self._seen.values():
            moments += [one.first_at + FIRST_ROUND_S, one.changed_at + EXPIRY_S]
            moments.append(one.changed_at + EXPIRY_S + NO_DATA_PLANE_S)
        return min((moment for moment in moments if moment > at), default=float("inf"))


def _process(report: Report) -> tuple[str, str]:
    """What tells it from an earlier one of its name: a container that was killed begins again in the same pod."""
    return report.meta.uid, report.started


@attrs.frozen(kw_only=True)
class Folded:
    """What all pods together say of one server."""

    programmed: Verdict
    connected: Verdict
    tools: int | None = None
    protocol: str = ""
    last_error: str = ""


def no_data_plane(settings: Settings) -> Verdict:
    """Nobody reports."""
    why = f"no pod of the gateway reports; see: kubectl -n {settings.namespace} describe deployment {schema.DATA_PLANE}"
    return unknown(Reason.NO_DATA_PLANE, why)


def fold_server(name: str, revision: str, reports: tuple[Report, ...]) -> Folded:
    """What the counting reports, at least one, say of a server's entry in its current revision."""
    said = [(report.pod, report.servers.get(name)) for report in reports]
    current = [(pod, one) for pod, one in said if one is not None and one.revision == revision]
    programmed = _programmed([(pod, one.state, one.last_error) for pod, one in current], len(reports))
    connected = [one for _, one in current if one.state == _CONNECTED]
    tools = [one.tools for one in connected]
    return Folded(
        programmed=programmed,
        connected=_connected(current, len(reports)),
        tools=None if not tools else min((one for one in tools if one is not None), default=None),
        protocol=min((one.protocol for one in connected if one.protocol), default=""),
        last_error=next((one.last_error for _, one in current if one.state != _CONNECTED and one.last_error), ""),
    )


def fold_part(name: str, revision: str, parts: tuple[tuple[str, Mapping[str, PartReport]], ...]) -> Verdict:
    """Whether every pod, of at least one, has loaded a gateway or a virtual server in its current revision."""
    said = [(pod, known.get(name)) for pod, known in parts]
    current = [(pod, one.state, one.last_error) for pod, one in said if one is not None and one.revision == revision]
    return _programmed(current, len(parts))


def _programmed(current: list[tuple[str, str, str]], pods: int) -> Verdict:
    for reason in _NOT_LOADED:
        refused = [(pod, error) for pod, state, error in current if state == reason]
        if refused:
            pod, error = refused[0]
            why = f"{len(refused)} of {pods} pods cannot serve it: {pod}: {error or 'it does not say why'}"
            hint = "upgrade the data plane" if reason is Reason.UNSUPPORTED_FEATURE else "correct what it names"
            return bad(reason, f"{why}; {hint}")
    if len(current) < pods:
        return unknown(
            Reason.PENDING, f"{len(current)} of {pods} pods have loaded it; wait, the others follow within seconds"
        )
    return good(Reason.PROGRAMMED, "loaded by every pod")  # how many there are changes with each roll-out


def _connected(current: list[tuple[str, ServerReport]], pods: int) -> Verdict:
    states = Counter(one.state for _, one in current)
    if states[_CONNECTED] == pods:
        return good(Reason.CONNECTED, "connected by every pod")
    failing = [(pod, one) for pod, one in current if one.state in _FAILURES]
    if not failing:
        return unknown(
            Reason.CONNECTING,
            f"{states[_CONNECTED]} of {pods} pods are connected; wait for the others, and see their log if that lasts",
        )
    worst = next(reason for reason in _FAILURES if states[reason])
    named = "; ".join(f"{pod}: {one.last_error or one.state}" for pod, one in failing[:MAX_PODS_NAMED])
    if states[_CONNECTED]:
        return bad(Reason.PARTIALLY_CONNECTED, f"{states[_CONNECTED]} of {pods} pods: {named}; {_HINTS[worst]}")
    return bad(worst, f"{named}; {_HINTS[worst]}")
