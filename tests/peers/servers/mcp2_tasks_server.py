"""A server on the SDK's second major version with the tasks extension of 2026-07-28, which that SDK leaves to others.

Its tools have the names that the conformance suite's scenarios of the extension ask for. Tasks live as long as the
process, and are known by their ids alone. Usage: ``mcp2_tasks_server.py [--port N]``.
"""

import datetime
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.abc
from frame import arguments, listen
from mcp.server import ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams, RequestParams
from pydantic import Field

IDENTIFIER = "io.modelcontextprotocol/tasks"
MODERN = frozenset({"2026-07-28"})
COMPLETE = {"resultType": "complete"}
Work = Callable[["Task", dict[str, Any]], Awaitable[dict[str, Any]]]
Call = ServerRequestContext[Any, Any]

options = arguments()


class TaskParams(RequestParams):
    task_id: str


class UpdateParams(TaskParams):
    input_responses: dict[str, Any] = Field(default_factory=dict)


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}], **more}


def form(message: str, member: str, kind: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {member: {"type": kind}}, "required": [member]}
    return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}}


class Task:
    def __init__(self) -> None:
        self.id = str(uuid.uuid4())
        self.state: dict[str, Any] = {"status": "working"}
        self.created = self.updated = now()
        self.asked: dict[str, Any] = {}
        self.answers: dict[str, Any] = {}
        self.news = anyio.Event()
        self.scope = anyio.CancelScope()

    def become(self, **state: Any) -> None:
        self.state, self.updated = state, now()

    def shown(self) -> dict[str, Any]:
        head = {"taskId": self.id, "createdAt": self.created, "lastUpdatedAt": self.updated}
        return {**head, "ttlMs": 60_000, "pollIntervalMs": 50, **self.state}

    async def ask(self, **questions: Any) -> dict[str, Any]:
        self.asked = questions
        while open_ := {key: value for key, value in questions.items() if key not in self.answers}:
            self.become(status="input_required", inputRequests=open_)
            self.news = anyio.Event()
            await self.news.wait()
        self.become(status="working")
        return self.answers


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


async def slow_compute(task: Task, given: dict[str, Any]) -> dict[str, Any]:
    await anyio.sleep(float(given.get("seconds", 0)))
    return text(f"computed {given.get('label', '')}")


async def failing_job(task: Task, given: dict[str, Any]) -> dict[str, Any]:
    await anyio.sleep(0.2)
    return text("it did not work", isError=True)


async def protocol_error_job(task: Task, given: dict[str, Any]) -> dict[str, Any]:
    await anyio.sleep(0.1)
    raise MCPError(-32603, "the job broke")


async def confirm_delete(task: Task, given: dict[str, Any]) -> dict[str, Any]:
    answers = await task.ask(confirm=form(f"Delete {given.get('filename')}?", "confirm", "boolean"))
    return text(f"deleted: {answers['confirm'].get('content', {}).get('confirm')}")


async def multi_input(task: Task, given: dict[str, Any]) -> dict[str, Any]:
    answers = await task.ask(first=form("First?", "value", "string"), second=form("Second?", "value", "string"))
    return text(", ".join(str(answers[key].get("content")) for key in ("first", "second")))


async def named(task: Task, given: dict[str, Any]) -> dict[str, Any]:
    await anyio.sleep(0.1)
    return text(f"Hello, {', '.join(map(str, given.values()))}!")


WORK: dict[str, Work] = {
    "slow_compute": slow_compute,
    "failing_job": failing_job,
    "protocol_error_job": protocol_error_job,
    "confirm_delete": confirm_delete,
    "multi_input": multi_input,
}
ONLY_AS_TASK = {"failing_job", "test_tool_with_task"}


class Tasks(Extension):
    identifier = IDENTIFIER

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.nursery: anyio.abc.TaskGroup

    def methods(self) -> Sequence[MethodBinding]:
        def bind(method: str, params: type[RequestParams], handler: Any) -> MethodBinding:
            return MethodBinding(method=method, params_type=params, handler=handler, protocol_versions=MODERN)

        return (
            bind("tasks/get", TaskParams, self.get),
            bind("tasks/update", UpdateParams, self.update),
            bind("tasks/cancel", TaskParams, self.cancel),
        )

    def find(self, ctx: Call, params: TaskParams) -> Task:
        require_client_extension(ctx, IDENTIFIER)
        if params.task_id not in self.tasks:
            raise MCPError(-32602, "Failed to retrieve task: Task not found")
        return self.tasks[params.task_id]

    async def get(self, ctx: Call, params: TaskParams) -> dict[str, Any]:
        return {**COMPLETE, **self.find(ctx, params).shown()}

    async def update(self, ctx: Call, params: UpdateParams) -> dict[str, Any]:
        task = self.find(ctx, params)
        task.answers.update({key: value for key, value in params.input_responses.items() if key in task.asked})
        task.news.set()
        return dict(COMPLETE)

    async def cancel(self, ctx: Call, params: TaskParams) -> dict[str, Any]:
        self.find(ctx, params).scope.cancel()
        return dict(COMPLETE)

    async def intercept_tool_call(self, params: CallToolRequestParams, ctx: Call, call_next: Any) -> Any:
        given = dict(params.arguments or {})
        declared = ctx.session.client_capabilities
        has_tasks = declared is not None and IDENTIFIER in (declared.extensions or {})
        if params.name in ONLY_AS_TASK:
            require_client_extension(ctx, IDENTIFIER)
        if params.name == "test_tool_with_task":
            answers = params.input_responses or {}
            if "name" not in answers:
                return {"resultType": "input_required", "inputRequests": {"name": form("Who?", "user_name", "string")}}
            content = answers["name"]
            content = content if isinstance(content, dict) else content.model_dump(by_alias=True)
            return self.begin(named, dict(content.get("content") or {}))
        if params.name not in WORK or not has_tasks:
            return await call_next(ctx)
        return self.begin(WORK[params.name], given)

    def begin(self, work: Work, given: dict[str, Any]) -> dict[str, Any]:
        task = Task()
        self.tasks[task.id] = task
        self.nursery.start_soon(self.run, task, work, given)
        return {"resultType": "task", **task.shown()}

    async def run(self, task: Task, work: Work, given: dict[str, Any]) -> None:
        with task.scope:
            try:
                task.become(status="completed", result=await work(task, given))
            except MCPError as error:
                task.become(status="failed", error={"code": error.error.code, "message": error.error.message})
        if task.scope.cancelled_caught:
            task.become(status="cancelled")


extension = Tasks()
server = MCPServer("mcp2-tasks", extensions=[extension])


@server.tool(structured_output=False)
def greet(name: str) -> str:
    """Answer at once."""
    return f"Hello, {name}!"


@server.tool(name="slow_compute", structured_output=False)
async def compute(seconds: float = 0, label: str = "") -> str:
    """Take a while."""
    await anyio.sleep(seconds)
    return f"computed {label}"


@server.tool(name="failing_job", structured_output=False)
def fail() -> str:
    """Fail as a tool does."""
    raise ValueError("it did not work")


@server.tool(name="protocol_error_job", structured_output=False)
def break_() -> str:
    """Fail as a server does."""
    raise MCPError(-32603, "the job broke")


@server.tool(name="confirm_delete", structured_output=False)
def confirm(filename: str = "") -> str:
    """Ask before."""
    return "nobody was asked"


@server.tool(name="multi_input", structured_output=False)
def many() -> str:
    """Ask twice."""
    return "nobody was asked"


@server.tool(name="test_tool_with_task", structured_output=False)
def only() -> str:
    """Ask first, then run as a task only."""
    return "never"


async def main() -> None:
    async with anyio.create_task_group() as extension.nursery:
        await listen(server.streamable_http_app(), options.port)
        extension.nursery.cancel_scope.cancel()


anyio.run(main)
