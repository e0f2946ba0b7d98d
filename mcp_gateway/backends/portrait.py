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
from mcp_gateway.routing.findings import NOTHING, Findings, overlay
from mcp_gateway.routing.snapshot import Health, Kind, Lists, Problem, Snapshot
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
    """The last good lists of a client that declares nothing, while they may be served."""
    findings: Findings = NOTHING
    """What the last survey that succeeded has to add to them."""
    _survey_problem: Problem | None = None
    _laid: tuple[Catalogue, Findings, Lists] | None = None
    """What was laid over what, and the outcome."""
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
        self.observer.discovery(self.backend, duration_s, ok=True)
        tools, prompts, resources = self._count()
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

    def surveyed(self, findings: Findings) -> None:
        """Keep what a survey found and say so."""
        self._survey_problem = None
        if findings == self.findings:
            return
        self.findings = findings
        extras = {kind.value: len(items) for kind, items in findings.extras.items()}
        logger.info("Lists depend on the client", extra={"server": self.backend, "items_for_some": extras})
        self._count()

    def not_surveyed(self, why: str) -> None:
        """A survey has failed: what the last one found stands, and the report says so."""
        reason = f"what is listed to some clients only was not found out: {why}"
        problem = Problem(kind=Kind.TOOLS, name="", reason=reason, hidden=True)
        if problem != self._survey_problem:
            logger.info("survey failed", extra={"backend": self.backend, "why": why})
        self._survey_problem = problem

    def _count(self) -> tuple[int, int, int]:
        """Tell the metrics how many tools, prompts and resources there are now."""
        lists = self.listings or {}
        kinds = (Kind.TOOLS, Kind.PROMPTS, Kind.RESOURCES)
        tools, prompts, resources = (len(lists[kind].items) if kind in lists else 0 for kind in kinds)
        self.observer.items(self.backend, tools=tools, prompts=prompts, resources=resources)
        return tools, prompts, resources

    @property
    def listings(self) -> Lists | None:
        """All that any client is shown; None while there is no good list."""
        found = self.catalogue
        if found is None:
            return None
        if self._laid is None or self._laid[0] is not found or self._laid[1] is not self.findings:
            self._laid = (found, self.findings, overlay(found.listings, self.findings))
        return self._laid[2]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the lists."""
        if self.catalogue is None:
            return ()
        failed = () if self._survey_problem is None else (self._survey_problem,)
        return (*self.catalogue.problems, *self.findings.problems, *failed)

    def announce(self, health: Health) -> None:
        """Publish the Snapshot, if anything in it became different."""
        if self.retired:
            return
        hello, before = self.hello, self.snapshot
        info = hello.server_info if hello is not None else None
        name = info.get("name") if isinstance(info, dict) else None
        caveats = (Problem(kind=None, name="", reason=self.caveat, hidden=False),) if self.caveat else ()
        lists = self.listings
        snapshot = Snapshot(
            backend=self.backend,
            health=health,
            era=hello.era if hello is not None else None,
            transport=self.transport,
            capabilities=hello.capabilities if hello is not None else {},
            server_name=name if isinstance(name, str) else "",
            instructions=hello.instructions if hello is not None else "",
            listings={hello.era.family: lists} if hello is not None and lists is not None else None,
            problems=caveats + self.problems,
        )
        if snapshot == before:
            return
        self.snapshot = snapshot
        if health is not before.health:
            self.observer.server_state(self.backend, health.value)
            change = {"backend": self.backend, "from": before.health.value, "to": health.value}
            logger.log(logging.INFO if health is Health.READY else logging.DEBUG, "backend health", extra=change)
        self.publish(snapshot)
