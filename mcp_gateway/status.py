"""What the pages and ``/status`` show of the running program.

Owns the gathering. Deliberately keeps nothing: every look asks anew. Invariant:
no secret, token, argument or upstream session id is ever in it (docs/invariants.md, 3).
"""

import time
from collections.abc import Callable

import attrs

from mcp_gateway import __version__
from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.config.source import Configuration
from mcp_gateway.front.admission import Admission
from mcp_gateway.gateway.assembly import Gateway
from mcp_gateway.telemetry.metrics import Metrics
from mcp_gateway.values import JsonObject, JsonValue


@attrs.define(eq=False, kw_only=True)
class Status:
    """A ``front.pages.StatusSource`` for the whole program."""

    metrics: Metrics
    configuration: Configuration
    _began_at: float = attrs.field(factory=time.monotonic)
    _fleet: Fleet | None = None
    _gateway: Gateway | None = None
    _draining: Callable[[], bool] = lambda: False
    _admission: Admission | None = None
    _was_ready: bool = False

    def attach(self, fleet: Fleet, gateway: Gateway, draining: Callable[[], bool]) -> None:
        """The parts that come up after the admin listener are there."""
        self._fleet, self._gateway, self._draining = fleet, gateway, draining
        readings = self.metrics.readings
        readings.sessions = lambda: len(gateway.context.sessions)
        readings.streams = lambda: gateway.streams

    def watch_connections(self, admission: Admission) -> None:
        """The public listener is about to accept."""
        self._admission = admission
        self.metrics.readings.connections = lambda: admission.open
        self.metrics.readings.connections_refused = lambda: admission.refused

    def ready(self) -> tuple[bool, str]:
        """Whether traffic should come here (docs/operations.md); once so, only the drain ends it.

        A server that is added later must not take a gateway that serves out of rotation.
        """
        if self._draining():
            return False, "draining"
        if self._was_ready:
            return True, ""
        if self._fleet is None or self._gateway is None:
            return False, "starting"
        if self.configuration.status.value.loaded_at_unix_s is None:
            return False, "no configuration yet"
        if not self._fleet.first_discovery_done() or not self._gateway.table_is_built:
            return False, "first discovery is under way"
        self._was_ready = True
        return True, ""

    def status(self) -> JsonObject:
        """See ``front.pages.StatusSource``."""
        ready, why = self.ready()
        return {
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._began_at, 1),
            "ready": ready,
            "why": why,
            "draining": self._draining(),
            "configuration": self._configuration(),
            "totals": self._totals(),
            "servers": self._servers(),
            "collisions": self._collisions(),
        }

    def _configuration(self) -> JsonObject:
        state = self.configuration.status.value
        return {
            "source": self.configuration.source,
            "generation": state.generation,
            "applied_unix_s": state.loaded_at_unix_s,
            "error": state.error,
            "restart_needed": list(state.restart_needed),
            "notes": list(state.notes),
        }

    def _totals(self) -> JsonObject:
        gateway, admission = self._gateway, self._admission
        return {
            "connections": admission.open if admission is not None else 0,
            "sessions": len(gateway.context.sessions) if gateway is not None else 0,
            "streams": gateway.streams if gateway is not None else 0,
            "in_flight": len(gateway.calls.in_flight) if gateway is not None else 0,
            "parked": len(gateway.calls.suspended) if gateway is not None else 0,
        }

    def _servers(self) -> list[JsonValue]:
        if self._fleet is None:
            return []
        order = {server.key: place for place, server in enumerate(self.configuration.spec.value.servers)}
        keys = sorted(self._fleet.keys, key=lambda key: order.get(key, len(order)))
        table = self._gateway.context.table.value.problems if self._gateway is not None else {}
        return [self._fleet.status(key, table.get(key, ())) for key in keys]

    def _collisions(self) -> list[JsonValue]:
        if self._gateway is None:
            return []
        table = self._gateway.context.table.value
        return [
            {"kind": one.kind.name.lower(), "name": one.name, "owner": one.owner, "hidden": [one.loser]}
            for one in table.collisions
        ]
