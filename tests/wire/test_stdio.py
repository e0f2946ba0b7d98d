"""Tests of ``stdio`` on real processes: whatever the child does, nothing of it is left."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from mcp_gateway.backends.transports import child
from mcp_gateway.backends.transports.base import GOODBYE_S, Answer, Inbound, Outgoing
from mcp_gateway.backends.transports.child import FIRST_STOP_S, LEAVE_S, STOP_S, TERM_S
from mcp_gateway.backends.transports.stdio import ChildPipe, StdioLink, open_stdio
from mcp_gateway.config.spec import BackendLimits, StdioTarget
from mcp_gateway.errors import BackendError, BackendGone, BackendProtocol, BackendTooLarge, Executed
from mcp_gateway.protocol import json_text, jsonrpc
from mcp_gateway.values import BackendKey
from tests.support.children import is_zombie, running, running_with, server

pytestmark = [
    pytest.mark.wire,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for orphans in /proc"),
]

KEY = BackendKey("files")
LIMITS = BackendLimits(response_bytes=1_000_000)


@attrs.define(eq=False)
class Backend:
    """An open link, its child's pid and everything that was heard."""

    link: StdioLink
    pid: int
    heard: list[Inbound] = attrs.field(factory=list)
    exits: list[str] = attrs.field(factory=list)

    async def call(self, name: str, hear: Callable[[Inbound], None] | None = None) -> dict[str, object]:
        """Call a tool and give the answer's result."""

        def render(upstream_id: int) -> bytes:
            params = json_text.dumps({"name": name, "arguments": {"a": "1\n2"}})
            return jsonrpc.render_request(b"%d" % upstream_id, "tools/call", params)

        async def listen(message: Inbound) -> None:
            self.heard.append(message)
            if hear is not None:
                hear(message)

        answer: Answer = await self.link.exchange(Outgoing(method="tools/call", render=render), listen)
        result: dict[str, object] = json.loads(answer.raw)["result"]
        return result


def pid_of(link: StdioLink) -> int:
    assert isinstance(link._pipe, ChildPipe)
    return link._pipe.child.process.pid


@asynccontextmanager
async def backend(
    target: StdioTarget, *, pinned: str | None = None, limits: BackendLimits = LIMITS
) -> AsyncIterator[Backend]:
    """A child; whatever happens in the block, afterwards nothing of its session runs and nothing waits to be reaped."""
    unattributed: list[Inbound] = []
    exits: list[str] = []

    async def hear(message: Inbound) -> None:
        unattributed.append(message)

    pid = 0
    try:
        async with open_stdio(
            key=KEY, target=target, limits=limits, unattributed=hear, on_exit=exits.append, pinned=pinned
        ) as link:
            pid = pid_of(link)
            yield Backend(link=link, pid=pid, heard=unattributed, exits=exits)
    finally:
        if pid:
            assert running(pid) == []
            assert not is_zombie(pid)


async def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110  # what another process does gives no event
            await trio.sleep(0.01)


async def test_a_call_and_its_answer(tmp_path: Path) -> None:
    async with backend(server("jester", tmp_path / "record")) as files:
        assert await files.call("echo") == {"echo": {"a": "1\n2"}}
        assert files.link.hello.capabilities == {"tools": {}}
        assert files.link.era.version == "2025-11-25"
        assert running(files.pid) == [files.pid]
    assert files.exits == []


async def test_many_calls_share_one_child(tmp_path: Path) -> None:
    async with backend(server("jester", tmp_path / "record")) as files, trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(files.call, "echo")


@attrs.define(eq=False)
class Counting(trio.abc.SendStream):
    """A stream that counts what is written in one go."""

    inner: trio.abc.SendStream
    writes: list[bytes] = attrs.field(factory=list)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_frames_of_one_moment_leave_in_one_write_each_on_its_line(tmp_path: Path) -> None:
    async with backend(server("jester", tmp_path / "record")) as files:
        pipe = files.link._pipe
        assert isinstance(pipe, ChildPipe)
        counting = pipe.child.stdin = Counting(pipe.child.stdin)
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(files.call, "echo")
        lines = b"".join(counting.writes).splitlines()
        assert sum(json.loads(line)["method"] == "tools/call" for line in lines) == 50
        assert len(counting.writes) < 10


async def test_a_modern_child_needs_no_handshake(tmp_path: Path) -> None:
    async with backend(server("modern", tmp_path / "record")) as files:
        assert files.link.era.modern
        assert files.link.hello.instructions == "be nice"
        heard: list[str] = []
        acknowledged = trio.Event()

        def render(upstream_id: int) -> bytes:
            return jsonrpc.render_request(b"%d" % upstream_id, "subscriptions/listen", b'{"notifications":{}}')

        async def listen(message: Inbound) -> None:
            heard.append(message.method)
            acknowledged.set()

        async with trio.open_nursery() as nursery:
            listening = Outgoing(method="subscriptions/listen", render=render, control=True)
            nursery.start_soon(files.link.exchange, listening, listen)
            await acknowledged.wait()
            await files.call("change")
            await eventually(lambda: len(heard) == 2)
            nursery.cancel_scope.cancel("nobody listens any more")
        assert heard == ["notifications/subscriptions/acknowledged", "notifications/tools/list_changed"]
        assert files.heard == []
        record = tmp_path / "record"
        await eventually(lambda: "nobody listens any more" in record.read_text())
        assert "initialize" not in record.read_text()


@pytest.mark.parametrize("name", ["exits_on_probe", pytest.param("mute_before_initialize", marks=pytest.mark.slow)])
async def test_a_legacy_child_that_cannot_stand_the_probe_is_greeted_all_the_same(name: str) -> None:
    async with backend(server(name)) as files:
        assert files.link.era.version == "2025-11-25"


@pytest.mark.slow
async def test_a_modern_child_that_starts_slowly_is_recognised() -> None:
    async with backend(server("slow_modern")) as files:
        assert files.link.era.modern


async def test_a_pinned_revision_is_offered_without_a_probe(tmp_path: Path) -> None:
    async with backend(server("jester", tmp_path / "record"), pinned="2025-03-26") as files:
        assert files.link.era.version == "2025-03-26"
        assert "server/discover" not in (tmp_path / "record").read_text()


async def test_the_environment_is_minimal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SIGNING_KEY", "secret")
    async with backend(server("jester", tmp_path / "record", env=(("TOKEN", "t"),))) as files:
        told = await files.call("environment")
        assert isinstance(told["environment"], dict)
        assert told["environment"]["TOKEN"] == "t"
        assert "PATH" in told["environment"]
        assert "GATEWAY_SIGNING_KEY" not in told["environment"]


async def test_progress_comes_before_the_answer_and_the_latest_is_never_lost(tmp_path: Path) -> None:
    async with backend(server("jester", tmp_path / "record")) as files:
        await files.call("progress")
        done = [message.params["progress"] for message in files.heard]
        assert done == sorted(done, key=lambda n: int(str(n)))
        assert done[-1] == 199


async def test_requests_of_the_child_are_heard_and_answered(tmp_path: Path) -> None:
    async with backend(server("jester", tmp_path / "record")) as files, trio.open_nursery() as nursery:

        def reply(message: Inbound) -> None:
            assert message.id_raw == b'"q1"'
            nursery.start_soon(files.link.notify, jsonrpc.render_result(message.id_raw, b'{"text":\n"yes"}'))

        assert await files.call("ask", reply) == {"you said": {"text": "yes"}}


async def test_pings_of_the_child_are_answered_by_the_link(tmp_path: Path) -> None:
    async with backend(server("jester", tmp_path / "record")) as files:
        assert await files.call("ping back") == {"you said": {}}
        assert files.heard == []


async def test_a_cancelled_call_reaches_the_child(tmp_path: Path) -> None:
    record = tmp_path / "record"
    async with backend(server("jester", record)) as files:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(files.call, "never")
                await eventually(lambda: "never" in record.read_text())
                scope.cancel("the user pressed stop")
        await eventually(lambda: "notifications/cancelled" in record.read_text())
        assert "'reason': 'the user pressed stop'" in record.read_text()
        assert await files.call("echo")


async def test_junk_on_stdout_is_skipped(tmp_path: Path) -> None:
    async with backend(server("jester", tmp_path / "record")) as files:
        assert await files.call("junk") == {}
        assert files.link.junk == 5


@pytest.mark.parametrize(
    "name, error",
    [pytest.param("NaN", BackendProtocol, id="no JSON"), pytest.param("huge", BackendTooLarge, id="a line too long")],
)
async def test_a_bad_answer_fails_its_own_call_only(tmp_path: Path, name: str, error: type[BackendError]) -> None:
    async with backend(server("jester", tmp_path / "record")) as files:
        with pytest.raises(error):
            await files.call(name)
        assert await files.call("echo")


@pytest.mark.parametrize(
    "name, sentence",
    [
        pytest.param("die", "its process exited with code 3", id="exit"),
        pytest.param("die of a signal", "its process was ended by SIGABRT", id="signal"),
        pytest.param("half a line", "its process exited with code 0", id="half an answer"),
        pytest.param("close stdout", "it closed its output", id="closed output"),
    ],
)
async def test_the_end_of_a_child_is_noticed_at_once(tmp_path: Path, name: str, sentence: str) -> None:
    record = tmp_path / "record"
    async with backend(server("jester", record)) as files:
        errors: list[BackendError] = []

        async def wait_for_ever() -> None:
            try:
                await files.call("never")
            except BackendGone as gone:
                errors.append(gone)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_ever)
                await eventually(lambda: "never" in record.read_text())
                with pytest.raises(BackendGone, match=sentence) as caught:
                    await files.call(name)
        assert caught.value.executed is Executed.UNKNOWN
        assert [str(error) for error in errors] == [str(caught.value)]
        assert files.link.lost
        assert files.exits == [sentence]
        with pytest.raises(BackendGone) as caught:
            await files.call("echo")
        assert caught.value.executed is Executed.NO
        await eventually(lambda: running(files.pid) == [])  # before the block ends


async def test_the_last_words_of_a_child_are_heard(tmp_path: Path) -> None:
    async with backend(server("jester", tmp_path / "record")) as files:
        assert await files.call("last words") == {"last": "words"}
        assert await files.link.gone() == "its process exited with code 0"


async def test_stderr_goes_to_the_log_and_never_blocks_the_child(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_gateway")
    async with backend(server("floods_stderr")) as files:
        with trio.fail_after(15):
            await files.call("x")
    lines = [record.__dict__["text"] for record in caplog.records if record.message == "stderr"]
    assert 0 < len(lines) < 1000
    assert lines[0].startswith("noise noise")
    assert "\x1b" not in "".join(lines)
    suppressed = [record.__dict__["lines"] for record in caplog.records if record.message == "stderr suppressed"]
    assert suppressed
    assert suppressed[0] > 10_000


@pytest.mark.slow
async def test_a_child_that_ignores_term_is_killed_within_the_goodbye() -> None:
    async with backend(server("ignores_term")) as files:
        await files.call("x")
        began_at = trio.current_time()
    assert LEAVE_S + TERM_S <= trio.current_time() - began_at <= GOODBYE_S + 0.2


@pytest.mark.slow
async def test_a_child_that_never_answered_may_finish_what_it_installs(tmp_path: Path) -> None:
    assert await given_up(server("installs", tmp_path / "cache"), hurry=False) < FIRST_STOP_S / 2
    assert (tmp_path / "cache").read_text() == "whole"
    assert running_with(tmp_path / "cache") == []


@pytest.mark.slow
async def test_a_child_that_never_answered_is_killed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "FIRST_TERM_S", 2.0)
    took_s = await given_up(server("installs", tmp_path / "cache", "stubborn"), hurry=False)
    assert took_s >= LEAVE_S + 2.0
    assert (tmp_path / "cache").read_text() == "half"
    assert running_with(tmp_path / "cache") == []


@pytest.mark.slow
@pytest.mark.parametrize("late_s", [0.0, 0.5, LEAVE_S + TERM_S + 0.5], ids=["before", "meanwhile", "in the end"])
async def test_a_child_that_never_answered_is_not_waited_for_in_a_hurry(tmp_path: Path, late_s: float) -> None:
    took_s = await given_up(server("installs", tmp_path / "cache", "stubborn"), hurry=True, late_s=late_s)
    assert LEAVE_S + TERM_S <= took_s <= max(STOP_S, late_s) + 1.0
    assert running_with(tmp_path / "cache") == []


async def given_up(target: StdioTarget, *, hurry: bool, late_s: float = 0.0) -> float:
    """How many seconds it takes to stop a child that said something on stderr and did not answer.

    Args:
        hurry: the gateway shuts down ``late_s`` after the child was given up.
    """
    wrote, hurried, scope = trio.Event(), trio.Event(), trio.CancelScope()
    given_up_at = 0.0

    async def give_up() -> None:
        nonlocal given_up_at
        await wrote.wait()
        given_up_at = trio.current_time()
        scope.cancel("it was given up")
        if hurry:
            await trio.sleep(late_s)
            hurried.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        with scope:
            async with open_stdio(
                key=KEY,
                target=target,
                limits=LIMITS,
                unattributed=ignore,
                stderr=lambda chunk: wrote.set(),
                hurry=hurried,
            ):
                pytest.fail("opened")
        took_s = trio.current_time() - given_up_at
    return took_s


async def ignore(message: Inbound) -> None:
    """Hear nothing."""


async def test_a_polite_child_leaves_when_its_input_ends(tmp_path: Path) -> None:
    async with backend(server("jester", tmp_path / "record")):
        began_at = trio.current_time()
    assert trio.current_time() - began_at < LEAVE_S


async def test_grandchildren_go_with_the_child() -> None:
    async with backend(server("forks_grandchild")) as files:
        await files.call("x")
        assert len(running(files.pid)) == 2


async def test_an_exit_is_noticed_though_a_grandchild_holds_the_pipes_open() -> None:
    async with backend(server("forks_grandchild")) as files:
        with trio.fail_after(2), pytest.raises(BackendGone, match="its process exited with code 5"):
            await files.call("exit")
        await eventually(lambda: running(files.pid) == [])


async def test_a_child_that_stops_reading_hangs_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcp_gateway.backends.transports.stdio.WRITE_STALL_S", 0.5)
    async with backend(server("stops_reading")) as files:
        errors: list[BackendGone] = []

        async def call() -> None:
            try:
                await files.call("x" * 50_000)
            except BackendGone as gone:
                errors.append(gone)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(call)
        assert len(errors) == 10
        assert {str(error) for error in errors} == {"server 'files' is not reachable: it read nothing for 0.5 s"}
        assert {error.executed for error in errors} == {Executed.NO, Executed.UNKNOWN}
        await eventually(lambda: running(files.pid) == [])


@pytest.mark.slow
async def test_a_cancelled_call_to_a_child_that_stops_reading_ends_within_the_goodbye() -> None:
    async with backend(server("stops_reading")) as files:
        began_at = trio.current_time()
        with trio.move_on_after(0.2):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(files.call, "x" * 50_000)
        assert trio.current_time() - began_at < 0.2 + GOODBYE_S + 0.5


async def test_a_child_that_closes_its_input_is_given_up() -> None:
    async with backend(server("closes_stdin")) as files:
        await eventually(lambda: bool(files.heard))
        with trio.fail_after(5), pytest.raises(BackendGone, match="it closed its input"):
            await files.call("x")


async def test_a_frame_is_whole_though_its_sender_is_cancelled(tmp_path: Path) -> None:
    record = tmp_path / "record"
    async with backend(server("jester", record)) as files:
        for _ in range(20):
            with trio.move_on_after(0.001):
                await files.call("y" * 300_000)
        assert await files.call("echo") == {"echo": {"a": "1\n2"}}


@pytest.mark.slow
async def test_closing_twice_and_from_two_tasks_is_one_end(tmp_path: Path) -> None:
    async with backend(server("ignores_term")) as files:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(files.link.aclose)
            nursery.start_soon(files.link.aclose)
        assert running(files.pid) == []
        assert files.link.lost
    assert files.exits == []


async def test_a_command_that_does_not_exist_is_named() -> None:
    with pytest.raises(BackendGone, match="command 'no-such-program' was not found"):
        async with backend(StdioTarget(command=("no-such-program",))):
            pytest.fail("opened")


async def test_a_command_that_is_no_server_is_gone_with_its_exit_code() -> None:
    with pytest.raises(BackendGone, match="its process exited with code 1") as caught:
        async with backend(StdioTarget(command=("false",))):
            pytest.fail("opened")
    assert caught.value.backend == KEY


async def test_a_handshake_that_never_ends_is_bounded_by_the_caller() -> None:
    opened = False
    with trio.move_on_after(0.3) as scope:
        async with backend(server("silent"), pinned="2025-11-25"):
            opened = True
    assert scope.cancelled_caught
    assert not opened
