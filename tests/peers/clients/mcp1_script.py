"""A client on the SDK's first major version (mcp 1.30) that plays scripts.

Reads ``[{"url": ..., "steps": [[verb, ...], ...]}, ...]`` from standard input, plays one script after the other, and
prints ``[{"results": [...], "heard": {...}}, ...]``; see ``tests/support/script.py`` for the verbs.
"""

import json
import sys
from typing import Any

import anyio
from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamablehttp_client

LISTS = {"tools": "list_tools", "prompts": "list_prompts", "resources": "list_resources"}
REFERENCES = {"ref/prompt": types.PromptReference, "ref/resource": types.ResourceTemplateReference}
PATIENCE_S = 5.0


class Player:
    def __init__(self) -> None:
        self.heard: dict[str, list[Any]] = {}
        self.session: Any = None

    def note(self, kind: str, model: Any) -> None:
        self.heard.setdefault(kind, []).append(model.model_dump(mode="json", by_alias=True, exclude_none=True))

    async def elicit(self, context: Any, params: Any) -> types.ElicitResult:
        self.note("elicitation", params)
        return types.ElicitResult(action="accept", content={"colour": "blue", "value": "blue"})

    async def sample(self, context: Any, params: Any) -> types.CreateMessageResult:
        self.note("sampling", params)
        text = types.TextContent(type="text", text="hello from the client")
        return types.CreateMessageResult(role="assistant", model="none", content=text)

    async def roots(self, context: Any) -> types.ListRootsResult:
        self.heard.setdefault("roots", []).append({})
        return types.ListRootsResult(roots=[types.Root(uri="file:///tmp", name="tmp")])

    async def log(self, params: Any) -> None:
        self.note("log", params)

    async def message(self, message: Any) -> None:
        if isinstance(message, types.ServerNotification):
            if isinstance(message.root, types.ResourceUpdatedNotification):
                self.note("updated", message.root.params)
        elif isinstance(message, Exception):
            self.heard.setdefault("trouble", []).append(repr(message))

    async def progress(self, done: float, total: float | None, message: str | None) -> None:
        self.heard.setdefault("progress", []).append([done, total, message])

    async def play(self, url: str, steps: list[list[Any]]) -> dict[str, Any]:
        results = []
        async with (
            streamablehttp_client(url) as streams,
            ClientSession(
                streams[0],
                streams[1],
                elicitation_callback=self.elicit,
                sampling_callback=self.sample,
                list_roots_callback=self.roots,
                logging_callback=self.log,
                message_handler=self.message,
            ) as self.session,
        ):
            await self.session.initialize()
            for verb, *words in steps:
                try:
                    result = await getattr(self, f"do_{verb}")(*words)
                    results.append(result.model_dump(mode="json", by_alias=True, exclude_none=True) if result else {})
                except McpError as error:
                    results.append({"error": error.error.model_dump(mode="json", exclude_none=True)})
        return {"results": results, "heard": self.heard}

    async def do_list(self, kind: str) -> Any:
        return await getattr(self.session, LISTS.get(kind, "list_resource_templates"))()

    async def do_call(self, name: str, arguments: dict[str, Any]) -> Any:
        return await self.session.call_tool(name, arguments, progress_callback=self.progress)

    async def do_read(self, uri: str) -> Any:
        return await self.session.read_resource(uri)

    async def do_get(self, name: str, arguments: dict[str, str]) -> Any:
        return await self.session.get_prompt(name, arguments)

    async def do_complete(self, reference: dict[str, str], argument: dict[str, str], context: dict[str, str]) -> Any:
        return await self.session.complete(REFERENCES[reference["type"]](**reference), argument, context or None)

    async def do_level(self, level: Any) -> Any:
        return await self.session.set_logging_level(level)

    async def do_subscribe(self, uri: str) -> Any:
        return await self.session.subscribe_resource(uri)

    async def do_unsubscribe(self, uri: str) -> Any:
        return await self.session.unsubscribe_resource(uri)

    async def do_hear(self, kind: str, count: int) -> None:
        with anyio.move_on_after(PATIENCE_S):
            while len(self.heard.get(kind, ())) < count:  # noqa: ASYNC110  # callbacks of the SDK fill it
                await anyio.sleep(0.01)

    async def do_cancel(self, name: str, arguments: dict[str, Any]) -> None:
        """Begin a call, then tell the server that it is given up, as agents do it with this SDK."""
        number = self.session._request_id
        async with anyio.create_task_group() as group:
            group.start_soon(self.session.call_tool, name, arguments)
            await anyio.sleep(0.3)
            params = types.CancelledNotificationParams(requestId=number, reason="changed my mind")
            notice = types.CancelledNotification(method="notifications/cancelled", params=params)
            await self.session.send_notification(types.ClientNotification(notice))
            group.cancel_scope.cancel()

    async def do_until(self, name: str, member: str, label: str) -> None:
        with anyio.move_on_after(PATIENCE_S):
            found: Any = ()
            while label not in found:
                found = (await self.session.call_tool(name, {})).structuredContent[member]


async def main() -> None:
    scripts = json.load(sys.stdin)
    print(json.dumps([await Player().play(script["url"], script["steps"]) for script in scripts]))


anyio.run(main)
