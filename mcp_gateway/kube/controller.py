"""The loop between what is known of the cluster and what is written to it.

Owns when something is looked at, and what becomes of the outcome. Deliberately decides
nothing (``reconcile``), reads nothing (``informers``) and sends nothing (``pen``, ``events``).
Invariants: nothing is decided before everything has been listed once; one object is worked
on by one worker at a time, and one that fails delays no other.
"""

import base64
import logging
import secrets
from collections.abc import Callable, Iterator
from typing import Final, assert_never

import attrs
import trio

from mcp_gateway.kube import schema
from mcp_gateway.kube.agenda import GATHER_S, TASKS, Agenda, Item, Task
from mcp_gateway.kube.errors import ApiConflict, ApiMissing, KubeError
from mcp_gateway.kube.events import Events, happenings
from mcp_gateway.kube.informers import Informers
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.pen import NotLeading, Pen
from mcp_gateway.kube.reconcile import extension, public_route, registration, route_status, virtual_server
from mcp_gateway.kube.reconcile.compile import MIN_SIGNING_KEY_BYTES, document, is_same
from mcp_gateway.kube.reconcile.conditions import Now, is_new
from mcp_gateway.kube.reconcile.outcome import NOTHING, Delete, Outcome
from mcp_gateway.kube.reconcile.reports import ReportLog
from mcp_gateway.kube.store import Store

logger = logging.getLogger(__name__)

WORKERS: Final = 8
FIRST_STATUS_S: Final = 1.0
"""How long the first status of an object may wait to say more than Pending."""
SIGNING_KEY_BYTES: Final = 32

_EVERYWHERE: Final = Key("", "")


@attrs.define(eq=False, kw_only=True)
class Controller:
    """Works while the Lease is ours."""

    store: Store
    reports: ReportLog
    informers: Informers
    agenda: Agenda
    pen: Pen
    events: Events
    wall_clock: Callable[[], float]
    passes: int = 0
    """How often everything was looked at."""
    failures: int = 0
    """Work that failed and was put off."""
    _outcomes: dict[Item, Outcome] = attrs.field(init=False, factory=dict)
    """Of the last look at everything, as far as they have not been carried out."""
    _first_seen: dict[str, float] = attrs.field(init=False, factory=dict)
    """By uid: since when an object has waited for its first status."""

    async def lead(self) -> None:
        """Look at everything whenever something has changed, and carry out what that says; until cancelled."""
        self.agenda.begin()
        self._outcomes.clear()
        async with trio.open_nursery() as nursery:
            for number in range(WORKERS):
                nursery.start_soon(self._work, name=f"worker:{number}")
            while True:
                await self.agenda.gathered(self.reports.next_at(trio.current_time()))
                if self.informers.synced:
                    self._look_at_everything()

    # --- looking ---

    def _look_at_everything(self) -> None:
        """In one go: whoever changes the store in between would have everything decided once more."""
        self.passes += 1
        self._outcomes.clear()
        for item in self._items():
            self._look_at(item)

    def _items(self) -> Iterator[Item]:
        store = self.store
        yield Task.SIGNING_KEY, _EVERYWHERE
        yield Task.CONFIG, _EVERYWHERE
        for kind, task in TASKS.items():
            for key in store.keys(kind):
                yield task, key
        for key in extension.orphans(store):
            yield Task.EXTENSION, key
        yield Task.SWEEP, _EVERYWHERE

    def _look_at(self, item: Item) -> None:
        """Have an item worked on if it wants anything."""
        task, _ = item
        now_at = trio.current_time()
        if task in (Task.CONFIG, Task.SIGNING_KEY):
            self.agenda.add(item, now_at, -1)
            return
        outcome = self._outcome(item)
        if outcome == NOTHING:
            return
        status = outcome.status
        if status is not None and status.provisional and is_new(self.store.status(status.kind, status.key)):
            at = self._first_seen.setdefault(status.uid, now_at) + FIRST_STATUS_S
            if at > now_at:
                self.agenda.add(item, at)
                return
        self._outcomes[item] = outcome
        self.agenda.add(item, now_at, _priority(outcome))

    def _outcome(self, item: Item) -> Outcome:
        task, key = item
        at = trio.current_time()
        now, alive = Now(at=at, unix_s=self.wall_clock()), self.reports.alive(at)
        match task:
            case Task.REGISTRATION:
                return registration.reconcile(key, self.store, alive, now)
            case Task.EXTENSION:
                return extension.reconcile(key, self.store, alive, now)
            case Task.VIRTUAL_SERVER:
                return virtual_server.reconcile(key, self.store, alive, now)
            case Task.ROUTE:
                return route_status.reconcile(key, self.store, now)
            case Task.SWEEP:
                return Outcome(delete=(*public_route.sweep(self.store), *self._dead_reports(at)))
            case Task.CONFIG | Task.SIGNING_KEY:
                return NOTHING
            case _:
                assert_never(task)

    def _dead_reports(self, at: float) -> tuple[Delete, ...]:
        return tuple(Delete.of(schema.REPORT, report.meta) for report in self.reports.expired(at))

    # --- carrying out ---

    async def _work(self) -> None:
        while True:
            item = await self.agenda.take()
            try:
                await self._carry_out(item)
            except NotLeading:
                self.agenda.done(item)  # whoever leads now does it
            except ApiMissing:
                self.agenda.done(item)  # the object is gone: its deletion is heard of, or was
            except KubeError as error:
                self.failures += 1
                level = logging.DEBUG if isinstance(error, ApiConflict) else logging.WARNING
                pause_s = self.agenda.failed(item, error.retry_after_s or 0.0)
                extra = {"task": item[0].value, "object": str(item[1]), "why": str(error), "again_s": pause_s}
                logger.log(level, "not written", extra=extra)
            else:
                self.agenda.done(item)

    async def _carry_out(self, item: Item) -> None:
        task, _ = item
        if not self.informers.synced:
            return
        if task is Task.CONFIG:
            await self._write_config()
        elif task is Task.SIGNING_KEY:
            await self._make_signing_key()
        elif item in self._outcomes:
            await self._write(item, self._outcomes.pop(item))
        elif self.agenda.stale:
            self.agenda.add(item, trio.current_time() + GATHER_S)  # it is looked at with everything else
        else:
            await self._write(item, self._outcome(item))

    async def _write(self, item: Item, outcome: Outcome) -> None:
        for wanted in outcome.apply:
            await self.pen.apply(wanted)
        if outcome.status is not None:
            before = self.store.status(outcome.status.kind, outcome.status.key)
            await self.pen.status(outcome.status)
            self._first_seen.pop(outcome.status.uid, None)
            for happening in happenings(outcome.status, before):
                self.events.tell(happening)
        if outcome.route_status is not None:
            await self.pen.route_status(outcome.route_status)
        for mark in outcome.listeners:
            wait_s = await self.pen.mark(mark)
            if wait_s:
                self.agenda.add(item, trio.current_time() + wait_s)
        for unwanted in outcome.delete:
            await self.pen.delete(unwanted)

    async def _write_config(self) -> None:
        wanted = self.store.once(document)
        key = Key(self.store.settings.namespace, schema.CONFIG_SECRET)
        stored = self.store.secret(key)
        if stored is not None and is_same(stored.data, wanted):
            return
        version = "" if stored is None else stored.meta.resource_version
        data = {schema.CONFIG_KEY: base64.b64encode(wanted.packed).decode()}
        await self.pen.secret(*key, {**data}, version)
        extra = {"revision": wanted.revision, "servers": len(wanted.servers), "refused": len(wanted.refused)}
        logger.info("configuration written", extra=extra)

    async def _make_signing_key(self) -> None:
        """There is one from the first moment; a key that somebody put there is never replaced."""
        key = Key(self.store.settings.namespace, schema.SIGNING_KEY_SECRET)
        stored = self.store.secret(key)
        if stored is not None and len(stored.data.get(schema.SIGNING_KEY, b"")) >= MIN_SIGNING_KEY_BYTES:
            return
        version = "" if stored is None else stored.meta.resource_version
        made = base64.b64encode(secrets.token_bytes(SIGNING_KEY_BYTES)).decode()
        await self.pen.secret(*key, {schema.SIGNING_KEY: made}, version)
        logger.info("signing key made", extra={"object": str(key)})


def _priority(outcome: Outcome) -> int:
    """The worst news first, and last what is only preliminary."""
    status = outcome.status
    if status is None:
        return 1
    conditions = status.status.get("conditions")
    bad = any(
        isinstance(one, dict) and one.get("type") == schema.READY and one.get("status") == "False"
        for one in (conditions if isinstance(conditions, list) else ())
    )
    return 2 if status.provisional else 0 if bad else 1
