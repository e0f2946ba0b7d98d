"""What a user sees with ``kubectl describe``: an Event for each change of a condition that matters.

Owns which changes are told, and how often. Deliberately waits for nobody: an Event that
cannot be sent in time is counted and forgotten, as everywhere in Kubernetes. Invariants:
per object a burst of ten, then one in five minutes; twenty a second over all; an Event that
repeats is a series, not another object.

Spec: Kubernetes events.k8s.io/v1.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import attrs
import trio

from mcp_gateway.kube import schema
from mcp_gateway.kube.api import Api
from mcp_gateway.kube.errors import ApiMissing, KubeError
from mcp_gateway.kube.queue import Bucket
from mcp_gateway.kube.reconcile.conditions import Reason, rfc3339
from mcp_gateway.kube.reconcile.outcome import StatusWrite
from mcp_gateway.kube.schema import Kind
from mcp_gateway.values import JsonObject, JsonValue

logger = logging.getLogger(__name__)

EVENT: Final = Kind(group="events.k8s.io", version="v1", kind="Event", plural="events")
WAITING: Final = 1000
"""Events that may wait to be sent."""
OBJECTS: Final = 10_000
"""Objects whose budget is remembered; the one heard of longest ago is forgotten."""
SERIES_S: Final = 360.0
"""What repeats within this time is a series (client-go's figure)."""
NOTE_CHARACTERS: Final = 1024
"""The API server's bound."""


@attrs.frozen(kw_only=True)
class Happening:
    """One thing that happened to one object."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    type: str
    """``Normal`` or ``Warning``."""
    reason: str
    note: str


def happenings(write: StatusWrite, before: JsonObject) -> tuple[Happening, ...]:
    """What a new status has to tell: a Ready that became another one, for another reason or with another outcome.

    That the pods are about to load something is no news; what comes after that is, whatever was before.
    """
    old, new = None if _waits(before) else _ready(before), _ready(write.status)
    if new is None or _waits(write.status) or (old is not None and (old[0], old[1]) == (new[0], new[1])):
        return ()
    status, reason, message = new
    told = Happening(
        kind=write.kind,
        namespace=write.key.namespace,
        name=write.key.name,
        uid=write.uid,
        type="Normal" if status == "True" else "Warning",
        reason=reason,
        note=message[:NOTE_CHARACTERS],
    )
    return (told,)


def _waits(status: JsonObject) -> bool:
    """Whether nothing but the word of the pods is missing."""
    said = [_condition(status, type_) for type_ in (schema.ACCEPTED, schema.RESOLVED_REFS, schema.PROGRAMMED)]
    states = [None if one is None else one[0] for one in said]
    return states == ["True", "True", "Unknown"] and said[2] is not None and said[2][1] == Reason.PENDING


def _ready(status: JsonObject) -> tuple[str, str, str] | None:
    return _condition(status, schema.READY)


def _condition(status: JsonObject, type_: str) -> tuple[str, str, str] | None:
    """Status, reason and message."""
    conditions = status.get("conditions")
    for one in conditions if isinstance(conditions, list) else ():
        if isinstance(one, dict) and one.get("type") == type_:
            return str(one.get("status")), str(one.get("reason")), str(one.get("message"))
    return None


@attrs.define
class _Series:
    name: str
    began_at: float
    count: int = 1


@attrs.define(eq=False, kw_only=True)
class Events:
    """Sends Events in the background."""

    api: Api
    reporter: str
    """This process."""
    wall_clock: Callable[[], float]
    dropped: int = 0
    """Not sent: too many at once, over the budget, or refused."""
    _send: trio.MemorySendChannel[Happening] = attrs.field(init=False)
    _receive: trio.MemoryReceiveChannel[Happening] = attrs.field(init=False)
    _budgets: OrderedDict[str, Bucket] = attrs.field(init=False, factory=OrderedDict)
    _series: OrderedDict[Happening, _Series] = attrs.field(init=False, factory=OrderedDict)
    _all: Bucket = attrs.field(init=False, factory=lambda: Bucket(burst=20.0, per_s=20.0))

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel(WAITING)

    def tell(self, happening: Happening) -> None:
        """Have it sent, if the budget of its object allows."""
        budget = self._budgets.setdefault(happening.uid, Bucket(burst=10.0, per_s=1 / 300))
        self._budgets.move_to_end(happening.uid)
        if len(self._budgets) > OBJECTS:
            self._budgets.popitem(last=False)
        if not budget.take_now(trio.current_time()):
            self.dropped += 1
            return
        try:
            self._send.send_nowait(happening)
        except trio.WouldBlock:
            self.dropped += 1

    async def run(self) -> None:
        """Send until cancelled."""
        async for happening in self._receive:
            await trio.sleep(self._all.take(trio.current_time()))
            try:
                await self._tell(happening)
            except KubeError as error:
                self.dropped += 1
                logger.debug("event not sent", extra={"why": str(error)})

    async def _tell(self, happening: Happening) -> None:
        now_at, now = trio.current_time(), rfc3339(self.wall_clock()).replace("Z", ".000000Z")
        series = self._series.get(happening)
        if series is not None and now_at - series.began_at < SERIES_S:
            series.count += 1
            said: JsonObject = {"series": {"count": series.count, "lastObservedTime": now}}
            try:
                await self.api.merge(EVENT, happening.namespace, series.name, said)
                return
            except ApiMissing:
                pass  # it was as old as that
        name = f"{happening.name[:200]}.{int(self.wall_clock() * 1e6):x}"
        await self.api.create(EVENT, happening.namespace, self._event(happening, name, now))
        self._series[happening] = _Series(name, now_at)
        if len(self._series) > OBJECTS:
            self._series.popitem(last=False)

    def _event(self, happening: Happening, name: str, now: str) -> JsonObject:
        regarding: JsonObject = {
            "apiVersion": happening.kind.api_version,
            "kind": happening.kind.kind,
            "namespace": happening.namespace,
            "name": happening.name,
            "uid": happening.uid,
        }
        value: dict[str, JsonValue] = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"namespace": happening.namespace, "name": name},
            "eventTime": now,
            "type": happening.type,
            "reason": happening.reason,
            "note": happening.note,
            "action": "Reconcile",
            "regarding": regarding,
            "reportingController": schema.CONTROLLER_NAME,
            "reportingInstance": self.reporter[:128],
        }
        return value
