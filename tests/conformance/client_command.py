"""The gateway as a client of the official suite: what `conformance client` runs for each of its scenarios.

Owns a gateway with the suite's server as its only backend, and the one conversation that a scenario wants to see.
Deliberately judges nothing: the suite looks at what its server got, which is what the gateway sent. Invariant: the
client in front is our raw one, so that nothing but the gateway can have made a header or a retry.

Usage: the suite appends its server's address; ``MCP_CONFORMANCE_SCENARIO`` names what to do, and
``MCP_GATEWAY_CLIENT`` (2025 or 2026) the era of the client in front, by default the scenario's own.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import trio

from tests.support.gateway import Running, running_gateway
from tests.support.raw_client import Client2025, Client2026, Message, as_header

Client: TypeAlias = Client2025 | Client2026
Scenario: TypeAlias = Callable[[Client], Awaitable[None]]

ACCEPTED: Final[Message] = {"action": "accept", "content": {"confirmed": True}}
OF_ITS_ERA: Final = frozenset({"request-metadata", "http-standard-headers"})
"""They look at every request as one of 2026, and a server that is pinned to nothing is asked ``initialize``, too."""
GIVE_UP_S: Final = 20.0
"""Before the suite does, so that there is something to read."""


async def handshake(client: Client) -> None:
    """The suite looks at what came before."""
    await client.list()


async def add_numbers(client: Client) -> None:
    await call(client, "add_numbers", {"a": 5, "b": 3})


async def defaults(client: Client) -> None:
    """Let the server ask, which it does on the session's own stream, and answer with the defaults of its form."""
    if isinstance(client, Client2026):
        await valid_tools(client)
        return
    stream = await client.stream()
    async with trio.open_nursery() as nursery:

        async def answer() -> None:
            while (message := await stream.next()) is not None:
                if "id" in message:
                    await client.respond(message["id"], reply(message))

        nursery.start_soon(answer)
        for name in await client.list():
            await call(client, name)
        nursery.cancel_scope.cancel("called")


async def reconnect(client: Client) -> None:
    await call(client, "test_reconnection")


async def every_kind(client: Client) -> None:
    """Lists and uses of everything, so that every standard header is seen."""
    for name in await client.list():
        await call(client, name)
    for uri in await client.list("resources"):
        await client.ask("resources/read", uri=uri)
    for name in await client.list("prompts"):
        await client.ask("prompts/get", name=name)


async def given_calls(client: Client) -> None:
    """The calls that the scenario hands over."""
    context: Mapping[str, Any] = json.loads(os.environ["MCP_CONFORMANCE_CONTEXT"])
    for one in context["toolCalls"]:
        await call(client, one["name"], one["arguments"])


async def valid_tools(client: Client) -> None:
    """Call whatever is listed: the bad ones must not be."""
    for name in await client.list():
        await call(client, name, {"region": "eu", "value": "x"})


async def rounds(client: Client) -> None:
    """Questions in the middle of calls, at the same time as a call that has nothing to do with them."""
    async with trio.open_nursery() as nursery:
        for name in ("test_mrtr_echo_state", "test_mrtr_no_state", "test_mrtr_unrelated", "test_mrtr_no_result_type"):
            nursery.start_soon(call, client, name)


async def echo_schema(client: Client) -> None:
    """Send back the schema that arrived."""
    tools = (await client.ask("tools/list"))["result"]["tools"]
    schema = next(tool["inputSchema"] for tool in tools if tool["name"] == "json_schema_2020_12_tool")
    await call(client, "json_schema_echo", {"schema": schema})


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "initialize": handshake,
    "tools_call": add_numbers,
    "elicitation-sep1034-client-defaults": defaults,
    "sse-retry": reconnect,
    "request-metadata": handshake,
    "sep-2322-client-request-state": rounds,
    "http-standard-headers": every_kind,
    "http-custom-headers": given_calls,
    "http-invalid-tool-headers": valid_tools,
    "json-schema-ref-no-deref": handshake,
    "json-schema-2020-12-preservation": echo_schema,
}


async def call(client: Client, name: str, arguments: Message | None = None) -> None:
    """Call a tool to its end, answering what is asked; an error ends the program."""
    answer = await _legacy_call(client, name, arguments) if isinstance(client, Client2025) else None
    if isinstance(client, Client2026):
        answer = await _modern_call(client, name, arguments)
    if answer is None or "error" in answer:
        raise SystemExit(f"{name}: {answer}")


async def _modern_call(client: Client2026, name: str, arguments: Message | None) -> Message:
    """Retry until the result is complete. The headers of arguments are mirrored as a client must."""
    schemas = {tool["name"]: tool["inputSchema"] for tool in (await client.ask("tools/list"))["result"]["tools"]}
    headers = mirrored(schemas.get(name, {}), arguments or {})
    more: Message = {}
    while True:
        exchange = await client.start("tools/call", None, headers, name=name, arguments=arguments or {}, **more)
        answer = await exchange.response()
        result = answer.get("result", {})
        if result.get("resultType") != "input_required":
            return answer
        more = {"inputResponses": {key: reply(question) for key, question in result["inputRequests"].items()}}
        if "requestState" in result:
            more["requestState"] = result["requestState"]


async def _legacy_call(client: Client2025, name: str, arguments: Message | None) -> Message | None:
    """Answer each question that comes on the call's own stream, and go on with a stream that ends before the answer."""
    exchange = await client.start("tools/call", name=name, arguments=arguments or {})
    while True:
        while (message := await exchange.next()) is not None:
            if "method" not in message:
                return message
            if "id" in message:
                await client.respond(message["id"], reply(message))
        seen = [event for event in exchange.events if event.get("id")]
        if not seen:
            return None
        wait_ms = next((event["retry"] for event in reversed(exchange.events) if "retry" in event), "0")
        await trio.sleep(int(wait_ms) / 1000)
        exchange = await client.stream(seen[-1]["id"])


def reply(question: Message) -> Message:
    """What the user says: the form's defaults, or yes where it has none."""
    fields = question["params"].get("requestedSchema", {}).get("properties", {})
    content = {key: field["default"] for key, field in fields.items() if "default" in field}
    return {"action": "accept", "content": content} if content else ACCEPTED


def mirrored(schema: Message, arguments: Message) -> dict[str, str]:
    """``Mcp-Param-*`` of flat arguments, written by a client of its own."""
    found: dict[str, str] = {}
    for key, field in schema.get("properties", {}).items():
        value = arguments.get(key)
        if "x-mcp-header" in field and value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            found[f"Mcp-Param-{field['x-mcp-header']}"] = as_header(text)
    return found


async def talk(running: Running, era: str, scenario: Scenario) -> None:
    """Run the scenario with a client of this era in front."""
    if era == "2025":
        async with running.client2025() as legacy:
            await legacy.initialize(elicitation={})
            await scenario(legacy)
    else:
        async with running.client2026(elicitation={}) as modern:
            await scenario(modern)


async def main(url: str) -> None:
    name = os.environ["MCP_CONFORMANCE_SCENARIO"]
    scenario = SCENARIOS[name]
    own = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
    era = os.environ.get("MCP_GATEWAY_CLIENT") or own[:4]
    with trio.fail_after(GIVE_UP_S):
        server = {"name": "suite", "url": url, "prefix": "", "protocol": own if name in OF_ITS_ERA else "auto"}
        async with running_gateway([server]) as running:
            await talk(running, era, scenario)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
