"""The desired state: one frozen ``GatewaySpec``.

Owns the shape of the configuration after validation, with all defaults filled in.
Deliberately reads no files and no environment: ``config.file`` and the Kubernetes
half make these values. Invariant: equal configuration gives equal specs, so
``==`` decides whether anything changed; secrets never show in ``repr``.

Shapes and defaults: docs/configuration.md. Times are seconds, sizes bytes.
"""

from enum import Enum

import attrs

from mcp_gateway.values import BackendKey, GatewayName


class TransportKind(Enum):
    """How a server is reached."""

    AUTO = "auto"
    STREAMABLE_HTTP = "streamable-http"
    SSE = "sse"
    STDIO = "stdio"


@attrs.frozen(kw_only=True)
class Timeouts:
    """The deadlines of one server, in seconds."""

    connect_s: float = 5.0
    start_s: float = 60.0
    """Of a process: until its first answer, and anew whenever it writes to standard error meanwhile."""
    call_s: float = 60.0
    input_s: float = 300.0
    max_s: float = 600.0
    list_s: float = 5.0


@attrs.frozen(kw_only=True)
class BackendLimits:
    """The bounds of one server."""

    concurrency: int = 64
    response_bytes: int = 32 * 2**20
    event_bytes: int = 4 * 2**20
    upstream_sessions: int = 1000
    processes: int = 8


@attrs.frozen(kw_only=True)
class HealthSpec:
    """When a server counts as down, and how often it is asked."""

    interval_s: float = 30.0
    failures: int = 3
    grace_when_down_s: float = 30.0


@attrs.frozen(kw_only=True)
class ItemFilter:
    """Globs on upstream tool names; ``include`` empty means all."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class TlsSpec:
    """How a server's certificate is checked."""

    ca_pem: str | None = attrs.field(default=None, repr=False)
    system_authorities: bool = False
    """Trust those of the system besides ``ca_pem``; without that, they are trusted alone."""
    insecure_skip_verify: bool = False
    server_name: str | None = None


def _shown_url(url: str) -> str:
    """Without the query: keys are put there."""
    return repr(url.partition("?")[0])


def _shown_command(command: tuple[str, ...]) -> str:
    """The program only: keys are put among its arguments."""
    return repr(command[:1])


@attrs.frozen(kw_only=True)
class HttpTarget:
    """A backend spoken to over HTTP."""

    url: str = attrs.field(repr=_shown_url)
    connect: str | None = None
    """Dial this address; Host and SNI stay the url's."""
    proxy: str | None = attrs.field(default=None, repr=False)
    tls: TlsSpec = TlsSpec()
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    forward_headers: tuple[str, ...] = ()
    """Lower-case names that a client may send through."""
    credential: str | None = attrs.field(default=None, repr=False)
    """The whole Authorization value, resolved."""
    routable_only: bool = False
    """Connect to no name that leads to this machine or its link: whoever chose the name may not choose those."""


@attrs.frozen(kw_only=True)
class StdioTarget:
    """A backend that is a child process."""

    command: tuple[str, ...] = attrs.field(repr=_shown_command)
    env: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    cwd: str | None = None


@attrs.frozen(kw_only=True)
class ServerSpec:
    """One backend MCP server."""

    key: BackendKey
    target: HttpTarget | StdioTarget
    transport: TransportKind = TransportKind.AUTO
    protocol: str | None = None
    """A pinned protocol version; None: detect."""
    prefix: str = ""
    enabled: bool = True
    tools: ItemFilter = ItemFilter()
    survey: bool | None = None
    """Whether it is looked at with the eyes of more capable clients; None: over HTTP only."""
    timeouts: Timeouts = Timeouts()
    limits: BackendLimits = BackendLimits()
    health: HealthSpec = HealthSpec()
    tags: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    hint: str = ""
    revision: str = ""
    """Of this entry, where a controller has compiled it."""
    own_instructions: bool = True
    """Clients are told what the server says of itself."""


@attrs.frozen(kw_only=True)
class VirtualServerSpec:
    """A named selection of federated names (``/mcp/vs/<name>``)."""

    name: str
    tools: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class GatewayEntry:
    """One gateway: the hosts it answers to and the servers behind it; order is precedence."""

    name: GatewayName = GatewayName("")
    hosts: tuple[str, ...] = ()
    """Empty: every Host."""
    servers: tuple[BackendKey, ...] | None = None
    """None: all servers, in file order."""
    virtual_servers: tuple[str, ...] | None = None
    """None: all."""
    log_level: str = ""
    """The lowest that is written of what happens there; empty: that of the process."""


@attrs.frozen(kw_only=True)
class SessionsSpec:
    """How long sessions live, and what signs their ids."""

    lifetime_s: float = 24 * 3600.0
    idle_s: float = 30 * 60.0
    signing_keys: tuple[bytes, ...] = attrs.field(default=(), repr=False)
    """First signs, all verify; empty: a random one per process."""
    store: str = "memory"


@attrs.frozen(kw_only=True)
class HttpSpec:
    """What clients meet on the public listener."""

    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    public_url: str | None = None
    keep_alive_s: float = 15.0


@attrs.frozen(kw_only=True)
class DrainSpec:
    """The phases of a shutdown, in seconds."""

    settle_s: float = 0.0
    grace_s: float = 20.0


@attrs.frozen(kw_only=True)
class GatewayLimits:
    """The bounds of the whole gateway."""

    body_bytes: int = 4 * 2**20
    connections: int = 4000
    sessions: int = 10_000
    streams_per_session: int = 4
    in_flight: int = 1000
    replay_bytes: int = 256 * 2**10
    replay_total_bytes: int = 64 * 2**20
    replay_age_s: float = 300.0


@attrs.frozen(kw_only=True)
class GatewaySpec:
    """Everything that is served, as one value."""

    servers: tuple[ServerSpec, ...] = ()
    """In file order; disabled ones included."""
    virtual_servers: tuple[VirtualServerSpec, ...] = ()
    gateways: tuple[GatewayEntry, ...] = (GatewayEntry(),)
    sessions: SessionsSpec = SessionsSpec()
    http: HttpSpec = HttpSpec()
    drain: DrainSpec = DrainSpec()
    limits: GatewayLimits = GatewayLimits()
    instructions: str = ""
