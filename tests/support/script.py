"""Plays a script of requests with the SDK's second major version, and remembers what the client was asked and told.

A script is a list of steps, each ``[verb, ...]``: list KIND, call NAME ARGUMENTS, read URI, get NAME ARGUMENTS,
complete REFERENCE ARGUMENT CONTEXT, level LEVEL, subscribe URI, unsubscribe URI, hear KIND COUNT (wait for it), cancel
NAME ARGUMENTS, until NAME MEMBER LABEL (call until the structured result has it). Deliberately compares nothing.
``tests/peers/clients/mcp1_script.py`` plays the same with the first major version. Invariant: every wait is bounded.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import attrs
import trio
from mcp import MCPError
from mcp.client.client import Client, ConnectMode
from mcp.types import (
    CreateMessageResult,
    ElicitResult,
    ListRootsResult,
    PromptReference,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
    Root,
    TextContent,
)
from pydantic import FileUrl

from tests.support import peers

Step: TypeAlias = Sequence[Any]
Played: TypeAlias = dict[str, Any]
"""``{"results": [one for each step], "heard": {kind: [what came]}}``."""

PATIENCE_S: Final = 5.0
LISTS: Final = {"tools": "list_tools", "prompts": "list_prompts", "resources": "list_resources"}


async def play_mcp1(scripts: Sequence[tuple[str, Sequence[Step]]]) -> list[Played]:
    """Play scripts, each at its address, with the first major version of the SDK, in a process of its own."""
    given = json.dumps([{"url": url, "steps": list(steps)} for url, steps in scripts]).encode()
    words = [str(peers.python_of("mcp1")), str(peers.CLIENTS / "mcp1_script.py")]
    done = await trio.run_process(words, stdin=given, capture_stdout=True, capture_stderr=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"client ended with {done.returncode}:\n{done.stderr.decode(errors='replace')[-3000:]}")
    played: list[Played] = json.loads(done.stdout)
    return played


async def play(url: str, steps: Sequence[Step], mode: ConnectMode) -> Played:
    """Play one script with the second major version of the SDK, in this process."""
    player = Player()
    results = []
    async with trio.open_nursery() as nursery:
        player.nursery = nursery
        async with player.connect(url, mode) as player.client:
            for verb, *words in steps:
                try:
                    result = await getattr(player, f"do_{verb}")(*words)
                    results.append(dump(result) if result is not None else {})
                except MCPError as error:
                    results.append({"error": error.error.model_dump(mode="json", exclude_none=True)})
            nursery.cancel_scope.cancel("the script is over")
    return {"results": results, "heard": player.heard}


def dump(model: Any) -> Any:  # noqa: ANN401  # a model of the SDK, and JSON
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


@attrs.define(eq=False)
class Player:
    """A client that answers what it is asked: blue, hello, file:///tmp."""

    heard: dict[str, list[Any]] = attrs.field(factory=dict)
    client: Client = attrs.field(init=False)
    nursery: trio.Nursery = attrs.field(init=False)
    listening: dict[str, trio.CancelScope] = attrs.field(factory=dict)
    """The listen streams of a modern client, by URI."""

    def connect(self, url: str, mode: ConnectMode) -> Client:
        return Client(
            url,
            mode=mode,
            sampling_callback=self.sample,
            elicitation_callback=self.elicit,
            list_roots_callback=self.roots,
            logging_callback=self.log,
            message_handler=self.message,
            log_level="debug" if mode != "legacy" else None,
            cache=None,
        )

    @property
    def modern(self) -> bool:
        return self.client.protocol_version == "2026-07-28"

    def note(self, kind: str, said: object) -> None:
        self.heard.setdefault(kind, []).append(said)

    async def elicit(self, context: object, params: object) -> ElicitResult:
        self.note("elicitation", dump(params))
        return ElicitResult(action="accept", content={"colour": "blue", "value": "blue"})

    async def sample(self, context: object, params: object) -> CreateMessageResult:
        self.note("sampling", dump(params))
        text = TextContent(type="text", text="hello from the client")
        return CreateMessageResult(role="assistant", model="none", content=text)

    async def roots(self, context: object) -> ListRootsResult:
        self.note("roots", {})
        return ListRootsResult(roots=[Root(uri=FileUrl("file:///tmp"), name="tmp")])

    async def log(self, params: object) -> None:
        self.note("log", dump(params))

    async def message(self, message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification) and not self.modern:
            self.note("updated", dump(message.params))
        elif isinstance(message, Exception):
            self.note("trouble", repr(message))

    async def progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.note("progress", [progress, total, message])

    async def do_list(self, kind: str) -> object:
        return await getattr(self.client, LISTS.get(kind, "list_resource_templates"))()

    async def do_call(self, name: str, arguments: dict[str, Any]) -> object:
        return await self.client.call_tool(name, arguments, progress_callback=self.progress)

    async def do_read(self, uri: str) -> object:
        return await self.client.read_resource(uri)

    async def do_get(self, name: str, arguments: dict[str, str]) -> object:
        return await self.client.get_prompt(name, arguments)

    async def do_complete(self, reference: dict[str, str], argument: dict[str, str], context: dict[str, str]) -> object:
        kind = PromptReference if reference["type"] == "ref/prompt" else ResourceTemplateReference
        return await self.client.complete(kind.model_validate(reference), argument, context or None)

    async def do_level(self, level: Any) -> object:  # noqa: ANN401  # one of the SDK's literals
        return None if self.modern else await self.client.set_logging_level(level)

    async def do_subscribe(self, uri: str) -> object:
        if not self.modern:
            return await self.client.subscribe_resource(uri)
        await self.nursery.start(self._listen, uri)
        return None

    async def _listen(self, uri: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self.listening[uri]:
            async with self.client.listen(resource_subscriptions=[uri]) as subscription:
                task_status.started()
                async for event in subscription:
                    self.note("updated", {"uri": str(getattr(event, "uri", event))})

    async def do_unsubscribe(self, uri: str) -> object:
        if not self.modern:
            return await self.client.unsubscribe_resource(uri)
        self.listening.pop(uri).cancel("the script listens no more")
        return None

    async def do_hear(self, kind: str, count: int) -> None:
        with trio.move_on_after(PATIENCE_S):
            while len(self.heard.get(kind, ())) < count:  # noqa: ASYNC110  # callbacks of the SDK fill it
                await trio.sleep(0.01)

    async def do_cancel(self, name: str, arguments: dict[str, Any]) -> None:
        """Begin a call, then leave it: this SDK tells the server in its era's way."""
        with trio.move_on_after(0.3):
            await self.client.call_tool(name, arguments)

    async def do_until(self, name: str, member: str, label: str) -> None:
        with trio.move_on_after(PATIENCE_S):
            while label not in (await self._structured(name))[member]:  # noqa: ASYNC110  # another process
                await trio.sleep(0.02)

    async def _structured(self, name: str) -> dict[str, Any]:
        result = await self.client.call_tool(name, {})
        assert isinstance(result.structured_content, dict)
        return result.structured_content
