"""Who of several controllers may write: a Lease, held by one of them at a time.

Owns what the record of a Lease means, and for how long we may act on it. Deliberately
sends nothing (``lease`` does), and compares no clocks: a record counts from when *we* first
saw it, on our own monotonic clock, so that skewed clocks elect nobody twice. Pure.
Invariant: whoever holds the Lease stops acting on it before anybody else may take it.

Spec: Kubernetes coordination.k8s.io/v1 Lease; the timing is client-go's leader election's.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import attrs

from mcp_gateway.values import JsonObject, JsonValue

LEASE_S: Final = 10.0
"""How long a record that does not change keeps others away."""
RENEW_DEADLINE_S: Final = 6.0
"""How long after the last renewal was *sent* its holder may still act; the rest is for requests under way."""
RENEW_S: Final = 2.0
"""Between two renewals."""
LOOK_S: Final = 1.0
"""Between two looks of those who wait."""
MAX_TRANSITIONS: Final = 2**31 - 1
"""The field is an int32, and whoever can edit the Lease can write this: what is more would never be accepted."""


@attrs.frozen(kw_only=True)
class Record:
    """What a Lease says: its holder, and what changes with each renewal."""

    holder: str
    renewed: str
    acquired: str
    transitions: int
    version: str
    """The resourceVersion: a write that does not name it could overtake somebody."""

    @classmethod
    def of(cls, lease: Mapping[str, JsonValue]) -> "Record":
        """Read a Lease; whatever is missing or odd in it counts as empty."""
        spec, metadata = _object(lease.get("spec")), _object(lease.get("metadata"))
        transitions = spec.get("leaseTransitions")
        return cls(
            holder=str(spec.get("holderIdentity") or ""),
            renewed=str(spec.get("renewTime") or ""),
            acquired=str(spec.get("acquireTime") or ""),
            transitions=transitions if isinstance(transitions, int) else 0,
            version=str(metadata.get("resourceVersion") or ""),
        )


@attrs.define(kw_only=True)
class Election:
    """One candidate's view of one Lease; times are Trio's."""

    identity: str
    _record: Record | None = None
    _seen_at: float = 0.0
    """When the record became what it is, as far as we know."""
    _sent_at: float | None = None
    """When our last renewal that succeeded was sent; None: we do not hold it."""

    @property
    def leads_until(self) -> float:
        """When we have to stop acting as the leader, if nothing is renewed; in the past: we are none."""
        return -math.inf if self._sent_at is None else self._sent_at + RENEW_DEADLINE_S

    def leads(self, now_at: float) -> bool:
        """Whether we may act as the leader at this moment."""
        return now_at < self.leads_until

    @property
    def holder(self) -> str:
        """Who holds it, as far as we know; empty: nobody."""
        return "" if self._record is None else self._record.holder

    def see(self, lease: Mapping[str, JsonValue] | None, now_at: float) -> None:
        """Take in what the Lease is now; None: there is none."""
        record = None if lease is None else Record.of(lease)
        if record != self._record:
            self._record, self._seen_at = record, now_at
        if record is None or record.holder != self.identity:
            self._sent_at = None

    def may_write(self, now_at: float) -> bool:
        """Whether we may take it, or renew it because it is ours."""
        record = self._record
        if record is None or not record.holder or record.holder == self.identity:
            return True
        return now_at >= self._seen_at + LEASE_S

    def claim(self, now_unix_s: float) -> JsonObject:
        """The ``spec`` that says that it is ours now."""
        record, now = self._record, _micro_time(now_unix_s)
        ours = record is not None and record.holder == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(LEASE_S),
            "acquireTime": record.acquired if record is not None and ours and record.acquired else now,
            "renewTime": now,
            "leaseTransitions": 0 if record is None else min(record.transitions + (not ours), MAX_TRANSITIONS),
        }

    def release(self, now_unix_s: float) -> JsonObject:
        """The ``spec`` that says that nobody holds it: others need not wait until it is old."""
        return {**self.claim(now_unix_s), "holderIdentity": "", "leaseDurationSeconds": 1}

    @property
    def version(self) -> str | None:
        """What a write must name; None: it has to be created."""
        return None if self._record is None else self._record.version

    def written(self, lease: Mapping[str, JsonValue], sent_at: float, now_at: float) -> None:
        """Our claim was accepted; it was sent at ``sent_at``."""
        self.see(lease, now_at)
        if self.holder == self.identity:
            self._sent_at = sent_at


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _micro_time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
