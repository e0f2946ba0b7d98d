"""The server face for 2026 clients: every request stands alone.

Owns which modern request is valid and whose it is. Deliberately keeps nothing between
requests but suspended calls: in a drain the retry of one is served, every other request
is new and refused. Invariant: a client that closes its response stream has cancelled
(MCP 2026-07-28 basic/patterns/cancellation).

Spec: MCP 2026-07-28.
"""

from functools import lru_cache
from typing import Final

import attrs
import trio

from mcp_gateway.auth.principal import Principal
from mcp_gateway.backends.caller import Caller
from mcp_gateway.backends.transports.base import ClientIdentity
from mcp_gateway.gateway.call.client import ModernClient
from mcp_gateway.gateway.call.request import Asked
from mcp_gateway.gateway.call.response import Accepts
from mcp_gateway.gateway.context import Context
from mcp_gateway.gateway.entrance import Job, Reply, Request
from mcp_gateway.gateway.faces.http_answers import Whole, refusal, refuse, turn_away
from mcp_gateway.gateway.faces.listen import Listening, ListenStream
from mcp_gateway.gateway.faces.requests import Requests
from mcp_gateway.gateway.place import Place
from mcp_gateway.gateway.tasks import modern_owner
from mcp_gateway.protocol import json_text, jsonrpc, tasks, translate
from mcp_gateway.protocol.envelope import ModernCall, Rejection, meta_of, must_be_request, validate
from mcp_gateway.protocol.eras import ERAS
from mcp_gateway.protocol.extensions import declared
from mcp_gateway.protocol.wire_errors import MISSING_CAPABILITY
from mcp_gateway.telemetry.trace import note_trace

_KEPT_BYTES: Final = 4096
"""Of what a client says of itself; longer words are read anew with each request."""
NO_STREAM: Final = refusal(406, "the answer is a stream: Accept must allow text/event-stream")


@attrs.define(eq=False, kw_only=True)
class ModernFace:
    """Serves modern requests."""

    context: Context
    requests: Requests
    listening: Listening

    def prepare(
        self, request: Request, message: jsonrpc.RpcMessage, place: Place, reply: Reply, accepts: Accepts
    ) -> Job:
        """The job of one POST of the modern era."""
        rejection = must_be_request(message)
        if rejection is not None:
            return refuse(reply, rejection)
        if not isinstance(message, jsonrpc.RpcRequest):
            # No client notification is defined over HTTP in this revision: accepted and dropped.
            return Whole(reply, 202)
        began_at, log = trio.current_time(), self.context.calls.log
        note_trace(meta_of(message))
        valid = validate(message, request.headers)
        if isinstance(valid, Rejection):
            log.answered(message.method, "refused", began_at)
            return refuse(reply, valid)
        client = _client(valid, place.realm, request.principal)
        suspended = self.context.calls.suspended
        if self.context.draining and not suspended.knows(message.params.get("requestState"), place.realm):
            log.answered(message.method, "draining", began_at, era=valid.era)
            return turn_away(reply, message.id_raw)
        asked = Asked(
            client=client, message=message, place=place, reply=reply, accepts=accepts, headers=request.headers
        )
        if message.method != "subscriptions/listen":
            return self.requests.prepare(asked)
        rejection = _lacks_tasks(valid) or (None if accepts.sse else attrs.evolve(NO_STREAM, id_raw=message.id_raw))
        log.answered(message.method, "ok" if rejection is None else "refused", began_at, era=valid.era)
        if rejection is not None:
            return refuse(reply, rejection)
        return ListenStream(reply=reply, listening=self.listening, asked=asked, context=self.context)


def _client(valid: ModernCall, realm: str, principal: Principal) -> ModernClient:
    kept = len(valid.capabilities) + len(valid.client_info) <= _KEPT_BYTES
    made = _known_client if kept else _known_client.__wrapped__
    return made(valid.era.version, realm, principal, valid.capabilities, valid.client_info, valid.log_level)


@lru_cache(maxsize=512)
def _known_client(
    version: str, realm: str, principal: Principal, capabilities: bytes, client_info: bytes, log_level: str | None
) -> ModernClient:
    """Clients say the same of themselves with every request."""
    identity = ClientIdentity(capabilities=translate.client_capabilities(capabilities, modern=True), info=client_info)
    declared = json_text.parse(capabilities)
    return ModernClient(
        era=ERAS[version],
        realm=realm,
        principal=principal,
        caller=Caller(principal=principal, identity=identity),
        capabilities=declared if isinstance(declared, dict) else {},
        owner=modern_owner(realm, principal),
        log_level=log_level,
    )


def _lacks_tasks(modern: ModernCall) -> Rejection | None:
    """A listener that wants to hear of tasks must have them (SEP-2663); it hears of none, as a server may choose."""
    wanted = modern.message.params.get("notifications")
    asks = isinstance(wanted, dict) and "taskIds" in wanted
    if not asks or tasks.EXTENSION in declared(modern.capabilities_value):
        return None
    text, id_raw = "the client lacks the tasks extension", modern.message.id_raw
    return Rejection(status=400, code=MISSING_CAPABILITY, message=text, data=tasks.REQUIRED, id_raw=id_raw)
