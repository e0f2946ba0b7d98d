"""The server face for 2026 clients: every request stands alone.

Owns which modern request is valid and whose it is. Deliberately keeps nothing between
requests but suspended calls: in a drain the retry of one is served, every other request
is new and refused. Invariant: a client that closes its response stream has cancelled
(MCP 2026-07-28 basic/patterns/cancellation).

Spec: MCP 2026-07-28.
"""

from typing import Final

import attrs
import trio

from mcp_gateway.backends.caller import Caller
from mcp_gateway.backends.transports.base import ClientIdentity
from mcp_gateway.gateway.call.client import ModernClient
from mcp_gateway.gateway.call.response import Accepts
from mcp_gateway.gateway.context import Context, Place
from mcp_gateway.gateway.entrance import Job, Reply, Request
from mcp_gateway.gateway.faces.http_answers import Whole, refusal, refuse, turn_away
from mcp_gateway.gateway.faces.listen import Listening, ListenStream
from mcp_gateway.gateway.faces.requests import Asked, Requests
from mcp_gateway.gateway.tasks import modern_owner
from mcp_gateway.protocol import jsonrpc, tasks, translate
from mcp_gateway.protocol.envelope import ModernCall, Rejection, meta_of, must_be_request, validate
from mcp_gateway.protocol.extensions import declared
from mcp_gateway.protocol.wire_errors import MISSING_CAPABILITY
from mcp_gateway.telemetry.trace import note_trace

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
        client = _client(request, place, valid)
        suspended = self.context.calls.suspended
        if self.context.draining() and not suspended.knows(message.params.get("requestState"), place.realm):
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


def _client(request: Request, place: Place, valid: ModernCall) -> ModernClient:
    capabilities = translate.client_capabilities(valid.capabilities, modern=True)
    identity = ClientIdentity(capabilities=capabilities, info=valid.client_info)
    return ModernClient(
        era=valid.era,
        realm=place.realm,
        principal=request.principal,
        caller=Caller(principal=request.principal, identity=identity),
        capabilities=valid.capabilities_value,
        owner=modern_owner(place.realm, request.principal),
        log_level=valid.log_level,
    )


def _lacks_tasks(modern: ModernCall) -> Rejection | None:
    """A listener that wants to hear of tasks must have them (SEP-2663); it hears of none, as a server may choose."""
    wanted = modern.message.params.get("notifications")
    asks = isinstance(wanted, dict) and "taskIds" in wanted
    if not asks or tasks.EXTENSION in declared(modern.capabilities_value):
        return None
    text, id_raw = "the client lacks the tasks extension", modern.message.id_raw
    return Rejection(status=400, code=MISSING_CAPABILITY, message=text, data=tasks.REQUIRED, id_raw=id_raw)
