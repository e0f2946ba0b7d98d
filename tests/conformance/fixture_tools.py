"""The tools of the fixture server, one function each, under the names that the conformance suite looks for.

Owns what they do and who hears of changes. Deliberately no wire formats: those are the SDK's.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import anyio
import attrs
import mcp_types as types
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError

from tests.conformance import fixture_content as content
from tests.conformance.fixture_call import Call, Question, ToolFailed, form, model, roots
from tests.conformance.fixture_content import Json, text

PAUSE_S: Final = 0.05
"""Between two notifications; the suite's own number."""
RECONNECT_S: Final = 0.2
"""Long enough for a client to come back after ``retry``, which is 100 ms here."""
WATCHED: Final = "test://watched-resource"


@attrs.define
class Audience:
    """Who hears about changes: modern listen streams, and legacy sessions since their handshake."""

    bus: InMemorySubscriptionBus = attrs.field(factory=InMemorySubscriptionBus)
    sessions: list[ServerSession] = attrs.field(factory=list)
    subscribed: set[str] = attrs.field(factory=set)

    async def announce(self, event: ServerEvent, tell: Callable[[ServerSession], Awaitable[None]]) -> None:
        await self.bus.publish(event)
        if isinstance(event, ResourceUpdated) and event.uri not in self.subscribed:
            return
        for session in list(self.sessions):
            with anyio.move_on_after(1):
                try:
                    await tell(session)
                except (anyio.ClosedResourceError, anyio.BrokenResourceError, MCPError):
                    self.sessions.remove(session)


audience = Audience()


Run: TypeAlias = Callable[[Call], Awaitable[list[Json]]]


@attrs.frozen(kw_only=True)
class Tool:
    description: str
    schema: Json
    run: Run


TOOLS: dict[str, Tool] = {}


def tool(schema: Json = content.NOTHING, name: str | None = None) -> Callable[[Run], Run]:
    """Offer a function under its own name; its docstring is the description."""

    def add(run: Run) -> Run:
        TOOLS[name or run.__name__] = Tool(description=run.__doc__ or "", schema=schema, run=run)
        return run

    return add


def fixed(description: str, answer: list[Json]) -> Tool:
    async def run(call: Call) -> list[Json]:
        return answer

    return Tool(description=description, schema=content.NOTHING, run=run)


TOOLS.update({name: fixed(*entry) for name, entry in content.FIXED_TOOLS.items()})


@tool()
async def test_error_handling(call: Call) -> list[Json]:
    """Always fails, as a tool fails."""
    raise ToolFailed("This tool intentionally returns an error for testing")


@tool()
async def test_tool_with_logging(call: Call) -> list[Json]:
    """Logs three times."""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await call.log(message)
        await anyio.sleep(PAUSE_S)
    return [text("Tool with logging executed successfully")]


TOOLS["test_logging_tool"] = TOOLS["test_tool_with_logging"]


@tool()
async def test_tool_with_progress(call: Call) -> list[Json]:
    """Reports progress three times."""
    for done in (0, 50, 100):
        await call.progress(done, 100)
        await anyio.sleep(PAUSE_S)
    return [text("Tool with progress executed successfully")]


@tool({"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]})
async def test_sampling(call: Call) -> list[Json]:
    """Asks the client's model."""
    answer = await call.ask(sample=model(call.arguments["prompt"]))
    return [text(f"LLM response: {answer['sample']['content'].get('text')}")]


@tool({"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]})
async def test_elicitation(call: Call) -> list[Json]:
    """Asks the user."""
    answer = (await call.ask(user=form(call.arguments["message"], content.RESPONSE)))["user"]
    return [text(f"User response: action={answer['action']}, content={json.dumps(answer.get('content'))}")]


@tool()
async def test_elicitation_sep1034_defaults(call: Call) -> list[Json]:
    """Asks the user with a default for every primitive type."""
    answer = (await call.ask(user=form("Please provide user information", content.DEFAULTS)))["user"]
    return [text(f"Elicitation completed: action={answer['action']}, content={json.dumps(answer.get('content'))}")]


@tool()
async def test_elicitation_sep1330_enums(call: Call) -> list[Json]:
    """Asks the user with every kind of choice."""
    answer = (await call.ask(user=form("Please select values", content.ENUMS)))["user"]
    return [text(f"Elicitation completed: action={answer['action']}, content={json.dumps(answer.get('content'))}")]


@tool()
async def test_streaming_elicitation(call: Call) -> list[Json]:
    """Reports progress, then asks the user."""
    await call.progress(0, 1)
    answer = (await call.ask(user=form("What is your name?", content.NAME)))["user"]
    return [text(f"User response: action={answer['action']}")]


@tool(content.SCHEMA_2020_12)
async def json_schema_2020_12_tool(call: Call) -> list[Json]:
    """Tool with JSON Schema 2020-12 features"""
    return [text(json.dumps(call.arguments))]


@tool(content.HEADER_ARGUMENTS)
async def test_x_mcp_header(call: Call) -> list[Json]:
    """Has an argument that clients mirror into a header."""
    return [text(f"region={call.arguments.get('region', '<none>')}")]


@tool()
async def test_missing_capability(call: Call) -> list[Json]:
    """Needs a client that declares sampling."""
    if call.capabilities.sampling is None:
        raise MCPError(
            code=types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="This tool needs the client's sampling",
            data={"requiredCapabilities": {"sampling": {}}},
        )
    return [text("The client declared sampling.")]


@tool()
async def test_reconnection(call: Call) -> list[Json]:
    """Closes its stream in the middle of the call; the answer is there when the client comes back."""
    if call.ctx.close_sse_stream is not None:
        await call.ctx.close_sse_stream()
    await anyio.sleep(RECONNECT_S)
    return [text("Reconnection test completed")]


@tool()
async def test_input_required_result_elicitation(call: Call) -> list[Json]:
    """Asks the user for a name."""
    answer = (await call.ask(user_name=form("What is your name?", content.NAME)))["user_name"]
    return [text(f"Hello, {(answer.get('content') or {}).get('name', 'stranger')}!")]


@tool()
async def test_input_required_result_sampling(call: Call) -> list[Json]:
    """Asks the client's model for a capital."""
    answer = await call.ask(capital_question=model("What is the capital of France?"))
    return [text(f"Model said: {answer['capital_question']['content'].get('text')}")]


@tool()
async def test_input_required_result_list_roots(call: Call) -> list[Json]:
    """Asks the client for its roots."""
    answer = await call.ask(client_roots=roots())
    return [text(f"Roots: {json.dumps(answer['client_roots']['roots'])}")]


@tool()
async def test_input_required_result_request_state(call: Call) -> list[Json]:
    """Asks for a confirmation and gives state that must come back."""
    await call.ask(stateful=True, confirm=form("Please confirm", content.CONFIRM))
    return [text("state-ok")]


TOOLS["test_input_required_result_tampered_state"] = TOOLS["test_input_required_result_request_state"]


@tool()
async def test_input_required_result_multiple_inputs(call: Call) -> list[Json]:
    """Asks the user, the model and for roots in one round."""
    answers = await call.ask(
        stateful=True,
        user_name=form("What is your name?", content.NAME),
        greeting=model("Generate a greeting", 50),
        client_roots=roots(),
    )
    return [text(json.dumps(answers))]


@tool()
async def test_input_required_result_multi_round(call: Call) -> list[Json]:
    """Asks the user twice, one question after the other."""
    first = await call.ask(stateful=True, step1=form("Step 1: What is your name?", content.NAME))
    second = await call.ask(step2=form("Step 2: What is your favorite color?", content.COLOR))
    return [text(json.dumps({**first, **second}))]


@tool()
async def test_input_required_result_capabilities(call: Call) -> list[Json]:
    """Asks only what the client says it can answer."""
    questions: dict[str, Question] = {}
    if call.capabilities.sampling is not None:
        questions["sample"] = model("Say hello", 50)
    if call.capabilities.elicitation is not None:
        questions["ask"] = form("What is your name?", content.NAME)
    return [text(json.dumps(await call.ask(stateful=True, **questions)))]


@tool()
async def test_trigger_tool_change(call: Call) -> list[Json]:
    """Adds a tool, or takes it away again, and says that the list has changed."""
    if TOOLS.pop("test_dynamic_tool", None) is None:
        TOOLS["test_dynamic_tool"] = fixed("Comes and goes.", [text("dynamic")])
    await audience.announce(ToolsListChanged(), ServerSession.send_tool_list_changed)
    return [text("tool list changed")]


@tool()
async def test_trigger_prompt_change(call: Call) -> list[Json]:
    """Adds a prompt, or takes it away again, and says that the list has changed."""
    dynamic = {"name": "test_dynamic_prompt", "description": "Comes and goes."}
    if dynamic in content.PROMPTS:
        content.PROMPTS.remove(dynamic)
    else:
        content.PROMPTS.append(dynamic)
    await audience.announce(PromptsListChanged(), ServerSession.send_prompt_list_changed)
    return [text("prompt list changed")]


@tool()
async def test_trigger_resource_update(call: Call) -> list[Json]:
    """Says to those who subscribed that the watched resource has changed."""
    await audience.announce(ResourceUpdated(uri=WATCHED), lambda session: session.send_resource_updated(WATCHED))
    return [text("resource updated")]
