"""``tasks/list``: a client's own tasks, wherever they run.

Owns the pages and asking each server how its tasks stand. Deliberately asks no server
for a list of its own: behind the gateway's credential it may hold everybody's tasks.
Invariant: what is listed is the caller's, and what its server no longer knows is not listed.

Spec: MCP 2025-11-25 basic/utilities/tasks, "Task Listing" and "Task Isolation and Access Control".
"""

import logging
from collections.abc import Container
from typing import Final

import attrs
import trio

from mcp_gateway.backends.connector import UPSTREAM_FAULTS
from mcp_gateway.backends.own_requests import request, result_of
from mcp_gateway.backends.transports.base import Inbound
from mcp_gateway.errors import BackendRefused
from mcp_gateway.gateway.faces.own_answers import Invalid
from mcp_gateway.gateway.tasks import KnownTask, Tasks
from mcp_gateway.protocol import json_text, splice, tasks
from mcp_gateway.protocol.eras import V2025_11_25, Family
from mcp_gateway.protocol.wire_errors import INVALID_PARAMS
from mcp_gateway.sessions.signed import Purpose
from mcp_gateway.sessions.task_ids import TaskOwner
from mcp_gateway.values import BackendKey, JsonObject, JsonValue

logger = logging.getLogger(__name__)

PAGE: Final = 20
"""Each of them is asked for at its server."""
ASK_S: Final = 2.0
"""How long all servers together have to say how their tasks stand; what is known counts for the others."""


async def listed(book: Tasks, owner: TaskOwner, cursor: JsonValue, servers: Container[BackendKey]) -> bytes | Invalid:
    """The result of ``tasks/list``, or why there is none.

    Args:
        servers: those of which something is shown to this client.
    """
    after = 0 if cursor is None else _read(book, owner, cursor)
    if after is None:
        return Invalid(code=INVALID_PARAMS, message="invalid cursor")
    rest = [task for task in book.of(owner) if task.number > after and task.ref.server in servers]
    page = rest[:PAGE]
    with trio.move_on_after(ASK_S):
        async with trio.open_nursery() as nursery:
            for task in page:
                if not task.final:
                    nursery.start_soon(_ask, book, owner, task)
    shown = [task.state for task in page if book.find(owner, task.id) is task]
    result = b'{"tasks":[%b]}' % b",".join(shown)
    if len(rest) > PAGE:
        result = splice.rewrite(result, {"nextCursor": json_text.dumps(_cursor(book, owner, page[-1]))})
    return result


async def _ask(book: Tasks, owner: TaskOwner, task: KnownTask) -> None:
    """See how one task stands."""
    backend = book.fleet.get(task.ref.server)
    if backend is None:
        return
    asked = request("tasks/get", {"taskId": task.ref.upstream}, V2025_11_25)
    try:
        backend.check_open()
        answer = await backend.exchange(task.caller, attrs.evolve(asked, family=Family.LEGACY), _nobody)
        said = tasks.told(result_of(answer, backend.key))
        if said is not None and said.id == task.ref.upstream:
            book.note(owner, backend.key, task.caller, said)
    except BackendRefused as refused:
        if refused.code == INVALID_PARAMS:
            book.forget(owner, task.id)
    except UPSTREAM_FAULTS as fault:
        logger.debug("task not asked for", extra={"backend": backend.key, "why": str(fault)})


async def _nobody(inbound: Inbound) -> None:
    """What is said beside the answer concerns nobody."""


def _cursor(book: Tasks, owner: TaskOwner, last: KnownTask) -> str:
    payload: JsonObject = {"k": "tasks", "n": last.number, "c": owner.session, "p": owner.principal.hex()}
    return book.signer.value.seal(Purpose.CURSOR, owner.realm, json_text.dumps(payload))


def _read(book: Tasks, owner: TaskOwner, cursor: JsonValue) -> int | None:
    sealed = book.signer.value.open(Purpose.CURSOR, owner.realm, cursor) if isinstance(cursor, str) else None
    payload = json_text.parse(sealed) if sealed is not None else None
    number = payload.get("n") if isinstance(payload, dict) else None
    if not isinstance(payload, dict) or not isinstance(number, int) or payload.get("k") != "tasks":
        return None
    mine = payload.get("c") == owner.session and payload.get("p") == owner.principal.hex()
    return number if mine else None
