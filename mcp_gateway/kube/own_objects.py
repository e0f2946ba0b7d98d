"""What is read of our own kinds, as frozen views.

Owns how their JSON becomes a view; the CRDs' defaults are filled in here too, for objects that are older than they.
Deliberately judges nothing. Invariant: as in ``objects``: equal views, equal decisions; ``status`` takes no part.
"""

from collections.abc import Mapping
from typing import Final

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.fields import Fields
from mcp_gateway.kube.objects import Key, Meta, meta_of
from mcp_gateway.values import JsonObject, JsonValue

_REGISTRATION: Final = schema.GENERATION.registration_fields
_EXTENSION: Final = schema.GENERATION.extension_fields
_VIRTUAL: Final = schema.GENERATION.virtual_server_fields
_REPORT: Final = schema.GENERATION.report_fields


@attrs.frozen(kw_only=True)
class SecretRef:
    """One entry of a Secret in the namespace of whoever refers to it."""

    name: str
    key: str


@attrs.frozen(kw_only=True)
class Registration:
    """One MCP server that is to be served."""

    meta: Meta
    route: Key
    prefix: str = ""
    path: str = schema.DEFAULT_PATH
    enabled: bool = True
    credential: SecretRef | None = None
    ca: SecretRef | None = None
    settings: JsonObject = attrs.field(factory=dict)
    """What goes into the server's entry of the configuration as it is, in the configuration's own names."""
    status: JsonObject = attrs.field(factory=dict, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Extension:
    """One Gateway, or the listeners on one port of it, that serves MCP."""

    meta: Meta
    gateway: Key
    section: str = ""
    public_host: str = ""
    ping_interval_s: int | None = None
    manages_route: bool = True
    ca_bundle: SecretRef | None = None
    log_level: str = ""
    status: JsonObject = attrs.field(factory=dict, eq=False, repr=False)

    @property
    def instance(self) -> str:
        """The installation that serves it."""
        return self.meta.labels.get(schema.LABEL_INSTANCE) or schema.DEFAULT_INSTANCE


@attrs.frozen(kw_only=True)
class VirtualServer:
    """A named selection of what is served."""

    meta: Meta
    tools: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    extension: Key | None = None
    """None: it is offered at each."""
    status: JsonObject = attrs.field(factory=dict, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class ServerReport:
    """What a pod says of one server."""

    revision: str
    state: str
    tools: int | None = None
    """None: not discovered yet."""
    protocol: str = ""
    last_error: str = ""


@attrs.frozen(kw_only=True)
class PartReport:
    """What a pod says of one gateway or virtual server of the configuration."""

    revision: str
    state: str
    last_error: str = ""
    missing: tuple[str, ...] = ()
    missing_count: int = 0


@attrs.frozen(kw_only=True)
class Report:
    """What one pod of the data plane says."""

    meta: Meta
    pod: str = ""
    instance: str = schema.DEFAULT_INSTANCE
    started: str = ""
    """When its process began; another one is another process."""
    renewed: str = ""
    complete: bool = False
    servers: Mapping[str, ServerReport] = attrs.field(factory=dict)
    gateways: Mapping[str, PartReport] = attrs.field(factory=dict)
    virtual_servers: Mapping[str, PartReport] = attrs.field(factory=dict)


_SETTINGS: Final = (
    ("timeouts", "connect", _REGISTRATION.timeout_connect, Fields.optional_text),
    ("timeouts", "call", _REGISTRATION.timeout_call, Fields.optional_text),
    ("timeouts", "input", _REGISTRATION.timeout_input, Fields.optional_text),
    ("timeouts", "max", _REGISTRATION.timeout_max, Fields.optional_text),
    ("timeouts", "list", _REGISTRATION.timeout_list, Fields.optional_text),
    ("limits", "concurrency", _REGISTRATION.limit_concurrency, Fields.integer),
    ("limits", "responseBytes", _REGISTRATION.limit_response_bytes, Fields.optional_text),
    ("limits", "eventBytes", _REGISTRATION.limit_event_bytes, Fields.optional_text),
    ("limits", "upstreamSessions", _REGISTRATION.limit_upstream_sessions, Fields.integer),
    ("health", "interval", _REGISTRATION.health_interval, Fields.optional_text),
    ("health", "failures", _REGISTRATION.health_failures, Fields.integer),
    ("health", "graceWhenDown", _REGISTRATION.health_grace_when_down, Fields.optional_text),
    ("tools", "include", _REGISTRATION.tools_include, Fields.texts),
    ("tools", "exclude", _REGISTRATION.tools_exclude, Fields.texts),
    ("", "forwardHeaders", _REGISTRATION.forward_headers, Fields.texts),
    ("", "category", _REGISTRATION.category, Fields.texts),
    ("", "tags", _REGISTRATION.tags, Fields.texts),
    ("", "hint", _REGISTRATION.hint, Fields.optional_text),
    ("", "protocol", _REGISTRATION.protocol, Fields.optional_text),
)
"""Section and key of a server's entry in the configuration, the path in ``spec``, how it is read."""


def registration_of(fields: Fields) -> Registration:
    """Reads an MCPServerRegistration."""
    meta, spec, names = meta_of(fields), fields.at("spec"), _REGISTRATION
    return Registration(
        meta=meta,
        route=_target(spec, names.target_namespace, names.target_name, meta),
        prefix=spec.text(names.prefix) or spec.text(names.prefix_alias),
        path=spec.text(names.path, schema.DEFAULT_PATH),
        enabled=spec.text(names.state) != schema.STATE_DISABLED,
        credential=_secret(spec, names.credential_name, names.credential_key, schema.DEFAULT_CREDENTIAL_KEY),
        ca=_secret(spec, names.ca_name, names.ca_key, schema.DEFAULT_CA_KEY),
        settings=_settings(spec),
        status=dict(fields.at("status").value),
    )


def _settings(spec: Fields) -> JsonObject:
    """Only what is given: an absent setting is left to the configuration's own default."""
    found: JsonObject = {}
    for section, key, path, read in _SETTINGS:
        value = read(spec, path)
        if value is None or value == ():
            continue
        plain: JsonValue = list(value) if isinstance(value, tuple) else value
        below = found.setdefault(section, {}) if section else found
        assert isinstance(below, dict)
        below[key] = plain
    return found


def extension_of(fields: Fields) -> Extension:
    """Reads an MCPGatewayExtension."""
    meta, spec, names = meta_of(fields), fields.at("spec"), _EXTENSION
    return Extension(
        meta=meta,
        gateway=_target(spec, names.target_namespace, names.target_name, meta),
        section=spec.text(names.target_section),
        public_host=spec.text(names.public_host).lower(),
        ping_interval_s=spec.integer(names.ping_interval_s),
        manages_route=spec.text(names.route_management) != schema.ROUTE_MANAGEMENT_DISABLED,
        ca_bundle=_secret(spec, names.ca_bundle_name, names.ca_bundle_key, schema.DEFAULT_CA_KEY),
        log_level=spec.text(names.log_level),
        status=dict(fields.at("status").value),
    )


def virtual_server_of(fields: Fields) -> VirtualServer:
    """Reads an MCPVirtualServer."""
    meta, spec, names = meta_of(fields), fields.at("spec"), _VIRTUAL
    return VirtualServer(
        meta=meta,
        tools=spec.texts(names.tools),
        prompts=spec.texts(names.prompts),
        resources=spec.texts(names.resources),
        extension=(
            _target(spec, names.target_namespace, names.target_name, meta) if spec.has(names.target_name) else None
        ),
        status=dict(fields.at("status").value),
    )


def _target(spec: Fields, namespace: str, name: str, meta: Meta) -> Key:
    return Key(spec.text(namespace) or meta.key.namespace, spec.text(name))


def _secret(spec: Fields, name: str, key: str, default: str) -> SecretRef | None:
    return SecretRef(name=spec.text(name), key=spec.text(key, default)) if spec.has(name) else None


def report_of(fields: Fields) -> Report:
    """Reads an MCPGatewayReport."""
    spec, names = fields.at("spec"), _REPORT
    return Report(
        meta=meta_of(fields),
        pod=spec.text(names.pod),
        instance=spec.text(names.instance, schema.DEFAULT_INSTANCE),
        started=spec.text(names.started),
        renewed=spec.text(names.renewed),
        complete=spec.boolean(names.complete),
        servers={
            item.text(_leaf(names.server_name)): ServerReport(
                revision=item.text(_leaf(names.server_revision)),
                state=item.text(_leaf(names.server_state)),
                tools=item.integer(_leaf(names.server_tools)),
                protocol=item.text(_leaf(names.server_protocol)),
                last_error=item.text(_leaf(names.server_last_error)),
            )
            for item in spec.items(_list(names.server_name))
        },
        gateways={
            item.text(_leaf(names.gateway_name)): PartReport(
                revision=item.text(_leaf(names.gateway_revision)),
                state=item.text(_leaf(names.gateway_state)),
                last_error=item.text(_leaf(names.gateway_last_error)),
            )
            for item in spec.items(_list(names.gateway_name))
        },
        virtual_servers={
            item.text(_leaf(names.virtual_name)): PartReport(
                revision=item.text(_leaf(names.virtual_revision)),
                state=item.text(_leaf(names.virtual_state)),
                last_error=item.text(_leaf(names.virtual_last_error)),
                missing=item.texts(_leaf(names.virtual_missing)),
                missing_count=item.integer(_leaf(names.virtual_missing_count)) or 0,
            )
            for item in spec.items(_list(names.virtual_name))
        },
    )


def _list(path: str) -> str:
    return path.partition("[].")[0]


def _leaf(path: str) -> str:
    return path.partition("[].")[2]
