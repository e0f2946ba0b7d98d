"""A server with everything that the conformance suite looks for, on the SDK's low-level server.

Owns the handlers of the protocol's methods. Serves the modern revision and the legacy ones on one endpoint; a tool that
asks its client something does so in the caller's era's way, so that both bridges of the gateway can be measured against
it; or, with ``--one-way``, as the SDKs' users write tools: some push their question, which exists on a 2025 connection
only, some return it, which exists in 2026 only. Deliberately nothing of the gateway in it: it is the independent other
side.

Usage: ``python -m tests.conformance.fixture_server [--port N] [--one-way] [--stateless] [--json]``; it prints
``listening on PORT``.
"""

import json
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import mcp_types as types
from mcp.server import Server
from mcp.server.caching import CacheHint
from mcp.server.lowlevel import NotificationOptions
from mcp.server.models import InitializationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from tests.conformance import fixture_content as content
from tests.conformance.fixture_call import MODERN, Call, Context, InputNeeded, ToolFailed, Way, form
from tests.conformance.fixture_content import Json, text
from tests.conformance.fixture_tools import TOOLS, WATCHED, audience
from tests.peers.servers.frame import arguments, listen

# Sampling, roots and logging are deprecated in the newest revision; a gateway carries them nevertheless.
warnings.simplefilter("ignore", MCPDeprecationWarning)


FRESH = CacheHint(ttl_ms=60_000, scope="public")


class Fixture(Server[Any]):
    """The SDK's server, which forgets to say in the legacy handshake that its lists can change."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        every = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        return super().create_initialization_options(every, experimental_capabilities, extensions)


class Replay(EventStore):
    """Every event of every stream, for clients that come back."""

    def __init__(self) -> None:
        self._events: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        if not last_event_id.isdecimal() or not 0 < int(last_event_id) <= len(self._events):
            return None
        seen = int(last_event_id)
        stream_id = self._events[seen - 1][0]
        for number, (stream, message) in enumerate(self._events[seen:], start=seen + 1):
            if stream == stream_id and message is not None:  # not the priming events
                await send_callback(EventMessage(message, str(number)))
        return stream_id


async def list_tools(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    tools = [
        {"name": name, "description": entry.description, "inputSchema": entry.schema} for name, entry in TOOLS.items()
    ]
    return types.ListToolsResult.model_validate({"tools": tools})


RETURNING = ("test_input_required_result_", "test_streaming_")
"""How the names of tools begin that return what they ask, where tools ask in one way."""


def way_of(name: str, *, one_way: bool) -> Way:
    if not one_way:
        return Way.ITS_CALLERS
    return Way.RETURNS if name.startswith(RETURNING) else Way.PUSHES


async def call_tool(
    ctx: Context, params: types.CallToolRequestParams, *, one_way: bool
) -> types.CallToolResult | types.InputRequiredResult:
    entry = TOOLS.get(params.name)
    if entry is None:
        raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown tool: {params.name}")
    try:
        answer = await entry.run(Call(ctx, params.arguments or {}, way_of(params.name, one_way=one_way)))
    except InputNeeded as needed:
        return types.InputRequiredResult.model_validate(needed.result)
    except ToolFailed as failed:
        return types.CallToolResult.model_validate({"content": [text(str(failed))], "isError": True})
    return types.CallToolResult.model_validate({"content": answer})


async def list_prompts(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
    return types.ListPromptsResult.model_validate({"prompts": content.PROMPTS})


async def get_prompt(
    ctx: Context, params: types.GetPromptRequestParams, *, one_way: bool
) -> types.GetPromptResult | types.InputRequiredResult:
    try:
        call = Call(ctx, dict(params.arguments or {}), way_of(params.name, one_way=one_way))
        blocks = await _prompt(params.name, call)
    except InputNeeded as needed:
        return types.InputRequiredResult.model_validate(needed.result)
    messages = [{"role": "user", "content": block} for block in blocks]
    return types.GetPromptResult.model_validate({"messages": messages})


async def _prompt(name: str, call: Call) -> list[Json]:
    given = call.arguments
    match name:
        case "test_simple_prompt":
            return [text("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            return [text(f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'")]
        case "test_prompt_with_embedded_resource":
            uri = given.get("resourceUri", "test://embedded-resource")
            return [
                content.embedded(uri, "text/plain", "Embedded resource content for testing."),
                text("Please process the embedded resource above."),
            ]
        case "test_prompt_with_image":
            return [content.image(), text("Please analyze the image above.")]
        case "test_input_required_result_prompt":
            answer = await call.ask(user_context=form("What context should the prompt use?", content.CONTEXT))
            return [text(f"Use this context: {json.dumps(answer['user_context'].get('content'))}")]
        case "test_dynamic_prompt":
            return [text("dynamic")]
        case _:
            raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown prompt: {name}")


async def list_resources(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    return types.ListResourcesResult.model_validate({"resources": content.RESOURCES})


async def list_templates(
    ctx: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult.model_validate({"resourceTemplates": content.TEMPLATES})


async def read_resource(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    prefix, suffix = "test://template/", "/data"
    found: Json
    if uri == "test://static-text":
        found = {"mimeType": "text/plain", "text": "This is the content of the static text resource."}
    elif uri == "test://static-binary":
        found = {"mimeType": "image/png", "blob": content.PNG}
    elif uri == WATCHED:
        found = {"mimeType": "text/plain", "text": "Watched resource content"}
    elif uri.startswith(prefix) and uri.endswith(suffix):
        number = uri[len(prefix) : -len(suffix)]
        data = {"id": number, "templateTest": True, "data": f"Data for ID: {number}"}
        found = {"mimeType": "application/json", "text": json.dumps(data, separators=(",", ":"))}
    else:
        # "Resource not found" was -32002 until 2026-07-28, which must not send it any more.
        code = types.INVALID_PARAMS if ctx.protocol_version == MODERN else -32002
        raise MCPError(code=code, message="Resource not found", data={"uri": uri})
    return types.ReadResourceResult.model_validate({"contents": [{"uri": uri, **found}]})


async def subscribe(ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
    audience.subscribed.add(str(params.uri))
    return types.EmptyResult()


async def unsubscribe(ctx: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
    audience.subscribed.discard(str(params.uri))
    return types.EmptyResult()


async def set_level(ctx: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
    return types.EmptyResult()


async def complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    values = [value for value in content.COMPLETIONS if value.startswith(params.argument.value)]
    completion = {"values": values, "total": len(values), "hasMore": False}
    return types.CompleteResult.model_validate({"completion": completion})


async def initialized(ctx: Context, params: types.NotificationParams) -> None:
    audience.sessions.append(ctx.session)


def schema_of(name: str) -> Mapping[str, Any] | None:
    """For the SDK's check of mirrored headers."""
    return TOOLS[name].schema if name in TOOLS else None


def make_server(*, one_way: bool) -> Fixture:
    server = Fixture(
        "conformance-fixture",
        version="1.0.0",
        instructions="Everything that the conformance suite looks for.",
        cache_hints={
            "server/discover": FRESH,
            "tools/list": FRESH,
            "prompts/list": FRESH,
            "resources/list": FRESH,
            "resources/templates/list": FRESH,
            "resources/read": FRESH,
        },
        get_tool_input_schema=schema_of,
        on_list_tools=list_tools,
        on_call_tool=partial(call_tool, one_way=one_way),
        on_list_prompts=list_prompts,
        on_get_prompt=partial(get_prompt, one_way=one_way),
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_set_logging_level=set_level,
        on_completion=complete,
        on_subscriptions_listen=ListenHandler(audience.bus),
    )
    server.add_notification_handler("notifications/initialized", types.NotificationParams, initialized)
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=server.name))
    return server


async def main() -> None:
    options = arguments("--one-way", "--stateless", "--json")
    app = make_server(one_way=options.one_way).streamable_http_app(
        stateless_http=options.stateless,
        json_response=options.json,
        event_store=Replay(),
        retry_interval=100,
    )
    await listen(app, options.port)


if __name__ == "__main__":
    anyio.run(main)
