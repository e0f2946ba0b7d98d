"""JSON-RPC batches, which only 2025-03-26 has.

Owns the fan-out of one array and the array of its answers. Deliberately serves
each message exactly like a single one. Invariant: as many answers as requests,
in the order of the requests; notifications and responses get none.

Spec: MCP 2025-03-26 basic/index, Batching.
"""

from collections.abc import Sequence
from typing import Final

import attrs
import trio

from mcp_gateway.errors import MalformedMessage
from mcp_gateway.gateway.call.response import JSON_HEAD, Accepts
from mcp_gateway.gateway.entrance import Job, Reply, Request, serve
from mcp_gateway.gateway.faces.http_answers import refusal, refuse
from mcp_gateway.gateway.faces.legacy import LegacyFace
from mcp_gateway.gateway.place import Place
from mcp_gateway.gateway.session import Session
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.wire_errors import INVALID_REQUEST
from mcp_gateway.values import Header

JSON_ONLY: Final = Accepts(sse=False)
"""Only JSON answers fit into an array: what is said in between goes to the GET stream."""


@attrs.define(eq=False)
class PartReply:
    """The answer to one message of a batch: kept, not sent. There is no stream in an array."""

    body: bytes = b""

    async def whole(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        """Keep the answer for the batch."""
        self.body = body
        return True

    async def open(self, status: int, headers: Sequence[Header], *, more: bool = False) -> bool:
        """Never: a batch is answered as a whole."""
        return False

    async def event(
        self,
        data: bytes,
        *,
        event_id: str | None = None,
        retry_ms: int | None = None,
        name: str | None = None,
        more: bool = False,
    ) -> bool:
        """Never: see ``open``."""
        return False

    async def flush(self) -> bool:
        """Never: see ``open``."""
        return False

    async def comment(self) -> bool:
        """Never: see ``open``."""
        return False

    async def close(self) -> None:
        """There is nothing to end."""


@attrs.define(eq=False, kw_only=True)
class Batch:
    """The job of one array of one session."""

    face: LegacyFace
    place: Place
    session: Session
    reply: Reply
    headers: tuple[Header, ...]
    messages: Sequence[jsonrpc.RpcMessage | MalformedMessage]
    _parts: list[PartReply] = attrs.field(factory=list, init=False)
    _jobs: list[Job] = attrs.field(factory=list, init=False)

    async def run(self, scope: trio.CancelScope) -> None:
        """Run all messages at once; each has a scope of its own."""
        self._parts = [PartReply() for _ in self.messages]
        async with trio.open_nursery() as nursery:
            for message, part in zip(self.messages, self._parts, strict=True):
                nursery.start_soon(self._one, part, message)

    async def finish(self) -> None:
        """Answer when the last one has ended."""
        bodies = [part.body for part in self._parts if part.body]
        if bodies:
            await self.reply.whole(200, JSON_HEAD, b"[%b]" % b",".join(bodies))
        else:
            await self.reply.whole(202, (), b"")

    def left(self) -> None:
        """See ``entrance.Job``."""
        for job in self._jobs:
            job.left()

    async def _one(self, part: PartReply, message: jsonrpc.RpcMessage | MalformedMessage) -> None:
        if isinstance(message, MalformedMessage):
            part.body = jsonrpc.render_error(None, message.code, message.what)
        elif isinstance(message, jsonrpc.RpcRequest) and message.method == "initialize":
            # "The initialize request MUST NOT be part of a JSON-RPC batch" -- 2025-03-26 basic/lifecycle
            text = "initialize must not be part of a batch"
            part.body = jsonrpc.render_error(message.id_raw, INVALID_REQUEST, text)
        else:
            job = self.face.prepare(self.session, message, self.place, part, JSON_ONLY, self.headers)
            self._jobs.append(job)
            await serve(job)


def prepare(face: LegacyFace, place: Place, session: Session, request: Request, reply: Reply) -> Job:
    """The job of one array, or of its refusal."""
    try:
        messages = jsonrpc.read_batch(request.body)
    except MalformedMessage as fault:
        return refuse(reply, refusal(400, fault.what, fault.code))
    return Batch(face=face, place=place, session=session, reply=reply, headers=request.headers, messages=messages)
