"""What is known of one backend, and how it is made known.

Owns the last greeting, the last good lists, the Snapshot made of them, and the
words in the log. Deliberately decides neither health nor when to look.
Invariant: a Snapshot is published exactly when something in it became different,
and none after ``retire``.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from mcp_gateway.backends.connector import Verdict
from mcp_gateway.backends.discovery import Catalogue
from mcp_gateway.backends.observer import Observer
from mcp_gateway.backends.transports.base import Hello
from mcp_gateway.protocol import tasks
from mcp_gateway.protocol.eras import Family
from mcp_gateway.routing.findings import NOTHING, Findings, overlay
from mcp_gateway.routing.snapshot import Condition, Health, Kind, Lists, Problem, Snapshot
from mcp_gateway.values import BackendKey, JsonObject

logger = logging.getLogger(__name__)

_UNITED: Final = ("resources", "extensions", "experimental")
"""Capabilities whose members are capabilities themselves."""


@attrs.frozen(kw_only=True)
class LegacyFacts:
    """What a backend whose newest era is 2026 says on a 2025 connection."""

    hello: Hello
    sessionless: bool
    """It gives no session ids."""
    catalogue: Catalogue | None = None
    """Its last good lists there, for a client that declares nothing; None: none could be read."""


@attrs.define(eq=False, kw_only=True)
class Portrait:
    """One backend as the rest of the gateway sees it."""

    backend: BackendKey
    revision: str = ""
    """Of its entry in the configuration."""
    publish: Callable[[Snapshot], None]
    observer: Observer
    hello: Hello | None = None
    catalogue: Catalogue | None = None
    """The last good lists of a client that declares nothing, while they may be served."""
    legacy: LegacyFacts | None = None
    """Of a backend that speaks both eras; ``hello`` and ``catalogue`` are those of 2026 then."""
    findings: Findings = NOTHING
    """What the last survey that succeeded has to add to the 2025 lists."""
    _survey_problem: Problem | None = None
    _laid: tuple[Lists, Findings, Lists] | None = None
    """What was laid over what, and the outcome."""
    _shared: tuple[Catalogue, Catalogue, Lists] | None = None
    """The lists of both eras, and those of 2025 with what is equal in both taken from 2026."""
    transport: str = ""
    """As the last verdict says."""
    caveat: str = ""
    """What of the configuration is not in force with this transport."""
    snapshot: Snapshot = attrs.field(init=False)
    retired: bool = False

    def __attrs_post_init__(self) -> None:
        self.snapshot = Snapshot(backend=self.backend, revision=self.revision)

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
        all_lists = tuple((self.listings or {}).values())
        tools, prompts, resources = (
            len({item.name for lists in all_lists if kind in lists for item in lists[kind].items})
            for kind in (Kind.TOOLS, Kind.PROMPTS, Kind.RESOURCES)
        )
        self.observer.items(self.backend, tools=tools, prompts=prompts, resources=resources)
        return tools, prompts, resources

    @property
    def listings(self) -> Mapping[Family, Lists] | None:
        """All that clients of each era are shown; None while there is no good list."""
        if self.hello is None or self.catalogue is None:
            return None
        if not self.hello.era.modern:
            return {Family.LEGACY: self._overlaid(self.catalogue.listings)}
        listings = {Family.MODERN: self.catalogue.listings}
        if self.legacy is not None and self.legacy.catalogue is not None:
            listings[Family.LEGACY] = self._overlaid(self._legacy_lists(self.legacy.catalogue, self.catalogue))
        return listings

    def _overlaid(self, lists: Lists) -> Lists:
        if self._laid is None or self._laid[0] is not lists or self._laid[1] is not self.findings:
            self._laid = (lists, self.findings, overlay(lists, self.findings))
        return self._laid[2]

    def _legacy_lists(self, legacy: Catalogue, modern: Catalogue) -> Lists:
        """The 2025 lists; those with the same items as in 2026 are the same objects, so that nothing is built twice."""
        if self._shared is None or self._shared[0] is not legacy or self._shared[1] is not modern:
            same = {
                kind: modern.listings[kind]
                if kind in modern.listings and modern.listings[kind].items == found.items
                else found
                for kind, found in legacy.listings.items()
            }
            self._shared = (legacy, modern, modern.listings if same == modern.listings else same)
        return self._shared[2]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the lists."""
        if self.catalogue is None:
            return ()
        failed = () if self._survey_problem is None else (self._survey_problem,)
        legacy = self.legacy.catalogue.problems if self.legacy is not None and self.legacy.catalogue is not None else ()
        return tuple(dict.fromkeys((*self.catalogue.problems, *legacy, *self.findings.problems, *failed)))

    @property
    def _capabilities(self) -> JsonObject:
        """What it can do in any era that it speaks; where both have settings, those of the newest count."""
        if self.hello is None or self.legacy is None:
            return self.hello.capabilities if self.hello is not None else {}
        newest, legacy = self.hello.capabilities, self.legacy.hello.capabilities
        united: JsonObject = {**legacy, **newest}
        for name in _UNITED:
            one, other = legacy.get(name), newest.get(name)
            if isinstance(one, dict) and isinstance(other, dict):
                united[name] = {**one, **other}
        resources = united.get("resources")
        if isinstance(legacy.get("resources"), dict) and isinstance(resources, dict):
            # What is declared in 2025 is not believed: asking tells.
            united["resources"] = {**resources, "subscribe": True}
        return united

    @property
    def _tasks(self) -> frozenset[str]:
        said = (self.hello, self.legacy.hello if self.legacy is not None else None)
        found = next((hello for hello in said if hello is not None and hello.era.tasks), None)
        return frozenset() if found is None else tasks.abilities(found.capabilities)

    def begin(self, condition: Condition) -> None:
        """How it is before anything is known; nobody is told."""
        self.snapshot = attrs.evolve(self.snapshot, condition=condition)

    def announce(self, condition: Condition) -> None:
        """Publish the Snapshot, if anything in it became different."""
        if self.retired:
            return
        hello, before = self.hello, self.snapshot
        info = hello.server_info if hello is not None else None
        name = info.get("name") if isinstance(info, dict) else None
        caveats = (Problem(kind=None, name="", reason=self.caveat, hidden=False),) if self.caveat else ()
        snapshot = Snapshot(
            backend=self.backend,
            condition=condition,
            revision=self.revision,
            era=hello.era if hello is not None else None,
            transport=self.transport,
            capabilities=self._capabilities,
            tasks=self._tasks,
            server_name=name if isinstance(name, str) else "",
            instructions=hello.instructions if hello is not None else "",
            listings=self.listings,
            problems=caveats + self.problems,
        )
        if snapshot == before:
            return
        self.snapshot = snapshot
        if snapshot.health is not before.health:
            self.observer.server_state(self.backend, snapshot.health.value)
            change = {"backend": self.backend, "from": before.health.value, "to": snapshot.health.value}
            logger.log(
                logging.INFO if snapshot.health is Health.READY else logging.DEBUG, "backend health", extra=change
            )
        self.publish(snapshot)
