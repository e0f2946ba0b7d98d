"""What a 2025 session asks of the gateway itself and has to wait for.

Owns ``logging/setLevel``, ``tasks/list``, ``resources/subscribe`` and what backends of a
session are told. Deliberately answers nothing: whoever asks writes the outcome.
Invariant: a backend that does not answer costs its own part alone, and that is bounded.

Spec: MCP 2025-11-25 server/utilities/logging, basic/utilities/tasks, server/resources.
"""

import logging

import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.transports.base import Inbound
from mcp_gateway.errors import BackendRefused, GatewayError
from mcp_gateway.gateway.call.outcome import Outcome, failed, refused, succeeded
from mcp_gateway.gateway.call.request import ClientRequest
from mcp_gateway.gateway.context import Context
from mcp_gateway.gateway.faces.own_answers import Invalid
from mcp_gateway.gateway.faces.task_list import listed
from mcp_gateway.gateway.inbound import MESSAGE, for_session
from mcp_gateway.gateway.session import Session
from mcp_gateway.gateway.tasks import TaskNames
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.eras import Family
from mcp_gateway.routing.table import Target, View
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)


def names(context: Context, session: Session, key: BackendKey) -> TaskNames | None:
    """What the client and a server call the client's tasks; None: it has none in its revision."""
    if not session.era.tasks:
        return None
    return TaskNames(tasks=context.tasks, owner=session.owner, server=key, caller=session.caller)


def join(context: Context, session: Session, key: BackendKey) -> None:
    """The first request to a backend: from now on it may speak on the session's GET stream."""
    if key in session.backends:
        return
    session.backends.add(key)
    backend = context.calls.fleet.get(key)
    if session.listeners and backend is not None:
        hear_unasked(context, session, backend)


def hear_unasked(context: Context, session: Session, backend: Backend) -> None:
    """Let a backend speak on the session's GET stream, which is open."""
    handler = for_session(session, backend, names(context, session, backend.key))
    backend.set_stream(session.key, handler.hear_unasked)


def legacy_backends(context: Context, session: Session) -> list[Backend]:
    """Those that this session has an upstream session of the 2025 era with."""
    found = [context.calls.fleet.get(BackendKey(key)) for key in session.backends]
    return [one for one in found if one is not None and one.family_for(session.caller) is Family.LEGACY]


async def list_tasks(context: Context, session: Session, view: View, request: ClientRequest) -> Outcome:
    """``tasks/list``."""
    message = request.message
    result = await listed(context.tasks, session.owner, message.params.get("cursor"), view.servers)
    if isinstance(result, Invalid):
        return refused(message.id_raw, session.era, result.code, result.message)
    return succeeded(message.id_raw, result)


async def set_level(context: Context, session: Session, level: str, request: ClientRequest) -> Outcome:
    """``logging/setLevel``: backends that this session already uses hear of it now, others with their first call."""
    session.log_level = level
    async with trio.open_nursery() as nursery:
        for backend in legacy_backends(context, session):
            nursery.start_soon(_tell_level, context, session, backend, level)
    return succeeded(request.message.id_raw, b"{}")


async def _tell_level(context: Context, session: Session, backend: Backend, level: str) -> None:
    try:
        with trio.move_on_after(backend.spec.timeouts.list_s):
            link = await backend.link_for(session.caller)
            await context.calls.levels.ensure(backend, session.caller, link, level)
    except GatewayError as gone:
        logger.debug("log level not passed on", extra={"backend": backend.key, "why": str(gone)})


async def subscribe(context: Context, session: Session, target: Target, request: ClientRequest) -> Outcome:
    """``resources/subscribe``, and ``resources/unsubscribe`` of what the hub keeps."""
    hub, key, message = context.hub, target.backend, request.message
    if message.method == "resources/unsubscribe":
        hub.unsubscribe(session.mailbox, target)
        return succeeded(message.id_raw, b"{}")
    join(context, session, key)

    async def beside(inbound: Inbound) -> bool:
        """A log message that comes before the answer goes with it, as for any call."""
        wanted = inbound.method == MESSAGE and session.wants_log(inbound.params.get("level"))
        return wanted and await request.stream.send(inbound.raw)

    subscribed = False
    try:
        with trio.move_on_after(context.calls.timeouts(key).call_s):
            backend, level = context.calls.fleet.get(key), session.log_level
            if backend is not None and level is not None and backend.family_for(session.caller) is Family.LEGACY:
                await _tell_level(context, session, backend, level)
            await hub.subscribe(session.mailbox, session.caller, target, beside)
            await hub.in_force(session.mailbox, target)
            subscribed = True
    except BackendRefused as error:
        return _as_answered(message, error)
    except GatewayError as error:
        return failed(message.id_raw, error, key)
    if subscribed:
        return succeeded(message.id_raw, b"{}")
    hub.unsubscribe(session.mailbox, target)
    return failed(message.id_raw, context.calls.late(key), key)


def _as_answered(message: jsonrpc.RpcRequest, error: BackendRefused) -> Outcome:
    """The server's own error, as it would have been answered directly; ours if it has no code."""
    if error.code == 0:
        return failed(message.id_raw, error, error.backend)
    return Outcome(body=jsonrpc.render_error(message.id_raw, error.code, error.message, error.data), label="error")


async def tell_all(context: Context, session: Session, message: bytes) -> None:
    """A notification for every backend that this session has an upstream session with."""
    async with trio.open_nursery() as nursery:
        for backend in legacy_backends(context, session):
            nursery.start_soon(tell, backend, session, message)


async def tell(backend: Backend, session: Session, message: bytes) -> None:
    """A notification for one backend."""
    try:
        with trio.move_on_after(backend.spec.timeouts.connect_s):
            await backend.respond(session.caller, message)
    except GatewayError as gone:
        logger.debug("notification not passed on", extra={"backend": backend.key, "why": str(gone)})
