"""What can go wrong, typed by state.

Owns the tree of gateway errors; fields, not prose (``str()`` makes the sentence).
Deliberately knows no wire codes: ``protocol.wire_errors`` maps these to JSON-RPC.
Invariant: a message never holds a secret, a body, an argument or an upstream session id.
"""

from enum import Enum
from typing import ClassVar

import attrs

from mcp_gateway.values import BackendKey, JsonValue


class Executed(Enum):
    """Whether the backend may have executed the call when it failed."""

    NO = "no"
    UNKNOWN = "unknown"
    YES = "yes"


class Limit(Enum):
    """Which limit of a call fired (docs/architecture.md)."""

    CONNECT = "connect"
    START = "start"
    QUEUE = "queue"
    CALL = "call"
    INPUT = "input"
    MAX = "max"


class FaultKind(Enum):
    """What a failure to reach a server is about, for whoever has to mend it."""

    CONNECTION = "connection"
    """The network, a process, time."""
    AUTH = "auth"
    """It does not want us."""
    PROTOCOL = "protocol"
    """It speaks, but not MCP as it should."""


class GatewayError(Exception):
    """Anything the gateway itself says went wrong."""

    fault: ClassVar[FaultKind] = FaultKind.CONNECTION

    @property
    def reason(self) -> str:
        """What went wrong, for those who look after servers."""
        return str(self)


@attrs.frozen(kw_only=True, eq=False)
class LocalFault(GatewayError):
    """Our own bug: a machine was driven in the wrong order."""

    what: str

    def __str__(self) -> str:
        return self.what


@attrs.frozen(kw_only=True, eq=False)
class RemoteFault(GatewayError):
    """A peer broke the protocol."""

    fault: ClassVar[FaultKind] = FaultKind.PROTOCOL

    what: str

    def __str__(self) -> str:
        return self.what


@attrs.frozen(kw_only=True, eq=False)
class MalformedMessage(RemoteFault):
    """Bytes that are not one acceptable JSON-RPC message; ``code`` is JSON-RPC's own."""

    code: int

    def __str__(self) -> str:
        return self.what


@attrs.frozen(kw_only=True, eq=False)
class BackendError(GatewayError):
    """A backend could not do its part; ``executed`` says whether the call may have run there."""

    backend: BackendKey
    executed: Executed = Executed.UNKNOWN
    retry_after_ms: int | None = None
    request: str = ""
    """Which of the gateway's own requests has failed: a method of MCP, or GET; empty for a client's call."""

    @property
    def reason(self) -> str:
        """See ``GatewayError``; it names the request."""
        return f"{self.request}: {self}" if self.request else str(self)


@attrs.frozen(kw_only=True, eq=False)
class BackendGone(BackendError):
    """Connection refused, reset or closed, process exited, stream ended without the answer."""

    why: str

    def __str__(self) -> str:
        return f"server {self.backend!r} is not reachable: {self.why}"


@attrs.frozen(kw_only=True, eq=False)
class BackendDown(BackendError):
    """The circuit is open: the call was not tried."""

    executed: Executed = Executed.NO
    why: str = ""

    def __str__(self) -> str:
        tail = f": {self.why}" if self.why else ""
        return f"server {self.backend!r} is down{tail}"


@attrs.frozen(kw_only=True, eq=False)
class BackendTimeout(BackendError):
    """This call's deadline passed; ``limit`` names which one."""

    after_s: float
    limit: Limit

    def __str__(self) -> str:
        return f"server {self.backend!r} did not answer: {self.limit.value} limit of {self.after_s:g} s reached"


@attrs.frozen(kw_only=True, eq=False)
class BackendAuth(BackendError):
    """The backend refused the gateway's credential (HTTP 401 or 403)."""

    fault: ClassVar[FaultKind] = FaultKind.AUTH

    status: int
    executed: Executed = Executed.NO

    def __str__(self) -> str:
        return f"server {self.backend!r} refused the gateway's credential (HTTP {self.status})"


@attrs.frozen(kw_only=True, eq=False)
class BackendBusy(BackendError):
    """The backend asked for less (HTTP 429 or 503)."""

    status: int
    executed: Executed = Executed.NO

    def __str__(self) -> str:
        return f"server {self.backend!r} is busy (HTTP {self.status})"


@attrs.frozen(kw_only=True, eq=False)
class BackendProtocol(BackendError):
    """The backend answered something that is not MCP; ``status`` is the HTTP status if that is what was wrong."""

    fault: ClassVar[FaultKind] = FaultKind.PROTOCOL

    why: str
    status: int | None = None

    def __str__(self) -> str:
        return f"server {self.backend!r} broke the protocol: {self.why}"


@attrs.frozen(kw_only=True, eq=False)
class BackendTooLarge(BackendError):
    """An answer or event above a configured bound; ``limit`` is the setting's name."""

    fault: ClassVar[FaultKind] = FaultKind.PROTOCOL

    limit: str
    bound: int

    def __str__(self) -> str:
        return f"server {self.backend!r} sent more than {self.limit} = {self.bound} bytes"


@attrs.frozen(kw_only=True, eq=False)
class BackendSessionLost(BackendError):
    """The backend no longer knows the upstream session; nothing was executed. ``status``: by which it said so."""

    executed: Executed = Executed.NO
    status: int | None = None

    def __str__(self) -> str:
        http = f" (HTTP {self.status})" if self.status is not None else ""
        return f"server {self.backend!r} lost the session{http}"


@attrs.frozen(kw_only=True, eq=False)
class BackendRefused(BackendError):
    """The backend answered our own request (handshake, list, probe) with a JSON-RPC error."""

    fault: ClassVar[FaultKind] = FaultKind.PROTOCOL

    code: int
    message: str
    status: int = 200
    data: JsonValue = None

    def __str__(self) -> str:
        http = f" (HTTP {self.status})" if self.status != 200 else ""
        return f"server {self.backend!r} answered error {self.code}{http}: {self.message}"


@attrs.frozen(kw_only=True, eq=False)
class BackendRemoved(BackendError):
    """The backend left the configuration while the call ran."""

    def __str__(self) -> str:
        return f"server {self.backend!r} was removed from the configuration"


@attrs.frozen(kw_only=True, eq=False)
class Overload(GatewayError):
    """A bound of the gateway itself is reached; ``bound`` is the setting's name."""

    bound: str
    limit: int
    retry_after_ms: int = 1000

    def __str__(self) -> str:
        return f"the gateway is at its limit ({self.bound} = {self.limit})"


@attrs.frozen(kw_only=True, eq=False)
class Draining(GatewayError):
    """The gateway is shutting down."""

    executed: Executed = Executed.NO
    retry_after_ms: int = 1000

    def __str__(self) -> str:
        return "the gateway is shutting down"


@attrs.frozen(kw_only=True, eq=False)
class CallCancelled(GatewayError):
    """The call's own client gave it up (or its session ended)."""

    executed: Executed
    why: str

    def __str__(self) -> str:
        return f"call ended: {self.why}"


@attrs.frozen(kw_only=True)
class ConfigMistake:
    """One mistake in a configuration file: where it stands and what would be right."""

    path: str
    line: int | None
    what: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        return f"{where}{self.path or '(top level)'}: {self.what}"


@attrs.frozen(kw_only=True, eq=False)
class ConfigError(GatewayError):
    """A configuration that cannot be used; every mistake at once."""

    source: str
    mistakes: tuple[ConfigMistake, ...]

    def __str__(self) -> str:
        return "\n".join(f"{self.source}: {mistake}" for mistake in self.mistakes)
