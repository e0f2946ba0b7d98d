"""A server on the SDK's first major version (mcp 1.30) whose tools run as tasks of 2025-11-25.

Usage: ``mcp1_tasks_server.py [--port N] [--own-ids]``. ``paint`` asks the user for a colour while it runs. The SDK's
ids are good in one session only; those of ``--own-ids`` are good for whoever has them.
"""

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import anyio
from frame import arguments, listen
from mcp.server.experimental.task_context import ServerTaskContext
from mcp.server.fastmcp.server import StreamableHTTPASGIApp
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.types import TASK_REQUIRED, CallToolResult, TextContent, Tool, ToolExecution
from starlette.applications import Starlette
from starlette.routing import Route

options = arguments("--own-ids")
server: Server[Any, Any] = Server("mcp1-tasks")
server.experimental.enable_tasks()

COLOUR = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}


@server.list_tools()
async def tools() -> list[Tool]:
    schema = {"type": "object", "properties": {"ask": {"type": "boolean"}}}
    return [Tool(name="paint", inputSchema=schema, execution=ToolExecution(taskSupport=TASK_REQUIRED))]


@server.call_tool()
async def call(name: str, given: dict[str, Any]) -> Any:
    context = server.request_context
    context.experimental.validate_task_mode(TASK_REQUIRED)

    async def work(task: ServerTaskContext) -> CallToolResult:
        await task.update_status("mixing")
        colour = "white"
        if given.get("ask"):
            answer = await task.elicit(message="Which colour?", requestedSchema=COLOUR)
            colour = str((answer.content or {}).get("colour"))
        return CallToolResult(content=[TextContent(type="text", text=f"painted {colour}")])

    if options.own_ids:
        return await context.experimental.run_task(work, task_id=str(uuid.uuid4()))
    return await context.experimental.run_task(work)


async def main() -> None:
    manager = StreamableHTTPSessionManager(app=server, stateless=False)

    @contextlib.asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield

    app = Starlette(routes=[Route("/mcp", endpoint=StreamableHTTPASGIApp(manager))], lifespan=running)
    await listen(app, options.port)


anyio.run(main)
