"""A server on another maker's framework (fastmcp 4.1): the modern revision and the legacy ones on one endpoint.

Usage: ``fastmcp4_server.py [--port N] [--stateless] [--json] [--sse | --stdio]``, as for ``mcp1_server.py``.
"""

import warnings

import anyio
from fastmcp import Context, FastMCP
from frame import arguments, listen, register
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    TextContent,
)

# Sampling, roots and logging are deprecated in the newest revision; gateways carry them nevertheless.
warnings.simplefilter("ignore", MCPDeprecationWarning)

options = arguments("--stateless", "--json", "--sse", "--stdio")
server = FastMCP("fastmcp4-peer", version="1.0.0")
register(server, Context)


@server.tool()
async def ask(ctx: Context, question: str = "Which colour?") -> str | InputRequiredResult:
    """Ask the user something, in the middle of the call."""
    if ctx._is_modern_protocol():
        answers = ctx.input_responses or {}
        if "colour" not in answers:
            schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
            asked = ElicitRequest(params=ElicitRequestFormParams(message=question, requested_schema=schema))
            return InputRequiredResult(input_requests={"colour": asked}, request_state="asked for a colour")
        given = answers["colour"]
        return f"{given.action}: {given.content['colour']}" if given.action == "accept" else given.action
    answer = await ctx.elicit(question, response_type=str)
    return f"{answer.action}: {answer.data}" if answer.action == "accept" else answer.action


@server.tool()
async def sample(ctx: Context, prompt: str = "Say hello") -> str | InputRequiredResult:
    """Ask the client's model something, in the middle of the call."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    if ctx._is_modern_protocol():
        answers = ctx.input_responses or {}
        if "sample" not in answers:
            asked = CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))
            return InputRequiredResult(input_requests={"sample": asked})
        result = answers["sample"]
    else:
        result = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    return result.content.text if isinstance(result.content, TextContent) else "not a text"


@server.tool()
async def roots(ctx: Context) -> str | InputRequiredResult:
    """Ask the client for its roots; to a legacy client on the GET stream, as the SDK does it."""
    if ctx._is_modern_protocol():
        answers = ctx.input_responses or {}
        if "roots" not in answers:
            return InputRequiredResult(input_requests={"roots": ListRootsRequest()})
        result = answers["roots"]
    else:
        result = await ctx.session.list_roots()
    return " ".join(str(root.uri) for root in result.roots)


@server.tool()
async def logs(ctx: Context, count: int = 3) -> str:
    """Send log messages, one after the other."""
    for number in range(count):
        await ctx.info(f"log {number}")
    return f"{count} logs"


async def main() -> None:
    if options.stdio:
        await server.run_stdio_async(show_banner=False)
    else:
        transport = "sse" if options.sse else "http"
        app = server.http_app(transport=transport, json_response=options.json, stateless_http=options.stateless)
        await listen(app, options.port)


anyio.run(main)
