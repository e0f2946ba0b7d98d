"""One response of a backend, with its head read and its body still to come.

Owns what any answer must look like before anyone reads it, and the bounded
reading of the body. Deliberately keeps no connection: the pool does.
Invariant: no more than the caller's limit is ever held.
"""

from mcp_gateway.backends.transports.http_connection import HttpConnection
from mcp_gateway.backends.transports.origin import Origin, name_url
from mcp_gateway.errors import BackendProtocol, BackendTooLarge
from mcp_gateway.values import BackendKey


def refuse_redirect(key: BackendKey, status: int, where: str = "") -> None:
    """Refuse to be sent elsewhere.

    Args:
        where: the url that it leads to, as it may be told.
    Raises:
        BackendProtocol: the status is a redirect's.
    """
    if 300 <= status < 400:
        to = f" to {where}" if where else ""
        raise BackendProtocol(backend=key, why=f"a redirect{to} (HTTP {status}), which is not followed", status=status)


class HttpResponse:
    """A response whose head was read; ``headers`` have lower-case names."""

    __slots__ = ("_key", "connection", "content_type", "ending", "headers", "status")

    def __init__(self, key: BackendKey, connection: HttpConnection) -> None:
        parser = connection.parser
        self._key = key
        self.connection = connection
        self.status: int = parser.status
        self.headers: dict[bytes, bytes] = parser.headers
        self.content_type: bytes = self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        self.ending = False
        """Set by a reader that has all it wants and expects the end: the connection may be kept if it comes soon."""

    @property
    def location(self) -> bytes:
        """Where a redirect leads; empty without one."""
        return self.headers.get(b"location", b"")

    def check(self, origin: Origin | None = None) -> None:
        """Refuse what no backend may answer.

        Args:
            origin: of the request, to tell where a redirect leads; None: that is not told.
        Raises:
            BackendProtocol: a redirect or a content coding.
        """
        url = origin.joined(self.location) if origin is not None else None
        refuse_redirect(self._key, self.status, "" if url is None else name_url(url))
        coding = self.headers.get(b"content-encoding")
        if coding is not None and coding.lower() != b"identity":
            raise self._protocol("a content coding that was not asked for")

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            BackendTooLarge: above ``limit`` bytes, announced or real.
            BackendGone: it ended too early.
        """
        announced = self.headers.get(b"content-length")
        if announced is not None and int(announced) > limit:
            raise self._too_large(limit)
        first = await self.connection.receive_some()
        if self.connection.parser.complete and len(first) <= limit:
            return first
        body = bytearray(first)  # a list of tiny pieces would be many times the limit
        while len(body) <= limit:
            piece = await self.connection.receive_some()
            if not piece:
                return bytes(body)
            body += piece
        raise self._too_large(limit)

    async def receive_some(self) -> bytes:
        """The next bytes of the body; ``b""`` at its complete end.

        Raises:
            BackendGone: the connection ended inside the body.
            BackendProtocol: broken framing.
        """
        return await self.connection.receive_some()

    def _too_large(self, limit: int) -> BackendTooLarge:
        return BackendTooLarge(backend=self._key, limit="limits.responseBytes", bound=limit)

    def _protocol(self, why: str) -> BackendProtocol:
        return BackendProtocol(backend=self._key, why=why)
