"""What a 2026 backend wants to know, asked of a 2025 client.

Owns one round: every ``inputRequest`` as a real request on the originating
stream, and the wait for all the answers, which come on POSTs of their own.
Deliberately sends nothing upstream and judges no question (``input_required``).
Invariant: a round gives every answer, or the call is over and its ear takes back
what is still open.

Spec: MCP 2026-07-28 basic/patterns/mrtr; reference section 2 (b).
"""

import secrets
from collections.abc import Mapping

import attrs
import trio

from mcp_gateway.errors import Overload
from mcp_gateway.gateway.ear import NO_STREAM, Ear
from mcp_gateway.gateway.errand import Outcome, error_response
from mcp_gateway.gateway.input_required import Question
from mcp_gateway.gateway.server_requests import OnAnswer
from mcp_gateway.protocol import jsonrpc, splice, translate
from mcp_gateway.protocol.splice import Edits, Remove
from mcp_gateway.protocol.wire_errors import INTERNAL, METHOD_NOT_FOUND


@attrs.define(eq=False, kw_only=True)
class Questionnaire:
    """Asks a 2025 client everything a 2026 backend wants to know, all at once."""

    ear: Ear
    questions: Mapping[str, Question]
    _answers: dict[str | int, "bytes | Remove | Edits"] = attrs.field(factory=dict, init=False)
    _failure: bytes | None = attrs.field(default=None, init=False)
    _progress: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def ask(self) -> bytes | Outcome:
        """The inputResponses object, or the outcome when the client cannot or will not answer."""
        try:
            for key, question in self.questions.items():
                if not await self._ask(key, question):
                    return self._refused(METHOD_NOT_FOUND, NO_STREAM)
        except Overload as full:
            return self._refused(INTERNAL, str(full))
        while len(self._answers) < len(self.questions) and self._failure is None:
            await self._progress.wait()
        if self._failure is not None:
            body = error_response(self.ear.errand.message.id_raw, self._failure)
            return Outcome(status=200, body=body, label="error")
        return splice.rewrite(b"{}", self._answers)

    async def _ask(self, key: str, question: Question) -> bool:
        errand = self.ear.errand
        params = translate.server_request_params(
            question.method,
            question.params,
            client=errand.client,
            elicitation_id=secrets.token_hex(8),
            uri_map=errand.uri_out,
        )
        return await self.ear.ask(
            lambda own: jsonrpc.render_request(own, question.method, params), self._collector(key, question.method)
        )

    def _collector(self, key: str, method: str) -> OnAnswer:
        async def on_answer(response: jsonrpc.RpcResponse) -> None:
            if not response.is_error:
                given = splice.value_at(response.raw, ("result",)) or b"{}"
                self._answers[key] = translate.answer(given, uri_back=self.ear.errand.uri_back)
            elif method == "elicitation/create":
                # There is no error form in inputResponses; "cancel" is what an elicitation has for it.
                self._answers[key] = b'{"action":"cancel"}'
            else:
                self._failure = splice.value_at(response.raw, ("error",))
            progress, self._progress = self._progress, trio.Event()
            progress.set()

        return on_answer

    def _refused(self, code: int, why: str) -> Outcome:
        body = jsonrpc.render_error(self.ear.errand.message.id_raw, code, why)
        return Outcome(status=200, body=body, label="refused")
