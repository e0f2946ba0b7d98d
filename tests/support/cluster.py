"""A cluster as a handful of JSON objects, for tests of what is decided about it.

Owns builders whose defaults are those of the user's own procedure, and a ``Cluster`` that holds objects by key.
Deliberately no API server: nothing is defaulted or validated that the builders do not write. Invariant: a store that a
``Cluster`` fills has listed every kind, as one that follows a real server has.
"""

import base64
import copy
from collections.abc import Mapping
from typing import Any, Final, Self

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.fields import Fields
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import Report
from mcp_gateway.kube.readers import READERS
from mcp_gateway.kube.reconcile.conditions import Now
from mcp_gateway.kube.reconcile.outcome import Outcome
from mcp_gateway.kube.reconcile.reports import Reports, Seen
from mcp_gateway.kube.schema import Kind
from mcp_gateway.kube.store import Access, Settings, Store
from mcp_gateway.values import JsonObject

Document = dict[str, Any]
"""An object as the API server gives it; a test looks into it freely."""

NOW: Final = Now(at=1000.0, unix_s=1_800_000_000.0)
LATER: Final = Now(at=1010.0, unix_s=1_800_001_000.0)

EXTENSION: Final = Key("mcp-test", "mcp-extension")
GATEWAY: Final = Key("gateway-system", "mcp-gateway")
ROUTE: Final = Key("mcp-test", "mcp-api-key-server-route")
SERVICE: Final = Key("mcp-test", "mcp-api-key-server")
SERVER: Final = Key("mcp-test", "my-mcp-server")
SELECTION: Final = Key("mcp-test", "finance")

KINDS: Final[Mapping[str, Kind]] = {kind.kind: kind for kind in schema.WATCHED}


def _document(kind: Kind, key: Key, spec: Document | None, born: int, labels: Mapping[str, str] | None) -> Document:
    metadata: Document = {
        "name": key.name,
        "uid": f"{kind.kind}-{key}",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": f"2026-01-01T00:{born // 60:02}:{born % 60:02}Z",
        "labels": dict(labels or {}),
    }
    if key.namespace:
        metadata["namespace"] = key.namespace
    document: Document = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
    return document if spec is None else {**document, "spec": spec}


def plain(made: Document) -> Document:
    """An object as a user writes it: what only the server knows is left out."""
    unknown = {"uid", "generation", "resourceVersion", "creationTimestamp"}
    metadata = {key: value for key, value in made["metadata"].items() if key not in unknown}
    return {**made, "metadata": metadata}


def namespace(name: str, labels: Mapping[str, str] | None = None) -> Document:
    own = {schema.LABEL_NAMESPACE_NAME: name, **(labels or {})}
    return _document(schema.NAMESPACE, Key("", name), None, 0, own)


def listener(name: str, hostname: str = "", port: int = 8080, **more: object) -> Document:
    made: Document = {"name": name, "port": port, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}
    if hostname:
        made["hostname"] = hostname
    return {**made, **more}


def gateway(*listeners: Document, key: Key = GATEWAY, born: int = 0) -> Document:
    own = listeners or (listener("mcp", "mcp.127-0-0-1.sslip.io"), listener("mcps", "*.mcp.local"))
    return _document(schema.GATEWAY, key, {"gatewayClassName": "any", "listeners": list(own)}, born, None)


def extension(
    key: Key = EXTENSION, target: Key = GATEWAY, born: int = 0, instance: str = "", section: str = "", **spec: object
) -> Document:
    ref = {"group": schema.GATEWAY_GROUP, "kind": "Gateway", "name": target.name, "namespace": target.namespace}
    if section:
        ref["sectionName"] = section
    labels = {schema.LABEL_INSTANCE: instance} if instance else None
    return _document(schema.EXTENSION, key, {"targetRef": ref, **spec}, born, labels)


def grant(
    inside: str,
    source: tuple[str, str, str] = (schema.GROUP, "MCPGatewayExtension", "mcp-test"),
    target: tuple[str, str, str] = (schema.GATEWAY_GROUP, "Gateway", ""),
    name: str = "allow",
) -> Document:
    to = {"group": target[0], "kind": target[1]} | ({"name": target[2]} if target[2] else {})
    spec = {"from": [{"group": source[0], "kind": source[1], "namespace": source[2]}], "to": [to]}
    return _document(schema.REFERENCE_GRANT, Key(inside, name), spec, 0, None)


def backend(name: str = SERVICE.name, port: int | None = 9090, **more: object) -> Document:
    made: Document = {"name": name, **more}
    return made if port is None else {**made, "port": port}


def rule(*backends: Document, path: str = "/", kind: str = "PathPrefix", **more: object) -> Document:
    own = list(backends) or [backend()]
    return {"matches": [{"path": {"type": kind, "value": path}}], "backendRefs": own, **more}


def route(
    key: Key = ROUTE,
    parents: list[Document] | None = None,
    hostnames: list[str] | None = None,
    rules: list[Document] | None = None,
) -> Document:
    spec: Document = {
        "parentRefs": [{"name": GATEWAY.name, "namespace": GATEWAY.namespace}] if parents is None else parents,
        "hostnames": ["api-key-server.mcp.local"] if hostnames is None else hostnames,
        "rules": [rule()] if rules is None else rules,
    }
    return _document(schema.HTTP_ROUTE, key, spec, 0, {"mcp-server": "true"})


def service(key: Key = SERVICE, port: int = 9090, address: str = "10.96.0.7", **more: object) -> Document:
    own = {"type": "ClusterIP", "clusterIP": address, "ports": [{"name": "http", "port": port}], **more}
    return _document(schema.SERVICE, key, own, 0, None)


def registration(
    key: Key = SERVER, target: Key = ROUTE, born: int = 0, prefix: str = "myserver_", **spec: object
) -> Document:
    ref = {"group": schema.GATEWAY_GROUP, "kind": "HTTPRoute", "name": target.name, "namespace": target.namespace}
    return _document(schema.REGISTRATION, key, {"toolPrefix": prefix, "targetRef": ref, **spec}, born, None)


def virtual_server(key: Key = SELECTION, born: int = 0, **spec: object) -> Document:
    return _document(schema.VIRTUAL_SERVER, key, {"tools": ["myserver_time"], **spec}, born, None)


def secret(name: str, labelled: bool = True, inside: str = "mcp-test", **data: bytes) -> Document:
    labels = {schema.LABEL_CREDENTIAL: "true"} if labelled else None
    made = _document(schema.SECRET, Key(inside, name), None, 0, labels)
    packed = {key.replace("__", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return {**made, "data": packed}


def policy(service_name: str = SERVICE.name, section: str = "", **validation: object) -> Document:
    target = {"group": "", "kind": "Service", "name": service_name} | ({"sectionName": section} if section else {})
    spec = {"targetRefs": [target], "validation": {"hostname": "time.internal", **validation}}
    return _document(schema.BACKEND_TLS_POLICY, Key("mcp-test", "tls"), spec, 0, None)


@attrs.define
class Cluster:
    """Objects by kind and key."""

    settings: Settings = attrs.field(factory=Settings)
    access: dict[str, Access] = attrs.field(factory=lambda: {"mcp-test": Access.LISTED})
    objects: dict[tuple[Kind, Key], Document] = attrs.field(factory=dict)

    def put(self, *documents: Document) -> Self:
        """Create or replace objects."""
        for document in documents:
            kind = KINDS[document["kind"]]
            metadata = document["metadata"]
            self.objects[kind, Key(metadata.get("namespace", ""), metadata["name"])] = copy.deepcopy(document)
        return self

    def write_status(self, kind: Kind, key: Key, status: JsonObject) -> Self:
        """Replace the status of one object that exists, which has another version then."""
        found = self.objects[kind, key]
        found["status"] = copy.deepcopy(status)
        found["metadata"]["resourceVersion"] = str(int(found["metadata"]["resourceVersion"]) + 1)
        return self

    def drop(self, kind: Kind, key: Key) -> Self:
        """Delete one object that exists."""
        del self.objects[kind, key]
        return self

    def of(self, kind: Kind) -> list[Document]:
        """The objects of one kind."""
        return [document for (of, _), document in self.objects.items() if of == kind]

    def store(self) -> Store:
        """What a controller knows that has listed everything."""
        made = Store(settings=self.settings)
        self.fill(made)
        return made

    def fill(self, store: Store) -> None:
        """Let a store list everything, as after a lost watch."""
        for kind in schema.WATCHED:
            store.replace(kind, self.of(kind))
        for name, access in self.access.items():
            store.set_access(name, access)

    def carry_out(self, outcome: Outcome) -> Self:
        """Do what an outcome wants, as the API server would."""
        if outcome.status is not None:
            write = outcome.status
            self.write_status(write.kind, write.key, write.status)
        if outcome.route_status is not None:
            self.write_status(
                schema.HTTP_ROUTE, outcome.route_status.key, {"parents": list(outcome.route_status.parents)}
            )
        for apply in outcome.apply:
            document: Document = copy.deepcopy(apply.document)
            self.put({**document, "metadata": {**document["metadata"], "uid": f"new-{apply.key}"}})
        for delete in outcome.delete:
            self.drop(delete.kind, delete.key)
        for mark in outcome.listeners:
            for entry in self.objects[schema.GATEWAY, mark.gateway]["status"]["listeners"]:
                if entry["name"] == mark.listener:
                    entry["conditions"] = copy.deepcopy(list(mark.conditions))
        return self


def seed() -> Cluster:
    """The cluster of the user's own procedure when all of it has been applied, with what it presupposes."""
    return Cluster().put(
        namespace("mcp-test"),
        namespace("gateway-system"),
        gateway(),
        extension(),
        grant("gateway-system"),
        route(),
        service(),
        registration(),
    )


def report(pod: str = "pod-1", *, complete: bool = True, **parts: object) -> Report:
    """What a pod says; ``servers``, ``gateways`` and ``virtualServers`` are lists as its CRD has them."""
    spec: Document = {"pod": pod, "instance": "default", "complete": complete, **parts}
    made = READERS[schema.REPORT](Fields(_document(schema.REPORT, Key("mcp-system", pod), spec, 0, None)))
    assert isinstance(made, Report)
    return made


def server_said(revision: str, state: str = "Connected", key: Key = SERVER, **more: object) -> Document:
    """One entry of a report's ``servers``."""
    counted = {"tools": 3, "protocol": "2025-06-18"} if state == "Connected" else {}
    return {"name": str(key), "revision": revision, "state": state, **counted, **more}


def part_said(revision: str, key: Key = EXTENSION, state: str = "Loaded", **more: object) -> Document:
    """One entry of a report's ``gateways`` or ``virtualServers``."""
    return {"name": str(key), "revision": revision, "state": state, **more}


def heard(*reports: Report, first_at: float = 0.0, changed_at: float = NOW.at) -> Reports:
    """Reports that are alive."""
    return Reports(seen=tuple(Seen(report=one, first_at=first_at, changed_at=changed_at) for one in reports))


SILENCE: Final = Reports(none_since_at=NOW.at)
"""No pod has reported yet, which is no news yet."""
GONE: Final = Reports(none_since_at=0.0)
"""No pod has reported for too long."""
