"""What a 2025 client may have missed: the last events of each of its streams.

Owns event ids and the bounded memory behind ``Last-Event-ID``. Deliberately sends
nothing. Invariant: an event id names its stream, and only that stream's later
events are ever given for it; memory stays below the bounds of ``limits.replay*``.

Spec: MCP 2025-11-25 basic/transports, Resumability and Redelivery.
"""

import secrets
from collections import OrderedDict, deque
from collections.abc import Callable

import attrs
import trio

KEPT_STREAMS = 64
"""Streams remembered per session; the oldest one that nothing is added to goes first."""


@attrs.define(eq=False)
class ReplayBudget:
    """Bytes that all sessions together may keep (``limits.replayTotal``).

    At the bound the session that has been quiet for longest gives up its oldest events, not the one that speaks now.
    """

    total_bytes: int
    used_bytes: int = 0
    _writers: "OrderedDict[Replay, None]" = attrs.field(factory=OrderedDict)
    """Who keeps anything; the last to add something stands last."""

    def charge(self, replay: "Replay", size: int) -> None:
        """``replay``, whose own count is up to date, keeps ``size`` bytes more (or less)."""
        self.used_bytes += size
        if not replay.used_bytes:
            self._writers.pop(replay, None)
        elif size > 0:
            self._writers[replay] = None
            self._writers.move_to_end(replay)

    def trim(self) -> None:
        """Drop until the bound holds."""
        while self.used_bytes > self.total_bytes and self._writers:
            next(iter(self._writers)).drop_oldest()


@attrs.define(eq=False)
class StreamLog:
    """The kept events of one stream: (sequence number, data, time), oldest first."""

    name: str
    owner: "Replay"
    events: deque[tuple[int, bytes, float]] = attrs.field(factory=deque)
    next_seq: int = 0
    ended: bool = False
    standalone: bool = False
    """Not of a call: it ends with the session, but grows only while a client holds it."""
    holder: Callable[[], None] | None = None
    """Makes the connection that it is sent on now let go; one that resumes takes its place."""
    _grown: trio.Event = attrs.field(factory=trio.Event)

    def append(self, data: bytes) -> str:
        """Keep one event; return its id. Oldest events go when a bound is reached; an ended log keeps nothing."""
        seq, self.next_seq = self.next_seq, self.next_seq + 1
        if not self.ended:
            self.events.append((seq, data, trio.current_time()))
            self.owner.charge(len(data))
            self.owner.keep_to_bytes()
            self._wake()
        return f"{self.name}-{seq}"

    def end(self) -> None:
        """No further event will come."""
        self.ended, self.holder = True, None
        self._wake()

    def taken_by(self, holder: Callable[[], None]) -> None:
        """From now on it is sent there alone: a message must not go out on two streams."""
        before, self.holder = self.holder, holder
        if before is not None:
            before()

    def after(self, seq: int) -> list[tuple[int, bytes]] | None:
        """Events later than ``seq``; None when one of them is no longer kept."""
        kept = [(number, data) for number, data, _ in self.events if number > seq]
        return kept if len(kept) == self.next_seq - 1 - seq else None

    @property
    def idle(self) -> bool:
        """Whether nothing will be added, unless its client comes back."""
        return self.ended or (self.standalone and self.holder is None)

    async def grown(self) -> None:
        """Wait until something was added or the stream ended."""
        await self._grown.wait()

    def _wake(self) -> None:
        grown, self._grown = self._grown, trio.Event()
        grown.set()


@attrs.define(eq=False, kw_only=True)
class Replay:
    """The stream logs of one session."""

    budget: ReplayBudget
    session_bytes: int
    age_s: float
    owner: str = ""
    """The process that event ids name; "" for none."""
    _tag: str = attrs.field(factory=lambda: secrets.token_hex(4))
    """New with every object: ids from before a restart never name a stream of today."""
    _streams: OrderedDict[str, StreamLog] = attrs.field(factory=OrderedDict)
    _next: int = 0
    _closed: bool = False
    used_bytes: int = 0

    def __len__(self) -> int:
        """Streams remembered."""
        return len(self._streams)

    def open(self, *, standalone: bool = False) -> StreamLog:
        """Begin the log of a new stream."""
        while len(self._streams) >= KEPT_STREAMS and self._drop_idle():
            pass
        log = StreamLog(
            name=f"{self.owner and self.owner + '~'}{self._tag}-{self._next}",
            owner=self,
            standalone=standalone,
            ended=self._closed,
        )
        self._next += 1
        if not self._closed:
            self._streams[log.name] = log
        return log

    def find(self, event_id: str) -> tuple[StreamLog, int] | None:
        """The stream and sequence number an event id names; None when it is not one of ours."""
        self.trim()
        name, _, seq = event_id.rpartition("-")
        log = self._streams.get(name)
        if log is None or not seq.isascii() or not seq.isdigit() or len(seq) > 9:
            return None
        return (log, int(seq)) if int(seq) < log.next_seq else None

    def charge(self, size: int) -> None:
        """Count what an event takes, here and in what all sessions share."""
        self.used_bytes += size
        self.budget.charge(self, size)

    def trim(self) -> None:
        """Drop oldest first until every bound holds. Too old is only what is looked for, and what is tidied up."""
        horizon = trio.current_time() - self.age_s
        for log in self._streams.values():
            while log.events and log.events[0][2] < horizon:
                self.charge(-len(log.events.popleft()[1]))
        self.keep_to_bytes()

    def keep_to_bytes(self) -> None:
        """The same for the bounds on bytes."""
        while self.used_bytes > self.session_bytes:
            self.drop_oldest()
        self.budget.trim()

    def drop_oldest(self) -> None:
        """Give up the oldest event of all streams."""
        log = min((log for log in self._streams.values() if log.events), key=lambda log: log.events[0][2])
        self.charge(-len(log.events.popleft()[1]))

    def clear(self) -> None:
        """Give everything back for good (the session ends)."""
        self._closed = True
        for log in self._streams.values():
            log.end()
            log.events.clear()
        self.charge(-self.used_bytes)
        self._streams.clear()

    def _drop_idle(self) -> bool:
        oldest = next((log for log in self._streams.values() if log.idle), None)
        if oldest is None:
            return False
        self.charge(-sum(len(data) for _, data, _ in oldest.events))
        del self._streams[oldest.name]
        return True
