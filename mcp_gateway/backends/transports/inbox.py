"""The hand-off between a pipe's one reader and those who wait for messages.

Owns what is queued for one receiver and the policy at the bound. Deliberately
reads nothing and calls nobody. Invariant: ``put``, ``settle`` and ``fail``
never wait, so no receiver, however slow, can hold up the reader that the other
exchanges depend on; the outcome and accepted requests are never lost.
"""

from collections import deque
from typing import Final

import attrs
import trio

from mcp_gateway.backends.transports.base import Answer, Inbound
from mcp_gateway.errors import BackendError

MESSAGES: Final = 64
"""Messages that wait for one receiver (chosen: a burst of progress between two turns of the loop is far below)."""
MESSAGE_BYTES: Final = 4 * 2**20
"""... and their bytes; one message above it is still taken when nothing else waits."""


@attrs.define(eq=False)
class Inbox:
    """What one receiver has yet to hear, in order, and its outcome.

    At the bound the oldest progress goes first (the latest says more), then the
    oldest other notification; both are counted. Requests stay: when only
    requests wait, a notification is dropped and a further request refused.
    """

    owns_requests: bool = True
    """False for control exchanges (pings, probes, listen streams): no request of the backend is theirs."""
    messages: int = MESSAGES
    message_bytes: int = MESSAGE_BYTES
    dropped: int = attrs.field(default=0, init=False)
    handed: bool = attrs.field(default=False, init=False)
    """The exchange's own request may have reached the backend."""
    outcome: Answer | BackendError | None = attrs.field(default=None, init=False)
    hearing: trio.CancelScope | None = attrs.field(default=None, init=False)
    """Around the receiver while it hears a message; a failure cancels it, so that it is noticed at once."""
    _queue: deque[Inbound] = attrs.field(factory=deque, init=False, repr=False)
    _bytes: int = attrs.field(default=0, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)

    @property
    def queued(self) -> int:
        """How many messages wait."""
        return len(self._queue)

    def hand_over(self) -> None:
        """From now on the request may have reached the backend."""
        self.handed = True

    def put(self, message: Inbound) -> bool:
        """Queue one message; False only for a request that does not fit, which the caller must then refuse."""
        while self._full(message) and self._drop_one():
            pass
        if self._full(message):  # only requests wait
            if message.id_raw is None:
                self.dropped += 1
            return message.id_raw is None
        self._queue.append(message)
        self._bytes += len(message.raw)
        self._changed.set()
        return True

    def settle(self, answer: Answer) -> None:
        """The answer has come; what was queued before it is heard first."""
        if self.outcome is None:
            self.outcome = answer
            self._changed.set()

    def fail(self, error: BackendError) -> None:
        """No answer will come: noticed at once, ahead of what is queued. An answer that has come stays."""
        if self.outcome is not None:
            return
        self.outcome = error
        self._changed.set()
        if self.hearing is not None:
            self.hearing.cancel("backend gone")

    def next(self) -> Inbound | None:
        """Take the oldest message, or None."""
        if not self._queue:
            return None
        message = self._queue.popleft()
        self._bytes -= len(message.raw)
        return message

    async def changed(self) -> None:
        """Wait until something is queued or the outcome is there. One receiver only."""
        if self._queue or self.outcome is not None:
            await trio.lowlevel.checkpoint()
            return
        self._changed = trio.Event()
        await self._changed.wait()

    def _full(self, message: Inbound) -> bool:
        if not self._queue:
            return False
        return len(self._queue) >= self.messages or self._bytes + len(message.raw) > self.message_bytes

    def _drop_one(self) -> bool:
        notices = [message for message in self._queue if message.id_raw is None]
        if not notices:
            return False
        victim = next((notice for notice in notices if notice.method == "notifications/progress"), notices[0])
        index = next(i for i, queued in enumerate(self._queue) if queued is victim)
        del self._queue[index]
        self._bytes -= len(victim.raw)
        self.dropped += 1
        return True
