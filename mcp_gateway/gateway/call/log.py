"""What is noted of each request: its metrics and its line in the access log.

Owns which series a request changes and what its line says. Deliberately decides
nothing and waits for nothing. Invariant: one ``answered`` per request of a client,
whoever answers it; no argument, URI, body or session id is in a line (invariant 3).
"""

import logging
from typing import Final

import attrs
import trio

from mcp_gateway.errors import BackendTimeout, Executed, GatewayError
from mcp_gateway.gateway.call.deadline import Cause, Deadline
from mcp_gateway.protocol.eras import Era
from mcp_gateway.routing.listing_views import Target
from mcp_gateway.telemetry.metrics import Metrics
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)

NAMED: Final = frozenset(("tools/call", "prompts/get"))
"""Methods whose target is a name in the route table; a resource's URI may hold what nobody should read in a log."""


@attrs.frozen(kw_only=True)
class CallLog:
    """Takes notes; one per process."""

    metrics: Metrics

    def answered(
        self,
        method: str,
        label: str,
        began_at: float,
        *,
        era: Era | None = None,
        session: str = "",
        target: Target | None = None,
        size: int = 0,
    ) -> None:
        """One request of a client has its answer.

        Args:
            label: see ``Outcome.label``.
            began_at: when it came.
            era: the client's; None when it has not said.
            session: the hashed session, "" for none.
            target: what it was for; None: for the gateway itself.
            size: bytes of the answer.
        """
        duration_s = trio.current_time() - began_at
        server = target.backend if target is not None else ""
        self.metrics.request(method, server, label, duration_s)
        if logger.isEnabledFor(logging.DEBUG):
            fields = {
                "method": method[:64],
                "server": server,
                "target": target.federated if target is not None and method in NAMED else "",
                "era": era.version if era is not None else "",
                "session": session,
                "outcome": label,
                "answer_bytes": size,
                "duration_s": round(duration_s, 4),
            }
            logger.debug("call", extra={name: value for name, value in fields.items() if value != ""})

    def placed(self, deadline: Deadline, server: BackendKey) -> None:
        """A call has ended: how long it waited for its place, if it got one."""
        if deadline.queued_s is not None:
            self.metrics.queued(server, deadline.queued_s)

    def failed(self, error: GatewayError, server: BackendKey) -> None:
        """A call ended with an error of ours; only limits are of interest here."""
        if isinstance(error, BackendTimeout):
            self.metrics.deadline(error.limit.value, server)

    def cut(self, cause: Cause | None, error: GatewayError, *, closes: bool) -> None:
        """A call was cut short by its deadline or by somebody.

        Args:
            closes: the backend is told by the end of its stream, not by a notice.
        """
        executed = getattr(error, "executed", Executed.UNKNOWN)
        told = "queued" if executed is Executed.NO else "stream_closed" if closes else "notice"
        self.metrics.cancelled("deadline" if cause is None else cause.name.lower(), told)
