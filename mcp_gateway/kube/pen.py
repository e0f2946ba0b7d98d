"""Writing to the cluster: only while we lead, only over what was read, not faster than agreed.

Owns how each part of an ``Outcome`` becomes a request. Deliberately decides nothing and repeats
nothing. Invariants: every write names the resourceVersion that it was computed from, so that a
leader that was frozen overwrites nobody; a conflict is an error, never forced.
"""

import logging
from typing import Final, Protocol

import attrs
import trio

from mcp_gateway.kube import schema
from mcp_gateway.kube.api import Api
from mcp_gateway.kube.errors import ApiConflict, ApiMissing, KubeError
from mcp_gateway.kube.queue import Bucket
from mcp_gateway.kube.reconcile.outcome import Apply, Delete, ListenerMark, RouteStatusWrite, StatusWrite
from mcp_gateway.values import JsonObject, JsonValue

logger = logging.getLogger(__name__)

STATUS_BURST: Final = 100.0
STATUS_PER_S: Final = 100.0
"""Writes of status, entries in routes included."""
MARK_EVERY_S: Final = 60.0
"""Of one listener, after the first two: who fights over a condition must not be fought with."""


@attrs.frozen(kw_only=True, eq=False)
class NotLeading(ApiConflict):
    """The Lease is not ours any more: nothing was sent."""


class Permission(Protocol):
    """Whether we may write; a ``lease.Lease`` is one."""

    @property
    def leads(self) -> bool:
        """Whether we may at this very moment."""
        ...


@attrs.define(eq=False, kw_only=True)
class Pen:
    """Carries out what was decided."""

    api: Api
    lease: Permission
    _statuses: Bucket = attrs.field(factory=lambda: Bucket(burst=STATUS_BURST, per_s=STATUS_PER_S))
    _marks: dict[tuple[str, str], Bucket] = attrs.field(factory=dict)

    async def status(self, write: StatusWrite) -> None:
        """A whole status of one of our own objects."""
        await self._pace()
        value = self._object(write.kind, write.key.namespace, write.key.name, write.resource_version, uid=write.uid)
        value["status"] = write.status
        self._check(f"status of {write.key}")
        await self.api.apply(write.kind, write.key.namespace, write.key.name, value, "status")

    async def route_status(self, write: RouteStatusWrite) -> None:
        """Our entries in the status of an HTTPRoute; everybody else's as they were read."""
        await self._pace()
        kind, key = schema.HTTP_ROUTE, write.key
        value = self._object(kind, key.namespace, key.name, write.resource_version)
        parents: list[JsonValue] = list(write.parents)
        self._check(f"status of route {key}")
        await self.api.merge(kind, key.namespace, key.name, {**value, "status": {"parents": parents}}, "status")

    async def mark(self, mark: ListenerMark) -> float:
        """Our condition on a Gateway's listener; returns 0, or the seconds to wait because it was written just now.

        What was not written, and what takes the condition away, is no fight and counts for nothing.
        """
        place = (str(mark.gateway), mark.listener)
        bucket = self._marks.setdefault(place, Bucket(burst=2.0, per_s=1 / MARK_EVERY_S))
        types = [one.get("type") for one in mark.conditions if isinstance(one, dict)]
        if schema.LISTENER_CONDITION not in types:
            await self._mark(mark)
            return 0.0
        if not bucket.take_now(trio.current_time()):
            return MARK_EVERY_S
        try:
            await self._mark(mark)
        except KubeError:
            bucket.give_back()
            raise
        return 0.0

    async def _mark(self, mark: ListenerMark) -> None:
        kind, key = schema.GATEWAY, mark.gateway
        there = await self.api.get(kind, key.namespace, key.name)
        status = there.get("status")
        found = status.get("listeners") if isinstance(status, dict) else None
        listeners = [dict(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        for entry in listeners:
            if entry.get("name") == mark.listener:
                entry["conditions"] = list(mark.conditions)
        value = self._object(kind, key.namespace, key.name, mark.resource_version)
        self._check(f"listeners of {key}")
        patch: JsonObject = {**value, "status": {"listeners": [*listeners]}}
        await self.api.merge(kind, key.namespace, key.name, patch, "status")

    async def apply(self, wanted: Apply) -> None:
        """An object that is ours, new or changed."""
        namespace, name = wanted.key
        document: JsonObject = dict(wanted.document)
        self._check(f"{wanted.kind.kind} {wanted.key}")
        if not wanted.resource_version:
            await self.api.create(wanted.kind, namespace, document)
            return
        metadata = document.get("metadata")
        known = metadata if isinstance(metadata, dict) else {}
        document["metadata"] = {**known, "resourceVersion": wanted.resource_version}
        await self.api.apply(wanted.kind, namespace, name, document)

    async def delete(self, unwanted: Delete) -> None:
        """An object that was ours, if it is still the same."""
        self._check(f"{unwanted.kind.kind} {unwanted.key}")
        try:
            await self.api.delete(unwanted.kind, *unwanted.key, uid=unwanted.uid, version=unwanted.resource_version)
        except ApiMissing:
            logger.debug("already gone", extra={"kind": unwanted.kind.kind, "object": str(unwanted.key)})

    async def secret(self, namespace: str, name: str, data: dict[str, JsonValue], version: str) -> None:
        """Entries of one of our own Secrets; ``version`` empty: it has to be made. Other entries stay."""
        self._check(f"Secret {namespace}/{name}")
        if not version:
            value = self._object(schema.SECRET, namespace, name, "")
            await self.api.create(schema.SECRET, namespace, {**value, "type": "Opaque", "data": data})
            return
        value = self._object(schema.SECRET, namespace, name, version)
        await self.api.merge(schema.SECRET, namespace, name, {**value, "data": data})

    async def _pace(self) -> None:
        await trio.sleep(self._statuses.take(trio.current_time()))

    def _check(self, what: str) -> None:
        if not self.lease.leads:
            raise NotLeading(where=what, status=409, cause="NotLeading", message="the Lease is held by another one")

    def _object(self, kind: schema.Kind, namespace: str, name: str, version: str, *, uid: str = "") -> JsonObject:
        named = {"namespace": namespace, "name": name, "resourceVersion": version, "uid": uid}
        metadata: JsonObject = {member: value for member, value in named.items() if value}
        return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
