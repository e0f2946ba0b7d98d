"""The running controller: what contains what, and how it ends.

Owns the nesting admin server > informers > Lease > work. Deliberately holds no decision.
Invariants: on a signal the Lease is given back before anything else ends, so that another
controller goes on at once; what is known of the cluster is kept warm while another one leads.
"""

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs
import trio
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from mcp_gateway import __version__
from mcp_gateway.backends.fleet import full_jitter
from mcp_gateway.front import server
from mcp_gateway.front.admin import AdminListener
from mcp_gateway.front.pages import controller_pages, guarded
from mcp_gateway.front.server import addresses, bind, is_loopback_bind
from mcp_gateway.kube import schema
from mcp_gateway.kube.agenda import Agenda
from mcp_gateway.kube.api import Api, open_api
from mcp_gateway.kube.cleanup import Cleanup
from mcp_gateway.kube.cluster import find_cluster, own_namespace, pod_identity
from mcp_gateway.kube.controller import Controller
from mcp_gateway.kube.election import Election
from mcp_gateway.kube.errors import ApiMissing, StillLed
from mcp_gateway.kube.events import Events
from mcp_gateway.kube.informers import Informers
from mcp_gateway.kube.lease import Lease
from mcp_gateway.kube.pen import Pen, Permission
from mcp_gateway.kube.reconcile.reports import ReportLog
from mcp_gateway.kube.store import Settings, Store
from mcp_gateway.telemetry import log
from mcp_gateway.values import JsonObject

logger = logging.getLogger(__name__)

ADMIN_S: Final = 1.0
TAKE_OVER_S: Final = 15.0
"""For the Lease of a controller that was just stopped, or killed."""
CLEANUP_S: Final = 300.0


@attrs.frozen(kw_only=True)
class Options:
    """What the command line says; changing it needs a restart."""

    namespace: str | None = None
    """Where it runs; None: ``POD_NAMESPACE`` or the default."""
    instance: str = schema.DEFAULT_INSTANCE
    cluster_domain: str = schema.CLUSTER_DOMAIN
    external_backends: bool = True
    watch_namespaces: tuple[str, ...] = ()
    """Where users' objects are looked for; empty: everywhere."""
    admin_bind: str = "127.0.0.1:9090"
    log_format: str = "text"
    log_level: str = "info"


async def serve(options: Options, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """Run a controller until a signal.

    Raises:
        NoCluster: there is no usable cluster.
        BindError: the admin address cannot be listened on.
    """
    form: log.Form = "json" if options.log_format == "json" else "text"
    sockets = bind(options.admin_bind)
    try:
        cluster = await trio.to_thread.run_sync(find_cluster, os.environ, abandon_on_cancel=True)
        with log.setup(form, options.log_level):
            async with open_api(cluster, schema.CONTROLLER) as api:
                await _run(_assemble(api, options), sockets, task_status)
    finally:
        for sock in sockets:
            sock.close()


async def clean(options: Options) -> str:
    """Take back what an instance has left outside of its namespace; returns what was done, as a sentence.

    Raises:
        NoCluster: there is no usable cluster.
        StillLed: a controller of this instance works, and would undo it.
        KubeError: the API server refuses, or is away.
    """
    cluster = await trio.to_thread.run_sync(find_cluster, os.environ, abandon_on_cancel=True)
    settings = _settings(options)
    with log.setup("json" if options.log_format == "json" else "text", options.log_level):
        async with open_api(cluster, schema.CONTROLLER) as api:
            if await _is_gone(api, settings.namespace):
                written = await _clean(api, settings, _Unopposed())
            else:
                written = await _clean_as_leader(api, settings)
    what = f"instance {settings.instance} on routes, Gateways and grants"
    return f"took back {written} traces of {what}" if written else f"there is no trace of {what}"


class _Unopposed:
    """Whose namespace is gone, and with it every controller and the Lease, may write (``pen.Permission``)."""

    leads: bool = True


async def _is_gone(api: Api, namespace: str) -> bool:
    try:
        found = await api.get(schema.NAMESPACE, None, namespace)
    except ApiMissing:
        return True
    metadata = found.get("metadata")
    return isinstance(metadata, dict) and "deletionTimestamp" in metadata


async def _clean_as_leader(api: Api, settings: Settings) -> int:
    lease = _lease(api, settings)
    written: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + TAKE_OVER_S

        async def lead() -> None:
            nursery.cancel_scope.deadline = trio.current_time() + CLEANUP_S
            written.append(await _clean(api, settings, lease))
            nursery.cancel_scope.cancel("all is taken back")

        await lease.run(lead)
    if not written:
        raise StillLed(namespace=settings.namespace, lease=lease.name, holder=lease.election.holder)
    return written[0]


async def _clean(api: Api, settings: Settings, permission: Permission) -> int:
    pen = Pen(api=api, lease=permission)
    return await Cleanup(api=api, pen=pen, settings=settings, wall_clock=time.time).run()


def _settings(options: Options) -> Settings:
    return Settings(
        instance=options.instance,
        namespace=own_namespace(options.namespace, os.environ, schema.SYSTEM_NAMESPACE),
        cluster_domain=options.cluster_domain,
        external_backends=options.external_backends,
        watch_namespaces=options.watch_namespaces,
    )


def _lease(api: Api, settings: Settings) -> Lease:
    pod, _ = pod_identity(os.environ)
    identity = f"{pod}_{secrets.token_hex(4)}"  # of this process: one that is restarted is another candidate
    return Lease(
        api=api,
        namespace=settings.namespace,
        name=schema.CONTROLLER,
        election=Election(identity=identity),
        wall_clock=time.time,
        jitter=full_jitter,
    )


def _assemble(api: Api, options: Options) -> "Running":
    settings = _settings(options)
    pod, _ = pod_identity(os.environ)
    store, agenda = Store(settings=settings), Agenda()
    reports = ReportLog(none_since_at=trio.current_time())
    informers = Informers(api=api, store=store, reports=reports, jitter=full_jitter, told=agenda.told)
    lease = _lease(api, settings)
    events = Events(api=api, reporter=pod, wall_clock=time.time)
    controller = Controller(
        store=store,
        reports=reports,
        informers=informers,
        agenda=agenda,
        pen=Pen(api=api, lease=lease),
        events=events,
        wall_clock=time.time,
    )
    return Running(controller=controller, lease=lease)


@attrs.define(eq=False, kw_only=True)
class Running:
    """A ``front.pages.ControllerSource`` of the whole program."""

    controller: Controller
    lease: Lease
    _registry: CollectorRegistry = attrs.field(init=False, factory=CollectorRegistry, repr=False)

    def __attrs_post_init__(self) -> None:
        controller = self.controller
        readings: dict[str, tuple[str, Callable[[], float]]] = {
            "leading": ("Whether this process holds the Lease.", lambda: self.lease.leads),
            "waiting": ("Objects that wait for a worker.", lambda: controller.agenda.waiting),
            "passes": ("How often everything was looked at.", lambda: controller.passes),
            "failures": ("Writes that failed and were put off.", lambda: controller.failures),
            "events_dropped": ("Events that were not sent.", lambda: controller.events.dropped),
            "unreadable_kinds": ("Kinds whose last list or watch failed.", lambda: len(controller.store.failures)),
            "registrations": ("Registrations known.", lambda: len(controller.store.registrations())),
        }
        for name, (help_text, reading) in readings.items():
            gauge = Gauge(f"mcp_gateway_controller_{name}", help_text, registry=self._registry)
            gauge.set_function(reading)

    def ready(self) -> tuple[bool, str]:
        """Whether it knows the cluster; one that waits for the Lease is ready too."""
        missing = self.controller.informers.missing
        if missing:
            return False, f"not listed yet: {', '.join(missing)}"
        unreadable = self.controller.store.unreadable
        if unreadable:
            return True, f"cannot read {', '.join(unreadable)}"
        return True, ""

    def status(self) -> JsonObject:
        """See ``ControllerSource.status``."""
        ready, why = self.ready()
        store, controller = self.controller.store, self.controller
        return {
            "version": __version__,
            "instance": store.settings.instance,
            "namespace": store.settings.namespace,
            "ready": ready,
            "why": why,
            "leading": self.lease.leads,
            "holder": self.lease.election.holder,
            "unreadable": {**store.unreadable},
            "malformed": {f"{kind.kind} {key}": told for (kind, key), told in store.malformed.items()},
            "objects": {kind.resource: len(store.keys(kind)) for kind in schema.WATCHED},
            "waiting": controller.agenda.waiting,
            "failures": controller.failures,
        }

    def render_metrics(self) -> bytes:
        """See ``ControllerSource.render_metrics``."""
        return generate_latest(self._registry)


async def _run(running: Running, sockets: Sequence[socket.socket], task_status: trio.TaskStatus[str]) -> None:
    end = trio.Event()
    listener = AdminListener(guarded(controller_pages(running), bind_is_loopback=is_loopback_bind(sockets)))
    where = addresses(sockets)[0]
    controller = running.controller

    async def admin() -> None:
        await server.serve(listener, sockets=sockets, shutdown_trigger=end.wait, graceful_timeout_s=ADMIN_S)

    async with trio.open_nursery() as root:
        root.start_soon(admin, name="admin server")
        async with trio.open_nursery() as background:
            background.start_soon(controller.informers.run, name="informers")
            background.start_soon(controller.events.run, name="events")
            logger.info("controller started", extra={"admin": where, "instance": controller.store.settings.instance})
            task_status.started(where)
            await _until_signal(lambda: running.lease.run(controller.lead))
            background.cancel_scope.cancel("a signal came")
        logger.info("controller ended")
        end.set()


async def _until_signal(work: Callable[[], Awaitable[None]]) -> None:
    """Work until SIGTERM or SIGINT, which belong to the main thread's program."""
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    nursery.cancel_scope.cancel("a signal came")

        if threading.current_thread() is threading.main_thread():
            nursery.start_soon(wait, name="signals")
        await work()
