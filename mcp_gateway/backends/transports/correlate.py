"""Who a message on a shared pipe belongs to.

Owns the upstream ids of one pipe, the exchanges that wait for an answer, and
the count of what found no owner. Deliberately no I/O, no waiting and no
JSON: ids and params come parsed.
Invariant: an id is issued once in the life of a pipe and owned by one exchange
at most, so one answer reaches at most one exchange and never a second time.
"""

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

import attrs

from mcp_gateway.errors import Overload
from mcp_gateway.protocol import tasks
from mcp_gateway.values import JsonValue, RequestId

T = TypeVar("T")

_SUBSCRIPTION: Final = "io.modelcontextprotocol/subscriptionId"


@attrs.define(eq=False)
class Correlator(Generic[T]):
    """The exchanges that share one pipe; ``T`` is whatever receives their messages."""

    bound: int = attrs.field(validator=attrs.validators.gt(0))
    """The most exchanges that may wait at once."""
    limit_name: str = "limits.concurrency"
    late: int = attrs.field(default=0, init=False)
    """Answers and progress for an id that is unknown, already answered, or was left (docs/architecture.md)."""
    _next: int = attrs.field(default=1, init=False)  # never 0: a conformance check takes it for missing
    _pending: dict[int, T] = attrs.field(factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self._pending)

    def issue(self, owner: T) -> int:
        """A new upstream id, owned by ``owner`` until ``take`` or ``leave``.

        Raises:
            Overload: ``bound`` exchanges wait already.
        """
        if len(self._pending) >= self.bound:
            raise Overload(bound=self.limit_name, limit=self.bound)
        upstream_id = self._next
        self._next += 1
        self._pending[upstream_id] = owner
        return upstream_id

    def issued(self, answered: RequestId | None) -> bool:
        """Whether an id was ever one of ours."""
        return isinstance(answered, int) and not isinstance(answered, bool) and 0 < answered < self._next

    def leave(self, upstream_id: int) -> bool:
        """Forget an id: what still comes for it is late. Tells whether it was waiting."""
        return self._pending.pop(upstream_id, None) is not None

    def take(self, answered: RequestId | None) -> T | None:
        """The owner of an answer, who waits no longer; None (and counted) when nobody waits for it.

        Args:
            answered: the answer's id; None when it had none or null. "1" is not 1: we send integers.
        """
        owner = self._pending.pop(answered, None) if isinstance(answered, int) else None
        if owner is None:
            self.late += 1
        return owner

    def about(self, method: str, params: Mapping[str, JsonValue], *, modern: bool) -> T | None:
        """The exchange that a notification belongs to; None when it belongs to none.

        Spec: MCP basic/utilities/progress (our token is the upstream id); 2026-07-28 basic/patterns/subscriptions
        (``subscriptionId`` is the id of the listen request) and basic/patterns/cancellation (a server that ends a
        listen stream sends ``notifications/cancelled`` with that id).
        """
        if method == "notifications/progress":
            token = params.get("progressToken")
            request = tasks.request_of(token)
            return self._owner(token if request is None else request)
        if not modern:
            return None
        meta = params.get("_meta")
        if isinstance(meta, Mapping) and _SUBSCRIPTION in meta:
            return self._owner(meta[_SUBSCRIPTION])
        if method == "notifications/cancelled":
            return self._owner(params.get("requestId"))
        return None

    def waiting(self) -> tuple[T, ...]:
        """Everybody who waits, in the order of their ids."""
        return tuple(self._pending.values())

    def clear(self) -> tuple[T, ...]:
        """Forget all and return them: the pipe has ended."""
        owners = self.waiting()
        self._pending.clear()
        return owners

    def _owner(self, token: JsonValue) -> T | None:
        if not isinstance(token, int) or isinstance(token, bool):
            return None
        return self._pending.get(token)
