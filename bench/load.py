"""The load generator: many connections in one plain epoll loop, cheap enough to stand beside C programs.

Owns the sending of rendered requests, closed-loop or at a fixed rate, and the look at every answer: its status, its id
and its content. Deliberately no Trio: it runs in a thread of the benchmark, whose other tasks go on. Invariant: one
request at a time on a connection, each with an id of its own, and nothing is counted as answered that was not checked.
"""

import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import attrs
import httptools
import orjson
import trio

from bench import messages

RECEIVE_BYTES: Final = 256 * 1024
ANSWER_S: Final = 30.0
"""The longest that an answer may take."""
FIRST_ID: Final = 100_000_000
"""All ids have nine digits, so that a request is rendered but for its id."""
_MARK: Final = 987_654_321

Check = Callable[[messages.Json, int], str]
"""Looks at a result and at the number of the call's progress notifications; says what is wrong, or nothing."""


@attrs.frozen(kw_only=True)
class Ask:
    """One kind of request, whole but for its id."""

    parts: tuple[bytes, ...] = attrs.field(repr=False)
    """What is between the places of the id."""
    check: Check = attrs.field(repr=False)

    @classmethod
    def of(cls, render: Callable[[int], bytes], check: Check) -> "Ask":
        """From a function that renders a request with a given id."""
        parts = render(_MARK).split(b"%d" % _MARK)
        assert len(parts) > 1, "the request does not hold its id"
        return cls(parts=tuple(parts), check=check)


@attrs.define(eq=False, kw_only=True)
class Loaded:
    """What one run gave."""

    lags_ms: list[float] = attrs.field(factory=list)
    """Of the answers that were right; at a fixed rate from the moment the request was due."""
    wrong: list[str] = attrs.field(factory=list)
    """Answers that were not right, and requests that got none."""
    refused: int = 0
    """Connections that could not be made (again)."""
    elapsed_s: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.lags_ms) / self.elapsed_s if self.elapsed_s else 0.0


@attrs.define(eq=False)
class _Connection:
    """One connection; also the callbacks of its parser."""

    host: str
    ask: Ask
    rpc_id: int
    due_at: float = 0.0
    sent_at: float = 0.0
    """0 while nothing is asked."""
    sock: socket.socket | None = None
    body: bytearray = attrs.field(factory=bytearray)
    events: bool = False
    complete: bool = False
    keep: bool = True
    parser: httptools.HttpResponseParser = attrs.field(init=False)

    def dial(self) -> socket.socket:
        name, _, port = self.host.rpartition(":")
        self.sock = socket.create_connection((name, int(port)), timeout=ANSWER_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.parser = httptools.HttpResponseParser(self)
        return self.sock

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def on_message_begin(self) -> None:
        self.body, self.events, self.complete = bytearray(), False, False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.events |= value.startswith(b"text/event-stream")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete, self.keep = True, self.parser.should_keep_alive()

    def verdict(self) -> str:
        """What is wrong with the whole answer, or nothing."""
        status = self.parser.get_status_code()
        if status != 200:
            return f"status {status}: {bytes(self.body[:200])!r}"
        notes, raw = 0, bytes(self.body)
        if self.events:
            found = [line[5:] for line in raw.splitlines() if line.startswith(b"data:") and len(line) > 6]
            raw = found[-1] if found else b""
            notes = sum(b"progress" in line and b"%d" % self.rpc_id in line for line in found[:-1])
        try:
            message = orjson.loads(raw)
        except ValueError:
            return f"no JSON: {raw[:200]!r}"
        if message.get("id") != self.rpc_id:
            return f"the answer to {message.get('id')} came for {self.rpc_id}"
        if "result" not in message:
            return f"an error: {raw[:200]!r}"
        return self.ask.check(message["result"], notes)


@attrs.define(eq=False, kw_only=True)
class Load:
    """Connections to one host, each for one kind of request; they are kept from one run to the next."""

    connections: list[_Connection]
    loaded: Loaded = attrs.field(factory=Loaded)
    """Of the last run."""
    _epoll: select.epoll = attrs.field(factory=select.epoll)
    _by_fd: dict[int, _Connection] = attrs.field(factory=dict)
    _period_s: float = 0.0
    """Between two requests of one connection; 0 in a closed loop."""
    _until_at: float = 0.0
    _look: bool = True
    """Whether connections may wait for being asked on; in a closed loop, only after a loss."""

    @classmethod
    def of(cls, host: str, asks: Sequence[Ask], connections: int) -> "Load":
        """So many connections, the kinds of request in turn; dialled when they are needed."""
        return cls(
            connections=[
                _Connection(host, asks[place % len(asks)], FIRST_ID + place * 1_000_000) for place in range(connections)
            ]
        )

    def run(self, seconds: float, *, rate: float = 0.0, stop: Callable[[], bool] = lambda: False) -> Loaded:
        """Ask for so long; blocks.

        Args:
            rate: requests per second in all; 0: each connection asks again as soon as it is answered.
            stop: asked often; True ends the run early.
        """
        self.loaded, self._look = Loaded(), True
        for fd, _ in self._epoll.poll(0):
            self._receive(self._by_fd[fd], over=True)  # closed since the last run
        began_at = time.perf_counter()
        self._period_s, self._until_at = len(self.connections) / rate if rate else 0.0, began_at + seconds
        for place, connection in enumerate(self.connections):
            connection.due_at = began_at + (place / rate if rate else 0.0)
        self._loop(stop)
        self.loaded.elapsed_s = time.perf_counter() - began_at
        return self.loaded

    def close(self) -> None:
        """Hang up."""
        for connection in self.connections:
            connection.close()
        self._epoll.close()

    def _loop(self, stop: Callable[[], bool]) -> None:
        while True:
            now = time.perf_counter()
            over = now >= self._until_at or stop()
            next_at, asked = now + 0.05, False
            look, self._look = self._look or over or self._period_s > 0, False
            for connection in self.connections if look else ():
                if not connection.sent_at and not over:
                    if connection.due_at <= now:
                        self._send(connection, now)
                    else:
                        self._look = True
                        next_at = min(next_at, connection.due_at)
                asked |= connection.sent_at > 0
            if over and (not asked or now > self._until_at + ANSWER_S):
                self._give_up()
                return
            if self._period_s:  # epoll counts milliseconds, select microseconds
                select.select([self._epoll.fileno()], [], [], max(0.0, next_at - time.perf_counter()))
            for fd, _ in self._epoll.poll(0 if self._period_s else 0.05):
                if (found := self._by_fd.get(fd)) is not None:
                    self._receive(found, over=over)

    def _give_up(self) -> None:
        for connection in self.connections:
            if connection.sent_at:
                self._lost(connection, "not answered")

    def _send(self, connection: _Connection, now: float) -> None:
        try:
            sock = connection.sock or self._dial(connection)
        except OSError:
            self.loaded.refused += 1
            self._look = True
            connection.due_at = now + max(self._period_s, 0.05)
            return
        connection.rpc_id += 1
        connection.sent_at = connection.due_at if self._period_s else now
        connection.due_at += self._period_s
        connection.complete = False
        try:
            sock.sendall((b"%d" % connection.rpc_id).join(connection.ask.parts))
        except OSError as error:
            self._lost(connection, str(error))

    def _dial(self, connection: _Connection) -> socket.socket:
        sock = connection.dial()
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._by_fd[sock.fileno()] = connection
        return sock

    def _receive(self, connection: _Connection, *, over: bool) -> None:
        assert connection.sock is not None
        try:
            data = connection.sock.recv(RECEIVE_BYTES)
            if data:
                connection.parser.feed_data(data)
        except BlockingIOError:
            return  # an event of a descriptor that has been closed and opened again
        except OSError as error:
            self._lost(connection, str(error))
            return
        if not data:
            self._lost(connection, "closed without an answer")
        elif connection.complete and connection.sent_at:
            now = time.perf_counter()
            if wrong := connection.verdict():
                self.loaded.wrong.append(wrong)
            else:
                self.loaded.lags_ms.append((now - connection.sent_at) * 1000)
            connection.sent_at, connection.complete = 0.0, False
            if not connection.keep:
                self._close(connection)
            if not self._period_s and not over and now < self._until_at:
                self._send(connection, now)

    def _lost(self, connection: _Connection, why: str) -> None:
        """The connection is gone; that is a failure when an answer was due on it."""
        if connection.sent_at:
            self.loaded.wrong.append(why)
        connection.sent_at = 0.0
        self._look = True
        self._close(connection)

    def _close(self, connection: _Connection) -> None:
        if connection.sock is not None:
            del self._by_fd[connection.sock.fileno()]
            with suppress(OSError):
                self._epoll.unregister(connection.sock.fileno())
        connection.close()


async def loaded(
    host: str,
    asks: Sequence[Ask],
    seconds: float,
    *,
    connections: int,
    rate: float = 0.0,
    stop: Callable[[], bool] = lambda: False,
) -> Loaded:
    """One run on connections of its own, in a thread."""
    made = Load.of(host, asks, connections)
    try:
        return await trio.to_thread.run_sync(partial(made.run, seconds, rate=rate, stop=stop))
    finally:
        made.close()
