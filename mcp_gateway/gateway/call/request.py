"""One JSON-RPC request of a client, whatever serves it: a ``Job``.

Owns its place in its session while it runs, being cut, and its one answer. Deliberately
decides nothing. Invariants: the first cause wins; a request that is over is in no
book and touches no scope; exactly one answer is written, in ``finish``.

Spec: docs/architecture.md, "The road of a call" and "Exactly one answer".
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import attrs
import trio

from mcp_gateway.errors import CallCancelled, Executed, GatewayError
from mcp_gateway.gateway.call.client import Client
from mcp_gateway.gateway.call.deadline import Cause
from mcp_gateway.gateway.call.outcome import Outcome, failed
from mcp_gateway.gateway.call.response import JSON_HEAD, Accepts, Phase, ResponseStream
from mcp_gateway.gateway.entrance import Reply
from mcp_gateway.gateway.place import Place
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.routing.listing_views import Target
from mcp_gateway.values import Header

if TYPE_CHECKING:
    from mcp_gateway.gateway.call.call import Calls


@attrs.frozen(kw_only=True, eq=False)
class Asked:
    """One request as it came in."""

    client: Client
    message: jsonrpc.RpcRequest
    place: Place
    reply: Reply
    accepts: Accepts
    headers: tuple[Header, ...] = ()
    """Of HTTP, names lower case."""


@attrs.define(eq=False, kw_only=True)
class ClientRequest(ABC):
    """A request from ``prepare`` to its answer."""

    asked: Asked
    calls: "Calls"
    outcome: Outcome | None = None
    cause: Cause | None = None
    """Why it was cut; None: it was not, or its deadline did it."""
    headers: Sequence[Header] = ()
    """Of the answer, beyond what every answer has."""
    began_at: float = attrs.field(factory=trio.current_time)
    gone: bool = False
    """Its client has left."""
    answered: bool = False
    _scope: trio.CancelScope | None = None
    """While it runs."""
    _stream: ResponseStream | None = None

    @property
    def client(self) -> Client:
        """Whose it is."""
        return self.asked.client

    @property
    def message(self) -> jsonrpc.RpcRequest:
        """What was asked for."""
        return self.asked.message

    async def run(self, scope: trio.CancelScope) -> None:
        """See ``entrance.Job``."""
        if self.outcome is not None:
            return
        session, request_id, self._scope = self.asked.client.session, self.asked.message.id, scope
        if session is not None:
            session.calls[request_id] = self
            if session.ended:  # between the look-up and here: one message of a batch ended it for the others
                self.cut(Cause.SESSION)
        if self.cause is not None:
            scope.cancel(reason=self.cause.value)
        try:
            self.outcome = await self.serve(scope)
        except GatewayError as error:
            self.outcome = self.failed_by(error)
        finally:
            self.over()

    @abstractmethod
    def serve(self, scope: trio.CancelScope) -> Awaitable[Outcome]:
        """Find the outcome; or raise the gateway's error that it is."""

    def destination(self) -> Target | None:
        """What it is for; None: for the gateway itself."""
        return None

    def failed_by(self, error: GatewayError) -> Outcome:
        """The outcome that an error of the gateway's is."""
        return failed(self.message.id_raw, error, None)

    def over(self) -> None:
        """It has run: it leaves its session's book, and touches its scope no more."""
        session, self._scope = self.asked.client.session, None
        if session is not None:
            del session.calls[self.asked.message.id]
            session.touch()

    def cut(self, cause: Cause) -> None:
        """End it for ``cause``; later causes change nothing, nor does any once it has its outcome."""
        if self.cause is None and self.outcome is None:
            self.cause = cause
            if self._scope is not None:
                self._scope.cancel(reason=cause.value)

    def left(self) -> None:
        """See ``entrance.Job``."""
        self.gone = True
        if self._stream is not None:
            self._stream.leave()
        # "Disconnection SHOULD NOT be interpreted as the client cancelling its request." -- 2025-11-25 transports;
        # "closing the response stream is cancellation" -- 2026-07-28 basic/patterns/cancellation
        if self.client.era.modern:
            self.cut(Cause.DISCONNECT)

    async def finish(self) -> None:
        """See ``entrance.Job``."""
        cut = self.outcome is None
        outcome = self.settle()
        client = self.asked.client
        session = client.session
        self.calls.log.answered(
            self.asked.message.method,
            outcome.label,
            self.began_at,
            era=client.era,
            session=session.tag if session is not None else "",
            target=self.destination(),
            size=len(outcome.body),
        )
        if cut and self.cause is Cause.MESSAGE and session is not None:
            await self.stream.abandon(outcome.status, outcome.body)
        elif self._is_one_body(outcome):
            self.answered = True
            if not self.gone:
                await self.asked.reply.whole(outcome.status, (*JSON_HEAD, *self.headers), outcome.body)
        else:
            await self.stream.finish(outcome.status, outcome.body, self.headers)

    def _is_one_body(self, outcome: Outcome) -> bool:
        """Whether nothing but the answer goes to the client; a stream cannot say that it failed."""
        plain = self._stream is None and not self.asked.client.era.one_stream
        return plain and (self.asked.accepts.json or outcome.status != 200)

    def settle(self) -> Outcome:
        """The outcome; of one that was cut, what it was cut by."""
        if self.outcome is None:
            self.outcome = self.ended()
        return self.outcome

    def ended(self) -> Outcome:
        """What a request that was cut short has come to."""
        cause = self.cause or Cause.SESSION
        return failed(self.message.id_raw, CallCancelled(executed=Executed.UNKNOWN, why=cause.value), None)

    @property
    def stream(self) -> ResponseStream:
        """The way back for more than one JSON body; made when it is needed first."""
        if self._stream is None:
            era, session = self.client.era, self.client.session
            resumable = session is not None and era.resumable and self.asked.accepts.sse
            self._stream = ResponseStream(
                reply=self.asked.reply,
                era=era,
                accepts=self.asked.accepts,
                replay=session.replay if session is not None and resumable else None,
                keep_alive_s=self.calls.spec.value.http.keep_alive_s,
                began_at=self.began_at,
                gone=self.gone,
                phase=Phase.FINISHED if self.answered else Phase.STREAMING if era.one_stream else Phase.SILENT,
            )
        return self._stream

    @property
    def due_at(self) -> float:
        """When its client, if it hears nothing until then, is to be shown that somebody is there."""
        return self.stream.due_at


@attrs.define(eq=False, kw_only=True)
class AnsweredRequest(ClientRequest):
    """A request whose outcome was known at once."""

    target: Target | None = None

    def destination(self) -> Target | None:
        """See ``ClientRequest``."""
        return self.target

    async def serve(self, scope: trio.CancelScope) -> Outcome:
        """There is nothing to wait for."""
        return self.settle()


@attrs.define(eq=False, kw_only=True)
class OwnRequest(ClientRequest):
    """A request for the gateway itself, whose answer has to be waited for."""

    work: "Callable[[ClientRequest], Awaitable[Outcome]]"
    target: Target | None = None

    def destination(self) -> Target | None:
        """See ``ClientRequest``."""
        return self.target

    def serve(self, scope: trio.CancelScope) -> Awaitable[Outcome]:
        """Wait for it; whoever works holds the deadlines."""
        return self.work(self)
