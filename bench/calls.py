"""What requests cost, beside nginx as a plain proxy of the same backend and beside other gateways.

Owns the kinds of request and who is asked them: calls by connections and eras, larger answers, lists, a fixed rate.
Deliberately no bound: it tells numbers (``guard`` has one). Invariant: every answer is checked for its id and content.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import attrs

from bench import messages
from bench.client import Client
from bench.figures import median
from bench.interleave import BASE, HEAD, Side, complaints, interleaved
from bench.load import Ask, Check
from bench.page import Run
from bench.processes import backends
from bench.rivals import Rival, present

OURS: Final = "mcp-gateway"
CONNECTIONS: Final = (1, 16, 64, 256)
FEW: Final = 16
"""The most connections that Python proxies are measured with."""
RATE: Final = 2000
LISTING: Final = 10
"""Backends of the lists."""
SIZES: Final = (10, 100, 1000)
ERAS: Final = ("2025", "2026")


@attrs.frozen(kw_only=True)
class Work:
    """One kind of request."""

    title: str
    tool: str
    """Empty: ``tools/list``."""
    check: Check
    connections: int = 16

    def ask(self, client: Client) -> Ask:
        """As this client writes it."""

        def render(rpc_id: int) -> bytes:
            if not self.tool:
                return client.request("tools/list", {}, rpc_id)
            return client.call(self.tool, {"q": "a question of a usual length, in which nothing is special"}, rpc_id)

        return Ask.of(render, self.check)


def text_of(size: int, notes: int = 0) -> Check:
    """The scripted text of this size, after so many notifications."""
    wanted = messages.text_result(size)["content"]

    def check(result: messages.Json, seen: int) -> str:
        if result.get("content") != wanted:
            return f"wrong content: {str(result)[:200]}"
        return "" if seen == notes else f"{seen} notifications instead of {notes}"

    return check


def tools_of(count: int) -> Check:
    """A list of so many tools."""

    def check(result: messages.Json, seen: int) -> str:
        tools = result.get("tools")
        found = len(tools) if isinstance(tools, list) else 0
        return "" if found == count else f"{found} tools instead of {count}"

    return check


CALL: Final = Work(title="tools/call", tool=messages.FAST, check=text_of(400))
PAYLOADS: Final = (
    Work(title="backend of 20 ms", tool=messages.WAIT, check=text_of(400)),
    Work(title="1 MiB result", tool=messages.LARGE, check=text_of(2**20), connections=4),
    Work(title="20 events", tool=messages.STREAM, check=text_of(400, messages.EVENTS - 1)),
)


@attrs.frozen(kw_only=True)
class Standing:
    """One that serves, with a client for it."""

    rival: Rival
    pair: tuple[str, str]
    """The client's era and the backend's."""
    client: Client
    side: Side


@asynccontextmanager
async def standing(pairs: Iterable[tuple[str, str]]) -> AsyncIterator[list[Standing]]:
    """Everybody in front of a backend of their own era, and us for these pairs of eras."""
    wanted = list(pairs)
    async with AsyncExitStack() as stack:
        found: list[Standing] = []
        urls = {era: (await stack.enter_async_context(backends(era))).urls() for era in ERAS}
        for rival in present():
            for era in rival.eras:
                served = await stack.enter_async_context(rival.start(urls[era], era))
                for client_era in ERAS if rival.name == OURS else (era,):
                    if (client_era, era) not in wanted:
                        continue
                    client = await Client(host=served.host, era=client_era).open()
                    side = Side(name=rival.name, served=served, asks=(), ours=rival.name == OURS)
                    found.append(Standing(rival=rival, pair=(client_era, era), client=client, side=side))
        yield found


def _sides(them: Sequence[Standing], work: Work) -> list[Side]:
    """Fresh sides for one kind of request, each with its nginx."""
    plain = {
        each.pair[0]: attrs.evolve(each.side, asks=(work.ask(each.client),), slices=[])
        for each in them
        if each.rival.name == BASE
    }
    sides = []
    for each in them:
        base = plain.get(each.pair[0])
        if each.rival.name == BASE and base is not None:
            base.base = base
            sides.append(base)
        else:
            sides.append(attrs.evolve(each.side, asks=(work.ask(each.client),), slices=[], base=base))
    return sides


async def _measure(
    run: Run, them: Sequence[Standing], work: Work, connections: int, rate: float = 0.0
) -> tuple[list[tuple[object, ...]], list[Side]]:
    sides = _sides(them, work)
    rounds, seconds = run.times(11, 3), run.pick(0.3, 0.15)
    await interleaved(sides, rounds=rounds, seconds=seconds, connections=connections, rate=rate)
    rows = [
        (f"{each.pair[0]} → {each.pair[1]}", each.rival.name, *side.cells())
        for each, side in zip(them, sides, strict=True)
    ]
    return rows, sides


async def calls(run: Run) -> int:
    """``tools/call`` on 1, 16, 64 and 256 connections, in the four pairs of eras."""
    async with standing((client, backend) for client in ERAS for backend in ERAS) as all_of_them:
        for connections in CONNECTIONS:
            them = [each for each in all_of_them if connections <= FEW or not each.rival.slow]
            rows, sides = await _measure(run, them, CALL, connections)
            run.show(f"tools/call, {connections} connections", ("eras", "who", *HEAD), rows, *complaints(sides))
    return 0


async def payloads(run: Run) -> int:
    """Answers that take 20 ms, of 1 MiB, and of 20 server-sent events."""
    async with standing((era, era) for era in ERAS) as all_of_them:
        for work in PAYLOADS:
            them = [each for each in all_of_them if work.tool not in each.rival.without]
            rows, sides = await _measure(run, them, work, work.connections)
            title = f"{work.title}, {work.connections} connections"
            run.show(title, ("eras", "who", *HEAD), rows, *complaints(sides))
    return 0


async def rate(run: Run) -> int:
    """2,000 calls a second over 16 connections: what is added to the latency of asking the backend directly."""
    head = ("eras", "who", "CPU ms", "calls/s", "p50 ms", "p99 ms", "added p50 ms", "added p99 ms")
    async with standing([("2025", "2025")]) as all_of_them:
        them = [each for each in all_of_them if not each.rival.slow]
        rows, sides = await _measure(run, them, CALL, 16, RATE)
    plain = next(side for side in sides if side.name == "direct")
    shown: list[Sequence[object]] = []
    for row, side in zip(rows, sides, strict=True):
        pairs = list(zip(side.slices, plain.slices, strict=not side.wrong))
        added = [
            median([mine.p50_ms - its.p50_ms for mine, its in pairs]) if pairs else float("nan"),
            median([mine.p99_ms - its.p99_ms for mine, its in pairs]) if pairs else float("nan"),
        ]
        shown.append((*row[:3], *row[5:], *added))
    run.show(f"{RATE:,} calls/s over 16 connections", head, shown, *complaints(sides))
    return 0


async def lists(run: Run) -> int:
    """``tools/list`` of 10, 100 and 1,000 tools of ten backends."""
    rows: list[Sequence[object]] = []
    notes: list[str] = []
    for size in SIZES:
        async with AsyncExitStack() as stack:
            urls = (await stack.enter_async_context(backends("2025", count=LISTING, tools=size // LISTING))).urls()
            sides = []
            for rival in present():
                if rival.merges:
                    served = await stack.enter_async_context(rival.start(urls, "2025"))
                    client = await Client(host=served.host, era="2025").open()
                    ask = Work(title="", tool="", check=tools_of(size)).ask(client)
                    sides.append(Side(name=rival.name, served=served, asks=(ask,), ours=rival.name == OURS))
            await interleaved(sides, rounds=run.times(9, 2), seconds=run.pick(0.5, 0.2), connections=4)
            cells = [(side, side.cells()) for side in sides]
            rows += [(size, side.name, found[0], *found[3:]) for side, found in cells]
            notes += [f"{size} tools, {note}" for note in complaints(sides)]
    head = ("tools", "who", "CPU ms", "calls/s", "p50 ms", "p99 ms")
    run.show(f"tools/list of {LISTING} backends, 4 connections", head, rows, *notes)
    return 0
