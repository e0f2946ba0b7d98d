"""Links over a scripted pipe for tests, and an ear that remembers.

Owns the link of a test and the exchanges that it begins. Deliberately judges nothing.
Invariant: the link's tasks end with the block.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
import trio.testing

from mcp_gateway.backends.observer import SILENT, Observer
from mcp_gateway.backends.transports.base import Answer, Hello, Inbound, Outgoing
from mcp_gateway.backends.transports.pipe import PipeLink, nobody_cares, open_pipe
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import (
    BackendError,
)
from mcp_gateway.protocol.eras import NEWEST_LEGACY, Era
from tests.support.scripted_pipe import KEY, ScriptedPipe

LIMITS = BackendLimits(concurrency=3)


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
    observer: Observer = SILENT,
) -> AsyncIterator[PipeLink]:
    on_lost = nobody_cares if lost is None else lost.append
    hear = unattributed or Ear()
    async with open_pipe(
        pipe, key=KEY, limits=LIMITS, shared=True, unattributed=hear, on_lost=on_lost, observer=observer
    ) as link:
        link.greeted(Hello(era=era, capabilities={}))
        yield link


class Asked:
    """One exchange in a task of its own: its answer or its error, and the scope to cancel it."""

    def __init__(
        self,
        nursery: trio.Nursery,
        link: PipeLink,
        ear: Ear | None = None,
        *,
        control: bool = False,
        task: str | None = None,
    ) -> None:
        self.answer: Answer | None = None
        self.error: BackendError | None = None
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.ear = ear or Ear()
        self.id = 0
        nursery.start_soon(self._run, link, attrs.evolve(outgoing(control=control), task=task, render=self._render))

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
