"""A pipe in memory whose far end is the test."""

import json
from collections.abc import Callable

import attrs
import trio

from mcp_gateway.backends.transports.pipe import TooLong
from mcp_gateway.errors import BackendError, BackendGone, Executed
from mcp_gateway.values import BackendKey, JsonObject

KEY = BackendKey("files")


@attrs.define(eq=False)
class ScriptedPipe:
    """Keeps what is sent, gives what the test feeds; honest about whole frames and about its end."""

    sent: list[bytes] = attrs.field(factory=list)
    sends: bool = True
    """False: nobody reads, ``send`` waits for ever."""
    closed: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _in: trio.MemorySendChannel[bytes | TooLong | BackendError] = attrs.field(init=False)
    _out: trio.MemoryReceiveChannel[bytes | TooLong | BackendError] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._in, self._out = trio.open_memory_channel(10_000)

    async def send(self, frame: bytes, handed: Callable[[], None], *, control: bool = False) -> None:
        assert b"\n" not in frame
        if not self.sends:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if self.closed:
            raise BackendGone(backend=KEY, executed=Executed.NO, why="closed")
        handed()
        self.sent.append(frame)
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def tell(self, frame: bytes) -> None:
        await self.send(frame, lambda: None, control=True)

    async def receive(self) -> bytes | TooLong:
        found = await self._out.receive()
        if isinstance(found, BackendError):
            raise found
        return found

    async def aclose(self) -> None:
        self.closed += 1
        self.end("closed")
        await trio.lowlevel.checkpoint()

    # --- the far end ---

    def feed(self, *frames: bytes | TooLong) -> None:
        """Say something."""
        for frame in frames:
            self._in.send_nowait(frame)

    def say(self, **message: object) -> None:
        """Say one message."""
        self.feed(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def end(self, why: str) -> None:
        """Hang up."""
        self._in.send_nowait(BackendGone(backend=KEY, why=why))

    async def heard(self, count: int) -> list[JsonObject]:
        """Wait until ``count`` messages were sent to us; give them all."""
        while len(self.sent) < count:
            await self._changed.wait()
        return [json.loads(frame) for frame in self.sent]
