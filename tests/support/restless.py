"""Good servers that are restless: they shout that their lists have changed, leave, or come and go.

Owns such servers and what the gateway asked them. Deliberately judges nothing.
Invariant: all of a server ends with its block.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import orjson
import trio

from tests.support.nasty import META, QUICK, Entry, good_answer, lists, named, tool, url_of
from tests.support.raw_http import RawConnection, RawRequest, event, serve_raw


@attrs.define(eq=False)
class Storm:
    """Two servers that shout that their lists have changed, and how the gateway took it."""

    entries: list[Entry] = attrs.field(factory=list)
    shouted: dict[str, int] = attrs.field(factory=dict)
    """Notices sent, by server."""
    lists: dict[str, int] = attrs.field(factory=dict)
    """How often each was asked for its tools."""
    reading: dict[str, int] = attrs.field(factory=dict)
    """Such requests that are being answered."""
    most: int = 0
    """The most of them at once, at one server."""
    begin: trio.Event = attrs.field(factory=trio.Event)
    over: trio.Event = attrs.field(factory=trio.Event)
    """Both have shouted all they had to."""

    async def listed(self, name: str) -> None:
        """Answering a list takes a while."""
        self.lists[name] = self.lists.get(name, 0) + 1
        self.reading[name] = self.reading.get(name, 0) + 1
        self.most = max(self.most, self.reading[name])
        await trio.sleep(0.1)  # the misdeed itself: refreshes would pile up
        self.reading[name] -= 1

    async def shout(self, connection: RawConnection, request: RawRequest, times: int) -> None:
        """Accept the stream, and shout so often within a second, in any order of kinds."""
        name = named(request)
        await connection.begin_events()
        meta: Entry = {}
        if request.body:
            meta = {"_meta": {META + "subscriptionId": request.rpc_id}}
            await connection.send_chunk(notice("notifications/subscriptions/acknowledged", meta))
        await self.begin.wait()
        for _ in range(times):
            await connection.send_chunk(notice("notifications/tools/list_changed", meta))
            self.shouted[name] = self.shouted.get(name, 0) + 1
            await trio.sleep(0.8 / times)
        if len(self.shouted) == 2 and min(self.shouted.values()) == times:
            self.over.set()
        await connection.gone()


def notice(method: str, params: Entry) -> bytes:
    return event(orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params}))


@asynccontextmanager
async def storm(times: int) -> AsyncIterator[Storm]:
    """``old`` shouts on its GET stream, ``new`` on its listen stream, once ``begin`` is set."""
    made = Storm()

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            name = named(request)
            if request.method == "GET" or b'"subscriptions/listen"' in request.body:
                await made.shout(connection, request, times)
                continue
            if lists(request):
                await made.listed(name)
            tools = [tool("echo", description=str(made.lists.get(name)))]
            await connection.send(good_answer(request, name, tools, modern=name == "new", announces=True))

    async with serve_raw(script) as server:
        made.entries = [{"name": name, "url": url_of(server, name)} for name in ("old", "new")]
        yield made


@attrs.frozen
class Leaver:
    """A good server that leaves when it is told to."""

    entry: Entry
    leave: trio.Event
    left: trio.Event


async def until_told(name: str, task_status: trio.TaskStatus[Leaver] = trio.TASK_STATUS_IGNORED) -> None:
    """Run a ``Leaver``; its listener and connections close when it leaves."""

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await connection.send(good_answer(request, name, [tool("echo")], modern=True))

    async with serve_raw(script) as server:
        leaver = Leaver({"name": name, "url": url_of(server, name), **QUICK}, trio.Event(), trio.Event())
        task_status.started(leaver)
        await leaver.leave.wait()
    leaver.left.set()


@asynccontextmanager
async def flapping(name: str, period_s: float) -> AsyncIterator[Entry]:
    """A good server that is there for so long, and then not, listener and connections, again and again."""

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await connection.send(good_answer(request, name, [tool("echo")], modern=True))

    async def flap(task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        port = 0
        while True:
            async with serve_raw(script, port=port) as server:
                if not port:
                    port = server.port
                    task_status.started(port)
                await trio.sleep(period_s)
            await trio.sleep(period_s)

    async with trio.open_nursery() as nursery:
        port = await nursery.start(flap)
        yield {"name": name, "url": f"http://127.0.0.1:{port}/{name}/mcp", **QUICK}
        nursery.cancel_scope.cancel("flapped enough")
