"""The conformance suite's names on the Python SDK's own server, written as that SDK's users write servers.

Owns nothing of the protocol: what a tool asks, it asks with the means that the SDK documents for it. Some tools push
their question (``ctx.elicit``, ``create_message``), which exists on a 2025 connection only; the ``input_required`` ones
return it, which exists in 2026 only. Deliberately unlike ``fixture_server``, whose tools ask in the caller's era's way:
most servers do not.

Usage: ``python -m tests.conformance.sdk_python [--port N] [--stateless] [--json]``; it prints ``listening on PORT``.
"""

import base64
import json
import warnings
from typing import Annotated, Any, Final, TypeAlias

import anyio
import mcp_types as types
from mcp.server import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer, RequestStateSecurity
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.prompts.base import Message, UserMessage
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from pydantic import BaseModel, Field, TypeAdapter

from tests.conformance import fixture_content as content
from tests.conformance.fixture_call import Question, form, model, roots
from tests.conformance.fixture_content import Json
from tests.conformance.fixture_server import Replay
from tests.peers.servers.frame import arguments, listen

# Sampling, roots and logging are deprecated in the newest revision; a gateway carries them nevertheless.
warnings.simplefilter("ignore", MCPDeprecationWarning)

PAUSE_S: Final = 0.05
"""Between two notifications; the suite's own number."""
RECONNECT_S: Final = 0.2
RETRY_MS: Final = 100
WATCHED: Final = "test://watched-resource"

Ctx: TypeAlias = Context[Any, Any]
Reply: TypeAlias = str | types.InputRequiredResult

server: Final = MCPServer(
    "conformance-python-sdk", version="1.0.0", request_state_security=RequestStateSecurity.ephemeral()
)


# --- tools that answer -----------------------------------------------------------------------------------------------

BLOCK: Final[TypeAdapter[types.ContentBlock]] = TypeAdapter(types.ContentBlock)


def add_fixed(name: str, description: str, answer: list[Json]) -> None:
    def run() -> list[Any]:
        return [BLOCK.validate_python(block) for block in answer]

    server.add_tool(run, name=name, description=description, structured_output=False)


for _name, (_description, _answer) in content.FIXED_TOOLS.items():
    add_fixed(_name, _description, _answer)


@server.tool()
def test_error_handling() -> str:
    """Always fails, as a tool fails."""
    raise RuntimeError("This tool intentionally returns an error for testing")


@server.tool()
async def test_tool_with_logging(ctx: Ctx) -> str:
    """Logs three times."""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(message)
        await anyio.sleep(PAUSE_S)
    return "Tool with logging executed successfully"


server.add_tool(test_tool_with_logging, name="test_logging_tool")


@server.tool()
async def test_tool_with_progress(ctx: Ctx) -> str:
    """Reports progress three times."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100, f"Completed step {done} of 100")
        await anyio.sleep(PAUSE_S)
    return "Tool with progress executed successfully"


@server.tool()
def test_streaming_elicitation() -> str:
    """Answers, and asks nothing."""
    return "nothing was asked"


@server.tool()
async def test_reconnection(ctx: Ctx) -> str:
    """Ends its own stream in the middle of the call, so that the client comes back for the answer."""
    await ctx.info("Before disconnect")
    await ctx.close_sse_stream()
    await anyio.sleep(RECONNECT_S)
    await ctx.info("After reconnect")
    return "Reconnection test completed"


@server.tool()
def test_x_mcp_header(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "",  # noqa: PT028  # no test
) -> str:
    """Has an argument that is mirrored into a header."""
    return f"region={region}"


@server.tool()
def test_missing_capability(ctx: Ctx) -> str:
    """Refuses a client that cannot sample, as the protocol wants it said."""
    capabilities = ctx.client_capabilities
    if capabilities is None or capabilities.sampling is None:
        raise MCPError(
            code=types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="This tool needs a client with sampling",
            data={"requiredCapabilities": {"sampling": {}}},
        )
    return "The client can sample."


def json_schema_2020_12_tool() -> str:
    """Has every keyword of JSON Schema 2020-12 in its schema."""
    return "done"


server.add_tool(json_schema_2020_12_tool)
# The SDK writes schemas from signatures only; there is no public way to give one.
_tool = server._tool_manager.get_tool("json_schema_2020_12_tool")
assert _tool is not None
_tool.parameters = content.SCHEMA_2020_12


# --- tools that push their question: a 2025 connection only ----------------------------------------------------------


class Response(BaseModel):
    response: str = Field(description="The user's response")


@server.tool()
async def test_sampling(prompt: str, ctx: Ctx) -> str:
    """Asks the client's model."""
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
    try:
        answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    except Exception as exc:  # noqa: BLE001  # a server says so in its result, whatever it was
        return f"Sampling not supported: {exc}"
    return f"LLM response: {answer.content.text if isinstance(answer.content, types.TextContent) else '?'}"


async def elicit(ctx: Ctx, message: str, schema: type[BaseModel]) -> str:
    try:
        answer = await ctx.elicit(message, schema)
    except Exception as exc:  # noqa: BLE001  # a server says so in its result, whatever it was
        return f"Elicitation not supported: {exc}"
    given = answer.data.model_dump_json() if answer.action == "accept" else "{}"
    return f"User response: action={answer.action}, content={given}"


@server.tool()
async def test_elicitation(message: str, ctx: Ctx) -> str:
    """Asks the user."""
    return await elicit(ctx, message, Response)


class Defaults(BaseModel):
    name: str = Field(default="John Doe", description="User name")
    age: int = Field(default=30, description="User age")
    score: float = Field(default=95.5, description="User score")
    status: str = Field(
        default="active", description="User status", json_schema_extra={"enum": ["active", "inactive", "pending"]}
    )
    verified: bool = Field(default=True, description="Verification status")


@server.tool()
async def test_elicitation_sep1034_defaults(ctx: Ctx) -> str:
    """Asks the user with a default for every primitive type."""
    return await elicit(ctx, "Please review the defaults", Defaults)


def choice(name: str) -> Any:  # noqa: ANN401  # what pydantic's Field gives, which stands for the field's own type
    field = content.ENUMS["properties"][name]
    extra = {key: value for key, value in field.items() if key != "type"}
    return Field(description=name, json_schema_extra=extra)


class Enums(BaseModel):
    untitledSingle: str = choice("untitledSingle")
    titledSingle: str = choice("titledSingle")
    legacyEnum: str = choice("legacyEnum")
    untitledMulti: list[str] = choice("untitledMulti")
    titledMulti: list[str] = choice("titledMulti")


@server.tool()
async def test_elicitation_sep1330_enums(ctx: Ctx) -> str:
    """Asks the user to choose, in every way that a schema can say it."""
    return await elicit(ctx, "Please choose", Enums)


# --- tools and a prompt that return their question: 2026 only --------------------------------------------------------


def given(ctx: Ctx, key: str, kind: type[types.InputResponse]) -> types.InputResponse | None:
    """The client's answer of this round, if it is one of the right kind."""
    answer = (ctx.input_responses or {}).get(key)
    return answer if isinstance(answer, kind) else None


def needed(state: str | None = None, **questions: Question) -> types.InputRequiredResult:
    return types.InputRequiredResult(input_requests=dict(questions), request_state=state)


@server.tool()
def test_input_required_result_elicitation(ctx: Ctx) -> Reply:
    """Asks the user once."""
    answer = given(ctx, "user_name", types.ElicitResult)
    return str(answer) if answer else needed(user_name=form("What is your name?", content.NAME))


@server.tool()
def test_input_required_result_sampling(ctx: Ctx) -> Reply:
    """Asks the client's model once."""
    answer = given(ctx, "capital_question", types.CreateMessageResult)
    return str(answer) if answer else needed(capital_question=model("What is the capital of France?"))


@server.tool()
def test_input_required_result_list_roots(ctx: Ctx) -> Reply:
    """Asks for the client's roots."""
    answer = given(ctx, "client_roots", types.ListRootsResult)
    return str(answer) if answer else needed(client_roots=roots())


@server.tool()
def test_input_required_result_request_state(ctx: Ctx) -> Reply:
    """Remembers something between two rounds."""
    if given(ctx, "confirm", types.ElicitResult) and ctx.request_state == "remembered":
        return "state-ok"
    return needed("remembered", confirm=form("Please confirm", content.CONFIRM))


@server.tool()
def test_input_required_result_tampered_state(ctx: Ctx) -> Reply:
    """Remembers something that the SDK seals."""
    return "state-ok" if ctx.request_state else needed("sealed", confirm=form("Please confirm", content.CONFIRM))


@server.tool()
def test_input_required_result_multiple_inputs(ctx: Ctx) -> Reply:
    """Asks the user, the model and for roots in one round."""
    if (ctx.input_responses or {}).keys() >= {"user_name", "greeting", "client_roots"}:
        return "all were answered"
    return needed(
        "asked for three",
        user_name=form("What is your name?", content.NAME),
        greeting=model("Generate a greeting", 50),
        client_roots=roots(),
    )


@server.tool()
def test_input_required_result_multi_round(ctx: Ctx) -> Reply:
    """Asks the user twice, one question after the other."""
    state: Json = json.loads(ctx.request_state or '{"round": 0}')
    if state["round"] == 2 and (color := given(ctx, "step2", types.ElicitResult)):
        return f"{state['name']} likes {color}"
    if state["round"] == 1 and (name := given(ctx, "step1", types.ElicitResult)):
        second = json.dumps({"round": 2, "name": str(name)})
        return needed(second, step2=form("Step 2: What is your favorite color?", content.COLOR))
    return needed(json.dumps({"round": 1}), step1=form("Step 1: What is your name?", content.NAME))


@server.tool()
def test_input_required_result_capabilities(ctx: Ctx) -> types.InputRequiredResult:
    """Asks only what the client says it can answer."""
    capabilities = ctx.client_capabilities or types.ClientCapabilities()
    questions: dict[str, Question] = {}
    if capabilities.sampling is not None:
        questions["sample"] = model("Say hello", 50)
    if capabilities.elicitation is not None:
        questions["ask"] = form("What is your name?", content.NAME)
    return needed("gated", **questions)


@server.prompt()
def test_input_required_result_prompt(ctx: Ctx) -> list[Message] | types.InputRequiredResult:
    """A prompt that asks for its context first."""
    answer = given(ctx, "user_context", types.ElicitResult)
    if answer is None:
        return needed(user_context=form("What context should the prompt use?", content.CONTEXT))
    return [UserMessage(f"Use this context: {answer}")]


# --- changes, told to those who listen -------------------------------------------------------------------------------


def dynamic() -> str:
    """Comes and goes."""
    return "dynamic"


@server.tool()
async def test_trigger_tool_change(ctx: Ctx) -> str:
    """Adds a tool, takes it away again, and says that the list has changed."""
    server.add_tool(dynamic, name="test_dynamic_tool")
    server.remove_tool("test_dynamic_tool")
    await ctx.notify_tools_changed()
    return "tool list changed"


@server.tool()
async def test_trigger_prompt_change(ctx: Ctx) -> str:
    """Adds a prompt, takes it away again, and says that the list has changed."""
    server.add_prompt(Prompt.from_function(dynamic, name="test_dynamic_prompt"))
    server.remove_prompt("test_dynamic_prompt")
    await ctx.notify_prompts_changed()
    return "prompt list changed"


# --- prompts, resources and the rest ---------------------------------------------------------------------------------


@server.prompt()
def test_simple_prompt() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:
    """A prompt that embeds a resource."""
    block = content.embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
    return [UserMessage(BLOCK.validate_python(block)), UserMessage("Please process the embedded resource above.")]


@server.prompt()
def test_prompt_with_image() -> list[Message]:
    """A prompt with an image."""
    return [UserMessage(BLOCK.validate_python(content.image())), UserMessage("Please analyze the image above.")]


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """A text that never changes."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """An image that never changes."""
    return base64.b64decode(content.PNG)


@server.resource(WATCHED, mime_type="text/plain")
def watched() -> str:
    """A text that clients subscribe to."""
    return "Watched resource content"


@server.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    """Data for any id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@server.completion()  # type: ignore[no-untyped-call, untyped-decorator]  # the SDK's has no annotations
async def complete(
    ref: types.PromptReference | types.ResourceTemplateReference,
    argument: types.CompletionArgument,
    context: types.CompletionContext | None,
) -> types.Completion:
    values = [value for value in content.COMPLETIONS if value.startswith(argument.value)]
    return types.Completion(values=values, total=len(values), has_more=False)


async def accept(ctx: ServerRequestContext[Any, Any], params: types.RequestParams) -> types.EmptyResult:
    return types.EmptyResult()


def add_what_the_sdk_leaves_out() -> None:
    """Its high-level server has no place for the requests of 2025 about subscriptions and log levels."""
    low = server._lowlevel_server
    low.add_request_handler("resources/subscribe", types.SubscribeRequestParams, accept)
    low.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, accept)
    low.add_request_handler("logging/setLevel", types.SetLevelRequestParams, accept)


async def main() -> None:
    options = arguments("--stateless", "--json")
    add_what_the_sdk_leaves_out()
    app = server.streamable_http_app(
        stateless_http=options.stateless,
        json_response=options.json,
        event_store=Replay(),
        retry_interval=RETRY_MS,
    )
    await listen(app, options.port)


if __name__ == "__main__":
    anyio.run(main)
