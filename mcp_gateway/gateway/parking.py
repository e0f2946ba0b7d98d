"""Calls that wait for a 2026 client: parked between ``input_required`` and its retry.

Owns the call task in the upstream session's nursery, the questions its 2025
backend has asked, and the ``requestState`` that finds it again. Deliberately
knows no HTTP. Invariants: a state is accepted once, only for the principal,
method and arguments it was made for, and only before it expires; a call that
nobody comes back for is cancelled and its questions are answered.

Spec: MCP 2026-07-28 basic/patterns/mrtr; reference section 2 (a); design section 8.
"""

import hashlib
import json
import logging
import secrets
from collections.abc import Callable
from typing import Final

import attrs
import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.transports.base import GOODBYE_S, Inbound, Respond
from mcp_gateway.cell import Cell
from mcp_gateway.errors import GatewayError, Overload
from mcp_gateway.gateway.calls import Call, CallClock, Cause, why_ended
from mcp_gateway.gateway.ear import CANCELLED, Ear, refuse, say
from mcp_gateway.gateway.errand import Errand, Outcome
from mcp_gateway.gateway.ledger import Ledger
from mcp_gateway.gateway.outlet import Outlet
from mcp_gateway.gateway.relay import Relay
from mcp_gateway.gateway.server_requests import CAPABILITY, allowed
from mcp_gateway.protocol import json_text, jsonrpc, splice, translate
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.protocol.wire_errors import INVALID_PARAMS
from mcp_gateway.sessions.signed import Purpose, Signer
from mcp_gateway.values import JsonObject

logger = logging.getLogger(__name__)

GATHER_S: Final = 0.03
"""How long further questions may follow the first before the client is answered."""
MAX_PARKED: Final = 1000
"""Parked calls per process; above that new ones are refused."""
MAX_QUESTIONS: Final = 64
USER_REJECTED: Final = -1
"""What a backend is told when nobody answers its sampling or roots request."""


@attrs.frozen(kw_only=True)
class _Question:
    """What a backend wants to know."""

    method: str
    id_raw: bytes
    request: bytes
    """As the client gets it: one value of ``inputRequests``."""
    respond: Respond


@attrs.define(eq=False, kw_only=True)
class ParkedCall:
    """One call to a 2025 backend on behalf of a 2026 client that can be asked things."""

    park_id: str
    errand: Errand
    backend: Backend
    relay: Relay
    clock: CallClock
    call: Call
    ear: Ear
    binding: bytes
    """Digest of principal, method and arguments."""
    ledger: Ledger
    round: int = 0
    attached: bool = True
    """Whether a request of the client waits for this call right now."""
    left_at: float = 0.0
    outcome: Outcome | GatewayError | None = None
    _questions: "dict[str, _Question]" = attrs.field(factory=dict)
    _next: int = 1
    _answered: bytes = b""
    """The request id the outcome is written for; a later retry needs its own in it."""
    _event: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        """The upstream call; lives in the upstream session's nursery."""
        try:
            with self.call.scope:
                self.clock.start()
                answer, era = await self.relay.fetch(self.errand, self.backend, self.hear, self.clock)
                errand = self.errand  # a retry may bring another while the answer is reshaped
                self.outcome = await self.relay.outcome(errand, era, answer)
                self._answered = errand.message.id_raw
        except GatewayError as error:
            self.ledger.failed(error, self.backend.key)
            self.outcome = error
        finally:
            self.ledger.placed(self.clock, self.backend.key)
            if self.outcome is None:
                self.outcome = self._cut()
            self._signal()
            try:
                await self._decline()  # noqa: ASYNC102  # has a bounded shield of its own
            finally:
                self.backend.bays.leave(self.errand.caller)

    def _cut(self) -> GatewayError:
        if not self.call.scope.cancelled_caught:  # neither the deadline nor the client: the backend ends its calls
            self.call.cause = self.call.cause or Cause.REMOVED
        error = why_ended(self.call, self.clock, self.backend.key)
        self.ledger.failed(error, self.backend.key)
        self.ledger.cut(self.call, error, closes=False)  # only 2025 backends ask, and they get a notice
        return error

    async def hear(self, inbound: Inbound) -> None:
        """Like any call's ear, but a question waits here for the client's retry."""
        if inbound.method == CANCELLED:
            self._withdraw(splice.value_at(inbound.raw, ("params", "requestId")))
        elif inbound.id_raw is None or inbound.method not in CAPABILITY:
            await self.ear.hear(inbound)
        elif not allowed(inbound.method, inbound.params, self.errand.capabilities) or (
            len(self._questions) >= MAX_QUESTIONS
        ):
            await refuse(inbound, f"the client cannot do {inbound.method}")
        else:
            self._questions[f"k{self._next}"] = self._question(inbound, inbound.id_raw)
            self._next += 1
            self.clock.pause()
            self._signal()

    def _question(self, inbound: Inbound, id_raw: bytes) -> "_Question":
        params = splice.value_at(inbound.raw, ("params",))
        request = translate.input_request(inbound.method, params, uri_map=self.errand.uri_out)
        return _Question(method=inbound.method, id_raw=id_raw, request=request, respond=inbound.respond)

    def _withdraw(self, id_raw: bytes | None) -> None:
        """The backend no longer wants to know."""
        key = next((key for key, question in self._questions.items() if question.id_raw == id_raw), None)
        if key is not None:
            del self._questions[key]
            self.clock.resume()

    def attach(self, errand: Errand, outlet: Outlet) -> None:
        """The client came back with a new request: what happens next is for that one.

        What goes upstream stays on the link where the call runs, whatever this request says of its client.
        """
        errand = self.errand = attrs.evolve(errand, caller=self.errand.caller)
        self.attached = True
        self.ear = Ear(errand=errand, backend=self.backend, outlet=outlet, clock=self.clock, session=None)

    def detach(self) -> None:
        """The request was answered with ``input_required``; nobody listens until the retry."""
        self.attached = False
        self.left_at = trio.current_time()

    async def settled(self) -> Outcome | GatewayError | None:
        """Wait for the outcome (returned) or for a question (None)."""
        while self.outcome is None:
            if self._questions:
                await trio.sleep(GATHER_S)
                if self._questions:  # not withdrawn meanwhile
                    break
            else:
                await self._event.wait()
        id_raw = self.errand.message.id_raw
        if isinstance(self.outcome, Outcome) and self._answered != id_raw:
            return attrs.evolve(self.outcome, body=splice.rewrite(self.outcome.body, {"id": id_raw}))
        return self.outcome

    def input_required(self, state: str) -> bytes:
        """The interim result: every open question, and the state that finds this call again."""
        requests: Edits = {key: question.request for key, question in self._questions.items()}
        result = splice.rewrite(b'{"resultType":"input_required"}', {"inputRequests": splice.rewrite(b"{}", requests)})
        return splice.rewrite(result, {"requestState": json_text.dumps(state)})

    async def answer(self, raw_responses: bytes) -> None:
        """Give the backend what the client answered; unknown keys are ignored.

        What is missing, or no object and so no result of anything, stays open and is asked for again.
        """
        for member in splice.members(raw_responses):
            raw = raw_responses[member.value_start : member.value_end]
            question = self._questions.pop(member.key, None) if raw.startswith(b"{") else None
            if question is None:
                continue
            self.clock.resume()
            answer = translate.answer(raw, uri_back=self.errand.uri_back)
            await say(question.respond, jsonrpc.render_result(question.id_raw, answer))

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


def binding_of(errand: Errand) -> bytes:
    """What a state is bound to: principal, method, and the params without what a retry adds."""
    params = {key: value for key, value in errand.message.params.items() if key not in _RETRY_MEMBERS}
    text = json.dumps([errand.method, params], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(errand.caller.principal.digest + text.encode("utf-8", "surrogatepass"))
    return digest.digest()[:16]


_RETRY_MEMBERS: Final = frozenset({"_meta", "inputResponses", "requestState"})


@attrs.define(eq=False, kw_only=True)
class Parking:
    """All parked calls of this process."""

    signer: Cell[Signer]
    wall_clock: Callable[[], float]
    _parked: dict[str, ParkedCall] = attrs.field(factory=dict)
    _idle: trio.Event = attrs.field(factory=trio.Event)

    def __len__(self) -> int:
        return len(self._parked)

    def admit(self, call: ParkedCall) -> None:
        """Remember a call.

        Raises:
            Overload: too many are parked.
        """
        self.prune()
        if len(self._parked) >= MAX_PARKED:
            raise Overload(bound="parked calls", limit=MAX_PARKED)
        self._parked[call.park_id] = call

    def forget(self, call: ParkedCall) -> None:
        """The call's outcome has been given to its client, or never will be."""
        self._parked.pop(call.park_id, None)
        if not self._parked:
            self._idle.set()
            self._idle = trio.Event()

    async def carry(self, call: ParkedCall) -> None:
        """The task of an admitted call. Nobody comes back for one that the drain cuts."""
        try:
            await call.run()
        finally:
            if call.call.cause is Cause.DRAIN:
                self.forget(call)

    def cancel_all(self, cause: Cause) -> int:
        """Cancel the calls that wait for their client; those with a request under way end with it. How many."""
        waiting = [call for call in self._parked.values() if not call.attached]
        for call in waiting:
            call.call.cancel(cause)
            if call.outcome is not None:
                self.forget(call)
        return len(waiting)

    async def idle(self) -> None:
        """Wait until no call is parked."""
        while self._parked:
            await self._idle.wait()

    def prune(self) -> None:
        """Drop outcomes that nobody fetched within ``timeouts.input``."""
        now = trio.current_time()
        for call in list(self._parked.values()):
            if call.outcome is not None and not call.attached and now > call.left_at + call.clock.timeouts.input_s:
                self.forget(call)

    def seal(self, call: ParkedCall, gateway: str) -> str:
        """The state for the next round; earlier ones are void from now on."""
        call.round += 1
        expires = int(self.wall_clock() + call.clock.timeouts.input_s)
        payload: JsonObject = {"p": call.park_id, "r": call.round, "e": expires, "b": call.binding.hex()}
        return self.signer.value.seal(Purpose.REQUEST_STATE, gateway, json_text.dumps(payload))

    def knows(self, state: object, gateway: str) -> bool:
        """Whether a state is one of ours that names a call parked here, good or used."""
        return self._read(state, gateway).get("p") in self._parked

    def open(self, state: object, gateway: str, binding: bytes) -> ParkedCall | None:
        """The call a state stands for; None for anything tampered with, used, foreign or expired."""
        payload = self._read(state, gateway)
        if payload.get("b") != binding.hex():
            return None
        expires, park_id = payload.get("e"), payload.get("p")
        if not isinstance(expires, int) or expires < self.wall_clock() or not isinstance(park_id, str):
            return None
        call = self._parked.get(park_id)
        if call is None or payload.get("r") != call.round or call.attached:
            return None
        call.round += 1
        return call

    def _read(self, state: object, gateway: str) -> JsonObject:
        """What a state says; nothing if it is not one of ours."""
        sealed = self.signer.value.open(Purpose.REQUEST_STATE, gateway, state) if isinstance(state, str) else None
        payload = json_text.parse(sealed) if sealed is not None else None
        return payload if isinstance(payload, dict) else {}


def new_park_id() -> str:
    """A name that nobody can guess."""
    return secrets.token_urlsafe(12)


STATE_REFUSED: Final = (
    INVALID_PARAMS,
    "requestState is not valid for this request: it was changed, used or has expired",
)
