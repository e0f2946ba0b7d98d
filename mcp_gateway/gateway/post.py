"""The way to state that lives with one process.

Owns the addresses of sessions and parked calls. Local in this version; between
workers and replicas it becomes a network hop, which is why ``deliver`` waits and
names an owner. Invariant: a message to an unknown owner is refused, not kept.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import attrs

M = TypeVar("M")


@attrs.define(eq=False)
class Post(Generic[M]):
    """Delivers messages to whoever owns an address in this process."""

    _owners: dict[str, Callable[[M], Awaitable[bool]]] = attrs.field(factory=dict)

    @contextmanager
    def at(self, owner: str, receive: Callable[[M], Awaitable[bool]]) -> Iterator[None]:
        """Receive for ``owner`` while the block lives."""
        self._owners[owner] = receive
        try:
            yield
        finally:
            self._owners.pop(owner, None)

    async def deliver(self, owner: str, message: M) -> bool:
        """Hand ``message`` to ``owner``; False when nobody of that name is here or it refuses."""
        receive = self._owners.get(owner)
        return await receive(message) if receive is not None else False
