"""The admin listener: pages of Quart on Hypercorn, with the bounds that the stock one lacks.

Owns the subclass of Hypercorn's ``TCPServer``: every send is bounded by progress, a silent peer
is cut, the socket is closed as soon as the client has left, and nothing but HTTP/1.1 is spoken.
Deliberately no pages. Invariant: nothing here waits longer than the limits below, shielded or not.

A page is sent when its app has ended: Quart-Trio cancels the task that sends as soon as Hypercorn
tells it that the last byte is out, and with it Hypercorn's closing of the connection.

Relies on the insides of Hypercorn 0.18 (pinned): ``protocol_send``, ``_read_data``, ``_idle_timeout`` and
``_initiate_server_close`` of ``hypercorn.trio.tcp_server``, ``_check_protocol`` of ``hypercorn.protocol.h11``.
"""

import logging
from collections.abc import Collection
from typing import Final

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    ConnectionState,
    Scope,
)
from hypercorn.utils import wrap_app

from mcp_gateway.errors import LocalFault
from mcp_gateway.front.server import SEND_STALL_S

HEAD_BYTES: Final = 32 * 1024
HEAD_S: Final = 10.0
"""From accepting to the first complete request head."""
KEEP_ALIVE_S: Final = 75.0
_SLICE_BYTES: Final = 64 * 1024
_KEEP_ALIVE_REQUESTS: Final = 100_000


class AdminConnection(TCPServer):
    """One accepted stream; see ``front.server.Connection``."""

    def __init__(self, app: AppWrapper, config: Config, stream: trio.SocketStream) -> None:
        super().__init__(app, config, WorkerContext(None), ConnectionState({}), stream)  # type: ignore[arg-type]  # says SSLStream, takes both
        self._socket = stream.socket
        self._served_before = False
        self._over = False
        self._ending = trio.Event()

    def drain(self) -> None:
        """See ``front.server.Connection``."""
        self._ending.set()

    def cut(self) -> None:
        """See ``front.server.Connection``."""
        self._socket.close()

    async def protocol_send(self, event: Event) -> None:
        """As Hypercorn's, but a send that makes no progress for ``SEND_STALL_S`` closes the connection."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                await self._send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                # Busy: Hypercorn is closing it, for what the client sent behind a request that is the last one.
                await self.protocol.handle(Closed())

    async def _send_all(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), _SLICE_BYTES):
            with trio.move_on_after(SEND_STALL_S, shield=True) as patience:
                await self.stream.send_all(view[start : start + _SLICE_BYTES])
            if patience.cancelled_caught:
                self.cut()
                raise trio.BrokenResourceError("the client does not read")

    async def _read_data(self) -> None:
        """As Hypercorn's, without another protocol; then close: the end of input is the end of the client."""
        self.protocol.protocol._check_protocol = _stay  # type: ignore[union-attr,method-assign]  # always H11Protocol here
        await super()._read_data()
        self._over = True
        self.cut()
        await self.idle_task.stop()  # or the connection would count for all of KEEP_ALIVE_S

    async def _idle_timeout(self) -> None:
        if self._over:  # its last request outlived the client
            return
        patience_s = KEEP_ALIVE_S if self._served_before else HEAD_S
        self._served_before = True
        with trio.move_on_after(patience_s):
            await self._ending.wait()
        with trio.move_on_after(1.0, shield=True):  # nothing of it waits; the number is for the rule
            await self._initiate_server_close()


async def _stay(request: object) -> None:
    """Neither ``Upgrade: h2c`` nor a preface changes the protocol: in clear text Hypercorn's HTTP/2 has no bounds."""


class AdminListener:
    """A ``front.server.Listener`` for an app of pages."""

    def __init__(self, app: ASGIFramework) -> None:
        self._app = wrap_app(_whole_answers(app), 0, "asgi")
        self._config = Config()
        self._config.accesslog = None
        self._config.errorlog = logging.getLogger(
            "hypercorn.error"
        )  # into our queue, not to stderr from the event loop
        self._config.include_server_header = False
        self._config.h11_max_incomplete_size = HEAD_BYTES
        self._config.keep_alive_max_requests = _KEEP_ALIVE_REQUESTS

    def accept(self, stream: trio.SocketStream) -> AdminConnection:
        """See ``Listener``."""
        return AdminConnection(self._app, self._config, stream)

    async def watch(self, connections: Collection[AdminConnection]) -> None:
        """See ``Listener``: each connection looks after itself."""
        await trio.sleep_forever()


def _whole_answers(app: ASGIFramework) -> ASGIFramework:
    """Send what an app answers when it has ended; it has pages only, no streams and no WebSockets."""

    async def serve(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": None})
            return
        if scope["type"] != "http":
            raise LocalFault(what=f"ASGI scope {scope['type']!r} is not supported")
        said: list[ASGISendEvent] = []

        async def keep(message: ASGISendEvent) -> None:
            said.append(message)

        await app(scope, receive, keep)
        for message in said:
            await send(message)

    return serve
