"""What is waiting to be said to one client outside any of its requests.

Owns one bounded, coalescing queue per 2025 session or 2026 listen stream.
Deliberately sends nothing itself: a stream's own task takes from it. Invariant:
a list change or a resource update waits at most once, however often it happens;
at the bound the oldest plain message is dropped and counted.
"""

from collections import deque
from typing import Final, Protocol

import attrs
import trio

from mcp_gateway.routing.snapshot import Kind

MAX_MESSAGES: Final = 256
MAX_UPDATED: Final = 4096


class Wording(Protocol):
    """How this client is told (the era's form)."""

    def changed(self, kind: Kind) -> bytes:
        """A list of this kind became another one."""
        ...

    def updated(self, uri: str) -> bytes:
        """A subscribed resource became another one."""
        ...


@attrs.define(eq=False)
class Mailbox:
    """Messages for one client, in order; changes coalesced."""

    wording: Wording
    dropped: int = 0
    closed: bool = False
    _messages: deque[bytes] = attrs.field(factory=deque)
    _changed: dict[Kind, None] = attrs.field(factory=dict)
    _updated: dict[str, None] = attrs.field(factory=dict)
    _wake: trio.Event = attrs.field(factory=trio.Event)

    def post(self, message: bytes) -> None:
        """Queue one message as it is."""
        if len(self._messages) >= MAX_MESSAGES:
            self._messages.popleft()
            self.dropped += 1
        self._messages.append(message)
        self._notify()

    def changed(self, kind: Kind) -> None:
        """The client's visible list of this kind is another one now."""
        self._changed[kind] = None
        self._notify()

    def updated(self, uri: str) -> None:
        """A resource the client subscribed to has changed."""
        if len(self._updated) < MAX_UPDATED:
            self._updated[uri] = None
        else:
            self.dropped += 1
        self._notify()

    def take(self) -> bytes | None:
        """The next message, or None."""
        if self._changed:
            kind = next(iter(self._changed))
            del self._changed[kind]
            return self.wording.changed(kind)
        if self._messages:
            return self._messages.popleft()
        if self._updated:
            uri = next(iter(self._updated))
            del self._updated[uri]
            return self.wording.updated(uri)
        return None

    def put_back(self, message: bytes) -> None:
        """Return a message that could not be sent: the next to be taken of its kind, here or on another stream."""
        if len(self._messages) >= MAX_MESSAGES:
            self.dropped += 1
            return
        self._messages.appendleft(message)
        self._notify()

    def close(self) -> None:
        """Nothing more will be said; wakes whoever waits."""
        self.closed = True
        self._notify()

    async def wait(self) -> None:
        """Wait until there may be something to take, or the mailbox closed."""
        if not (self._changed or self._messages or self._updated or self.closed):
            await self._wake.wait()

    def _notify(self) -> None:
        wake, self._wake = self._wake, trio.Event()
        wake.set()
