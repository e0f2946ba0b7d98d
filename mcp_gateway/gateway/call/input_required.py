"""What a 2026 backend's interim result asks for, and whether its client may be asked.

Owns reading and judging ``InputRequiredResult``. Deliberately asks nobody
(``questionnaire`` does; 2026 clients read it themselves). Pure. Invariant: what
passes holds only whole questions of kinds that this client has declared.

Spec: MCP 2026-07-28 basic/patterns/mrtr.
"""

from collections.abc import Mapping
from typing import Final

import attrs

from mcp_gateway.errors import RemoteFault
from mcp_gateway.gateway.server_requests import CAPABILITY, MAX_OPEN, allowed
from mcp_gateway.protocol import json_text, splice
from mcp_gateway.values import JsonObject

MAX_BYTES: Final = json_text.MAX_PARSED_BYTES
"""Of all questions of one round, which are parsed: that is loop time."""


@attrs.frozen(kw_only=True)
class Question:
    """One value of ``inputRequests``."""

    method: str
    params: bytes = attrs.field(repr=False)
    """Raw JSON, an object."""
    value: JsonObject = attrs.field(repr=False)
    """The same, parsed."""


@attrs.frozen(kw_only=True)
class InputRequired:
    """A 2026 backend's interim result."""

    questions: Mapping[str, Question]
    state: bytes | None
    """Raw JSON; None: there is none to send back."""

    def undeclared(self, capabilities: JsonObject) -> Question | None:
        """A question that a client with these capabilities may not be asked; None: it may be asked all.

        "Servers MUST NOT send an inputRequests that the client has not declared support for in its capabilities."
        """
        return next((one for one in self.questions.values() if not allowed(one.method, one.value, capabilities)), None)


def read(result: bytes) -> InputRequired:
    """The parts of an interim result.

    Raises:
        RemoteFault: it asks for nothing, for too much at once, or for what is no question.
    """
    found = splice.members(result)
    state = found.find("requestState")
    asked = found.find("inputRequests")
    questions = {} if asked is None else _questions(result[asked.value_start : asked.value_end])
    raw_state = None if state is None else result[state.value_start : state.value_end]
    if raw_state == b"null":  # what careless servers write for "none"
        raw_state = None
    # "Servers MUST include at least one of inputRequests or requestState in every InputRequiredResult response."
    if not questions and raw_state is None:
        raise RemoteFault(what="an input_required result that asks for nothing")
    return InputRequired(questions=questions, state=raw_state)


def _questions(raw: bytes) -> dict[str, Question]:
    if raw == b"null":
        return {}
    if not raw.startswith(b"{"):
        raise RemoteFault(what="inputRequests is no object")
    if len(raw) > MAX_BYTES:
        raise RemoteFault(what=f"inputRequests of more than {MAX_BYTES} bytes")
    found = {member.key: raw[member.value_start : member.value_end] for member in splice.members(raw)}
    if len(found) > MAX_OPEN:
        raise RemoteFault(what=f"more than {MAX_OPEN} inputRequests at once")
    return {key: _question(one) for key, one in found.items()}


def _question(raw: bytes) -> Question:
    """ "values are request objects that MUST be one of ElicitRequest, CreateMessageRequest, or ListRootsRequest"."""
    value = json_text.parse(raw)
    method = value.get("method") if isinstance(value, dict) else None
    params = value.get("params", {}) if isinstance(value, dict) else None
    if method not in CAPABILITY or not isinstance(params, dict):
        raise RemoteFault(what="an inputRequest that is none of elicitation, sampling and roots")
    return Question(method=str(method), params=splice.value_at(raw, ("params",)) or b"{}", value=params)
