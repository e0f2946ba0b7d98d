"""What a 2026 backend wants to know, asked of a 2025 client.

Owns one round: every ``inputRequest`` as a real request on the originating
stream, and the wait for all the answers, which come on POSTs of their own.
Deliberately sends nothing upstream. Invariant: when a round ends, none of its
questions is open any more and the call's clock runs again.

Spec: MCP 2026-07-28 basic/patterns/mrtr; reference section 2 (b).
"""

import secrets
from collections.abc import Mapping

import attrs
import trio

from mcp_gateway.errors import Overload
from mcp_gateway.gateway.ear import Ear
from mcp_gateway.gateway.errand import Outcome, error_response
from mcp_gateway.gateway.server_requests import OnAnswer, allowed
from mcp_gateway.protocol import jsonrpc, splice, translate
from mcp_gateway.protocol.splice import Edits, Remove
from mcp_gateway.protocol.wire_errors import INTERNAL, METHOD_NOT_FOUND
from mcp_gateway.values import JsonObject


@attrs.define(eq=False, kw_only=True)
class Questionnaire:
    """Asks a 2025 client everything a 2026 backend wants to know, all at once."""

    ear: Ear
    requests: Mapping[str, bytes]
    """Raw, by the backend's own keys."""
    _answers: dict[str | int, "bytes | Remove | Edits"] = attrs.field(factory=dict, init=False)
    _failure: bytes | None = attrs.field(default=None, init=False)
    _progress: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def ask(self) -> bytes | Outcome:
        """The inputResponses object, or the outcome when the client cannot or will not answer."""
        asked: list[str] = []
        session = self.ear.session
        assert session is not None  # only 2025 clients are asked in this way, and they have one
        try:
            for key, request in self.requests.items():
                method, params = _read_request(request)
                if not allowed(method, params, self.ear.errand.capabilities):
                    return self._refused(METHOD_NOT_FOUND, f"the client cannot do {method}")
                raw = self._params(method, request)
                question = session.questions.ask(self._collector(key, method))
                asked.append(question)
                message = jsonrpc.render_request(jsonrpc.dumps(question), method, raw)
                self.ear.clock.pause()
                if not await self.ear.tell(message):
                    return self._refused(METHOD_NOT_FOUND, "the client has no stream to be asked on")
            while len(self._answers) < len(self.requests) and self._failure is None:
                await self._progress.wait()
        except Overload as full:
            return self._refused(INTERNAL, str(full))
        finally:
            for question in asked:
                if session.questions.forget(question):
                    self.ear.clock.resume()
        if self._failure is not None:
            body = error_response(self.ear.errand.message.id_raw, self._failure)
            return Outcome(status=200, body=body, label="error")
        return splice.rewrite(b"{}", self._answers)

    def _params(self, method: str, request: bytes) -> bytes:
        params = splice.value_at(request, ("params",))
        return translate.server_request_params(
            method,
            params if params is not None and params.startswith(b"{") else None,
            client=self.ear.errand.client,
            elicitation_id=secrets.token_hex(8),
            uri_map=self.ear.errand.uri_out,
        )

    def _collector(self, key: str, method: str) -> OnAnswer:
        async def on_answer(response: jsonrpc.RpcResponse) -> None:
            self.ear.clock.resume()
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


def _read_request(raw: bytes) -> tuple[str, JsonObject]:
    """Method and params of one bare request object; anything else is asked for nothing."""
    request = jsonrpc.parse(raw)
    if not isinstance(request, dict):
        return "", {}
    method, params = request.get("method"), request.get("params")
    return method if isinstance(method, str) else "", params if isinstance(params, dict) else {}
