"""JSON-RPC batches, which only 2025-03-26 has.

Owns the fan-out of one array and the array of its answers. Deliberately serves
each message exactly like a single one. Invariant: as many answers as requests,
in the order of the requests; notifications and responses get none.

Spec: MCP 2025-03-26 basic/index, Batching.
"""

from collections.abc import Callable, Sequence
from typing import Final

import attrs
import trio

from mcp_gateway.errors import MalformedMessage
from mcp_gateway.gateway.core import Place
from mcp_gateway.gateway.entrance import Request, Watched
from mcp_gateway.gateway.http_answers import refusal, refuse
from mcp_gateway.gateway.legacy_face import LegacyFace
from mcp_gateway.gateway.outlet import JSON_HEAD
from mcp_gateway.gateway.session import Session
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.wire_errors import INVALID_REQUEST
from mcp_gateway.values import Header

MAX_MESSAGES: Final = 100
"""In one batch; more are refused as a whole."""


@attrs.define(eq=False)
class PartReply:
    """The answer to one message of a batch: kept, not sent. There is no stream in an array."""

    whole_reply: Watched
    body: bytes = b""

    async def whole(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        """Keep the answer for the batch."""
        self.body = body
        return True

    async def open(self, status: int, headers: Sequence[Header]) -> bool:
        """Never: a batch is answered as a whole."""
        return False

    async def event(
        self, data: bytes, *, event_id: str | None = None, retry_ms: int | None = None, name: str | None = None
    ) -> bool:
        """Never: see ``open``."""
        return False

    async def comment(self) -> bool:
        """Never: see ``open``."""
        return False

    async def close(self) -> None:
        """There is nothing to end."""

    def on_gone(self, callback: Callable[[], None]) -> None:
        """See ``entrance.Reply``."""
        self.whole_reply.on_gone(callback)


@attrs.frozen(kw_only=True)
class Batch:
    """Serves one array for one session."""

    face: LegacyFace
    place: Place
    session: Session

    async def serve(self, request: Request, reply: Watched) -> None:
        """Run all messages at once and answer when the last one has ended."""
        try:
            messages = jsonrpc.read_batch(request.body)
        except MalformedMessage as fault:
            await refuse(reply, refusal(400, fault.what, fault.code))
            return
        if len(messages) > MAX_MESSAGES:
            await refuse(reply, refusal(400, f"more than {MAX_MESSAGES} messages in one batch"))
            return
        # Only JSON answers fit into an array: what is said in between goes to the GET stream.
        quiet = attrs.evolve(request, headers=(*_without_accept(request), (b"accept", b"application/json")))
        parts = [PartReply(reply) for _ in messages]
        async with trio.open_nursery() as nursery:
            for message, part in zip(messages, parts, strict=True):
                nursery.start_soon(self._one, quiet, part, message)
        bodies = [part.body for part in parts if part.body]
        if bodies:
            await reply.whole(200, JSON_HEAD, b"[%b]" % b",".join(bodies))
        else:
            await reply.whole(202, (), b"")

    async def _one(self, request: Request, part: PartReply, message: jsonrpc.RpcMessage | MalformedMessage) -> None:
        if isinstance(message, MalformedMessage):
            part.body = jsonrpc.render_error(None, message.code, message.what)
        elif isinstance(message, jsonrpc.RpcRequest) and message.method == "initialize":
            # "The initialize request MUST NOT be part of a JSON-RPC batch" -- 2025-03-26 basic/lifecycle
            text = "initialize must not be part of a batch"
            part.body = jsonrpc.render_error(message.id_raw, INVALID_REQUEST, text)
        else:
            own = attrs.evolve(request, scope=trio.CancelScope())
            await self.face.take(own, part, self.place, self.session, message)


def _without_accept(request: Request) -> tuple[Header, ...]:
    return tuple(header for header in request.headers if header[0] != b"accept")
