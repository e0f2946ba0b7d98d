"""What a 2026 backend wants to know within a call, asked of a 2025 client.

Owns the rounds: every ``inputRequest`` as a real request on the originating stream,
the wait for all the answers, which come on POSTs of their own, and the retry.
Deliberately judges no question (``input_required``). Invariant: a round gives every
answer, or the call is over and takes back what is still open.

Spec: MCP 2026-07-28 basic/patterns/mrtr; docs/protocol.md.
"""

import itertools
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs
import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.transports.base import Answer
from mcp_gateway.errors import BackendProtocol, Executed, Overload, RemoteFault
from mcp_gateway.gateway.call import input_required, translation
from mcp_gateway.gateway.call.input_required import InputRequired, Question
from mcp_gateway.gateway.call.outcome import Outcome, error_response, refused
from mcp_gateway.gateway.inbound import InboundHandler, for_call
from mcp_gateway.gateway.server_requests import OnAnswer
from mcp_gateway.protocol import jsonrpc, splice, translate
from mcp_gateway.protocol.eras import Era
from mcp_gateway.protocol.splice import Edits, Remove
from mcp_gateway.protocol.wire_errors import INTERNAL, METHOD_NOT_FOUND

if TYPE_CHECKING:
    from mcp_gateway.gateway.call.call import Call

MAX_ROUNDS: Final = 10
"""How often a 2026 backend may ask for more input within one call (as both SDKs)."""
FIRST_PAUSE_S: Final = 0.05
LAST_PAUSE_S: Final = 0.25
"""Pauses before a retry that carries only requestState."""


async def go_on(call: "Call", backend: Backend, era: Era, answer: Answer) -> Outcome:
    """Carry a call on from an answer of a 2026 backend that may be interim.

    Raises:
        BackendError: the backend could not do its part.
    """
    pause_s = FIRST_PAUSE_S
    for number in itertools.count(1):
        asked = _asked(call, era, answer)
        undeclared = None if asked is None else asked.undeclared(call.client.capabilities)
        if undeclared is not None:
            return translation.may_not_be_asked(call, undeclared.method, undeclared.value)
        if asked is None or call.client.era.modern:  # a 2026 client comes back by itself
            return await call.outcome_of(answer, era)
        if number == MAX_ROUNDS:
            break
        extra: Edits = {}
        if asked.questions:
            answers = await _put(call, asked)
            if isinstance(answers, Outcome):
                return answers
            extra = {"inputResponses": answers}
        else:
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, LAST_PAUSE_S)
        extra = {**extra, "requestState": asked.state} if asked.state is not None else extra
        answer, era = await call.exchange(backend, extra)
    why = f"asked for input {MAX_ROUNDS} times in a row"
    raise BackendProtocol(backend=backend.key, executed=Executed.UNKNOWN, why=why)


def _asked(call: "Call", era: Era, answer: Answer) -> InputRequired | None:
    """What a 2026 backend wants to know; None when the answer is final."""
    if not era.modern:
        return None
    try:
        parts = answer.parts
        interim = not parts.is_error and translation.wants_input(call.method, parts.result)
        return input_required.read(parts.result) if interim else None
    except RemoteFault as fault:
        raise translation.broken(call, Executed.UNKNOWN, fault) from fault


async def _put(call: "Call", asked: InputRequired) -> bytes | Outcome:
    """Ask a 2025 client; its answers, or how the call ends without them."""
    if call.inbound is None:
        call.inbound = for_call(call)
    try:
        return await InputRound(call=call, inbound=call.inbound, questions=asked.questions).ask()
    except RemoteFault as fault:
        raise translation.broken(call, Executed.UNKNOWN, fault) from fault


@attrs.define(eq=False, kw_only=True)
class InputRound:
    """Asks a 2025 client everything a 2026 backend wants to know, all at once."""

    call: "Call"
    inbound: InboundHandler
    questions: Mapping[str, Question]
    _answers: dict[str | int, "bytes | Remove | Edits"] = attrs.field(factory=dict, init=False)
    _failure: bytes | None = attrs.field(default=None, init=False)
    _progress: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def ask(self) -> bytes | Outcome:
        """The inputResponses object, or the outcome when the client cannot or will not answer."""
        try:
            for key, question in self.questions.items():
                why = await self._ask(key, question)
                if why is not None:
                    return self._refused(METHOD_NOT_FOUND, why)
        except Overload as full:
            return self._refused(INTERNAL, str(full))
        while len(self._answers) < len(self.questions) and self._failure is None:
            await self._progress.wait()
        if self._failure is not None:
            return Outcome(body=error_response(self.call.message.id_raw, self._failure), label="error")
        return splice.rewrite(b"{}", self._answers)

    async def _ask(self, key: str, question: Question) -> str | None:
        uris = self.call.target.uri_map
        params = translate.server_request_params(
            question.method,
            question.params,
            client=self.call.client.era,
            elicitation_id=secrets.token_hex(8),
            uri_map=uris.out if uris is not None else None,
        )
        return await self.inbound.put(
            lambda own: jsonrpc.render_request(own, question.method, params), self._collector(key, question.method)
        )

    def _collector(self, key: str, method: str) -> OnAnswer:
        uris = self.call.target.uri_map

        async def on_answer(response: jsonrpc.RpcResponse) -> None:
            if not response.is_error:
                given = splice.value_at(response.raw, ("result",)) or b"{}"
                self._answers[key] = translate.answer(given, uri_back=uris.restored if uris is not None else None)
            elif method == "elicitation/create":
                # There is no error form in inputResponses; "cancel" is what an elicitation has for it.
                self._answers[key] = b'{"action":"cancel"}'
            else:
                self._failure = splice.value_at(response.raw, ("error",))
            progress, self._progress = self._progress, trio.Event()
            progress.set()

        return on_answer

    def _refused(self, code: int, why: str) -> Outcome:
        return refused(self.call.message.id_raw, self.call.client.era, code, why)
