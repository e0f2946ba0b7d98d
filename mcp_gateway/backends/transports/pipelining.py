"""Notices to one backend: small requests that may come twice, of which a thousand may be due in one instant.

Owns who carries them: a notice that has a place takes along its share of those that
wait, all on one connection and none waiting for the answer to the one before it
(pipelining, RFC 9112 9.3.2). Deliberately has no task and no deadline of its own: what
is sent is sent by a task that waits for a notice, under that task's scope.
Invariant: a notice is written at most twice, the second time alone on a new connection;
several go together only on a connection that was kept after an answer.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from mcp_gateway.backends.transports.http_connection import HttpConnection
from mcp_gateway.backends.transports.limiter import Limiter, Waiter
from mcp_gateway.errors import BackendGone, BackendProtocol

TOGETHER_MAX: Final = 256
"""Notices on one connection at once, some 100 KiB: a thousand leave at once on four connections."""
SILENCE_S: Final = 1.0
"""A backend that is silent for so long may have lost all but the first of several: they go again, one by one.
Half of ``GOODBYE_S`` is left for that."""
TRIES: Final = 2


@attrs.define(eq=False)
class _Notice(Waiter):
    """One notice; in the queue for a place until it gets one or is taken along."""

    request: bytes = attrs.field(kw_only=True)
    status: int | None = None
    """That of its answer."""
    tries: int = 0
    left: bool = False
    """Nobody waits for it any more."""


@attrs.define(eq=False, kw_only=True)
class Pipelining:
    """The notices of one pool."""

    places: Limiter
    """For connections with notices on them, and whatever else shares the bound."""
    take: Callable[[bool], Awaitable[HttpConnection]]
    """Gives a connection; True: a new one."""
    put: Callable[[HttpConnection], None]
    _unsent: dict[_Notice, None] = attrs.field(init=False, factory=dict)
    """Those that nobody has written yet: at most one per call in flight."""
    _on_way: int = attrs.field(init=False, default=0)
    """How many were written and have no answer yet."""

    async def tell(self, request: bytes) -> int:
        """Send one notice; the status of its answer. The caller holds the deadline.

        Raises:
            BackendGone, BackendProtocol: it was not answered, the second time neither.
            BackendTimeout: the dial took ``connect_s``.
        """
        notice = _Notice(request=request)
        self._unsent[notice] = None
        try:
            if await self.places.enter(notice):
                try:
                    return await self._send(notice)
                finally:
                    self.places.leave()
        finally:
            notice.left = True
            self._unsent.pop(notice, None)
        assert notice.status is not None  # whoever took it along has woken it
        return notice.status

    async def _send(self, notice: _Notice) -> int:
        """Send a notice that has a place, the first time with others, until it is answered."""
        while notice.status is None:
            connection = await self.take(notice.tries > 0)
            self._unsent.pop(notice, None)
            together = [notice]
            if connection.reused:
                together += self._others()
            try:
                await self._carry(connection, together)
            except (BackendGone, BackendProtocol):
                if notice.tries >= TRIES:
                    raise
        return notice.status

    def _others(self) -> list[_Notice]:
        """As many of those that wait as make even loads; they leave the queue, and sleep until they are answered."""
        load = min(math.ceil((1 + len(self._unsent) + self._on_way) / self.places.limit), TOGETHER_MAX)
        others: list[_Notice] = []
        for other in tuple(self._unsent):
            if len(others) == load - 1:
                break
            if self.places.withdraw(other):  # no: a place of its own was given to it just now
                del self._unsent[other]
                others.append(other)
        return others

    async def _carry(self, connection: HttpConnection, together: list[_Notice]) -> None:
        """Send notices on one connection; those without an answer in the end queue again."""
        silence_s = SILENCE_S if len(together) > 1 else math.inf
        self._on_way += len(together)
        try:
            with trio.move_on_after(silence_s) as patience:
                await connection.ask(b"".join([one.request for one in together]), len(together))
                while _unanswered(together, connection) and not connection.parser.complete:
                    patience.deadline = trio.current_time() + silence_s
                    await connection.skim()
        finally:
            self._on_way -= len(together)
            unanswered = _unanswered(together, connection)
            if unanswered:
                connection.close()
            self.put(connection)
            written = not (connection.reused and connection.nothing_left)
            for one in unanswered:
                one.tries += written
                if one is not together[0] and not one.left:
                    self._queue_again(one)

    def _queue_again(self, notice: _Notice) -> None:
        if not notice.tries:
            self._unsent[notice] = None
        self.places.rejoin(notice)


def _unanswered(together: list[_Notice], connection: HttpConnection) -> list[_Notice]:
    """Wake those whose answers have come; return the others."""
    statuses = connection.parser.statuses
    for one, status in zip(together, statuses, strict=False):
        if one.status is None:
            one.status = status
            one.woken.set()
    return together[len(statuses) :]
