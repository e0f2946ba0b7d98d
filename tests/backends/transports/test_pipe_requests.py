"""Tests of ``pipe``: what a backend asks, what belongs to no exchange, and frames that are no good."""

import json

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Answer
from mcp_gateway.backends.transports.pipe import OWN_ANSWERS, TooLong, open_pipe
from mcp_gateway.errors import (
    BackendError,
    BackendProtocol,
    BackendTooLarge,
    Executed,
    LocalFault,
)
from mcp_gateway.protocol import json_text
from mcp_gateway.protocol.eras import NEWEST_LEGACY, NEWEST_MODERN, V2025_03_26, Era
from mcp_gateway.values import JsonValue
from tests.support.pipe_links import LIMITS, Asked, Ear, linked, settled
from tests.support.scripted_pipe import KEY, ScriptedPipe

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"

# --- requests of the backend ---------------------------------------------------------------------------------------


async def test_pings_are_answered_by_the_link(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe):
        pipe.say(id="a\u00e4", method="ping")
        pipe.say(method="ping", id=7)
        assert await pipe.heard(2) == [
            {"jsonrpc": "2.0", "id": "a\u00e4", "result": {}},
            {"jsonrpc": "2.0", "id": 7, "result": {}},
        ]


async def test_pings_to_a_backend_that_does_not_read_are_bounded(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe(sends=False)
    async with linked(pipe) as link:
        await settled()
        for number in range(OWN_ANSWERS + 10):
            pipe.say(id=number, method="ping")
        await settled()
        assert 0 < link.unanswered <= 10


async def test_own_answers_to_a_backend_that_is_gone_are_forgotten(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        pipe.closed = 1
        pipe.say(id=1, method="ping")
        await settled()
        assert not link.lost


@pytest.mark.parametrize(
    "calls, controls, owner",
    [
        pytest.param(1, 0, "call", id="the only call"),
        pytest.param(1, 1, "call", id="a call beside a control exchange"),
        pytest.param(0, 1, "nobody", id="a control exchange alone"),
        pytest.param(2, 0, "nobody", id="two calls"),
        pytest.param(0, 0, "nobody", id="no call"),
    ],
)
async def test_a_request_goes_to_the_only_call_it_can_belong_to(
    autojump_clock: MockClock, nursery: trio.Nursery, calls: int, controls: int, owner: str
) -> None:
    pipe, nobody, ear = ScriptedPipe(), Ear(), Ear()
    async with linked(pipe, unattributed=nobody) as link:
        for _ in range(calls):
            Asked(nursery, link, ear)
        for _ in range(controls):
            Asked(nursery, link, control=True)
        await pipe.heard(calls + controls)
        pipe.say(id="q", method="roots/list")
        await settled()
        assert (ear.methods, nobody.methods) == ((["roots/list"], []) if owner == "call" else ([], ["roots/list"]))
        (heard,) = ear.heard or nobody.heard
        assert heard.id_raw == b'"q"'
        assert json.loads(heard.raw)["method"] == "roots/list"


async def test_requests_beyond_the_bound_are_refused_not_lost(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe, unattributed=Ear(deaf=True)):
        for number in range(300):
            pipe.say(id=number, method="roots/list")
        await settled()
        answers = [json.loads(frame) for frame in pipe.sent]
        assert len(answers) == 300 - 256 - 1  # queued, and the one being heard
        assert {answer["error"]["code"] for answer in answers} == {-32603}


async def test_a_modern_server_asks_nothing(autojump_clock: MockClock) -> None:
    pipe, nobody = ScriptedPipe(), Ear()
    async with linked(pipe, era=NEWEST_MODERN, unattributed=nobody) as link:
        pipe.say(id=1, method="ping")
        pipe.say(id=2, method="roots/list")
        await settled()
        assert (pipe.sent, nobody.heard, link.junk) == ([], [], 2)


# --- what belongs to no exchange -----------------------------------------------------------------------------------


async def test_a_deaf_owner_costs_the_oldest_notices_only(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe, deaf = ScriptedPipe(), Ear(deaf=True)
    async with linked(pipe, unattributed=deaf) as link:
        pipe.say(method="notifications/message", params={})
        await settled()
        for _ in range(1000):
            pipe.say(method="notifications/tools/list_changed")
        asked = Asked(nursery, link)
        await pipe.heard(1)
        pipe.say(id=1, result={})
        await asked.done.wait()
        assert link.dropped == 1000 - 256


async def test_messages_of_a_listen_stream_go_to_its_exchange(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe, nobody = ScriptedPipe(), Ear()
    async with linked(pipe, era=NEWEST_MODERN, unattributed=nobody) as link:
        listen = Asked(nursery, link, control=True)
        await pipe.heard(1)
        meta: JsonValue = {SUBSCRIPTION: 1}
        pipe.say(method="notifications/subscriptions/acknowledged", params={"_meta": meta})
        pipe.say(method="notifications/tools/list_changed", params={"_meta": meta})
        pipe.say(method="notifications/tools/list_changed", params={})
        pipe.say(method="notifications/cancelled", params={"requestId": 1})
        pipe.say(id=1, result={"resultType": "complete"})
        await listen.done.wait()
        assert listen.ear.methods == [
            "notifications/subscriptions/acknowledged",
            "notifications/tools/list_changed",
            "notifications/cancelled",
        ]
        assert nobody.methods == ["notifications/tools/list_changed"]


# --- frames that are no good ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame, kind",
    [
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{"x":NaN}}', BackendProtocol, id="NaN"),
        pytest.param(b'{"id":1,"jsonrpc":"2.0","result":{}', BackendProtocol, id="cut off"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"error":"no"}', BackendProtocol, id="an error that is no object"),
        pytest.param(TooLong(head=b'{"jsonrpc": "2.0", "id": 1, "result": ', bound=9), BackendTooLarge, id="too long"),
    ],
)
async def test_a_broken_answer_fails_its_exchange_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery, frame: bytes | TooLong, kind: type[BackendError]
) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        asked = Asked(nursery, link)
        await pipe.heard(1)
        other = Asked(nursery, link)
        await pipe.heard(2)
        pipe.feed(frame)
        await asked.done.wait()
        assert isinstance(asked.error, kind)
        assert asked.error.executed is Executed.YES
        assert not other.done.is_set()
        assert not link.lost
        assert len(pipe.sent) == 2  # it has answered: nothing to cancel


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"Listening on stdio", id="a banner"),
        pytest.param(b"[]", id="an empty batch"),
        pytest.param(b'{"jsonrpc":"1.0","method":"x"}', id="another JSON-RPC"),
        pytest.param(b'{"jsonrpc":"2.0","id":null,"method":"x"}', id="a null id"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(TooLong(head=b"xxxx", bound=9), id="too long and nobody's"),
        pytest.param(TooLong(head=b'{"jsonrpc":"2.0","id":9,"result":{', bound=9), id="too long for an unknown id"),
    ],
)
async def test_junk_is_counted_and_never_fatal(autojump_clock: MockClock, frame: bytes | TooLong) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        pipe.feed(*[frame] * 30)
        pipe.say(id=1, method="ping")
        await pipe.heard(1)
        assert link.junk == 30


@pytest.mark.parametrize("era", [NEWEST_LEGACY, NEWEST_MODERN], ids=lambda era: era.version)
@pytest.mark.parametrize("request_too", [True, False], ids=["a request", "a notification"])
async def test_calls_too_long_to_parse_are_refused(autojump_clock: MockClock, era: Era, request_too: bool) -> None:
    pipe, nobody = ScriptedPipe(), Ear()
    async with linked(pipe, era=era, unattributed=nobody) as link:
        member: dict[str, object] = {"id": "long"} if request_too else {}
        pipe.say(**member, method="sampling/createMessage", params={"x": "y" * json_text.MAX_PARSED_BYTES})
        await settled()
        assert nobody.heard == []
        assert link.junk == 1
        answers = [json.loads(frame) for frame in pipe.sent]
        assert [answer["id"] for answer in answers] == (["long"] if request_too and not era.modern else [])


async def test_members_in_any_order_are_understood(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe, nobody = ScriptedPipe(), Ear()
    async with linked(pipe, unattributed=nobody) as link:
        asked = Asked(nursery, link)
        await pipe.heard(1)
        other = Asked(nursery, link)
        await pipe.heard(2)
        pipe.feed(b'{"params":{"a":[{"b":1}]},"method":"notifications/message","jsonrpc":"2.0"}')
        pipe.feed(b'{"result":{"content":[]},"id":1,"jsonrpc":"2.0"}')
        pipe.feed(b'{"jsonrpc":"2.0","id":2,"result":"method"}')
        await asked.done.wait()
        await other.done.wait()
        assert asked.answer == Answer(raw=b'{"result":{"content":[]},"id":1,"jsonrpc":"2.0"}')
        assert other.answer is not None
        assert nobody.methods == ["notifications/message"]


async def test_a_backend_of_2025_03_26_may_say_several_things_in_one_frame(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe = ScriptedPipe()
    frame = b"""[{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}},
        {"jsonrpc":"2.0","id":"p","method":"ping"}, {"jsonrpc":"2.0","id":1,"result":{"content":[]}}]"""
    async with linked(pipe, era=V2025_03_26) as link:
        asked = Asked(nursery, link)
        await pipe.heard(1)
        pipe.feed(b"[]", b"[7]", b"[", frame)
        await asked.done.wait()
        assert asked.answer == Answer(raw=b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}')
        assert asked.ear.methods == ["notifications/progress"]
        assert (await pipe.heard(2))[1] == {"jsonrpc": "2.0", "id": "p", "result": {}}
        assert link.junk == 3


async def test_newer_revisions_have_no_batches(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        Asked(nursery, link)
        await pipe.heard(1)
        pipe.feed(b'[{"jsonrpc":"2.0","id":1,"result":{}}]')
        await settled()
        assert (link.junk, link.in_flight) == (1, 1)


async def test_a_link_is_of_no_use_before_its_greeting(autojump_clock: MockClock) -> None:
    pipe, lost = ScriptedPipe(), list[str]()
    async with open_pipe(pipe, key=KEY, limits=LIMITS, shared=False, unattributed=Ear(), on_lost=lost.append) as link:
        with pytest.raises(LocalFault):
            link.era  # noqa: B018  # reading it is the test
        pipe.end("gone")
        await link.gone()
    assert lost == []  # whoever greets is told by its exchange


async def test_the_block_ends_with_its_tasks_and_the_pipe(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    before = trio.lowlevel.current_statistics().tasks_living
    async with linked(pipe, unattributed=Ear(deaf=True)) as link:
        assert link.shared
        pipe.say(method="notifications/tools/list_changed")
        await settled()
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert pipe.closed >= 1
