"""What those who use good servers see while a nasty one is among them.

Owns the look around that every such test takes, from the first request to the liveness page, and the bounds on it.
Deliberately knows no misdeed. Invariant: whatever is judged was measured from a client's side, on real sockets.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio

from tests.support.gateway import Config, Running, Where, running_gateway
from tests.support.nasty import NEIGHBOURS, Misdeed, Tool, neighbours, villains
from tests.support.raw_client import Client2025, Message
from tests.support.raw_http import RawRequest
from tests.support.steps import measured

BOUND_S: Final = 1.0
"""The longest that anything of a good server may take while a nasty one does its worst; usual are 20 ms."""
STEP_S: Final = 0.25
"""The longest that one step of a task may hold the loop, in processor time."""
GOOD_TOOLS: Final = [f"{name}_echo" for name in NEIGHBOURS]


@asynccontextmanager
async def nine_and(bad: Sequence[Config]) -> AsyncIterator[Running]:
    """A gateway in this process with these servers first in the configuration, and nine good ones after them."""
    async with neighbours() as good:
        with measured() as steps:
            async with running_gateway([*bad, *good]) as running:
                yield running
        assert steps.longest_s < STEP_S, steps.whose


@asynccontextmanager
async def among_nine(
    misdeed: Misdeed,
    when: Callable[[RawRequest], bool],
    *,
    names: Sequence[str] = ("old", "new"),
    failures: int = 3,
    tools: Sequence[Tool] = (),
    able: Sequence[str] = (),
    **more: object,
) -> AsyncIterator[Running]:
    """A gateway with nasty servers, whose misdeed is this one, among nine good ones."""
    async with villains(misdeed, when=when, names=names, tools=tools, able=able) as bad:
        for entry in bad.entries:
            entry |= {"health": {"interval": "1s", "failures": failures}, **more}
        async with nine_and(bad.entries) as running:
            yield running


@asynccontextmanager
async def initialized(running: Where) -> AsyncIterator[Client2025]:
    async with running.client2025() as client:
        await client.initialize()
        yield client


async def nobody_notices(running: Where, bad_tools: Collection[str]) -> None:
    """A client comes, looks around and calls each good server, all quickly, with the right answers."""
    async with running.client2025() as client:
        with quick("initialize"):
            await client.initialize()
        with quick("tools/list"):
            names = await client.list()
        assert [name for name in names if name not in bad_tools] == GOOD_TOOLS
        async with trio.open_nursery() as nursery:
            for name in NEIGHBOURS:
                nursery.start_soon(call_good, client, name)
        with quick("healthz"):
            async with running.client2025() as prober:
                prober.url = running.url.removesuffix("/mcp") + "/healthz"
                assert (await prober.http("GET")).status == 200


async def call_good(client: Client2025, name: str) -> None:
    with quick(name):
        answer = await client.call(f"{name}_echo", {"x": 7})
    assert answer["result"]["content"] == [{"type": "text", "text": f"{name}:7"}]


@contextmanager
def quick(what: str) -> Iterator[None]:
    began_at = trio.current_time()
    yield
    took_s = trio.current_time() - began_at
    assert took_s < BOUND_S, f"{what} took {took_s:.2f} s"


async def status_of(running: Where, name: str) -> Message:
    """What the admin listener says of a server."""
    async with running.client2025() as client:
        client.url = f"{running.admin_url}/status/{name}"
        return (await client.http("GET")).json


async def until_state(running: Running, name: str, state: str, within_s: float = 5.0) -> None:
    """Wait until ``/status`` says this of a server."""
    with trio.fail_after(within_s):
        while True:
            version = running.fleet.snapshots.version
            if (await status_of(running, name))["state"] == state:
                return
            await running.fleet.snapshots.changed(version)


def said(status: Message) -> str:
    """The last error of a server's report."""
    message = status["last_error"]["message"]
    assert isinstance(message, str)
    return message
