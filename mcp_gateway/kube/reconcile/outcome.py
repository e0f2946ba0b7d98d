"""What one reconciliation wants to be done.

Owns the shape of an outcome. Deliberately does nothing of it. Invariant: an outcome without members means that the
cluster is as it should be, and an outcome that was carried out is followed by one without members.
"""

import attrs

from mcp_gateway.kube.objects import Key
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
    """An object of ours that nobody needs any more; only while it has this uid."""

    kind: Kind
    key: Key
    uid: str


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
