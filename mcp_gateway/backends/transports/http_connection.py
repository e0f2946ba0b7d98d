"""One keep-alive HTTP/1.1 connection to a backend.

Owns a socket and the parser of its answers: one request, one response, again; or
several at once. Deliberately knows no pool and no MCP. Invariant: at most one ``ask`` is under
way; after any failure, or an answer not read to its end, ``reusable`` is False.
"""

from collections.abc import Callable
from typing import Final

import attrs
import trio

from mcp_gateway.backends.transports.dial import Dialled
from mcp_gateway.backends.transports.response_parser import ResponseParser
from mcp_gateway.backends.transports.wire import RECEIVE_BYTES, Wire
from mcp_gateway.errors import BackendGone, BackendProtocol, Executed, RemoteFault
from mcp_gateway.values import BackendKey

EARLY_BYTES: Final = 64 * 2**10
"""How much of an answer is read while our body is still on its way; so much for each of several."""
TLS_RECORD_BYTES: Final = 16 * 2**10
"""RFC 8446, 5.1. A request of this size fits every send buffer."""


def nothing() -> None:
    """For connections whose losses nobody counts."""


@attrs.define(kw_only=True, eq=False)
class HttpConnection:
    """A connection and the response that is under way on it."""

    key: BackendKey
    dialled: Dialled
    idle_until: float = 0.0
    reused: bool = False
    lost_in_reuse: Callable[[], None] = nothing
    """Told when the peer has closed after a request was sent on the connection that it had kept, and before it said
    anything to that."""
    parser: ResponseParser = attrs.field(init=False, factory=ResponseParser)
    closed: bool = False
    _wire: Wire = attrs.field(init=False)
    _stream: Wire | trio.SSLStream[Wire] = attrs.field(init=False)
    _base: int = 0
    _cut: bool = False
    _ended: bool = False

    def __attrs_post_init__(self) -> None:
        self._wire, self._stream = self.dialled.wire, self.dialled.stream

    @property
    def reusable(self) -> bool:
        """The answer is complete, and another request may follow."""
        return self.parser.reusable and not self._cut and not self._ended and not self.closed

    @property
    def nothing_left(self) -> bool:
        """True as long as no byte of the current request was handed to the kernel."""
        return self._wire.sent == self._base

    def quiet(self) -> bool:
        """False when an idle connection's socket has something to say. For sweeping: what it is, ``fit`` tells."""
        return self._wire.quiet()

    def close(self) -> None:
        """Close at once; idempotent."""
        if not self.closed:
            self.closed = True
            self._wire.close()
            self.parser.free()

    async def ask(self, request: bytes, answers: int = 1) -> None:
        """Send head and body, and read to the end of the (first) response's head.

        Args:
            answers: how many requests ``request`` holds, one behind the other.
        Raises:
            BackendGone: closed or reset; executed NO when nothing was sent.
            BackendProtocol: the answer is not HTTP.
        """
        self.parser.begin(answers)
        self._base = self._wire.sent
        try:
            await self._ask(request)
        except BackendGone:
            if self.reused and not self.nothing_left:
                self.lost_in_reuse()
            raise

    async def receive_some(self) -> bytes:
        """The next bytes of the body; ``b""`` once it is complete. Errors as ``ask``."""
        while True:
            body = self.parser.take()
            if body or self.parser.complete:
                return body
            await self._read_more()

    async def skim(self) -> None:
        """Read on, and forget the bodies; ``parser`` shows how far it is. Errors as ``ask``."""
        self.parser.take()
        await self._read_more()

    async def fit(self) -> bool | None:
        """See, without waiting for the peer, whether another request may follow now: reads all that has come.

        Returns: True: the answer is complete, and neither bytes nor an end are behind it. None: the answer may still
            end. False: never.
        """
        try:
            while (data := await self._receive_now()) is not None:
                self._take_in(data)
                if self.parser.take() or (self.parser.complete and not self.reusable):
                    return False
        except (BackendGone, BackendProtocol, trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return self.reusable if self.parser.complete else None

    async def _receive_now(self) -> bytes | bytearray | None:
        """What has come, ``b""`` at the end (TLS: the peer's close_notify too), None when nothing has."""
        if self._stream is self._wire:
            return self._wire.receive_now()
        with self._wire.without_waiting():
            try:
                return await self._stream.receive_some(RECEIVE_BYTES)
            except trio.WouldBlock:
                return None

    async def _ask(self, request: bytes) -> None:
        try:
            rest = await self._send_first(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise self._gone("the connection was closed before the request") from exc
        if rest:
            await self._send_watching(rest)
        while not self.parser.statuses:
            await self._read_more()

    async def _send_first(self, request: bytes) -> bytes | memoryview:
        """Send what goes out at once, which is nearly always all; return the rest."""
        if self._stream is self._wire:
            done = self._wire.send_now(request)
            return b"" if done == len(request) else memoryview(request)[done:]
        if len(request) <= TLS_RECORD_BYTES:
            await self._stream.send_all(request)
            return b""
        return request

    async def _read_more(self) -> None:
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._ended = True
            raise self._gone("the connection was reset") from exc
        self._take_in(data)

    def _take_in(self, data: bytes | bytearray) -> None:
        if not data:
            self._ended = True
            if not self.parser.finish():
                where = "inside the answer" if self.parser.head_complete else "before the answer"
                raise self._gone(f"the connection was closed {where}")
            return
        try:
            self.parser.feed(bytes(data))
        except RemoteFault as exc:
            raise BackendProtocol(backend=self.key, why=exc.what) from exc

    async def _send_watching(self, rest: bytes | memoryview) -> None:
        """Send what does not fit at once, and listen: a backend may answer (413) without reading it all."""
        trouble: list[Exception] = []
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                try:
                    received, bound = 0, EARLY_BYTES * self.parser.expected
                    while not self.parser.complete and received < bound:
                        data = await self._stream.receive_some(RECEIVE_BYTES)
                        received += len(data)
                        self._take_in(data)
                except (BackendGone, BackendProtocol, trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                    trouble.append(exc)
                self._cut = True
                nursery.cancel_scope.cancel("the answer came before the request was sent")

            nursery.start_soon(watch, name="early answer")
            try:
                await self._stream.send_all(rest)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # The peer stopped reading: what it said before that is worth reading. The watcher sees the end.
                self._cut = True
                with trio.move_on_after(1.0):
                    await trio.sleep_forever()
            nursery.cancel_scope.cancel("sent")
        self._raise_trouble(trouble)

    def _raise_trouble(self, trouble: list[Exception]) -> None:
        if not trouble or self.parser.head_complete:
            return
        match trouble[0]:
            case BackendGone() | BackendProtocol() as error:
                raise error
            case other:
                raise self._gone("the connection was reset") from other

    def _gone(self, why: str) -> BackendGone:
        executed = Executed.NO if self.nothing_left else Executed.UNKNOWN
        return BackendGone(backend=self.key, executed=executed, why=why)
