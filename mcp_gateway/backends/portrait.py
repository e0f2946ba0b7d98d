"""What is known of one backend, and how it is made known.

Owns the last greeting, the last good lists, the Snapshot made of them, and the
words in the log. Deliberately decides neither health nor when to look.
Invariant: a Snapshot is published exactly when something in it became different,
and none after ``retire``.
"""

import logging
from collections.abc import Callable

import attrs

from mcp_gateway.backends.connector import Verdict
from mcp_gateway.backends.discovery import Catalogue
from mcp_gateway.backends.observer import Observer
from mcp_gateway.backends.transports.base import Hello
from mcp_gateway.routing.snapshot import Health, Kind, Problem, Snapshot
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)


@attrs.define(eq=False, kw_only=True)
class Portrait:
    """One backend as the rest of the gateway sees it."""

    backend: BackendKey
    publish: Callable[[Snapshot], None]
    observer: Observer
    hello: Hello | None = None
    catalogue: Catalogue | None = None
    """The last good lists, while they may be served."""
    transport: str = ""
    """As the last verdict says."""
    caveat: str = ""
    """What of the configuration is not in force with this transport."""
    snapshot: Snapshot = attrs.field(init=False)
    retired: bool = False

    def __attrs_post_init__(self) -> None:
        self.snapshot = Snapshot(backend=self.backend)

    def reached(self, verdict: Verdict) -> None:
        """How it is spoken to from now on; what that costs is said once."""
        if verdict.caveat and verdict.caveat != self.caveat:
            fields = {"backend": self.backend, "why": verdict.caveat}
            logger.warning("configuration not in force", extra=fields)
        self.transport, self.caveat = verdict.transport, verdict.caveat

    def discovered(self, found: Catalogue, hello: Hello, duration_s: float, *, loud: bool) -> None:
        """Keep what a discovery found and say so; ``loud``: even if nothing is new."""
        news = found != self.catalogue
        self.catalogue = found
        counts = {kind.value: len(found.listings[kind].items) if kind in found.listings else 0 for kind in Kind}
        tools, prompts, resources = counts["tools"], counts["prompts"], counts["resources"]
        self.observer.discovery(self.backend, duration_s, ok=True)
        self.observer.items(self.backend, tools=tools, prompts=prompts, resources=resources)
        logger.log(
            logging.INFO if news or loud else logging.DEBUG,
            "Discovered tools",
            extra={
                "server": self.backend,
                "tools": tools,
                "prompts": prompts,
                "resources": resources,
                "protocol": hello.era.version,
                "duration_s": round(duration_s, 3),
            },
        )

    def announce(self, health: Health) -> None:
        """Publish the Snapshot, if anything in it became different."""
        if self.retired:
            return
        hello, found, before = self.hello, self.catalogue, self.snapshot
        info = hello.server_info if hello is not None else None
        name = info.get("name") if isinstance(info, dict) else None
        caveats = (Problem(kind=None, name="", reason=self.caveat, hidden=False),) if self.caveat else ()
        snapshot = Snapshot(
            backend=self.backend,
            health=health,
            era=hello.era if hello is not None else None,
            transport=self.transport,
            capabilities=hello.capabilities if hello is not None else {},
            server_name=name if isinstance(name, str) else "",
            instructions=hello.instructions if hello is not None else "",
            listings=found.listings if found is not None else None,
            problems=caveats + (found.problems if found is not None else ()),
        )
        if snapshot == before:
            return
        self.snapshot = snapshot
        if health is not before.health:
            self.observer.server_state(self.backend, health.value)
            change = {"backend": self.backend, "from": before.health.value, "to": health.value}
            logger.log(logging.INFO if health is Health.READY else logging.DEBUG, "backend health", extra=change)
        self.publish(snapshot)
