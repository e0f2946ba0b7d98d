"""Servers of other makers that are killed and started again behind the gateway, in the middle of calls.

While a server is away its calls fail with the reason; once the gateway has found it again every call succeeds, in
sessions that were there before as in new ones, and ``/status`` is as it was.
"""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import pytest
import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.caller import Caller
from mcp_gateway.config.spec import HealthSpec, HttpTarget, ServerSpec
from mcp_gateway.errors import BackendError
from mcp_gateway.routing.snapshot import Health
from mcp_gateway.values import BackendKey, JsonObject
from tests.support import peers
from tests.support.scripted_link import ASKABLE, caller, deaf
from tests.wire.test_backends import call, fleet_of, until

pytestmark = [pytest.mark.wire, pytest.mark.slow]

KEY = BackendKey("peer")
Start: TypeAlias = Callable[[int], AbstractAsyncContextManager[peers.Peer]]
CALLERS = (caller("a"), caller("b", ASKABLE), caller(), caller(None, ASKABLE))


def on_port(name: str, command: Callable[..., peers.Command], *flags: str) -> Start:
    path = "/sse" if "--sse" in flags else "/mcp"
    return lambda port: peers.start(name, command(*flags, "--port", str(port)), path=path)


def everything(port: int) -> AbstractAsyncContextManager[peers.Peer]:
    environment = {"PORT": str(port), "NODE_OPTIONS": f"--require={peers.SERVERS / 'bind_local.cjs'}"}
    return peers.start("everything", peers.everything_command("streamableHttp"), environment=environment)


async def say(backend: Backend, who: Caller, word: str) -> bool:
    """Whether ``echo`` says it; an answer that is an error is no success."""
    era = backend.snapshot.era
    arguments: JsonObject = {"text": word, "message": word}
    raw = (await backend.exchange(who, call("echo", arguments, modern=era is not None and era.modern), deaf)).raw
    return b'"result"' in raw and word.encode() in raw


@pytest.mark.parametrize(
    "start, protocol",
    [
        pytest.param(on_port("mcp1", peers.mcp1_command), None, id="mcp1", marks=pytest.mark.peers),
        pytest.param(on_port("mcp1", peers.mcp1_command, "--sse"), None, id="mcp1 SSE", marks=pytest.mark.peers),
        pytest.param(on_port("mcp2", peers.mcp2_command), None, id="mcp2"),
        pytest.param(on_port("mcp2", peers.mcp2_command), "2025-11-25", id="mcp2 in 2025"),
        pytest.param(on_port("fastmcp4", peers.fastmcp4_command), None, id="fastmcp4", marks=pytest.mark.peers),
        pytest.param(
            on_port("fastmcp4", peers.fastmcp4_command), "2025-11-25", id="fastmcp4 in 2025", marks=pytest.mark.peers
        ),
        pytest.param(everything, None, id="server-everything", marks=pytest.mark.node),
    ],
)
@pytest.mark.timeout(90)
async def test_every_call_after_a_restart_succeeds(start: Start, protocol: str | None) -> None:
    async with start(0) as first:
        spec = ServerSpec(
            key=KEY, target=HttpTarget(url=first.url), protocol=protocol, health=HealthSpec(interval_s=5.0)
        )
        async with fleet_of(spec) as (fleet, backend):
            await until(lambda: backend.snapshot.health is Health.READY)
            for who in CALLERS:
                assert await say(backend, who, "before")
            async with trio.open_nursery() as nursery:
                failed: list[BackendError] = []

                async def keep_calling(who: Caller) -> None:
                    while True:
                        try:
                            await say(backend, who, "meanwhile")
                        except BackendError as error:
                            failed.append(error)
                        await trio.sleep(0.02)

                for who in CALLERS:
                    nursery.start_soon(keep_calling, who)
                await trio.sleep(0.2)
                os.killpg(first.process.pid, signal.SIGKILL)
                await first.process.wait()
                await trio.sleep(0.5)
                async with start(first.port):
                    await until(lambda: not backend.supervisor.machine.open)
                    failed.clear()
                    await trio.sleep(1.0)
                    assert failed == []
                    for who in CALLERS:
                        assert await say(backend, who, "after")
                    await until(lambda: backend.snapshot.health is Health.READY)
                    status = fleet.status(KEY)
                    assert (status["state"], status["circuit"], status["problems"]) == ("ready", "closed", [])
                    nursery.cancel_scope.cancel("seen enough")
