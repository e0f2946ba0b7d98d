"""Tools that ask in one way only, as people write them with the SDKs, and a counter for each session.

What pushes a question (``ctx.elicit``, ``create_message``, ``list_roots``) is there on a 2025 connection only, what
returns it in 2026 only; what is kept for a session is there in 2025 only. The same on the SDK's second major version
and, with ``--fastmcp``, on another maker's framework.

Usage: ``one_way_server.py [--port N] [--fastmcp] [--stateless] [--stdio]``, as for ``mcp1_server.py``.
"""

import sys
import warnings
from typing import Any

import anyio
from frame import arguments, listen
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel

if "--fastmcp" in sys.argv:
    from fastmcp import Context
    from fastmcp import FastMCP as Server
else:
    from mcp.server.mcpserver import Context
    from mcp.server.mcpserver import MCPServer as Server

# Sampling, roots and logging are deprecated in the newest revision; gateways carry them nevertheless.
warnings.simplefilter("ignore", MCPDeprecationWarning)

options = arguments("--fastmcp", "--stateless", "--stdio")
server: Any = Server("one-way-peer", version="1.0.0")
counts: dict[int, int] = {}


class Colour(BaseModel):
    colour: str


@server.tool()
async def push_elicitation(ctx: Context) -> str:
    """Ask the user by a request."""
    answer = await ctx.elicit("Which colour?", Colour)
    return f"{answer.action}: {answer.data.colour}" if answer.action == "accept" else answer.action


@server.tool()
async def push_sampling(ctx: Context) -> str:
    """Ask the client's model by a request that names this call."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text="Say hello"))
    answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    return answer.content.text if isinstance(answer.content, TextContent) else "not a text"


@server.tool()
async def push_roots(ctx: Context) -> str:
    """Ask the client for its roots by a request that names no call: it comes on the session's own stream."""
    answer = await ctx.session.list_roots()
    return " ".join(str(root.uri) for root in answer.roots)


@server.tool()
async def return_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Ask the user by the result."""
    answer = (ctx.input_responses or {}).get("colour")
    if isinstance(answer, ElicitResult):
        return f"{answer.action}: {(answer.content or {}).get('colour')}"
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    asked = ElicitRequest(params=ElicitRequestFormParams(message="Which colour?", requested_schema=schema))
    return InputRequiredResult(input_requests={"colour": asked}, request_state="asked")


@server.tool()
async def count(ctx: Context) -> str:
    """Which call of its session this is."""
    connection = id(getattr(ctx.session, "_connection", ctx.session))
    counts[connection] = counts.get(connection, 0) + 1
    return str(counts[connection])


async def main() -> None:
    if options.stdio:
        await server.run_stdio_async()
    elif options.fastmcp:
        await listen(server.http_app(transport="http", stateless_http=options.stateless), options.port)
    else:
        await listen(server.streamable_http_app(stateless_http=options.stateless), options.port)


anyio.run(main)
