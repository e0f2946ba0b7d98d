"""The kinds of the Gateway API, as frozen views.

Owns how their JSON becomes a view, with the defaults of the Gateway API filled in. Deliberately judges nothing.
Invariant: as in ``objects``: equal views, equal decisions; a raw status takes no part, but refusals in it do.
"""

from collections.abc import Mapping

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.fields import Fields
from mcp_gateway.kube.objects import Key, Meta, meta_of
from mcp_gateway.values import JsonObject


@attrs.frozen(kw_only=True)
class Requirement:
    """One of the ``matchExpressions`` of a label selector."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Kubernetes' set-based requirements; an unknown operator never holds."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
            case _:
                return False


@attrs.frozen(kw_only=True)
class Selector:
    """A label selector; an empty one matches everything."""

    labels: Mapping[str, str] = attrs.field(factory=dict)
    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether all of it holds."""
        return all(labels.get(key) == value for key, value in self.labels.items()) and all(
            requirement.holds(labels) for requirement in self.requirements
        )


@attrs.frozen(kw_only=True)
class Listener:
    """One listener of a Gateway."""

    name: str
    port: int
    protocol: str
    hostname: str = ""
    """Lower case; empty: every host."""
    namespaces: str = "Same"
    """``allowedRoutes.namespaces.from``."""
    selector: Selector | None = None
    kinds: tuple[tuple[str, str], ...] = ()
    """Groups and kinds of routes; empty: those that fit the protocol."""


@attrs.frozen(kw_only=True)
class Gateway:
    """A Gateway; what its implementation says about it is not waited for."""

    meta: Meta
    listeners: tuple[Listener, ...] = ()
    listener_status: tuple[JsonObject, ...] = attrs.field(default=(), eq=False, repr=False)
    """``status.listeners`` as it came."""


@attrs.frozen(kw_only=True)
class ParentRef:
    """What a route wants to be attached to; the namespace is filled in."""

    key: Key
    group: str = schema.GATEWAY_GROUP
    kind: str = schema.GATEWAY.kind
    section: str = ""
    port: int | None = None

    def __str__(self) -> str:
        section = f" listener {self.section}" if self.section else ""
        port = f" port {self.port}" if self.port is not None else ""
        return f"{self.kind} {self.key}{section}{port}"


@attrs.frozen(kw_only=True)
class Match:
    """What a request must be like for a rule."""

    path_type: str = "PathPrefix"
    path: str = "/"
    method: str = ""
    narrowed: bool = False
    """It also looks at headers or the query, which a registration has none of."""


@attrs.frozen(kw_only=True)
class Filter:
    """What a rule does to a request; only what its type needs is filled in."""

    type: str
    set_headers: tuple[tuple[str, str], ...] = ()
    """Those to set and those to add, in this order."""
    removed_headers: tuple[str, ...] = ()
    hostname: str = ""
    path_type: str = ""
    path: str = ""


@attrs.frozen(kw_only=True)
class BackendRef:
    """Where a rule sends requests; the namespace is filled in."""

    key: Key
    group: str = ""
    kind: str = schema.SERVICE.kind
    port: int | None = None
    weight: int = 1
    filters: tuple[Filter, ...] = ()


@attrs.frozen(kw_only=True)
class Rule:
    """One rule of a route."""

    matches: tuple[Match, ...] = (Match(),)
    filters: tuple[Filter, ...] = ()
    backends: tuple[BackendRef, ...] = ()
    request_timeout: str = ""


@attrs.frozen(kw_only=True)
class Refusal:
    """An implementation's ``Accepted=False`` for one parent."""

    parent: ParentRef
    controller: str
    reason: str
    message: str
    generation: int
    """The route's generation that it was said of."""


@attrs.frozen(kw_only=True)
class HTTPRoute:
    """A route, as data: it says where a server is and which Gateway it belongs to."""

    meta: Meta
    parents: tuple[ParentRef, ...] = ()
    hostnames: tuple[str, ...] = ()
    """Lower case."""
    rules: tuple[Rule, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    parent_status: tuple[JsonObject, ...] = attrs.field(default=(), eq=False, repr=False)
    """``status.parents`` as it came."""


@attrs.frozen(kw_only=True)
class ReferenceGrant:
    """What the objects of its namespace may be referred to by."""

    meta: Meta
    sources: tuple[tuple[str, str, str], ...] = ()
    """Group, kind, namespace."""
    targets: tuple[tuple[str, str, str], ...] = ()
    """Group, kind, name; an empty name stands for all."""


@attrs.frozen(kw_only=True)
class BackendTLSPolicy:
    """How a Service's certificate is checked."""

    meta: Meta
    services: tuple[tuple[str, str], ...] = ()
    """Names of Services in its namespace, each with the name of a port or nothing."""
    hostname: str = ""
    names_certificates: bool = False
    """It refers to certificates of authorities, which are not read."""


def gateway_of(fields: Fields) -> Gateway:
    """Reads a Gateway."""
    return Gateway(
        meta=meta_of(fields),
        listeners=tuple(_listener(item) for item in fields.items("spec.listeners")),
        listener_status=_raw(fields, "status.listeners"),
    )


def _listener(item: Fields) -> Listener:
    selector = item.at("allowedRoutes.namespaces.selector") if item.has("allowedRoutes.namespaces.selector") else None
    return Listener(
        name=item.text("name"),
        port=item.integer("port") or 0,
        protocol=item.text("protocol"),
        hostname=item.text("hostname").lower(),
        namespaces=item.text("allowedRoutes.namespaces.from", "Same"),
        selector=None if selector is None else _selector(selector),
        kinds=tuple(
            (kind.text("group", schema.GATEWAY_GROUP), kind.text("kind")) for kind in item.items("allowedRoutes.kinds")
        ),
    )


def _selector(item: Fields) -> Selector:
    return Selector(
        labels=item.text_map("matchLabels"),
        requirements=tuple(
            Requirement(key=one.text("key"), operator=one.text("operator"), values=one.texts("values"))
            for one in item.items("matchExpressions")
        ),
    )


def http_route_of(fields: Fields) -> HTTPRoute:
    """Reads an HTTPRoute."""
    meta = meta_of(fields)
    namespace = meta.key.namespace
    return HTTPRoute(
        meta=meta,
        parents=tuple(parent_ref_of(item, namespace) for item in fields.items("spec.parentRefs")),
        hostnames=tuple(name.lower() for name in fields.texts("spec.hostnames")),
        rules=tuple(_rule(item, namespace) for item in fields.items("spec.rules")),
        refusals=tuple(refusal for item in fields.items("status.parents") for refusal in _refusals(item, namespace)),
        parent_status=_raw(fields, "status.parents"),
    )


def parent_ref_of(item: Fields, namespace: str) -> ParentRef:
    """Reads a parentRef of a route in ``namespace``; equal references give equal values, however they are written."""
    return ParentRef(
        key=Key(item.text("namespace") or namespace, item.text("name")),
        group=item.text("group", schema.GATEWAY_GROUP),
        kind=item.text("kind", schema.GATEWAY.kind),
        section=item.text("sectionName"),
        port=item.integer("port"),
    )


def _refusals(item: Fields, namespace: str) -> tuple[Refusal, ...]:
    return tuple(
        Refusal(
            parent=parent_ref_of(item.at("parentRef"), namespace),
            controller=item.text("controllerName"),
            reason=condition.text("reason"),
            message=condition.text("message"),
            generation=condition.integer("observedGeneration") or 0,
        )
        for condition in item.items("conditions")
        if condition.text("type") == "Accepted" and condition.text("status") == "False"
    )


def _rule(item: Fields, namespace: str) -> Rule:
    matches = tuple(_match(one) for one in item.items("matches"))
    return Rule(
        matches=matches or (Match(),),
        filters=tuple(_filter(one) for one in item.items("filters")),
        backends=tuple(_backend(one, namespace) for one in item.items("backendRefs")),
        request_timeout=item.text("timeouts.request"),
    )


def _match(item: Fields) -> Match:
    return Match(
        path_type=item.text("path.type", "PathPrefix"),
        path=item.text("path.value", "/"),
        method=item.text("method"),
        narrowed=bool(item.items("headers") or item.items("queryParams")),
    )


def _backend(item: Fields, namespace: str) -> BackendRef:
    weight = item.integer("weight")
    return BackendRef(
        key=Key(item.text("namespace") or namespace, item.text("name")),
        group=item.text("group"),
        kind=item.text("kind", schema.SERVICE.kind),
        port=item.integer("port"),
        weight=1 if weight is None else weight,
        filters=tuple(_filter(one) for one in item.items("filters")),
    )


def _filter(item: Fields) -> Filter:
    headers, rewrite = item.at("requestHeaderModifier"), item.at("urlRewrite")
    path_type = rewrite.text("path.type")
    return Filter(
        type=item.text("type"),
        set_headers=tuple(
            (one.text("name"), one.text("value")) for key in ("set", "add") for one in headers.items(key)
        ),
        removed_headers=headers.texts("remove"),
        hostname=rewrite.text("hostname").lower(),
        path_type=path_type,
        path=rewrite.text("path.replacePrefixMatch" if path_type == "ReplacePrefixMatch" else "path.replaceFullPath"),
    )


def reference_grant_of(fields: Fields) -> ReferenceGrant:
    """Reads a ReferenceGrant."""
    return ReferenceGrant(
        meta=meta_of(fields),
        sources=tuple(
            (one.text("group"), one.text("kind"), one.text("namespace")) for one in fields.items("spec.from")
        ),
        targets=tuple((one.text("group"), one.text("kind"), one.text("name")) for one in fields.items("spec.to")),
    )


def backend_tls_policy_of(fields: Fields) -> BackendTLSPolicy:
    """Reads a BackendTLSPolicy."""
    return BackendTLSPolicy(
        meta=meta_of(fields),
        services=tuple(
            (one.text("name"), one.text("sectionName"))
            for one in fields.items("spec.targetRefs")
            if (one.text("group"), one.text("kind")) == (schema.SERVICE.group, schema.SERVICE.kind)
        ),
        hostname=fields.text("spec.validation.hostname").lower(),
        names_certificates=bool(fields.items("spec.validation.caCertificateRefs")),
    )


def _raw(fields: Fields, path: str) -> tuple[JsonObject, ...]:
    return tuple(dict(item.value) for item in fields.items(path))
