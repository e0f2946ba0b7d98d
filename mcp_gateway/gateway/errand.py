"""One request on its way from a client to a backend.

Owns the values that the client face hands to the relay. Deliberately no I/O.
Invariant: nothing in it changes on the way.
"""

import attrs

from mcp_gateway.backends.backend import Caller
from mcp_gateway.gateway.tasks import TaskNames
from mcp_gateway.protocol import extensions, jsonrpc
from mcp_gateway.protocol.content import MapUri
from mcp_gateway.protocol.eras import Era
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.routing.table import Target, View
from mcp_gateway.values import BackendKey, Header, JsonObject


@attrs.frozen(kw_only=True)
class Errand:
    """Everything the relay needs to know of one request."""

    message: jsonrpc.RpcRequest
    client: Era
    caller: Caller
    target: Target
    edits: Edits
    """Of ``params``: the client's names replaced by the backend's own."""
    capabilities: JsonObject
    """What the client declared; decides what it may be asked."""
    extensions: frozenset[str] = frozenset()
    """Those that the client and the server both declare."""
    tasks: TaskNames | None = None
    """What the two call the client's tasks; None: the client can have none there."""
    log_level: str | None = None
    headers: tuple[Header, ...] = attrs.field(default=(), repr=False)
    """The client's HTTP headers, names lower case; the backend's allow-list picks from them."""

    @property
    def method(self) -> str:
        """What the client asked for."""
        return self.message.method

    @property
    def becomes_task(self) -> bool:
        """Whether its answer may be a task of 2025-11-25 instead of a result."""
        return self.tasks is not None and "task" in self.message.params

    @property
    def awaits_task(self) -> str | None:
        """The server's id of the task whose result it waits for."""
        return self.target.upstream if self.method == "tasks/result" else None

    @property
    def uri_out(self) -> MapUri | None:
        """From the backend's URIs to those that the client uses; None: they are the same."""
        return self.target.uri_map.out if self.target.uri_map is not None else None

    @property
    def uri_back(self) -> MapUri | None:
        """The way back, for answers to the backend's questions."""
        return self.target.uri_map.restored if self.target.uri_map is not None else None

    @property
    def uri(self) -> str | None:
        """The resource this is about, as the client names it."""
        uri = self.message.params.get("uri")
        return uri if isinstance(uri, str) else None


@attrs.frozen(kw_only=True)
class Outcome:
    """The one answer to a request: HTTP status (of the client's era) and JSON-RPC response."""

    status: int
    body: bytes = attrs.field(repr=False)
    label: str = "ok"
    """For the metric: ok, tool_error, error, cancelled, timeout, refused."""


def agreed(capabilities: JsonObject, view: View, backend: BackendKey) -> frozenset[str]:
    """The extensions that a client with these capabilities and a server both declare."""
    if "extensions" not in capabilities:  # most clients
        return frozenset()
    return extensions.declared(capabilities) & view.extensions_of(backend)


def error_response(id_raw: bytes, error: bytes) -> bytes:
    """A JSON-RPC error response around a raw error object."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id_raw, error)
