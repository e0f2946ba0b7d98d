"""What a backend says to a 2025 session outside any call.

Owns the relay from an upstream session's standalone stream to the client's.
Deliberately ignores list changes and resource updates, which the hub announces to
those whom they concern. Invariant: a question is posted only while
the client has a stream to be asked on.
"""

import logging

import attrs

from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.backends.transports.base import Inbound
from mcp_gateway.errors import Overload, RemoteFault
from mcp_gateway.gateway.ear import CANCELLED, URL_DONE, hears_of_urls, refuse
from mcp_gateway.gateway.server_requests import allowed, answer_for, as_ours, fitted, progress_to
from mcp_gateway.gateway.session import Session
from mcp_gateway.gateway.tasks import TaskNames
from mcp_gateway.protocol import json_text, jsonrpc, splice, tasks
from mcp_gateway.protocol.extensions import declared, is_custom_notification
from mcp_gateway.routing.parts import uri_map_for
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class SessionEar:
    """Hears one backend on behalf of one session."""

    session: Session
    fleet: Fleet
    key: BackendKey
    """Whose words these are."""
    names: TaskNames | None = None
    """What client and backend call the client's tasks."""

    async def hear(self, inbound: Inbound) -> None:
        """Take one message (a ``Hear``)."""
        if inbound.id_raw is not None:
            await self._question(inbound, inbound.id_raw)
            return
        try:
            self._notice(inbound)
        except RemoteFault as fault:  # a member to be changed is there twice: one notice must not cost the session
            logger.debug("notice not passed on", extra={"backend": self.key, "why": str(fault)})

    def _notice(self, inbound: Inbound) -> None:
        if inbound.method == "notifications/message":
            if self.session.wants_log(inbound.params.get("level")):
                self._post(inbound.raw)
        elif inbound.method == URL_DONE and hears_of_urls(self.session):
            self.session.mailbox.post(inbound.raw)
        elif inbound.method == CANCELLED:
            self._withdrawn(inbound)
        elif inbound.method == tasks.STATUS_2025:
            status = None if self.names is None else self.names.status(inbound.raw)
            if status is not None:
                self.session.mailbox.post(status)
        elif inbound.method == "notifications/progress":
            token = tasks.clients_token(inbound.params.get("progressToken"))  # of a call that became a task
            if token is not None:
                self._post(splice.rewrite(inbound.raw, {"params": {"progressToken": token}}))
        elif is_custom_notification(inbound.method) and self._agreed():
            self._post(inbound.raw)

    def _post(self, notice: bytes) -> None:
        """Queue a notification; what is related to a task under the client's id of it."""
        self.session.mailbox.post(notice if self.names is None else self.names.message(notice))

    def _agreed(self) -> bool:
        """Whether client and backend both declare some extension, which may have notifications of its own."""
        backend = self.fleet.get(self.key)
        return backend is not None and bool(
            declared(self.session.capabilities) & declared(backend.snapshot.capabilities)
        )

    async def _question(self, inbound: Inbound, id_raw: bytes) -> None:
        session = self.session
        backend = self.fleet.get(self.key)
        uris = uri_map_for(backend.spec) if backend is not None else None

        async def on_answer(response: jsonrpc.RpcResponse) -> None:
            answer = answer_for(id_raw, response, uris.restored if uris is not None else None)
            await inbound.respond(answer if self.names is None else self.names.answer(answer))

        why = f"the client cannot do {inbound.method}"
        if session.listeners and allowed(inbound.method, inbound.params, session.capabilities):
            uri_out = uris.out if uris is not None else None
            try:
                message = fitted(inbound, session.era, uri_out)
                message = message if self.names is None else self.names.message(message)
                on_progress = progress_to(inbound.raw, inbound.respond)
                asked = session.questions.ask(on_answer, (self.key, id_raw), on_progress)
            except (Overload, RemoteFault) as fault:
                why = str(fault)
            else:
                session.mailbox.post(as_ours(message, json_text.dumps(asked), progress=on_progress is not None))
                return
        await refuse(inbound, why)

    def _withdrawn(self, inbound: Inbound) -> None:
        """The backend no longer wants to know: take the question back from the client."""
        asked = self.session.questions.withdraw((self.key, json_text.dumps(inbound.params.get("requestId"))))
        if asked is not None:
            params = json_text.dumps({**inbound.params, "requestId": asked})
            self.session.mailbox.post(jsonrpc.render_notification(CANCELLED, params))
