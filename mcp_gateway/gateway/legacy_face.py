"""The server face for 2025 clients: one message of one session at a time.

Owns what each request, notification and response of a session means. Deliberately
leaves HTTP verbs to ``dispatch``, streams to ``legacy_stream`` and the call itself
to ``runner``. Invariant: a request gets one answer under its own id; one that its
own client cancelled ends its stream without a response (design, invariant 1).
In a drain requests are refused within the session's era (a 5xx would end its running
calls), but pings, notifications and answers, which running calls need, are served.

Spec: MCP 2024-11-05 .. 2025-11-25, reference 1.4 and 1.5.
"""

import logging
from typing import assert_never

import attrs
import trio

from mcp_gateway.backends.backend import Backend, Caller
from mcp_gateway.backends.transports.base import Inbound
from mcp_gateway.errors import BackendRefused, Draining, GatewayError, Overload
from mcp_gateway.gateway.calls import Call, Cause
from mcp_gateway.gateway.core import Core, Place
from mcp_gateway.gateway.ear import MESSAGE
from mcp_gateway.gateway.entrance import Request, Watched
from mcp_gateway.gateway.errand import Errand, Outcome, agreed
from mcp_gateway.gateway.http_answers import accepted
from mcp_gateway.gateway.outlet import JSON_HEAD, Outlet
from mcp_gateway.gateway.own_answers import Invalid
from mcp_gateway.gateway.runner import failure
from mcp_gateway.gateway.session import Session
from mcp_gateway.gateway.session_ear import SessionEar
from mcp_gateway.gateway.task_list import listed
from mcp_gateway.gateway.tasks import TaskNames, task_owner
from mcp_gateway.protocol import jsonrpc, splice, tasks
from mcp_gateway.protocol.eras import Family
from mcp_gateway.protocol.extensions import declared, is_custom_notification
from mcp_gateway.protocol.wire_errors import INVALID_REQUEST
from mcp_gateway.routing.custom import owner_of
from mcp_gateway.routing.decide import Answer, Forward, ListOf, Own, Refuse, decide
from mcp_gateway.routing.table import Target, View
from mcp_gateway.telemetry.trace import note_trace
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)


@attrs.define(eq=False, kw_only=True)
class LegacyFace:
    """Serves the messages of 2025 sessions."""

    core: Core

    async def take(
        self, request: Request, reply: Watched, place: Place, session: Session, message: jsonrpc.RpcMessage
    ) -> None:
        """Serve one message: a request is answered, everything else gets 202."""
        match message:
            case jsonrpc.RpcRequest():
                await self._request(request, reply, place, session, message)
            case jsonrpc.RpcNotification():
                await self._notification(place, session, message)
                await reply.whole(202, (), b"")
            case jsonrpc.RpcResponse():
                await self._response(session, message)
                await reply.whole(202, (), b"")
            case _:
                assert_never(message)

    async def _request(
        self, request: Request, reply: Watched, place: Place, session: Session, message: jsonrpc.RpcRequest
    ) -> None:
        call = Call(method=message.method, scope=request.scope)
        note_trace(message.params)
        ledger = self.core.runner.ledger
        if message.id in session.calls:
            text = f"request id {message.id!r} is in flight already: ids must be unique within a session"
            ledger.answered(call, "refused", era=session.era, session=session.tag)
            await reply.whole(200, JSON_HEAD, jsonrpc.render_error(message.id_raw, INVALID_REQUEST, text))
            return
        if self.core.draining() and message.method != "ping":
            outcome = failure(message.id_raw, Draining(), None)
            ledger.answered(call, outcome.label, era=session.era, session=session.tag)
            await reply.whole(outcome.status, JSON_HEAD, outcome.body)
            return
        outlet = self._outlet(request, reply, session)
        session.calls[message.id] = call
        if session.ended:  # between the look-up and here: one message of a batch ended it for the others
            call.cancel(Cause.SESSION)
        try:
            outcome = await self._outcome(request, place, session, message, call, outlet)
        finally:
            session.calls.pop(message.id, None)
            session.touch()
        ledger.answered(call, outcome.label, era=session.era, session=session.tag, size=len(outcome.body))
        if call.cause is Cause.MESSAGE and request.scope.cancelled_caught:
            await outlet.abandon(outcome.status, outcome.body)
        else:
            await outlet.finish(outcome.status, outcome.body)

    def _outlet(self, request: Request, reply: Watched, session: Session) -> Outlet:
        accepts = accepted(request)
        replay = session.replay if session.era.resumable and accepts.sse else None
        keep_alive_s = self.core.spec.value.http.keep_alive_s
        outlet = Outlet(reply=reply, era=session.era, accepts=accepts, replay=replay, keep_alive_s=keep_alive_s)
        # "Disconnection SHOULD NOT be interpreted as the client cancelling its request." -- 2025-11-25 transports
        reply.on_gone(outlet.leave)
        return outlet

    async def _outcome(
        self,
        request: Request,
        place: Place,
        session: Session,
        message: jsonrpc.RpcRequest,
        call: Call,
        outlet: Outlet,
    ) -> Outcome:
        view = session.sees(place.view)
        task = self.core.tasks.read(message.params, task_owner(session)) if "taskId" in message.params else None
        decision = decide(message.method, message.params, view, session.era, session.capabilities, task)
        match decision:
            case Answer():
                return self._result(message, decision.result)
            case Refuse():
                body = jsonrpc.render_error(message.id_raw, decision.code, decision.message, decision.data)
                return Outcome(status=200, body=body, label="refused")
            case ListOf():
                return self._list(place.realm, view, session, message, decision)
            case Own():
                return await self._own(view, session, message)
            case Forward() if self._is_subscription(message, decision.target):
                return await self._subscription(session, message, decision.target, outlet)
            case Forward():
                return await self._forward(request, place, view, session, message, call, outlet, decision)
            case _:
                assert_never(decision)

    async def _forward(
        self,
        request: Request,
        place: Place,
        view: View,
        session: Session,
        message: jsonrpc.RpcRequest,
        call: Call,
        outlet: Outlet,
        decision: Forward,
    ) -> Outcome:
        key = decision.target.backend
        caller = self._caller_of(session, message) or self.caller(session)
        has_tasks = not view.lacks(key, tasks.CALLS)
        errand = Errand(
            message=message,
            client=session.era,
            caller=caller,
            target=decision.target,
            edits=decision.edits,
            capabilities=session.capabilities,
            extensions=agreed(session.capabilities, view, key),
            tasks=self._names(session, key) if has_tasks else None,
            log_level=session.log_level,
            headers=request.headers,
        )
        self._join_backend(session, decision.target.backend)
        try:
            return await self.core.runner.run(errand, call, outlet, session, place.realm)
        except Overload as full:
            return failure(message.id_raw, full, None)

    def caller(self, session: Session) -> Caller:
        """Whose upstream session the session's requests use."""
        return Caller(session=session.key, principal=session.principal, identity=session.identity)

    def _caller_of(self, session: Session, message: jsonrpc.RpcRequest) -> Caller | None:
        """Whose upstream session the task that a request is about lives on, as far as the book knows."""
        task_id = message.params.get("taskId")
        known = self.core.tasks.find(task_owner(session), task_id) if isinstance(task_id, str) else None
        return None if known is None else known.caller

    def _names(self, session: Session, key: BackendKey) -> TaskNames | None:
        """What the client and a server call the client's tasks; None: it has none in its revision."""
        if not session.era.tasks:
            return None
        book = self.core.tasks
        return TaskNames(tasks=book, owner=task_owner(session), server=key, caller=self.caller(session))

    def hear_unasked(self, session: Session, backend: Backend) -> None:
        """Let a backend speak on the session's GET stream, which is open."""
        fleet = self.core.runner.fleet
        names = self._names(session, backend.key)
        ear = SessionEar(session=session, fleet=fleet, key=backend.key, names=names)
        backend.set_stream(session.key, ear.hear)

    def _join_backend(self, session: Session, key: BackendKey) -> None:
        """The first request to a backend: from now on it may speak on the session's GET stream."""
        if key in session.backends:
            return
        session.backends.add(key)
        backend = self.core.runner.fleet.get(key)
        if session.listeners and backend is not None:
            self.hear_unasked(session, backend)

    def _list(self, realm: str, view: View, session: Session, message: jsonrpc.RpcRequest, wanted: ListOf) -> Outcome:
        answer = self.core.own.listed(wanted, session.era, view, realm)
        if isinstance(answer, Invalid):
            return self._error(message, answer.code, answer.message)
        session.seen[wanted.kind] = view.fingerprint(wanted.kind)
        return self._result(message, answer)

    async def _own(self, view: View, session: Session, message: jsonrpc.RpcRequest) -> Outcome:
        """``logging/setLevel``, ``tasks/list``, and what ``dispatch`` has kept out of sessions."""
        if message.method == "tasks/list":
            cursor = message.params.get("cursor")
            result = await listed(self.core.tasks, task_owner(session), cursor, view.servers)
            if isinstance(result, Invalid):
                return self._error(message, result.code, result.message)
            return self._result(message, result)
        level = message.params.get("level")
        if message.method != "logging/setLevel" or not isinstance(level, str):
            return self._error(message, INVALID_REQUEST, f"{message.method} must not be sent within a session")
        session.log_level = level
        caller = self.caller(session)
        async with trio.open_nursery() as nursery:
            for backend in self._legacy_backends(session):
                nursery.start_soon(self._tell_level, backend, caller, level)
        return self._result(message, b"{}")

    def _legacy_backends(self, session: Session) -> list[Backend]:
        """Those that this session has an upstream session of the 2025 era with."""
        found = [self.core.runner.fleet.get(BackendKey(key)) for key in session.backends]
        caller = self.caller(session)
        return [backend for backend in found if backend is not None and backend.family_for(caller) is Family.LEGACY]

    async def _tell_first(self, session: Session, key: BackendKey) -> None:
        """What a session's first request to a backend has to tell it: the log level."""
        backend, level = self.core.runner.fleet.get(key), session.log_level
        if backend is not None and level is not None and backend.family_for(self.caller(session)) is Family.LEGACY:
            await self._tell_level(backend, self.caller(session), level)

    async def _tell_level(self, backend: Backend, caller: Caller, level: str) -> None:
        """A backend that this session already uses hears of the new level now, others with their first call."""
        try:
            with trio.move_on_after(backend.spec.timeouts.list_s):
                link = await backend.link_for(caller)
                await self.core.runner.relay.levels.ensure(backend, caller, link, level)
        except GatewayError as gone:
            logger.debug("log level not passed on", extra={"backend": backend.key, "why": str(gone)})

    def _is_subscription(self, message: jsonrpc.RpcRequest, target: Target) -> bool:
        """Whether the hub keeps it; a server that knows no subscriptions answers ``resources/unsubscribe`` itself."""
        if message.method != "resources/unsubscribe":
            return message.method == "resources/subscribe"
        backend = self.core.runner.fleet.get(target.backend)
        return backend is None or not backend.subscriptions.unknown

    async def _subscription(
        self, session: Session, message: jsonrpc.RpcRequest, target: Target, outlet: Outlet
    ) -> Outcome:
        hub, caller, key = self.core.hub, self.caller(session), target.backend
        if message.method == "resources/unsubscribe":
            hub.unsubscribe(session.mailbox, target)
            return self._result(message, b"{}")
        self._join_backend(session, key)

        async def beside(inbound: Inbound) -> bool:
            """A log message that comes before the answer goes with it, as for any call."""
            wanted = inbound.method == MESSAGE and session.wants_log(inbound.params.get("level"))
            return wanted and await outlet.send(inbound.raw)

        try:
            with trio.move_on_after(self.core.runner.timeouts(key).call_s):
                await self._tell_first(session, key)
                await hub.subscribe(session.mailbox, caller, target, beside)
                await hub.in_force(session.mailbox, target)
                return self._result(message, b"{}")
        except BackendRefused as refused:
            return self._refused(message, refused)
        except GatewayError as error:
            return failure(message.id_raw, error, key)
        hub.unsubscribe(session.mailbox, target)
        return failure(message.id_raw, self.core.runner.late(key), key)

    async def _notification(self, place: Place, session: Session, message: jsonrpc.RpcNotification) -> None:
        match message.method:
            case "notifications/cancelled":
                self._cancelled(session, message)
            case "notifications/roots/list_changed":
                await self._pass_on(session, message)
            case "notifications/progress":
                await self._progress(session, message)
            case custom if is_custom_notification(custom):
                await self._custom(session.sees(place.view), session, message)
            case _:  # "notifications/initialized" needs no action; those of other revisions are ignored (JSON-RPC)
                logger.debug("notification", extra={"method": message.method[:64]})

    async def _custom(self, view: View, session: Session, message: jsonrpc.RpcNotification) -> None:
        """To whom a request like it would go, if it is a server of sessions that this one has a session with."""
        owned = owner_of(message.params, view, declared(session.capabilities))
        for backend in self._legacy_backends(session):
            if owned is not None and backend.key == owned[0].backend:
                raw = splice.rewrite(message.raw, {"params": owned[1]}) if owned[1] else message.raw
                await self._pass_to(backend, self.caller(session), raw)

    def _cancelled(self, session: Session, message: jsonrpc.RpcNotification) -> None:
        """Cancel one of this session's own calls; an unknown id is ignored (races are normal)."""
        request_id = message.params.get("requestId")
        if isinstance(request_id, bool) or not isinstance(request_id, str | int):
            return
        call = session.calls.get(request_id)
        # "The initialize request MUST NOT be cancelled by clients" -- it is in no session's calls.
        if call is not None:
            call.cancel(Cause.MESSAGE)

    async def _progress(self, session: Session, message: jsonrpc.RpcNotification) -> None:
        """How far the client is with what it was asked: for the backend that asked, and for no other."""
        try:
            if not await session.questions.progress(message):
                logger.debug("progress with no open question", extra={"session": session.tag})
        except GatewayError as gone:
            logger.debug("progress not passed on", extra={"session": session.tag, "why": str(gone)})

    async def _pass_on(self, session: Session, message: jsonrpc.RpcNotification) -> None:
        """Tell every backend that this session has an upstream session with."""
        caller = self.caller(session)
        async with trio.open_nursery() as nursery:
            for backend in self._legacy_backends(session):
                nursery.start_soon(self._pass_to, backend, caller, message.raw)

    async def _pass_to(self, backend: Backend, caller: Caller, message: bytes) -> None:
        try:
            with trio.move_on_after(backend.spec.timeouts.connect_s):
                await backend.respond(caller, message)
        except GatewayError as gone:
            logger.debug("notification not passed on", extra={"backend": backend.key, "why": str(gone)})

    async def _response(self, session: Session, message: jsonrpc.RpcResponse) -> None:
        try:
            if not await self.core.post.deliver(f"session:{session.key}", message):
                logger.debug("answer to no open question", extra={"session": session.tag})
        except GatewayError as gone:
            logger.debug("answer not delivered", extra={"session": session.tag, "why": str(gone)})

    def _result(self, message: jsonrpc.RpcRequest, result: bytes) -> Outcome:
        return Outcome(status=200, body=jsonrpc.render_result(message.id_raw, result))

    def _refused(self, message: jsonrpc.RpcRequest, refused: BackendRefused) -> Outcome:
        """The server's own error, as it would have been answered directly; ours if it has no code."""
        if refused.code == 0:
            return failure(message.id_raw, refused, refused.backend)
        body = jsonrpc.render_error(message.id_raw, refused.code, refused.message, refused.data)
        return Outcome(status=200, body=body, label="error")

    def _error(self, message: jsonrpc.RpcRequest, code: int, text: str) -> Outcome:
        return Outcome(status=200, body=jsonrpc.render_error(message.id_raw, code, text), label="refused")
