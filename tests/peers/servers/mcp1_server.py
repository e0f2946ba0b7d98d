"""A server on the SDK's first major version (mcp 1.30), as most servers of today are.

Speaks the legacy revisions only. Usage: ``mcp1_server.py [--port N] [--stateless] [--json] [--sse | --stdio]``;
``--stateless`` gives no session ids, ``--json`` answers with JSON instead of an event stream, ``--sse`` is the
HTTP+SSE transport of 2024-11-05 under ``/sse``, ``--stdio`` speaks on standard input and output.
"""

import anyio
from frame import Subscribers, arguments, listen, register
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.session import ServerSession
from mcp.types import SamplingMessage, TextContent
from pydantic import AnyUrl, BaseModel

options = arguments("--stateless", "--json", "--sse", "--stdio")
server = FastMCP("mcp1-peer", stateless_http=options.stateless, json_response=options.json, log_level="WARNING")
register(server, Context)

Call = Context[ServerSession, None]


class Colour(BaseModel):
    colour: str


@server.tool()
async def ask(ctx: Call, question: str = "Which colour?") -> str:
    """Ask the user something, in the middle of the call."""
    answer = await ctx.elicit(message=question, schema=Colour)
    return f"{answer.action}: {answer.data.colour}" if answer.action == "accept" else answer.action


@server.tool()
async def sample(ctx: Call, prompt: str = "Say hello") -> str:
    """Ask the client's model something, in the middle of the call."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    result = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    return result.content.text if isinstance(result.content, TextContent) else "not a text"


@server.tool()
async def roots(ctx: Call) -> list[str]:
    """Ask the client for its roots. This SDK sends the request on the GET stream, which is badly behaved but real."""
    return [str(root.uri) for root in (await ctx.session.list_roots()).roots]


@server.tool()
async def logs(ctx: Call, count: int = 3) -> str:
    """Send log messages, one after the other."""
    for number in range(count):
        await ctx.info(f"log {number}")
    return f"{count} logs"


@server.tool()
async def grow(ctx: Call) -> str:
    """Add a tool and say that the list has changed."""
    server.add_tool(lambda: "grown", name="grown", description="A tool that was not there at first.")
    await ctx.session.send_tool_list_changed()
    return "grown"


subscribers = Subscribers()
handlers = server._mcp_server  # the decorators of this SDK know no subscriptions


@handlers.subscribe_resource()
async def subscribe(uri: AnyUrl) -> None:
    subscribers.add(handlers.request_context.session, uri)


@handlers.unsubscribe_resource()
async def unsubscribe(uri: AnyUrl) -> None:
    subscribers.discard(handlers.request_context.session, uri)


@server.tool()
async def touch(ctx: Call, uri: str = "peer://note") -> str:
    """Tell this session that a resource has changed, if it is subscribed; on the GET stream, as the SDK does it."""
    if (ctx.session, uri) in subscribers:
        await ctx.session.send_resource_updated(AnyUrl(uri))
    return "touched"


async def main() -> None:
    if options.stdio:
        await server.run_stdio_async()
    else:
        await listen(server.sse_app() if options.sse else server.streamable_http_app(), options.port)


anyio.run(main)
