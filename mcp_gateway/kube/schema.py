"""The names of the Kubernetes half: groups, kinds, fields, labels, annotations, well-known objects, reasons.

Owns every string that a user, another controller or the API server knows us by. Deliberately no behaviour, and no
rule that says when a name is used. Invariant: the CRDs in ``manifests/crds`` have exactly the fields that are listed
here (``tests/kube/test_drift.py``), so another generation of the API is another ``Generation`` and nothing else.
"""

from typing import Final

import attrs

# --- kinds -----------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Kind:
    """One kind of object, as it stands in URLs and in ``apiVersion`` and ``kind``."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``v1``, or ``group/version``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As rules of RBAC and CustomResourceDefinitions write it: ``plural.group``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


GATEWAY_GROUP: Final = "gateway.networking.k8s.io"
ISTIO_GROUP: Final = "networking.istio.io"
HOSTNAME_KIND: Final = "Hostname"
"""A backendRef of this kind and Istio's group names a host outside the cluster."""

GATEWAY: Final = Kind(group=GATEWAY_GROUP, version="v1", kind="Gateway", plural="gateways")
HTTP_ROUTE: Final = Kind(group=GATEWAY_GROUP, version="v1", kind="HTTPRoute", plural="httproutes")
REFERENCE_GRANT: Final = Kind(group=GATEWAY_GROUP, version="v1beta1", kind="ReferenceGrant", plural="referencegrants")
BACKEND_TLS_POLICY: Final = Kind(
    group=GATEWAY_GROUP, version="v1", kind="BackendTLSPolicy", plural="backendtlspolicies"
)
SERVICE: Final = Kind(group="", version="v1", kind="Service", plural="services")
SECRET: Final = Kind(group="", version="v1", kind="Secret", plural="secrets")
NAMESPACE: Final = Kind(group="", version="v1", kind="Namespace", plural="namespaces", namespaced=False)

# --- our kinds: the names of their fields ----------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class RegistrationFields:
    """Paths inside ``spec`` of an MCPServerRegistration."""

    target_group: str = "targetRef.group"
    target_kind: str = "targetRef.kind"
    target_name: str = "targetRef.name"
    target_namespace: str = "targetRef.namespace"
    prefix: str = "prefix"
    prefix_alias: str = "toolPrefix"
    path: str = "path"
    state: str = "state"
    credential_name: str = "credentialRef.name"
    credential_key: str = "credentialRef.key"
    ca_name: str = "caCertSecretRef.name"
    ca_key: str = "caCertSecretRef.key"
    category: str = "category"
    hint: str = "hint"
    tags: str = "tags"
    timeout_connect: str = "timeouts.connect"
    timeout_call: str = "timeouts.call"
    timeout_input: str = "timeouts.input"
    timeout_max: str = "timeouts.max"
    timeout_list: str = "timeouts.list"
    limit_concurrency: str = "limits.concurrency"
    limit_response_bytes: str = "limits.responseBytes"
    limit_event_bytes: str = "limits.eventBytes"
    limit_upstream_sessions: str = "limits.upstreamSessions"
    health_interval: str = "health.interval"
    health_failures: str = "health.failures"
    health_grace_when_down: str = "health.graceWhenDown"
    tools_include: str = "tools.include"
    tools_exclude: str = "tools.exclude"
    forward_headers: str = "forwardHeaders"
    protocol: str = "protocol"


@attrs.frozen(kw_only=True)
class ExtensionFields:
    """Paths inside ``spec`` of an MCPGatewayExtension."""

    target_group: str = "targetRef.group"
    target_kind: str = "targetRef.kind"
    target_name: str = "targetRef.name"
    target_namespace: str = "targetRef.namespace"
    target_section: str = "targetRef.sectionName"
    public_host: str = "publicHost"
    ping_interval_s: str = "backendPingIntervalSeconds"
    route_management: str = "httpRouteManagement"
    ca_bundle_name: str = "caCertBundleRef.name"
    ca_bundle_key: str = "caCertBundleRef.key"
    log_level: str = "logLevel"


@attrs.frozen(kw_only=True)
class VirtualServerFields:
    """Paths inside ``spec`` of an MCPVirtualServer."""

    description: str = "description"
    tools: str = "tools"
    prompts: str = "prompts"
    resources: str = "resources"
    target_group: str = "targetRef.group"
    target_kind: str = "targetRef.kind"
    target_name: str = "targetRef.name"
    target_namespace: str = "targetRef.namespace"


@attrs.frozen(kw_only=True)
class ReportFields:
    """Paths inside ``spec`` of an MCPGatewayReport; ``[]`` stands for every item of a list."""

    pod: str = "pod"
    instance: str = "instance"
    started: str = "startTime"
    renewed: str = "renewTime"
    complete: str = "complete"
    config_revision: str = "configRevision"
    server_count: str = "serverCount"
    connected_count: str = "connectedCount"
    server_name: str = "servers[].name"
    server_revision: str = "servers[].revision"
    server_state: str = "servers[].state"
    server_since: str = "servers[].since"
    server_tools: str = "servers[].tools"
    server_prompts: str = "servers[].prompts"
    server_resources: str = "servers[].resources"
    server_protocol: str = "servers[].protocol"
    server_last_error: str = "servers[].lastError"
    gateway_name: str = "gateways[].name"
    gateway_revision: str = "gateways[].revision"
    gateway_state: str = "gateways[].state"
    gateway_last_error: str = "gateways[].lastError"
    virtual_name: str = "virtualServers[].name"
    virtual_revision: str = "virtualServers[].revision"
    virtual_state: str = "virtualServers[].state"
    virtual_last_error: str = "virtualServers[].lastError"
    virtual_missing: str = "virtualServers[].missing"
    virtual_missing_count: str = "virtualServers[].missingCount"


@attrs.frozen(kw_only=True)
class StatusFields:
    """Paths inside ``status``; each kind has some of them."""

    observed_generation: str = "observedGeneration"
    conditions: str = "conditions"
    discovered_tools: str = "discoveredTools"
    protocol_version: str = "protocolVersion"
    endpoint: str = "endpoint"
    last_error: str = "lastError"
    extensions: str = "extensions"
    hosts: str = "hosts"
    registrations: str = "registrations"
    missing: str = "missing"
    missing_count: str = "missingCount"


@attrs.frozen(kw_only=True)
class Generation:
    """One generation of our own API."""

    registration: Kind
    extension: Kind
    virtual_server: Kind
    report: Kind
    registration_fields: RegistrationFields = RegistrationFields()
    extension_fields: ExtensionFields = ExtensionFields()
    virtual_server_fields: VirtualServerFields = VirtualServerFields()
    report_fields: ReportFields = ReportFields()
    status_fields: StatusFields = StatusFields()

    @property
    def group(self) -> str:
        """The API group of every kind; labels, annotations and the controller's name are below it."""
        return self.registration.group

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """All of ours."""
        return (self.registration, self.extension, self.virtual_server, self.report)


_GROUP: Final = "mcp.kagenti.com"
_VERSION: Final = "v1alpha1"

V1ALPHA1: Final = Generation(
    registration=Kind(group=_GROUP, version=_VERSION, kind="MCPServerRegistration", plural="mcpserverregistrations"),
    extension=Kind(group=_GROUP, version=_VERSION, kind="MCPGatewayExtension", plural="mcpgatewayextensions"),
    virtual_server=Kind(group=_GROUP, version=_VERSION, kind="MCPVirtualServer", plural="mcpvirtualservers"),
    report=Kind(group=_GROUP, version=_VERSION, kind="MCPGatewayReport", plural="mcpgatewayreports"),
)

GENERATION: Final = V1ALPHA1
"""The generation that this version reads and writes."""

GROUP: Final = GENERATION.group
REGISTRATION: Final = GENERATION.registration
EXTENSION: Final = GENERATION.extension
VIRTUAL_SERVER: Final = GENERATION.virtual_server
REPORT: Final = GENERATION.report

WATCHED: Final = (
    NAMESPACE,
    GATEWAY,
    HTTP_ROUTE,
    REFERENCE_GRANT,
    BACKEND_TLS_POLICY,
    SERVICE,
    SECRET,
    REGISTRATION,
    EXTENSION,
    VIRTUAL_SERVER,
    REPORT,
)
"""Every kind that the controller reads."""

OPTIONAL: Final = frozenset({BACKEND_TLS_POLICY})
"""Kinds that a cluster need not have: absent, they count as listed and empty."""

# --- values of fields ------------------------------------------------------------------------------------------------

STATE_DISABLED: Final = "Disabled"
ROUTE_MANAGEMENT_DISABLED: Final = "Disabled"
DEFAULT_PATH: Final = "/mcp"
DEFAULT_CREDENTIAL_KEY: Final = "token"
DEFAULT_CA_KEY: Final = "ca.crt"

# --- labels, annotations, controller ---------------------------------------------------------------------------------

LABEL_INSTANCE: Final = f"{GROUP}/instance"
LABEL_CREDENTIAL: Final = f"{GROUP}/credential"
LABEL_CREDENTIAL_ALIAS: Final = f"{GROUP}/secret"
LABEL_TRUE: Final = "true"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
"""Kubernetes itself puts a namespace's name there."""

DEFAULT_INSTANCE: Final = "default"
CONTROLLER: Final = "mcp-gateway-controller"
"""Deployment, ServiceAccount, field manager and reporting controller of Events."""
CONTROLLER_NAME: Final = f"{GROUP}/gateway-controller"
"""Our name among the controllers in the status of an HTTPRoute; an instance other than the default adds its own."""

# --- well-known objects ----------------------------------------------------------------------------------------------

SYSTEM_NAMESPACE: Final = "mcp-system"
DATA_PLANE: Final = "mcp-gateway-broker-router"
"""Deployment, Service and ServiceAccount of the data plane."""
DATA_PLANE_PORT: Final = 8080
CONFIG_SECRET: Final = "mcp-gateway-config"
CONFIG_KEY: Final = "config.json.gz"
SIGNING_KEY_SECRET: Final = "mcp-gateway-session-signing-key"
SIGNING_KEY: Final = "key"
"""The entry that signs; every other entry of that Secret verifies only."""
ROUTE: Final = "mcp-gateway-route"
ROUTE_GRANT_PREFIX: Final = "mcp-gateway-route-"
"""One ReferenceGrant beside the data plane's Service for each namespace with an extension."""
SECRET_READER_ROLE: Final = "mcp-gateway-secret-reader"
CLUSTER_DOMAIN: Final = "cluster.local"

# --- conditions ------------------------------------------------------------------------------------------------------

ACCEPTED: Final = "Accepted"
RESOLVED_REFS: Final = "ResolvedRefs"
PROGRAMMED: Final = "Programmed"
CONNECTED: Final = "Connected"
READY: Final = "Ready"
STALLED: Final = "Stalled"
"""kstatus: present and True only while nothing but a change by the user can help."""
LISTENER_CONDITION: Final = EXTENSION.kind
"""On the listener's status of a Gateway."""
