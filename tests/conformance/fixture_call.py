"""One call to the fixture server, and how it asks its client something.

Owns the difference between the eras: a modern call ends with ``input_required`` and comes back with answers, a legacy
call sends requests on its own stream and waits. Invariant: a tool is written once, and works in both eras, unless the
server's tools ask in one way only, as those of the SDKs do.
"""

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, TypeAlias

import anyio
import attrs
import mcp_types as types
from mcp.server import ServerRequestContext
from mcp.shared.message import ServerMessageMetadata
from pydantic import BaseModel

from tests.conformance.fixture_content import Json

MODERN: Final = "2026-07-28"

Context: TypeAlias = ServerRequestContext[Any, Any]
Question: TypeAlias = types.ElicitRequest | types.CreateMessageRequest | types.ListRootsRequest


class Way(Enum):
    """How a tool asks."""

    ITS_CALLERS = "in the way of its caller's era"
    PUSHES = "by a request to the client, on a 2025 connection only"
    RETURNS = "by its result, in 2026 only"


class ToolFailed(Exception):
    """A tool's own failure: a result with ``isError``."""


class InputNeeded(Exception):
    """A modern call must end here and come back with answers."""

    def __init__(self, result: Json) -> None:
        self.result = result


@attrs.define
class Call:
    """One ``tools/call`` or ``prompts/get``; ``ask`` may be awaited several times, once per round."""

    ctx: Context
    arguments: Json
    way: Way = Way.ITS_CALLERS
    _answers: list[Json] = attrs.field(factory=list, init=False)
    _round: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        if state := self._params.get("requestState"):
            self._answers = json.loads(state)

    @property
    def _params(self) -> Mapping[str, Any]:
        return self.ctx.params or {}

    @property
    def capabilities(self) -> types.ClientCapabilities:
        return self.ctx.session.client_capabilities or types.ClientCapabilities()

    async def ask(self, *, stateful: bool = False, **questions: Question) -> Json:
        """Ask the client and give the answers by key, in the era's way.

        Args:
            stateful: send ``requestState`` even when there is nothing to remember.
        Raises:
            InputNeeded: modern, and this round's answers are not there yet.
            ToolFailed: the tool's way to ask is not the caller's.
        """
        modern = self.ctx.protocol_version == MODERN
        if self.way is not Way.ITS_CALLERS and modern is not (self.way is Way.RETURNS):
            raise ToolFailed(f"nobody can be asked here {self.way.value}")
        if not modern:
            return await self._ask_all(questions)
        number, self._round = self._round, self._round + 1
        if number < len(self._answers):
            return self._answers[number]
        given = self._params.get("inputResponses") or {}
        if number == len(self._answers) and all(
            _is_answer(question, given.get(k)) for k, question in questions.items()
        ):
            self._answers.append({key: given[key] for key in questions})
            return self._answers[number]
        requests = {
            key: question.model_dump(mode="json", by_alias=True, exclude_none=True)
            for key, question in questions.items()
        }
        result: Json = {"resultType": "input_required", "inputRequests": requests}
        if stateful or self._answers:
            result["requestState"] = json.dumps(self._answers)
        raise InputNeeded(result)

    async def _ask_all(self, questions: Mapping[str, Question]) -> Json:
        """All at once, as a modern round asks."""
        answers: Json = {}

        async def ask(key: str, question: Question) -> None:
            answers[key] = await self._ask_now(question)

        async with anyio.create_task_group() as group:
            for key, question in questions.items():
                group.start_soon(ask, key, question)
        return {key: answers[key] for key in questions}

    async def _ask_now(self, question: Question) -> Json:
        related = ServerMessageMetadata(related_request_id=self.ctx.request_id)
        answer: BaseModel = await self.ctx.session.send_request(question, _answer_type(question), metadata=related)
        return answer.model_dump(mode="json", by_alias=True, exclude_none=True)

    async def log(self, message: str) -> None:
        await self.ctx.session.send_log_message("info", message, "fixture", self.ctx.request_id)

    async def progress(self, done: float, total: float) -> None:
        await self.ctx.session.report_progress(done, total, f"Completed step {done} of {total}")


def _answer_type(question: Question) -> type[BaseModel]:
    match question:
        case types.ElicitRequest():
            return types.ElicitResult
        case types.CreateMessageRequest():
            return types.CreateMessageResult
        case types.ListRootsRequest():
            return types.ListRootsResult


def _is_answer(question: Question, answer: object) -> bool:
    """Whether a client's answer has the form of the question; the suite sends broken ones."""
    if not isinstance(answer, dict):
        return False
    match question:
        case types.ElicitRequest():
            return answer.get("action") in ("accept", "decline", "cancel")
        case types.CreateMessageRequest():
            return "content" in answer
        case types.ListRootsRequest():
            return isinstance(answer.get("roots"), list)


def form(message: str, schema: Json) -> types.ElicitRequest:
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def model(prompt: str, max_tokens: int = 100) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    )


def roots() -> types.ListRootsRequest:
    return types.ListRootsRequest()
