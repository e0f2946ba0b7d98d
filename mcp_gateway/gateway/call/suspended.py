"""Calls that wait for a 2026 client: suspended between ``input_required`` and its retry.

Owns the call task in the backend's nursery, the questions its 2025 backend has asked, and
the ``requestState`` that finds it again. Deliberately knows no HTTP. Invariants: a state is
accepted once, only for the principal, method and arguments it was made for, and only
before it expires; a call that nobody comes back for is cancelled and its questions are
answered.

Spec: MCP 2026-07-28 basic/patterns/mrtr; docs/architecture.md, "Suspended calls".
"""

import hashlib
import json
import logging
import math
import secrets
from collections.abc import Callable
from typing import Final

import attrs
import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.transports.base import GOODBYE_S, Inbound, Respond
from mcp_gateway.cell import Cell
from mcp_gateway.errors import GatewayError, Overload
from mcp_gateway.gateway.address_book import Address, AddressBook, InputResponses, Message
from mcp_gateway.gateway.call.call import Call
from mcp_gateway.gateway.call.deadline import Cause, Deadline
from mcp_gateway.gateway.call.outcome import Outcome, refused
from mcp_gateway.gateway.call.translation import stamped
from mcp_gateway.gateway.inbound import CANCELLED, refuse, say
from mcp_gateway.gateway.server_requests import CAPABILITY, allowed
from mcp_gateway.protocol import json_text, jsonrpc, splice, translate
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.protocol.wire_errors import INVALID_PARAMS
from mcp_gateway.sessions.signed import Purpose, Signer
from mcp_gateway.values import JsonObject

logger = logging.getLogger(__name__)

GATHER_S: Final = 0.03
"""How long further questions may follow the first before the client is answered."""
MAX_SUSPENDED: Final = 1000
"""Per process; above that new ones are refused."""
MAX_QUESTIONS: Final = 64
USER_REJECTED: Final = -1
"""What a backend is told when nobody answers its sampling or roots request."""
STATE_REFUSED: Final = "requestState is not valid for this request: it was changed, used or has expired"
_RETRY_MEMBERS: Final = frozenset({"_meta", "inputResponses", "requestState"})


@attrs.frozen(kw_only=True)
class _Question:
    """What a backend wants to know."""

    method: str
    id_raw: bytes
    request: bytes
    """As the client gets it: one value of ``inputRequests``."""
    respond: Respond


@attrs.define(eq=False, kw_only=True)
class SuspendedCall(Call):
    """One call to a 2025 backend on behalf of a 2026 client that can be asked things.

    Not a request of the client's: those come and go, each with its answer, while this goes on.
    """

    backend: Backend
    binding: bytes
    """Digest of principal, method and arguments."""
    state_id: str = attrs.field(factory=lambda: secrets.token_urlsafe(12))
    """A name that nobody can guess."""
    round: int = 0
    request: Call
    """The last request of the client; what is heard goes to it."""
    attached: bool = True
    """Whether that one waits for this call right now."""
    left_at: float = 0.0
    _questions: "dict[str, _Question]" = attrs.field(factory=dict, init=False)
    _next: int = attrs.field(default=1, init=False)
    _event: trio.Event = attrs.field(factory=trio.Event, init=False)

    @classmethod
    def of(cls, request: Call, backend: Backend) -> "SuspendedCall":
        """The call that a request begins."""
        call = cls(
            asked=request.asked,
            calls=request.calls,
            target=request.target,
            edits=request.edits,
            caller=request.caller,
            extensions=request.extensions,
            tasks=request.tasks,
            backend=backend,
            binding=binding_of(request),
            request=request,
        )
        call.deadline = Deadline(backend.spec.timeouts)
        return call

    @property
    def way(self) -> Call:
        """See ``Call``."""
        return self.request

    async def live(self) -> None:
        """The task of the call, which outlives the requests that wait for it."""
        self._scope = scope = trio.CancelScope()
        try:
            with scope:
                if self.cause is not None:
                    scope.cancel(reason=self.cause.value)
                self.outcome = await self.carry(scope, self.backend)
        except GatewayError as error:
            self.outcome = self.failed_by(error)
        finally:
            self._scope = None
            if self.outcome is None and not scope.cancelled_caught:  # the backend ends its calls
                self.cause = self.cause or Cause.REMOVED
            self.settle()
            self._signal()
            try:
                await self._decline()  # noqa: ASYNC102  # has a bounded shield of its own
            finally:
                self.backend.bays.leave(self.caller)

    async def hear(self, inbound: Inbound) -> None:
        """As for any call, but a question waits here for the client's retry."""
        if inbound.method == CANCELLED:
            self._withdraw(splice.value_at(inbound.raw, ("params", "requestId")))
        elif inbound.id_raw is None or inbound.method not in CAPABILITY:
            await super().hear(inbound)
        elif not allowed(inbound.method, inbound.params, self.client.capabilities) or (
            len(self._questions) >= MAX_QUESTIONS
        ):
            await refuse(inbound, f"the client cannot do {inbound.method}")
        else:
            self._questions[f"k{self._next}"] = self._question(inbound, inbound.id_raw)
            self._next += 1
            self.deadline.pause()
            self._signal()

    def _question(self, inbound: Inbound, id_raw: bytes) -> "_Question":
        params, uris = splice.value_at(inbound.raw, ("params",)), self.target.uri_map
        request = translate.input_request(inbound.method, params, uri_map=uris.out if uris is not None else None)
        return _Question(method=inbound.method, id_raw=id_raw, request=request, respond=inbound.respond)

    def _withdraw(self, id_raw: bytes | None) -> None:
        """The backend no longer wants to know."""
        key = next((key for key, question in self._questions.items() if question.id_raw == id_raw), None)
        if key is not None:
            del self._questions[key]
            self.deadline.resume()

    def attach(self, request: Call) -> None:
        """The client came back with a new request: what happens next is for that one.

        What goes upstream stays on the link where the call runs, whatever this request says of its client.
        """
        self.attached, self.request = True, request
        self.asked, self.target = request.asked, request.target
        self.extensions, self.tasks = request.extensions, request.tasks

    def detach(self) -> None:
        """The request was answered with ``input_required``; nobody listens until the retry."""
        self.attached = False
        self.left_at = trio.current_time()

    async def settled(self) -> Outcome | None:
        """Wait for the outcome, under the id of the last request (returned), or for a question (None)."""
        while self.outcome is None:
            if self._questions:
                await trio.sleep(GATHER_S)
                if self._questions:  # not withdrawn meanwhile
                    return self._outcome_for_request()
            else:
                await self._event.wait()
        return self._outcome_for_request()

    def _outcome_for_request(self) -> Outcome | None:
        """The outcome may have been made for an earlier request."""
        if self.outcome is None:
            return None
        return attrs.evolve(self.outcome, body=splice.rewrite(self.outcome.body, {"id": self.message.id_raw}))

    def input_required(self, state: str) -> bytes:
        """The interim result: every open question, and the state that finds this call again."""
        requests: Edits = {key: question.request for key, question in self._questions.items()}
        result = splice.rewrite(b'{"resultType":"input_required"}', {"inputRequests": splice.rewrite(b"{}", requests)})
        return splice.rewrite(result, {"requestState": json_text.dumps(state)})

    async def answer(self, responses: Message) -> bool:
        """Give the backend what the client answered; unknown keys are ignored. False: it is no such answer.

        What is missing, or no object and so no result of anything, stays open and is asked for again.
        """
        if not isinstance(responses, InputResponses):
            return False
        uris, raw_responses = self.target.uri_map, responses.raw
        for member in splice.members(raw_responses):
            raw = raw_responses[member.value_start : member.value_end]
            question = self._questions.pop(member.key, None) if raw.startswith(b"{") else None
            if question is None:
                continue
            self.deadline.resume()
            answer = translate.answer(raw, uri_back=uris.restored if uris is not None else None)
            await say(question.respond, jsonrpc.render_result(question.id_raw, answer))
        return True

    async def _decline(self) -> None:
        """Nobody will answer any more: tell the backend, as far as it still listens."""
        if not self._questions:
            return
        with trio.move_on_after(GOODBYE_S, shield=True):
            for question in list(self._questions.values()):
                await say(question.respond, declined(question.method, question.id_raw))
        self._questions.clear()

    def _signal(self) -> None:
        event, self._event = self._event, trio.Event()
        event.set()


def declined(method: str, id_raw: bytes) -> bytes:
    """The answer to a question that the client left open."""
    if method == "elicitation/create":
        return jsonrpc.render_result(id_raw, b'{"action":"cancel"}')
    return jsonrpc.render_error(id_raw, USER_REJECTED, "the client did not answer")


def binding_of(call: Call) -> bytes:
    """What a state is bound to: principal, method, and the params without what a retry adds."""
    params = {key: value for key, value in call.message.params.items() if key not in _RETRY_MEMBERS}
    text = json.dumps([call.method, params], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(call.client.principal.digest + text.encode("utf-8", "surrogatepass"))
    return digest.digest()[:16]


@attrs.define(eq=False, kw_only=True)
class SuspendedCalls:
    """All suspended calls of this process."""

    signer: Cell[Signer]
    wall_clock: Callable[[], float]
    addresses: AddressBook
    _calls: dict[str, SuspendedCall] = attrs.field(factory=dict)
    _idle: trio.Event = attrs.field(factory=trio.Event)

    def __len__(self) -> int:
        return len(self._calls)

    # --- a request that may find its call suspended ---

    async def serve(self, request: Call, scope: trio.CancelScope, backend: Backend) -> Outcome:
        """Begin a call that its backend may interrupt with questions, or go on with one, and wait with the client.

        A state that is not ours is for a 2026 backend to judge; no other may run the call for it: the call it once
        belonged to may be running still.

        Raises:
            GatewayError: it could not begin.
        """
        retried = "requestState" in request.message.params
        call = self._resumed(request) if retried else None
        if call is None and backend.era_for(request.caller).modern:  # which asks in its answer
            return await request.carry(scope, backend)
        if call is None and retried:
            return refused(request.message.id_raw, request.client.era, INVALID_PARAMS, STATE_REFUSED)
        return await self._waited(request, scope, backend, call)

    async def _waited(
        self, request: Call, scope: trio.CancelScope, backend: Backend, call: SuspendedCall | None
    ) -> Outcome:
        settled = False
        request.deadline.start(scope)
        try:
            if call is None:
                backend.check_open()
                request.suspended = call = await self._begun(request, backend)
            else:
                request.suspended = call
                responses = splice.value_at(request.message.raw, ("params", "inputResponses"))
                await self.addresses.deliver(self._address(call), InputResponses(responses or b"{}"))
            request.deadline.scope, scope.deadline = None, math.inf  # from here on the call's own deadline counts
            outcome = await call.settled()
            settled = True
        finally:
            if call is not None and not settled:
                self.forget(call)
                call.cut(request.cause or Cause.DISCONNECT)
        assert call is not None  # or nothing could have been waited for
        if outcome is not None:
            self.forget(call)
            return outcome
        call.detach()
        interim = stamped(call.input_required(self.seal(call, request.client.realm)), request.calls.server_info)
        return Outcome(body=jsonrpc.render_result(request.message.id_raw, interim), label="input_required")

    def _resumed(self, request: Call) -> SuspendedCall | None:
        """The call that the client comes back to; None when it must not."""
        params = request.message.params
        if not isinstance(params.get("inputResponses", {}), dict):
            return None
        call = self.open(params.get("requestState"), request.client.realm, binding_of(request))
        if call is not None:
            call.attach(request)
        return call

    async def _begun(self, request: Call, backend: Backend) -> SuspendedCall:
        """Open the call's link while its client waits, then start it where it may outlive this request."""
        if not backend.pipe:  # a process for each call would cost too much
            request.caller = backend.bays.take(request.caller)
        started = False
        try:
            await backend.link_for(request.caller)
            call = SuspendedCall.of(request, backend)
            self.admit(call)
            try:
                backend.start_in_session(call.caller, f"suspended:{call.method}", lambda: self._carry(call))
            except GatewayError:
                self.forget(call)
                raise
            started = True
            return call
        finally:
            if not started:
                backend.bays.leave(request.caller)

    async def _carry(self, call: SuspendedCall) -> None:
        """The task of an admitted call. Nobody comes back for one that the drain cuts."""
        try:
            await call.live()
        finally:
            if call.cause is Cause.DRAIN:
                self.forget(call)

    # --- which there are ---

    def admit(self, call: SuspendedCall) -> None:
        """Remember a call.

        Raises:
            Overload: too many are suspended.
        """
        self.prune()
        if len(self._calls) >= MAX_SUSPENDED:
            raise Overload(bound="parked calls", limit=MAX_SUSPENDED)
        self._calls[call.state_id] = call
        self.addresses.claim(self._address(call).name, call.answer)

    def _address(self, call: SuspendedCall) -> Address:
        return Address(self.addresses.owner, f"call:{call.state_id}")

    def forget(self, call: SuspendedCall) -> None:
        """The call's outcome has been given to its client, or never will be."""
        self._calls.pop(call.state_id, None)
        self.addresses.release(self._address(call).name)
        if not self._calls:
            self._idle.set()
            self._idle = trio.Event()

    def cut_all(self, cause: Cause) -> int:
        """Cancel the calls that wait for their client; those with a request under way end with it. How many."""
        waiting = [call for call in self._calls.values() if not call.attached]
        for call in waiting:
            call.cut(cause)
            if call.outcome is not None:
                self.forget(call)
        return len(waiting)

    async def idle(self) -> None:
        """Wait until no call is suspended."""
        while self._calls:
            await self._idle.wait()

    def prune(self) -> None:
        """Drop outcomes that nobody fetched within ``timeouts.input``."""
        now = trio.current_time()
        for call in list(self._calls.values()):
            if call.outcome is not None and not call.attached and now > call.left_at + call.deadline.timeouts.input_s:
                self.forget(call)

    def seal(self, call: SuspendedCall, gateway: str) -> str:
        """The state for the next round; earlier ones are void from now on."""
        call.round += 1
        expires = int(self.wall_clock() + call.deadline.timeouts.input_s)
        payload: JsonObject = {"p": call.state_id, "r": call.round, "e": expires, "b": call.binding.hex()}
        if self.addresses.owner:
            payload["o"] = self.addresses.owner
        return self.signer.value.seal(Purpose.REQUEST_STATE, gateway, json_text.dumps(payload))

    def knows(self, state: object, gateway: str) -> bool:
        """Whether a state is one of ours that names a call parked here, good or used."""
        return self._read(state, gateway).get("p") in self._calls

    def open(self, state: object, gateway: str, binding: bytes) -> SuspendedCall | None:
        """The call a state stands for; None for anything tampered with, used, foreign or expired."""
        payload = self._read(state, gateway)
        if payload.get("b") != binding.hex():
            return None
        expires, park_id = payload.get("e"), payload.get("p")
        if not isinstance(expires, int) or expires < self.wall_clock() or not isinstance(park_id, str):
            return None
        call = self._calls.get(park_id)
        if call is None or payload.get("r") != call.round or call.attached:
            return None
        call.round += 1
        return call

    def _read(self, state: object, gateway: str) -> JsonObject:
        """What a state says; nothing if it is not one of ours."""
        sealed = self.signer.value.open(Purpose.REQUEST_STATE, gateway, state) if isinstance(state, str) else None
        payload = json_text.parse(sealed) if sealed is not None else None
        if not isinstance(payload, dict) or payload.get("o", "") != self.addresses.owner:
            return {}
        return payload
