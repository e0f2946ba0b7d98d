"""What is known of one backend, and the Snapshot of it that the rest of the gateway sees.

Owns the verdict on how it is spoken to, its last greetings, its last good lists, its health
and the withdrawal of lists that are too old, and the words in the log. Deliberately decides
neither what a failure is nor when to look (``supervisor``). Invariant: a Snapshot is published
exactly when something in it became different, and none once it is ``retired``.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

import attrs
import trio

from mcp_gateway.backends.connector import Verdict
from mcp_gateway.backends.discovery import Catalogue
from mcp_gateway.backends.health import HealthMachine
from mcp_gateway.backends.observer import Observer
from mcp_gateway.backends.transports.base import Hello
from mcp_gateway.config.spec import ServerSpec
from mcp_gateway.errors import GatewayError
from mcp_gateway.protocol import tasks
from mcp_gateway.protocol.eras import Era, Family
from mcp_gateway.routing.overlay import NOTHING, Overlay, lay
from mcp_gateway.routing.snapshot import Health, Kind, Lists, Problem, Snapshot
from mcp_gateway.values import JsonObject

logger = logging.getLogger(__name__)

_UNITED: Final = ("resources", "extensions", "experimental")
"""Capabilities whose members are capabilities themselves."""
_LEGACY_ALONE: Final = frozenset({Family.LEGACY})
_MODERN_ALONE: Final = frozenset({Family.MODERN})


@attrs.frozen(kw_only=True)
class LegacyFacts:
    """What a backend whose newest era is 2026 says on a 2025 connection."""

    hello: Hello
    sessionless: bool
    """It gives no session ids."""
    catalogue: Catalogue | None = None
    """Its last good lists there, for a client that declares nothing; None: none could be read."""


@attrs.define(eq=False, kw_only=True)
class SnapshotBuilder:
    """One backend as the rest of the gateway sees it."""

    spec: ServerSpec
    publish: Callable[[Snapshot], None]
    observer: Observer
    verdict: Verdict | None = None
    hello: Hello | None = None
    catalogue: Catalogue | None = None
    """The last good lists of a client that declares nothing, while they may be served."""
    legacy: LegacyFacts | None = None
    """Of a backend that speaks both eras; ``hello`` and ``catalogue`` are those of 2026 then."""
    legacy_refused: bool = False
    """A process did not take ``initialize``."""
    overlay: Overlay = NOTHING
    """What the last capability probe that succeeded has to add to the 2025 lists."""
    machine: HealthMachine = attrs.field(init=False)
    snapshot: Snapshot = attrs.field(init=False)
    first_answer: trio.Event = attrs.field(factory=trio.Event)
    """The first attempt has succeeded or failed, or takes so long that nobody should wait for it."""
    settled: trio.Event = attrs.field(factory=trio.Event)
    """The first success, or the circuit has opened: there is no point in waiting longer."""
    retired: bool = False
    _sessionless: bool = False
    _probe_problem: Problem | None = None
    _laid: tuple[Lists, Overlay, Lists] | None = None
    """What was laid over what, and the outcome."""
    _shared: tuple[Catalogue, Catalogue, Lists] | None = None
    """The lists of both eras, and those of 2025 with what is equal in both taken from 2026."""
    _downfall: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        health = self.spec.health
        self.machine = HealthMachine(
            failures_to_open=health.failures,
            grace_when_down_s=health.grace_when_down_s,
            since_at=trio.current_time(),
        )
        self.snapshot = Snapshot(backend=self.spec.key, revision=self.spec.revision, condition=self.machine.condition)

    # --- how it is spoken to ---

    @property
    def modern(self) -> bool | None:
        """Whether the newest era of the backend is 2026; None: not known yet."""
        if self.verdict is None or self.verdict.modern is not None:
            return None if self.verdict is None else self.verdict.modern
        return None if self.hello is None else self.hello.era.modern

    @property
    def may_have_legacy(self) -> bool:
        """Whether there can be a 2025 side that a session of our own tells of; who pins a revision wants no other."""
        verdict = self.verdict
        return verdict is not None and verdict.modern is True and not verdict.pipe and self.spec.protocol is None

    @property
    def spoken(self) -> frozenset[Family]:
        """The families that the backend is known to speak; none while nothing is known."""
        if self.verdict is None or self.modern is None:
            return frozenset()
        if not self.modern:
            return _LEGACY_ALONE
        if self.verdict.pipe:
            return _MODERN_ALONE if self.legacy_refused or self.spec.protocol is not None else frozenset(Family)
        return _MODERN_ALONE if self.legacy is None else frozenset(Family)

    @property
    def sessionless(self) -> bool:
        """Whether it gives no session ids on the 2025 side."""
        if self.modern:
            return self.legacy is not None and self.legacy.sessionless
        return self._sessionless

    @property
    def eras(self) -> tuple[Era, ...]:
        """The revisions in which it has said something of itself."""
        hellos = (self.hello, None if self.legacy is None else self.legacy.hello)
        return tuple(hello.era for hello in hellos if hello is not None)

    def hello_in(self, family: Family) -> Hello | None:
        """What it said of itself in a family; None: it was not asked there yet."""
        if self.hello is not None and self.hello.era.family is family:
            return self.hello
        if family is Family.LEGACY:
            return None if self.legacy is None else self.legacy.hello
        return None if self.verdict is None else self.verdict.hello

    def judged(self, verdict: Verdict) -> None:
        """How it is spoken to from now on; what that costs is said once.

        A backend that has learnt 2026 may speak 2025 as before, until it is asked.
        """
        caveat_before = "" if self.verdict is None else self.verdict.caveat
        if verdict.caveat and verdict.caveat != caveat_before:
            fields = {"backend": self.spec.key, "why": verdict.caveat}
            logger.warning("configuration not in force", extra=fields)
        self.verdict = verdict
        if not self.may_have_legacy:
            self.legacy = None
        elif self.hello is not None and not self.hello.era.modern:
            self.legacy = LegacyFacts(hello=self.hello, sessionless=self._sessionless, catalogue=self.catalogue)

    def connected(self, hello: Hello, *, sessionless: bool) -> None:
        """A connection stands, on which it says of itself ``hello``."""
        self.hello, self._sessionless, self.legacy_refused = hello, sessionless, False

    # --- its health ---

    def failed(self, error: GatewayError) -> None:
        """One more failure in the row."""
        opened = self.machine.failed(trio.current_time(), error.reason, error.fault)
        if opened:
            logger.warning("backend down", extra={"backend": self.spec.key, "why": error.reason})
            self._downfall.set()
            self.settled.set()
        elif not self.machine.open:
            fields = {"backend": self.spec.key, "failures": self.machine.failures, "why": error.reason}
            logger.info("backend failed", extra=fields)
        self.first_answer.set()
        self.announce()

    def answered(self) -> None:
        """A call was answered, whatever the answer."""
        if self.machine.failures:
            self.machine.answered(trio.current_time())
            self.announce()

    def probed(self) -> None:
        """A probe was answered in time."""
        self.machine.probed(trio.current_time())
        self.announce()

    async def let_list_expire(self) -> None:
        """Withdraw the last good list whenever the backend has been down for its grace; until cancelled."""
        while True:
            await self._downfall.wait()
            self._downfall = trio.Event()
            while (expires_at := self.machine.list_expires_at) is not None:
                await trio.sleep_until(expires_at)
                if self.machine.expire(trio.current_time()):
                    self.catalogue = None
                    logger.warning("list withdrawn", extra={"backend": self.spec.key})
                    self.announce()

    # --- its lists ---

    def discovered(self, found: Catalogue, began_at: float, *, loud: bool) -> None:
        """A discovery that began at ``began_at`` is complete; ``loud``: say so even if nothing is new."""
        now_at = trio.current_time()
        self.machine.discovered(now_at)
        news, self.catalogue = found != self.catalogue, found
        self.observer.discovery(self.spec.key, now_at - began_at, ok=True)
        tools, prompts, resources = self._count()
        logger.log(
            logging.INFO if news or loud else logging.DEBUG,
            "Discovered tools",
            extra={
                "server": self.spec.key,
                "tools": tools,
                "prompts": prompts,
                "resources": resources,
                "protocol": None if self.hello is None else self.hello.era.version,
                "duration_s": round(now_at - began_at, 3),
            },
        )
        self.first_answer.set()
        self.settled.set()
        self.announce()

    def capabilities_probed(self, overlay: Overlay) -> None:
        """Keep what a capability probe found and say so."""
        self._probe_problem = None
        if overlay == self.overlay:
            return
        self.overlay = overlay
        extras = {kind.value: len(items) for kind, items in overlay.extras.items()}
        logger.info("Lists depend on the client", extra={"server": self.spec.key, "items_for_some": extras})
        self._count()

    def capability_probe_failed(self, why: str) -> None:
        """A capability probe has failed: what the last one found stands, and the report says so."""
        reason = f"what is listed to some clients only was not found out: {why}"
        problem = Problem(kind=Kind.TOOLS, name="", reason=reason, hidden=True)
        if problem != self._probe_problem:
            logger.info("survey failed", extra={"backend": self.spec.key, "why": why})
        self._probe_problem = problem

    def _count(self) -> tuple[int, int, int]:
        """Tell the metrics how many tools, prompts and resources there are now."""
        all_lists = tuple((self.listings or {}).values())
        tools, prompts, resources = (
            len({item.name for lists in all_lists if kind in lists for item in lists[kind].items})
            for kind in (Kind.TOOLS, Kind.PROMPTS, Kind.RESOURCES)
        )
        self.observer.items(self.spec.key, tools=tools, prompts=prompts, resources=resources)
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
        if self._laid is None or self._laid[0] is not lists or self._laid[1] is not self.overlay:
            self._laid = (lists, self.overlay, lay(lists, self.overlay))
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
        failed = () if self._probe_problem is None else (self._probe_problem,)
        legacy = self.legacy.catalogue.problems if self.legacy is not None and self.legacy.catalogue is not None else ()
        return tuple(dict.fromkeys((*self.catalogue.problems, *legacy, *self.overlay.problems, *failed)))

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

    def announce(self) -> None:
        """Publish the Snapshot, if anything in it became different."""
        if self.retired:
            return
        hello, before = self.hello, self.snapshot
        info = hello.server_info if hello is not None else None
        name = info.get("name") if isinstance(info, dict) else None
        caveat = "" if self.verdict is None else self.verdict.caveat
        caveats = (Problem(kind=None, name="", reason=caveat, hidden=False),) if caveat else ()
        snapshot = Snapshot(
            backend=self.spec.key,
            condition=self.machine.condition,
            revision=self.spec.revision,
            era=hello.era if hello is not None else None,
            transport="" if self.verdict is None else self.verdict.transport,
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
            self.observer.server_state(self.spec.key, snapshot.health.value)
            change = {"backend": self.spec.key, "from": before.health.value, "to": snapshot.health.value}
            logger.log(
                logging.INFO if snapshot.health is Health.READY else logging.DEBUG, "backend health", extra=change
            )
        self.publish(snapshot)
