"""The running data plane of a cluster: the gateway, with the cluster for its configuration.

Owns what a Pod has besides a gateway on a laptop: the Secret that it serves, and its report.
Deliberately changes nothing of the gateway itself (``app``). Invariant: while the API server is
away the gateway goes on serving; only what it says of itself waits.
"""

import base64
import os
import time
from pathlib import Path

import attrs
import trio

from mcp_gateway import app
from mcp_gateway.app import Addresses
from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.config.compiled import redacted, unpack
from mcp_gateway.gateway.assembly import Gateway
from mcp_gateway.kube import schema
from mcp_gateway.kube.api import open_api
from mcp_gateway.kube.cluster import find_cluster, own_namespace, pod_identity
from mcp_gateway.kube.config_source import SecretSource
from mcp_gateway.kube.observer import GatewayObserver
from mcp_gateway.kube.reporter import Reporter
from mcp_gateway.values import JsonObject


@attrs.frozen(kw_only=True)
class Options:
    """What the command line says; changing it needs a restart."""

    namespace: str | None = None
    """Where it runs; None: ``POD_NAMESPACE`` or the default."""
    instance: str = schema.DEFAULT_INSTANCE
    config_copy: Path | None = None
    allow_loopback: bool = False
    bind: str = "127.0.0.1:8080"
    admin_bind: str = "127.0.0.1:9090"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    log_format: str = "text"
    log_level: str = "info"


async def shown(namespace: str | None) -> JsonObject:
    """The compiled configuration of the cluster, without its secrets.

    Raises:
        NoCluster: there is no usable cluster. KubeError: it cannot be read. ConfigError: it is none.
    """
    cluster = await trio.to_thread.run_sync(find_cluster, os.environ, abandon_on_cancel=True)
    where = own_namespace(namespace, os.environ, schema.SYSTEM_NAMESPACE)
    async with open_api(cluster, schema.DATA_PLANE) as api:
        secret = await api.get(schema.SECRET, where, schema.CONFIG_SECRET)
    data = secret.get("data")
    encoded = data.get(schema.CONFIG_KEY) if isinstance(data, dict) else None
    return redacted(unpack(base64.b64decode(encoded if isinstance(encoded, str) else "")))


async def serve(options: Options, *, task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED) -> int:
    """Run a data plane until a signal; return the exit code.

    Raises:
        NoCluster: there is no usable cluster.
        BindError: an address cannot be listened on.
        CertificateError: the certificate and key cannot be used.
    """
    cluster = await trio.to_thread.run_sync(find_cluster, os.environ, abandon_on_cancel=True)
    namespace = own_namespace(options.namespace, os.environ, schema.SYSTEM_NAMESPACE)
    pod, uid = pod_identity(os.environ)
    async with open_api(cluster, schema.DATA_PLANE) as api:
        source = SecretSource(
            api=api, namespace=namespace, copy=options.config_copy, allow_loopback=options.allow_loopback
        )

        async def report(fleet: Fleet, gateway: Gateway) -> None:
            reporter = Reporter(
                api=api,
                namespace=namespace,
                instance=options.instance,
                pod=pod,
                pod_uid=uid,
                wall_clock=time.time,
                observer=GatewayObserver(compiled=source.compiled, fleet=fleet, table=gateway.context.table),
            )
            await reporter.run()

        return await app.serve(
            app.Options(
                source=source,
                beside=report,
                bind=options.bind,
                admin_bind=options.admin_bind,
                tls_cert=options.tls_cert,
                tls_key=options.tls_key,
                log_format=options.log_format,
                log_level=options.log_level,
            ),
            task_status=task_status,
        )
