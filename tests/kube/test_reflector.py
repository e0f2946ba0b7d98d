"""List, watch, list again: what is known stays known, whatever the API server does."""

from collections.abc import Iterable
from itertools import pairwise

import attrs
import httpx2
import trio
from trio.testing import MockClock

from mcp_gateway.kube import schema
from mcp_gateway.kube.api import Selection
from mcp_gateway.kube.errors import KubeError
from mcp_gateway.kube.reflector import Reflector
from mcp_gateway.values import JsonObject
from tests.support.kube.scripted_api import Lines, answer, refusal, scripted_api


def thing(name: str, version: int) -> JsonObject:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def name_of(value: JsonObject) -> str:
    metadata = value["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata["name"])


@attrs.define
class Known:
    """A feed that keeps names."""

    names: list[str] = attrs.field(factory=list)
    lists: int = 0
    failures: list[str] = attrs.field(factory=list)
    hearing: bool = False

    def listed(self, items: Iterable[JsonObject]) -> None:
        self.names = [name_of(one) for one in items]
        self.lists += 1

    def changed(self, value: JsonObject) -> None:
        self.names = sorted({*self.names, name_of(value)})

    def deleted(self, value: JsonObject) -> None:
        self.names.remove(name_of(value))

    def failed(self, error: KubeError) -> None:
        self.failures.append(str(error))
        self.hearing = False

    def heard(self) -> None:
        self.hearing = True


@attrs.define
class Server:
    """Lists what it has; each watch is the next of ``watches``, a refusal or lines."""

    items: list[JsonObject] = attrs.field(factory=list)
    version: int = 10
    watches: list[Lines | httpx2.Response] = attrs.field(factory=list)
    lists: list[httpx2.Response] = attrs.field(factory=list)
    """Answers instead of the list, first."""
    asked: list[tuple[float, str]] = attrs.field(factory=list)
    away: bool = False

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        watching = "watch" in request.url.params
        verb = f"watch {request.url.params['resourceVersion']}" if watching else "list"
        self.asked.append((trio.current_time(), verb))
        if self.away:
            raise httpx2.ConnectError("refused")
        if not watching:
            metadata: JsonObject = {"resourceVersion": str(self.version)}
            return self.lists.pop(0) if self.lists else answer({"items": [*self.items], "metadata": metadata})
        lines = self.watches.pop(0) if self.watches else Lines()
        return lines if isinstance(lines, httpx2.Response) else httpx2.Response(200, stream=lines)

    @property
    def verbs(self) -> list[str]:
        return [verb for _, verb in self.asked]


async def reflect(server: Server, known: Known, for_s: float, *, optional: bool = False) -> None:
    async with scripted_api(server.handle) as api:
        selection = Selection(kind=schema.GATEWAY)
        reflector = Reflector(
            api=api, selection=selection, feed=known, jitter=lambda delay_s: delay_s, optional=optional
        )
        with trio.move_on_after(for_s):
            await reflector.run()


async def test_what_happens_after_the_list_is_heard(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    lines, known = Lines(), Known()
    server = Server(items=[thing("a", 1)], watches=[lines])
    nursery.start_soon(reflect, server, known, 100.0)
    await trio.sleep(1)
    assert (known.names, known.hearing) == (["a"], True)
    lines.say("ADDED", thing("b", 11))
    lines.say("BOOKMARK", {"metadata": {"resourceVersion": "12"}})
    lines.say("DELETED", thing("a", 13))
    lines.say("NOVELTY", thing("a", 14))
    await trio.sleep(1)
    assert known.names == ["b"]
    lines.end()
    await trio.sleep(1)
    assert server.verbs == ["list", "watch 10", "watch 13"]


async def test_an_old_version_is_listed_again_and_a_storm_of_that_is_paced(autojump_clock: MockClock) -> None:
    known, server = Known(), Server(items=[thing("a", 1)], watches=[refusal(410, "Expired") for _ in range(50)])
    await reflect(server, known, 60.0)
    assert known.names == ["a"]
    assert known.lists == server.verbs.count("list") <= 20
    assert known.failures == []


async def test_an_old_version_may_be_told_within_a_watch(autojump_clock: MockClock) -> None:
    lines, known = Lines(), Known()
    lines.say("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
    server = Server(items=[thing("a", 1)], watches=[lines])
    await reflect(server, known, 5.0)
    assert server.verbs == ["list", "watch 10", "list", "watch 10"]


async def test_a_cut_watch_goes_on_where_it_was(autojump_clock: MockClock) -> None:
    lines, known = Lines(), Known()
    lines.say("ADDED", thing("b", 11))
    lines.cut()
    server = Server(watches=[lines])
    await reflect(server, known, 5.0)
    assert server.verbs == ["list", "watch 10", "watch 11"]
    assert known.names == ["b"]
    assert len(known.failures) == 1
    assert known.hearing


async def test_watches_that_are_cut_at_once_are_paced(autojump_clock: MockClock) -> None:
    def ended() -> Lines:
        lines = Lines()
        lines.end()
        return lines

    known, server = Known(), Server(watches=[ended() for _ in range(200)])
    await reflect(server, known, 60.0)
    assert len(server.verbs) < 20


async def test_a_watch_that_brings_something_before_it_is_cut_is_followed_at_once(autojump_clock: MockClock) -> None:
    def cut(version: int) -> Lines:
        lines = Lines()
        lines.say("ADDED", thing("b", version))
        lines.cut()
        return lines

    known, server = Known(), Server(watches=[cut(version) for version in range(11, 31)])
    await reflect(server, known, 10.0)
    assert server.verbs[1:21] == [f"watch {version}" for version in range(10, 30)]
    pauses = [later - sooner for (sooner, _), (later, _) in pairwise(server.asked[1:21])]
    assert max(pauses) < 0.5


async def test_a_server_that_was_away_for_ten_minutes_is_heard_within_seconds(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    known, server = Known(), Server(items=[thing("a", 1)])
    server.away = True
    nursery.start_soon(reflect, server, known, 1000.0)
    await trio.sleep(600)
    assert len(server.asked) < 150
    server.away = False
    await trio.sleep(5.5)
    assert known.names == ["a"]


async def test_what_is_forbidden_is_asked_for_seldom(autojump_clock: MockClock) -> None:
    known, server = Known(), Server(lists=[refusal(403, "Forbidden") for _ in range(50)])
    await reflect(server, known, 300.0)
    assert len(server.asked) < 20


async def test_a_list_that_fails_takes_nothing_away(autojump_clock: MockClock) -> None:
    known = Known(names=["a"])
    server = Server(items=[thing("b", 1)], lists=[refusal(403, "Forbidden"), refusal(500), refusal(404, "NotFound")])
    async with scripted_api(server.handle) as api:
        reflector = Reflector(
            api=api, selection=Selection(kind=schema.GATEWAY), feed=known, jitter=lambda delay_s: delay_s
        )
        with trio.move_on_after(0.5):
            await reflector.run()
        assert known.names == ["a"]
        assert "Forbidden (403)" in known.failures[0]
        with trio.move_on_after(30):
            await reflector.run()
    assert known.names == ["b"]
    assert len(known.failures) == 3


async def test_the_server_is_not_asked_sooner_than_it_wants(autojump_clock: MockClock) -> None:
    known, server = Known(), Server(lists=[refusal(429, "TooManyRequests", retry_after="7")])
    began_at = trio.current_time()
    await reflect(server, known, 20.0)
    assert server.asked[1][0] - began_at >= 7.0


async def test_of_a_kind_that_is_optional_there_is_nothing_where_it_is_unknown(autojump_clock: MockClock) -> None:
    known = Known(names=["a"])
    server = Server(items=[thing("b", 1)], lists=[refusal(404, "NotFound")])
    await reflect(server, known, 5.0, optional=True)
    assert (known.names, known.failures) == ([], [])
    server.lists = [refusal(404, "NotFound")]
    await reflect(server, known, 30.0, optional=True)
    assert known.names == ["b"]


async def test_a_silent_watch_is_given_up(autojump_clock: MockClock) -> None:
    known, server = Known(), Server(watches=[Lines(silence_s=100.0)])
    await reflect(server, known, 110.0)
    assert server.verbs == ["list", "watch 10", "watch 10"]
    assert "silent" in known.failures[0]
