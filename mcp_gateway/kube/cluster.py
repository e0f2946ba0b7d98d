"""Which cluster, and as whom: what ``KUBECONFIG`` or the ServiceAccount of a Pod says.

Owns the reading of both, by the kubernetes package, and the credential that each
request carries. Deliberately sends nothing (``api`` does). Invariants: a token is in no
log and no ``repr``; what may block (files, exec plugins) runs in a thread.
"""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs
import trio
from kubernetes.client import Configuration
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from mcp_gateway.kube.errors import NoCluster

FRESH_S: Final = 30.0
"""How long a credential is used before it is asked for again; a Pod's token is written anew every hour or so."""
NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@attrs.define(eq=False)
class Cluster:
    """Where the API server is, how it is trusted, and who we are to it."""

    _configuration: Configuration = attrs.field(repr=False)
    _authorization: str | None = attrs.field(init=False, default=None, repr=False)
    _fresh_until: float = attrs.field(init=False, default=0.0)
    _lock: trio.Lock = attrs.field(init=False, factory=trio.Lock, repr=False)
    _limiter: trio.CapacityLimiter = attrs.field(init=False, factory=lambda: trio.CapacityLimiter(1), repr=False)

    @property
    def url(self) -> str:
        """The server's address, without a slash at its end."""
        return str(self._configuration.host).rstrip("/")

    @property
    def server_name(self) -> str | None:
        """For SNI and its certificate, where they are not those of the address."""
        return self._configuration.tls_server_name or None

    def trust(self) -> ssl.SSLContext:
        """How its certificate is verified, and the certificate that we show. Reads files.

        Raises:
            NoCluster: one of them cannot be used.
        """
        made = self._configuration
        try:
            context = ssl.create_default_context(cafile=made.ssl_ca_cert or None, cadata=made.ca_cert_data or None)
            if made.cert_file:
                context.load_cert_chain(made.cert_file, made.key_file)
        except (OSError, ssl.SSLError) as error:
            raise NoCluster(why=f"its certificates cannot be used: {error}") from error
        # Authorities of real clusters lack what RFC 5280 wants of them, and Python 3.13 insists on it by default.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not made.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def authorization(self, *, anew: bool = False) -> str | None:
        """The value of the Authorization header; None: a certificate has to do.

        Args:
            anew: the last one was refused.
        Raises:
            NoCluster: the plugin that makes it has failed.
        """
        async with self._lock:
            if anew or trio.current_time() >= self._fresh_until:
                self._authorization = await trio.to_thread.run_sync(
                    self._ask, abandon_on_cancel=True, limiter=self._limiter
                )
                self._fresh_until = trio.current_time() + FRESH_S
            return self._authorization

    def _ask(self) -> str | None:
        try:
            settings = self._configuration.auth_settings()
        except (ConfigException, OSError) as error:
            raise NoCluster(why=f"its credentials cannot be read: {error}") from error
        found = (one for one in settings.values() if isinstance(one, dict) and one.get("key") == "authorization")
        return next((str(one["value"]) for one in found if one.get("value")), None)


def find_cluster(environ: Mapping[str, str]) -> Cluster:
    """The cluster that ``KUBECONFIG`` names (several files as kubectl has it), else the one that this Pod runs in.

    Blocks: it reads files, and may run an exec plugin.

    Raises:
        NoCluster: neither, or it cannot be read.
    """
    configuration = Configuration()
    files = environ.get("KUBECONFIG", "")
    try:
        if files:
            load_kube_config(  # type: ignore[no-untyped-call]  # the package has no annotations there
                config_file=files, client_configuration=configuration, persist_config=False
            )
        else:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # likewise
    except (ConfigException, OSError) as error:
        raise NoCluster(why=str(error).rstrip(".")) from error
    return Cluster(configuration)


def own_namespace(chosen: str | None, environ: Mapping[str, str], default: str) -> str:
    """``--namespace``, else ``POD_NAMESPACE``, else the default."""
    return chosen or environ.get("POD_NAMESPACE", "") or default


def pod_identity(environ: Mapping[str, str]) -> tuple[str, str]:
    """Name and uid of the Pod (``POD_NAME``, ``POD_UID``); outside of one a name of this process, and no uid."""
    return environ.get("POD_NAME", "") or f"process-{os.getpid()}", environ.get("POD_UID", "")
