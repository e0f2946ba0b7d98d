"""Where a registration's server is and how to speak to it: its entry of the configuration.

Owns the way rule -> Service -> address, TLS and credential. Deliberately resolves no name: the data plane checks every
address that it dials. Invariant: an entry is made only of what may be referred to and is there; it has everything that
the data plane needs, and nothing changes in it unless something changes for the server.

``url`` keeps the DNS name, for Host, SNI and certificates; ``connect`` is the address that is dialled.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.gateway_api import HTTPRoute
from mcp_gateway.kube.objects import Key, Service, ServicePort
from mcp_gateway.kube.own_objects import Registration
from mcp_gateway.kube.reconcile import secrets
from mcp_gateway.kube.reconcile.claims import Claim
from mcp_gateway.kube.reconcile.conditions import Reason, Verdict, bad, good
from mcp_gateway.kube.reconcile.grants import is_granted, missing_grant
from mcp_gateway.kube.reconcile.membership import Membership, memberships
from mcp_gateway.kube.reconcile.route import Choice, choose, header_refusal
from mcp_gateway.kube.store import Store
from mcp_gateway.values import JsonObject, JsonValue

HTTPS_PORT: Final = 443
_UNSUPPORTED: Final = frozenset(
    {"h2c", "ws", "wss", "grpc", "kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss"}
)


@attrs.frozen(kw_only=True)
class Address:
    """Where the server is."""

    scheme: str
    host: str
    port: int
    connect: str = ""
    external: bool = False
    """Outside the cluster, as far as one can tell: every address is checked before it is dialled."""
    server_name: str = ""
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Backend:
    """What became of one registration's server."""

    resolved: Verdict
    unsupported: Verdict | None = None
    """What Accepted says if the route asks for something that cannot be done."""
    entry: JsonObject | None = attrs.field(default=None, repr=False)
    """Without revision; None: it cannot be served."""
    ca_pem: str = ""
    endpoint: str = ""
    notes: tuple[str, ...] = ()


def backends(view: Store) -> Mapping[Key, Backend]:
    """The backend of every registration that an extension of this instance takes."""
    instance = view.settings.instance
    found = {}
    for key, member in view.once(memberships).items():
        claims = member.served_by(instance)
        if claims:
            found[key] = backend_of(view, member, claims)
    return found


def backend_of(view: Store, member: Membership, claims: tuple[Claim, ...]) -> Backend:
    """Look up everything that one registration refers to."""
    assert member.route is not None  # it belongs to an extension by its route
    registration = member.registration
    choice = choose(member.route, registration.path)
    if isinstance(choice, Verdict):
        return Backend(resolved=_resolved(), unsupported=choice)
    refused = _refuse_headers(registration)
    if refused is not None:
        return Backend(resolved=_resolved(), unsupported=refused)
    address = _address(view, member.route, choice, forced_tls=registration.ca is not None)
    if isinstance(address, Verdict):
        return Backend(resolved=address)
    return _with_secrets(view, member, claims, choice, address)


def _with_secrets(
    view: Store, member: Membership, claims: tuple[Claim, ...], choice: Choice, address: Address
) -> Backend:
    registration, namespace = member.registration, member.registration.meta.key.namespace
    credential, ca = secrets.Found[str](), secrets.Found[str]()
    if registration.credential is not None:
        credential = secrets.credential(view, namespace, registration.credential)
    if registration.ca is not None:
        ca = secrets.authorities(view, namespace, registration.ca)
    endpoint = f"{address.scheme}://{address.host}:{address.port}{choice.path}"
    verdict = credential.verdict or ca.verdict
    if credential.value is not None and address.external and address.scheme == "http":
        why = (
            f"a credential is never sent over plain HTTP to {address.host}, which is outside the cluster; "
            "name the Service's port https, or give no credentialRef"
        )
        return Backend(resolved=bad(Reason.UNSUPPORTED_PROTOCOL, why), endpoint=endpoint)
    lacks = (registration.credential is not None and credential.value is None) or (
        registration.ca is not None and ca.value is None
    )
    if lacks:
        return Backend(resolved=verdict or _resolved(), endpoint=endpoint)
    notes = (*choice.notes, *address.notes)
    return Backend(
        resolved=verdict or _resolved(notes),
        entry=_entry(registration, claims, choice, address, credential.value, own_ca=ca.value is not None),
        ca_pem=_trusted(ca.value or "", claims) if address.scheme == "https" else "",
        endpoint=endpoint.partition("?")[0],
        notes=notes,
    )


def _resolved(notes: Iterable[str] = ()) -> Verdict:
    return good(Reason.RESOLVED_REFS, "; ".join(("every reference is resolved", *notes)))


def _refuse_headers(registration: Registration) -> Verdict | None:
    names = registration.settings.get("forwardHeaders")
    for name in names if isinstance(names, list) else ():
        why = header_refusal(str(name))
        if why is not None:
            return bad(Reason.UNSUPPORTED_VALUE, f"spec.forwardHeaders: {why}; remove it from the list")
    return None


def _trusted(own: str, claims: tuple[Claim, ...]) -> str:
    """The authorities of the registration and of every extension that serves it; each once."""
    return "".join(dict.fromkeys(pem for pem in (own, *(claim.ca_pem for claim in claims)) if pem))


# --- address ---------------------------------------------------------------------------------------------------------


def _address(view: Store, route: HTTPRoute, choice: Choice, *, forced_tls: bool) -> Address | Verdict:
    backend = choice.backend
    if (backend.group, backend.kind) == (schema.ISTIO_GROUP, schema.HOSTNAME_KIND):
        return _refuse_external(view, backend.key.name, route) or Address(
            scheme="https",
            host=choice.host or backend.key.name.lower(),
            port=backend.port or HTTPS_PORT,
            connect=_absolute(backend.key.name.lower()),
            external=True,
        )
    if (backend.group, backend.kind) != (schema.SERVICE.group, schema.SERVICE.kind):
        why = (
            f"HTTPRoute {route.meta.key}: unsupported backend reference kind: {backend.kind}"
            f"{f' of group {backend.group}' if backend.group else ''}; refer to a Service"
        )
        return bad(Reason.INVALID_KIND, why)
    if backend.key == Key(view.settings.namespace, schema.DATA_PLANE):
        why = (
            f"HTTPRoute {route.meta.key} leads to the gateway itself, which would serve itself without end; "
            "refer to the Service of an MCP server"
        )
        return bad(Reason.REF_NOT_PERMITTED, why)
    namespace = route.meta.key.namespace
    if not is_granted(view, schema.HTTP_ROUTE, namespace, schema.SERVICE, backend.key):
        why = missing_grant(schema.HTTP_ROUTE, namespace, schema.SERVICE, backend.key)
        return bad(Reason.REF_NOT_PERMITTED, why)
    service = view.service(backend.key)
    if service is None:
        why = f"Service {backend.key} not found; create it or correct the backendRef of HTTPRoute {route.meta.key}"
        return bad(Reason.BACKEND_NOT_FOUND, why)
    return _service_address(view, route, choice, service, forced_tls=forced_tls)


def _service_address(
    view: Store, route: HTTPRoute, choice: Choice, service: Service, *, forced_tls: bool
) -> Address | Verdict:
    key = service.meta.key
    port = next((one for one in service.ports if one.number == choice.backend.port), None)
    external = service.type == "ExternalName"
    if port is None and not (external and choice.backend.port and not service.ports):
        there = ", ".join(str(one.number) for one in service.ports) or "none"
        why = f"Service {key} has no port {choice.backend.port}; it has {there}: correct the backendRef or the Service"
        return bad(Reason.BACKEND_NOT_FOUND, why)
    port = port or ServicePort(number=choice.backend.port or 0)
    if port.app_protocol in _UNSUPPORTED:
        why = f"Service {key} port {port.number} has appProtocol {port.app_protocol}; set it to http or https"
        return bad(Reason.UNSUPPORTED_PROTOCOL, why)
    tls, server_name, notes = _tls(view, key, port)
    scheme = "https" if tls or forced_tls else "http"
    name = f"{key.name}.{key.namespace}.svc.{view.settings.cluster_domain}"
    if external:
        target = service.external_name
        return _refuse_external(view, target, route) or Address(
            scheme=scheme,
            host=choice.host or target,
            port=port.number,
            connect=_absolute(target),
            external=True,
            server_name=server_name,
            notes=notes,
        )
    headless = service.cluster_ip in ("", "None")
    connect = service.cluster_ip if not headless else (name if choice.host else "")
    return Address(
        scheme=scheme,
        host=choice.host or name,
        port=port.number,
        connect=connect,
        server_name=server_name,
        notes=notes,
    )


def _absolute(host: str) -> str:
    """A host outside, without the search domains of the cluster; an address is none of DNS's names."""
    bare = host.rstrip(".")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return f"{bare}."
    return bare


def _tls(view: Store, key: Key, port: ServicePort) -> tuple[bool, str, tuple[str, ...]]:
    """Whether the port speaks TLS, the name to check, and what a policy asks for that is not done."""
    for policy in view.policies(key.namespace):
        if any(name == key.name and section in ("", port.name) for name, section in policy.services):
            why = (
                f"the certificates that BackendTLSPolicy {policy.meta.key} names are not read; "
                "put them into a Secret and name it in caCertSecretRef"
            )
            return True, policy.hostname, (why,) if policy.names_certificates else ()
    return "https" in (port.app_protocol, port.name.lower()), "", ()


def _refuse_external(view: Store, host: str, route: HTTPRoute) -> Verdict | None:
    domain = view.settings.cluster_domain
    folded = host.lower().rstrip(".")
    if not view.settings.external_backends:
        why = (
            f"HTTPRoute {route.meta.key} leads to {host}, and this gateway serves no server outside the cluster "
            "(its controller has --no-external-backends); refer to a Service of the cluster"
        )
        return bad(Reason.REF_NOT_PERMITTED, why)
    if not folded:
        why = f"HTTPRoute {route.meta.key} leads to a Service of type ExternalName without a name; set externalName"
        return bad(Reason.BACKEND_NOT_FOUND, why)
    if folded.endswith((".svc", f".{domain}")):
        why = (
            f"HTTPRoute {route.meta.key} leads to {host}, a name inside the cluster; refer to that Service itself, "
            "with a ReferenceGrant if it is in another namespace"
        )
        return bad(Reason.REF_NOT_PERMITTED, why)
    return None


# --- entry -----------------------------------------------------------------------------------------------------------


def _entry(
    registration: Registration,
    claims: tuple[Claim, ...],
    choice: Choice,
    address: Address,
    credential: str | None,
    *,
    own_ca: bool,
) -> JsonObject:
    made: JsonObject = {
        "name": str(registration.meta.key),
        "url": f"{address.scheme}://{address.host}:{address.port}{choice.path}",
        "prefix": registration.prefix,
        "state": "enabled" if registration.enabled else "disabled",
        **registration.settings,
    }
    requires: list[JsonValue] = []
    if address.connect:
        made["connect"] = address.connect
    if address.external:
        made["external"] = True
        requires.append("external")
    if "tools" in made:
        requires.append("tools")
    if credential is not None:
        made["credential"] = {"value": credential}
    if choice.headers:
        made["headers"] = dict(choice.headers)
    _set_forwarded(made, choice)
    _set_defaults(made, claims, choice)
    if address.scheme == "https":
        tls: JsonObject = {"systemAuthorities": not own_ca}
        if address.server_name:
            tls["serverName"] = address.server_name
        made["tls"] = tls
    if requires:
        made["requires"] = requires
    return made


def _set_forwarded(made: JsonObject, choice: Choice) -> None:
    """A header that the route sets or removes is not the client's to send."""
    names = made.pop("forwardHeaders", None)
    own = choice.removed_headers | {name.lower() for name, _ in choice.headers}
    kept: list[JsonValue] = []
    for name in names if isinstance(names, list) else ():
        folded = str(name).lower()
        if folded not in own and folded not in kept:
            kept.append(folded)
    if kept:
        made["forwardHeaders"] = kept


def _set_defaults(made: JsonObject, claims: tuple[Claim, ...], choice: Choice) -> None:
    """What the registration leaves open, its route and its extensions may say."""
    if choice.timeout_ms is not None:
        whole_s, rest_ms = divmod(choice.timeout_ms, 1000)
        call = f"{choice.timeout_ms}ms" if rest_ms else f"{whole_s}s"
        made["timeouts"] = {"call": call, **_section(made, "timeouts")}
    pings = [claim.extension.ping_interval_s for claim in claims if claim.extension.ping_interval_s is not None]
    if pings:
        made["health"] = {"interval": f"{min(pings)}s", **_section(made, "health")}


def _section(made: JsonObject, name: str) -> JsonObject:
    found = made.get(name)
    return found if isinstance(found, dict) else {}
