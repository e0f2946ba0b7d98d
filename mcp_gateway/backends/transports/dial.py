"""How a connection to a backend comes to be: addresses, proxy, TLS.

Owns dialling and the TLS settings of one target. Deliberately knows nothing of
requests; environment proxies are never looked at.
Invariant: whatever way a dial ends early, its sockets are closed.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import trio

from mcp_gateway.backends.transports import tcp
from mcp_gateway.backends.transports.origin import Origin, Proxy
from mcp_gateway.backends.transports.wire import Wire
from mcp_gateway.config.spec import TlsSpec
from mcp_gateway.errors import BackendGone, BackendTimeout, Executed, Limit
from mcp_gateway.values import BackendKey

PROXY_HEAD_BYTES: Final = 16 * 2**10


@attrs.frozen(kw_only=True)
class Dialled:
    """A fresh connection: ``stream`` is what bytes go through, ``wire`` the socket under it (the same without TLS)."""

    wire: Wire
    stream: Wire | trio.SSLStream[Wire]


@attrs.define(kw_only=True, eq=False)
class Dialler:
    """Makes connections to one origin, each within ``connect_s``."""

    key: BackendKey
    origin: Origin
    tls: TlsSpec
    connect_s: float
    routable_only: bool = False
    """As ``HttpTarget.routable_only``."""
    _context: ssl.SSLContext | None = None

    async def dial(self) -> Dialled:
        """Connect, through the proxy if there is one, and shake hands.

        Names are resolved again for each connection, and every address is checked before
        one of them is connected to.

        Raises:
            BackendTimeout: ``connect_s`` passed (limit CONNECT).
            BackendGone: any other failure. Nothing was executed in either case.
        """
        with trio.move_on_after(self.connect_s):
            with self._faults():
                return await self._connect()
        raise BackendTimeout(backend=self.key, executed=Executed.NO, after_s=self.connect_s, limit=Limit.CONNECT)

    async def _connect(self) -> Dialled:
        origin, proxy = self.origin, self.origin.proxy
        host, port = (proxy.host, proxy.port) if proxy is not None else (origin.dial_host, origin.dial_port)
        addresses = await tcp.resolve(host, port)
        refusal = tcp.refusal(host, addresses) if self.routable_only else ""
        if refusal:
            raise self._gone(refusal)
        stream = await tcp.connect(addresses)
        if self.routable_only and tcp.leads_home(stream):
            stream.socket.close()
            raise self._gone(f"{host} leads to the gateway's own machine, where no server may be")
        wire = Wire.take_over(stream)
        done = False
        try:
            if proxy is not None and origin.secure:
                await self._open_tunnel(wire, proxy)
            dialled = Dialled(wire=wire, stream=await self._shake_hands(wire) if origin.secure else wire)
            done = True
            return dialled
        finally:
            if not done:
                wire.close()

    async def _open_tunnel(self, wire: Wire, proxy: Proxy) -> None:
        """Ask the proxy for a way through (RFC 9110, 9.3.6)."""
        origin = self.origin
        host = f"[{origin.dial_host}]" if ":" in origin.dial_host else origin.dial_host
        there = f"{host}:{origin.dial_port}".encode("ascii")
        head = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (there, there)
        if proxy.authorization is not None:
            head += b"Proxy-Authorization: " + proxy.authorization + b"\r\n"
        await wire.send_all(head + b"\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer:
            some = await wire.receive_some(PROXY_HEAD_BYTES)
            answer += some
            if not some or len(answer) > PROXY_HEAD_BYTES:
                raise self._gone("the proxy did not open a tunnel")
        status = answer.split(b" ", 2)[1][:3] if answer.startswith(b"HTTP/1.") else b""
        if not status.startswith(b"2") or not answer.endswith(b"\r\n\r\n"):
            told = status.decode("ascii", "replace") or "no status"
            raise self._gone(f"the proxy did not open a tunnel (HTTP {told})")

    async def _shake_hands(self, wire: Wire) -> trio.SSLStream[Wire]:
        if self._context is None:
            # Reading the system's certificates takes 20 ms: not in the loop.
            self._context = await trio.to_thread.run_sync(_tls_context, self.tls, abandon_on_cancel=True)
        # https_compatible: most servers close without close_notify; a body's own framing tells a truncation.
        stream = trio.SSLStream(wire, self._context, server_hostname=self.origin.server_name, https_compatible=True)
        await stream.do_handshake()
        return stream

    def _gone(self, why: str) -> BackendGone:
        return BackendGone(backend=self.key, executed=Executed.NO, why=why)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Give every way to fail its one type."""
        try:
            yield
        except ssl.SSLError as exc:
            raise self._gone("the configured CA certificate cannot be used") from exc
        except OSError as exc:
            raise self._gone(_why(exc)) from exc
        except trio.BrokenResourceError as exc:
            raise self._gone(_why_broken(exc)) from exc
        except (trio.ClosedResourceError, UnicodeError) as exc:
            raise self._gone("the connection could not be made") from exc


def _tls_context(tls: TlsSpec) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=tls.ca_pem)
    if tls.system_authorities:
        context.load_default_certs()
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _why(exc: OSError) -> str:
    return f"cannot connect: {exc.strerror or exc}".replace("\n", " ")


def _why_broken(exc: trio.BrokenResourceError) -> str:
    cause = exc.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"the TLS handshake failed: {cause.reason or 'TLS error'}"
    return "the connection was reset while it was made"
