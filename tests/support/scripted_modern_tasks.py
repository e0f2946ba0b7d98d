"""An honest fake of a server with the tasks extension of 2026-07-28: for ``ScriptedBackend.handlers``.

Every call becomes a task if its client has the extension, and is refused if it has not.
Deliberately starts nothing by itself.
"""

import attrs
import trio

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.protocol.eras import V2026_07_28
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.scripted_link import Refusal, ScriptedBackend, ScriptedLink

EXTENSION = "io.modelcontextprotocol/tasks"
DECLARED: JsonObject = {"extensions": {EXTENSION: {}}}
COMPLETE: JsonObject = {"resultType": "complete"}


def declares(params: JsonObject) -> bool:
    meta = params.get("_meta")
    capabilities = meta.get("io.modelcontextprotocol/clientCapabilities") if isinstance(meta, dict) else None
    found = capabilities.get("extensions") if isinstance(capabilities, dict) else None
    return isinstance(found, dict) and EXTENSION in found


@attrs.define(eq=False)
class ModernTask:
    """One task, and what it was told."""

    id: str
    state: JsonObject = attrs.field(factory=lambda: {"status": "working"})
    answers: list[JsonValue] = attrs.field(factory=list)
    cancelled: int = 0

    @property
    def shown(self) -> JsonObject:
        when = "2026-11-27T12:00:00Z"
        return {"taskId": self.id, "createdAt": when, "lastUpdatedAt": when, "ttlMs": 60_000, **self.state}


@attrs.define(eq=False)
class ModernTasks:
    """All tasks of one server."""

    tasks: list[ModernTask] = attrs.field(factory=list)

    def backend(self, key: str = "files") -> ScriptedBackend:
        return ScriptedBackend(
            key=BackendKey(key),
            era=V2026_07_28,
            capabilities={"tools": {}, "extensions": {EXTENSION: {}}},
            handlers={
                "tools/call": self.call,
                "tasks/get": self.get,
                "tasks/update": self.update,
                "tasks/cancel": self.cancel,
            },
        )

    def _find(self, params: JsonObject) -> ModernTask:
        if not declares(params):
            raise Refusal(-32021, "no tasks", {"requiredCapabilities": DECLARED})
        found = next((task for task in self.tasks if task.id == params.get("taskId")), None)
        if found is None:
            raise Refusal(-32602, "Failed to retrieve task: Task not found")
        return found

    async def call(self, link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        if not declares(params):
            raise Refusal(-32021, "Missing required client capability", {"requiredCapabilities": DECLARED})
        task = ModernTask(id=f"task-{len(self.tasks) + 1}")
        self.tasks.append(task)
        return {"resultType": "task", **task.shown}

    async def get(self, link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {**COMPLETE, **self._find(params).shown}

    async def update(self, link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        self._find(params).answers.append(params.get("inputResponses"))
        return COMPLETE

    async def cancel(self, link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        self._find(params).cancelled += 1
        return COMPLETE
