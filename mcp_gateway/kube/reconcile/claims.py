"""What each extension claims of its Gateway: a namespace, ports, hosts. The oldest wins every conflict.

Owns the scope of extensions and the conflicts between them. Deliberately looks at no registration. Invariant: one
extension per namespace, one per Gateway and port, and each host belongs to one extension of an instance; whoever loses
is told who won, claims nothing, and takes over when the winner goes.

All extensions are judged together, oldest first, because each verdict depends on those before.
"""

from collections.abc import Mapping
from typing import Final

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.gateway_api import Gateway, Listener
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import Extension
from mcp_gateway.kube.reconcile.attach import HTTP_PROTOCOLS, admits
from mcp_gateway.kube.reconcile.conditions import Reason, Verdict, bad, good, unknown
from mcp_gateway.kube.reconcile.grants import is_granted, missing_grant
from mcp_gateway.kube.reconcile.secrets import authorities
from mcp_gateway.kube.store import Store

EVERY_HOST: Final = "*"
"""What an extension claims whose listeners name no host: every host that nobody claims more exactly."""


@attrs.frozen(kw_only=True)
class Claim:
    """One extension, and what it has a right to."""

    extension: Extension
    accepted: Verdict
    resolved: Verdict
    gateway: Gateway | None = None
    listeners: tuple[Listener, ...] = ()
    """In scope."""
    hosts: tuple[str, ...] = ()
    ca_pem: str = ""
    """The authorities of its bundle."""
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """Of the extension."""
        return self.extension.meta.key

    @property
    def serves(self) -> bool:
        """Whether servers can be served there."""
        return self.accepted.holds


@attrs.define
class _Register:
    """What is taken, while extensions are judged from the oldest to the youngest."""

    namespaces: dict[str, Extension] = attrs.field(factory=dict)
    ports: dict[tuple[Key, int], tuple[Extension, Listener]] = attrs.field(factory=dict)
    hosts: dict[tuple[str, str], Extension] = attrs.field(factory=dict)


def claims(view: Store) -> Mapping[Key, Claim]:
    """The claim of every extension of every instance, oldest first."""
    register = _Register()
    return {extension.meta.key: _claim(view, extension, register) for extension in view.extensions()}


def claims_of_gateway(view: Store) -> Mapping[Key, tuple[Claim, ...]]:
    """The claims on each Gateway, oldest first."""
    found: dict[Key, tuple[Claim, ...]] = {}
    for claim in view.once(claims).values():
        found[claim.extension.gateway] = (*found.get(claim.extension.gateway, ()), claim)
    return found


def _claim(view: Store, extension: Extension, register: _Register) -> Claim:
    key, target = extension.meta.key, extension.gateway
    refused = _refuse_namespace(extension, register)
    if refused is not None:
        return Claim(extension=extension, accepted=refused, resolved=_not_looked_up())
    if not is_granted(view, schema.EXTENSION, key.namespace, schema.GATEWAY, target):
        why = f"invalid: {missing_grant(schema.EXTENSION, key.namespace, schema.GATEWAY, target)}"
        waits = unknown(Reason.PENDING, "waits for the ReferenceGrant: see ResolvedRefs")
        return Claim(extension=extension, accepted=waits, resolved=bad(Reason.REF_NOT_PERMITTED, why))
    gateway = view.gateway(target)
    if gateway is None:
        why = f"invalid: gateway target {target} not found; create the Gateway or correct spec.targetRef"
        return Claim(extension=extension, accepted=bad(Reason.NO_MATCHING_PARENT, why), resolved=_not_looked_up())
    return _claim_of(view, extension, gateway, register)


def _claim_of(view: Store, extension: Extension, gateway: Gateway, register: _Register) -> Claim:
    resolved, ca_pem = _bundle(view, extension)
    listeners = _scope(extension, gateway)
    refused = _refuse_listeners(view, extension, gateway, listeners) or _refuse_ports(extension, listeners, register)
    if refused is not None:
        return Claim(extension=extension, gateway=gateway, accepted=refused, resolved=resolved)
    hosts, notes = _hosts(extension, listeners, register)
    if not hosts:
        return Claim(
            extension=extension, gateway=gateway, accepted=bad(Reason.HOST_CONFLICT, notes[0]), resolved=resolved
        )
    for listener in listeners:
        register.ports.setdefault((extension.gateway, listener.port), (extension, listener))
    for host in hosts:
        register.hosts[extension.instance, host] = extension
    scope = ", ".join(f"{one.name} ({one.port})" for one in listeners)
    return Claim(
        extension=extension,
        gateway=gateway,
        accepted=good(Reason.ACCEPTED, "; ".join((f"serves listeners {scope} of Gateway {gateway.meta.key}", *notes))),
        resolved=resolved,
        listeners=listeners,
        hosts=hosts,
        ca_pem=ca_pem,
        notes=notes,
    )


def _not_looked_up() -> Verdict:
    return unknown(Reason.PENDING, "not looked up: see Accepted")


def _refuse_namespace(extension: Extension, register: _Register) -> Verdict | None:
    namespace = extension.meta.key.namespace
    first = register.namespaces.setdefault(namespace, extension)
    if first is extension:
        return None
    return bad(
        Reason.CONFLICTED,
        f"conflict: namespace {namespace} already has MCPGatewayExtension {first.meta.key.name} "
        "(only one per namespace allowed); delete one of them",
    )


def _scope(extension: Extension, gateway: Gateway) -> tuple[Listener, ...]:
    """All HTTP listeners on the named listener's port, or of the whole Gateway."""
    http = tuple(one for one in gateway.listeners if one.protocol in HTTP_PROTOCOLS)
    if not extension.section:
        return http
    ports = {one.port for one in http if one.name == extension.section}
    return tuple(one for one in http if one.port in ports)


def _refuse_listeners(
    view: Store, extension: Extension, gateway: Gateway, listeners: tuple[Listener, ...]
) -> Verdict | None:
    there = ", ".join(f"{one.name} ({one.protocol} {one.port})" for one in gateway.listeners) or "none"
    if not listeners:
        what = f'listener "{extension.section}"' if extension.section else "an HTTP or HTTPS listener"
        next_ = "correct spec.targetRef.sectionName" if extension.section else "ask its owner for one"
        why = f"invalid: {what} not found on gateway {gateway.meta.key}; it has {there}; {next_}"
        return bad(Reason.NO_MATCHING_PARENT, why)
    namespace = extension.meta.key.namespace
    labels = view.namespace_labels(namespace)
    entrances = [one for one in listeners if extension.section in ("", one.name)]
    if any(admits(one, namespace, gateway, labels) for one in entrances):
        return None
    names = ", ".join(f'"{one.name}"' for one in entrances)
    why = (
        f'invalid: listener {names} on gateway {gateway.meta.key} does not allow routes from namespace "{namespace}"; '
        "ask its owner to change allowedRoutes of the listener"
    )
    return bad(Reason.NOT_ALLOWED_BY_LISTENERS, why)


def _refuse_ports(extension: Extension, listeners: tuple[Listener, ...], register: _Register) -> Verdict | None:
    for listener in listeners:
        taken = register.ports.get((extension.gateway, listener.port))
        if taken is not None:
            owner, through = taken
            why = (
                f"conflict: listener port {listener.port} on gateway {extension.gateway} is already configured by "
                f"MCPGatewayExtension {owner.meta.key} (listener {through.name}); "
                "set spec.targetRef.sectionName to a listener on another port"
            )
            return bad(Reason.CONFLICTED, why)
    return None


def _hosts(
    extension: Extension, listeners: tuple[Listener, ...], register: _Register
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The hosts that are free, and a note for each that is not."""
    wanted = (extension.public_host,) if extension.public_host else tuple(one.hostname for one in listeners)
    free, notes = [], []
    for host in dict.fromkeys(one or EVERY_HOST for one in wanted):
        owner = register.hosts.get((extension.instance, host))
        if owner is None:
            free.append(host)
        else:
            what = "every host that nobody else claims" if host == EVERY_HOST else f"host {host}"
            notes.append(
                f"conflict: {what} already belongs to MCPGatewayExtension {owner.meta.key}; "
                "set spec.publicHost to a host of its own"
            )
    return tuple(free), tuple(notes)


def _bundle(view: Store, extension: Extension) -> tuple[Verdict, str]:
    if extension.ca_bundle is None:
        return good(Reason.RESOLVED_REFS, "every reference is resolved"), ""
    found = authorities(view, extension.meta.key.namespace, extension.ca_bundle)
    return found.verdict or good(Reason.RESOLVED_REFS, "every reference is resolved"), found.value or ""
