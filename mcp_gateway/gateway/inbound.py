"""What is done with each thing that a backend says and that is no answer.

Owns the one switch over notifications and questions, for a call and for a session's
own stream. Deliberately never waits for a client's answer: the POST that brings it
delivers it. Invariant: a question is put only to a client that declares what it needs
and has a stream to be asked on.

Spec: MCP 2025-11-25 basic/transports, client/*, server/utilities/logging and basic/utilities/progress.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

import attrs

from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.backends.transports.base import Inbound, Respond
from mcp_gateway.errors import GatewayError, Overload, RemoteFault
from mcp_gateway.gateway.server_requests import (
    OnAnswer,
    OnProgress,
    allowed,
    answer_for,
    as_ours,
    fitted,
    progress_to,
)
from mcp_gateway.gateway.session import Session
from mcp_gateway.gateway.tasks import TaskNames
from mcp_gateway.protocol import json_text, jsonrpc, splice, tasks
from mcp_gateway.protocol.extensions import declared, is_custom_notification
from mcp_gateway.protocol.wire_errors import METHOD_NOT_FOUND
from mcp_gateway.routing.parts import uri_map_for
from mcp_gateway.routing.uris import ClashMap, UriMap
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)

PROGRESS: Final = "notifications/progress"
MESSAGE: Final = "notifications/message"
CANCELLED: Final = "notifications/cancelled"
URL_DONE: Final = "notifications/elicitation/complete"
"""2025-11-25 only, and about an elicitation of the same session."""
NO_STREAM: Final = "the client has no stream to be asked on"


@attrs.define(eq=False, kw_only=True)
class InboundHandler(ABC):
    """Hears one backend on behalf of one client."""

    session: Session | None
    """The client's 2025 session; None for a 2026 client, who is never sent a request."""
    names: TaskNames | None
    """What client and backend call the client's tasks."""

    async def hear(self, inbound: Inbound) -> None:
        """Take one message (a ``Hear``)."""
        if inbound.id_raw is not None:
            await self.question(inbound, inbound.id_raw)
        elif inbound.method == PROGRESS:
            token = tasks.clients_token(inbound.params.get("progressToken")) or self.progressed()
            if token is not None:
                await self._pass(splice.rewrite(inbound.raw, {"params": {"progressToken": token}}))
        elif inbound.method == MESSAGE:
            if self.wants_log(inbound.params.get("level")):
                await self._pass(inbound.raw)
        elif inbound.method == CANCELLED:
            await self.withdrawn(inbound)
        elif inbound.method == URL_DONE:
            if self.session is not None and self.session.era.url_elicitation:
                await self.tell(inbound.raw)
        elif inbound.method == tasks.STATUS_2025:
            status = None if self.names is None else self.names.status(inbound.raw)
            if status is not None:
                await self.send(status)
        elif is_custom_notification(inbound.method) and self.extended:
            await self._pass(inbound.raw)

    async def _pass(self, notice: bytes) -> None:
        """Send a notification; what is related to a task under the client's id of it."""
        await self.send(notice if self.names is None else self.names.message(notice))

    async def question(self, inbound: Inbound, id_raw: bytes) -> None:
        """Put a question of a 2025 backend to its 2025 client, or refuse it."""
        session, names, uris = self.session, self.names, self.uris
        if session is None or not allowed(inbound.method, inbound.params, session.capabilities):
            await refuse(inbound, f"the client cannot do {inbound.method}")
            return

        async def on_answer(response: jsonrpc.RpcResponse) -> None:
            answer = answer_for(id_raw, response, uris.restored if uris is not None else None)
            await inbound.respond(answer if names is None else names.answer(answer))

        try:
            message = fitted(inbound, session.era, uris.out if uris is not None else None)
            message = message if names is None else names.message(message)
            on_progress = progress_to(inbound.raw, inbound.respond)
            why = await self.put(
                lambda own: as_ours(message, own, progress=on_progress is not None), on_answer, id_raw, on_progress
            )
        except (Overload, RemoteFault) as fault:
            why = str(fault)
        if why is not None:
            await refuse(inbound, why)

    @property
    @abstractmethod
    def uris(self) -> "UriMap | ClashMap | None":
        """How URIs in questions are mapped; None: they are the same on both sides."""

    @property
    @abstractmethod
    def extended(self) -> bool:
        """Whether client and backend agree on an extension, which may have notifications of its own."""

    @abstractmethod
    def progressed(self) -> bytes | None:
        """A call makes progress; the client's raw token of it, None if it wants to hear nothing."""

    @abstractmethod
    def wants_log(self, level: object) -> bool:
        """Whether a log message of this level is for the client."""

    @abstractmethod
    async def send(self, message: bytes) -> None:
        """Send a notification of what is heard."""

    @abstractmethod
    async def tell(self, message: bytes) -> bool:
        """Send what the client must hear on whichever stream it has; False: it has none."""

    @abstractmethod
    async def put(
        self, render: Callable[[bytes], bytes], on_answer: OnAnswer, origin: bytes, on_progress: OnProgress | None
    ) -> str | None:
        """Ask the client what ``render`` makes of the raw id that it is asked under; why not, if it cannot be asked.

        Args:
            origin: the raw id under which the backend asks.
        Raises:
            Overload: too many questions are open.
        """

    @abstractmethod
    async def withdrawn(self, inbound: Inbound) -> None:
        """The backend no longer wants to know: take the question back from the client."""


@attrs.define(eq=False, kw_only=True)
class SessionInbound(InboundHandler):
    """Hears what a backend says to a 2025 session outside any call, for the session's GET stream.

    List changes and resource updates are not for it: the hub announces them to those whom they concern.
    """

    session: Session
    fleet: Fleet
    key: BackendKey
    """Whose words these are."""

    async def hear(self, inbound: Inbound) -> None:
        """Take one message (a ``Hear``)."""
        try:
            await super().hear(inbound)
        except RemoteFault as fault:  # a member to be changed is there twice: one notice must not cost the session
            logger.debug("notice not passed on", extra={"backend": self.key, "why": str(fault)})

    @property
    def uris(self) -> "UriMap | ClashMap | None":
        """See ``InboundHandler``."""
        backend = self.fleet.get(self.key)
        return uri_map_for(backend.spec) if backend is not None else None

    @property
    def extended(self) -> bool:
        """See ``InboundHandler``."""
        backend = self.fleet.get(self.key)
        ours = declared(self.session.capabilities)
        return backend is not None and bool(ours & declared(backend.snapshot.capabilities))

    def progressed(self) -> bytes | None:
        """Of calls alone; that of a call that became a task is known by its token."""
        return None

    def wants_log(self, level: object) -> bool:
        """See ``InboundHandler``."""
        return self.session.wants_log(level)

    async def send(self, message: bytes) -> None:
        """See ``InboundHandler``."""
        self.session.mailbox.post(message)

    async def tell(self, message: bytes) -> bool:
        """See ``InboundHandler``."""
        self.session.mailbox.post(message)
        return True

    async def put(
        self, render: Callable[[bytes], bytes], on_answer: OnAnswer, origin: bytes, on_progress: OnProgress | None
    ) -> str | None:
        """See ``InboundHandler``."""
        if not self.session.listeners:
            return NO_STREAM
        asked = self.session.questions.ask(on_answer, (self.key, origin), on_progress)
        self.session.mailbox.post(render(json_text.dumps(asked)))
        return None

    async def withdrawn(self, inbound: Inbound) -> None:
        """See ``InboundHandler``."""
        asked = self.session.questions.withdraw((self.key, json_text.dumps(inbound.params.get("requestId"))))
        if asked is not None:
            params = json_text.dumps({**inbound.params, "requestId": asked})
            self.session.mailbox.post(jsonrpc.render_notification(CANCELLED, params))


async def refuse(inbound: Inbound, why: str) -> None:
    """Answer a backend's question that nobody can be asked."""
    await inbound.respond(jsonrpc.render_error(inbound.id_raw or b"null", METHOD_NOT_FOUND, why))


async def say(respond: Respond, message: bytes) -> None:
    """Send a response upstream when a failure concerns nobody any more."""
    try:
        await respond(message)
    except GatewayError as gone:
        logger.debug("answer not delivered", extra={"why": str(gone)})
