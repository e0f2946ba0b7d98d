"""What is done with each thing a backend says before its answer.

Owns progress, log and request relaying for one call to a 2025 client or any
client's notifications. Deliberately never waits for a client's answer: the POST
that brings it delivers it. Invariant: a question asked through an ear is
forgotten when its call ends.
"""

import logging
import re
from collections.abc import Callable
from typing import Final

import attrs

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.transports.base import Inbound, Respond
from mcp_gateway.errors import GatewayError, Overload
from mcp_gateway.gateway.calls import CallClock
from mcp_gateway.gateway.errand import Errand
from mcp_gateway.gateway.outlet import Outlet
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
from mcp_gateway.protocol import json_text, jsonrpc, splice, tasks
from mcp_gateway.protocol.extensions import is_custom_notification
from mcp_gateway.protocol.methods import level_at_least
from mcp_gateway.protocol.wire_errors import METHOD_NOT_FOUND

logger = logging.getLogger(__name__)

PROGRESS: Final = "notifications/progress"
MESSAGE: Final = "notifications/message"
CANCELLED: Final = "notifications/cancelled"
URL_DONE: Final = "notifications/elicitation/complete"
"""2025-11-25 only, and about an elicitation of the same session."""
NO_STREAM: Final = "the client has no stream to be asked on"


_TOKEN: Final = re.compile(rb'".*"|-?[0-9]+', re.DOTALL)


def progress_token(errand_raw: bytes) -> bytes | None:
    """The client's own progressToken as it stands in its request; None when it is no string and no integer."""
    raw = splice.value_at(errand_raw, ("params", "_meta", "progressToken"))
    return raw if raw is not None and _TOKEN.fullmatch(raw) else None


@attrs.define(eq=False, kw_only=True)
class Ear:
    """Hears one call's backend on behalf of one client."""

    errand: Errand
    backend: Backend
    outlet: Outlet
    clock: CallClock
    session: Session | None
    """The client's 2025 session; None for a modern client, who is never sent a request."""
    _token: bytes | None = attrs.field(init=False)
    _open: dict[str, bytes] = attrs.field(factory=dict, init=False)
    """What the client has not answered: our id, and the raw one of a 2025 backend."""

    def __attrs_post_init__(self) -> None:
        self._token = progress_token(self.errand.message.raw)

    async def hear(self, inbound: Inbound) -> None:
        """Take one message that belongs to this call (a ``Hear``)."""
        if inbound.id_raw is not None:
            await self._question(inbound, inbound.id_raw)
        elif inbound.method == PROGRESS:
            self.clock.progress()
            token = tasks.clients_token(inbound.params.get("progressToken")) or self._token
            if token is not None:
                await self._pass(splice.rewrite(inbound.raw, {"params": {"progressToken": token}}))
        elif inbound.method == MESSAGE:
            await self._log(inbound)
        elif inbound.method == CANCELLED:
            await self._withdrawn(inbound)
        elif inbound.method == URL_DONE and hears_of_urls(self.session):
            await self.tell(inbound.raw)
        elif inbound.method == tasks.STATUS_2025 and self.errand.tasks is not None:
            status = self.errand.tasks.status(inbound.raw)
            if status is not None:
                await self.outlet.send(status)
        elif self.errand.extensions and is_custom_notification(inbound.method):
            await self._pass(inbound.raw)

    async def _pass(self, notice: bytes) -> None:
        """Send a notification; what is related to a task under the client's id of it."""
        await self.outlet.send(notice if self.errand.tasks is None else self.errand.tasks.message(notice))

    async def _log(self, inbound: Inbound) -> None:
        level = inbound.params.get("level")
        wanted = self.session.log_level if self.session is not None else self.errand.log_level
        # "Servers MUST NOT send notifications/message ... unless the request opted in"
        # -- 2026-07-28 server/utilities/logging
        if wanted is None and self.errand.client.modern:
            return
        if wanted is None or level_at_least(str(level), wanted):
            await self._pass(inbound.raw)

    async def _question(self, inbound: Inbound, id_raw: bytes) -> None:
        if self.session is None or not allowed(inbound.method, inbound.params, self.errand.capabilities):
            await refuse(inbound, f"the client cannot do {inbound.method}")
            return
        if id_raw in self._open.values():
            await refuse(inbound, "this id is taken by an open request")
            return

        async def on_answer(response: jsonrpc.RpcResponse) -> None:
            answer = answer_for(id_raw, response, self.errand.uri_back)
            await inbound.respond(answer if names is None else names.answer(answer))

        names = self.errand.tasks
        message = fitted(inbound, self.session.era, self.errand.uri_out)
        if names is not None:
            message = names.message(message)
        on_progress = progress_to(inbound.raw, inbound.respond)
        try:
            if not await self.ask(
                lambda own: as_ours(message, own, progress=on_progress is not None), on_answer, id_raw, on_progress
            ):
                await refuse(inbound, NO_STREAM)
        except Overload as full:
            await refuse(inbound, str(full))

    async def ask(
        self,
        render: Callable[[bytes], bytes],
        on_answer: OnAnswer,
        origin: bytes = b"",
        on_progress: OnProgress | None = None,
    ) -> bool:
        """Put one question to the client, whose time runs from now on; False when it has no stream to be asked on.

        Args:
            render: makes the request of the raw id that it goes down under.
            origin: the raw id that a 2025 backend asks under.
        Raises:
            Overload: too many questions are open.
        """
        assert self.session is not None  # only 2025 clients are asked in this way, and they have one

        async def answered(response: jsonrpc.RpcResponse) -> None:
            self._open.pop(asked, None)
            self.clock.resume()
            await on_answer(response)

        asked = self.session.questions.ask(answered, on_progress=on_progress)
        self._open[asked] = origin
        self.clock.pause()
        if await self.tell(render(json_text.dumps(asked))):
            return True
        self._forget(asked)
        return False

    def _forget(self, asked: str) -> None:
        """A question is moot: an answer to it is ignored from now on."""
        if self.session is not None and self.session.questions.forget(asked):
            self._open.pop(asked, None)
            self.clock.resume()

    async def tell(self, message: bytes) -> bool:
        """Send on this request's stream, else on the session's GET stream; False when there is neither."""
        if await self.outlet.send(message):
            return True
        if self.session is not None and self.session.listeners:
            self.session.mailbox.post(message)
            return True
        return False

    async def _withdrawn(self, inbound: Inbound) -> None:
        """The backend no longer wants to know: take the question back from the client."""
        raw = splice.value_at(inbound.raw, ("params", "requestId"))
        asked = next((asked for asked, origin in self._open.items() if origin == raw), None)
        if asked is not None:
            self._forget(asked)
            await self.tell(splice.rewrite(inbound.raw, {"params": {"requestId": json_text.dumps(asked)}}))

    def close(self) -> None:
        """The call is over: late answers to its questions are ignored."""
        if self.session is not None:
            for asked in self._open:
                self.session.questions.forget(asked)

    async def take_back(self) -> None:
        """After ``close``: tell the client that what it has not answered need not be answered any more.

        "... the sender SHOULD issue a cancellation notification for that request and stop waiting for a response."
        -- MCP 2025-11-25 basic/lifecycle, Timeouts
        """
        while self._open:
            asked, _ = self._open.popitem()
            params = json_text.dumps({"requestId": asked, "reason": "the call is over"})
            await self.tell(jsonrpc.render_notification(CANCELLED, params))


def hears_of_urls(session: Session | None) -> bool:
    """Whether a client can have been sent to a URL by a backend of its own family, which tells when that is done."""
    return session is not None and session.era.url_elicitation


async def refuse(inbound: Inbound, why: str) -> None:
    """Answer a backend's question that nobody can be asked."""
    await inbound.respond(jsonrpc.render_error(inbound.id_raw or b"null", METHOD_NOT_FOUND, why))


async def say(respond: Respond, message: bytes) -> None:
    """Send a response upstream when a failure concerns nobody any more."""
    try:
        await respond(message)
    except GatewayError as gone:
        logger.debug("answer not delivered", extra={"why": str(gone)})
