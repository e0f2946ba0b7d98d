"""In which era a caller's requests go up at a backend that speaks more than one.

Owns the one decision about it. Deliberately finds nothing out (``supervisor`` and
``legacy_side`` do) and remembers nothing (``backend`` does). Pure. Invariant: the
outcome is an era that the backend speaks.

Why the client's own: what pushes a question to its client (``ctx.elicit`` and the like in
both SDKs), and what is kept per session, is there on a 2025 connection only; what answers
``input_required`` is there in 2026 only. Across the families the gateway bridges, which
serves every server that is written for one of them.
"""

import attrs

from mcp_gateway.protocol.eras import Family


@attrs.frozen(kw_only=True)
class Circumstances:
    """What the decision depends on."""

    spoken: frozenset[Family]
    """What the backend speaks, as far as is known, at least one; one that is pinned speaks that alone."""
    client: Family
    askable: bool
    """The client has declared sampling, elicitation or roots."""
    held: Family | None = None
    """Where the client session's earlier requests to this backend went."""
    sessionless: bool = False
    """On the 2025 side it gives no session id, so it can push nothing."""
    pipe: bool = False
    """Its one process (or HTTP+SSE connection), which speaks the newest era, is shared by all who cannot be asked."""
    room: bool = True
    """There is a place for an upstream session, or a process, of the client's own."""


def family_for(case: Circumstances) -> Family:
    """The family in which the requests go up; the other one is bridged."""
    if len(case.spoken) == 1:
        return next(iter(case.spoken))
    if case.held in case.spoken and case.held is not None:
        return case.held  # what the server keeps for a session must not be lost in the middle of it
    if case.client is Family.MODERN:
        return Family.MODERN
    if case.pipe:
        own = case.askable and case.room
        return Family.LEGACY if own else Family.MODERN
    if case.askable:  # where it has no session it cannot be asked, but bridged it can
        return Family.MODERN if case.sessionless else Family.LEGACY
    return Family.LEGACY if case.sessionless or case.room else Family.MODERN
