"""What can go wrong between us and an API server.

Owns the errors of ``api``, by what a caller can do about them. Deliberately knows no
HTTP library. Invariant: a message holds no token and no content of an object.
"""

import attrs

from mcp_gateway.errors import GatewayError


@attrs.frozen(kw_only=True, eq=False)
class KubeError(GatewayError):
    """A request to the API server did not do what it was sent for. ``where``: verb and path."""

    where: str
    retry_after_s: float | None = None
    """What the server asked us to wait."""


@attrs.frozen(kw_only=True, eq=False)
class ApiUnreachable(KubeError):
    """No answer: connection, TLS, time; a write may have been carried out."""

    why: str

    def __str__(self) -> str:
        return f"{self.where}: the API server cannot be reached: {self.why}"


@attrs.frozen(kw_only=True, eq=False)
class ApiRefused(KubeError):
    """The API server said no, in a ``Status`` (metav1.Status) or by an HTTP status alone."""

    status: int
    cause: str
    """The ``reason`` of the ``Status``: ``Forbidden``, ``NotFound``, ``Invalid``; empty: it does not say."""
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.cause or 'refused'} ({self.status}): {self.message}"


@attrs.frozen(kw_only=True, eq=False)
class ApiConflict(ApiRefused):
    """409: the object is another one than the one that we decided on, or exists already. Look again."""


@attrs.frozen(kw_only=True, eq=False)
class ApiForbidden(ApiRefused):
    """401 or 403, also after the credentials were read again."""


@attrs.frozen(kw_only=True, eq=False)
class ApiMissing(ApiRefused):
    """404: the object, or its kind, does not exist."""


@attrs.frozen(kw_only=True, eq=False)
class ApiExpired(ApiRefused):
    """410: that resourceVersion is too old. List again."""


@attrs.frozen(kw_only=True, eq=False)
class ApiBusy(ApiRefused):
    """429 or 5xx: later perhaps."""


@attrs.frozen(kw_only=True, eq=False)
class NoCluster(GatewayError):
    """There is no usable kubeconfig, and this is no Pod."""

    why: str

    def __str__(self) -> str:
        return f"no cluster: {self.why}; set KUBECONFIG, or run in a Pod with a ServiceAccount"


@attrs.frozen(kw_only=True, eq=False)
class StillLed(GatewayError):
    """The Lease of an instance is held by a controller that goes on working."""

    namespace: str
    lease: str
    holder: str
    """Empty: the Lease cannot be read or written."""

    def __str__(self) -> str:
        if not self.holder:
            return f"Lease {self.namespace}/{self.lease} cannot be taken; see the log, or give --namespace"
        return (
            f"{self.holder} leads, and would write everything again; stop it first: "
            f"kubectl -n {self.namespace} scale deployment/{self.lease} --replicas=0"
        )
