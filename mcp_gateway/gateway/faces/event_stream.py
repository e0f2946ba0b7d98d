"""A long stream of events to one client: the pump, and the job that holds it.

Owns sending in order, and the comment that shows a quiet client that somebody is there.
Deliberately makes no messages. Invariant: an event that did not go out is given back to
where it came from.
"""

from abc import ABC, abstractmethod
from typing import Protocol

import attrs
import trio

from mcp_gateway.gateway.entrance import Reply
from mcp_gateway.gateway.mailbox import Mailbox
from mcp_gateway.gateway.replay import StreamLog


class Source(Protocol):
    """Where the events of a stream come from."""

    def take(self) -> tuple[bytes, str | None] | None:
        """The next event's data and id; None: there is none now."""
        ...

    def unsent(self, data: bytes) -> None:
        """What was taken did not go out."""
        ...

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        ...

    async def wait(self) -> None:
        """Wait until there may be something to take, or it is over."""
        ...


@attrs.frozen
class Messages:
    """What a mailbox holds, kept in a log for a resume if there is one."""

    mailbox: Mailbox
    log: StreamLog | None = None

    def take(self) -> tuple[bytes, str | None] | None:
        """See ``Source``."""
        message = self.mailbox.take()
        if message is None:
            return None
        return message, self.log.append(message) if self.log is not None else None

    def unsent(self, data: bytes) -> None:
        """See ``Source``. Without a log it waits for the next stream."""
        if self.log is None:
            self.mailbox.put_back(data)

    @property
    def over(self) -> bool:
        """See ``Source``."""
        return self.mailbox.closed

    async def wait(self) -> None:
        """See ``Source``."""
        await self.mailbox.wait()


async def pump(reply: Reply, source: Source, keep_alive_s: float) -> bool:
    """Send what comes, and a comment when it is quiet; True: the source is over, False: the client has left."""
    while True:
        event = source.take()
        if event is not None:
            sent = False
            try:
                sent = await reply.event(event[0], event_id=event[1])
            finally:
                if not sent:
                    source.unsent(event[0])
            if not sent:
                return False
        elif source.over:
            return True
        else:
            with trio.move_on_after(keep_alive_s) as quiet:
                await source.wait()
            if quiet.cancelled_caught and not await reply.comment():
                return False


@attrs.define(eq=False, kw_only=True)
class EventStream(ABC):
    """A job that ends when its client leaves, without an answer."""

    reply: Reply
    _scope: trio.CancelScope | None = attrs.field(default=None, init=False)
    _left: bool = attrs.field(default=False, init=False)

    async def run(self, scope: trio.CancelScope) -> None:
        """See ``entrance.Job``."""
        self._scope = scope
        if self._left:
            scope.cancel(reason="client left")
        try:
            await self.hold(scope)
        finally:
            self._scope = None

    @abstractmethod
    async def hold(self, scope: trio.CancelScope) -> None:
        """The life of the stream; whoever wants it to end cancels the scope."""

    async def finish(self) -> None:
        """See ``entrance.Job``."""
        await self.reply.close()

    def left(self) -> None:
        """See ``entrance.Job``."""
        self._left = True
        if self._scope is not None:
            self._scope.cancel(reason="client left")
