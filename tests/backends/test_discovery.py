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
from mcp_gateway.errors import BackendProtocol, BackendRefused, BackendTimeout
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.routing import listing
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.scripted_link import Handler, Refusal, ScriptedBackend, ScriptedLink, deaf, tool

EVERYTHING: JsonObject = {"tools": {}, "prompts": {}, "resources": {}}


async def discover(scripted: ScriptedBackend, last: Catalogue | None = None, list_s: float = 5.0) -> Catalogue:
    link = ScriptedLink(backend=scripted, identity=ClientIdentity(), unattributed=deaf)
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


async def test_a_result_that_is_no_list_is_a_broken_protocol(autojump_clock: MockClock) -> None:
    with pytest.raises(BackendProtocol):
        await discover(ScriptedBackend(handlers={"tools/list": pages(lambda _: {"nothing": 1})}))


async def test_each_page_has_its_own_limit(autojump_clock: MockClock) -> None:
    with pytest.raises(BackendTimeout) as caught:
        await discover(ScriptedBackend(silent=True), list_s=3.0)
    assert caught.value.after_s == 3.0
    assert trio.current_time() == pytest.approx(3.0)


async def test_all_lists_together_have_a_limit(autojump_clock: MockClock) -> None:
    count = iter(range(10_000))

    async def slow(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(4)
        return {"tools": [], "nextCursor": str(next(count))}

    with pytest.raises(BackendTimeout) as caught:
        await discover(ScriptedBackend(handlers={"tools/list": slow}))
    assert caught.value.after_s == discovery.OVERALL_S


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
