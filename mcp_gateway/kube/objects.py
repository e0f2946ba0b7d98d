"""What is read of the cluster, as frozen views: what all objects have, and Kubernetes' own kinds.

Owns how their JSON becomes a view, with the defaults of their own specifications filled in. Deliberately judges
nothing, and keeps no field that no decision needs. Invariant: two views are equal exactly if every decision about them
is the same; what only a writer needs (``resource_version``, raw status) takes no part in ``==``.

The kinds of the Gateway API are in ``gateway_api``, our own in ``own_objects``.
"""

from collections.abc import Mapping
from typing import NamedTuple

import attrs

from mcp_gateway.kube.fields import Fields, Malformed

# --- what all have ---------------------------------------------------------------------------------------------------


class Key(NamedTuple):
    """Where an object is: ``namespace/name``; the namespace is empty for objects of the cluster."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@attrs.frozen(kw_only=True)
class Owner:
    """An owner reference."""

    group: str
    kind: str
    name: str
    uid: str


@attrs.frozen(kw_only=True)
class Meta:
    """``metadata``, as far as it matters."""

    key: Key
    uid: str = ""
    generation: int = 0
    created: str = ""
    """RFC 3339 in UTC, to the second, so that texts compare as times do."""
    labels: Mapping[str, str] = attrs.field(factory=dict)
    owners: tuple[Owner, ...] = ()
    deleting: bool = False
    resource_version: str = attrs.field(default="", eq=False)

    @property
    def seniority(self) -> tuple[str, str, str]:
        """Older objects come first; those of one second by namespace and name."""
        return (self.created, self.key.namespace, self.key.name)


def meta_of(fields: Fields) -> Meta:
    """Raises Malformed: there is no name."""
    metadata = fields.at("metadata")
    name = metadata.text("name")
    if not name:
        raise Malformed("metadata.name", "is missing")
    return Meta(
        key=Key(metadata.text("namespace"), name),
        uid=metadata.text("uid"),
        generation=metadata.integer("generation") or 0,
        created=metadata.text("creationTimestamp"),
        labels=metadata.text_map("labels"),
        owners=tuple(_owner(item) for item in metadata.items("ownerReferences")),
        deleting=metadata.has("deletionTimestamp"),
        resource_version=metadata.text("resourceVersion"),
    )


def _owner(item: Fields) -> Owner:
    return Owner(
        group=item.text("apiVersion").rpartition("/")[0],
        kind=item.text("kind"),
        name=item.text("name"),
        uid=item.text("uid"),
    )


# --- core ------------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Namespace:
    """A namespace: its labels decide which routes a listener allows."""

    meta: Meta


@attrs.frozen(kw_only=True)
class ServicePort:
    """One port of a Service."""

    number: int
    name: str = ""
    app_protocol: str = ""
    """Lower case."""


@attrs.frozen(kw_only=True)
class Service:
    """Where a backend is inside the cluster."""

    meta: Meta
    type: str = "ClusterIP"
    cluster_ip: str = ""
    """An address, ``None`` for a headless Service, or empty."""
    external_name: str = ""
    ports: tuple[ServicePort, ...] = ()


@attrs.frozen(kw_only=True)
class Secret:
    """A Secret whose owner has labelled it for us, or one of our own."""

    meta: Meta
    data: Mapping[str, bytes] = attrs.field(factory=dict, repr=False)


def namespace_of(fields: Fields) -> Namespace:
    """Reads a Namespace."""
    return Namespace(meta=meta_of(fields))


def service_of(fields: Fields) -> Service:
    """Reads a Service."""
    spec = fields.at("spec")
    return Service(
        meta=meta_of(fields),
        type=spec.text("type", "ClusterIP"),
        cluster_ip=spec.text("clusterIP"),
        external_name=spec.text("externalName").rstrip(".").lower(),
        ports=tuple(
            ServicePort(
                number=port.integer("port") or 0,
                name=port.text("name"),
                app_protocol=port.text("appProtocol").lower(),
            )
            for port in spec.items("ports")
        ),
    )


def secret_of(fields: Fields) -> Secret:
    """Reads a Secret."""
    return Secret(meta=meta_of(fields), data=fields.bytes_map("data"))
