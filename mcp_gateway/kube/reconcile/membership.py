"""Which extensions each registration belongs to, and whose prefix is whose.

Owns the way registration -> HTTPRoute -> Gateway -> extension, and prefix conflicts. Deliberately does not look where
the route leads to. Invariant: a prefix belongs, within one extension, to the oldest registration that has it.

All registrations are judged together, oldest first.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.gateway_api import HTTPRoute, ParentRef
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import Registration
from mcp_gateway.kube.reconcile.attach import Attachment, Stage, attach
from mcp_gateway.kube.reconcile.claims import Claim, claims_of_gateway
from mcp_gateway.kube.reconcile.conditions import Reason, Verdict, bad, good, unknown
from mcp_gateway.kube.reconcile.grants import is_granted, missing_grant
from mcp_gateway.kube.store import Store

_GATEWAY: Final = (schema.GATEWAY.group, schema.GATEWAY.kind)


@attrs.frozen(kw_only=True)
class Place:
    """One extension, and whether it takes the registration."""

    claim: Claim
    verdict: Verdict


@attrs.frozen(kw_only=True)
class Parent:
    """One parentRef that leads to a Gateway with extensions."""

    ref: ParentRef
    verdict: Verdict
    claims: tuple[Claim, ...]
    """Whose verdict it is: those of the extensions that take the route, or come closest to it; oldest first."""


@attrs.frozen(kw_only=True)
class Membership:
    """Where one registration belongs."""

    registration: Registration
    resolved: Verdict
    """Whether the route may be referred to and is there."""
    accepted: Verdict
    route: HTTPRoute | None = None
    places: tuple[Place, ...] = ()
    """Oldest extension first."""
    parents: tuple[Parent, ...] = ()

    @property
    def owner(self) -> str:
        """The instance that writes its status: that of the oldest extension; the default one if there is none."""
        claims = [place.claim for place in self.places] or [one for parent in self.parents for one in parent.claims]
        return claims[0].extension.instance if claims else schema.DEFAULT_INSTANCE

    def served_by(self, instance: str) -> tuple[Claim, ...]:
        """The extensions of an instance that take it."""
        return tuple(
            place.claim for place in self.places if place.verdict.holds and place.claim.extension.instance == instance
        )


def memberships(view: Store) -> Mapping[Key, Membership]:
    """The membership of every registration, oldest first."""
    prefixes: dict[tuple[Key, str], Registration] = {}
    found = {}
    for registration in view.registrations():
        found[registration.meta.key] = _settle(_membership(view, registration), prefixes)
    return found


def members(view: Store) -> Mapping[Key, tuple[Membership, ...]]:
    """The registrations that each extension takes, oldest first."""
    found: dict[Key, tuple[Membership, ...]] = {}
    for member in view.once(memberships).values():
        for place in member.places:
            if place.verdict.holds:
                found[place.claim.key] = (*found.get(place.claim.key, ()), member)
    return found


def _membership(view: Store, registration: Registration) -> Membership:
    key, target = registration.meta.key, registration.route
    waits = unknown(Reason.PENDING, "waits for the HTTPRoute: see ResolvedRefs")
    if not is_granted(view, schema.REGISTRATION, key.namespace, schema.HTTP_ROUTE, target):
        why = missing_grant(schema.REGISTRATION, key.namespace, schema.HTTP_ROUTE, target)
        return Membership(registration=registration, resolved=bad(Reason.REF_NOT_PERMITTED, why), accepted=waits)
    route = view.route(target)
    if route is None:
        why = f"HTTPRoute {target} not found; create it or correct spec.targetRef"
        return Membership(registration=registration, resolved=bad(Reason.BACKEND_NOT_FOUND, why), accepted=waits)
    parents, places = _try_parents(view, route)
    verdicts = [parent.verdict for parent in parents]
    return Membership(
        registration=registration,
        resolved=good(Reason.RESOLVED_REFS, "every reference is resolved"),
        accepted=_worst(verdicts) or (_accepted(places) if parents else _no_extension(view, route)),
        route=route,
        places=places,
        parents=parents,
    )


def _no_extension(view: Store, route: HTTPRoute) -> Verdict:
    gateways = [str(parent.key) for parent in route.parents if (parent.group, parent.kind) == _GATEWAY]
    if not gateways:
        why = f"HTTPRoute {route.meta.key} has no Gateway among its parentRefs; add one"
        return bad(Reason.NO_MATCHING_PARENT, why)
    why = (
        f"no MCPGatewayExtension targets Gateway {' or '.join(dict.fromkeys(gateways))}, to which HTTPRoute "
        f"{route.meta.key} belongs; create an MCPGatewayExtension"
    )
    return bad(Reason.NO_MATCHING_PARENT, why)


def _accepted(places: Iterable[Place]) -> Verdict:
    names = ", ".join(str(place.claim.key) for place in places if place.verdict.holds)
    return good(Reason.ACCEPTED, f"accepted by MCPGatewayExtension {names}")


def _worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    failing = [verdict for verdict in verdicts if not verdict.holds]
    return min(failing, key=lambda verdict: verdict.status != "False", default=None)


# --- one route -------------------------------------------------------------------------------------------------------


def _try_parents(view: Store, route: HTTPRoute) -> tuple[tuple[Parent, ...], tuple[Place, ...]]:
    parents: list[Parent] = []
    places: dict[Key, Place] = {}
    for ref in route.parents:
        claimed = view.once(claims_of_gateway).get(ref.key, ())
        if (ref.group, ref.kind) != _GATEWAY or not claimed:
            continue
        parent, taken = _try_parent(view, route, ref, claimed)
        parents.append(parent)
        for place in taken:
            known = places.get(place.claim.key)
            if known is None or not known.verdict.holds:
                places[place.claim.key] = place
    by_age = sorted(places.values(), key=lambda place: place.claim.extension.meta.seniority)
    return tuple(parents), tuple(by_age)


def _try_parent(
    view: Store, route: HTTPRoute, ref: ParentRef, claimed: tuple[Claim, ...]
) -> tuple[Parent, tuple[Place, ...]]:
    """One parentRef is accepted if at least one extension takes the route."""
    labels = view.namespace_labels(route.meta.key.namespace)
    serving = [claim for claim in claimed if claim.serves]
    if not serving:
        return _pending(ref, claimed[0])
    tried: list[tuple[Claim, Attachment]] = []
    for claim in serving:
        assert claim.gateway is not None  # an extension that serves has one
        tried.append((claim, attach(route, ref, claim.gateway, claim.listeners, labels)))
    furthest = max(attachment.stage for _, attachment in tried)
    near = [(claim, attachment) for claim, attachment in tried if attachment.stage is furthest]
    verdict = near[0][1].verdict
    if furthest is Stage.PARENT:  # it leads to no listener of anybody: one of them has to say so
        return Parent(ref=ref, verdict=verdict, claims=(near[0][0],)), ()
    if furthest is Stage.ATTACHED:
        verdict = _vetoed(view, route, ref) or verdict
    places = tuple(Place(claim=claim, verdict=verdict) for claim, _ in near)
    return Parent(ref=ref, verdict=verdict, claims=tuple(place.claim for place in places)), places


def _pending(ref: ParentRef, claim: Claim) -> tuple[Parent, tuple[Place, ...]]:
    reason = claim.resolved if claim.resolved.status == "False" else claim.accepted
    why = f"MCPGatewayExtension {claim.key} is not accepted yet: {reason.message}"
    verdict = unknown(Reason.PENDING, why)
    return Parent(ref=ref, verdict=verdict, claims=(claim,)), (Place(claim=claim, verdict=verdict),)


def _vetoed(view: Store, route: HTTPRoute, parent: ParentRef) -> Verdict | None:
    """An implementation's explicit refusal of the present generation; ours is none."""
    for refusal in route.refusals:
        ours = refusal.controller.startswith(schema.CONTROLLER_NAME)
        if ours or refusal.parent != parent or refusal.generation != route.meta.generation:
            continue
        why = (
            f"{refusal.controller} does not accept HTTPRoute {route.meta.key} at {parent}: "
            f"{refusal.reason}: {refusal.message}; change what it refuses, or ask whoever runs it"
        )
        return bad(refusal.reason or Reason.NOT_ALLOWED_BY_LISTENERS, why)
    return None


# --- prefixes --------------------------------------------------------------------------------------------------------


def _settle(member: Membership, prefixes: dict[tuple[Key, str], Registration]) -> Membership:
    """Take the prefix at each place where it is free; the others are conflicts."""
    prefix = member.registration.prefix
    if not prefix:
        return member
    settled, conflicts = [], []
    for place in member.places:
        if place.verdict.holds:
            owner = prefixes.setdefault((place.claim.key, prefix), member.registration)
            if owner is not member.registration:
                place = attrs.evolve(place, verdict=_conflict(prefix, owner, place.claim))
                conflicts.append(place.verdict)
        settled.append(place)
    if not conflicts:
        return member
    serving = [str(place.claim.key) for place in settled if place.verdict.holds]
    also = f"; it is served by MCPGatewayExtension {', '.join(serving)}" if serving else ""
    accepted = bad(Reason.PREFIX_CONFLICT, conflicts[0].message + also)
    return attrs.evolve(member, places=tuple(settled), accepted=_worst([member.accepted]) or accepted)


def _conflict(prefix: str, owner: Registration, claim: Claim) -> Verdict:
    why = (
        f'conflict: prefix "{prefix}" is already used by MCPServerRegistration {owner.meta.key} in the same '
        f"MCPGatewayExtension ({claim.key}); delete this registration and create it with another prefix"
    )
    return bad(Reason.PREFIX_CONFLICT, why)
