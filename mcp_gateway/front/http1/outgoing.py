"""The sending side of one connection.

Owns the socket's output: whole writes, one after the other, bounded by progress.
Deliberately knows no HTTP and does not read. Invariants: what was begun is sent whole though
its task is cancelled (half an event would spoil the next answer); a client that takes nothing
for ``stall_s`` is treated as gone; after that every ``send`` is False and none waits long.
"""

from collections.abc import Callable
from typing import Final

import attrs
import trio

from mcp_gateway.backends.transports.wire import Wire

_SLICE_BYTES: Final = 64 * 1024
"""Progress of a TLS layer is measured in these."""


@attrs.define(eq=False)
class Outgoing:
    """Output of one connection; ``gone`` is told once when the client takes nothing any more."""

    _wire: Wire
    _tls: "trio.SSLStream[Wire] | None"
    _stall_s: float
    _gone: Callable[[], None]
    _turn: trio.Lock = attrs.field(init=False, factory=trio.Lock)

    async def send(self, data: bytes) -> bool:
        """Send all of it; False: the client is gone. Waits only when the kernel takes less."""
        if self._tls is not None or self._turn.locked():
            return await self._send_rest(data)
        try:
            taken = self._wire.send_now(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return await self._lost()
        return taken == len(data) or await self._send_rest(memoryview(data)[taken:])

    async def _send_rest(self, rest: bytes | memoryview) -> bool:
        with trio.CancelScope(shield=True) as patience:  # bounded: the deadline moves with each bit of progress
            patience.deadline = trio.current_time() + self._stall_s
            async with self._turn:
                try:
                    await (self._send_plain(rest, patience) if self._tls is None else self._send_tls(rest, patience))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return await self._lost()
        if patience.cancelled_caught:
            self._gone()
        return not patience.cancelled_caught

    @property
    def busy(self) -> bool:
        """A write is under way that waits for the client."""
        return self._turn.locked()

    async def _send_plain(self, rest: bytes | memoryview, patience: trio.CancelScope) -> None:
        view = memoryview(rest)
        while view:
            await self._wire.wait_send_all_might_not_block()
            view = view[self._wire.send_now(view) :]
            patience.deadline = trio.current_time() + self._stall_s

    async def _send_tls(self, rest: bytes | memoryview, patience: trio.CancelScope) -> None:
        assert self._tls is not None
        for start in range(0, len(rest), _SLICE_BYTES):
            await self._tls.send_all(rest[start : start + _SLICE_BYTES])
            patience.deadline = trio.current_time() + self._stall_s

    async def _lost(self) -> bool:
        self._gone()
        # A send that fails at once has not yielded: whoever writes in a loop would never learn of the end.
        await trio.lowlevel.cancel_shielded_checkpoint()
        return False
