"""Conditions: what was decided, why, and what to do next.

Owns the reasons, the summing up into Ready, and how a new set of conditions follows an old one. Deliberately decides
nothing about objects. Invariant: equal verdicts for an equal generation give a status that is equal to the one before,
so nothing is written; ``lastTransitionTime`` changes only with the status of its condition.

Kubernetes API conventions, "Typical status properties"; kstatus for ``Stalled`` and ``observedGeneration``.
"""

import datetime
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.values import JsonObject, JsonValue

MAX_MESSAGE_CHARACTERS: Final = 2048


class Reason(StrEnum):
    """Every reason of our own; an implementation's refusal of a route keeps its own word."""

    ACCEPTED = "Accepted"
    PENDING = "Pending"
    NO_MATCHING_PARENT = "NoMatchingParent"
    NOT_ALLOWED_BY_LISTENERS = "NotAllowedByListeners"
    NO_MATCHING_LISTENER_HOSTNAME = "NoMatchingListenerHostname"
    UNSUPPORTED_VALUE = "UnsupportedValue"
    PREFIX_CONFLICT = "PrefixConflict"
    HOST_CONFLICT = "HostConflict"
    CONFLICTED = "Conflicted"
    CONFIG_TOO_LARGE = "ConfigTooLarge"

    RESOLVED_REFS = "ResolvedRefs"
    BACKEND_NOT_FOUND = "BackendNotFound"
    INVALID_KIND = "InvalidKind"
    REF_NOT_PERMITTED = "RefNotPermitted"
    UNSUPPORTED_PROTOCOL = "UnsupportedProtocol"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_INVALID = "SecretInvalid"

    PROGRAMMED = "Programmed"
    IN_USE = "InUseByMCPServerRegistration"
    NO_DATA_PLANE = "NoDataPlane"
    INVALID_ENTRY = "InvalidEntry"
    UNSUPPORTED_FEATURE = "UnsupportedFeature"

    CONNECTED = "Connected"
    CONNECTING = "Connecting"
    PARTIALLY_CONNECTED = "PartiallyConnected"
    CONNECTION_FAILED = "ConnectionFailed"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    PROTOCOL_ERROR = "ProtocolError"

    READY = "Ready"
    NOT_READY = "NotReady"
    DISABLED = "Disabled"
    VALID_EXTENSION = "ValidMCPGatewayExtension"
    INVALID_EXTENSION = "InvalidMCPGatewayExtension"
    REFERENCE_GRANT_REQUIRED = "ReferenceGrantRequired"
    DEPLOYMENT_NOT_READY = "DeploymentNotReady"


STALLING: Final = frozenset(
    {
        Reason.UNSUPPORTED_VALUE,
        Reason.PREFIX_CONFLICT,
        Reason.HOST_CONFLICT,
        Reason.CONFLICTED,
        Reason.CONFIG_TOO_LARGE,
        Reason.INVALID_KIND,
        Reason.UNSUPPORTED_PROTOCOL,
        Reason.INVALID_ENTRY,
    }
)
"""What no object that is still to come mends: kstatus then says Failed and a roll-out need not wait any longer."""

_OWN: Final = frozenset(
    {schema.ACCEPTED, schema.RESOLVED_REFS, schema.PROGRAMMED, schema.CONNECTED, schema.READY, schema.STALLED}
)
_FIELDS: Final = frozenset(attrs.asdict(schema.GENERATION.status_fields).values())


@attrs.frozen(kw_only=True)
class Now:
    """The present, on two clocks."""

    at: float
    """Seconds of the process's own clock."""
    unix_s: float
    """Seconds of the wall clock."""


@attrs.frozen
class Verdict:
    """One condition, without its type and times."""

    status: str
    reason: str
    message: str

    @property
    def holds(self) -> bool:
        """Whether the condition is True."""
        return self.status == "True"


def good(reason: Reason, message: str) -> Verdict:
    """The condition is True."""
    return Verdict("True", reason, message)


def bad(reason: str, message: str) -> Verdict:
    """The condition is False."""
    return Verdict("False", reason, message)


def unknown(reason: Reason, message: str) -> Verdict:
    """The condition is Unknown: something that decides it has not been heard of yet."""
    return Verdict("Unknown", reason, message)


def first_failing(verdicts: Mapping[str, Verdict]) -> Verdict | None:
    """The first that is False, else the first that is Unknown: a problem explains more than an open question."""
    for status in ("False", "Unknown"):
        for verdict in verdicts.values():
            if verdict.status == status:
                return verdict
    return None


def is_stalled(verdicts: Mapping[str, Verdict]) -> bool:
    """Whether only a change of what the user wrote can help."""
    return any(verdict.status == "False" and verdict.reason in STALLING for verdict in verdicts.values())


def kept(status: JsonObject, type_: str, generation: int) -> Verdict | None:
    """What an earlier status says of one condition, if it was decided for the same generation."""
    found = _by_type(status).get(type_)
    if found is None or found.get("observedGeneration") != generation:
        return None
    return Verdict(str(found.get("status")), str(found.get("reason")), str(found.get("message")))


def status_after(
    before: JsonObject, verdicts: Mapping[str, Verdict], generation: int, now: Now, **fields: JsonValue
) -> JsonObject:
    """The status that follows another.

    Args:
        before: the status as it is.
        verdicts: every condition by type, in the order in which they are shown.
        generation: of the object that was looked at.
        fields: the other members; those that are None are left out.
    Returns:
        A whole status, equal to ``before`` if nothing has changed.
    """
    wanted = dict(verdicts)
    if is_stalled(verdicts):
        failing = first_failing({type_: one for type_, one in verdicts.items() if one.reason in STALLING})
        assert failing is not None
        wanted[schema.STALLED] = Verdict("True", failing.reason, failing.message)
    made: list[JsonValue] = [_condition(before, type_, verdict, generation, now) for type_, verdict in wanted.items()]
    names = schema.GENERATION.status_fields
    given = {name: value for name, value in fields.items() if value is not None}
    return {names.observed_generation: generation, names.conditions: made, **given}


def is_new(status: JsonObject) -> bool:
    """Whether nobody has decided anything yet: a status that is absent, or the one that the CRD begins with."""
    return schema.GENERATION.status_fields.observed_generation not in status


def is_said(before: JsonObject, wanted: JsonObject) -> bool:
    """Whether a status says all that is wanted, and nothing of ours besides; what others put there is theirs."""
    name = schema.GENERATION.status_fields.conditions
    ours = {key: value for key, value in before.items() if key in _FIELDS}
    known, new = _by_type(before), _by_type(wanted)
    mine = {type_: one for type_, one in known.items() if type_ in new or type_ in _OWN}
    return mine == new and {**ours, name: None} == {**wanted, name: None}


def conditions_after(before: JsonObject, verdicts: Mapping[str, Verdict], generation: int, now: Now) -> list[JsonValue]:
    """The conditions that follow those in an object's ``conditions``."""
    return [_condition(before, type_, verdict, generation, now) for type_, verdict in verdicts.items()]


def _condition(before: JsonObject, type_: str, verdict: Verdict, generation: int, now: Now) -> JsonObject:
    known = _by_type(before).get(type_, {})
    since = known.get("lastTransitionTime") if known.get("status") == verdict.status else None
    return {
        "type": type_,
        "status": verdict.status,
        "reason": str(verdict.reason),
        "message": verdict.message[:MAX_MESSAGE_CHARACTERS],
        "observedGeneration": generation,
        "lastTransitionTime": since if isinstance(since, str) else rfc3339(now.unix_s),
    }


def _by_type(status: JsonObject) -> dict[str, JsonObject]:
    found = status.get(schema.GENERATION.status_fields.conditions)
    if not isinstance(found, list):
        return {}
    return {str(one.get("type")): one for one in found if isinstance(one, dict)}


def rfc3339(unix_s: float) -> str:
    """A time as Kubernetes writes it, to the second."""
    return datetime.datetime.fromtimestamp(int(unix_s), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
