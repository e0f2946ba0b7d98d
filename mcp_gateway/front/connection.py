"""One client connection on Hypercorn's protocol stack, with the bounds that the stock one lacks.

Owns the subclass of Hypercorn's ``TCPServer``: every send is bounded by progress,
a silent peer is cut, and the socket is closed as soon as the client has left,
though the request's task goes on. Deliberately no HTTP: that is Hypercorn's.
Invariant: nothing here waits longer than ``Timings`` says, shielded or not.

Relies on the insides of Hypercorn 0.18 (pinned): ``protocol_send``, ``_read_data``,
``_idle_timeout`` and ``_initiate_server_close`` of ``hypercorn.trio.tcp_server``.
"""

from typing import Final

import attrs
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

_SLICE_BYTES: Final = 64 * 1024


@attrs.frozen(kw_only=True)
class Timings:
    """How long one connection may be silent, in seconds."""

    head_s: float = 10.0
    """From accepting to the first complete request head (slow clients hold a place meanwhile)."""
    keep_alive_s: float = 75.0
    """Between two requests: above the 60 s at which most proxies in front drop an idle connection."""
    send_stall_s: float = 30.0
    """Without a byte of progress while we have something to send; the client is then treated as gone."""


DEFAULT_TIMINGS: Final = Timings()


class Connection(TCPServer):
    """One accepted stream; ``await connection.run()`` until it is closed. ``cut`` ends it at once."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream,
        timings: Timings,
    ) -> None:
        super().__init__(app, config, context, ConnectionState({}), stream)  # type: ignore[arg-type]  # says SSLStream, takes both
        self._timings = timings
        self._socket = stream.socket
        self._served_before = False
        self._over = False

    def cut(self) -> None:
        """Close the socket now, whatever is being sent; the request's task learns that the client is gone."""
        self._socket.close()

    async def protocol_send(self, event: Event) -> None:
        """As Hypercorn's, but a send that makes no progress for ``send_stall_s`` closes the connection.

        The shield stays: a cancelled request must not leave half an event on a connection that is used again.
        """
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                await self._send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                # Busy: Hypercorn is closing it, for what the client sent behind a request that is the last one.
                await self.protocol.handle(Closed())
                # A send that fails at once has not yielded: whoever writes in a loop would never learn of the end.
                await trio.lowlevel.checkpoint()

    async def _send_all(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), _SLICE_BYTES):
            with trio.move_on_after(self._timings.send_stall_s, shield=True) as patience:
                await self.stream.send_all(view[start : start + _SLICE_BYTES])
            if patience.cancelled_caught:
                self.cut()
                raise trio.BrokenResourceError("the client does not read")

    async def _read_data(self) -> None:
        """As Hypercorn's, then close: a request that outlives its client must not hold the socket.

        A client that closes only its sending half counts as gone; HTTP clients that wait do not do that.
        """
        await super()._read_data()
        self._over = True
        self.cut()
        await self.idle_task.stop()  # or the connection would count, and hold its place, for all of keep_alive_s

    async def _idle_timeout(self) -> None:
        if self._over:  # its last request outlived the client
            return
        patience_s = self._timings.keep_alive_s if self._served_before else self._timings.head_s
        self._served_before = True
        with trio.move_on_after(patience_s):
            await self.context.terminated.wait()
        with trio.move_on_after(1.0, shield=True):  # nothing of it waits; the number is for the rule
            await self._initiate_server_close()
