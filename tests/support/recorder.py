"""A backend of both eras that remembers what it was told, and when.

Owns one listener with two servers, ``old`` (2025-11-25, with sessions) and ``new`` (2026-07-28), and the record of
their calls. Deliberately honest: it does what its tools say and nothing else. Invariant: a call is in ``running`` from
the moment it has arrived until its answer or its cancellation: for ``old`` a notice, for ``new`` a closed connection.
"""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import orjson
import trio

from tests.support.nasty import Entry, good_answer, named, tool, url_of
from tests.support.raw_http import RawConnection, RawRequest, RawServer, serve_raw

TOOLS: Final = (tool("echo"), tool("hang"), tool("wait"), tool("big"))
"""``echo`` answers at once, ``hang`` never, ``wait`` when the test says so, ``big`` with as many MiB as asked for."""
NAMES: Final = ("old", "new")


@attrs.frozen(kw_only=True)
class Told:
    """One call that its backend was told to give up, or whose connection was closed."""

    server: str
    how: str
    """``notice`` or ``closed``."""
    reason: str
    at: float


@attrs.define(eq=False, kw_only=True)
class Recorder:
    """What the two servers have seen."""

    server: RawServer
    arrived: int = 0
    """Calls of ``hang`` and ``wait`` so far."""
    running: set[tuple[str, str, int]] = attrs.field(factory=set)
    """Server, session (or connection) and id of each call that has no answer yet."""
    told: list[Told] = attrs.field(factory=list)
    sessions: set[str] = attrs.field(factory=set)
    """The open sessions of ``old``."""
    release: trio.Event = attrs.field(factory=trio.Event)
    """Lets the calls of ``wait`` be answered."""
    _news: trio.Event = attrs.field(factory=trio.Event)
    _numbers: Iterator[int] = attrs.field(factory=itertools.count)

    def entry(self, name: str, **more: object) -> Entry:
        """The configuration of one server."""
        return {"name": name, "url": url_of(self.server, name), **more}

    def entries(self, **more: object) -> list[Entry]:
        """The configuration of both."""
        return [self.entry(name, **more) for name in NAMES]

    async def until_arrived(self, calls: int) -> None:
        """Wait until so many calls of ``hang`` and ``wait`` have come."""
        while self.arrived < calls:
            await self._news.wait()

    async def until_quiet(self) -> None:
        """Wait until no call runs here."""
        while self.running:
            await self._news.wait()

    async def until_told(self, calls: int) -> None:
        """Wait until so many calls were given up."""
        while len(self.told) < calls:
            await self._news.wait()

    async def serve(self, connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await self._one(connection, request)

    async def _one(self, connection: RawConnection, request: RawRequest) -> None:
        name = named(request)
        message = request.json if request.body else {}
        # Whose ids they are: of a session, or in the newer era of a connection.
        session = request.headers.get("mcp-session-id", f"connection-{connection.number}")
        params: dict[str, Any] = message.get("params", {})  # type: ignore[assignment]  # what the gateway sends
        if request.method == "DELETE":
            self.sessions.discard(session)
        elif message.get("method") == "notifications/cancelled":
            self._given_up((name, session, params["requestId"]), "notice", params.get("reason", ""))
        elif message.get("method") == "tools/call" and params["name"] in ("hang", "wait"):
            await self._held(connection, request, (name, session, request.rpc_id), params["name"])
            return
        elif message.get("method") == "tools/call" and params["name"] == "big":
            params["arguments"]["x"] = "x" * (params["arguments"]["mib"] * 2**20)
            big = attrs.evolve(request, body=orjson.dumps(message))
            await connection.send(good_answer(big, name, TOOLS, modern=name == "new"))
            return
        answer = good_answer(request, name, TOOLS, modern=name == "new")
        if message.get("method") == "initialize" and name == "old":  # the other one refuses it
            own = f"session-{next(self._numbers)}"
            self.sessions.add(own)
            answer = answer.replace(b"old-session", own.encode())
        await connection.send(answer)

    async def _held(self, connection: RawConnection, request: RawRequest, call: tuple[str, str, int], how: str) -> None:
        """Keep a call until it is released or its connection closes."""
        self.running.add(call)
        self.arrived += 1
        self._tell()
        try:
            async with trio.open_nursery() as nursery:

                async def answer() -> None:
                    await self.release.wait()
                    self.running.discard(call)
                    await connection.send(good_answer(request, call[0], TOOLS, modern=call[0] == "new"))
                    nursery.cancel_scope.cancel("answered")

                if how == "wait":
                    nursery.start_soon(answer)
                await connection.gone()
                nursery.cancel_scope.cancel("the gateway has left")
        finally:
            if call[0] == "new":  # leaving is cancelling in this era only
                self._given_up(call, "closed", "")
            self._tell()

    def _given_up(self, call: tuple[str, str, int], how: str, reason: str) -> None:
        if call in self.running:
            self.running.discard(call)
            self.told.append(Told(server=call[0], how=how, reason=reason, at=trio.current_time()))
            self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()


@asynccontextmanager
async def recorder() -> AsyncIterator[Recorder]:
    """Run both servers until the block ends."""
    found: list[Recorder] = []

    async def serve(connection: RawConnection) -> None:
        await found[0].serve(connection)

    async with serve_raw(serve) as server:
        found.append(Recorder(server=server))
        yield found[0]
