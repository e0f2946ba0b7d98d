"""Links over a pipe that many requests share: stdio and legacy HTTP+SSE.

Owns the one reader of a pipe, the hand-off of what it reads to the exchanges
that wait, and the pipe's own answers (pings, refusals). Deliberately knows no
processes, no HTTP and no handshake. Invariant: the reader never waits for a
receiver, so one slow or stuck exchange holds up no other; whoever leaves an
exchange early has told the backend within ``GOODBYE_S``.
"""

import logging
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

import attrs
import trio

from mcp_gateway.backends.observer import SILENT, Observer
from mcp_gateway.backends.transports.base import GOODBYE_S, Answer, Hear, Hello, Inbound, Outgoing
from mcp_gateway.backends.transports.correlate import Correlator
from mcp_gateway.backends.transports.inbox import Inbox
from mcp_gateway.backends.transports.limiter import Limiter
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import (
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendTooLarge,
    Executed,
    LocalFault,
    RemoteFault,
)
from mcp_gateway.protocol import json_text, jsonrpc, splice, tasks
from mcp_gateway.protocol.eras import Era
from mcp_gateway.values import BackendKey, Params, RequestId

logger = logging.getLogger(__name__)

CONTROL_EXCHANGES: Final = 256
"""Pings, probes and listen streams at once, beside ``limits.concurrency``; more wait. Each costs an inbox only."""
UNATTRIBUTED: Final = 256
"""Messages that belong to no exchange and wait for the one who hears them."""
OWN_ANSWERS: Final = 64
"""Answers of our own (pings, refusals) that wait to be written; more are dropped and counted."""
REASON_CHARS: Final = 256
JUNK_LOGGED: Final = 20
"""Frames that are no messages: so many are logged one by one, the rest only counted."""

_REFUSED: Final = -32603
_TOO_MANY: Final = "too many requests at once"
_TOO_LONG: Final = f"a request above {json_text.MAX_PARSED_BYTES} bytes is not relayed"
_CALL_HEAD: Final = re.compile(rb'[^\[{]*\{[^\[{]{0,200}"method"')


@attrs.frozen(kw_only=True)
class TooLong:
    """A frame above the pipe's bound: only its head was kept."""

    head: bytes = attrs.field(repr=False)
    bound: int
    limit: str = "limits.responseBytes"


class Pipe(Protocol):
    """What carries whole frames; every method may be called by several tasks, ``receive`` by one."""

    async def send(self, frame: bytes, handed: Callable[[], None], *, control: bool = False) -> None:
        """Send one frame, whole or not at all; ``frame`` is JSON without a newline.

        ``handed`` is called just before the first byte may leave; cancelled before that, nothing was sent.

        Raises:
            BackendError: it was not sent; ``executed`` says whether some of it may have arrived.
        """

    async def tell(self, frame: bytes) -> None:
        """Send a notice: a frame that may come twice, of which many may be due at one instant. Errors as ``send``."""

    async def receive(self) -> bytes | TooLong:
        """The next frame.

        Raises:
            BackendError: the pipe has ended, and why.
        """
        ...

    async def aclose(self) -> None:
        """End the pipe within ``GOODBYE_S`` and free everything; idempotent, finishes even when cancelled."""


@attrs.define(eq=False)
class PipeLink:
    """One conversation over one pipe (``base.Link``); made by ``open_pipe``."""

    key: BackendKey
    shared: bool
    _pipe: Pipe = attrs.field(alias="pipe", repr=False)
    _limits: BackendLimits = attrs.field(alias="limits", repr=False)
    _on_lost: Callable[[str], None] = attrs.field(alias="on_lost", repr=False)
    _observer: Observer = attrs.field(alias="observer", repr=False)
    junk: int = attrs.field(default=0, init=False)
    """Frames that are no JSON-RPC message, or one that the era does not have."""
    unanswered: int = attrs.field(default=0, init=False)
    """Answers of our own that were dropped because the backend did not read."""
    _hello: Hello | None = attrs.field(default=None, init=False)
    _why_lost: str | None = attrs.field(default=None, init=False)
    _pending: Correlator[Inbox] = attrs.field(init=False, repr=False)
    _control: Limiter = attrs.field(factory=lambda: Limiter(limit=CONTROL_EXCHANGES), init=False, repr=False)
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    _unattributed: Inbox = attrs.field(init=False, repr=False)
    _answers_in: trio.MemorySendChannel[bytes] = attrs.field(init=False, repr=False)
    _answers_out: trio.MemoryReceiveChannel[bytes] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._pending = Correlator(bound=self._limits.concurrency + CONTROL_EXCHANGES)
        self._unattributed = Inbox(messages=UNATTRIBUTED)
        self._answers_in, self._answers_out = trio.open_memory_channel(OWN_ANSWERS)

    @property
    def hello(self) -> Hello:
        """What the backend said of itself."""
        if self._hello is None:
            raise LocalFault(what="a pipe was used before its handshake")
        return self._hello

    @property
    def era(self) -> Era:
        """See ``base.Link``."""
        return self.hello.era

    @property
    def lost(self) -> bool:
        """See ``base.Link``."""
        return self._why_lost is not None

    @property
    def late(self) -> int:
        """Answers and progress that nobody waited for any more."""
        return self._pending.late

    @property
    def dropped(self) -> int:
        """Messages that belong to no exchange and were dropped at the bound."""
        return self._unattributed.dropped

    @property
    def in_flight(self) -> int:
        """Exchanges that wait for an answer."""
        return len(self._pending)

    async def gone(self) -> str:
        """Wait until the link is lost; return why."""
        await self._ended.wait()
        return self._why_lost or ""

    def greeted(self, hello: Hello) -> None:
        """The handshake is done; called once, by the opener."""
        self._hello = hello

    async def exchange(self, outgoing: Outgoing, hear: Hear) -> Answer:
        """See ``base.Link``. Between reader and ``hear`` lies an ``Inbox``: bounded, progress coalesced at the bound.

        What is no call, because of ``outgoing.control`` or because it waits for the result of a task, waits for one of
        ``CONTROL_EXCHANGES`` places; those of calls are their backend's.
        """
        if not outgoing.control and outgoing.task is None:
            return await self._exchange(outgoing, hear)
        await self._control.enter()
        try:
            return await self._exchange(outgoing, hear)
        finally:
            self._control.leave()

    async def _exchange(self, outgoing: Outgoing, hear: Hear) -> Answer:
        self._refuse_if_lost()
        box = Inbox(owns_requests=not outgoing.control)
        upstream_id = self._pending.issue(box)
        try:
            frame = splice.one_line(outgoing.render(upstream_id))
            await self._deliver(frame, box, outgoing)
            return await _attend(box, hear)
        finally:
            # Still waiting: neither answered nor lost, so somebody gave up on it.
            if self._pending.leave(upstream_id) and box.handed and outgoing.cancellable:
                with trio.move_on_after(GOODBYE_S, shield=True):
                    await self._say_cancelled(upstream_id, _why_left())

    async def _deliver(self, frame: bytes, box: Inbox, outgoing: Outgoing) -> None:
        try:
            await self._pipe.send(frame, box.hand_over, control=outgoing.control)
        except BackendError as refused:
            box.handed = refused.executed is not Executed.NO  # what was surely not executed needs no cancelling
            raise

    async def _say_cancelled(self, upstream_id: int, reason: str) -> None:
        params = json_text.dumps({"requestId": upstream_id, "reason": reason})
        frame = jsonrpc.render_notification("notifications/cancelled", params)
        try:
            await self._pipe.tell(frame)
        except BackendError as gone:
            logger.debug("cancellation not delivered", extra={"backend": self.key, "why": str(gone)})

    async def notify(self, message: bytes) -> None:
        """Send one notification, or the response to a request of the backend; see ``base.Link``."""
        self._refuse_if_lost()
        await self._pipe.send(splice.one_line(message), nothing, control=True)

    async def aclose(self) -> None:
        """Fail what waits, end the pipe within ``GOODBYE_S``; idempotent."""
        self._lose("closed by the gateway", wanted=True)
        await self._pipe.aclose()

    def _refuse_if_lost(self) -> None:
        if self._why_lost is not None:
            raise BackendGone(backend=self.key, executed=Executed.NO, why=self._why_lost)

    def _lose(self, why: str, *, wanted: bool = False) -> None:
        if self._why_lost is not None:
            return
        self._why_lost = why
        for box in self._pending.clear():
            executed = Executed.UNKNOWN if box.handed else Executed.NO
            box.fail(BackendGone(backend=self.key, executed=executed, why=why))
        self._ended.set()
        if not wanted and self._hello is not None:
            self._on_lost(why)

    # --- what runs for as long as the pipe is open ---------------------------------------------------------------

    async def read(self) -> None:
        """Read frames until the pipe ends, then end it on our side too."""
        while True:
            try:
                frame = await self._pipe.receive()
            except BackendError as gone:
                self._lose(gone.why if isinstance(gone, BackendGone) else str(gone))
                await self._pipe.aclose()
                return
            self._sort(frame)

    async def tell_unattributed(self, hear: Hear) -> None:
        """Give ``hear`` what belongs to no exchange, in order."""
        while True:
            await self._unattributed.changed()
            message = self._unattributed.next()
            if message is not None:
                await hear(message)

    async def send_own_answers(self) -> None:
        """Write our own answers, so that the reader need not wait for a backend that does not read."""
        async for frame in self._answers_out:
            try:
                await self._pipe.send(frame, nothing, control=True)
            except BackendError as gone:
                logger.debug("own answer not delivered", extra={"backend": self.key, "why": str(gone)})

    # --- sorting one frame, without waiting ----------------------------------------------------------------------

    def _sort(self, frame: bytes | TooLong) -> None:
        if isinstance(frame, TooLong):
            self._sort_too_long(frame)
            return
        if not frame.lstrip().startswith((b"{", b"[")):  # a log line; there may be a flood of them
            self._count_junk("no JSON object")
            return
        if frame.startswith(b"[") and self._hello is not None and self._hello.era.batches:
            self._sort_batch(frame)
            return
        try:
            if _CALL_HEAD.match(frame) is None:
                answer = Answer(raw=frame)
                self._settle(answer.parts.id, answer)
                return
        except RemoteFault:
            pass  # a call whose members stand in an unusual order, or no message at all
        self._sort_call(frame)

    def _sort_batch(self, frame: bytes) -> None:
        """Implementations "MUST support receiving JSON-RPC batches" -- MCP 2025-03-26 basic/index."""
        try:
            messages = jsonrpc.split_batch(frame)
        except RemoteFault as fault:
            self._count_junk(str(fault))
            return
        for message in messages:
            self._sort(message)

    def _sort_call(self, frame: bytes) -> None:
        try:
            if len(frame) > json_text.MAX_PARSED_BYTES:
                self._refuse_long_call(frame)
                return
            message = jsonrpc.read(frame)
        except RemoteFault as fault:
            self._sort_broken(frame, str(fault))
            return
        match message:
            case jsonrpc.RpcNotification():
                self._on_notification(Inbound(method=message.method, params=message.params, raw=frame))
            case jsonrpc.RpcRequest():
                self._on_request(
                    Inbound(method=message.method, params=message.params, raw=frame, id_raw=message.id_raw)
                )
            case jsonrpc.RpcResponse():
                self._settle(message.id, Answer(raw=frame))

    def _settle(self, answered: RequestId | None, answer: Answer) -> None:
        box = self._pending.take(answered)
        if box is not None:
            box.settle(answer)
        elif self._pending.issued(answered):
            self._observer.late_answer(self.key)

    def _on_notification(self, message: Inbound) -> None:
        box = self._pending.about(message.method, message.params, modern=self._modern)
        if box is not None:
            box.put(message)
        elif message.method == "notifications/progress" and not outlives(message.params):
            self._pending.late += 1  # its exchange has ended; nobody else can use it
        else:
            self._unattributed.put(message)

    def _on_request(self, message: Inbound) -> None:
        id_raw = message.id_raw or b"null"
        if self._modern:
            # No client writes responses in this era, so there is nothing to ask it -- MCP 2026-07-28, stdio.
            self._count_junk("a request, which this protocol version does not have")
        elif message.method == "ping":
            self._answer(jsonrpc.render_result(id_raw, b"{}"))
        elif not (self._only_exchange() or self._unattributed).put(message):
            self._answer(jsonrpc.render_error(id_raw, _REFUSED, _TOO_MANY))

    def _only_exchange(self) -> Inbox | None:
        """The one exchange that a request can belong to; control exchanges call no tools, so they cause none."""
        boxes = [box for box in self._pending.waiting() if box.owns_requests and box.handed]
        return boxes[0] if len(boxes) == 1 else None

    @property
    def _modern(self) -> bool:
        return self._hello is not None and self._hello.era.modern

    def _answer(self, frame: bytes) -> None:
        try:
            self._answers_in.send_nowait(frame)
        except trio.WouldBlock:
            self.unanswered += 1

    def _sort_too_long(self, frame: TooLong) -> None:
        """Fail the exchange whose answer it is; one that cannot be named meets its deadline."""
        error = BackendTooLarge(backend=self.key, executed=Executed.YES, limit=frame.limit, bound=frame.bound)
        if not self._fail_answered(frame.head, error):
            self._count_junk(str(error))

    def _sort_broken(self, frame: bytes, why: str) -> None:
        """No message. If it looks like an answer (NaN in it, say), its exchange learns so now, not at its deadline."""
        error = BackendProtocol(backend=self.key, executed=Executed.YES, why=f"its answer is malformed: {why}")
        if not self._fail_answered(frame, error):
            self._count_junk(why)

    def _fail_answered(self, head: bytes, error: BackendError) -> bool:
        claimed = jsonrpc.claimed_id(head)
        box = self._pending.take(claimed) if claimed is not None else None
        if box is not None:
            box.fail(error)
        return box is not None

    def _refuse_long_call(self, frame: bytes) -> None:
        """Parsing is loop time: a call above the bound is refused, a notification dropped."""
        id_raw = splice.value_at(frame, ("id",))
        if id_raw is not None and not self._modern:
            self._answer(jsonrpc.render_error(id_raw, _REFUSED, _TOO_LONG))
        self._count_junk(_TOO_LONG)

    def _count_junk(self, why: str) -> None:
        self.junk += 1
        self._observer.message_skipped(self.key)
        if self.junk <= JUNK_LOGGED:
            logger.debug("not a message", extra={"backend": self.key, "why": why, "count": self.junk})


async def _attend(box: Inbox, hear: Hear) -> Answer:
    """Hear what comes, in order, until the answer."""
    while True:
        if isinstance(box.outcome, BackendError):
            raise box.outcome
        message = box.next()
        if message is not None:
            with trio.CancelScope() as box.hearing:
                await hear(message)
            box.hearing = None
        elif box.outcome is not None:
            return box.outcome
        else:
            await box.changed()


def outlives(params: Params) -> bool:
    """Whether progress is of a call that may have become a task, which goes on after its exchange."""
    return tasks.request_of(params.get("progressToken")) is not None


def nobody_cares(why: str) -> None:
    """For links whose owner waits for ``gone`` instead."""


def nothing() -> None:
    """For frames of which nobody asks whether they left."""


def _why_left() -> str:
    """Why the exchange being left is left, for the backend's log; called while the exception is on its way."""
    leaving = sys.exception()
    while isinstance(leaving, BaseExceptionGroup):
        leaving = leaving.exceptions[0]
    if not isinstance(leaving, trio.Cancelled):
        return "the gateway could not relay the answer"
    return (leaving.reason or leaving.source)[:REASON_CHARS]


@asynccontextmanager
async def open_pipe(
    pipe: Pipe,
    *,
    key: BackendKey,
    limits: BackendLimits,
    shared: bool,
    unattributed: Hear,
    on_lost: Callable[[str], None],
    observer: Observer = SILENT,
) -> AsyncIterator[PipeLink]:
    """Run a link over ``pipe`` for as long as the block lives; the pipe is closed with it.

    ``on_lost`` is called once, with the reason, when the pipe ends by itself after ``greeted``; it must not wait.
    The block's errors leave as a group.
    """
    link = PipeLink(key=key, shared=shared, pipe=pipe, limits=limits, on_lost=on_lost, observer=observer)
    async with trio.open_nursery() as nursery:
        try:
            nursery.start_soon(link.read, name=f"pipe reader:{key}")
            nursery.start_soon(link.tell_unattributed, unattributed, name=f"pipe unattributed:{key}")
            nursery.start_soon(link.send_own_answers, name=f"pipe answers:{key}")
            yield link
        finally:
            with trio.move_on_after(GOODBYE_S, shield=True):
                await link.aclose()
            nursery.cancel_scope.cancel("link closed")
