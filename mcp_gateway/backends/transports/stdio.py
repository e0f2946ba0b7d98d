"""Backends that are child processes and speak JSON lines on stdin and stdout.

Owns the pipe to one child (its writer, its watcher) and the opening of a link
over it. Deliberately no restart and no back-off: the supervisor opens a new
link. Invariant: a frame is written whole or not at all, whoever is cancelled;
a child that does not read costs nobody more than ``WRITE_STALL_S``.
Spec: MCP basic/transports/stdio of every revision.
"""

import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeAlias

import attrs
import trio

from mcp_gateway.backends.observer import SILENT, Observer
from mcp_gateway.backends.transports import child as children
from mcp_gateway.backends.transports.base import ClientIdentity, Hear, Hello
from mcp_gateway.backends.transports.child import CHUNK_BYTES, Child, unheard
from mcp_gateway.backends.transports.lines import LineCutter, LongLine
from mcp_gateway.backends.transports.pipe import PipeLink, TooLong, nobody_cares, nothing, open_pipe
from mcp_gateway.backends.transports.pipe_greeting import NOBODY, greet, probe_and_greet
from mcp_gateway.config.spec import BackendLimits, StdioTarget
from mcp_gateway.errors import BackendError, BackendGone, Executed
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)

StdioLink: TypeAlias = PipeLink
Greeting: TypeAlias = Callable[[PipeLink, ClientIdentity], Awaitable[Hello]]

WRITE_STALL_S: Final = 10.0
"""How long a child may leave 64 KiB unread before it counts as stuck."""
LAST_WORDS_S: Final = 0.25
"""After the exit, for reading what the child had already written."""
LAST_FRAMES_S: Final = 0.1
"""At the end, for writing what was already handed over (cancellation notices)."""


@attrs.define(eq=False)
class ChildPipe:
    """Frames to and from one child (``pipe.Pipe``)."""

    child: Child
    _limits: BackendLimits
    _why: str | None = attrs.field(default=None, init=False)
    _cutter: LineCutter = attrs.field(init=False, repr=False)
    _ready: deque[bytes | LongLine] = attrs.field(factory=deque, init=False, repr=False)
    _frames_in: trio.MemorySendChannel[bytes] = attrs.field(init=False, repr=False)
    _frames_out: trio.MemoryReceiveChannel[bytes] = attrs.field(init=False, repr=False)
    _written: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    _read: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    _exited: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    _stopping: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._cutter = LineCutter(self._limits.response_bytes)
        # Size 0: a frame is either still its sender's, who may be cancelled, or the writer's, who writes it whole.
        self._frames_in, self._frames_out = trio.open_memory_channel(0)

    async def send(self, frame: bytes, handed: Callable[[], None], *, control: bool = False) -> None:
        """Hand one frame to the writer; see ``pipe.Pipe``. Frames keep their order, so ``control`` changes nothing."""
        try:
            await self._frames_in.send(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise self._gone(self._why or "its input was closed") from exc
        handed()

    async def tell(self, frame: bytes) -> None:
        """A line like any other; see ``pipe.Pipe``."""
        await self.send(frame, nothing)

    async def receive(self) -> bytes | TooLong:
        """The next line; see ``pipe.Pipe``."""
        if self._ready:
            await trio.lowlevel.checkpoint()  # a flood of short lines leaves room for others
        while not self._ready:
            try:
                chunk = await self.child.stdout.receive_some(CHUNK_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                chunk = b""
            if not chunk:
                raise self._gone(await self._how_it_ended())
            self._ready.extend(self._cutter.feed(bytes(chunk)))
        line = self._ready.popleft()
        if isinstance(line, LongLine):
            return TooLong(head=line.head, bound=self._limits.response_bytes)
        return line

    async def aclose(self) -> None:
        """Stop the child and its group; see ``pipe.Pipe``. A second caller waits for the first."""
        if self._stopping:
            with trio.move_on_after(LAST_FRAMES_S + children.STOP_S, shield=True):
                await self._ended.wait()
            return
        self._stopping = True
        try:
            self._frames_in.close()
            with trio.move_on_after(LAST_FRAMES_S, shield=True):
                await self._written.wait()
            with trio.move_on_after(children.STOP_S, shield=True):
                await self.child.stop()
        finally:
            self._ended.set()

    # --- what runs for as long as the child does -----------------------------------------------------------------

    async def write(self) -> None:
        """Write what is handed over, whole frames in order, until the pipe is closed or the child stops reading."""
        try:
            async for frame in self._frames_out:
                if not await self._write_lines(self._with_others(frame)):
                    break
        finally:
            self._frames_out.close()
            self._written.set()

    def _with_others(self, frame: bytes) -> bytearray:
        """The line of a frame, and of those handed over in the same moment until a chunk is full: one write for all."""
        lines = bytearray(frame)
        lines += b"\n"
        with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
            while len(lines) < CHUNK_BYTES:
                lines += self._frames_out.receive_nowait()
                lines += b"\n"
        return lines

    async def _write_lines(self, lines: bytearray) -> bool:
        for start in range(0, len(lines), CHUNK_BYTES):
            with trio.move_on_after(WRITE_STALL_S) as stall:
                try:
                    await self.child.stdin.send_all(lines[start : start + CHUNK_BYTES])
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    with trio.move_on_after(LAST_WORDS_S):
                        await self._exited.wait()  # which says more
                    self._give_up("it closed its input")
                    return False
            if stall.cancelled_caught:
                self._give_up(f"it read nothing for {WRITE_STALL_S:g} s")
                return False
        return True

    async def watch(self) -> None:
        """Notice the exit, even when somebody outside the group still holds the child's output open."""
        how = await self.child.ended()
        self._why = self._why or how
        self._exited.set()
        with trio.move_on_after(LAST_WORDS_S):
            await self._read.wait()
        await self.child.stdout.aclose()

    async def _how_it_ended(self) -> str:
        self._read.set()
        with trio.move_on_after(LAST_WORDS_S):
            await self._exited.wait()
        return self._why or "it closed its output"

    def _give_up(self, why: str) -> None:
        """Kill a child that is of no more use; ``watch`` and ``receive`` then tell everybody."""
        self._why = self._why or why
        self.child.kill()

    def _gone(self, why: str) -> BackendGone:
        return BackendGone(backend=self.child.key, executed=Executed.NO, why=why)


@asynccontextmanager
async def open_stdio(
    *,
    key: BackendKey,
    target: StdioTarget,
    limits: BackendLimits,
    unattributed: Hear,
    identity: ClientIdentity = NOBODY,
    on_exit: Callable[[str], None] = nobody_cares,
    observer: Observer = SILENT,
    stderr: Callable[[bytes], None] = unheard,
    hurry: trio.Event | None = None,
    pinned: str | None = None,
    shared: bool = True,
) -> AsyncIterator[StdioLink]:
    """Start a child, find out its era, and keep the link for as long as the block lives.

    The caller's scope bounds the opening (``timeouts.start``). Leaving the block stops the child and its group.

    Args:
        unattributed: hears what belongs to no exchange, in order; may wait, the reader does not wait for it.
        on_exit: called once with the reason when an opened link ends by itself; must not wait (see ``PipeLink.gone``).
        identity: what ``initialize`` says of the caller.
        stderr: told of each chunk that the child writes to standard error; must not wait.
        hurry: set when the gateway shuts down, so that a child which never answered gets no more time to end.
        pinned: the protocol version to speak; None: probe with ``server/discover``.
        shared: False when one client session owns the child.
    Raises (on entering):
        BackendGone: the command cannot be started, or the child ended or closed its output.
        BackendRefused, BackendProtocol: the handshake failed. Later the block's errors leave as a group.
    """
    # Some servers (rmcp) exit when the first message is not initialize, so a death by the probe gets a second start.
    greetings: list[Greeting] = [partial(greet, pinned=pinned)]
    if pinned is None:
        greetings.insert(0, probe_and_greet)
    while True:
        say_hello = greetings.pop(0)
        child = await children.start(key, target, trio.Event() if hurry is None else hurry)
        async with _running_child(child, limits, shared, unattributed, on_exit, observer, stderr) as link:
            try:
                link.greeted(await say_hello(link, identity))
            except BackendError as error:
                failure = error
                child.answered = not isinstance(error, BackendGone)  # a refusal is an answer
            else:
                child.answered = True
                yield link
                return
        if not greetings or not isinstance(failure, BackendGone):
            raise failure
        logger.info("child ended at the probe, started again without it", extra={"backend": key, "why": failure.why})


@asynccontextmanager
async def _running_child(
    child: Child,
    limits: BackendLimits,
    shared: bool,
    unattributed: Hear,
    on_exit: Callable[[str], None],
    observer: Observer,
    stderr: Callable[[bytes], None],
) -> AsyncIterator[StdioLink]:
    key, pipe = child.key, ChildPipe(child, limits)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipe.write, name=f"stdio writer:{key}")
            nursery.start_soon(pipe.watch, name=f"stdio watcher:{key}")
            nursery.start_soon(child.log_stderr, stderr, name=f"stdio stderr:{key}")
            async with open_pipe(
                pipe,
                key=key,
                limits=limits,
                shared=shared,
                unattributed=unattributed,
                on_lost=on_exit,
                observer=observer,
            ) as link:
                yield link
            nursery.cancel_scope.cancel("child stopped")
    finally:
        with trio.move_on_after(LAST_FRAMES_S + children.STOP_S, shield=True):
            await pipe.aclose()
