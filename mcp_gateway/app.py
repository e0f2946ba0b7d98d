"""The running program: what contains what, and how it ends.

Owns the nesting telemetry > admin server > fleet > configuration > gateway >
public server, the drain's phases and the exit. Deliberately holds no protocol and
no policy. Invariants: leaving the blocks in order is the graceful shutdown; the
process ends within the sum of the phases' bounds, whatever clients and backends do.

Spec: docs/operations.md.
"""

import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import trio

from mcp_gateway import garbage
from mcp_gateway.backends.fleet import Fleet, open_fleet
from mcp_gateway.backends.transports import orphans
from mcp_gateway.config import log_levels
from mcp_gateway.config.source import ConfigSource, Configuration
from mcp_gateway.front import server
from mcp_gateway.front.admin import AdminListener
from mcp_gateway.front.admission import Admission, cap_connections, raise_fd_limit
from mcp_gateway.front.http1.listener import Http1Listener
from mcp_gateway.front.http1.service import Service
from mcp_gateway.front.http1.tls import Certificate
from mcp_gateway.front.pages import admin_pages, guarded
from mcp_gateway.front.server import BindError, addresses, bind, is_loopback_bind
from mcp_gateway.gateway.assembly import Gateway, open_gateway
from mcp_gateway.gateway.call.deadline import Cause
from mcp_gateway.status import Status
from mcp_gateway.telemetry import log
from mcp_gateway.telemetry.loop import sample_loop
from mcp_gateway.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

Sockets: TypeAlias = Sequence[socket.socket]
Wait: TypeAlias = Callable[..., Awaitable[None]]
Beside: TypeAlias = Callable[[Fleet, Gateway], Awaitable[None]]
"""A task that looks at the gateway, such as the report of a pod; it is cancelled when the drain is over."""

CANCEL_S: Final = 2.0
"""How long calls that the drain cancelled may take to say so to both sides (phase 4)."""
GOODBYE_S: Final = 2.0
"""For the goodbyes of all backends together (phase 5)."""
ADMIN_S: Final = 1.0
WATCHDOG_S: Final = 5.0
"""On top of all phases; then a thread ends the process."""


@attrs.frozen(kw_only=True)
class Options:
    """What the command line says; changing it needs a restart."""

    source: ConfigSource
    beside: "Beside | None" = None
    """Runs for as long as the gateway serves."""
    bind: str = "127.0.0.1:8080"
    admin_bind: str = "127.0.0.1:9090"
    tls_cert: Path | None = None
    """PEM files of the public listener's certificate and key; both or neither."""
    tls_key: Path | None = None
    log_format: str = "text"
    log_level: str = "info"


@attrs.frozen(kw_only=True)
class Addresses:
    """Where the two listeners listen."""

    public: str
    admin: str


@attrs.define(eq=False)
class Drain:
    """How far the shutdown has got."""

    begun: trio.Event = attrs.field(factory=trio.Event)
    """Phase 1: a signal came."""
    closing: trio.Event = attrs.field(factory=trio.Event)
    """The end of phase 3: the listeners close."""
    hurried: trio.Event = attrs.field(factory=trio.Event)
    """A second signal came: straight to phase 4."""

    def signalled(self) -> None:
        """SIGTERM or SIGINT arrived."""
        (self.hurried if self.begun.is_set() else self.begun).set()


async def serve(options: Options, *, task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED) -> int:
    """Run the gateway until a signal; return the exit code.

    Raises:
        ConfigError: the configuration cannot be used at all.
        BindError: an address cannot be listened on.
        CertificateError: the certificate and key cannot be used.
    """
    form: log.Form = "json" if options.log_format == "json" else "text"
    spec = await options.source.first()
    certificate = None
    if options.tls_cert is not None and options.tls_key is not None:
        certificate = Certificate(cert=options.tls_cert, key=options.tls_key)
    public, admin = _bind_both(options)
    garbage.spare_the_loop()
    with log.setup(form, options.log_level) as lines:
        metrics = Metrics()
        metrics.readings.log_lines_dropped = lambda: lines.dropped
        configuration = Configuration.begin(options.source.name, spec)
        program = Program(
            options=options, configuration=configuration, metrics=metrics, lines=lines, certificate=certificate
        )
        where = Addresses(public=addresses(public)[0], admin=addresses(admin)[0])
        _note_proxies(os.environ)
        try:
            await program.run(public, admin, where, task_status)
        finally:
            program.watchdog.cancel()
    return 0


def _bind_both(options: Options) -> tuple[Sockets, Sockets]:
    """The sockets of both listeners, or none. Raises BindError."""
    public = bind(options.bind)
    try:
        return public, bind(options.admin_bind)
    except BindError:
        for sock in public:
            sock.close()
        raise


def _note_proxies(environ: Mapping[str, str]) -> None:
    """Say once that nobody uses these, without their values, which may hold passwords (docs/configuration.md)."""
    found = sorted(name for name in environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy"))
    if found:
        logger.info("proxies of the environment are ignored", extra={"variables": found, "instead": "servers[].proxy"})


@attrs.define(eq=False, kw_only=True)
class Program:
    """One run of the gateway."""

    options: Options
    configuration: Configuration
    metrics: Metrics
    lines: log.Drain
    certificate: Certificate | None = None
    drain: Drain = attrs.field(factory=Drain)
    watchdog: threading.Timer = attrs.field(factory=lambda: _watchdog(0.0), init=False)
    """Started with the drain; whoever runs the program cancels it in the end."""

    async def run(
        self, public: Sockets, admin: Sockets, where: Addresses, task_status: trio.TaskStatus[Addresses]
    ) -> None:
        """Nest everything; return when the drain is complete."""
        status = Status(metrics=self.metrics, configuration=self.configuration)
        async with trio.open_nursery() as root:
            root.start_soon(self._signals, name="signals")
            root.start_soon(self._orphans, name="orphans")
            root.start_soon(sample_loop, self.metrics, name="loop sampler")
            async with (
                self._admin_server(status, admin),
                open_fleet(self.metrics) as fleet,
                self._configured(fleet),
                open_gateway(
                    spec=self.configuration.spec, fleet=fleet, metrics=self.metrics, wall_clock=time.time
                ) as gateway,
            ):
                status.attach(fleet, gateway, self.drain.begun.is_set)
                async with trio.open_nursery() as nursery:
                    if self.options.beside is not None:
                        nursery.start_soon(self.options.beside, fleet, gateway, name="beside the gateway")
                    await self._public_server(status, gateway, fleet, public, where, task_status)
                    nursery.cancel_scope.cancel("drained")
            root.cancel_scope.cancel("drained")

    @asynccontextmanager
    async def _admin_server(self, status: Status, sockets: Sockets) -> AsyncIterator[None]:
        end = trio.Event()
        listener = AdminListener(guarded(admin_pages(status), bind_is_loopback=is_loopback_bind(sockets)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve_admin, listener, sockets, end, name="admin server")
            try:
                yield
            finally:
                end.set()

    @asynccontextmanager
    async def _configured(self, fleet: Fleet) -> AsyncIterator[None]:
        """The fleet follows the spec, and the spec follows its source."""
        async with trio.open_nursery() as nursery:
            await self._apply(fleet)
            nursery.start_soon(self._follow, fleet, name="apply configuration")
            nursery.start_soon(self._watch, name="watch configuration")
            try:
                yield
            finally:
                nursery.cancel_scope.cancel("configuration closed")

    async def _apply(self, fleet: Fleet) -> None:
        spec = self.configuration.spec.value
        self.metrics.configure([server.key for server in spec.servers])
        self.lines.distinguish(
            log_levels.of_gateways(spec), log_levels.of_backends(spec, self.options.log_level.lower())
        )
        await fleet.apply(spec)

    async def _follow(self, fleet: Fleet) -> None:
        version = self.configuration.spec.version
        while True:
            version, _ = await self.configuration.spec.changed(version)
            await self._apply(fleet)

    async def _watch(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.options.source.follow, self.configuration, name="configuration source")
            version = -1
            while True:
                version, state = await self.configuration.status.changed(version)
                self.metrics.reloaded(state.generation, ok=state.error is None, now_unix_s=time.time())

    async def _public_server(
        self,
        status: Status,
        gateway: Gateway,
        fleet: Fleet,
        sockets: Sockets,
        where: Addresses,
        task_status: trio.TaskStatus[Addresses],
    ) -> None:
        open_files = raise_fd_limit()
        admission = Admission(bound=cap_connections(self.configuration.spec.value.limits.connections, open_files))
        status.watch_connections(admission)
        service = Service(
            dispatch=gateway.dispatch,
            ready=status.ready,
            spec=self.configuration.spec,
            metrics=self.metrics,
            loopback=is_loopback_bind(sockets),
            draining=self.drain.begun.is_set,
        )
        listener = Http1Listener(service=service, certificate=self.certificate)
        served = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve_public, listener, sockets, self.drain, admission, served, name="public server")
            nursery.start_soon(self._bound_connections, admission, open_files, name="bound connections")
            logger.info("serving", extra={"public": where.public, "admin": where.admin})
            task_status.started(where)
            await self.drain.begun.wait()
            drain = self.configuration.spec.value.drain
            self.watchdog = _watchdog(drain.settle_s + drain.grace_s + CANCEL_S + GOODBYE_S + ADMIN_S + WATCHDOG_S)
            self.watchdog.start()
            await self._drain(gateway, fleet, served)
            nursery.cancel_scope.cancel("drained")

    async def _bound_connections(self, admission: Admission, open_files: int | None) -> None:
        """Keep the bound at ``limits.connections``; a lower one cuts nobody."""
        version, limits = self.configuration.spec.version, self.configuration.spec.value.limits
        while True:
            version, spec = await self.configuration.spec.changed(version)
            if spec.limits.connections != limits.connections:
                admission.bound = cap_connections(spec.limits.connections, open_files)
            limits = spec.limits

    async def _drain(self, gateway: Gateway, fleet: Fleet, served: trio.Event) -> None:
        """Phases 1 to 5 of docs/operations.md; a second signal jumps to phase 4. ``served``: no client is connected."""
        spec, began_at = self.configuration.spec.value.drain, trio.current_time()
        logger.info("draining", extra={"calls": len(gateway.calls.in_flight), "grace_s": spec.grace_s})
        await self._unless_hurried(trio.sleep, spec.settle_s)
        gateway.context.draining = True
        gateway.end_streams()
        with trio.move_on_after(spec.grace_s):
            await self._unless_hurried(self._finish, gateway, served)
        garbage.leave_the_rest()
        self.drain.closing.set()
        cancelled = gateway.calls.cut_all(Cause.DRAIN)
        with trio.move_on_after(CANCEL_S):
            await self._finish(gateway, served)
        with trio.move_on_after(GOODBYE_S):
            await fleet.goodbye()
        took_s = trio.current_time() - began_at
        logger.info(
            "drained", extra={"cancelled": cancelled, "left": len(gateway.calls.in_flight), "took_s": round(took_s, 2)}
        )

    async def _finish(self, gateway: Gateway, served: trio.Event) -> None:
        """Wait until no call runs and the last answer has been delivered, which may take a slow client a while.

        The listeners stay until then: answers to questions and cancellations of running calls come on new connections.
        """
        await gateway.calls.idle()
        self.drain.closing.set()
        await served.wait()

    async def _unless_hurried(self, wait: Wait, *args: object) -> None:
        """Wait, or stop waiting at the second signal."""
        async with trio.open_nursery() as nursery:

            async def hurry() -> None:
                await self.drain.hurried.wait()
                nursery.cancel_scope.cancel("second signal")

            nursery.start_soon(hurry, name="second signal")
            await wait(*args)
            nursery.cancel_scope.cancel("waited long enough")

    async def _signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # signals belong to the main thread's program
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                self.drain.signalled()

    async def _orphans(self) -> None:
        """As process 1 of a container: what stdio servers leave behind is ours to reap."""
        if orphans.inherits() and threading.current_thread() is threading.main_thread():
            await orphans.reap()


async def _serve_public(
    listener: Http1Listener, sockets: Sockets, drain: Drain, admission: Admission, served: trio.Event
) -> None:
    await server.serve(
        listener,
        sockets=sockets,
        shutdown_trigger=drain.closing.wait,
        graceful_timeout_s=math.inf,  # the drain's scopes decide, never the server's patience
        admission=admission,
    )
    served.set()


async def _serve_admin(listener: AdminListener, sockets: Sockets, end: trio.Event) -> None:
    await server.serve(listener, sockets=sockets, shutdown_trigger=end.wait, graceful_timeout_s=ADMIN_S)


def _watchdog(after_s: float) -> threading.Timer:
    """Ends the process from a thread if the drain itself hangs (our bug, or a stuck system call)."""

    def bite() -> None:
        os.write(2, b"mcp-gateway: the drain took too long, ending now\n")
        os._exit(70)

    timer = threading.Timer(after_s, bite)
    timer.daemon = True
    return timer
