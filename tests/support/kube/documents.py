"""The documents of a registration: Gateway, extension, grant, Service, route, Secret and the registration itself.

Owns builders whose defaults are the usual case. Deliberately nothing that a cluster fills in. Invariant: each passes
strict validation.
"""

from typing import Final

from tests.support.kube.objects import Document

PORT: Final = 9090
GATEWAY_API: Final = "gateway.networking.k8s.io"
OURS: Final = "mcp.kagenti.com"


def document(kind: str, namespace: str, name: str, spec: Document | None = None, **more: object) -> Document:
    """An object of the usual version of its kind."""
    versions = {"Gateway": "v1", "HTTPRoute": "v1", "ReferenceGrant": "v1beta1"}
    if kind in versions:
        version = f"{GATEWAY_API}/{versions[kind]}"
    else:
        version = f"{OURS}/v1alpha1" if kind.startswith("MCP") else "v1"
    metadata: Document = {"name": name} | ({"namespace": namespace} if namespace else {})
    made: Document = {"apiVersion": version, "kind": kind, "metadata": metadata, **more}
    return made if spec is None else {**made, "spec": spec}


def listener(name: str = "mcp", host: str = "", port: int = 8080, **more: object) -> Document:
    """One that takes routes of every namespace."""
    made = {"name": name, "port": port, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}, **more}
    return made | ({"hostname": host} if host else {})


def gateway(namespace: str, *listeners: Document) -> Document:
    """Nobody implements it."""
    return document("Gateway", namespace, "gateway", {"gatewayClassName": "none", "listeners": list(listeners)})


def extension(namespace: str, target: str = "", name: str = "extension", section: str = "", **spec: object) -> Document:
    """Of the Gateway in the namespace ``target``, its own where nothing is said."""
    ref = {"group": GATEWAY_API, "kind": "Gateway", "name": "gateway", "namespace": target or namespace}
    return document(
        "MCPGatewayExtension",
        namespace,
        name,
        {"targetRef": ref | ({"sectionName": section} if section else {}), **spec},
    )


def grant(inside: str, of: str, kind: str = "MCPGatewayExtension", to: str = "Gateway") -> Document:
    """Objects of a kind in the namespace ``of`` may refer to those of another kind ``inside``."""
    groups = {"MCPGatewayExtension": OURS, "MCPServerRegistration": OURS, "Gateway": GATEWAY_API}
    source = {"group": groups.get(kind, GATEWAY_API), "kind": kind, "namespace": of}
    target = {"group": groups.get(to, ""), "kind": to}
    return document("ReferenceGrant", inside, f"for-{of}", {"from": [source], "to": [target]})


def service(namespace: str, name: str, port_name: str = "http", port: int = PORT) -> Document:
    """Without a selector: the test itself listens on its address."""
    return document("Service", namespace, name, {"ports": [{"name": port_name, "port": port}]})


def route(namespace: str, name: str, target: str = "", section: str = "", host: str = "", port: int = PORT) -> Document:
    """To the Service of the same name, at the Gateway in the namespace ``target``."""
    parent = {"name": "gateway", "namespace": target or namespace} | ({"sectionName": section} if section else {})
    spec = {"parentRefs": [parent], "rules": [{"backendRefs": [{"name": name, "port": port}]}]}
    return document("HTTPRoute", namespace, name, spec | ({"hostnames": [host]} if host else {}))


def registration(namespace: str, name: str, prefix: str = "", to: str = "", **spec: object) -> Document:
    """Of the HTTPRoute ``to``, that of its own name where nothing is said."""
    ref = {"group": GATEWAY_API, "kind": "HTTPRoute", "name": to or name}
    own: Document = {"targetRef": ref, **spec} | ({"prefix": prefix} if prefix else {})
    return document("MCPServerRegistration", namespace, name, own)


def secret(namespace: str, name: str, labelled: bool = True, **values: str) -> Document:
    """One whose owner lets us read it; ``_`` in a key stands for a dot."""
    made = document("Secret", namespace, name)
    made["stringData"] = {key.replace("_", "."): value for key, value in values.items()}
    made["metadata"]["labels"] = {f"{OURS}/credential": "true"} if labelled else {}
    return made
