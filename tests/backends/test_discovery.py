"""One discovery: every page, every bound, and what a refusal means."""

from collections.abc import Callable

import attrs
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends import discovery
from mcp_gateway.backends.discovery import Catalogue, Discovery
from mcp_gateway.backends.own_requests import read_hello, result_of
from mcp_gateway.backends.transports.base import Answer, ClientIdentity, Hear
from mcp_gateway.errors import (
    BackendAuth,
    BackendBusy,
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendRefused,
    BackendSessionLost,
    BackendTimeout,
    BackendTooLarge,
    Executed,
)
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.routing import listing
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.scripted_link import Handler, Refusal, ScriptedBackend, ScriptedLink, deaf, tool

EVERYTHING: JsonObject = {"tools": {}, "prompts": {}, "resources": {}}


async def discover(scripted: ScriptedBackend, last: Catalogue | None = None, list_s: float = 5.0) -> Catalogue:
    link = ScriptedLink(
        backend=scripted, era=scripted.era, identity=ClientIdentity(), unattributed=deaf, log=scripted.log
    )
    runner = Discovery(link=link, backend=scripted.key, list_s=list_s, over_http=True, hear=deaf)
    return await runner.run(scripted.hello(), last)


def names(found: Catalogue, kind: Kind = Kind.TOOLS) -> list[str]:
    return [item.name for item in found.listings[kind].items]


def pages(make: Callable[[str | None], JsonObject]) -> Handler:
    async def handler(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        cursor = params.get("cursor")
        return make(cursor if isinstance(cursor, str) else None)

    return handler


def refusing(code: int) -> Handler:
    async def handler(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(code, "not today")

    return handler


async def test_an_empty_cursor_is_a_cursor(autojump_clock: MockClock) -> None:
    first: JsonObject = {"tools": [tool("a")], "nextCursor": ""}
    last: JsonObject = {"tools": [tool("b")]}
    scripted = ScriptedBackend(handlers={"tools/list": pages(lambda cursor: first if cursor is None else last)})
    assert names(await discover(scripted)) == ["a", "b"]


async def test_the_same_cursor_twice_ends_the_list_with_a_problem(autojump_clock: MockClock) -> None:
    count = iter(range(100))
    scripted = ScriptedBackend(
        handlers={"tools/list": pages(lambda cursor: {"tools": [tool(f"t{next(count)}")], "nextCursor": "again"})}
    )
    found = await discover(scripted)
    assert names(found) == ["t0", "t1"]
    assert "same cursor" in found.problems[0].reason


@pytest.mark.parametrize(
    "bound, value, word",
    [pytest.param("MAX_PAGES", 5, "pages", id="pages"), pytest.param("MAX_BYTES", 200, "bytes", id="bytes")],
)
async def test_a_list_without_end_is_cut_at_its_bound(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, word: str
) -> None:
    monkeypatch.setattr(discovery, bound, value)
    count = iter(range(1000))

    def make(cursor: str | None) -> JsonObject:
        number = next(count)
        return {"tools": [tool(f"t{number}")], "nextCursor": str(number)}

    found = await discover(ScriptedBackend(handlers={"tools/list": pages(make)}))
    assert word in found.problems[0].reason
    assert 1 <= len(names(found)) <= 5
    assert bool(found.unread) is (bound == "MAX_PAGES")  # pages without end are no list, and are asked for again


async def test_too_many_items_are_cut_and_reported(autojump_clock: MockClock) -> None:
    count = iter(range(1000))

    def make(cursor: str | None) -> JsonObject:
        number = next(count)
        some: list[JsonValue] = [tool(f"t{number}-{i}") for i in range(4000)]
        return {"tools": some, "nextCursor": str(number)}

    found = await discover(ScriptedBackend(handlers={"tools/list": pages(make)}))
    assert len(names(found)) == listing.MAX_ITEMS
    assert "items" in found.problems[0].reason


async def test_every_advertised_kind_is_read(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(capabilities=EVERYTHING)
    scripted.handlers = {
        "prompts/list": pages(lambda _: {"prompts": [{"name": "p"}]}),
        "resources/list": pages(lambda _: {"resources": [{"uri": "file:///a", "name": "a"}]}),
        "resources/templates/list": pages(
            lambda _: {"resourceTemplates": [{"uriTemplate": "file:///{x}", "name": "t"}]}
        ),
    }
    found = await discover(scripted)
    assert [names(found, kind) for kind in Kind] == [["read"], ["p"], ["file:///a"], ["file:///{x}"]]
    assert found.problems == ()


async def test_a_list_that_is_an_unknown_method_is_empty(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(capabilities=EVERYTHING)
    scripted.handlers["resources/list"] = pages(lambda _: {"resources": []})
    found = await discover(scripted)
    assert names(found, Kind.PROMPTS) == []
    assert names(found, Kind.TEMPLATES) == []
    assert [problem.kind for problem in found.problems] == [Kind.PROMPTS]  # unknown templates are usual


async def test_a_list_that_is_refused_keeps_what_it_had(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(capabilities={"tools": {}, "prompts": {}})
    scripted.handlers["prompts/list"] = pages(lambda _: {"prompts": [{"name": "p"}]})
    first = await discover(scripted)
    scripted.handlers["prompts/list"] = refusing(-32603)
    again = await discover(scripted, first)
    assert names(again, Kind.PROMPTS) == ["p"]
    assert "not today" in again.problems[0].reason


async def test_nothing_but_refusals_is_a_failure(autojump_clock: MockClock) -> None:
    with pytest.raises(BackendRefused):
        await discover(ScriptedBackend(handlers={"tools/list": refusing(-32603)}))


async def test_one_bad_item_costs_no_other(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(tools=[tool("good"), {"name": "bad"}, tool("fine")])
    found = await discover(scripted)
    assert names(found) == ["good", "fine"]
    assert [problem.name for problem in found.problems] == ["bad"]


async def test_nothing_but_what_is_no_list_is_a_broken_protocol(autojump_clock: MockClock) -> None:
    with pytest.raises(BackendProtocol):
        await discover(ScriptedBackend(handlers={"tools/list": pages(lambda _: {"nothing": 1})}))


async def test_each_page_has_its_own_limit(autojump_clock: MockClock) -> None:
    with pytest.raises(BackendTimeout) as caught:
        await discover(ScriptedBackend(silent=True), list_s=3.0)
    assert caught.value.after_s == 3.0
    assert trio.current_time() == pytest.approx(3.0)


async def test_all_lists_together_have_a_limit_of_which_each_has_its_share(autojump_clock: MockClock) -> None:
    count = iter(range(10_000))

    async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(4)
        number = next(count)
        return {"tools": [tool(f"t{number}")], "prompts": [], "nextCursor": str(number)}

    scripted = ScriptedBackend(capabilities=EVERYTHING, handlers={"tools/list": slow, "prompts/list": slow})
    scripted.handlers["resources/list"] = pages(lambda _: {"resources": [{"uri": "file:///a", "name": "a"}]})
    found = await discover(scripted)
    assert names(found) == ["t0", "t1", "t2"]  # a quarter of the time
    assert names(found, Kind.RESOURCES) == ["file:///a"]
    assert found.partial == {Kind.TOOLS, Kind.PROMPTS}
    assert "limit of 15 s reached: 3 items could be read" in found.problems[0].reason
    assert trio.current_time() <= discovery.OVERALL_S


async def test_a_page_may_take_timeouts_list_however_many_lists_there_are(autojump_clock: MockClock) -> None:
    async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(40)
        return {"tools": [tool("slow")]}

    scripted = ScriptedBackend(capabilities=EVERYTHING, handlers={"tools/list": slow})
    assert names(await discover(scripted, list_s=45.0)) == ["slow"]


# --- one list that cannot be read costs that list only ---

KINDS: dict[Kind, tuple[str, JsonObject]] = {
    Kind.TOOLS: ("tools/list", tool("t")),
    Kind.PROMPTS: ("prompts/list", {"name": "p"}),
    Kind.RESOURCES: ("resources/list", {"uri": "file:///a", "name": "a"}),
    Kind.TEMPLATES: ("resources/templates/list", {"uriTemplate": "file:///{x}", "name": "t"}),
}


def whole() -> ScriptedBackend:
    """It has one item of each kind."""

    def one(kind: Kind, item: JsonObject) -> Handler:
        return pages(lambda _: {kind.value: [item]})

    return ScriptedBackend(
        capabilities=EVERYTHING, handlers={method: one(kind, item) for kind, (method, item) in KINDS.items()}
    )


def raising(error: Callable[[ScriptedBackend], BackendError]) -> Handler:
    async def handler(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        raise error(link.backend)

    return handler


async def silence(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    await trio.sleep_forever()
    raise AssertionError


def answering(result: JsonValue) -> Handler:
    async def handler(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return result  # type: ignore[return-value]  # what no server may answer is what this is about

    return handler


def of(value: JsonValue) -> Callable[[Kind], Handler]:
    return lambda kind: answering({kind.value: value})


FAULTS = [
    pytest.param(of(None), "not an array", id="null"),
    pytest.param(of({}), "not an array", id="an object"),
    pytest.param(of("none"), "not an array", id="a text"),
    pytest.param(of(0), "not an array", id="a number"),
    pytest.param(lambda kind: answering({}), "a list result without", id="no such member"),
    pytest.param(lambda kind: answering([]), "not an object", id="a bare array"),
    pytest.param(lambda kind: answering("none"), "not an object", id="a bare text"),
    pytest.param(lambda kind: answering(None), "not an object", id="no result"),
    pytest.param(lambda kind: refusing(-32603), "not today", id="an error"),
    pytest.param(lambda kind: silence, "limit of 5 s reached", id="no answer"),
    pytest.param(
        lambda kind: raising(lambda on: BackendGone(backend=on.key, why="reset")), "reset", id="a dropped connection"
    ),
    pytest.param(lambda kind: raising(lambda on: BackendAuth(backend=on.key, status=403)), "HTTP 403", id="403"),
    pytest.param(lambda kind: raising(lambda on: BackendBusy(backend=on.key, status=429)), "HTTP 429", id="429"),
    pytest.param(
        lambda kind: raising(lambda on: BackendProtocol(backend=on.key, why="HTTP 500", status=500)),
        "HTTP 500",
        id="500",
    ),
    pytest.param(
        lambda kind: raising(lambda on: BackendTooLarge(backend=on.key, limit="limits.responseBytes", bound=9)),
        "limits.responseBytes",
        id="too large",
    ),
]


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: str(kind.value))
@pytest.mark.parametrize("fault, why", FAULTS)
async def test_a_list_that_cannot_be_read_costs_no_other(
    autojump_clock: MockClock, kind: Kind, fault: Callable[[Kind], Handler], why: str
) -> None:
    scripted, method = whole(), KINDS[kind][0]
    good = await discover(scripted)
    scripted.handlers[method] = fault(kind)
    first, later = await discover(scripted), await discover(scripted, good)
    for other in Kind:
        assert len(names(first, other)) == (other is not kind)
        assert later.listings[other] is good.listings[other]
    for found, outcome in (first, "0 items could be read"), (later, "what was listed before stands"):
        (problem,) = found.problems
        assert (problem.kind, problem.hidden) == (kind, True)
        assert problem.reason.startswith(f"{method}: ")
        assert why in problem.reason
        assert problem.reason.endswith(outcome)
        assert found.unread == {kind}
        assert not found.mute
    assert first.partial == {kind}
    assert not later.partial


CURSORS = [
    pytest.param(lambda number: 7, "nextCursor is not a string", 1, id="a number"),
    pytest.param(lambda number: {"page": 2}, "nextCursor is not a string", 1, id="an object"),
    pytest.param(lambda number: False, "nextCursor is not a string", 1, id="false"),
    pytest.param(lambda number: "x" * 70_000, "nextCursor is over 65536 bytes", 1, id="too long"),
    pytest.param(lambda number: "again", "the same cursor twice", 2, id="the same one"),
    pytest.param(lambda number: str(number % 3), "the same cursor twice", 4, id="in a circle"),
    pytest.param(str, "more than 1000 pages", 1000, id="without end"),
]


@pytest.mark.parametrize("cursor, why, pages_read", CURSORS)
async def test_a_cursor_that_leads_nowhere_ends_its_list_and_the_last_good_one_stands(
    autojump_clock: MockClock, cursor: Callable[[int], JsonValue], why: str, pages_read: int
) -> None:
    good = await discover(whole())
    scripted, asked = whole(), iter(range(10_000))

    def make(_: str | None) -> JsonObject:
        number = next(asked)
        return {"tools": [tool(f"t{number}")], "nextCursor": cursor(number)}

    scripted.handlers["tools/list"] = pages(make)
    first = await discover(scripted)
    assert len(names(first)) == pages_read  # better than none
    assert [names(first, kind) for kind in Kind][1:] == [names(good, kind) for kind in Kind][1:]
    assert why in first.problems[0].reason
    asked = iter(range(10_000))
    assert names(await discover(scripted, good)) == ["t"]
    asked = iter(range(500, 10_000))
    assert "t500" in names(await discover(scripted, first))  # what was never whole is replaced by what can be read now


async def test_a_page_of_five_that_fails_leaves_those_before_it_or_the_last_good_list(
    autojump_clock: MockClock,
) -> None:
    scripted, broken = whole(), ""

    async def five(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        number = int(str(params.get("cursor", 1)))
        if str(number) == broken:
            return {"tools": None}
        return {"tools": [tool(f"t{number}")], **({"nextCursor": str(number + 1)} if number < 5 else {})}

    scripted.handlers["tools/list"] = five
    good = await discover(scripted)
    assert len(names(good)) == 5
    broken = "4"
    assert names(await discover(scripted)) == ["t1", "t2", "t3"]
    broken = "1"
    kept = await discover(scripted, good)
    assert len(names(kept)) == 5
    partial = await discover(scripted)
    assert names(partial) == []
    broken = "3"
    assert len(names(await discover(scripted, kept))) == 5  # kept twice in a row
    assert names(await discover(scripted, partial)) == ["t1", "t2"]
    broken = ""
    assert (await discover(scripted, partial)).unread == frozenset()


async def test_where_a_list_was_never_whole_what_is_known_of_it_stands_when_nothing_can_be_read(
    autojump_clock: MockClock,
) -> None:
    scripted = whole()
    scripted.handlers["tools/list"] = answering({"tools": [tool("t")], "nextCursor": 1})
    partial = await discover(scripted)
    scripted.handlers["tools/list"] = answering({"tools": None})
    again = await discover(scripted, partial)
    assert names(again) == ["t"]
    assert again.partial == {Kind.TOOLS}


async def test_nothing_but_odd_answers_leaves_a_known_backend_as_it_was(autojump_clock: MockClock) -> None:
    scripted = whole()
    good = await discover(scripted)
    for kind, (method, _) in KINDS.items():
        scripted.handlers[method] = refusing(-32601) if kind is Kind.PROMPTS else answering({kind.value: None})
    found = await discover(scripted, good)
    assert found.mute
    assert found.listings == good.listings
    assert len(found.problems) == 4
    with pytest.raises(BackendProtocol):  # nothing is known of it
        await discover(scripted)


@pytest.mark.parametrize(
    "fault, error",
    [
        pytest.param(silence, BackendTimeout, id="silent"),
        pytest.param(raising(lambda on: BackendGone(backend=on.key, why="reset")), BackendGone, id="gone"),
        pytest.param(raising(lambda on: BackendAuth(backend=on.key, status=401)), BackendAuth, id="401"),
        pytest.param(
            raising(lambda on: BackendProtocol(backend=on.key, why="HTTP 502", status=502)), BackendProtocol, id="502"
        ),
    ],
)
async def test_a_known_backend_that_answers_nothing_has_failed(
    autojump_clock: MockClock, fault: Handler, error: type[BackendError]
) -> None:
    scripted = whole()
    good = await discover(scripted)
    scripted.handlers = {method: fault for method, _ in KINDS.values()}
    with pytest.raises(error):
        await discover(scripted, good)


async def test_a_lost_session_or_pipe_is_no_fault_of_a_list(autojump_clock: MockClock) -> None:
    scripted = whole()
    good = await discover(scripted)
    scripted.handlers["prompts/list"] = raising(lambda on: BackendSessionLost(backend=on.key))
    with pytest.raises(BackendSessionLost):
        await discover(scripted, good)

    async def exits(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        link.die("exit 1")
        raise BackendGone(backend=link.backend.key, why="exit 1", executed=Executed.UNKNOWN)

    scripted.handlers["prompts/list"] = exits
    with pytest.raises(BackendGone):
        await discover(scripted, good)


async def test_what_a_fault_means_for_the_next_look_is_kept(autojump_clock: MockClock) -> None:
    scripted = whole()
    assert not (await discover(scripted)).dropped
    scripted.handlers["prompts/list"] = raising(lambda on: BackendGone(backend=on.key, why="reset"))
    scripted.handlers["resources/list"] = raising(
        lambda on: BackendBusy(backend=on.key, status=429, retry_after_ms=7000)
    )
    found = await discover(scripted)
    assert found.dropped
    assert found.retry_after_s == 7.0


async def test_the_same_list_is_the_same_object(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    first = await discover(scripted)
    assert (await discover(scripted, first)).listings[Kind.TOOLS] is first.listings[Kind.TOOLS]


async def test_the_shortest_ttl_counts_and_legacy_lists_have_none(autojump_clock: MockClock) -> None:
    assert (await discover(ScriptedBackend())).ttl_s is None
    assert (await discover(ScriptedBackend(era=V2026_07_28, ttl_ms=1500))).ttl_s == 1.5


@attrs.define(eq=False)
class _Odd:
    """A link that answers whatever it is given."""

    raw: bytes
    era: Era = V2025_11_25
    shared: bool = False
    lost: bool = False

    async def exchange(self, outgoing: object, hear: Hear) -> Answer:
        await trio.lowlevel.checkpoint()
        return Answer(raw=self.raw)

    async def notify(self, message: bytes) -> None: ...

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"jsonrpc":"2.0","id":1}', id="neither result nor error"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"error":3}', id="an error that is no object"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"error":{]}', id="not JSON"),
    ],
)
async def test_an_answer_that_is_no_response_is_a_broken_protocol(raw: bytes) -> None:
    runner = Discovery(link=_Odd(raw), backend=BackendKey("x"), list_s=5.0, over_http=True, hear=deaf)
    with pytest.raises(BackendProtocol):
        await runner.run(ScriptedBackend().hello(), None)


async def test_an_error_without_code_and_message_is_still_a_refusal() -> None:
    odd = _Odd(b'{"jsonrpc":"2.0","id":1,"error":{"code":"x","message":7}}')
    runner = Discovery(link=odd, backend=BackendKey("x"), list_s=5.0, over_http=True, hear=deaf)
    with pytest.raises(BackendRefused) as caught:
        await runner.run(ScriptedBackend().hello(), None)
    assert (caught.value.code, caught.value.message) == (0, "")


def test_numbers_beyond_a_double_are_json_too() -> None:
    key = BackendKey("files")
    hello = read_hello(b'{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"x":1e400}}}', V2026_07_28, key)
    assert list(hello.capabilities) == ["tools"]
    with pytest.raises(BackendRefused, match="no"):
        result_of(Answer(raw=b'{"jsonrpc":"2.0","id":1,"error":{"code":7,"message":"no","data":1e400}}'), key)
