"""The server face for 2025 clients: one message of one session at a time.

Owns what each request, notification and response of a session means. Deliberately
leaves HTTP verbs to ``dispatch``, streams to ``get_stream`` and calls to ``call``.
Invariant: a request gets one answer under its own id; one that its own client cancelled
ends its stream without a response (docs/invariants.md, 1). In a drain requests are refused
within the session's era (a 5xx would end its running calls), but pings, notifications and
answers, which running calls need, are served.

Spec: MCP 2024-11-05 .. 2025-11-25.
"""

import logging
from typing import Final

import attrs

from mcp_gateway.errors import Draining, GatewayError
from mcp_gateway.gateway.call.outcome import failed, refused
from mcp_gateway.gateway.call.request import Asked
from mcp_gateway.gateway.call.response import Accepts
from mcp_gateway.gateway.context import Context
from mcp_gateway.gateway.entrance import Job, Reply
from mcp_gateway.gateway.faces import session_requests
from mcp_gateway.gateway.faces.http_answers import WholeAfter
from mcp_gateway.gateway.faces.requests import Requests
from mcp_gateway.gateway.place import Place
from mcp_gateway.gateway.session import Session
from mcp_gateway.protocol import jsonrpc, splice
from mcp_gateway.protocol.extensions import declared, is_custom_notification
from mcp_gateway.protocol.wire_errors import INVALID_REQUEST
from mcp_gateway.routing.custom import owner_of
from mcp_gateway.values import Header

logger = logging.getLogger(__name__)

_FOR_THE_SESSION: Final = ("notifications/cancelled", "notifications/progress")
"""Notifications about what is under way in the session itself."""


@attrs.define(eq=False, kw_only=True)
class LegacyFace:
    """Serves the messages of 2025 sessions."""

    context: Context
    requests: Requests

    def prepare(
        self,
        session: Session,
        message: jsonrpc.RpcMessage,
        place: Place,
        reply: Reply,
        accepts: Accepts,
        headers: tuple[Header, ...],
    ) -> Job:
        """The job of one message: a request is answered, everything else gets 202."""
        if isinstance(message, jsonrpc.RpcRequest):
            asked = Asked(client=session, message=message, place=place, reply=reply, accepts=accepts, headers=headers)
            return self._request(session, asked)
        if isinstance(message, jsonrpc.RpcResponse) or message.method in _FOR_THE_SESSION:
            return WholeAfter(reply, 202, work=lambda: self._deliver(session, message))
        return WholeAfter(reply, 202, work=lambda: self._notification(place, session, message))

    def _request(self, session: Session, asked: Asked) -> Job:
        message = asked.message
        if message.id in session.calls:
            text = f"request id {message.id!r} is in flight already: ids must be unique within a session"
            return self.requests.answered(asked, refused(message.id_raw, session.era, INVALID_REQUEST, text))
        if self.context.draining and message.method != "ping":
            return self.requests.answered(asked, failed(message.id_raw, Draining(), None))
        return self.requests.prepare(asked)

    async def _notification(self, place: Place, session: Session, message: jsonrpc.RpcNotification) -> None:
        if message.method == "notifications/roots/list_changed":
            await session_requests.tell_all(self.context, session, message.raw)
        elif is_custom_notification(message.method):
            await self._custom(place, session, message)
        else:  # "notifications/initialized" needs no action; those of other revisions are ignored (JSON-RPC)
            logger.debug("notification", extra={"method": message.method[:64]})

    async def _custom(self, place: Place, session: Session, message: jsonrpc.RpcNotification) -> None:
        """To whom a request like it would go, if it is a server of sessions that this one has a session with."""
        owned = owner_of(message.params, session.sees(place.view), declared(session.capabilities))
        for backend in session_requests.legacy_backends(self.context, session):
            if owned is not None and backend.key == owned[0].backend:
                raw = splice.rewrite(message.raw, {"params": owned[1]}) if owned[1] else message.raw
                await session_requests.tell(backend, session, raw)

    async def _deliver(self, session: Session, message: jsonrpc.RpcResponse | jsonrpc.RpcNotification) -> None:
        """To where the session lives; what concerns nothing there is ignored (races are normal)."""
        try:
            if not await self.context.addresses.deliver(session.address, message):
                logger.debug("concerns nothing that is open", extra={"session": session.tag})
        except GatewayError as gone:
            logger.debug("not passed on", extra={"session": session.tag, "why": str(gone)})
