"""One connection and the scope that its jobs run in: whatever is cut, and whenever, no other job notices."""

import math
import socket
from collections.abc import Sequence

import attrs
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock

from mcp_gateway.backends.transports.wire import Wire
from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.front.http1.connection import Connection
from mcp_gateway.front.http1.hang_ups import PolledHangUps
from mcp_gateway.front.http1.service import Service
from mcp_gateway.gateway.entrance import Job, Reply, Request
from tests.support.front import JSON, FixedStatus, ScriptedDispatch, echo

WHEN = (
    "never",
    "waiting",
    "after the answer",
    "as run ends",
    "in finish",
    "answer owed",
    "deadline passed",
    "deadline left",
)


@attrs.frozen
class Plan:
    """What happens to one job, and how long its client then waits with the next request."""

    cut: str
    steps: int
    pause_s: float


@attrs.define(eq=False)
class Planned:
    """A job that is cut as planned, and tells in its answer whether it was."""

    plan: Plan
    request: Request
    reply: Reply
    scope: trio.CancelScope | None = None
    answered: bool = False

    def cut(self) -> None:
        """As the gateway does it: of no effect on the scope once ``run`` has returned."""
        if self.scope is not None:
            self.scope.cancel("planned")

    async def run(self, scope: trio.CancelScope) -> None:
        self.scope = scope
        try:
            await self._run(scope)
        finally:
            self.scope = None

    async def _run(self, scope: trio.CancelScope) -> None:
        if self.plan.cut == "deadline left":
            scope.deadline = trio.current_time() + 3
        for _ in range(self.plan.steps):
            await trio.lowlevel.checkpoint()
        if self.plan.cut == "waiting":
            self.cut()
            await trio.sleep_forever()
        if self.plan.cut != "answer owed":
            await self._answer(b"done")
        if self.plan.cut == "after the answer":
            self.cut()
            await trio.lowlevel.checkpoint()
        elif self.plan.cut == "as run ends":
            self.cut()
        elif self.plan.cut == "deadline passed":
            scope.deadline = trio.current_time() - 1

    async def finish(self) -> None:
        if self.plan.cut == "in finish":
            self.cut()
        for _ in range(self.plan.steps):
            await trio.lowlevel.checkpoint()
        if not self.answered:
            await self._answer(b"owed")
        self.cut()

    async def _answer(self, what: bytes) -> None:
        self.answered = True
        await self.reply.whole(200, JSON, self.request.body + b" " + what)

    def left(self) -> None:
        """Nobody leaves here."""


plans = st.builds(Plan, st.sampled_from(WHEN), st.integers(0, 2), st.sampled_from([0.0, 1.0, 20.0]))


@given(st.lists(plans, min_size=1, max_size=6), st.booleans())
@example([Plan("as run ends", 0, 0.0), Plan("never", 2, 0.0)], True)
@example([Plan("deadline left", 0, 20.0), Plan("never", 2, 0.0)], False)
def test_a_cut_of_one_job_never_reaches_another(planned: Sequence[Plan], at_once: bool) -> None:
    trio.run(serve, planned, at_once, clock=MockClock(autojump_threshold=0))


async def serve(planned: Sequence[Plan], at_once: bool) -> None:
    ours, theirs = socket.socketpair()
    client, left = Wire(theirs), list(planned)
    source = FixedStatus()

    def prepare(request: Request, reply: Reply) -> Job:
        return Planned(left.pop(0), request, reply)

    service = Service(
        dispatch=ScriptedDispatch(echo, prepare),
        ready=source.ready,
        spec=Cell(GatewaySpec()),
        metrics=source.metrics,
    )
    async with trio.open_nursery() as nursery:
        connection = Connection(service=service, hang_ups=PolledHangUps(), wire=Wire(ours), tls=None, peer="")
        nursery.start_soon(connection.run)
        requests = [
            b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d" % number for number in range(len(planned))
        ]
        if at_once:
            await client.send_all(b"".join(requests))
        for number, plan in enumerate(planned):
            if not at_once:
                await client.send_all(requests[number])
            body = b"%d %b" % (number, b"owed" if plan.cut in ("waiting", "answer owed") else b"done")
            got = b""
            while not got.endswith(body):
                some = await client.receive_some(1 if at_once else 65536)
                assert some, f"closed before the answer to {number}"
                got += some
            assert got.startswith(b"HTTP/1.1 200 OK\r\n")
            await trio.sleep(plan.pause_s)
        client.close()
    assert not left
    assert trio.current_effective_deadline() == math.inf


async def test_jobs_that_are_not_cut_share_a_scope() -> None:
    """A scope of its own costs a call more than everything else here."""
    ours, theirs = socket.socketpair()
    client, source, scopes = Wire(theirs), FixedStatus(), list[trio.CancelScope]()

    class Seen(Planned):
        async def _run(self, scope: trio.CancelScope) -> None:
            scopes.append(scope)
            scope.deadline = trio.current_time() + 60
            await super()._run(scope)

    cuts = ["answer owed", "never", "waiting", "never"]

    def prepare(request: Request, reply: Reply) -> Job:
        return Seen(Plan(cuts[len(scopes)], 1, 0.0), request, reply)

    service = Service(
        dispatch=ScriptedDispatch(echo, prepare),
        ready=source.ready,
        spec=Cell(GatewaySpec()),
        metrics=source.metrics,
    )
    async with trio.open_nursery() as nursery:
        connection = Connection(service=service, hang_ups=PolledHangUps(), wire=Wire(ours), tls=None, peer="")
        nursery.start_soon(connection.run)
        for _ in cuts:
            await client.send_all(b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1")
            assert (await client.receive_some(65536)).startswith(b"HTTP/1.1 200 OK\r\n")
        client.close()
    assert scopes[0] is scopes[1] is scopes[2]
    assert scopes[3] is not scopes[0]
    assert scopes[3].deadline == math.inf
