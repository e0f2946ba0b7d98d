"""What backends report, as metrics.

Owns the translation from ``backends.observer`` to ``telemetry.metrics``.
"""

import attrs

from mcp_gateway.routing.snapshot import Health
from mcp_gateway.telemetry.metrics import Metrics
from mcp_gateway.values import BackendKey


@attrs.define
class BackendMetrics:
    """A ``backends.observer.Observer``."""

    metrics: Metrics

    def health(self, backend: BackendKey, health: Health) -> None:
        self.metrics.server_state(backend, health.value)

    def failure(self, backend: BackendKey, kind: str) -> None:
        self.metrics.discovery(backend, 0.0, ok=False)

    def discovery(self, backend: BackendKey, duration_s: float) -> None:
        self.metrics.discovery(backend, duration_s, ok=True)

    def restarted(self, backend: BackendKey) -> None:
        self.metrics.reconnected(backend)

    def forget(self, backend: BackendKey) -> None:
        """``Metrics.configure`` forgets what is not configured."""
