"""How each kind is read.

Owns the table from kinds to readers. Deliberately nothing else. Invariant: every kind that the controller watches is
in it.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from mcp_gateway.kube import gateway_api, objects, own_objects, schema
from mcp_gateway.kube.fields import Fields

View: TypeAlias = (
    objects.Namespace
    | objects.Service
    | objects.Secret
    | gateway_api.Gateway
    | gateway_api.HTTPRoute
    | gateway_api.ReferenceGrant
    | gateway_api.BackendTLSPolicy
    | own_objects.Registration
    | own_objects.Extension
    | own_objects.VirtualServer
    | own_objects.Report
)
"""Whatever is known of the cluster."""

READERS: Final[Mapping[schema.Kind, Callable[[Fields], View]]] = {
    schema.NAMESPACE: objects.namespace_of,
    schema.SERVICE: objects.service_of,
    schema.SECRET: objects.secret_of,
    schema.GATEWAY: gateway_api.gateway_of,
    schema.HTTP_ROUTE: gateway_api.http_route_of,
    schema.REFERENCE_GRANT: gateway_api.reference_grant_of,
    schema.BACKEND_TLS_POLICY: gateway_api.backend_tls_policy_of,
    schema.REGISTRATION: own_objects.registration_of,
    schema.EXTENSION: own_objects.extension_of,
    schema.VIRTUAL_SERVER: own_objects.virtual_server_of,
    schema.REPORT: own_objects.report_of,
}
"""Each raises Malformed."""
