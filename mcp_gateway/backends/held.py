"""Upstream sessions that must stay although nobody uses them: a task lives on them.

Owns until when. Deliberately neither opens nor closes anything (``upstream_sessions``)
and knows no task but by its id. Invariant: what is held has an end.
"""

import math

import attrs
import trio

from mcp_gateway.backends.caller import SessionKey


@attrs.define(eq=False)
class Held:
    """Which links of one backend are held."""

    _until: dict[SessionKey, dict[str, float]] = attrs.field(factory=dict)
    """By the task's id."""

    def hold(self, key: SessionKey, task_id: str, until_at: float) -> None:
        """A task lives on the link of a key, until then; past: no longer."""
        now_at = trio.current_time()
        held = {one: at for one, at in self._until.get(key, {}).items() if at > now_at and one != task_id}
        if until_at > now_at:
            held[task_id] = until_at
        if held:
            self._until[key] = held
        else:
            self._until.pop(key, None)

    def now(self, key: SessionKey) -> bool:
        """Whether the link of a key must stay for now."""
        return max(self._until.get(key, {}).values(), default=-math.inf) > trio.current_time()

    def forget(self, key: SessionKey) -> None:
        """Its client is gone for good."""
        self._until.pop(key, None)
