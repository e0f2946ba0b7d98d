"""A server on the SDK's second major version (mcp 2.3): the modern revision and the legacy ones on one endpoint.

Usage: ``mcp2_server.py [--port N] [--stateless] [--json] [--sse | --stdio]``, as for ``mcp1_server.py``.
"""

import warnings
from typing import Any

import anyio
from frame import Subscribers, arguments, listen, register
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.shared.message import ServerMessageMetadata
from mcp.types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmptyResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequestParams,
)

# Sampling, roots and logging are deprecated in the newest revision; gateways carry them nevertheless.
warnings.simplefilter("ignore", MCPDeprecationWarning)

MODERN = "2026-07-28"
options = arguments("--stateless", "--json", "--sse", "--stdio")
server = MCPServer("mcp2-peer", version="1.0.0", log_level="WARNING")
register(server, Context)


async def request(ctx: Context, key: str, asked: Any, answer_type: type) -> Any:
    """Ask the client in its era's way: ``None`` means that the call must return ``InputRequiredResult`` first."""
    if ctx.protocol_version == MODERN:
        return (ctx.input_responses or {}).get(key)
    metadata = ServerMessageMetadata(related_request_id=ctx.request_id)
    return await ctx.session.send_request(asked, answer_type, metadata=metadata)


@server.tool()
async def ask(ctx: Context, question: str = "Which colour?") -> str | InputRequiredResult:
    """Ask the user something, in the middle of the call."""
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    asked = ElicitRequest(params=ElicitRequestFormParams(message=question, requested_schema=schema))
    answer = await request(ctx, "colour", asked, ElicitResult)
    if answer is None:
        return InputRequiredResult(input_requests={"colour": asked}, request_state="asked for a colour")
    return f"{answer.action}: {answer.content['colour']}" if answer.action == "accept" else answer.action


@server.tool()
async def sample(ctx: Context, prompt: str = "Say hello") -> str | InputRequiredResult:
    """Ask the client's model something, in the middle of the call."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    asked = CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))
    answer = await request(ctx, "sample", asked, CreateMessageResult)
    if answer is None:
        return InputRequiredResult(input_requests={"sample": asked})
    return answer.content.text if isinstance(answer.content, TextContent) else "not a text"


@server.tool()
async def roots(ctx: Context) -> str | InputRequiredResult:
    """Ask the client for its roots."""
    asked = ListRootsRequest()
    answer = await request(ctx, "roots", asked, ListRootsResult)
    if answer is None:
        return InputRequiredResult(input_requests={"roots": asked})
    return " ".join(str(root.uri) for root in answer.roots)


@server.tool()
async def logs(ctx: Context, count: int = 3) -> str:
    """Send log messages, one after the other."""
    for number in range(count):
        await ctx.info(f"log {number}")
    return f"{count} logs"


@server.tool()
async def grow(ctx: Context) -> str:
    """Add a tool and say that the list has changed, in both eras' ways."""
    server.add_tool(lambda: "grown", name="grown", description="A tool that was not there at first.")
    await ctx.notify_tools_changed()
    if ctx.protocol_version != MODERN:
        await ctx.session.send_tool_list_changed()
    return "grown"


subscribers = Subscribers()


async def subscribe(ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
    subscribers.add(ctx.session, params.uri)
    return EmptyResult()


async def unsubscribe(ctx: Any, params: UnsubscribeRequestParams) -> EmptyResult:
    subscribers.discard(ctx.session, params.uri)
    return EmptyResult()


# The decorators of this SDK know no subscriptions of legacy clients.
server._lowlevel_server.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
server._lowlevel_server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)


@server.tool()
async def touch(ctx: Context, uri: str = "peer://note") -> str:
    """Say that a resource has changed: to whoever listens, and to this session if it is subscribed."""
    await ctx.notify_resource_updated(uri)
    if (ctx.session, uri) in subscribers:
        await ctx.session.send_resource_updated(uri)
    return "touched"


async def main() -> None:
    if options.stdio:
        await server.run_stdio_async()
    elif options.sse:
        await listen(server.sse_app(), options.port)
    else:
        app = server.streamable_http_app(stateless_http=options.stateless, json_response=options.json)
        await listen(app, options.port)


anyio.run(main)
