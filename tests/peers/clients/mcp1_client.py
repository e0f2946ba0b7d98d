"""A client on the SDK's first major version (mcp 1.30), as agents of today have it.

Usage: ``mcp1_client.py URL [TOOL ARGUMENTS]...``; it calls the tools one after the other and prints one JSON object, as
``ts_client.cjs`` does: version, tools, results, progress, logs. With MCP_CANCEL_AFTER_MS set, each call gives up after
that time.
"""

import json
import os
import sys
from datetime import timedelta
from typing import Any

import anyio
from mcp import ClientSession, McpError, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamablehttp_client

CANCEL_AFTER_MS = os.environ.get("MCP_CANCEL_AFTER_MS")


async def elicit(context: Any, params: Any) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"colour": "blue", "value": "blue"})


async def sample(context: Any, params: Any) -> types.CreateMessageResult:
    text = types.TextContent(type="text", text="hello from the client")
    return types.CreateMessageResult(role="assistant", model="none", content=text)


async def roots(context: Any) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri="file:///tmp", name="tmp")])


async def main() -> None:
    url, *words = sys.argv[1:]
    progress: list[float] = []
    logs: list[Any] = []

    async def hear(params: types.LoggingMessageNotificationParams) -> None:
        logs.append(params.data)

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        progress.append(done)

    results: list[Any] = []
    connect = sse_client if url.endswith("/sse") else streamablehttp_client
    async with (
        connect(url) as streams,
        ClientSession(
            streams[0],
            streams[1],
            elicitation_callback=elicit,
            sampling_callback=sample,
            list_roots_callback=roots,
            logging_callback=hear,
        ) as session,
    ):
        hello = await session.initialize()
        tools = [tool.name for tool in (await session.list_tools()).tools]
        for name, arguments in zip(words[::2], words[1::2], strict=True):
            patience = timedelta(milliseconds=float(CANCEL_AFTER_MS)) if CANCEL_AFTER_MS else None
            try:
                result = await session.call_tool(name, json.loads(arguments), patience, on_progress)
                results.append(result.model_dump(mode="json", by_alias=True, exclude_none=True))
            except McpError as error:
                said = error.error
                results.append({"error": {"code": said.code, "message": said.message, "data": said.data}})
    said = {"version": hello.protocolVersion, "tools": tools, "results": results, "progress": progress, "logs": logs}
    print(json.dumps(said))


anyio.run(main)
