"""A whole gateway for a test: in this process on real sockets, or as the program that users run.

Owns starting and stopping both. Deliberately no protocol: ``tests.support.raw_client`` and the SDKs talk to it.
Invariant: nothing of a gateway is left after its block, neither a task nor a process.
"""

import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final, TypeAlias

import attrs
import trio

from mcp_gateway.backends.fleet import Fleet, open_fleet
from mcp_gateway.cell import Cell
from mcp_gateway.config.file import read_spec
from mcp_gateway.config.source import Configuration
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.front.admin import AdminListener
from mcp_gateway.front.admission import Admission
from mcp_gateway.front.http1.listener import Http1Listener
from mcp_gateway.front.http1.service import Service
from mcp_gateway.front.pages import admin_pages, guarded
from mcp_gateway.front.server import ConnectionT, Listener, addresses, bind, serve
from mcp_gateway.gateway.assembly import Gateway, open_gateway
from mcp_gateway.status import Status
from mcp_gateway.telemetry.metrics import Metrics
from tests.support import load, peers
from tests.support.first_discovery import first_discovery
from tests.support.raw_client import Client2025, Client2026, connect2025, connect2026

Config: TypeAlias = Mapping[str, Any]
"""A configuration as its file would have it."""

READY_S: Final = 15.0
"""A busy machine of two cores starts the peers of a test slowly."""
STOP_S: Final = 8.0
_KEY: Final = "a key of the tests, which signs nothing but tests' sessions"
_SERVING: Final = re.compile(rb'serving.*?public(?:=|":")([^\s"]+).*?admin(?:=|":")([^\s"]+)')


@attrs.frozen(kw_only=True)
class Where:
    """The addresses of a gateway that accepts connections, and clients for it."""

    url: str
    """Of ``/mcp``."""
    admin_url: str
    """Without a path."""

    @property
    def sse_url(self) -> str:
        return self.url.removesuffix("/mcp") + "/sse"

    def client2025(self, version: str = "2025-11-25") -> AbstractAsyncContextManager[Client2025]:
        """A raw client; ``initialize`` it first."""
        return connect2025(self.url, version)

    def client2026(self, **capabilities: object) -> AbstractAsyncContextManager[Client2026]:
        """A raw client of the modern era."""
        return connect2026(self.url, **capabilities)


@attrs.frozen(kw_only=True, eq=False)
class Running(Where):
    """A gateway in this process, with its parts."""

    spec: Cell[GatewaySpec]
    gateway: Gateway
    fleet: Fleet
    metrics: Metrics
    status: Status

    async def reload(self, config: Config) -> None:
        """Apply another configuration, as a change of the file does; returns when the new backends have started."""
        self.spec.set(spec_of(config))
        self.metrics.configure([server.key for server in self.spec.value.servers])
        await self.fleet.apply(self.spec.value)


@attrs.frozen(kw_only=True, eq=False)
class Process(Where):
    """A gateway as a process of its own; ``config`` may be written again to reload it."""

    process: trio.Process
    config: Path
    log: bytearray
    """What it has printed so far, both streams."""
    log_ended: trio.Event
    """Everything has been read of it."""

    async def ended(self) -> int:
        """Wait until it has ended and its log is whole; its exit code. The caller holds the deadline."""
        code = await self.process.wait()
        await self.log_ended.wait()
        return code

    async def stop(self, within_s: float = STOP_S) -> int:
        """SIGTERM to this process; its exit code. Fails the test when it does not end."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        with trio.fail_after(load.stretched(within_s)):
            return await self.ended()


def spec_of(config: Config) -> GatewaySpec:
    """The spec of a configuration, read by the product's own reader."""
    keys = {"signingKeys": [{"value": _KEY}], **config.get("sessions", {})}
    text = json.dumps({**config, "sessions": keys})
    return read_spec(text, "test", os.environ, lambda name: Path(name).read_bytes())


@asynccontextmanager
async def running_gateway(servers: Sequence[Config], *, wait: bool = True, **rest: object) -> AsyncIterator[Running]:
    """Serve a configuration on free ports of the loopback interface, in this process.

    Args:
        servers: the entries of ``servers``.
        wait: return only when each server has answered or failed once, and its names can be called.
        rest: the other members of the configuration, e.g. ``limits={"inFlight": 1}``.
    Raises:
        ConfigError: the configuration is wrong.
    """
    configuration = Configuration.begin("test", spec_of({"servers": list(servers), **rest}))
    spec = configuration.spec
    metrics = Metrics()
    status = Status(metrics=metrics, configuration=configuration)
    async with (
        open_fleet(metrics) as fleet,
        open_gateway(spec=spec, fleet=fleet, metrics=metrics, wall_clock=time.time) as gateway,
    ):
        status.attach(fleet, gateway, lambda: False)
        metrics.configure([server.key for server in spec.value.servers])
        await fleet.apply(spec.value)
        service = Service(dispatch=gateway.dispatch, ready=status.ready, spec=spec, metrics=metrics)
        listener = Http1Listener(service=service)
        admin = AdminListener(guarded(admin_pages(status), bind_is_loopback=True))
        async with _served(listener, spec.value.limits.connections) as public, _served(admin, 100) as private:
            if wait:
                with trio.fail_after(READY_S):
                    await first_discovery(fleet)
                    await gateway.table_built()
                assert status.ready() == (True, "")
            yield Running(
                url=f"http://{public}/mcp",
                admin_url=f"http://{private}",
                spec=spec,
                gateway=gateway,
                fleet=fleet,
                metrics=metrics,
                status=status,
            )
            gateway.end_streams()


@asynccontextmanager
async def _served(listener: Listener[ConnectionT], connections: int) -> AsyncIterator[str]:
    """Serve on a free port; gives HOST:PORT."""
    sockets, end = bind("127.0.0.1:0"), trio.Event()

    async def run(task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        await serve(
            listener,
            sockets=sockets,
            shutdown_trigger=end.wait,
            graceful_timeout_s=0.5,
            admission=Admission(bound=connections),
            task_status=task_status,
        )

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        try:
            yield addresses(sockets)[0]
        finally:
            end.set()


@asynccontextmanager
async def gateway_process(
    config: Config, *flags: str, wait: bool = True, before: Sequence[str] = ()
) -> AsyncIterator[Process]:
    """Run ``mcp-gateway serve`` on free ports; ended by its process id, for certain, with the block.

    Args:
        config: written to a file that the process watches.
        flags: more words for the command line.
        wait: return only when ``/readyz`` is 200.
        before: words before the command, which run it in some other way.
    Raises:
        RuntimeError: it ended instead, with what it printed.
    """
    load.keep_real_time()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gateway.yaml"
        file.write_text(json.dumps(config))
        binds = ["--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0"]
        process = await trio.lowlevel.open_process(
            [*before, sys.executable, "-m", "mcp_gateway.cli", "serve", "--config", str(file), *binds, *flags],
            stdout=PIPE,
            stderr=-2,  # with the output
            env={**os.environ, "PYTHONPATH": str(peers.ROOT), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        printed, ended = bytearray(), trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                public, admin = await nursery.start(_watch, process, printed, ended)
                running = Process(
                    url=f"http://{public}/mcp",
                    admin_url=f"http://{admin}",
                    process=process,
                    config=file,
                    log=printed,
                    log_ended=ended,
                )
                if wait:
                    with trio.fail_after(load.stretched(READY_S)):
                        await _until_ready(running)
                yield running
                nursery.cancel_scope.cancel("the gateway is not needed any more")
        finally:
            with trio.move_on_after(2 * peers.STOP_S, shield=True):
                await peers.stop(process)


async def _watch(
    process: trio.Process,
    printed: bytearray,
    ended: trio.Event,
    task_status: trio.TaskStatus[tuple[str, str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Find the addresses in the log, then keep reading it."""
    assert process.stdout is not None
    found = False
    async for chunk in process.stdout:
        printed += chunk
        if not found and (match := _SERVING.search(printed)):
            found = True
            task_status.started((match[1].decode(), match[2].decode()))
    ended.set()
    if not found:
        raise RuntimeError(f"the gateway ended with {await process.wait()}:\n{printed.decode(errors='replace')}")


async def _until_ready(running: Process) -> None:
    while True:
        async with connect2025(f"{running.admin_url}/readyz") as client:
            if (await client.http("GET")).status == 200:
                return
        await trio.sleep(0.05)  # another process: it can only be asked again
