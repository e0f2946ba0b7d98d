"""The server face for 2026 clients: every request stands alone.

Owns what each valid modern request means. Deliberately keeps nothing between
requests but parked calls (``parking``): in a drain the retry of one is served, every
other request is new and refused. Invariant: a client that closes its
response stream has cancelled (MCP 2026-07-28 basic/patterns/cancellation).

Spec: MCP 2026-07-28; reference 1.2, 1.5 and 1.9.
"""

from typing import Final, assert_never

import attrs

from mcp_gateway.backends.backend import Caller
from mcp_gateway.backends.transports.base import ClientIdentity
from mcp_gateway.errors import Overload
from mcp_gateway.gateway.calls import Call, Cause
from mcp_gateway.gateway.core import Core, Place
from mcp_gateway.gateway.entrance import Request, Watched
from mcp_gateway.gateway.errand import Errand, Outcome, agreed
from mcp_gateway.gateway.http_answers import accepted, refusal, refuse, turn_away
from mcp_gateway.gateway.listen import Listening
from mcp_gateway.gateway.outlet import Outlet
from mcp_gateway.gateway.own_answers import Invalid
from mcp_gateway.gateway.relay import status_for
from mcp_gateway.gateway.runner import failure
from mcp_gateway.gateway.tasks import TaskNames, modern_owner
from mcp_gateway.protocol import headers as mcp_headers
from mcp_gateway.protocol import jsonrpc, methods, tasks, translate
from mcp_gateway.protocol.capabilities import granted
from mcp_gateway.protocol.envelope import ModernCall, Rejection, climb, must_be_request
from mcp_gateway.protocol.extensions import declared
from mcp_gateway.protocol.wire_errors import HEADER_MISMATCH, MISSING_CAPABILITY
from mcp_gateway.routing.decide import Answer, Forward, ListOf, Own, Refuse, decide
from mcp_gateway.routing.needs import met, required
from mcp_gateway.sessions.task_ids import TaskRef
from mcp_gateway.telemetry.trace import note_trace
from mcp_gateway.values import BackendKey, JsonObject, JsonValue


def lacks_tasks(modern: ModernCall) -> Rejection | None:
    """A listener that wants to hear of tasks must have them (SEP-2663); it hears of none, as a server may choose."""
    wanted = modern.message.params.get("notifications")
    asks = isinstance(wanted, dict) and "taskIds" in wanted
    if not asks or tasks.EXTENSION in declared(modern.capabilities_value):
        return None
    text, id_raw = "the client lacks the tasks extension", modern.message.id_raw
    return Rejection(status=400, code=MISSING_CAPABILITY, message=text, data=tasks.REQUIRED, id_raw=id_raw)


NO_STREAM: Final = refusal(406, "the answer is a stream: Accept must allow text/event-stream")


@attrs.define(eq=False, kw_only=True)
class ModernFace:
    """Serves modern requests."""

    core: Core
    listening: Listening

    async def take(self, request: Request, reply: Watched, place: Place, message: jsonrpc.RpcMessage) -> None:
        """Serve one POST of the modern era."""
        rejection = must_be_request(message)
        if rejection is not None:
            await refuse(reply, rejection)
            return
        if not isinstance(message, jsonrpc.RpcRequest):
            # No client notification is defined over HTTP in this revision (T7): accepted and dropped.
            await reply.whole(202, (), b"")
            return
        note_trace(message.params)
        climbed = climb(message, request.headers)
        if isinstance(climbed, Rejection):
            self.core.runner.ledger.answered(Call(method=message.method, scope=request.scope), "refused")
            await refuse(reply, climbed)
            return
        await self._request(request, reply, place, climbed)

    async def _request(self, request: Request, reply: Watched, place: Place, modern: ModernCall) -> None:
        message = modern.message
        keep_alive_s = self.core.spec.value.http.keep_alive_s
        outlet = Outlet(reply=reply, era=modern.era, accepts=accepted(request), keep_alive_s=keep_alive_s)
        call, ledger = Call(method=message.method, scope=request.scope), self.core.runner.ledger
        if self.core.draining() and not self.core.runner.parking.knows(message.params.get("requestState"), place.realm):
            ledger.answered(call, "draining", era=modern.era)
            await turn_away(reply, message.id_raw)
            return
        if message.method == "subscriptions/listen":
            lacking = lacks_tasks(modern)
            if lacking is not None:
                ledger.answered(call, "refused", era=modern.era)
                await refuse(reply, lacking)
                return
            if outlet.accepts.sse:
                await self.listening.serve(reply, place, modern, self._caller(request, modern))
            else:
                await refuse(reply, attrs.evolve(NO_STREAM, id_raw=message.id_raw))
            ledger.answered(call, "ok" if outlet.accepts.sse else "refused", era=modern.era)
            return

        def gone() -> None:
            outlet.leave()
            call.cancel(Cause.DISCONNECT)

        reply.on_gone(gone)
        outcome = await self._outcome(request, place, modern, call, outlet)
        ledger.answered(call, outcome.label, era=modern.era, size=len(outcome.body))
        await outlet.finish(outcome.status, outcome.body)

    async def _outcome(self, request: Request, place: Place, modern: ModernCall, call: Call, outlet: Outlet) -> Outcome:
        message = modern.message
        task = self._task(request, place, message) if "taskId" in message.params else None
        decision = decide(message.method, message.params, place.view, modern.era, modern.capabilities_value, task)
        match decision:
            case Answer():
                return self._result(message, self.core.runner.relay.stamped_complete(decision.result))
            case ListOf():
                answer = self.core.own.listed(decision, modern.era, place.view, place.realm)
                if isinstance(answer, Invalid):
                    return self._error(modern, answer.code, answer.message)
                return self._result(message, answer)
            case Own():
                return self._result(message, self.core.own.discovered(modern.era, place.view))
            case Refuse():
                body = jsonrpc.render_error(message.id_raw, decision.code, decision.message, decision.data)
                return Outcome(status=status_for(modern.era, decision.code), body=body, label="refused")
            case Forward():
                return await self._forward(request, place, modern, call, outlet, decision)
            case _:
                assert_never(decision)

    async def _forward(
        self,
        request: Request,
        place: Place,
        modern: ModernCall,
        call: Call,
        outlet: Outlet,
        decision: Forward,
    ) -> Outcome:
        message = modern.message
        try:
            arguments = message.params.get("arguments")
            mcp_headers.check_mirrored(decision.target.headers, arguments, request.headers)
        except mcp_headers.HeaderFault as fault:
            return self._error(modern, HEADER_MISMATCH, str(fault))
        needs = decision.target.needs
        if needs and not met(needs, granted(modern.capabilities_value)):
            # Its list shows what nobody could use without it; the server itself is not asked (reference 1.2, T24).
            lacking: JsonObject = {"requiredCapabilities": required(needs)}
            return self._error(modern, MISSING_CAPABILITY, "the client lacks a capability that this needs", lacking)
        caller, key = self._caller(request, modern), decision.target.backend
        both = agreed(modern.capabilities_value, place.view, key)
        # A server that is not heard yet may know a task still: there is one that this client has.
        has_tasks = tasks.EXTENSION in both or message.method in methods.EXTENSION_TASKS
        errand = Errand(
            message=message,
            client=modern.era,
            caller=caller,
            target=decision.target,
            edits=decision.edits,
            capabilities=modern.capabilities_value,
            extensions=both,
            tasks=self._names(request, place, key, caller) if has_tasks else None,
            log_level=modern.log_level,
            headers=request.headers,
        )
        try:
            return await self.core.runner.run(errand, call, outlet, None, place.realm)
        except Overload as full:
            outcome = failure(message.id_raw, full, None)
            outlet.headers = ((b"retry-after", b"1"),)
            return attrs.evolve(outcome, status=503)

    def _task(self, request: Request, place: Place, message: jsonrpc.RpcRequest) -> TaskRef | None:
        return self.core.tasks.read(message.params, modern_owner(place.realm, request.principal))

    def _names(self, request: Request, place: Place, key: BackendKey, caller: Caller) -> TaskNames:
        """What the client and a server call the client's tasks."""
        owner = modern_owner(place.realm, request.principal)
        return TaskNames(tasks=self.core.tasks, owner=owner, server=key, caller=caller)

    def _caller(self, request: Request, modern: ModernCall) -> Caller:
        """Whose upstream session a request uses at a 2025 backend."""
        capabilities = translate.client_capabilities(modern.capabilities, modern=True)
        identity = ClientIdentity(capabilities=capabilities, info=modern.client_info)
        return Caller(principal=request.principal, identity=identity)

    def _result(self, message: jsonrpc.RpcRequest, result: bytes) -> Outcome:
        return Outcome(status=200, body=jsonrpc.render_result(message.id_raw, result))

    def _error(self, modern: ModernCall, code: int, text: str, data: JsonValue = None) -> Outcome:
        body = jsonrpc.render_error(modern.message.id_raw, code, text, data)
        return Outcome(status=status_for(modern.era, code), body=body, label="refused")
