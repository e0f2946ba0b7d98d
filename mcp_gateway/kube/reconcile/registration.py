"""One MCPServerRegistration: its status, from what was decided of it and what the data plane says.

Owns its conditions and how they are summed up. Deliberately decides nothing about other objects.
Invariant: all five conditions are there from the first write; Ready is True only if every live pod is connected to the
server as it is configured now, and its tools are known.
"""

from collections.abc import Mapping
from typing import Final

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import Registration
from mcp_gateway.kube.reconcile import conditions
from mcp_gateway.kube.reconcile.backend import Backend, backends
from mcp_gateway.kube.reconcile.compile import document
from mcp_gateway.kube.reconcile.conditions import Now, Reason, Verdict, bad, good, kept, unknown
from mcp_gateway.kube.reconcile.membership import Membership, memberships
from mcp_gateway.kube.reconcile.outcome import NOTHING, Outcome, status_write
from mcp_gateway.kube.reconcile.reports import NOT_GIVEN, NOT_REPORTED, Folded, Reports, fold_server, no_data_plane
from mcp_gateway.kube.store import Settings, Store
from mcp_gateway.values import JsonObject, JsonValue

MAX_EXTENSIONS: Final = 16
_STATUS: Final = schema.GENERATION.status_fields
_DISABLED: Final = "server is disabled; set spec.state to Enabled to serve it"


def reconcile(key: Key, view: Store, reports: Reports, now: Now) -> Outcome:
    """What one registration wants: its status, if it is ours to write and not as it should be."""
    registration = view.registration(key)
    if registration is None:
        return NOTHING
    member = view.once(memberships)[key]
    if member.owner != view.settings.instance:
        return NOTHING
    backend = view.once(backends).get(key)
    revision = view.once(document).servers.get(key)
    accepted = _accepted(view, member, backend)
    resolved = member.resolved if backend is None or not member.resolved.holds else backend.resolved
    folded = _folded(registration, revision, reports, now, view.settings)
    verdicts = {
        schema.ACCEPTED: accepted,
        schema.RESOLVED_REFS: resolved,
        schema.PROGRAMMED: folded.programmed,
        schema.CONNECTED: folded.connected,
    }
    verdicts[schema.READY] = _ready(registration, verdicts, folded)
    write = status_write(
        schema.REGISTRATION,
        registration.meta,
        registration.status,
        verdicts,
        _fields(member, backend, folded),
        now,
        provisional=accepted.holds and resolved.holds and folded.programmed.status == "Unknown",
    )
    return Outcome(status=write)


def _accepted(view: Store, member: Membership, backend: Backend | None) -> Verdict:
    if (schema.REGISTRATION, member.registration.meta.key) in view.once(document).refused:
        return bad(
            Reason.CONFIG_TOO_LARGE,
            "the configuration of the gateway is full, and older registrations come first; delete some, or move this "
            "one to another instance of the gateway",
        )
    if backend is not None and backend.unsupported is not None and member.accepted.status != "False":
        return backend.unsupported
    return member.accepted


def _folded(registration: Registration, revision: str | None, reports: Reports, now: Now, settings: Settings) -> Folded:
    if revision is None:
        return _undecided(NOT_GIVEN)
    counting = reports.counting(now.at)
    if counting:
        folded = fold_server(str(registration.meta.key), revision, counting)
        return folded if registration.enabled else _disabled(folded)
    if reports.are_gone(now.at):
        return _undecided(no_data_plane(settings))
    return _as_before(registration)


def _undecided(programmed: Verdict) -> Folded:
    """No pod tells whether it is connected, for the reason that says why none has loaded it."""
    return Folded(programmed=programmed, connected=unknown(Reason.CONNECTING, programmed.message))


def _disabled(folded: Folded) -> Folded:
    return Folded(programmed=folded.programmed, connected=bad(Reason.DISABLED, _DISABLED))


def _as_before(registration: Registration) -> Folded:
    """A data plane that restarts is no news."""
    before, generation = registration.status, registration.meta.generation
    programmed = kept(before, schema.PROGRAMMED, generation)
    connected = kept(before, schema.CONNECTED, generation)
    if programmed is None or connected is None:
        return _undecided(NOT_REPORTED)
    tools, protocol = before.get(_STATUS.discovered_tools), before.get(_STATUS.protocol_version)
    error = before.get(_STATUS.last_error)
    return Folded(
        programmed=programmed,
        connected=connected,
        tools=tools if isinstance(tools, int) else None,
        protocol=protocol if isinstance(protocol, str) else "",
        last_error=error if isinstance(error, str) else "",
    )


def _ready(registration: Registration, verdicts: Mapping[str, Verdict], folded: Folded) -> Verdict:
    if not registration.enabled:
        return bad(Reason.DISABLED, _DISABLED)
    failing = conditions.first_failing(verdicts)
    if failing is not None:
        same = failing.reason == Reason.PREFIX_CONFLICT
        return bad(Reason.PREFIX_CONFLICT if same else Reason.NOT_READY, failing.message)
    if folded.tools is None:
        return bad(Reason.NOT_READY, "connected; wait, its tools are being discovered")
    return good(Reason.READY, f"{folded.tools} tools are served")


def _fields(member: Membership, backend: Backend | None, folded: Folded) -> dict[str, JsonValue]:
    extensions: list[JsonValue] = [
        _extension(place.claim.key, place.verdict, folded.tools) for place in member.places[:MAX_EXTENSIONS]
    ]
    return {
        _STATUS.discovered_tools: folded.tools,
        _STATUS.protocol_version: folded.protocol or None,
        _STATUS.endpoint: backend.endpoint or None if backend is not None else None,
        _STATUS.last_error: folded.last_error or None,
        _STATUS.extensions: extensions or None,
    }


def _extension(key: Key, verdict: Verdict, tools: int | None) -> JsonObject:
    made: JsonObject = {"namespace": key.namespace, "name": key.name, "accepted": verdict.holds}
    if not verdict.holds:
        made["reason"] = str(verdict.reason)
    elif tools is not None:
        made["tools"] = tools
    return made
