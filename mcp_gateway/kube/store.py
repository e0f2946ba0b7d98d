"""What is known of the cluster: views by key, by namespace and by who refers to whom.

Owns the known objects, which kinds have been listed, and in which namespaces Secrets may be read. Deliberately asks
nobody: a reflector puts in what it hears. Invariant: unknown is not absent. Only ``drop`` and a whole list remove an
object; a list that failed changes nothing but what is said of it.

Everything that decides reads a ``Store`` and changes none. ``once`` keeps what was decided of one state until the state
changes, so that 500 reconciliations share one look at all conflicts.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Final, TypeAlias, TypeVar, cast

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.fields import Fields, Malformed
from mcp_gateway.kube.gateway_api import BackendTLSPolicy, Gateway, HTTPRoute, ReferenceGrant
from mcp_gateway.kube.objects import Key, Meta, Namespace, Secret, Service
from mcp_gateway.kube.own_objects import Extension, Registration, Report, VirtualServer
from mcp_gateway.kube.readers import READERS, View
from mcp_gateway.kube.schema import Kind
from mcp_gateway.values import JsonObject

T = TypeVar("T")
Place: TypeAlias = tuple[Kind, Key]
"""An object, whether it exists or not."""


class Change(Enum):
    """What one event made of the store."""

    NOTHING = "nothing"
    DETAIL = "detail"
    """Only what takes no part in a decision: a resourceVersion, a status that somebody wrote."""
    SUBSTANCE = "substance"


class Access(Enum):
    """How it is with the labelled Secrets of one namespace."""

    UNKNOWN = "unknown"
    """Nobody has looked yet."""
    LISTED = "listed"
    FORBIDDEN = "forbidden"
    """The API server refused (403)."""
    FAILED = "failed"
    """It could not answer."""


@attrs.frozen(kw_only=True)
class Settings:
    """What the flags of the process say, as far as a decision depends on it."""

    instance: str = schema.DEFAULT_INSTANCE
    namespace: str = schema.SYSTEM_NAMESPACE
    """Our own."""
    cluster_domain: str = schema.CLUSTER_DOMAIN
    external_backends: bool = True
    watch_namespaces: tuple[str, ...] = ()
    """Where users' objects are looked for; empty: everywhere."""

    @property
    def controller_name(self) -> str:
        """Ours among the controllers in a route's status; each instance has its own, so none touches another's."""
        default = self.instance == schema.DEFAULT_INSTANCE
        return schema.CONTROLLER_NAME if default else f"{schema.CONTROLLER_NAME}/{self.instance}"

    @property
    def secret_reader_role(self) -> str:
        """The ClusterRole to read users' Secrets; names without a namespace carry the instance (overlays/dedicated)."""
        default = self.instance == schema.DEFAULT_INSTANCE
        return schema.SECRET_READER_ROLE if default else f"{schema.SECRET_READER_ROLE}-{self.instance}"


@attrs.define
class Store:
    """The known objects of the cluster."""

    settings: Settings = attrs.field(factory=Settings)
    failures: dict[tuple[Kind, str | None], str] = attrs.field(factory=dict)
    """Kinds whose last list failed, by one of their ``scopes``, and why; what was known of them stays."""
    malformed: dict[Place, str] = attrs.field(factory=dict)
    """Objects that cannot be read, and why; each falls alone."""
    secret_access: dict[str, Access] = attrs.field(factory=dict)
    """By namespace."""
    _objects: dict[Kind, dict[Key, View]] = attrs.field(factory=lambda: defaultdict(dict))
    _namespaces: dict[tuple[Kind, str], set[Key]] = attrs.field(factory=lambda: defaultdict(set))
    _referrers: dict[Place, set[Place]] = attrs.field(factory=lambda: defaultdict(set))
    _listed: set[tuple[Kind, str | None]] = attrs.field(factory=set)
    _decided: dict[Callable[["Store"], object], object] = attrs.field(factory=dict)

    # --- what happens ------------------------------------------------------------------------------------------------

    def put(self, kind: Kind, value: Mapping[str, object]) -> Change:
        """Take in an object as the API server gives it; one that cannot be read leaves its predecessor's place."""
        fields = Fields(cast(JsonObject, value))
        try:
            view = READERS[kind](fields)
        except Malformed as error:
            return self._put_malformed(kind, fields, str(error))
        place = (kind, view.meta.key)
        self.malformed.pop(place, None)
        known = self._objects[kind].get(view.meta.key)
        if known is not None and known == view:
            same = known.meta.resource_version == view.meta.resource_version
            self._objects[kind][view.meta.key] = view
            return Change.NOTHING if same else Change.DETAIL
        self._forget(kind, view.meta.key)
        self._objects[kind][view.meta.key] = view
        self._namespaces[kind, view.meta.key.namespace].add(view.meta.key)
        for target in references(view):
            self._referrers[target].add(place)
        self._decided.clear()
        return Change.SUBSTANCE

    def _put_malformed(self, kind: Kind, fields: Fields, why: str) -> Change:
        metadata = fields.value.get("metadata")
        found = metadata if isinstance(metadata, dict) else {}
        key = Key(str(found.get("namespace") or ""), str(found.get("name") or ""))
        self.malformed[kind, key] = why
        return self._remove(kind, key)

    def drop(self, kind: Kind, key: Key) -> Change:
        """An object was deleted."""
        self.malformed.pop((kind, key), None)
        return self._remove(kind, key)

    def replace(self, kind: Kind, values: Iterable[Mapping[str, object]], namespace: str | None = None) -> Change:
        """Take in a whole list, of one of the ``scopes`` or of all namespaces: what is not in it is gone."""
        before = set(self._objects[kind]) if namespace is None else set(self._namespaces[kind, namespace])
        before |= {key for of, key in self.malformed if of == kind and namespace in (None, key.namespace)}
        change = Change.SUBSTANCE if self._mark_listed(kind, namespace) else Change.NOTHING
        for value in values:
            change = max(change, self.put(kind, value), key=_WEIGHT.__getitem__)
            metadata = value.get("metadata")
            found = metadata if isinstance(metadata, dict) else {}
            before.discard(Key(str(found.get("namespace") or ""), str(found.get("name") or "")))
        for key in before:
            change = max(change, self.drop(kind, key), key=_WEIGHT.__getitem__)
        return change

    def _mark_listed(self, kind: Kind, namespace: str | None) -> bool:
        if kind == schema.SECRET and namespace is not None:
            return self.set_access(namespace, Access.LISTED) is Change.SUBSTANCE
        self.failures.pop((kind, namespace), None)
        if (kind, namespace) in self._listed:
            return False
        self._listed.add((kind, namespace))
        self._decided.clear()
        return True

    def fail(self, kind: Kind, why: str, namespace: str | None = None) -> None:
        """A list of a kind failed, in one of its ``scopes``; what is known stays."""
        self.failures[kind, namespace] = why

    @property
    def unreadable(self) -> dict[str, str]:
        """``failures`` for people: what cannot be read, and why."""
        return {
            f"{kind.resource}{f' in {scope}' if scope else ''}": why for (kind, scope), why in self.failures.items()
        }

    def set_access(self, namespace: str, access: Access) -> Change:
        """What became of the last look at the Secrets of a namespace."""
        if self.access(namespace) is access:
            return Change.NOTHING
        self.secret_access[namespace] = access
        self._decided.clear()
        return Change.SUBSTANCE

    def _remove(self, kind: Kind, key: Key) -> Change:
        if not self._forget(kind, key):
            return Change.NOTHING
        self._decided.clear()
        return Change.SUBSTANCE

    def _forget(self, kind: Kind, key: Key) -> bool:
        known = self._objects[kind].pop(key, None)
        if known is None:
            return False
        self._namespaces[kind, key.namespace].discard(key)
        for target in references(known):
            self._referrers[target].discard((kind, key))
        return True

    # --- what is asked -----------------------------------------------------------------------------------------------

    @property
    def unlisted(self) -> tuple[str, ...]:
        """What has to be listed before anything may be decided: kinds, and namespaces of Secrets."""
        kinds = [kind.resource for kind in schema.WATCHED if not self._is_listed(kind)]
        namespaces = [one for one in self.secret_namespaces if self.access(one) is Access.UNKNOWN]
        return (*kinds, *(f"{schema.SECRET.resource} in {namespace}" for namespace in namespaces))

    def _is_listed(self, kind: Kind) -> bool:
        whole = (kind, None) in self._listed
        return whole or all((kind, scope) in self._listed for scope in self.scopes(kind))

    def scopes(self, kind: Kind) -> tuple[str | None, ...]:
        """The namespaces in which a kind has to be listed; None stands for all of them at once.

        A user's Secrets are no matter of kinds: see ``secret_namespaces``.
        """
        own, watched = self.settings.namespace, self.settings.watch_namespaces
        if kind == schema.SECRET:
            return ()
        if kind == schema.REPORT:
            return (own,)
        if not kind.namespaced or not watched:
            return (None,)
        # The grants for the routes to us are beside our own Service.
        return tuple(dict.fromkeys((*watched, own) if kind == schema.REFERENCE_GRANT else watched))

    @property
    def secret_namespaces(self) -> tuple[str, ...]:
        """Where a registration or an extension names a Secret: nowhere else are any read."""
        named = {key.namespace for (kind, key), who in self._referrers.items() if kind == schema.SECRET and who}
        return tuple(sorted(named))

    def access(self, namespace: str) -> Access:
        """How it is with the labelled Secrets of a namespace."""
        return self.secret_access.get(namespace, Access.UNKNOWN)

    def once(self, decide: Callable[["Store"], T]) -> T:
        """What a pure function says of this state, asked at most once per state.

        A state is what has a part in decisions: a status or resourceVersion that has changed makes no other. Whoever
        writes asks for the object itself.
        """
        if decide not in self._decided:
            self._decided[decide] = decide(self)
        return cast(T, self._decided[decide])

    def referrers(self, kind: Kind, key: Key, of: Kind) -> tuple[Key, ...]:
        """Who refers to an object, by kind; sorted."""
        return tuple(sorted(who for who_kind, who in self._referrers.get((kind, key), ()) if who_kind == of))

    def keys(self, kind: Kind, namespace: str | None = None) -> tuple[Key, ...]:
        """The keys of a kind, of one namespace or of all; sorted."""
        return tuple(sorted(self._objects[kind] if namespace is None else self._namespaces[kind, namespace]))

    def _all(self, kind: Kind, type_: type[T]) -> tuple[T, ...]:
        """Those that are not being deleted, oldest first."""
        alive = [view for view in self._objects[kind].values() if not view.meta.deleting]
        return tuple(cast(T, view) for view in sorted(alive, key=lambda view: view.meta.seniority))

    def _one(self, kind: Kind, key: Key, type_: type[T]) -> T | None:
        view = self._objects[kind].get(key)
        return None if view is None or view.meta.deleting else cast(T, view)

    def registrations(self) -> tuple[Registration, ...]:
        """Oldest first, like all of the following."""
        return self._all(schema.REGISTRATION, Registration)

    def extensions(self) -> tuple[Extension, ...]:
        """Of every instance."""
        return self._all(schema.EXTENSION, Extension)

    def virtual_servers(self) -> tuple[VirtualServer, ...]:
        """All of them."""
        return self._all(schema.VIRTUAL_SERVER, VirtualServer)

    def reports(self) -> tuple[Report, ...]:
        """All of them."""
        return self._all(schema.REPORT, Report)

    def gateways(self) -> tuple[Gateway, ...]:
        """All of them."""
        return self._all(schema.GATEWAY, Gateway)

    def policies(self, namespace: str) -> tuple[BackendTLSPolicy, ...]:
        """The BackendTLSPolicies of one namespace."""
        return tuple(one for one in self._all(schema.BACKEND_TLS_POLICY, BackendTLSPolicy) if _in(one.meta, namespace))

    def grants(self, namespace: str) -> tuple[ReferenceGrant, ...]:
        """The ReferenceGrants of one namespace."""
        keys = self.keys(schema.REFERENCE_GRANT, namespace)
        found = (self._one(schema.REFERENCE_GRANT, key, ReferenceGrant) for key in keys)
        return tuple(one for one in found if one is not None)

    def registration(self, key: Key) -> Registration | None:
        """None: there is none, or it is being deleted; like all of the following."""
        return self._one(schema.REGISTRATION, key, Registration)

    def extension(self, key: Key) -> Extension | None:
        """As it was heard of last, with its status; what was decided of it (``once``) may know an older one."""
        return self._one(schema.EXTENSION, key, Extension)

    def virtual_server(self, key: Key) -> VirtualServer | None:
        """As ``extension``."""
        return self._one(schema.VIRTUAL_SERVER, key, VirtualServer)

    def status(self, kind: Kind, key: Key) -> JsonObject:
        """The status that one of our own objects has now; empty: none yet, or there is no such object."""
        view = self._objects[kind].get(key)
        return view.status if isinstance(view, Registration | Extension | VirtualServer) else {}

    def gateway(self, key: Key) -> Gateway | None:
        """One Gateway."""
        return self._one(schema.GATEWAY, key, Gateway)

    def route(self, key: Key) -> HTTPRoute | None:
        """One HTTPRoute."""
        return self._one(schema.HTTP_ROUTE, key, HTTPRoute)

    def service(self, key: Key) -> Service | None:
        """One Service."""
        return self._one(schema.SERVICE, key, Service)

    def secret(self, key: Key) -> Secret | None:
        """One labelled Secret, or one of our own."""
        return self._one(schema.SECRET, key, Secret)

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        """The labels of a namespace, of which Kubernetes guarantees one; none if it is not known."""
        found = self._one(schema.NAMESPACE, Key("", name), Namespace)
        return {} if found is None else found.meta.labels


def _in(meta: Meta, namespace: str) -> bool:
    return meta.key.namespace == namespace


_WEIGHT: Final = {Change.NOTHING: 0, Change.DETAIL: 1, Change.SUBSTANCE: 2}


def references(view: View) -> Iterator[Place]:
    """What an object refers to, whether it may or not."""
    match view:
        case Registration():
            yield schema.HTTP_ROUTE, view.route
            for ref in (view.credential, view.ca):
                if ref is not None:
                    yield schema.SECRET, Key(view.meta.key.namespace, ref.name)
        case Extension():
            yield schema.GATEWAY, view.gateway
            if view.ca_bundle is not None:
                yield schema.SECRET, Key(view.meta.key.namespace, view.ca_bundle.name)
        case VirtualServer():
            if view.extension is not None:
                yield schema.EXTENSION, view.extension
        case HTTPRoute():
            for parent in view.parents:
                yield schema.GATEWAY, parent.key
            for rule in view.rules:
                for backend in rule.backends:
                    yield schema.SERVICE, backend.key
        case BackendTLSPolicy():
            for name, _ in view.services:
                yield schema.SERVICE, Key(view.meta.key.namespace, name)
        case _:
            return
