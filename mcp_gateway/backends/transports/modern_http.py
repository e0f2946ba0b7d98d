"""Streamable HTTP to a 2026-07-28 backend: stateless requests.

Owns the headers that every modern request carries. Deliberately keeps no
connection (``http_client``) and sends no notice of cancellation: leaving a call
closes its connection, and "the client closing the response stream is
cancellation". Invariant: nothing here outlives one exchange.
Spec: MCP 2026-07-28, basic/transports/streamable-http.
"""

import itertools
import logging
from collections.abc import Iterator
from typing import Final

import attrs
import trio

from mcp_gateway.backends.transports.base import Answer, Hear, Hello, Outgoing
from mcp_gateway.backends.transports.http_client import HttpPool
from mcp_gateway.backends.transports.http_connection import HttpConnection
from mcp_gateway.backends.transports.http_exchange import POST_HEADERS, AnswerReader, HttpExchange, PostHeads
from mcp_gateway.backends.transports.origin import render_headers
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import BackendGone, Executed
from mcp_gateway.protocol.eras import Era
from mcp_gateway.values import Header

logger = logging.getLogger(__name__)

LISTEN: Final = "subscriptions/listen"


@attrs.define(kw_only=True, eq=False)
class ModernHttpLink:
    """A modern backend's endpoint; see ``base.Link``."""

    pool: HttpPool
    hello: Hello
    limits: BackendLimits
    forward: tuple[Header, ...] = attrs.field(default=(), repr=False)
    """Sent with notifications, which have no headers of their own."""
    _ids: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), repr=False)
    _closed: bool = False
    _reader: AnswerReader = attrs.field(init=False, repr=False)
    _heads: PostHeads = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._reader = AnswerReader(
            key=self.pool.key, limits=self.limits, requests_allowed=False, observer=self.pool.observer
        )
        version = (b"MCP-Protocol-Version", self.era.version.encode("ascii"))
        self._heads = PostHeads(pool=self.pool, lines=render_headers((*POST_HEADERS, version)), names_method=True)

    @property
    def era(self) -> Era:
        """See ``base.Link``."""
        return self.hello.era

    @property
    def shared(self) -> bool:
        """Stateless: whose request it is, each request says itself."""
        return True

    @property
    def lost(self) -> bool:
        """See ``base.Link``."""
        return self._closed

    async def exchange(self, outgoing: Outgoing, hear: Hear) -> Answer:
        """See ``base.Link.exchange``. Leaving early closes the connection, which is the notice."""
        self._refuse_if_closed()
        control = outgoing.control
        exchange = HttpExchange(
            upstream_id=next(self._ids),
            outgoing=outgoing,
            head=self._heads.of(outgoing),
            places=self.pool.places(control=control, stream=control and outgoing.method == LISTEN),
        )
        try:
            response = await self.pool.ask(exchange)
            answer = self._reader.read_now(response, exchange)
            return answer if answer is not None else await self._read(response, exchange, hear)
        finally:
            self.pool.release(exchange)

    async def _read(self, response: HttpConnection, exchange: HttpExchange, hear: Hear) -> Answer:
        self.pool.check(response)
        if response.status >= 400:
            return await self._reader.refused(response, exchange)
        answer = await self._reader.read(response, exchange, hear)
        if answer is None:
            raise self._reader.ended_without_answer(exchange)
        return answer

    async def notify(self, message: bytes) -> None:
        """See ``base.Link.notify``. This revision defines no notification to a server; what is sent, is."""
        self._refuse_if_closed()
        headers = self._heads.lines + render_headers(self.forward)
        async with self.pool.request(b"POST", headers, message, control=True) as response:
            if response.status != 202:
                logger.debug(
                    "notification answered unexpectedly",
                    extra={"backend": self.pool.key, "status": response.status},
                )

    async def aclose(self) -> None:
        """Nothing to say goodbye to; idempotent."""
        self._closed = True
        await trio.lowlevel.checkpoint()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise BackendGone(backend=self.pool.key, executed=Executed.NO, why="the link was closed")
