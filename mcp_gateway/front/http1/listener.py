"""The public listener: HTTP/1.1 for everybody, in clear text or over TLS.

Owns what all its connections share: the service, the watching for clients that leave, the
certificate, and the limit on silence. Deliberately accepts nothing (``front.server`` does).
Invariant: a silent connection is cut at most a quarter of its patience late.
"""

import socket
from collections.abc import Collection
from typing import Final

import attrs
import trio

from mcp_gateway.backends.transports.wire import Wire
from mcp_gateway.front.http1.connection import Connection
from mcp_gateway.front.http1.hang_ups import HangUps, hang_ups
from mcp_gateway.front.http1.service import Service
from mcp_gateway.front.http1.tls import Certificate

_LOOK_S: Final = 1.0


@attrs.define(eq=False, kw_only=True)
class Http1Listener:
    """A ``front.server.Listener``."""

    service: Service
    certificate: Certificate | None = None
    """None: clear text."""
    _hang_ups: HangUps = attrs.field(factory=hang_ups, alias="hang_ups")

    def accept(self, stream: trio.SocketStream) -> Connection:
        """See ``Listener``."""
        wire = Wire.take_over(stream)
        tls = None
        if self.certificate is not None:
            tls = trio.SSLStream(wire, self.certificate.context, server_side=True, https_compatible=True)
        return Connection(service=self.service, hang_ups=self._hang_ups, wire=wire, tls=tls, peer=_peer(wire.sock))

    async def watch(self, connections: Collection[Connection]) -> None:
        """See ``Listener``."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hang_ups.run, name="hang-ups")
            nursery.start_soon(self._cut_silent, connections, name="silent connections")
            if self.certificate is not None:
                nursery.start_soon(self.certificate.follow, name="certificate")

    async def _cut_silent(self, connections: Collection[Connection]) -> None:
        """One task for all: a timer per connection would be moved twice per call, at 2 us each."""
        timings = self.service.timings
        while True:
            await trio.sleep(min(_LOOK_S, timings.head_s / 4, timings.keep_alive_s / 4))
            now = trio.current_time()
            for connection in list(connections):
                if connection.waiting_since is not None and now - connection.waiting_since > connection.patience_s:
                    connection.cut()


def _peer(sock: socket.socket) -> str:
    try:
        return str(sock.getpeername()[0])
    except OSError:  # it has left already
        return ""
