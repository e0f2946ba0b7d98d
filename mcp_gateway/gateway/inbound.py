"""What is done with each thing that a backend says and that is no answer.

Owns the one switch over notifications and questions, for a call and for a session's
own stream. Deliberately never waits for a client's answer: the POST that brings it
delivers it. Invariant: a question is put only to a client that declares what it needs
and has a stream to be asked on.

Spec: MCP 2025-11-25 basic/transports, client/*, server/utilities/logging and basic/utilities/progress.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from mcp_gateway.backends.backend import Backend
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
from mcp_gateway.protocol.methods import level_at_least
from mcp_gateway.protocol.wire_errors import METHOD_NOT_FOUND
from mcp_gateway.routing.parts import uri_map_for
from mcp_gateway.routing.uris import AnyMap
from mcp_gateway.values import BackendKey

if TYPE_CHECKING:
    from mcp_gateway.gateway.call.call import Call

logger = logging.getLogger(__name__)

PROGRESS: Final = "notifications/progress"
MESSAGE: Final = "notifications/message"
CANCELLED: Final = "notifications/cancelled"
URL_DONE: Final = "notifications/elicitation/complete"
"""2025-11-25 only, and about an elicitation of the same session."""
NO_STREAM: Final = "the client has no stream to be asked on"


@attrs.define(eq=False, kw_only=True)
class InboundHandler:
    """Hears one backend on behalf of one client: within a call, or for its session's GET stream."""

    session: Session | None
    """The client's 2025 session; None for a 2026 client, who is never sent a request."""
    names: TaskNames | None
    """What client and backend call the client's tasks."""
    backend: BackendKey
    uris: AnyMap | None
    """How URIs in questions are mapped; None: they are the same on both sides."""
    extended: Callable[[], bool]
    """Whether client and backend agree on an extension, which may have notifications of its own."""
    call: "Call | None" = None
    """None: what belongs to no call. List changes and resource updates are not for it: the hub announces them."""
    unanswered: list[str] = attrs.field(factory=list, init=False)
    """The ids of what the client was asked and had not answered when the call ended."""

    async def hear(self, inbound: Inbound) -> None:
        """Take one message (a ``Hear``)."""
        if inbound.id_raw is not None:
            await self._question(inbound, inbound.id_raw)
        elif inbound.method == PROGRESS:
            await self._progress(inbound)
        elif inbound.method == MESSAGE:
            if self._wants_log(inbound.params.get("level")):
                await self._pass(inbound.raw, inbound)
        elif inbound.method == CANCELLED:
            await self._withdrawn(inbound)
        elif inbound.method == URL_DONE:
            if self.session is not None and self.session.era.url_elicitation:
                await self._tell(inbound.raw)
        elif inbound.method == tasks.STATUS_2025:
            status = None if self.names is None else self.names.status(inbound.raw)
            if status is not None:
                await self._send(status)
        elif is_custom_notification(inbound.method) and self.extended():
            await self._pass(inbound.raw, inbound)

    async def hear_unasked(self, inbound: Inbound) -> None:
        """Take what belongs to no call (a ``Hear``): one that is malformed must not cost the session."""
        try:
            await self.hear(inbound)
        except RemoteFault as fault:  # a member to be changed is there twice
            logger.debug("notice not passed on", extra={"backend": self.backend, "why": str(fault)})

    async def _progress(self, inbound: Inbound) -> None:
        """Of this call, or of one that became a task, which its token tells."""
        token = tasks.clients_token(inbound.params.get("progressToken"))
        if self.call is not None:
            self.call.deadline.progress()
            token = token or self.call.progress_token
        if token is not None:
            await self._pass(_with_token(inbound, token), inbound)

    def _wants_log(self, level: object) -> bool:
        """ "Servers MUST NOT send notifications/message ... unless the request opted in" -- 2026-07-28
        server/utilities/logging; a 2025 client that has named no level is told all.
        """
        client = self.session if self.call is None else self.call.way.client
        wanted = client.log_level if client is not None else None
        return self.session is not None if wanted is None else level_at_least(str(level), wanted)

    async def _pass(self, notice: bytes, inbound: Inbound) -> None:
        """Send a notification; what is related to a task under the client's id of it."""
        await self._send(notice if self.names is None else self.names.message(notice), more=inbound.more)

    async def _send(self, message: bytes, *, more: bool = False) -> bool:
        if self.call is not None:
            return await self.call.way.stream.send(message, more=more)
        return self._post(message)

    async def _tell(self, message: bytes) -> bool:
        """Send what the client must hear: on this request's stream, else on the session's; False: it has neither."""
        return await self._send(message) or self._post(message)

    def _post(self, message: bytes) -> bool:
        if self.session is None or (self.call is not None and not self.session.listeners):
            return False
        self.session.mailbox.post(message)
        return True

    # --- questions ---

    async def _question(self, inbound: Inbound, id_raw: bytes) -> None:
        """Put a question of a 2025 backend to its 2025 client, or refuse it."""
        session, names, uris = self.session, self.names, self.uris
        if session is None or not allowed(inbound.method, inbound.params, session.capabilities):
            await refuse(inbound, f"the client cannot do {inbound.method}")
            return
        if self.call is not None and session.questions.find(self.call, id_raw) is not None:
            await refuse(inbound, "this id is taken by an open request")
            return

        async def on_answer(response: jsonrpc.RpcResponse) -> None:
            answer = answer_for(id_raw, response, uris.restored if uris is not None else None)
            await inbound.respond(answer if names is None else names.answer(answer))

        try:
            message = fitted(inbound, session.era, uris.out if uris is not None else None)
            message = message if names is None else names.message(message)
            on_progress = progress_to(inbound.raw, inbound.respond)
            marks = on_progress is not None
            why = await self.put(lambda own: as_ours(message, own, progress=marks), on_answer, id_raw, on_progress)
        except (Overload, RemoteFault) as fault:
            why = str(fault)
        if why is not None:
            await refuse(inbound, why)

    async def put(
        self,
        render: Callable[[bytes], bytes],
        on_answer: OnAnswer,
        origin: bytes = b"",
        on_progress: OnProgress | None = None,
    ) -> str | None:
        """Ask a 2025 client what ``render`` makes of the raw id that it is asked under, and let its time run.

        Args:
            origin: the raw id under which a 2025 backend asks.
        Returns:
            Why it cannot be asked; None: it is asked.
        Raises:
            Overload: too many questions are open.
        """
        session, call = self.session, self.call
        assert session is not None  # only 2025 clients are asked in this way, and they have one
        if call is None and not session.listeners:
            return NO_STREAM

        async def answered(response: jsonrpc.RpcResponse) -> None:
            if call is not None:
                call.deadline.resume()
            await on_answer(response)

        asked = session.questions.ask(self.backend if call is None else call, origin, answered, on_progress)
        if call is not None:
            call.deadline.pause()
        if await self._tell(render(json_text.dumps(asked))):
            return None
        self._forget(asked)
        return NO_STREAM

    async def _withdrawn(self, inbound: Inbound) -> None:
        """The backend no longer wants to know: take the question back from the client."""
        raw = splice.value_at(inbound.raw, ("params", "requestId"))
        if self.session is None or raw is None:
            return
        asked = self.session.questions.find(self.backend if self.call is None else self.call, raw)
        if asked is not None:
            self._forget(asked)
            await self._tell(splice.rewrite(inbound.raw, {"params": {"requestId": json_text.dumps(asked)}}))

    def _forget(self, asked: str) -> None:
        if self.session is not None:
            self.session.questions.forget(asked)
        if self.call is not None:
            self.call.deadline.resume()

    def close(self) -> None:
        """The call is over: late answers to its questions are ignored."""
        if self.session is not None and self.call is not None:
            self.unanswered = self.session.questions.end(self.call)

    async def take_back(self) -> None:
        """After ``close``: tell the client that what it has not answered need not be answered any more.

        "... the sender SHOULD issue a cancellation notification for that request and stop waiting for a response."
        -- MCP 2025-11-25 basic/lifecycle, Timeouts
        """
        while self.unanswered:
            params = json_text.dumps({"requestId": self.unanswered.pop(), "reason": "the call is over"})
            await self._tell(jsonrpc.render_notification(CANCELLED, params))


def for_call(call: "Call") -> InboundHandler:
    """The handler of a call, made when its backend says something."""
    return InboundHandler(
        session=call.client.session,
        names=call.tasks,
        backend=call.target.backend,
        uris=call.target.uri_map,
        extended=lambda: bool(call.extensions),
        call=call,
    )


def for_session(session: Session, backend: Backend, names: TaskNames | None) -> InboundHandler:
    """The handler of what a backend says to a 2025 session outside any call."""
    return InboundHandler(
        session=session,
        names=names,
        backend=backend.key,
        uris=uri_map_for(backend.spec),
        extended=lambda: bool(declared(session.capabilities) & declared(backend.snapshot.capabilities)),
    )


def _with_token(inbound: Inbound, token: bytes) -> bytes:
    """A progress notification with the client's raw token."""
    raw, ours = inbound.raw, inbound.params.get("progressToken")
    # Nearly always it is the number of our request, and such a member is there but once.
    if type(ours) is int and raw.count(b'"progressToken"') == 1 and b"\\" not in raw:
        before, found, after = raw.partition(b'"progressToken":%d' % ours)
        if found and after[:1] in (b",", b"}"):
            return b'%b"progressToken":%b%b' % (before, token, after)
    return splice.rewrite(raw, {"params": {"progressToken": token}})


async def refuse(inbound: Inbound, why: str) -> None:
    """Answer a backend's question that nobody can be asked."""
    await inbound.respond(jsonrpc.render_error(inbound.id_raw or b"null", METHOD_NOT_FOUND, why))


async def say(respond: Respond, message: bytes) -> None:
    """Send a response upstream when a failure concerns nobody any more."""
    try:
        await respond(message)
    except GatewayError as gone:
        logger.debug("answer not delivered", extra={"why": str(gone)})
