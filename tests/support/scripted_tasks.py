"""An honest fake of a server's tasks, of 2025-11-25: for ``ScriptedBackend.handlers``.

It keeps tasks per session (or, told so, for everybody), counts what it was asked, and lets a
test say how a task goes on. Deliberately starts nothing by itself.
"""

import attrs
import trio

from mcp_gateway.backends.transports.base import Hear, Inbound
from mcp_gateway.protocol.eras import V2025_11_25, Era
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.scripted_link import Handler, Refusal, ScriptedBackend, ScriptedLink, notice

RELATED = "io.modelcontextprotocol/related-task"
CAPABILITIES: JsonObject = {"tools": {}, "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}}


def of_task(task_id: str) -> JsonObject:
    """The ``_meta`` of what is related to a task."""
    return {RELATED: {"taskId": task_id}}


@attrs.define(eq=False)
class ScriptedTask:
    """One task."""

    id: str
    link: ScriptedLink
    ttl: JsonValue
    params: JsonObject
    status: str = "working"
    result: JsonObject | None = None
    refusal: Refusal | None = None
    news: trio.Event = attrs.field(factory=trio.Event)
    said: list[Inbound] = attrs.field(factory=list)
    """To be told to whoever waits for the result."""

    def changes(self) -> None:
        news, self.news = self.news, trio.Event()
        news.set()

    def finish(self, status: str = "completed", result: JsonObject | None = None) -> None:
        self.status, self.result = status, {"content": []} if result is None else result
        self.changes()

    def fails(self, refusal: Refusal) -> None:
        self.status, self.refusal = "failed", refusal
        self.changes()

    def says(self, inbound: Inbound) -> None:
        self.said.append(inbound)
        self.changes()

    @property
    def shown(self) -> JsonObject:
        when = "2026-11-27T12:00:00Z"
        return {
            "taskId": self.id,
            "status": self.status,
            "statusMessage": f"it is {self.status}",
            "createdAt": when,
            "lastUpdatedAt": when,
            "ttl": self.ttl,
            "pollInterval": 500,
        }

    def status_notice(self) -> Inbound:
        return notice("notifications/tasks/status", **self.shown)


@attrs.define(eq=False)
class ScriptedTasks:
    """All tasks of one server."""

    by_id_alone: bool = False
    tasks: list[ScriptedTask] = attrs.field(factory=list)

    def backend(self, key: str = "files", era: Era = V2025_11_25, **more: JsonValue) -> ScriptedBackend:
        transport = str(more.get("transport", "streamable-http"))
        handlers: dict[str, Handler] = {
            "tools/call": self.call,
            "tasks/get": self.get,
            "tasks/result": self.await_result,
            "tasks/cancel": self.cancel,
        }
        return ScriptedBackend(
            key=BackendKey(key), era=era, transport=transport, capabilities=CAPABILITIES, handlers=handlers
        )

    def _find(self, link: ScriptedLink, params: JsonObject) -> ScriptedTask:
        for task in self.tasks:
            if task.id == params.get("taskId") and (self.by_id_alone or task.link is link):
                return task
        raise Refusal(-32602, "Failed to retrieve task: Task not found")

    async def call(self, link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        wanted = params.get("task")
        if not isinstance(wanted, dict):
            return {"content": [], "meta_seen": params.get("_meta")}
        number = len(self.tasks) + 1
        task = ScriptedTask(id=f"task-{number}", link=link, ttl=wanted.get("ttl"), params=params)
        self.tasks.append(task)
        return {"task": task.shown, "_meta": {"x": 1}}

    async def get(self, link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return self._find(link, params).shown

    async def await_result(self, link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        task = self._find(link, params)
        while task.status in {"working", "input_required"}:
            while task.said:
                await hear(task.said.pop(0))
            await task.news.wait()
        await trio.lowlevel.checkpoint()
        if task.refusal is not None:
            raise task.refusal
        return {**(task.result or {}), "_meta": of_task(task.id)}

    async def cancel(self, link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        task = self._find(link, params)
        if task.status not in {"working", "input_required"}:
            raise Refusal(-32602, f"Cannot cancel task: already in terminal status {task.status!r}")
        task.finish("cancelled")
        return task.shown
