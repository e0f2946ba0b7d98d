"""The tasks that clients have at servers, and what both sides call them.

Owns the ids on their way (``TaskNames``) and the book of the tasks of 2025 clients: what
``tasks/list`` shows and which upstream sessions must stay. Deliberately asks servers
nothing (``task_list`` does). Invariants: an id means a task to its owner alone;
the book is a convenience: a task that is not in it can still be asked for by its id.

Spec: MCP 2025-11-25 basic/utilities/tasks.
"""

from typing import Final

import attrs
import trio

from mcp_gateway.auth.principal import Principal
from mcp_gateway.backends.backend import Caller
from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.cell import Cell
from mcp_gateway.errors import RemoteFault
from mcp_gateway.protocol import json_text, splice, tasks
from mcp_gateway.protocol.eras import Era, Family
from mcp_gateway.protocol.tasks import Told
from mcp_gateway.sessions import task_ids
from mcp_gateway.sessions.signed import Signer
from mcp_gateway.sessions.task_ids import MAX_UPSTREAM_CHARS, TaskOwner, TaskRef
from mcp_gateway.values import BackendKey, Params

MAX_OF_ONE: Final = 64
"""Tasks of one client in the book; above that the oldest leaves it: it is listed no more, and keeps no session."""
MAX_ALL: Final = 10_000
"""The same for all clients together."""
LISTED_S: Final = 86_400.0
HELD_S: Final = 3600.0
"""The longest that a task is listed and keeps its upstream session, whatever its ttl."""
MAX_KEPT_BYTES: Final = 4096
"""Of what a server last said of a task; more is kept without its message."""


@attrs.define(eq=False, kw_only=True)
class KnownTask:
    """One task in the book."""

    ref: TaskRef
    id: str
    """Its client's."""
    caller: Caller
    number: int
    """Grows from task to task: the order of the list."""
    began_at: float
    state: bytes = attrs.field(default=b"{}", repr=False)
    """What the server last said of it, under the client's id."""
    final: bool = False
    ends_at: float = 0.0


@attrs.define(eq=False, kw_only=True)
class Tasks:
    """All tasks that this process knows of."""

    signer: Cell[Signer]
    fleet: Fleet
    _book: dict[TaskOwner, dict[str, KnownTask]] = attrs.field(factory=dict)
    """By owner, then by the client's id, in the order of their beginning."""
    _count: int = 0
    _next: int = 1

    def __len__(self) -> int:
        return self._count

    def read(self, params: Params, owner: TaskOwner) -> TaskRef | None:
        """What ``params.taskId`` means to this client; None: there is none, or it is none of its own."""
        token = params.get("taskId")
        return task_ids.read(self.signer.value, owner, token) if isinstance(token, str) else None

    def of(self, owner: TaskOwner) -> tuple[KnownTask, ...]:
        """A client's tasks in the book, in order."""
        self._prune(owner)
        return tuple(self._book.get(owner, {}).values())

    def find(self, owner: TaskOwner, task_id: str) -> KnownTask | None:
        """One of them, by the client's id."""
        return self._book.get(owner, {}).get(task_id)

    def note(self, owner: TaskOwner, server: BackendKey, caller: Caller, said: Told) -> None:
        """A server says something of a task: from now on, or still, it is in the book."""
        ref = TaskRef(server=server, upstream=said.id)
        task_id = task_ids.seal(self.signer.value, owner, ref)
        task = self.find(owner, task_id)
        if task is None:
            task = self._enter(owner, ref, task_id, caller)
        task.state, task.final = _kept(said, task_id), said.final
        task.ends_at = task.began_at + min(LISTED_S if said.ttl_s is None else said.ttl_s, LISTED_S)
        self._hold(task, 0.0 if said.status == "cancelled" else min(task.ends_at, task.began_at + HELD_S))

    def forget(self, owner: TaskOwner, task_id: str) -> None:
        """Its server does not know it any more, or nobody will ask again."""
        mine = self._book.get(owner, {})
        task = mine.pop(task_id, None)
        if task is None:
            return
        if not mine:
            del self._book[owner]
        self._count -= 1
        self._hold(task, 0.0)

    def end(self, owner: TaskOwner, session: str) -> None:
        """A client session is gone for good, and with it the upstream sessions on which its tasks live."""
        for task in tuple(self._book.get(owner, {}).values()):
            if task.caller.session == session:
                self.forget(owner, task.id)

    def prune(self) -> None:
        """Let everything whose time is over leave the book."""
        for owner in tuple(self._book):
            self._prune(owner)

    def _prune(self, owner: TaskOwner) -> None:
        now_at = trio.current_time()
        for task in tuple(self._book.get(owner, {}).values()):
            if task.ends_at <= now_at:
                self.forget(owner, task.id)

    def _enter(self, owner: TaskOwner, ref: TaskRef, task_id: str, caller: Caller) -> KnownTask:
        mine = self._book.get(owner, {})
        if len(mine) >= MAX_OF_ONE:
            # A finished one may have been fetched already; one that still works has not.
            oldest = next((task for task in mine.values() if task.final), next(iter(mine.values())))
            self.forget(owner, oldest.id)
        elif self._count >= MAX_ALL:
            first = next(iter(self._book))
            self.forget(first, next(iter(self._book[first])))
        task = KnownTask(ref=ref, id=task_id, caller=caller, number=self._next, began_at=trio.current_time())
        self._next += 1
        self._book.setdefault(owner, {})[task_id] = task
        self._count += 1
        return task

    def _hold(self, task: KnownTask, until_at: float) -> None:
        backend = self.fleet.get(task.ref.server)
        if backend is not None:
            backend.hold(task.caller, task.ref.upstream, until_at)


def modern_owner(realm: str, principal: Principal) -> TaskOwner:
    """Whose the tasks of a 2026 client are; of an anonymous one, of whoever has the id, as at any server without
    authorization.
    """
    return TaskOwner(realm=realm, family=Family.MODERN, principal=principal.digest)


def _kept(said: Told, task_id: str) -> bytes:
    edits: splice.Edits = {"taskId": splice.quoted(task_id)}
    if len(said.raw) > MAX_KEPT_BYTES:
        edits = {**edits, "statusMessage": splice.REMOVE}
    try:
        return splice.rewrite(said.raw, edits)
    except RemoteFault:  # a member twice: what has been read of it counts
        return json_text.dumps({"taskId": task_id, "status": said.status})


@attrs.frozen(kw_only=True, eq=False)
class TaskNames:
    """What one client and one server call the tasks between them."""

    tasks: Tasks
    owner: TaskOwner
    server: BackendKey
    caller: Caller

    def out(self, upstream: str) -> str:
        """The client's id of the server's task."""
        return task_ids.seal(self.tasks.signer.value, self.owner, TaskRef(server=self.server, upstream=upstream))

    def back(self, token: str) -> str | None:
        """The server's id; None: it is no task of this client at this server."""
        found = task_ids.read(self.tasks.signer.value, self.owner, token)
        return found.upstream if found is not None and found.server == self.server else None

    def params(self, raw: bytes) -> bytes:
        """The params of a request on its way up."""
        return tasks.related(raw, self.back)

    def answer(self, raw: bytes) -> bytes:
        """A client's response to a question, on its way up."""
        return tasks.related(raw, self.back, "result")

    def message(self, raw: bytes) -> bytes:
        """A notification or a question of the server, on its way down."""
        return tasks.related(raw, self.out, "params")

    def result(self, method: str, raw: bytes, era: Era) -> bytes:
        """A result on its way down.

        Raises:
            RemoteFault: it names a task in a way that cannot be passed on.
        """
        said = tasks.in_result(method, raw, era)
        if said is not None and len(said.id) > MAX_UPSTREAM_CHARS:
            raise RemoteFault(what=f"a task id of more than {MAX_UPSTREAM_CHARS} characters")
        return tasks.outward(method, raw, era, self.out)

    def saw(self, method: str, result: bytes, era: Era) -> None:
        """Note what a result says of a task; in the form in which the server sent it."""
        said = tasks.in_result(method, result, era)
        if said is not None and self.owner.family is Family.LEGACY:
            self.tasks.note(self.owner, self.server, self.caller, said)

    def status(self, raw: bytes) -> bytes | None:
        """A ``notifications/tasks/status`` for the client; None: it is of no task that it has."""
        held = splice.value_at(raw, ("params",))
        said = None if held is None else tasks.told(held)
        if said is None or self.tasks.find(self.owner, self.out(said.id)) is None:
            return None
        self.tasks.note(self.owner, self.server, self.caller, said)
        return tasks.mapped(raw, ("params", "taskId"), self.out)
