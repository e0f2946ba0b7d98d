"""A client on the SDK's first major version (mcp 1.30) that calls one tool as a task, as that SDK has it.

Usage: ``mcp1_tasks.py URL TOOL ARGUMENTS``. Prints ``{"support", "capability", "created", "statuses", "result",
"listed", "cancelled", "gone", "asked"}``: what became of a task that is fetched and of one that is cancelled. It
answers what it is asked: blue, technical.
"""

import json
import sys
from typing import Any

import anyio
from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamablehttp_client

asked: list[Any] = []
related = "io.modelcontextprotocol/related-task"


async def elicit(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    meta = params.model_dump(mode="json", by_alias=True).get("_meta") or {}
    asked.append([getattr(params, "message", None), meta.get(related, {}).get("taskId")])
    return types.ElicitResult(action="accept", content={"colour": "blue", "interpretation": "technical"})


def dump(model: Any) -> Any:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def main(url: str, tool: str, given: dict[str, Any]) -> None:
    told: dict[str, Any] = {}
    async with (
        streamablehttp_client(url) as streams,
        ClientSession(streams[0], streams[1], elicitation_callback=elicit) as session,
    ):
        hello = await session.initialize()
        told["capability"] = None if hello.capabilities.tasks is None else dump(hello.capabilities.tasks)
        tools = {one.name: one for one in (await session.list_tools()).tools}
        told["support"] = dump(tools[tool].execution)
        tasks = session.experimental
        created = await tasks.call_tool_as_task(tool, given, ttl=60_000)
        task_id = created.task.taskId
        told["created"] = [created.task.status, (await tasks.get_task(task_id)).taskId == task_id]
        result = await tasks.get_task_result(task_id, types.CallToolResult)
        told["result"] = dump(result)
        same = told["result"].get("_meta", {}).get(related, {}).pop("taskId", None) == task_id
        told["statuses"] = [(await tasks.get_task(task_id)).status, same]
        second = (await tasks.call_tool_as_task(tool, given, ttl=60_000)).task.taskId
        ids = {task_id: "first", second: "second"}
        told["listed"] = sorted(ids.get(one.taskId, "?") for one in (await tasks.list_tasks()).tasks)
        told["cancelled"] = (await tasks.cancel_task(second)).status
        told["gone"] = []
        for one in (second, "nonsense"):
            try:
                told["gone"].append(dump(await tasks.cancel_task(one)))
            except McpError as error:
                told["gone"].append(error.error.code)
    told["asked"] = [[message, ids.get(one, one)] for message, one in asked]
    print(json.dumps(told))


anyio.run(main, sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
