"""What one reconciliation wants to be done.

Owns the shape of an outcome, and when a status need not be written. Deliberately does nothing of it. Invariant: an
outcome without members means that the cluster is as it should be, and an outcome that was carried out is followed by
one without members.
"""

from collections.abc import Mapping

import attrs

from mcp_gateway.kube.objects import Key, Meta
from mcp_gateway.kube.reconcile.conditions import Now, Verdict, is_said, status_after
from mcp_gateway.kube.schema import Kind
from mcp_gateway.values import JsonObject, JsonValue


@attrs.frozen(kw_only=True)
class StatusWrite:
    """A whole new status for one of our own objects (server-side apply through its status subresource)."""

    kind: Kind
    key: Key
    uid: str
    resource_version: str
    """What it was computed from."""
    status: JsonObject
    provisional: bool = False
    """Only the data plane's word is missing: waiting a second may say more than ``Pending``."""


@attrs.frozen(kw_only=True)
class RouteStatusWrite:
    """A new ``status.parents`` of an HTTPRoute (read-modify-write with the resourceVersion)."""

    key: Key
    resource_version: str
    parents: tuple[JsonObject, ...]
    """Others' entries as they came."""


@attrs.frozen(kw_only=True)
class Apply:
    """An object that should be as given (server-side apply)."""

    kind: Kind
    key: Key
    resource_version: str
    """Empty: it does not exist yet."""
    document: JsonObject


@attrs.frozen(kw_only=True)
class Delete:
    """An object of ours that nobody needs any more; only while it is what it was when that was decided."""

    kind: Kind
    key: Key
    uid: str
    resource_version: str

    @classmethod
    def of(cls, kind: Kind, meta: Meta) -> "Delete":
        """An object as it was read."""
        return cls(kind=kind, key=meta.key, uid=meta.uid, resource_version=meta.resource_version)


@attrs.frozen(kw_only=True)
class ListenerMark:
    """The condition that a Gateway's listener should have, if its implementation has written an entry for it."""

    gateway: Key
    resource_version: str
    listener: str
    conditions: tuple[JsonValue, ...]
    """The listener's conditions with ours among them, or without it."""


@attrs.frozen(kw_only=True)
class Outcome:
    """Everything that one object wants."""

    status: StatusWrite | None = None
    route_status: RouteStatusWrite | None = None
    apply: tuple[Apply, ...] = ()
    delete: tuple[Delete, ...] = ()
    listeners: tuple[ListenerMark, ...] = ()


NOTHING = Outcome()


def status_write(
    kind: Kind,
    meta: Meta,
    before: JsonObject,
    verdicts: Mapping[str, Verdict],
    fields: Mapping[str, JsonValue],
    now: Now,
    *,
    provisional: bool,
) -> StatusWrite | None:
    """The write of the status that one of our own objects should have; None: it has it.

    Args:
        meta: of the object that was looked at.
        before: its status as it is.
        verdicts: every condition by type, in the order in which they are shown.
        fields: the other members of the status, as in ``status_after``.
        provisional: as in ``StatusWrite``.
    """
    status = status_after(before, verdicts, meta.generation, now, **fields)
    if is_said(before, status):
        return None
    return StatusWrite(
        kind=kind,
        key=meta.key,
        uid=meta.uid,
        resource_version=meta.resource_version,
        status=status,
        provisional=provisional,
    )
