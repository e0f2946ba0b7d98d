"""What the backend of one call says before its answer.

Owns the questions of this call that its client has not answered. Deliberately relays
as any ``InboundHandler``. Invariant: a question asked through it is forgotten when its
call ends.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from mcp_gateway.backends.transports.base import Inbound
from mcp_gateway.gateway.inbound import CANCELLED, NO_STREAM, InboundHandler, refuse
from mcp_gateway.gateway.server_requests import OnAnswer, OnProgress
from mcp_gateway.protocol import json_text, jsonrpc, splice
from mcp_gateway.protocol.methods import level_at_least
from mcp_gateway.routing.uris import ClashMap, UriMap

if TYPE_CHECKING:
    from mcp_gateway.gateway.call.call import Call


@attrs.define(eq=False, kw_only=True)
class CallInbound(InboundHandler):
    """Hears one call's backend; made when it says something."""

    call: "Call"
    _open: dict[str, bytes] = attrs.field(factory=dict, init=False)
    """What the client has not answered: our id, and the raw one of a 2025 backend."""

    @classmethod
    def of(cls, call: "Call") -> "CallInbound":
        """The handler of a call."""
        return cls(session=call.client.session, names=call.tasks, call=call)

    @property
    def uris(self) -> "UriMap | ClashMap | None":
        """See ``InboundHandler``."""
        return self.call.target.uri_map

    @property
    def extended(self) -> bool:
        """See ``InboundHandler``."""
        return bool(self.call.extensions)

    def progressed(self) -> bytes | None:
        """See ``InboundHandler``."""
        self.call.deadline.progress()
        return self.call.progress_token

    def wants_log(self, level: object) -> bool:
        """ "Servers MUST NOT send notifications/message ... unless the request opted in" -- 2026-07-28
        server/utilities/logging
        """
        wanted = self.call.way.client.log_level
        if wanted is None:
            return self.session is not None
        return level_at_least(str(level), wanted)

    async def send(self, message: bytes) -> None:
        """See ``InboundHandler``."""
        await self.call.way.stream.send(message)

    async def question(self, inbound: Inbound, id_raw: bytes) -> None:
        """See ``InboundHandler``."""
        if id_raw in self._open.values():
            await refuse(inbound, "this id is taken by an open request")
        else:
            await super().question(inbound, id_raw)

    async def put(
        self,
        render: Callable[[bytes], bytes],
        on_answer: OnAnswer,
        origin: bytes = b"",
        on_progress: OnProgress | None = None,
    ) -> str | None:
        """See ``InboundHandler``. The client's time runs from now on."""
        assert self.session is not None  # only 2025 clients are asked in this way, and they have one

        async def answered(response: jsonrpc.RpcResponse) -> None:
            self._open.pop(asked, None)
            self.call.deadline.resume()
            await on_answer(response)

        asked = self.session.questions.ask(answered, on_progress=on_progress)
        self._open[asked] = origin
        self.call.deadline.pause()
        if await self.tell(render(json_text.dumps(asked))):
            return None
        self._forget(asked)
        return NO_STREAM

    async def tell(self, message: bytes) -> bool:
        """See ``InboundHandler``. On this request's stream, else on the session's GET stream."""
        if await self.call.way.stream.send(message):
            return True
        if self.session is not None and self.session.listeners:
            self.session.mailbox.post(message)
            return True
        return False

    async def withdrawn(self, inbound: Inbound) -> None:
        """See ``InboundHandler``."""
        raw = splice.value_at(inbound.raw, ("params", "requestId"))
        asked = next((asked for asked, origin in self._open.items() if origin == raw), None)
        if asked is not None:
            self._forget(asked)
            await self.tell(splice.rewrite(inbound.raw, {"params": {"requestId": json_text.dumps(asked)}}))

    def _forget(self, asked: str) -> None:
        """A question is moot: an answer to it is ignored from now on."""
        if self.session is not None and self.session.questions.forget(asked):
            self._open.pop(asked, None)
            self.call.deadline.resume()

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
