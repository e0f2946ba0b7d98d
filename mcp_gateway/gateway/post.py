"""The way to state that lives with one process.

Owns the addresses of sessions (later: of parked calls and streams on other
replicas). Local in this version; between workers and replicas it becomes a
network hop, which is why ``deliver`` waits and names an owner.
Invariant: a message to an unknown owner is refused, not kept.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs

M = TypeVar("M")


@attrs.define(eq=False)
class Post(Generic[M]):
    """Delivers messages to whoever owns an address in this process."""

    _owners: dict[str, Callable[[M], Awaitable[bool]]] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._owners)

    def claim(self, owner: str, receive: Callable[[M], Awaitable[bool]]) -> None:
        """Receive for ``owner`` from now on."""
        self._owners[owner] = receive

    def release(self, owner: str) -> None:
        """Receive no longer."""
        self._owners.pop(owner, None)

    async def deliver(self, owner: str, message: M) -> bool:
        """Hand ``message`` to ``owner``; False when nobody of that name is here or it refuses."""
        receive = self._owners.get(owner)
        return await receive(message) if receive is not None else False
