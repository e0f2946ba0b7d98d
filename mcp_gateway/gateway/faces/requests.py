"""From a request of either era to the job that serves it.

Owns the one switch over what is decided of a request. Deliberately waits for nothing
and writes nothing: the job does. Invariant: a hidden name and an unknown one are refused
in the same way (docs/invariants.md, 8).
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias, assert_never

import attrs

from mcp_gateway.backends.caller import Caller
from mcp_gateway.errors import Overload
from mcp_gateway.gateway.call.call import Call
from mcp_gateway.gateway.call.client import Client
from mcp_gateway.gateway.call.outcome import Outcome, failed, refused, succeeded
from mcp_gateway.gateway.call.request import AnsweredRequest, Asked, ClientRequest, OwnRequest
from mcp_gateway.gateway.call.translation import stamped
from mcp_gateway.gateway.context import Context
from mcp_gateway.gateway.faces import session_requests
from mcp_gateway.gateway.faces.http_answers import RETRY_SOON
from mcp_gateway.gateway.faces.own_answers import Invalid
from mcp_gateway.gateway.tasks import TaskNames
from mcp_gateway.protocol import extensions, jsonrpc, methods, splice, tasks
from mcp_gateway.protocol import headers as mcp_headers
from mcp_gateway.protocol.capabilities import granted
from mcp_gateway.protocol.wire_errors import HEADER_MISMATCH, INVALID_REQUEST, MISSING_CAPABILITY
from mcp_gateway.routing.decide import Answer, Forward, ListOf, Own, Refuse, decide
from mcp_gateway.routing.required import least, met
from mcp_gateway.routing.table import Target, View
from mcp_gateway.values import BackendKey, Header, JsonObject

Work: TypeAlias = Callable[[ClientRequest], Awaitable[Outcome]]


@attrs.define(eq=False, kw_only=True)
class Requests:
    """Makes jobs of requests."""

    context: Context

    def prepare(self, asked: Asked) -> ClientRequest:
        """The job of one request that is valid in its era."""
        client, message = asked.client, asked.message
        view = asked.place.view if client.session is None else client.session.sees(asked.place.view)
        task = self.context.tasks.read(message.params, client.owner) if "taskId" in message.params else None
        decision = decide(message.method, message.params, view, client.era, client.capabilities, task)
        if isinstance(decision, Forward):
            return self._forward(asked, view, decision)
        if isinstance(decision, Own):
            return self._own(asked, view, decision.method)
        return self.answered(asked, self._outcome(asked, view, decision))

    def answered(self, asked: Asked, outcome: Outcome, *headers: Header, target: Target | None = None) -> ClientRequest:
        """The job of a request that is answered at once."""
        return AnsweredRequest(asked=asked, calls=self.context.calls, outcome=outcome, headers=headers, target=target)

    def _waits(self, asked: Asked, work: Work, target: Target | None = None) -> ClientRequest:
        return OwnRequest(asked=asked, calls=self.context.calls, work=work, target=target)

    def _outcome(self, asked: Asked, view: View, decision: Answer | ListOf | Refuse) -> Outcome:
        client, id_raw = asked.client, asked.message.id_raw
        match decision:
            case Answer():
                return succeeded(id_raw, self._complete(client, decision.result))
            case Refuse():
                return refused(id_raw, client.era, decision.code, decision.message, decision.data)
            case ListOf():
                answer = self.context.own.listed(decision, client.era, view, client.realm)
                if isinstance(answer, Invalid):
                    return refused(id_raw, client.era, answer.code, answer.message)
                if client.session is not None:
                    client.session.seen[decision.kind] = view.fingerprint(decision.kind)
                return succeeded(id_raw, answer)
            case _:
                assert_never(decision)

    def _complete(self, client: Client, result: bytes) -> bytes:
        """A result of our own in the form of the client's era."""
        if not client.era.modern:
            return result
        return stamped(splice.rewrite(result, {"resultType": b'"complete"'}), self.context.calls.server_info)

    def _own(self, asked: Asked, view: View, method: str) -> ClientRequest:
        """A method of the gateway itself; dispatch and the faces have kept the others out."""
        client, message = asked.client, asked.message
        if method == "server/discover":
            return self.answered(asked, succeeded(message.id_raw, self.context.own.discovered(client.era, view)))
        session, level = client.session, message.params.get("level")
        if method == "tasks/list" and session is not None:
            return self._waits(asked, partial(session_requests.list_tasks, self.context, session, view))
        if method == "logging/setLevel" and session is not None and isinstance(level, str):
            return self._waits(asked, partial(session_requests.set_level, self.context, session, level))
        text = f"{message.method} must not be sent within a session"
        return self.answered(asked, refused(message.id_raw, client.era, INVALID_REQUEST, text))

    def _forward(self, asked: Asked, view: View, decision: Forward) -> ClientRequest:
        client, message, key = asked.client, asked.message, decision.target.backend
        calls, session = self.context.calls, client.session
        if session is not None and self._is_subscription(message.method, key):
            work = partial(session_requests.subscribe, self.context, session, decision.target)
            return self._waits(asked, work, decision.target)
        refusal = None if session is not None else _unmet(asked, decision)
        if refusal is not None:
            return self.answered(asked, refusal)
        if calls.in_flight.full:
            full = Overload(bound="limits.inFlight", limit=calls.in_flight.limit)
            outcome = failed(message.id_raw, full, None)
            if session is not None:
                return self.answered(asked, outcome, target=decision.target)
            outcome = attrs.evolve(outcome, status=503)
            return self.answered(asked, outcome, RETRY_SOON, target=decision.target)
        if session is not None:
            session_requests.join(self.context, session, key)
        both = _agreed(client.capabilities, view, key)
        return Call(
            asked=asked,
            calls=calls,
            target=decision.target,
            edits=decision.edits,
            caller=self._caller(client, message),
            extensions=both,
            tasks=self._names(client, view, key, message.method, both),
        )

    def _is_subscription(self, method: str, key: BackendKey) -> bool:
        """Whether the hub keeps it; a server that knows no subscriptions answers ``resources/unsubscribe`` itself."""
        if method != "resources/unsubscribe":
            return method == "resources/subscribe"
        backend = self.context.calls.fleet.get(key)
        return backend is None or not backend.subscriptions.unknown

    def _caller(self, client: Client, message: jsonrpc.RpcRequest) -> Caller:
        """Whose upstream session is used: of a 2025 client's known task that on which it lives."""
        if client.session is None or "taskId" not in message.params:
            return client.caller
        task_id = message.params["taskId"]
        known = self.context.tasks.find(client.owner, task_id) if isinstance(task_id, str) else None
        return client.caller if known is None else known.caller

    def _names(
        self, client: Client, view: View, key: BackendKey, method: str, both: frozenset[str]
    ) -> TaskNames | None:
        """What the client and a server call the client's tasks; None: it can have none there."""
        if client.session is not None:
            return None if view.lacks(key, tasks.CALLS) else session_requests.names(self.context, client.session, key)
        # A server that is not heard yet may know a task still: there is one that this client has.
        if tasks.EXTENSION in both or method in methods.EXTENSION_TASKS:
            return TaskNames(tasks=self.context.tasks, owner=client.owner, server=key, caller=client.caller)
        return None


def _agreed(capabilities: JsonObject, view: View, backend: BackendKey) -> frozenset[str]:
    """The extensions that a client with these capabilities and a server both declare."""
    if "extensions" not in capabilities:  # most clients
        return frozenset()
    return extensions.declared(capabilities) & view.extensions_of(backend)


def _unmet(asked: Asked, decision: Forward) -> Outcome | None:
    """Why a 2026 request may not go to its target; None: it may."""
    client, message, target = asked.client, asked.message, decision.target
    try:
        arguments = message.params.get("arguments") if target.headers else None
        mcp_headers.check_mirrored(target.headers, arguments, asked.headers)
    except mcp_headers.HeaderFault as fault:
        return refused(message.id_raw, client.era, HEADER_MISMATCH, str(fault))
    if target.required and not met(target.required, granted(client.capabilities)):
        # Its list shows what nobody could use without it; the server itself is not asked.
        lacking: JsonObject = {"requiredCapabilities": least(target.required)}
        text = "the client lacks a capability that this needs"
        return refused(message.id_raw, client.era, MISSING_CAPABILITY, text, lacking)
    return None
