"""Tests of ``pipe``: one reader, many exchanges, nobody waits for anybody else."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import GOODBYE_S, Answer, Hello, Inbound, Outgoing
from mcp_gateway.backends.transports.pipe import OWN_ANSWERS, PipeLink, TooLong, nobody_cares, nothing, open_pipe
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import (
    BackendBusy,
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendTooLarge,
    Executed,
    LocalFault,
)
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.eras import NEWEST_LEGACY, NEWEST_MODERN, Era
from mcp_gateway.values import JsonValue
from tests.support.scripted_pipe import KEY, ScriptedPipe

LIMITS = BackendLimits(concurrency=3)
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


def outgoing(name: str = "t", *, control: bool = False, cancellable: bool = True) -> Outgoing:
    def render(upstream_id: int) -> bytes:
        return b'{"jsonrpc":"2.0","id":%d,\n"method":"tools/call","params":{"name":"%b"}}' % (
            upstream_id,
            name.encode(),
        )

    return Outgoing(method="tools/call", render=render, control=control, cancellable=cancellable)


class Ear:
    """Keeps what it hears; ``deaf`` never returns."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.heard: list[Inbound] = []
        self.deaf = deaf

    async def __call__(self, message: Inbound) -> None:
        self.heard.append(message)
        if self.deaf:
            await trio.sleep_forever()

    @property
    def methods(self) -> list[str]:
        return [message.method for message in self.heard]


@asynccontextmanager
async def linked(
    pipe: ScriptedPipe,
    *,
    era: Era = NEWEST_LEGACY,
    unattributed: Ear | None = None,
    lost: list[str] | None = None,
    on_late: Callable[[], None] = nothing,
) -> AsyncIterator[PipeLink]:
    on_lost = nobody_cares if lost is None else lost.append
    hear = unattributed or Ear()
    async with open_pipe(
        pipe, key=KEY, limits=LIMITS, shared=True, unattributed=hear, on_lost=on_lost, on_late=on_late
    ) as link:
        link.greeted(Hello(era=era, capabilities={}))
        yield link


class Asked:
    """One exchange in a task of its own: its answer or its error, and the scope to cancel it."""

    def __init__(self, nursery: trio.Nursery, link: PipeLink, ear: Ear | None = None, *, control: bool = False) -> None:
        self.answer: Answer | None = None
        self.error: BackendError | None = None
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.ear = ear or Ear()
        self.id = 0
        nursery.start_soon(self._run, link, attrs.evolve(outgoing(control=control), render=self._render))

    def _render(self, upstream_id: int) -> bytes:
        self.id = upstream_id
        return outgoing().render(upstream_id)

    async def _run(self, link: PipeLink, request: Outgoing) -> None:
        try:
            with self.scope:
                self.answer = await link.exchange(request, self.ear)
        except BackendError as error:
            self.error = error
        self.done.set()


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_answers_find_their_exchanges_in_any_order(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        asked = [Asked(nursery, link) for _ in range(3)]
        sent = await pipe.heard(3)
        for message in reversed(sent):
            pipe.say(id=message["id"], result={"for": message["id"]})
        await settled()
        got = [json.loads(one.answer.raw)["result"]["for"] for one in asked if one.answer]
        assert got == [one.id for one in asked]
        assert link.in_flight == 0
        assert not link.lost


@given(order=st.permutations(range(3)), noise=st.lists(st.sampled_from([b"[]", b"{", b"1", b'{"a":1}']), max_size=5))
def test_any_order_and_any_noise_give_each_exchange_its_own_answer(order: Sequence[int], noise: list[bytes]) -> None:
    async def main() -> None:
        pipe = ScriptedPipe()
        async with linked(pipe) as link, trio.open_nursery() as nursery:
            asked = [Asked(nursery, link) for _ in range(3)]
            sent = await pipe.heard(3)
            assert len(sent) == 3
            for index in order:
                pipe.feed(*noise)
                pipe.say(id=asked[index].id, result=index)
            await settled()
            assert [json.loads(one.answer.raw)["result"] for one in asked if one.answer] == [0, 1, 2]
            assert link.junk == 3 * len(noise)

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_progress_is_heard_in_order_before_the_answer(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        asked = Asked(nursery, link)
        (sent,) = await pipe.heard(1)
        for done in (1, 2, 3):
            pipe.say(method="notifications/progress", params={"progressToken": sent["id"], "progress": done})
        pipe.say(id=sent["id"], result={})
        await asked.done.wait()
        assert [message.params["progress"] for message in asked.ear.heard] == [1, 2, 3]
        assert asked.answer is not None


async def test_a_receiver_that_never_returns_holds_up_nobody_else(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        stuck = Asked(nursery, link, Ear(deaf=True))
        (first,) = await pipe.heard(1)
        for done in range(1000):
            pipe.say(method="notifications/progress", params={"progressToken": first["id"], "progress": done})
        other = Asked(nursery, link)
        second = (await pipe.heard(2))[1]
        pipe.say(id=second["id"], result={})
        await other.done.wait()
        assert other.answer is not None
        assert not stuck.done.is_set()
        stuck.scope.cancel("test")


async def test_late_unknown_and_repeated_answers_are_counted_and_dropped(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe = ScriptedPipe()
    ear = Ear()
    late: list[str] = []
    async with linked(pipe, unattributed=ear, on_late=lambda: late.append("late")) as link:
        asked = Asked(nursery, link)
        await pipe.heard(1)
        pipe.say(id=1, result={"first": True})
        pipe.say(id=1, result={"first": False})
        pipe.say(id="1", result={})
        pipe.say(id=99, error={"code": 1, "message": ""})
        pipe.say(id=None, error={"code": -32700, "message": "parse error"})
        pipe.say(method="notifications/progress", params={"progressToken": 1, "progress": 1})
        await settled()
        assert asked.answer is not None
        assert json.loads(asked.answer.raw)["result"] == {"first": True}
        assert link.late == 5
        assert len(late) == 1  # an id that we never gave is no answer to anything
        assert ear.heard == []


async def test_a_cancelled_exchange_tells_the_backend_why(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        asked = Asked(nursery, link)
        await pipe.heard(1)
        asked.scope.cancel("the client has left")
        notice = (await pipe.heard(2))[1]
        assert notice["method"] == "notifications/cancelled"
        assert notice["params"] == {"requestId": 1, "reason": "the client has left"}
        pipe.say(id=1, result={})
        await settled()
        assert asked.done.is_set()
        assert link.late == 1


async def test_a_deadline_says_so(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        with trio.move_on_after(1.0):
            await link.exchange(outgoing(), Ear())
        notice = (await pipe.heard(2))[1]
        assert notice["params"] == {"requestId": 1, "reason": "deadline"}


@pytest.mark.parametrize("grouped", [True, False], ids=["in a group", "bare"])
async def test_a_receiver_that_fails_ends_the_exchange_and_the_backend_is_told(
    autojump_clock: MockClock, nursery: trio.Nursery, grouped: bool
) -> None:
    pipe = ScriptedPipe()

    async def hear(message: Inbound) -> None:
        if grouped:
            raise ExceptionGroup("two", [ValueError("a"), ValueError("b")])
        raise ValueError("a")

    async def speak() -> None:
        await pipe.heard(1)
        pipe.say(method="notifications/progress", params={"progressToken": 1, "progress": 1})

    async with linked(pipe) as link:
        nursery.start_soon(speak)
        with pytest.raises((ValueError, ExceptionGroup)):
            await link.exchange(outgoing(), hear)
        notice = (await pipe.heard(2))[1]
        assert notice["params"] == {"requestId": 1, "reason": "the gateway could not relay the answer"}


async def test_initialize_is_left_without_a_notice(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        with trio.move_on_after(1.0):
            await link.exchange(outgoing(cancellable=False), Ear())
        assert len(pipe.sent) == 1


async def test_a_backend_that_does_not_read_delays_a_cancelled_call_by_no_more_than_the_goodbye(
    autojump_clock: MockClock,
) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        began_at = trio.current_time()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.exchange, outgoing(), Ear())
                await pipe.heard(1)
                pipe.sends = False
                scope.cancel("test")
        assert trio.current_time() - began_at == pytest.approx(GOODBYE_S)


async def test_a_call_that_was_not_handed_over_leaves_silently(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe(sends=False)
    async with linked(pipe) as link:
        with trio.move_on_after(1.0):
            await link.exchange(outgoing(), Ear())
        assert trio.current_time() == pytest.approx(1.0)
        assert pipe.sent == []
        assert link.in_flight == 0


async def test_calls_wait_for_a_place_and_control_messages_do_not(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        asked = [Asked(nursery, link) for _ in range(LIMITS.concurrency)]
        await settled()
        Asked(nursery, link)
        await settled()
        assert len(pipe.sent) == LIMITS.concurrency
        Asked(nursery, link, control=True)
        await settled()
        assert len(pipe.sent) == LIMITS.concurrency + 1
        asked[0].scope.cancel("test")
        await settled()
        assert [json.loads(frame)["method"] for frame in pipe.sent[-2:]] == ["notifications/cancelled", "tools/call"]


async def test_the_end_of_the_pipe_fails_everybody_at_once(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pipe, lost = ScriptedPipe(), list[str]()
    async with linked(pipe, lost=lost) as link:
        asked = [Asked(nursery, link), Asked(nursery, link, Ear(deaf=True))]
        await pipe.heard(2)
        pipe.say(method="notifications/progress", params={"progressToken": asked[1].id, "progress": 1})
        await settled()
        pipe.end("its process exited with code 3")
        await settled()
        for one in asked:
            assert isinstance(one.error, BackendGone)
            assert one.error.executed is Executed.UNKNOWN
            assert "exited with code 3" in str(one.error)
        assert asked[0].error is not asked[1].error
        assert link.lost
        assert lost == ["its process exited with code 3"]
        assert await link.gone() == lost[0]
        for use in (link.exchange(outgoing(), Ear()), link.notify(b"{}")):
            with pytest.raises(BackendGone) as caught:
                await use
            assert caught.value.executed is Executed.NO
        assert pipe.closed == 1


async def test_a_call_still_being_handed_over_at_the_end_was_not_executed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe = ScriptedPipe(sends=False)
    async with linked(pipe) as link:
        box = Asked(nursery, link)
        await settled()
        pipe.end("gone")
        await settled()
        assert link.in_flight == 0
        box.scope.cancel("test")


async def test_an_end_that_is_no_loss_of_connection_keeps_its_sentence(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        pipe._in.send_nowait(BackendTooLarge(backend=KEY, limit="limits.eventBytes", bound=5))
        assert "limits.eventBytes = 5" in await link.gone()


async def test_closing_is_idempotent_and_tells_the_owner_nothing_new(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    pipe, lost = ScriptedPipe(), list[str]()
    async with linked(pipe, lost=lost) as link:
        asked = Asked(nursery, link)
        await pipe.heard(1)
        await link.aclose()
        await link.aclose()
        await asked.done.wait()
        assert isinstance(asked.error, BackendGone)
        assert link.lost
    assert lost == []


async def test_a_send_that_was_refused_before_execution_is_not_cancelled_at_the_backend(
    autojump_clock: MockClock,
) -> None:
    class Busy(ScriptedPipe):
        async def send(self, frame: bytes, handed: object, *, control: bool = False) -> None:
            assert callable(handed)
            handed()
            self.sent.append(frame)
            raise BackendBusy(backend=KEY, status=503)

    pipe = Busy()
    async with linked(pipe) as link:
        with pytest.raises(BackendBusy):
            await link.exchange(outgoing(), Ear())
    assert len(pipe.sent) == 1


async def test_a_notice_that_cannot_be_delivered_is_forgotten(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    async with linked(pipe) as link:
        with trio.move_on_after(1.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.exchange, outgoing(), Ear())
                await pipe.heard(1)
                pipe.closed = 1
        assert trio.current_time() == pytest.approx(1.0)


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
        pipe.say(**member, method="sampling/createMessage", params={"x": "y" * jsonrpc.MAX_PARSED_BYTES})
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
